//! Storms: faults that come together, at the worst moments. Independent faults, far apart, forgive nearly every broken
//! rule: what one replica forgot, its neighbours still know. Here several replicas lose power in the middle of
//! the same fsync, leaders fall while they replicate, and logs that disagree meet snapshots.
//!
//! Each round is one storm, under load, on slow disks; then everything comes back, in any order, and must converge
//! now and then.

use super::random::{RandomReport, recover};
use super::{Cluster, ClusterOptions, Crash, KeepEntries, NetworkOptions};
use crate::{NodeId, ReadMode, ReplicatedLog, Rng};
use std::time::Duration;

/// Runs `rounds` storms on 3 or 5 voters, then heals.
///
/// # Panics
/// On any violation, with the story of the last events; the seed reproduces it.
#[must_use]
pub fn storm_run<P: ReplicatedLog>(seed: u64, rounds: u32, keep_entries: KeepEntries<P>) -> RandomReport {
    let mut rng = Rng::new(seed ^ 0x5702_0000);
    let cluster = calm::<P>(seed, &mut rng, keep_entries);
    let start = cluster.now();
    let mut storm = Storm { cluster, rng, wiped: None, report: RandomReport::default() };
    for _ in 0..rounds {
        storm.load();
        storm.round();
        storm.come_back();
    }
    let Storm { mut cluster, mut report, wiped, .. } = storm;
    if wiped.is_none() {
        recover(&mut cluster, &mut report);
    }
    report.simulated = cluster.now().since(start);
    report.messages = cluster.counters().messages();
    report.installs = cluster.counters().installs;
    report.reigns = cluster.counters().reigns;
    report.chosen = cluster.ledger().top().0;
    report
}

fn calm<P: ReplicatedLog>(seed: u64, rng: &mut Rng, keep_entries: KeepEntries<P>) -> Cluster<P> {
    let voters = if rng.one_in(2) { 5 } else { 3 };
    let mut options = ClusterOptions::<P::Options>::new(seed, voters);
    let lossy = rng.one_in(3);
    options.network = NetworkOptions {
        latency: rng.duration(Duration::from_micros(50), Duration::from_millis(2)),
        jitter: if rng.one_in(2) { Duration::from_millis(5) } else { Duration::ZERO },
        loss_per_mille: if lossy { if P::GUARANTEES.fifo_links { 2 } else { 50 } } else { 0 },
        duplicate_per_mille: if lossy { 50 } else { 0 },
    };
    options.fsync = rng.duration(Duration::from_micros(200), Duration::from_millis(10));
    options.fsync_spread = rng.duration(Duration::ZERO, Duration::from_millis(40));
    keep_entries(&mut options.protocol, rng.below(8));
    options.snapshot_every = rng.one_in(2).then(|| 3 + rng.below(20));
    options.frame_bytes = [1, 200, 4096][rng.below(3) as usize];
    Cluster::new(options)
}

struct Storm<P: ReplicatedLog> {
    cluster: Cluster<P>,
    rng: Rng,
    /// A replica that lost its disk, at most one: it never votes again.
    wiped: Option<NodeId>,
    report: RandomReport,
}

impl<P: ReplicatedLog> Storm<P> {
    fn pick(&mut self) -> NodeId {
        let nodes = self.cluster.nodes();
        nodes[self.rng.below(nodes.len() as u64) as usize]
    }

    fn victim(&mut self) -> NodeId {
        let leader = self.cluster.leader().filter(|_| self.rng.one_in(2));
        leader.unwrap_or_else(|| self.pick())
    }

    /// A few bursts, so that several frames are under way.
    fn load(&mut self) {
        for _ in 0..=self.rng.below(4) {
            let n = self.rng.below(4);
            self.cluster.propose(n);
            let pause = Duration::from_micros(self.rng.below(400));
            self.cluster.run_for(pause);
        }
    }

    /// Up to `ms`, mostly much less: the moments inside a write or a message's flight are the interesting ones.
    fn wait(&mut self, ms: u64) {
        let us = self.rng.below(ms * 1000 + 1) >> self.rng.below(4);
        self.cluster.run_for(Duration::from_micros(us));
        if self.rng.one_in(4) {
            let id = self.pick();
            if self.cluster.status(id).is_some() {
                self.cluster.read(id, ReadMode::Quorum);
            }
        }
    }

    fn settle(&mut self) {
        self.cluster.run_until(Duration::from_secs(4), |c| c.leader().is_some());
    }

    fn crash(&mut self, id: NodeId) {
        let kind = if self.rng.one_in(4) { Crash::Kill } else { Crash::Power };
        if self.cluster.status(id).is_some() {
            self.cluster.crash(id, kind);
            self.report.crashes += 1;
        }
    }

    fn start(&mut self, id: NodeId) {
        if self.cluster.status(id).is_none() {
            if self.wiped == Some(id) { self.cluster.restart_wiped(id) } else { self.cluster.restart(id) }
        }
    }

    fn round(&mut self) {
        self.settle();
        self.load();
        self.wait(30);
        match self.rng.below(9) {
            0 => self.blackout(),
            1 => self.quick_restarts(),
            2 => self.torn_apart(),
            3 => self.overtaken_leader(),
            4 => self.falling_leaders(),
            5 => self.frozen_leader(),
            6 => self.flapping(),
            7 => self.rival_candidates(),
            _ => self.lost_disk(),
        }
        if self.rng.one_in(3) {
            // In the middle of whatever the storm has left.
            self.wait(40);
            self.blackout();
        }
    }

    /// Several lose power at once, a majority more often than not.
    fn blackout(&mut self) {
        for id in self.cluster.nodes() {
            if !self.rng.one_in(3) {
                self.crash(id);
            }
        }
        // Who comes back first decides without the others.
        let late = self.pick();
        for id in self.cluster.nodes() {
            if id != late {
                self.wait(3);
                self.start(id);
            }
        }
        if self.rng.one_in(2) {
            self.cluster.isolate(late);
        }
        self.settle();
        self.load();
        self.wait(300);
    }

    /// The leader falls, and voters restart in the middle of the election.
    fn quick_restarts(&mut self) {
        if let Some(leader) = self.cluster.leader() {
            self.crash(leader);
        }
        for _ in 0..12 {
            self.wait(60);
            let id = self.pick();
            self.crash(id);
            self.wait(4);
            self.start(id);
        }
    }

    /// Links go, one by one and in one direction, in the middle of the load.
    fn torn_apart(&mut self) {
        for _ in 0..6 {
            for _ in 0..=self.rng.below(8) {
                let (a, b) = (self.victim(), self.pick());
                if a != b {
                    self.cluster.cut_one_way(a, b);
                    self.report.cuts += 1;
                }
            }
            self.load();
            self.wait(3000);
            if self.rng.one_in(2) {
                self.cluster.heal();
                self.wait(100);
            }
        }
    }

    /// Links break and come back all the time, while somebody is being elected or brought up to date.
    fn flapping(&mut self) {
        if let Some(leader) = self.cluster.leader().filter(|_| self.rng.one_in(2)) {
            self.crash(leader);
        }
        for _ in 0..20 {
            let (a, b) = (self.victim(), self.pick());
            match self.rng.below(4) {
                0 | 1 if a != b => self.cluster.break_link(a, b),
                2 if a != b => self.cluster.cut(a, b),
                _ => self.cluster.heal(),
            }
            self.wait(60);
            self.cluster.propose(1);
        }
    }

    /// Nobody hears anybody until all are candidates; then they meet, but not all of them, and some restart.
    fn rival_candidates(&mut self) {
        for id in self.cluster.nodes() {
            self.cluster.isolate(id);
        }
        self.cluster.run_for(Duration::from_millis(3500));
        self.cluster.heal();
        for _ in 0..=self.rng.below(3) {
            let (a, b) = (self.pick(), self.pick());
            if a != b {
                self.cluster.cut(a, b);
            }
        }
        for _ in 0..6 {
            self.wait(12);
            let id = self.pick();
            self.crash(id);
            self.wait(3);
            self.start(id);
        }
        self.wait(1000);
    }

    /// A leader is cut off with commands that nobody gets, the others go on without it, and take snapshots.
    fn overtaken_leader(&mut self) {
        let Some(old) = self.cluster.leader() else { return };
        let companion = self.pick();
        for id in self.cluster.nodes() {
            if id != old && (id != companion || self.rng.one_in(2)) {
                self.cluster.cut(old, id);
            }
        }
        self.report.cuts += 1;
        let alone = 1 + self.rng.below(20);
        self.cluster.propose_to(old, alone);
        self.cluster.run_until(Duration::from_secs(6), |c| c.leader().is_some_and(|l| l != old));
        for _ in 0..self.rng.below(5) {
            self.load();
            self.wait(50);
        }
        if self.rng.one_in(3) {
            self.crash(old);
        }
        self.cluster.heal();
        self.wait(60);
        if let Some(leader) = self.cluster.leader().filter(|_| self.rng.one_in(2)) {
            // The snapshot under way is of a reign that ends.
            self.crash(leader);
        }
    }

    /// Each new leader gets some commands out to a few, and falls.
    fn falling_leaders(&mut self) {
        for _ in 0..4 {
            self.settle();
            let Some(leader) = self.cluster.leader() else { continue };
            for id in self.cluster.nodes() {
                if id != leader && !self.rng.one_in(3) {
                    self.cluster.cut_one_way(leader, id);
                }
            }
            self.load();
            self.wait(25);
            self.crash(leader);
            self.cluster.heal();
            if self.rng.one_in(2) {
                self.wait(1500);
                self.start(leader);
            }
        }
    }

    /// The leader is stopped, others take over, it goes on where it was.
    fn frozen_leader(&mut self) {
        let Some(leader) = self.cluster.leader() else { return };
        self.cluster.pause(leader);
        self.report.pauses += 1;
        self.cluster.propose_to(leader, 3);
        self.cluster.read(leader, ReadMode::Quorum);
        self.wait(6000);
        self.load();
        self.wait(100);
        if self.cluster.status(leader).is_some() {
            self.cluster.resume(leader);
        }
    }

    /// A replica loses its disk.
    fn lost_disk(&mut self) {
        if self.wiped.is_some() || !self.rng.one_in(6) {
            return self.blackout();
        }
        let id = self.pick();
        self.crash(id);
        self.wiped = Some(id);
        self.wait(2000);
        self.start(id);
    }

    /// Everything comes back, in any order.
    fn come_back(&mut self) {
        let mut down: Vec<NodeId> =
            self.cluster.nodes().into_iter().filter(|id| self.cluster.status(*id).is_none()).collect();
        while !down.is_empty() {
            let at = self.rng.below(down.len() as u64) as usize;
            let id = down.swap_remove(at);
            self.start(id);
            self.wait(20);
        }
        self.cluster.heal();
        self.wait(2000);
    }
}
