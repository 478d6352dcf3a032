//! From a path to its node: a hash table in shards that snapshots share, four bytes per node.
//!
//! ```text
//!  hash(path) ─┬─ bits 40…49 ─► shard (Arc, copied at the first write after a clone)
//!              └─ the rest ───► slot ─► NodeId ─► compare the node's own path
//! ```
//!
//! Keys are not stored: the slab has them. The table is only ever asked for one path, never walked, so neither the
//! hash function nor the history of insertions can show anywhere. The hash is fixed (no seed of the process), so that
//! a simulation is repeatable.

use crate::slab::{NodeId, Slab};
use hashbrown::HashTable;
use std::sync::Arc;

const SHARDS: usize = 1024;

/// The table.
#[derive(Clone, Debug)]
pub(crate) struct PathIndex {
    shards: Vec<Arc<HashTable<NodeId>>>,
}

/// Folded multiplication over eight bytes at a time.
fn hash(path: &str) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    const M: u64 = 0xd6e8_feb8_6659_fd93;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let bytes = path.as_bytes();
    let mut state = K ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), M).wrapping_add(K);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    fold(fold(state ^ u64::from_le_bytes(last), M), K)
}

const fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl PathIndex {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Arc::default()).collect() }
    }

    #[inline]
    pub(crate) fn find(&self, slab: &Slab, path: &str) -> Option<NodeId> {
        let hash = hash(path);
        let shard = self.shards.get(shard_of(hash))?;
        shard.find(hash, |id| *slab.node(*id).path == *path).copied()
    }

    /// Adds a node that is in the slab already and was not in the table.
    pub(crate) fn insert(&mut self, slab: &Slab, id: NodeId) {
        let hash_of = |id: &NodeId| hash(&slab.node(*id).path);
        let hash = hash_of(&id);
        if let Some(shard) = self.shards.get_mut(shard_of(hash)) {
            Arc::make_mut(shard).insert_unique(hash, id, hash_of);
        }
    }

    /// Removes a node that is in the slab still.
    pub(crate) fn remove(&mut self, slab: &Slab, id: NodeId) {
        let hash = hash(&slab.node(id).path);
        if let Some(shard) = self.shards.get_mut(shard_of(hash))
            && let Ok(entry) = Arc::make_mut(shard).find_entry(hash, |other| *other == id)
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_spreads_similar_paths() {
        let mut shards = vec![0u32; SHARDS];
        for i in 0..100 * SHARDS {
            shards[shard_of(hash(&format!("/bench/node-{i:010}")))] += 1;
        }
        assert!(shards.iter().all(|n| (40..180).contains(n)), "{:?}", shards.iter().max());
        assert_ne!(hash("/a"), hash("/a\0"), "padding is not content");
    }
}
