//! What a core costs: three nodes in memory, a 100-byte entry from proposal to applied everywhere, one round in
//! flight, at batches of 1 and 64. Disk and network are free here (tickets complete at once, frames are moved), so
//! what is left is the protocol, the outbox and the recent entries: `cargo bench -p tests --bench core_cost`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use replog::{
    Committed, Configuration, ConfigurationAt, Frame, HardState, Index, Input, LogId, Missing, NodeId, Phase,
    Replica, ReplicatedLog, Role, Setup, Stamp, Time,
};
use std::hint::black_box;
use std::time::Duration;

struct Trio<P: ReplicatedLog> {
    nodes: Vec<Replica<P>>,
    now: Time,
    frames: Vec<Frame<P::Message>>,
    applied: [u64; 3],
}

impl<P: ReplicatedLog> Trio<P> {
    fn new() -> Self {
        let configuration = Configuration::of_voters((1..=3).map(NodeId));
        let now = Time(1);
        let open = |id| {
            let setup = Setup {
                id: NodeId(id),
                seed: u64::from(id),
                configurations: vec![ConfigurationAt {
                    from: Index::ZERO,
                    configuration: configuration.clone(),
                }],
                hard_state: HardState::default(),
                base: LogId::ZERO,
                snapshot: LogId::ZERO,
                entries: Vec::new(),
                damaged: Vec::new(),
                may_vote: true,
                options: P::Options::default(),
            };
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

    fn leader(&self) -> Option<usize> {
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

    fn round(&mut self, leader: usize, commands: Vec<Bytes>) {
        let goal = self.applied.map(|n| n + commands.len() as u64);
        self.nodes[leader].push(Input::Propose { stamp: Stamp(1), commands });
        self.now = self.now + Duration::from_micros(10);
        self.settle(false);
        // A commit that rides with the next heartbeat would show here as a follower that has not applied.
        assert_eq!(self.applied, goal, "one round must apply everywhere");
    }
}

fn bench<P: ReplicatedLog>(c: &mut Criterion) {
    let body = Bytes::from(vec![7_u8; 100]);
    let mut group = c.benchmark_group("core");
    for batch in [1_usize, 64] {
        let mut trio = Trio::<P>::new();
        let leader = trio.leader().unwrap();
        // A snapshot now and then keeps the log as short as it is in production.
        let mut since = 0;
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new(P::NAME, batch), |b| {
            b.iter(|| {
                trio.round(leader, vec![body.clone(); batch]);
                since += batch;
                if since >= 100_000 {
                    since = 0;
                    for n in &mut trio.nodes {
                        let at = n.status().last;
                        n.push(Input::SnapshotTaken { at });
                    }
                    trio.settle(false);
                }
            });
        });
    }
    group.finish();
}

fn all(c: &mut Criterion) {
    bench::<zab::Zab>(c);
    bench::<raft::Raft>(c);
    bench::<paxos::Paxos>(c);
}

criterion_group!(benches, all);
criterion_main!(benches);
