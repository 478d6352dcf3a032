//! The deterministic simulator: one seed decides cluster size, network, disk latencies, load and faults.
//!
//! Its foundation is [`replog::conformance`]: real cores, outboxes and recent entries on a modelled network and
//! disk, with agreement, prefix, durability and freshness checked after every step, and liveness after the last
//! heal. This crate runs many seeds over the three backends, adds up what they did, and reproduces one by its number.

pub mod again;
#[cfg(feature = "mutants")]
pub mod bugs;
pub mod case;
pub mod check;
pub mod matrix;
pub mod model;
pub mod pool;
mod report;
pub mod report_text;
pub mod rows;
pub mod schedule;
pub mod shrink;
pub mod soak;
pub mod speed;
pub mod swarm;
pub mod tally;
pub mod traces;
pub mod verdict;
pub mod words;
pub mod world;

pub use report::{Figures, Plan, Report, Violation};

use replog::ReplicatedLog;
use replog::conformance::{KeepEntries, RandomReport, random_run, storm_run};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Carries a plan out, and has the history checkers judge what its clients saw. Never panics: a core's broken assertion
/// becomes [`Report::violation`]. `trace` gets a record of everything that happens.
#[must_use]
pub fn run(plan: &Plan, trace: Option<&mut dyn FnMut(&trace::Record)>) -> Report {
    let mut report = world::run(plan, trace);
    // After a broken rule inside the run ended early: what clients saw is cut off, not wrong.
    if report.violation.is_none()
        && let Some(finding) = history::check(&report.history).into_iter().next()
    {
        let checker = finding.checker.to_string();
        let at_us = report.figures.simulated_us;
        report.violation = Some(Violation { checker, text: finding.text, at_us });
    }
    report
}

/// A backend to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Zab.
    Zab,
    /// Raft.
    Raft,
    /// Multi-Paxos.
    Paxos,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Zab, Self::Raft, Self::Paxos];

    /// Lower-case name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zab => zab::Zab::NAME,
            Self::Raft => raft::Raft::NAME,
            Self::Paxos => paxos::Paxos::NAME,
        }
    }

    /// One run whose faults come together ([`storm_run`]).
    ///
    /// # Panics
    /// On a violation, with its story.
    #[must_use]
    pub fn storm(self, seed: u64, rounds: u32) -> RandomReport {
        match self {
            Self::Zab => {
                storm_run::<zab::Zab>(seed, rounds, keeper::<zab::Zab>(|o, k| o.limits.keep_entries = k))
            }
            Self::Raft => {
                storm_run::<raft::Raft>(seed, rounds, keeper::<raft::Raft>(|o, k| o.limits.keep_entries = k))
            }
            Self::Paxos => storm_run::<paxos::Paxos>(
                seed,
                rounds,
                keeper::<paxos::Paxos>(|o, k| o.limits.keep_entries = k),
            ),
        }
    }

    /// One run.
    ///
    /// # Panics
    /// On a violation, with its story.
    #[must_use]
    pub fn run(self, seed: u64, rounds: u32) -> RandomReport {
        match self {
            Self::Zab => {
                random_run::<zab::Zab>(seed, rounds, keeper::<zab::Zab>(|o, k| o.limits.keep_entries = k))
            }
            Self::Raft => {
                random_run::<raft::Raft>(seed, rounds, keeper::<raft::Raft>(|o, k| o.limits.keep_entries = k))
            }
            Self::Paxos => random_run::<paxos::Paxos>(
                seed,
                rounds,
                keeper::<paxos::Paxos>(|o, k| o.limits.keep_entries = k),
            ),
        }
    }
}

const fn keeper<P: ReplicatedLog>(set: KeepEntries<P>) -> KeepEntries<P> {
    set
}

/// What many runs did together.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// Seeds run.
    pub seeds: u64,
    /// Seeds that failed, with the message of the failure.
    pub failures: Vec<(u64, String)>,
    /// Sums over all runs.
    pub sum: RandomReport,
    /// Longest time from the last heal to a commit applied everywhere.
    pub worst_recovery: Duration,
    /// Processor time, summed over threads.
    pub busy: Duration,
}

impl Total {
    /// Simulated seconds per core-second.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.sum.simulated.as_secs_f64() / self.busy.as_secs_f64().max(1e-9)
    }

    fn add(&mut self, seed: u64, outcome: Result<RandomReport, String>, busy: Duration) {
        self.seeds += 1;
        self.busy += busy;
        match outcome {
            Err(why) => self.failures.push((seed, why)),
            Ok(r) => {
                let s = &mut self.sum;
                s.chosen += r.chosen;
                s.crashes += r.crashes;
                s.cuts += r.cuts;
                s.pauses += r.pauses;
                s.messages += r.messages;
                s.installs += r.installs;
                s.reigns += r.reigns;
                s.simulated += r.simulated;
                self.worst_recovery = self.worst_recovery.max(r.recovery);
            }
        }
    }

    fn merge(&mut self, other: Self) {
        let Self { seeds, failures, sum, worst_recovery, busy } = other;
        self.add(0, Ok(sum), busy);
        self.seeds = self.seeds + seeds - 1;
        self.failures.extend(failures);
        self.worst_recovery = self.worst_recovery.max(worst_recovery);
    }
}

/// Runs every seed of the range on as many threads as there are cores.
#[must_use]
pub fn run_seeds(backend: Backend, seeds: Range<u64>, rounds: u32) -> Total {
    let next = AtomicU64::new(seeds.start);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let mut total = Total::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return total;
            }
            let start = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| backend.run(seed, rounds)));
            let outcome = outcome.map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
            });
            total.add(seed, outcome, start.elapsed());
        }
    };
    let mut total = Total::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for w in workers {
            // A worker catches the panics of its runs; one of its own is a bug of this crate.
            match w.join() {
                Ok(t) => total.merge(t),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    total
}
