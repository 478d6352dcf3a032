//! `sim speed`: how many seconds are simulated in one second of a core.
//!
//! * whole: five nodes with log, snapshots, sessions and watches, clients that ask for 100 operations a second, every
//!   white-box check on;
//! * core: three cores with a modelled disk and network, one command a second, every step checked.

use crate::schedule::{ClusterPlan, Expect, Schedule, Workload};
use crate::{Backend, Plan, Violation, run};
use replog::ReplicatedLog;
use replog::conformance::{Cluster, ClusterOptions};
use std::time::{Duration, Instant};

/// What was measured of one backend.
#[derive(Clone, Debug)]
pub struct Speed {
    /// Simulated seconds per core-second of five whole nodes at 100 operations a second.
    pub whole: f64,
    /// Of three cores.
    pub core: f64,
    /// Writes acknowledged in the first run.
    pub acked: u64,
    /// None, or the run measured something else.
    pub violation: Option<Violation>,
}

/// Measures a backend: `seconds` of five whole nodes, a hundred times as many of three cores.
#[must_use]
pub fn speed(backend: Backend, seconds: u64) -> Speed {
    let begun = Busy::now();
    let report = run(&plan(backend, seconds), None);
    let whole = report.figures.simulated_us as f64 / 1e6 / begun.passed();
    let alone = Duration::from_secs(100 * seconds);
    let begun = Busy::now();
    match backend {
        Backend::Zab => cores::<zab::Zab>(alone),
        Backend::Raft => cores::<raft::Raft>(alone),
        Backend::Paxos => cores::<paxos::Paxos>(alone),
    }
    let core = alone.as_secs_f64() / begun.passed();
    Speed { whole, core, acked: report.figures.acked, violation: report.violation }
}

fn plan(backend: Backend, seconds: u64) -> Plan {
    let cluster = ClusterPlan {
        voters: Some(5),
        observers: Some(0),
        latency_us: Some(200),
        jitter_us: Some(100),
        fsync_us: Some(500),
        snapshot_every: Some(5000),
        keep_entries: Some(1000),
        drift_per_mille: Some(1),
        ..ClusterPlan::default()
    };
    let workload =
        Workload { clients: Some(10), rate: Some(100), timeout_ms: Some(6000), tail_ms: seconds * 1000 };
    let schedule = Schedule {
        name: "speed".to_owned(),
        rows: Vec::new(),
        about: String::new(),
        cluster,
        workload,
        steps: Vec::new(),
        expect: Expect::default(),
        exact: true,
    };
    Plan { backend, seed: 1, schedule }
}

fn cores<P: ReplicatedLog>(length: Duration) {
    let mut cluster = Cluster::<P>::new(ClusterOptions::new(1, 3));
    cluster.story_limit = 1;
    for _ in 0..length.as_secs() {
        cluster.propose(1);
        cluster.run_for(Duration::from_secs(1));
    }
}

/// Time that this thread was on a core; on systems that do not tell, time that passed.
struct Busy {
    on_core: Option<u64>,
    began: Instant,
}

impl Busy {
    fn now() -> Self {
        Self { on_core: on_core_ns(), began: Instant::now() }
    }

    fn passed(&self) -> f64 {
        match (self.on_core, on_core_ns()) {
            (Some(before), Some(now)) if now > before => (now - before) as f64 / 1e9,
            _ => self.began.elapsed().as_secs_f64(),
        }
    }
}

fn on_core_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
