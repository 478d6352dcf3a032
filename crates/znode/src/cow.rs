//! A hash map in shards that snapshots share: cloning it costs one reference count per shard, and the first write to
//! a shard after a clone copies that shard only. Keys are sessions. Never walked where order shows: see
//! [`CowMap::sorted`].

use hashbrown::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

const SHARDS: u64 = 256;

type Shard<V> = HashMap<i64, V, BuildHasherDefault<DefaultHasher>>;

/// The map.
#[derive(Clone, Debug)]
pub(crate) struct CowMap<V> {
    shards: Vec<Arc<Shard<V>>>,
    len: usize,
}

/// Session ids count upwards from a clock: the low bits spread best, the rest still counts.
const fn shard_of(key: i64) -> usize {
    let key = key as u64;
    ((key ^ (key >> 16)) % SHARDS) as usize
}

impl<V: Clone> CowMap<V> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Arc::default()).collect(), len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: i64) -> Option<&V> {
        self.shards.get(shard_of(key))?.get(&key)
    }

    /// Copies nothing when the key is not there.
    pub(crate) fn get_mut(&mut self, key: i64) -> Option<&mut V> {
        let shard = self.shards.get_mut(shard_of(key))?;
        if !shard.contains_key(&key) {
            return None;
        }
        Arc::make_mut(shard).get_mut(&key)
    }

    /// Replaces what was there.
    pub(crate) fn insert(&mut self, key: i64, value: V) {
        if let Some(shard) = self.shards.get_mut(shard_of(key))
            && Arc::make_mut(shard).insert(key, value).is_none()
        {
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, key: i64) -> Option<V> {
        let shard = self.shards.get_mut(shard_of(key))?;
        if !shard.contains_key(&key) {
            return None;
        }
        self.len -= 1;
        Arc::make_mut(shard).remove(&key)
    }

    /// In no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter().map(|(key, value)| (*key, value)))
    }

    /// By ascending key.
    pub(crate) fn sorted(&self) -> Vec<(i64, &V)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }
}
