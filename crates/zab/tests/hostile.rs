//! Whatever a peer says, a core neither panics nor breaks an invariant of its own, nor takes back a commit or a promise: messages of every kind with
//! numbers near and far from the right ones, in any order, mixed with link changes, timers and completions.
//!
//! What is out of scope: a peer that lies consistently. Zab is no protocol against that.

mod common;

use common::*;
use replog::{
    Entry, Epoch, Index, Input, LogId, NodeId, Phase, ReadMode, ReplicatedLog, Rng, Role, Setup, Span, Stamp,
    Token,
};
use std::collections::BTreeSet;
use std::time::Duration;
use zab::message::{AckEpoch, Table};
use zab::{Message, Notification, PeerState, Vote};

struct Liar {
    rng: Rng,
    /// What its victim believes in: lies near the truth go deepest.
    epoch: Epoch,
    session: u64,
}

impl Liar {
    fn number(&mut self) -> u64 {
        match self.rng.below(12) {
            0 => u64::MAX,
            1 => self.rng.bits(),
            _ => self.rng.below(9),
        }
    }

    fn epoch(&mut self) -> Epoch {
        if !self.rng.one_in(3) {
            return self.epoch;
        }
        let round =
            if self.rng.one_in(40) { u32::MAX - 1 } else { u32::try_from(self.rng.below(6)).unwrap_or(0) };
        Epoch { round, proposer: u32::from(self.rng.one_in(30)) }
    }

    fn index(&mut self) -> Index {
        Index(self.number())
    }

    fn id(&mut self) -> LogId {
        LogId::new(self.epoch(), self.index())
    }

    fn node(&mut self) -> NodeId {
        NodeId(u32::try_from(1 + self.rng.below(4)).unwrap_or(1))
    }

    fn flag(&mut self) -> bool {
        self.rng.one_in(2)
    }

    fn entries(&mut self) -> Vec<Entry> {
        let epochs: Vec<u32> =
            (0..self.rng.below(4)).map(|_| u32::try_from(self.rng.below(5)).unwrap_or(0)).collect();
        let mut entries = entries(1 + self.rng.below(7), &epochs);
        if self.rng.one_in(10) {
            entries.reverse();
        }
        if self.rng.one_in(20) {
            entries.iter_mut().for_each(|e| e.id.index = Index(u64::MAX));
        }
        entries
    }

    fn table(&mut self) -> Table {
        let starts = (0..self.rng.below(4)).map(|_| (self.epoch(), self.index())).collect();
        Table { starts, last: self.index() }
    }

    fn notification(&mut self) -> Notification {
        let states = [PeerState::Looking, PeerState::Following, PeerState::Leading];
        let state = states
            .into_iter()
            .nth(usize::try_from(self.rng.below(3)).unwrap_or(0))
            .unwrap_or(PeerState::Looking);
        let vote = Vote { epoch: self.epoch(), last: self.id(), node: self.node() };
        let (eligible, counts, ask) = (self.flag(), self.flag(), self.flag());
        Notification { state, round: self.number(), vote, eligible, counts, ask }
    }

    fn message(&mut self) -> Message {
        let epoch = self.epoch();
        let (committed, upto, at) = (self.index(), self.index(), self.index());
        let session = if self.flag() { self.session } else { self.number() };
        let (seq, round) = (self.number(), self.number());
        let tokens = (0..self.rng.below(3)).map(Token).collect();
        match self.rng.below(22) {
            0..=2 => Message::Notification(self.notification()),
            3 => Message::FollowerInfo { session, promised: epoch, counts: self.flag() },
            4 => Message::LeaderInfo { session, epoch },
            5 => {
                let (counts, established, table) = (self.flag(), self.epoch(), self.table());
                Message::AckEpoch(Box::new(AckEpoch { session, epoch, counts, established, table }))
            }
            6 => Message::Diff { epoch, after: self.id() },
            7 => Message::Trunc { epoch, to: self.id() },
            8 => Message::Snap { epoch, at: self.id() },
            9 => Message::Catchup { epoch, committed },
            10 => Message::NewLeader { epoch, committed, last: self.id() },
            11 => Message::AckNewLeader { epoch, upto },
            12 => Message::UpToDate { epoch, committed },
            13 => Message::Proposal { epoch, committed },
            14 => Message::Ack { epoch, upto },
            15 => Message::Commit { epoch, upto },
            16 => Message::Inform { epoch, committed },
            17 => Message::Ping { epoch, seq, rtt_us: u32::MAX },
            18 => Message::Pong { epoch, seq, upto },
            19 => Message::ReadAsk { epoch, tokens },
            20 => Message::ReadIndex { epoch, at, tokens },
            _ => match self.rng.below(3) {
                0 => Message::Resign { epoch, round, to: self.flag().then(|| self.node()) },
                1 => Message::Refill { epoch },
                _ => Message::Fetch { epoch, span: Span { from: upto, to: at } },
            },
        }
    }
}

fn disturb(s: &mut Solo, liar: &mut Liar, seen: &mut BTreeSet<(Role, Phase)>) {
    for _ in 0..120 {
        let from = liar.node();
        let input = match liar.rng.below(28) {
            0 => Input::Peer { node: from, connected: liar.flag() },
            1 => Input::Persisted(s.last),
            2 => Input::Read { token: Token(liar.rng.below(5)), mode: ReadMode::Quorum },
            3 => Input::Unsent { to: from, from: liar.index() },
            4 => Input::SnapshotReceived {
                from,
                epoch: liar.epoch(),
                at: id(3, 6),
                configurations: Vec::new(),
            },
            5 => {
                let step = Duration::from_millis(liar.rng.below(700));
                s.wait(step);
                continue;
            }
            6 => Input::Transfer { token: Token(9), to: liar.flag().then_some(from) },
            7 => Input::SnapshotTaken { at: s.zab.status().last },
            8 => Input::SnapshotSent { to: from, at: liar.id(), whole: liar.flag() },
            9 => Input::Damaged(Span { from: Index(3), to: Index(3 + liar.rng.below(3)) }),
            10 => Input::Propose { stamp: Stamp(1), commands: vec![bytes::Bytes::new()] },
            _ => Input::Message { from, message: liar.message(), entries: liar.entries() },
        };
        let before = (s.zab.status().committed, s.zab.hard_state().promised, s.zab.hard_state().established);
        s.step(vec![input]);
        let after = (s.zab.status().committed, s.zab.hard_state().promised, s.zab.hard_state().established);
        assert!(after.0 >= before.0, "commits went back: {before:?} {after:?}");
        assert!(after.1 >= before.1 && after.2 >= before.2, "epochs went back: {before:?} {after:?}");
        seen.insert((s.role(), s.phase()));
        liar.epoch = s.zab.status().epoch;
        let joined =
            |m: &Message| if let Message::FollowerInfo { session, .. } = m { Some(*session) } else { None };
        liar.session = s.sent(from.0).iter().find_map(|(m, ..)| joined(m)).unwrap_or(liar.session);
    }
}

/// Reliability: malformed and lying input is ignored, counted, and never fatal. `Solo::step` checks the invariants.
#[test]
fn no_message_breaks_a_core() {
    let mut seen = BTreeSet::new();
    for seed in 0..2000 {
        let mut liar = Liar { rng: Rng::new(seed), epoch: Epoch::ZERO, session: 1 };
        let mut s = match seed % 7 {
            5 => Solo::open(Setup { may_vote: false, ..with_log(1, 3, &[1, 1, 2], 2, 1) }),
            6 => {
                let mut setup = with_log(3, 3, &[1, 1, 2], 2, 1);
                setup.damaged = vec![Span { from: Index(3), to: Index(3) }];
                setup.options = zab::Options::textbook();
                Solo::open(setup)
            }
            0 => Solo::open(with_log(3, 3, &[1, 1, 2], 2, 1)),
            1 => {
                let mut s = Solo::open(with_log(1, 3, &[1, 1, 2], 2, 1));
                s.follow(3, 3).fsync();
                s
            }
            2 => {
                let mut s = Solo::open(with_log(1, 3, &[1, 1, 2], 2, 1));
                s.follow(3, 3).fsync();
                let (epoch, committed, last) = (Epoch::of(3), Index(2), id(2, 3));
                s.hear(3, Message::Diff { epoch, after: last });
                s.hear(3, Message::NewLeader { epoch, committed, last });
                s.hear(3, Message::UpToDate { epoch, committed });
                s
            }
            3 => {
                let mut s = Solo::open(with_log(3, 3, &[1, 1, 2], 2, 1));
                s.announce(&[1, 2], 2);
                s
            }
            _ => {
                let mut s = Solo::open(with_log(3, 3, &[1, 1, 2], 2, 1));
                s.lead(&[1, 2], &[1, 1, 2]);
                s.propose(2);
                s
            }
        };
        disturb(&mut s, &mut liar, &mut seen);
    }
    for phase in [Phase::Discovery, Phase::Sync, Phase::Broadcast] {
        for role in [Role::Leader, Role::Follower] {
            assert!(seen.contains(&(role, phase)), "no lie reached {role:?} in {phase:?}");
        }
    }
}
