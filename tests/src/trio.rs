//! Three replicas in memory, with a disk and a network that cost nothing: what is left is the protocol, the outbox
//! and the recent entries. The core benchmark times it, `examples/core_loop.rs` counts its instructions.

use bytes::Bytes;
use replog::{
    Committed, Configuration, Frame, Input, Missing, NodeId, Phase, Replica, ReplicatedLog, Role, Setup,
    Stamp, Time,
};
use std::hint::black_box;
use std::time::Duration;

/// Three replicas.
pub struct Trio<P: ReplicatedLog> {
    nodes: Vec<Replica<P>>,
    now: Time,
    frames: Vec<Frame<P::Message>>,
    applied: [u64; 3],
}

impl<P: ReplicatedLog> Default for Trio<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: ReplicatedLog> Trio<P> {
    /// Elects a leader.
    #[must_use]
    pub fn new() -> Self {
        let configuration = Configuration::of_voters((1..=3).map(NodeId));
        let now = Time(1);
        let open = |id| {
            let setup = Setup::fresh(NodeId(id), configuration.clone(), P::Options::default());
            Replica::open(setup, 256 << 10, now)
        };
        let mut trio = Self { nodes: (1..=3).map(open).collect(), now, frames: Vec::new(), applied: [0; 3] };
        for a in 0..3 {
            for b in 0..3 {
                if a != b {
                    trio.nodes[a].set_link(NodeId(b as u32 + 1), true);
                }
            }
        }
        while trio.leader().is_none() {
            trio.now = trio.now + Duration::from_millis(10);
            trio.settle(true);
        }
        trio.settle(true);
        trio
    }

    /// Position of the leader among the three.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|n| {
            let s = n.status();
            s.role == Role::Leader && s.phase == Phase::Broadcast
        })
    }

    /// Carries everything out until nothing moves.
    fn settle(&mut self, timers: bool) {
        let mut moved = true;
        let mut first = timers;
        while moved {
            moved = false;
            for i in 0..3 {
                if first || self.nodes[i].has_input() {
                    self.nodes[i].step(self.now);
                    moved = true;
                }
                if let Some(last) = self.nodes[i].take_writes().last() {
                    self.nodes[i].persisted(last.ticket);
                    moved = true;
                }
                self.nodes[i].take_notices();
                self.send(i);
                while let Some(Committed::Entries(entries)) =
                    self.nodes[i].take_committed(1 << 20, |_, _| Err(Missing))
                {
                    self.applied[i] += black_box(entries).len() as u64;
                }
            }
            first = false;
        }
    }

    fn send(&mut self, from: usize) {
        for to in 0..3 {
            if to == from {
                continue;
            }
            self.nodes[from].drain(NodeId(to as u32 + 1), u64::MAX, &mut self.frames);
            for Frame { message, entries } in self.frames.drain(..) {
                let from = NodeId(from as u32 + 1);
                self.nodes[to].push(Input::Message { from, message, entries });
            }
        }
    }

    /// One batch, from proposal to applied on all three.
    pub fn round(&mut self, leader: usize, commands: Vec<Bytes>) {
        let goal = self.applied.map(|n| n + commands.len() as u64);
        self.nodes[leader].push(Input::Propose { stamp: Stamp(1), commands });
        self.now = self.now + Duration::from_micros(10);
        self.settle(false);
        // A commit that rides with the next heartbeat would show here as a follower that has not applied.
        assert_eq!(self.applied, goal, "one round must apply everywhere");
    }

    /// Everybody takes a snapshot of what is applied: the log stays as short as it is in production.
    pub fn snapshot(&mut self) {
        for node in &mut self.nodes {
            let at = node.status().last;
            node.push(Input::SnapshotTaken { at });
        }
        self.settle(false);
    }
}
