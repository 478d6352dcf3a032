//! From a path to its node: a hash table in shards that snapshots share, eight bytes per node.
//!
//! ```text
//!  hash(path), 32 bits:  31…25 tag │ 24…14 shard (Arc, copied at the first write after a clone) │ low bits: bucket
//!                                          └─► bucket (hash, NodeId) ─► compare the node's own path
//! ```
//!
//! Keys are not stored: the slab has them. The hash is, so that a table grows without a look at any node. The table is
//! only ever asked for one path, never walked, so neither the hash function nor the history of insertions can show
//! anywhere. The hash is fixed (no seed of the process), so that a simulation is repeatable; the price is that who may
//! create nodes can make paths collide and this table slow.

use crate::slab::{NodeId, Slab};
use hashbrown::HashTable;
use std::sync::Arc;

const SHARDS: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    id: NodeId,
}

/// The table.
#[derive(Clone, Debug)]
pub(crate) struct PathIndex {
    shards: Vec<Arc<HashTable<Entry>>>,
}

/// Folded multiplication over eight bytes at a time.
fn hash(path: &str) -> u32 {
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
    let state = fold(fold(state ^ u64::from_le_bytes(last), M), K);
    (state ^ (state >> 32)) as u32
}

/// The table takes buckets from the low and tags from the high end of 64 bits.
const fn spread(hash: u32) -> u64 {
    hash as u64 | (hash as u64) << 32
}

const fn shard_of(hash: u32) -> usize {
    (hash >> 14) as usize % SHARDS
}

impl PathIndex {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Arc::default()).collect() }
    }

    #[inline]
    pub(crate) fn find(&self, slab: &Slab, path: &str) -> Option<NodeId> {
        let hash = hash(path);
        let same = |entry: &Entry| entry.hash == hash && *slab.node(entry.id).path == *path;
        Some(self.shards.get(shard_of(hash))?.find(spread(hash), same)?.id)
    }

    /// Adds a node that was not in the table.
    pub(crate) fn insert(&mut self, path: &str, id: NodeId) {
        let hash = hash(path);
        if let Some(shard) = self.shards.get_mut(shard_of(hash)) {
            Arc::make_mut(shard).insert_unique(spread(hash), Entry { hash, id }, |entry| spread(entry.hash));
        }
    }

    /// Removes a node.
    pub(crate) fn remove(&mut self, path: &str, id: NodeId) {
        let hash = hash(path);
        if let Some(shard) = self.shards.get_mut(shard_of(hash))
            && let Ok(entry) = Arc::make_mut(shard).find_entry(spread(hash), |entry| entry.id == id)
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
