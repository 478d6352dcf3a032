//! The catalogue of live faults, with their rows of the fault matrix (reliability.md section 1).
//!
//! Rows that only a simulator can reach (lost unsynced writes, torn and misdirected writes, clocks) are missing here;
//! row 39 (killed for lack of memory) is SIGKILL like rows 1 and 2, and row 36 (membership) has no operation yet.

use super::chance::Chance;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "see CATALOGUE")]
pub(crate) enum Fault {
    KillFollower,
    KillLeader,
    KillAll,
    StopLeader,
    StopFollower,
    PauseLeader,
    PauseFollower,
    Starve,
    Isolate,
    Split,
    Deaf,
    Mute,
    Flap,
    QuorumLoss,
    Constrained,
    Chain,
    Swizzle,
    Lossy,
    Late,
    SlowLink,
    SlowDiskFollower,
    SlowDiskLeader,
    StallFollower,
    StallLeader,
    LogRot,
    SnapshotRot,
    SyncError,
    FullFollower,
    FullLeader,
    Wipe,
    Storm,
    HalfOpen,
    SlowReaders,
    Corrupt,
}

/// What a kind of fault needs and how often it is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The kind.
    pub(crate) fault: Fault,
    /// As reports name it.
    pub(crate) name: &'static str,
    /// Row of the fault matrix.
    pub(crate) row: u8,
    /// How often, relative to the others.
    weight: u64,
    /// Servers that it takes at least.
    nodes: u32,
    /// Whether it can be done to a foreign system: signals and clients only.
    foreign: bool,
}

const fn entry(fault: Fault, name: &'static str, row: u8, weight: u64) -> Entry {
    Entry { fault, name, row, weight, nodes: 3, foreign: false }
}

impl Entry {
    const fn anywhere(self) -> Self {
        Self { foreign: true, ..self }
    }

    const fn of_five(self) -> Self {
        Self { nodes: 5, ..self }
    }
}

/// Every kind.
pub(crate) const CATALOGUE: [Entry; 34] = [
    entry(Fault::KillFollower, "follower killed", 1, 8).anywhere(),
    entry(Fault::KillLeader, "leader killed", 2, 12).anywhere(),
    entry(Fault::KillAll, "all servers killed", 5, 2).anywhere(),
    entry(Fault::StopLeader, "leader stopped gracefully", 3, 5).anywhere(),
    entry(Fault::StopFollower, "follower restarted", 35, 3).anywhere(),
    entry(Fault::PauseLeader, "leader paused", 19, 8).anywhere(),
    entry(Fault::PauseFollower, "follower paused", 19, 5).anywhere(),
    entry(Fault::Starve, "leader starved of CPU", 40, 4).anywhere(),
    entry(Fault::Isolate, "leader isolated", 4, 8),
    entry(Fault::Split, "no side has a quorum", 5, 4),
    entry(Fault::Deaf, "leader sends but does not receive", 6, 6),
    entry(Fault::Mute, "leader receives but does not send", 7, 6),
    entry(Fault::Flap, "link flaps", 8, 6),
    entry(Fault::QuorumLoss, "all links cut but those of a hub", 9, 5).of_five(),
    entry(Fault::Constrained, "the same, the hub lags", 10, 4).of_five(),
    entry(Fault::Chain, "one link cut: a chain", 11, 7),
    entry(Fault::Swizzle, "links cut one by one, healed in another order", 12, 5),
    entry(Fault::Lossy, "link breaks at random frames", 13, 6),
    entry(Fault::Late, "frames of an old connection come late", 14, 6),
    entry(Fault::SlowLink, "slow link", 15, 5),
    entry(Fault::SlowDiskFollower, "slow disk of a follower", 16, 4),
    entry(Fault::SlowDiskLeader, "slow disk of the leader", 17, 4),
    entry(Fault::StallFollower, "disk of a follower hangs", 18, 3),
    entry(Fault::StallLeader, "disk of the leader hangs", 18, 4),
    entry(Fault::LogRot, "log of a stopped follower damaged", 24, 3),
    entry(Fault::SnapshotRot, "snapshot of a stopped follower damaged", 26, 3),
    entry(Fault::SyncError, "fsync fails", 28, 4),
    entry(Fault::FullFollower, "disk of a follower full", 29, 3),
    entry(Fault::FullLeader, "disk of the leader full", 29, 4),
    entry(Fault::Wipe, "data directory of a follower lost", 33, 3),
    entry(Fault::Storm, "storm of clients", 37, 3).anywhere(),
    entry(Fault::HalfOpen, "half-open clients", 38, 2).anywhere(),
    entry(Fault::SlowReaders, "clients that do not read", 38, 3).anywhere(),
    entry(Fault::Corrupt, "frames damaged on a link", 42, 5),
];

/// Draws from the catalogue: each kind once before any comes twice, then by weight.
#[derive(Debug)]
pub(crate) struct Deck {
    entries: Vec<Entry>,
    unseen: Vec<Entry>,
}

impl Deck {
    /// The kinds that fit.
    pub(crate) fn new(nodes: u32, is_ours: bool, chance: &mut Chance) -> Self {
        let fits = |e: &Entry| nodes >= e.nodes && (is_ours || e.foreign);
        let entries: Vec<Entry> = CATALOGUE.into_iter().filter(fits).collect();
        let (mut rest, mut unseen) = (entries.clone(), Vec::new());
        while let Some(entry) = chance.take(&mut rest) {
            unseen.push(entry);
        }
        Self { entries, unseen }
    }

    /// One of those that `may` happen now.
    pub(crate) fn draw(&mut self, chance: &mut Chance, may: impl Fn(&Entry) -> bool) -> Option<Entry> {
        if let Some(at) = self.unseen.iter().rposition(&may) {
            return Some(self.unseen.remove(at));
        }
        let fit: Vec<Entry> = self.entries.iter().copied().filter(may).collect();
        let at = chance.weighted(fit.iter().map(|e| e.weight));
        fit.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_comes_before_any_comes_twice() {
        let mut chance = Chance::new(4, 0);
        let mut deck = Deck::new(5, true, &mut chance);
        let drawn: BTreeSet<Fault> =
            CATALOGUE.iter().map(|_| deck.draw(&mut chance, |_| true).unwrap().fault).collect();
        assert_eq!(drawn.len(), CATALOGUE.len());
        assert!(deck.draw(&mut chance, |_| true).is_some());
        assert!(deck.draw(&mut chance, |_| false).is_none());
    }

    #[test]
    fn a_foreign_system_gets_signals_and_clients_only() {
        let deck = Deck::new(3, false, &mut Chance::new(1, 1));
        assert!(deck.entries.iter().all(|e| e.foreign) && deck.entries.len() > 5);
        let three = Deck::new(3, true, &mut Chance::new(1, 1));
        assert!(three.entries.iter().all(|e| e.fault != Fault::QuorumLoss));
    }
}
