//! Whatever a peer says, a core neither panics nor breaks an invariant of its own, and never takes back what it
//! committed: messages of every kind with numbers near and far from the right ones, mixed with link changes, timers
//! and completions. A peer that lies consistently is out of scope: Raft is no protocol against that.

use crate::lab::{Lab, entries, n};
use raft::{Message, Options};
use replog::{Entry, Epoch, Index, Input, LogId, ReadMode, Rng, Role, Span, Token};
use std::collections::BTreeSet;
use std::time::Duration;

struct Liar {
    rng: Rng,
    /// What its victim believes in: lies near the truth go deepest.
    term: Epoch,
    last: u64,
}

impl Liar {
    fn small(&mut self, n: u64) -> u32 {
        u32::try_from(self.rng.below(n)).unwrap()
    }

    fn flag(&mut self) -> bool {
        self.rng.one_in(2)
    }

    fn number(&mut self) -> u64 {
        match self.rng.below(16) {
            0 => u64::MAX,
            1 => self.rng.bits(),
            2..=8 => self.last.saturating_add(self.rng.below(3)).saturating_sub(1),
            _ => self.rng.below(8),
        }
    }

    fn term(&mut self) -> Epoch {
        match self.rng.below(10) {
            0 => Epoch::of(self.small(8)),
            1 => Epoch::of(self.term.round.saturating_add(1)),
            _ => self.term,
        }
    }

    fn index(&mut self) -> Index {
        Index(self.number())
    }

    fn id(&mut self) -> LogId {
        let epoch = if self.flag() { Epoch::of(1 + self.small(3)) } else { self.term() };
        LogId::new(epoch, self.index())
    }

    fn entries(&mut self, after: Index) -> Vec<Entry> {
        let term = self.term().round;
        let count = usize::try_from(self.rng.below(4)).unwrap();
        let mut entries = entries(&vec![term; count]);
        for (entry, offset) in entries.iter_mut().zip(1..) {
            entry.id.index = Index(after.0.saturating_add(offset));
        }
        if self.rng.one_in(12) {
            entries.reverse();
        }
        entries
    }

    fn message(&mut self) -> (Message, Vec<Entry>) {
        let (term, last, round) = (self.term(), self.id(), self.number());
        let (at, matched) = (self.index(), self.index());
        let (granted, counts, sync) = (self.flag(), !self.rng.one_in(4), self.flag());
        let message = match self.rng.below(14) {
            0 => Message::PreVote { term, last },
            1 => Message::PreVoteReply { term, granted },
            2 => Message::RequestVote { term, last, transfer: granted },
            3 => Message::Vote { term, granted },
            4 | 5 => {
                let entries = self.entries(last.index);
                return (Message::AppendEntries { term, prev: last, commit: at, round, sync }, entries);
            }
            6 => Message::Appended { term, matched, round: self.rng.below(5), counts, sync },
            7 => Message::Mismatch { term, probed: at, hint: last, round: self.rng.below(5) },
            8 => Message::Commit { term, commit: at },
            9 => Message::Stale { term },
            10 => Message::TimeoutNow { term },
            11 => Message::ReadIndex { term, id: round },
            12 => Message::ReadIndexReply { term, id: round, at },
            _ => Message::Refetch { term, span: Span { from: at, to: matched } },
        };
        (message, Vec::new())
    }
}

fn disturb(lab: &mut Lab, liar: &mut Liar, seen: &mut BTreeSet<Role>) {
    for _ in 0..80 {
        let from = n(2 + liar.small(3));
        let input = match liar.rng.below(20) {
            0 => Input::Peer { node: from, connected: liar.flag() },
            1 => {
                let mode = if liar.flag() { ReadMode::Lease } else { ReadMode::Quorum };
                Input::Read { token: Token(liar.rng.below(5)), mode }
            }
            2 => Input::Unsent { to: from, from: liar.index() },
            3 => {
                let step = Duration::from_millis(liar.rng.below(700));
                lab.server(n(1)).now = lab.server(n(1)).now + step;
                lab.step(n(1));
                continue;
            }
            4 => Input::Transfer { token: Token(9), to: liar.flag().then_some(from) },
            _ => {
                let (message, entries) = liar.message();
                Input::Message { from, message, entries }
            }
        };
        if liar.rng.one_in(6) {
            lab.sync(n(1));
        }
        let before = lab.status(n(1));
        // Checks the core's invariants.
        lab.input(n(1), input);
        let status = lab.status(n(1));
        assert!(status.committed >= before.committed, "commits went back: {before:?} {status:?}");
        assert!(status.epoch >= before.epoch, "terms went back: {before:?} {status:?}");
        seen.insert(status.role);
        (liar.term, liar.last) = (status.epoch, status.last.index.0);
    }
}

/// Reliability: malformed and lying input is ignored, counted, and never fatal.
#[test]
fn no_message_breaks_a_core() {
    let mut seen = BTreeSet::new();
    for seed in 0..1000 {
        let lease = (seed % 3 == 1).then(|| Duration::from_millis(100));
        let options =
            if seed % 5 == 4 { Options::textbook() } else { Options { lease, ..Options::default() } };
        let mut lab = Lab::with_logs(&[&[1, 1, 2], &[1, 1, 2], &[1, 1]], options);
        if seed % 2 == 1 {
            lab.elect(n(1));
            lab.propose(n(1), 2);
        }
        if seed % 7 == 3 {
            // Back from the dead, without a vote.
            lab.sync(n(1));
            lab.crash(n(1));
            lab.start_as(n(1), false);
        }
        let term = lab.status(n(1)).epoch;
        let mut liar = Liar { rng: Rng::new(seed), term, last: 3 };
        disturb(&mut lab, &mut liar, &mut seen);
    }
    for role in [Role::Leader, Role::Follower, Role::Electing] {
        assert!(seen.contains(&role), "no lie reached {role:?}");
    }
}
