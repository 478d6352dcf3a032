//! Whatever a peer says, a core neither panics nor breaks an invariant of its own: messages of every kind with
//! numbers near and far from the right ones, in any order, mixed with link changes, timers and completions.
//!
//! What is out of scope: a peer that lies consistently. Paxos is no protocol against that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // helpers of tests

mod common;

use common::{Node, accept, b, entry};
use paxos::{Message, Options, Run};
use replog::{Entry, Epoch, Index, Input, Phase, ReadMode, ReplicatedLog, Rng, Role, Span, Token};
use std::collections::BTreeSet;

struct Liar {
    rng: Rng,
    /// What its victim promised: lies near the truth go deepest.
    ballot: Epoch,
    committed: u64,
    number: u64,
}

impl Liar {
    fn number(&mut self) -> u64 {
        match self.rng.below(16) {
            0 => u64::MAX,
            1 => self.rng.bits(),
            2..=4 => self.number,
            _ => self.rng.below(9),
        }
    }

    fn small(&mut self, n: u64) -> u32 {
        u32::try_from(self.rng.below(n)).unwrap()
    }

    fn ballot(&mut self) -> Epoch {
        match self.rng.below(8) {
            0 => Epoch { round: u32::MAX - 1, proposer: self.small(5) },
            1 => b(self.small(6), self.small(5)),
            2 => Epoch { round: self.ballot.round.saturating_add(1), proposer: 2 + self.small(2) },
            _ => self.ballot,
        }
    }

    fn index(&mut self) -> Index {
        if self.flag() { Index(self.committed + self.rng.below(4)) } else { Index(self.number()) }
    }

    fn flag(&mut self) -> bool {
        self.rng.one_in(2)
    }

    fn runs(&mut self) -> Vec<Run> {
        let count = self.rng.below(3);
        let run = |_| {
            let from = self.index();
            let to = if self.flag() { from } else { self.index() };
            let (epoch, ballot) = (self.ballot(), self.ballot());
            Run { from, to, epoch, ballot }
        };
        (0..count).map(run).collect()
    }

    fn entries(&mut self) -> Vec<Entry> {
        let first = self.index().0;
        let ballot = self.ballot();
        let step = |i: u64| first.saturating_add(i);
        let mut entries: Vec<Entry> =
            (0..self.rng.below(4)).map(|i| entry(step(i), ballot, ballot, "lie")).collect();
        if self.rng.one_in(10) {
            entries.reverse();
        }
        entries
    }

    fn message(&mut self) -> Message {
        let (ballot, reign, promised) = (self.ballot(), self.ballot(), self.ballot());
        let (committed, upto, from) = (self.index(), self.index(), self.index());
        let (number, round) = (self.number(), self.number());
        let (flag, counts) = (self.flag(), self.flag());
        match self.rng.below(15) {
            0 => Message::Query { promised, number },
            1 => Message::Answer { promised, number, hears: flag },
            2 => Message::Prepare { ballot, reign, have: self.runs(), handed: flag },
            3 => Message::Promise { ballot, committed, base: upto, held: self.runs() },
            4 => Message::Reject { ballot, promised },
            5 => Message::Accept { ballot, reign, committed, sync: flag },
            6 | 7 => {
                let more = Span::new(upto, from).into_iter().collect();
                Message::Accepted { ballot, upto, more, committed, counts }
            }
            8 => Message::Decide { ballot, reign, committed },
            9 => Message::Heartbeat { ballot, reign, committed, quorum: flag, round, acked: upto },
            10 => Message::Alive { ballot, round, arrived: upto, committed, counts },
            11 => Message::Fetch { promised, from, held: self.runs() },
            12 => Message::Chosen { promised, committed, ids: self.runs(), push: flag },
            13 => Message::ReadAsk { reign, number },
            _ => Message::ReadAt { reign, number, at: None },
        }
    }
}

fn disturb(node: &mut Node, liar: &mut Liar, seen: &mut BTreeSet<(Role, Phase)>) {
    for _ in 0..100 {
        let from = replog::NodeId(1 + liar.small(4));
        let input = match liar.rng.below(20) {
            0 => Input::Peer { node: from, connected: liar.flag() },
            1 => Input::Persisted(node.ticket),
            2 => {
                let mode = if liar.flag() { ReadMode::Lease } else { ReadMode::Quorum };
                Input::Read { token: Token(liar.rng.below(5)), mode }
            }
            3 => Input::Unsent { to: from, from: liar.index() },
            4 => {
                node.pass(liar.rng.below(700));
                node.step(Vec::new());
                continue;
            }
            5 => Input::Transfer { token: Token(9), to: liar.flag().then_some(from) },
            _ => Input::Message { from, message: liar.message(), entries: liar.entries() },
        };
        let before = node.core.status();
        // Checks the core's invariants.
        node.step(vec![input]);
        let status = node.core.status();
        assert!(status.committed >= before.committed, "the chosen prefix went back: {before:?} {status:?}");
        seen.insert((status.role, status.phase));
        for kind in ["Query", "ReadAsk"] {
            if let Some(Message::Query { number, .. } | Message::ReadAsk { number, .. }) =
                node.sent(kind).first()
            {
                liar.number = *number;
            }
        }
        if let Some(Message::Prepare { ballot, .. } | Message::Heartbeat { ballot, .. }) =
            node.sent("Prepare").first().or(node.sent("Heartbeat").first())
        {
            liar.ballot = *ballot;
        }
        liar.committed = status.committed.0;
    }
}

/// Reliability: malformed and lying input is ignored, counted, and never fatal.
#[test]
fn no_message_breaks_a_core() {
    let mut seen = BTreeSet::new();
    for seed in 0..1200 {
        let options = Options { lease: seed % 3 == 1, classic: seed % 5 == 1, ..Options::default() };
        let mut node = Node::new(1, 3, options);
        let mut ballot = b(1, 2);
        match seed % 4 {
            0 => {}
            1 => drop(node.tell(2, accept(ballot, 0), vec![entry(1, ballot, ballot, "x")])),
            2 => ballot = node.campaign(),
            _ => {
                ballot = node.lead(&[2]);
                node.propose(&["x", "y"]);
            }
        }
        if seed % 7 == 3 {
            // Back from the dead, a part of the log damaged, or without a vote.
            node.sync();
            node.may_vote = seed % 2 == 0;
            let last = node.durable.entries.last_key_value().map(|(index, _)| *index);
            node.damaged = last.and_then(|last| Span::new(last, last)).into_iter().collect();
            node.crash();
        }
        let mut liar = Liar { rng: Rng::new(seed), ballot, committed: 0, number: 1 };
        disturb(&mut node, &mut liar, &mut seen);
    }
    for state in [
        (Role::Electing, Phase::Discovery),
        (Role::Leader, Phase::Sync),
        (Role::Leader, Phase::Broadcast),
        (Role::Follower, Phase::Broadcast),
    ] {
        assert!(seen.contains(&state), "no lie reached {state:?}: {seen:?}");
    }
}
