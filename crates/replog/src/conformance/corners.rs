//! Corners: what calm and storm seldom meet. Under load and ordinary faults, leadership is handed over to anybody at
//! any moment, barriers of both kinds are asked of everybody, entries of one replica rot, a disk hangs for longer than
//! a leader may wait, windows and frames are tiny, links come back at once, snapshots are taken out of turn.
//!
//! The options are the caller's: the textbook protocols, leases and other switches turn other corners.

use super::random::{RandomReport, recover};
use super::{Cluster, ClusterOptions, Crash, NetworkOptions};
use crate::{Configuration, Index, Input, NodeId, ReadMode, ReplicatedLog, Rng, Span, Token};
use std::time::Duration;

struct Corners<P: ReplicatedLog> {
    cluster: Cluster<P>,
    rng: Rng,
    /// The only replica whose entries rot: a majority is whole at all times.
    rotting: NodeId,
    /// Whether barriers by lease are asked for.
    leases: bool,
    report: RandomReport,
}

/// Runs `rounds` on 3 or 5 voters, sometimes with an observer and a learner, then heals.
///
/// # Panics
/// On any violation, with the story of the last events; the seed reproduces it.
#[must_use]
pub fn corner_run<P: ReplicatedLog>(
    seed: u64,
    rounds: u32,
    protocol: P::Options,
    leases: bool,
) -> RandomReport {
    let mut rng = Rng::new(seed ^ 0xC0_24E2);
    let voters = if rng.one_in(3) { 5 } else { 3 };
    let mut options = ClusterOptions::<P::Options>::new(seed, voters);
    options.protocol = protocol;
    if rng.one_in(2) {
        options.configuration = options.configuration.with_observers([NodeId(voters + 1)]);
    }
    let lossy = rng.one_in(2);
    options.network = NetworkOptions {
        latency: rng.duration(Duration::from_micros(50), Duration::from_millis(5)),
        jitter: if rng.one_in(2) { Duration::from_millis(20) } else { Duration::ZERO },
        loss_per_mille: if lossy { if P::GUARANTEES.fifo_links { 3 } else { 80 } } else { 0 },
        duplicate_per_mille: if lossy { 150 } else { 0 },
    };
    options.fsync_spread = rng.duration(Duration::ZERO, Duration::from_millis(20));
    options.snapshot_every = rng.one_in(2).then(|| 5 + rng.below(40));
    options.frame_bytes = [1, 200, 4096][rng.below(3) as usize];
    let rotting = NodeId(1 + rng.below(u64::from(voters)) as u32);
    let cluster = Cluster::<P>::new(options);
    let start = cluster.now();
    let mut corners = Corners { cluster, rng, rotting, leases, report: RandomReport::default() };
    for _ in 0..rounds {
        corners.load();
        corners.turn();
        let most = if corners.rng.one_in(4) { 1500 } else { 60 };
        let pause = corners.rng.duration(Duration::ZERO, Duration::from_millis(most));
        corners.cluster.run_for(pause);
    }
    let Corners { mut cluster, mut report, .. } = corners;
    cluster.options.fsync = Duration::from_micros(200);
    recover(&mut cluster, &mut report);
    report.chosen = cluster.ledger().top().0;
    report.messages = cluster.counters().messages();
    report.installs = cluster.counters().installs;
    report.reigns = cluster.counters().reigns;
    report.simulated = cluster.now().since(start);
    report
}

impl<P: ReplicatedLog> Corners<P> {
    fn anybody(&mut self) -> NodeId {
        let nodes = self.cluster.nodes();
        nodes[self.rng.below(nodes.len() as u64) as usize]
    }

    fn leader_or_anybody(&mut self) -> NodeId {
        let leader = self.cluster.leader();
        if self.rng.one_in(3) { self.anybody() } else { leader.unwrap_or_else(|| self.anybody()) }
    }

    fn load(&mut self) {
        let (count, bytes) = (self.rng.below(8), [8, 100, 2000][self.rng.below(3) as usize]);
        self.cluster.propose_sized(count, bytes);
        for _ in 0..self.rng.below(3) {
            let id = self.anybody();
            let mode = if self.leases && self.rng.one_in(2) { ReadMode::Lease } else { ReadMode::Quorum };
            self.cluster.read(id, mode);
        }
    }

    fn turn(&mut self) {
        let id = self.leader_or_anybody();
        match self.rng.below(14) {
            0..=2 => self.hand_over(id),
            3 => self.rot(),
            4 => self.hang(),
            5 => {
                let other = self.anybody();
                if other != id {
                    self.cluster.break_link(id, other);
                }
            }
            6 => {
                if self.cluster.status(id).is_some() {
                    self.cluster.snapshot(id);
                }
            }
            7 => {
                let target = Configuration::of_voters(self.cluster.nodes());
                let command = bytes::Bytes::new();
                self.cluster.input(id, Input::Reconfigure { token: Token(0), target, command });
            }
            8 => {
                let other = self.anybody();
                if other != id {
                    self.cluster.cut_one_way(id, other);
                    self.report.cuts += 1;
                }
            }
            9 => {
                self.cluster.isolate(id);
                self.report.cuts += 1;
            }
            10 | 11 => self.heal(),
            _ => self.crash(id),
        }
    }

    /// To the best, to somebody, or to itself; sometimes twice.
    fn hand_over(&mut self, id: NodeId) {
        for _ in 0..=self.rng.below(2) {
            let to = if self.rng.one_in(2) { Some(self.anybody()) } else { None };
            self.cluster.transfer(id, to);
        }
    }

    fn rot(&mut self) {
        let end = self.cluster.applied(self.rotting).index.0;
        if end > 0 && self.cluster.status(self.rotting).is_some() {
            let from = 1 + self.rng.below(end);
            let to = (from + self.rng.below(3)).min(end);
            if let Some(span) = Span::new(Index(from), Index(to)) {
                self.cluster.input(self.rotting, Input::Damaged(span));
            }
        }
    }

    /// All disks are slow for a while, or well again.
    fn hang(&mut self) {
        let ms = [0, 30, 4000][self.rng.below(3) as usize];
        self.cluster.options.fsync = Duration::from_micros(200) + Duration::from_millis(ms);
        if ms == 4000 {
            self.cluster.run_for(Duration::from_secs(5));
            self.cluster.options.fsync = Duration::from_micros(200);
        }
    }

    fn heal(&mut self) {
        self.cluster.heal();
        for id in self.cluster.nodes() {
            if self.cluster.status(id).is_none() {
                self.cluster.restart(id);
            }
        }
    }

    fn crash(&mut self, id: NodeId) {
        if self.cluster.status(id).is_some() {
            let kind = if self.rng.one_in(2) { Crash::Kill } else { Crash::Power };
            self.cluster.crash(id, kind);
            self.report.crashes += 1;
            if self.rng.one_in(3) {
                self.cluster.restart(id);
            }
        }
    }
}
