//! The tree's digest: ZooKeeper's formula, kept up to date change by change.
//!
//! ```text
//!  node digest = CRC-32( path (root: empty) ‖ data ‖ 60 bytes of stored stat )     0 below /zookeeper/
//!  tree digest = Σ node digests, wrapping at 2^64
//! ```
//!
//! The CRC of path and data is kept in the node, so a change of a parent's stat costs 60 bytes of CRC however much
//! data the parent holds. Source: zookeeper-reference 5.3 (note the order of the stat's fields, it is its own).

use crate::path::ROOT;
use crate::slab::Node;
use bytes::BufMut;
use crc32fast::Hasher;

/// CRC-32 of path and data.
pub(crate) fn content_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let mut crc = Hasher::new();
    if path != ROOT {
        crc.update(path.as_bytes());
    }
    if let Some(data) = data {
        crc.update(data);
    }
    crc.finalize()
}

/// What a node adds to the tree's digest.
pub(crate) fn of(node: &Node) -> u64 {
    if node.path.starts_with("/zookeeper/") {
        return 0;
    }
    let mut stat = [0; 60];
    let mut rest = stat.as_mut_slice();
    for long in [node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime] {
        rest.put_i64(long);
    }
    for int in [node.version, node.cversion, node.aversion] {
        rest.put_i32(int);
    }
    rest.put_i64(node.owner);
    let mut crc = Hasher::new_with_initial(node.crc);
    crc.update(&stat);
    u64::from(crc.finalize())
}

/// SplitMix64's finalizer: spreads a small value over 64 bits, for the parts of the state that ZooKeeper's digest
/// leaves out.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
