//! What was chosen, by index, and the state after it: every apply of every node is compared with the first one's.
//!
//! A later life of a node applies again what an earlier one did, so a change of mind shows also within one node. The
//! state's digest is compared where batches of two nodes end at the same index, and at every install.

use replog::{Body, Entry, LogId};
use std::collections::BTreeMap;

/// A checker's id and what is wrong.
pub(crate) type Finding = (&'static str, String);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By index − 1: the entry's id and a hash of its body.
    chosen: Vec<(LogId, u64)>,
    /// Index → digest of the state after it.
    digests: BTreeMap<u64, u64>,
}

impl Ledger {
    /// A node applied `entries`; its state has this digest now.
    pub(crate) fn applied(&mut self, entries: &[Entry], digest: u64) -> Result<(), Finding> {
        for entry in entries {
            let index = entry.id.index.0;
            let this = (entry.id, hash(&entry.body));
            match self.chosen.get(place(index)) {
                Some(first) if *first == this => {}
                Some(first) => {
                    let text = format!("{index} is {first:x?} elsewhere, {this:x?} here");
                    return Err(("C12 agreement", text));
                }
                None if place(index) == self.chosen.len() => self.chosen.push(this),
                None => {
                    let text = format!("{index} is applied, but nobody applied {}", self.chosen.len() + 1);
                    return Err(("C12 prefix", text));
                }
            }
        }
        let Some(last) = entries.last() else { return Ok(()) };
        self.compare(last.id, digest)
    }

    /// A node holds the state at `at` now: from a snapshot.
    pub(crate) fn loaded(&mut self, at: LogId, digest: u64) -> Result<(), Finding> {
        match self.chosen.get(place(at.index.0)) {
            Some((id, _)) if *id == at => self.compare(at, digest),
            other => Err(("C12 snapshot", format!("a snapshot at {at}, where {other:?} was applied"))),
        }
    }

    /// A process has loaded the snapshot at `at`, if there was one.
    pub(crate) fn loaded_at_start(&mut self, at: LogId, digest: u64) -> Result<(), Finding> {
        if at == LogId::ZERO { Ok(()) } else { self.loaded(at, digest) }
    }

    fn compare(&mut self, at: LogId, digest: u64) -> Result<(), Finding> {
        let first = *self.digests.entry(at.index.0).or_insert(digest);
        if first == digest {
            return Ok(());
        }
        Err(("C12 digest", format!("after {at} the state is {first:x} elsewhere, {digest:x} here")))
    }

    /// Highest index applied anywhere.
    pub(crate) fn top(&self) -> u64 {
        self.chosen.len() as u64
    }
}

fn place(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX).wrapping_sub(1)
}

fn hash(body: &Body) -> u64 {
    match body {
        Body::Noop => 1,
        Body::Command(bytes) => hash_bytes(bytes, 2),
        Body::Config(configuration, bytes) => hash_bytes(bytes, configuration.voters.len() as u64 + 3),
    }
}

fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = seed ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use replog::{Epoch, Index, Stamp};

    fn entry(index: u64, round: u32, body: &'static [u8]) -> Entry {
        let id = LogId::new(Epoch::of(round), Index(index));
        Entry { id, ballot: id.epoch, stamp: Stamp(0), body: Body::Command(Bytes::from_static(body)) }
    }

    // requirement: S23
    #[test]
    fn another_entry_another_id_a_gap_and_another_state_are_seen() {
        let mut ledger = Ledger::default();
        let (one, two) = (entry(1, 1, b"a"), entry(2, 1, b"b"));
        assert_eq!(ledger.applied(&[one.clone(), two.clone()], 7), Ok(()));
        assert_eq!(ledger.applied(std::slice::from_ref(&one), 6), Ok(()));
        assert_eq!(ledger.applied(std::slice::from_ref(&two), 7), Ok(()));
        let checker = |r: Result<(), Finding>| r.unwrap_err().0;
        assert_eq!(checker(ledger.applied(&[entry(2, 1, b"c")], 7)), "C12 agreement");
        assert_eq!(checker(ledger.applied(&[entry(2, 2, b"b")], 7)), "C12 agreement");
        assert_eq!(checker(ledger.applied(&[entry(4, 1, b"d")], 7)), "C12 prefix");
        assert_eq!(checker(ledger.applied(std::slice::from_ref(&two), 8)), "C12 digest");
        assert_eq!(ledger.loaded(two.id, 7), Ok(()));
        assert_eq!(checker(ledger.loaded(one.id, 7)), "C12 digest");
        assert_eq!(checker(ledger.loaded(entry(3, 1, b"").id, 7)), "C12 snapshot");
    }
}
