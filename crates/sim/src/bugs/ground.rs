//! Where mutants are hunted: what one trial runs.

use super::Play;
use crate::case::{Case, Source};
use crate::schedule::{LoadError, Schedule};
use crate::{Backend, Plan, Violation};
use replog::conformance as suite;
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Faults of a run of the cores alone.
const ROUNDS: u32 = 60;
/// Storms of a run.
const STORMS: u32 = 12;

/// What kind of run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// Cores on a modelled disk and network, random faults ([`suite::random_run`]).
    Cores,
    /// The same with faults that come together ([`suite::storm_run`]).
    Storm,
    /// One case of the conformance suite; the seed says which.
    Suite,
    /// A directed run of the cores ([`Play`]), by its name.
    Play(String),
    /// The log alone on a disk that crashes.
    Disk,
    /// The state machine alone on logs that a replicated log may choose.
    States,
    /// Whole servers with clients: `swarm`, `row-7` of the fault matrix, a named schedule, or one of the bank's own
    /// (`bugs/schedules/`), whose times the seed shifts.
    World(String),
}

macro_rules! texts {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("schedules/", $name, ".toml")))),*] };
}

/// Schedules for what the fault matrix breaks too rarely.
const OWN: [(&str, &str); 5] = texts! {
    "install-under-clients"
    "same-round"
    "lost-in-a-stream"
    "cut-off-holder"
    "leader-unheard"
};

impl Ground {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let plays = Play::ALL.iter().map(|p| Self::Play(p.name().to_owned()));
        let own = OWN.iter().map(|(name, _)| Self::World((*name).to_owned()));
        [Self::Suite, Self::Storm, Self::Cores, Self::Disk, Self::States]
            .into_iter()
            .chain(plays)
            .chain(own)
            .collect()
    }

    /// The ground of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "suite" => Self::Suite,
            "storm" => Self::Storm,
            "cores" => Self::Cores,
            "disk" => Self::Disk,
            "states" => Self::States,
            play if Play::named(play).is_some() => Self::Play(play.to_owned()),
            schedule => Self::World(schedule.to_owned()),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Cores => "cores",
            Self::Storm => "storm",
            Self::Suite => "suite",
            Self::Play(name) | Self::World(name) => name,
            Self::Disk => "disk",
            Self::States => "states",
        }
    }
}

/// One run: with its ground and backend the seed decides everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What kind of run.
    pub ground: Ground,
    /// The protocol.
    pub backend: Backend,
    /// The seed.
    pub seed: u64,
}

type SuiteCase = fn();

/// The cases whose verdict is about rules and not about costs.
fn cases<P: replog::ReplicatedLog>() -> [SuiteCase; 14] {
    [
        suite::elects_one_leader::<P>,
        suite::commits_in_order::<P>,
        suite::survives_leader_crashes::<P>,
        suite::survives_power_loss_of_all::<P>,
        suite::a_minority_leader_steps_down::<P>,
        suite::diverged_logs_agree_again::<P>,
        suite::catches_up_by_log::<P>,
        suite::restarts_from_every_durable_prefix::<P>,
        suite::observers_replicate_and_never_count::<P>,
        suite::transfers_leadership::<P>,
        suite::read_barriers_are_fresh::<P>,
        suite::a_frozen_leader_is_replaced::<P>,
        suite::no_quorum_no_commit::<P>,
        suite::frames_are_cut_and_continued::<P>,
    ]
}

impl Trial {
    /// How many different seeds a ground has, if they are few.
    #[must_use]
    pub fn seeds(ground: &Ground) -> Option<u64> {
        match ground {
            Ground::Suite => Some(cases::<raft::Raft>().len() as u64),
            _ => None,
        }
    }

    /// Carries it out. The first violation, if there is one.
    #[must_use]
    pub fn run(&self) -> Option<Violation> {
        self.sized(self.size().unwrap_or(0))
    }

    /// Faults, storms, crashes or entries of the run, where one of fewer begins in the same way.
    #[must_use]
    pub fn size(&self) -> Option<u32> {
        match &self.ground {
            Ground::Cores => Some(ROUNDS),
            Ground::Storm => Some(STORMS),
            Ground::Disk => Some(super::disks::CRASHES),
            Ground::States => Some(super::states::ENTRIES),
            Ground::Suite | Ground::Play(_) | Ground::World(_) => None,
        }
    }

    /// The same with so many faults, storms, crashes or entries.
    #[must_use]
    pub fn sized(&self, size: u32) -> Option<Violation> {
        match &self.ground {
            Ground::Cores => caught(|| drop(self.backend.run(self.seed, size))),
            Ground::Storm => caught(|| drop(self.backend.storm(self.seed, size))),
            Ground::Play(name) => {
                let play = Play::named(name)?;
                caught(|| match self.backend {
                    Backend::Zab => play.run::<zab::Zab>(self.seed, |o, k| o.limits.keep_entries = k),
                    Backend::Raft => play.run::<raft::Raft>(self.seed, |o, k| o.limits.keep_entries = k),
                    Backend::Paxos => play.run::<paxos::Paxos>(self.seed, |o, k| o.limits.keep_entries = k),
                })
            }
            Ground::Disk => super::disks::run(self.seed, size),
            Ground::States => super::states::run(self.seed, size),
            Ground::World(_) => self.world(),
            Ground::Suite => {
                let cases = match self.backend {
                    Backend::Zab => cases::<zab::Zab>(),
                    Backend::Raft => cases::<raft::Raft>(),
                    Backend::Paxos => cases::<paxos::Paxos>(),
                };
                let case = usize::try_from(self.seed).ok().and_then(|seed| cases.get(seed % cases.len()))?;
                caught(case)
            }
        }
    }

    /// Whole servers and clients: the white-box checks of the run, then those of the history. A schedule that cannot be
    /// read is a violation of its own.
    fn world(&self) -> Option<Violation> {
        match self.plan()? {
            Ok(plan) => crate::run(&plan, None).violation,
            Err(e) => Some(Violation { checker: "schedule".to_owned(), text: e.to_string(), at_us: 0 }),
        }
    }

    /// The plan of a run of whole servers; other grounds have none.
    #[must_use]
    pub fn plan(&self) -> Option<Result<Plan, LoadError>> {
        let Ground::World(name) = &self.ground else { return None };
        if let Some((name, text)) = OWN.iter().find(|(own, _)| own == name) {
            let schedule = Schedule::parse(name, text).map(|schedule| schedule.perturbed(self.seed));
            return Some(schedule.map(|schedule| Plan { backend: self.backend, seed: self.seed, schedule }));
        }
        let source = match (name.as_str(), name.strip_prefix("row-").and_then(|n| n.parse().ok())) {
            ("swarm", _) => Source::Swarm,
            (_, Some(row)) => Source::Row(row),
            _ => Source::Schedule(name.to_owned()),
        };
        Some(Case { backend: self.backend, seed: self.seed, source, variant: None }.plan())
    }

    /// The words after `sim` that run it again.
    #[must_use]
    pub fn command(&self, mutant: &str) -> String {
        let ground = self.ground.name();
        format!("bugs --mutant {mutant} --on {ground} --backend {} --seed {}", self.backend.name(), self.seed)
    }
}

/// Runs `work`; its panic is the verdict of a checker or of an assertion.
fn caught(work: impl FnOnce()) -> Option<Violation> {
    let panic = catch_unwind(AssertUnwindSafe(work)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
    Some(Violation { checker: checker_of(&text), at_us: last_moment(&text), text })
}

/// The checker that speaks in a panic of the conformance cluster.
fn checker_of(text: &str) -> String {
    let head = text.lines().next().unwrap_or_default();
    let after_node = head.split(" node n").nth(1).and_then(|rest| rest.split_once(": "));
    let said = after_node.map_or(head, |(_, said)| said);
    for (mark, checker) in [
        ("agreement", "C12 agreement"),
        ("prefix", "C12 prefix"),
        ("snapshot", "C12 snapshot"),
        ("freshness", "C5 freshness"),
        ("liveness", "C14 liveness"),
        ("no leader", "C14 liveness"),
        ("not converged", "C14 liveness"),
        ("commands were not applied", "C14 liveness"),
    ] {
        if said.starts_with(mark) || (checker == "C14 liveness" && said.contains(mark)) {
            return checker.to_owned();
        }
    }
    match after_node {
        // A core's own invariant: "rule (citation): values".
        Some((_, said)) => format!("C13 {}", said.split(['(', ':']).next().unwrap_or(said).trim()),
        None => "panic".to_owned(),
    }
}

/// µs of the last line of a story.
fn last_moment(text: &str) -> u64 {
    let ms: Option<f64> =
        text.lines().next_back().and_then(|line| line.split_whitespace().next()?.parse().ok());
    ms.filter(|ms| *ms >= 0.0).map_or(0, |ms| (ms * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_told_apart() {
        for (text, checker) in [
            ("raft seed 3 node n2: agreement: 5 is …", "C12 agreement"),
            ("zab seed 3 node n2: established ≤ promised (zab-dsn11 §4.1): a", "C13 established ≤ promised"),
            ("liveness: no leader 60 s after the last heal, seed 7", "C14 liveness"),
            ("n1: leads in 3 before it is durable", "panic"),
        ] {
            assert_eq!(checker_of(text), checker, "{text}");
        }
        assert_eq!(last_moment("x\n    12.500 n1 -> n2"), 12_500);
    }
}
