//! Shrinking: from a failing plan to a small one that fails in the same way.
//!
//! ```text
//!  plan ─► fewer steps (ddmin) ─► fewer clients, lower rate, fewer voters ─► shorter times ─┐
//!   ▲                                                                                      │ until nothing
//!   └──────────────────────────────────────────────────────────────────────────────────────┘ helps any more
//! ```
//!
//! A candidate is taken if the same checker fails (for panics: the same message, figures aside). Candidates are tried
//! in a fixed order and a run is deterministic, so the same plan shrinks to the same plan. The number of runs is
//! bounded; the best so far is returned.

use crate::schedule::{Action, Schedule, Step, Trigger};
use crate::{Plan, Violation};
use serde::{Deserialize, Serialize};

/// Runs a plan and says what it broke. Must be deterministic.
pub type Check<'a> = dyn Fn(&Plan) -> Option<Violation> + 'a;

/// A small failing plan, as it is written to a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shrunk {
    /// The seed.
    pub seed: u64,
    /// The protocol.
    pub backend: crate::Backend,
    /// Commit of the code that failed.
    pub commit: String,
    /// The rule that was broken.
    pub checker: String,
    /// In words.
    pub text: String,
    /// The schedule.
    pub schedule: Schedule,
}

impl Shrunk {
    /// The plan in it.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan { backend: self.backend, seed: self.seed, schedule: self.schedule.clone() }
    }

    /// As a file: what `sim replay --plan` reads.
    ///
    /// # Errors
    /// If it cannot be written as TOML, which would be a bug.
    pub fn to_toml(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|e| e.to_string())
    }
}

/// What kind of failure it is: shrinking does not wander from one to another.
pub(crate) fn kind(v: &Violation) -> String {
    if v.checker != "panic" {
        return v.checker.clone();
    }
    let first = v.text.lines().next().unwrap_or_default();
    first.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Shrinks a plan that fails with `found`, in at most `attempts` runs.
#[must_use]
pub fn shrink(plan: &Plan, found: &Violation, attempts: u32, check: &Check<'_>) -> (Plan, Violation) {
    let mut work =
        Work { best: plan.clone(), violation: found.clone(), kind: kind(found), left: attempts, check };
    loop {
        let before = work.best.clone();
        work.steps();
        work.sizes();
        work.times();
        if work.best == before || work.left == 0 {
            return (work.best, work.violation);
        }
    }
}

struct Work<'a> {
    best: Plan,
    violation: Violation,
    kind: String,
    left: u32,
    check: &'a Check<'a>,
}

impl Work<'_> {
    /// Takes the candidate if it fails in the same way.
    fn take(&mut self, schedule: Schedule) -> bool {
        if self.left == 0 || schedule == self.best.schedule || schedule.check().is_err() {
            return false;
        }
        self.left -= 1;
        let candidate = Plan { schedule, ..self.best.clone() };
        match (self.check)(&candidate) {
            Some(v) if kind(&v) == self.kind => {
                self.best = candidate;
                self.violation = v;
                true
            }
            _ => false,
        }
    }

    /// One change, if it helps.
    fn change(&mut self, how: impl Fn(&mut Schedule)) -> bool {
        let mut schedule = self.best.schedule.clone();
        how(&mut schedule);
        self.take(schedule)
    }

    /// Zeller's ddmin, by complements: chunks of steps are left out, halves first.
    fn steps(&mut self) {
        let mut chunk = self.best.schedule.steps.len() / 2;
        while chunk > 0 {
            let mut from = 0;
            while from < self.best.schedule.steps.len() {
                let to = (from + chunk).min(self.best.schedule.steps.len());
                let without = |s: &mut Schedule| leave_out(&mut s.steps, from, to);
                if !self.change(without) {
                    from = to;
                }
            }
            chunk /= 2;
        }
    }

    fn sizes(&mut self) {
        for clients in [1, 2, 3, 5] {
            if self.best.schedule.workload.clients.is_none_or(|c| c > clients)
                && self.change(|s| s.workload.clients = Some(clients))
            {
                break;
            }
        }
        for rate in [5, 20, 50] {
            if self.best.schedule.workload.rate.is_none_or(|r| r > rate)
                && self.change(|s| s.workload.rate = Some(rate))
            {
                break;
            }
        }
        for voters in [1, 2, 3, 5] {
            if self.best.schedule.cluster.voters.is_none_or(|v| v > voters)
                && self.change(|s| s.cluster.voters = Some(voters))
            {
                break;
            }
        }
        if self.best.schedule.cluster.observers != Some(0) {
            self.change(|s| s.cluster.observers = Some(0));
        }
        for switches in self.best.schedule.cluster.switches.fewer() {
            if self.change(|s| s.cluster.switches = switches.clone()) {
                break;
            }
        }
        if self.best.schedule.cluster.drift_per_mille != Some(0) {
            self.change(|s| s.cluster.drift_per_mille = Some(0));
        }
        if self.best.schedule.cluster.jitter_us != Some(0) {
            self.change(|s| s.cluster.jitter_us = Some(0));
        }
        if self.best.schedule.cluster.snapshot_every.is_some() {
            self.change(|s| s.cluster.snapshot_every = None);
        }
    }

    fn times(&mut self) {
        while self.best.schedule.workload.tail_ms > 100 && self.change(|s| s.workload.tail_ms /= 2) {}
        for n in 0..self.best.schedule.steps.len() {
            let step = |how: fn(&mut Step) -> bool| {
                move |s: &mut Schedule| {
                    if let Some(step) = s.steps.get_mut(n) {
                        how(step);
                    }
                }
            };
            self.change(step(no_wait));
            while self.change(step(half_wait)) {}
            while self.change(step(half_length)) {}
        }
    }
}

/// Leaves out `from..to`; the step behind keeps its time by waiting for those before it as well.
fn leave_out(steps: &mut Vec<Step>, from: usize, to: usize) {
    let gone: Vec<Step> = steps.drain(from..to).collect();
    let waited: u64 = gone.iter().map(|s| if let Trigger::After(ms) = s.when { ms } else { 0 }).sum();
    let began = gone.iter().rev().find_map(|s| if let Trigger::At(ms) = s.when { Some(ms) } else { None });
    let Some(next) = steps.get_mut(from) else { return };
    if let Trigger::After(ms) = next.when {
        next.when = match began {
            Some(at) if from == 0 => Trigger::At(at + waited + ms),
            _ => Trigger::After(waited + ms),
        };
    }
}

fn no_wait(step: &mut Step) -> bool {
    let waits = !matches!(step.when, Trigger::At(_) | Trigger::After(0));
    if waits {
        step.when = Trigger::After(0);
    }
    waits
}

const fn half_wait(step: &mut Step) -> bool {
    match &mut step.when {
        Trigger::At(ms) | Trigger::After(ms) if *ms > 10 => {
            *ms = if *ms > 100 { *ms / 200 * 100 } else { *ms / 2 };
            true
        }
        Trigger::Committed(n) | Trigger::LagOver(n) if *n > 1 => {
            *n /= 2;
            true
        }
        _ => false,
    }
}

const fn half_length(step: &mut Step) -> bool {
    match &mut step.act {
        Action::StallDisk { ms, .. } | Action::StopClients { ms, .. } | Action::SlowReaders { ms, .. }
            if *ms > 50 =>
        {
            *ms /= 2;
            true
        }
        Action::CrashAtWrite { operations, .. } if *operations > 1 => {
            *operations /= 2;
            true
        }
        Action::DropClients { count } | Action::KillClients { count } if *count > 1 => {
            *count /= 2;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, swarm};
    use std::cell::Cell;

    /// A bug that needs a crash and, later, a heal.
    fn crash_then_heal(plan: &Plan) -> Option<Violation> {
        let steps = &plan.schedule.steps;
        let crash = steps.iter().position(|s| matches!(s.act, Action::Crash { .. }))?;
        let heal = steps.iter().rposition(|s| matches!(s.act, Action::Heal {}))?;
        let checker = "C13 log matching".to_owned();
        (crash < heal).then(|| Violation { checker, text: format!("after {} steps", steps.len()), at_us: 0 })
    }

    fn failing() -> (Plan, Violation) {
        (0..)
            .map(|seed| Plan { backend: Backend::Raft, seed, schedule: swarm::draw(seed) })
            .filter(|p| p.schedule.steps.len() > 20)
            .find_map(|p| crash_then_heal(&p).map(|v| (p, v)))
            .unwrap()
    }

    #[test]
    fn only_what_matters_remains() {
        // requirement: S27
        let (plan, found) = failing();
        let runs = Cell::new(0);
        let check = |p: &Plan| {
            runs.set(runs.get() + 1);
            crash_then_heal(p)
        };
        let (small, v) = shrink(&plan, &found, 400, &check);
        assert_eq!(small.schedule.steps.len(), 2, "{}", small.schedule);
        assert_eq!(v.text, "after 2 steps");
        assert_eq!(small.schedule.workload.clients, Some(1));
        assert_eq!(small.schedule.cluster.voters, Some(1));
        assert!(runs.get() <= 400);
        assert_eq!(shrink(&plan, &found, 400, &check).0, small, "deterministic");
    }

    #[test]
    fn attempts_are_bounded_and_other_failures_are_not_taken() {
        let (plan, found) = failing();
        let runs = Cell::new(0);
        let other = |_: &Plan| {
            runs.set(runs.get() + 1);
            Some(Violation { checker: "C14".into(), ..Violation::default() })
        };
        let (same, _) = shrink(&plan, &found, 30, &other);
        assert_eq!((same, runs.get()), (plan, 30));
    }

    #[test]
    fn a_shrunken_plan_survives_its_file() {
        let (plan, found) = failing();
        let shrunk = Shrunk {
            seed: plan.seed,
            backend: plan.backend,
            commit: "0123abc".into(),
            checker: found.checker,
            text: found.text,
            schedule: plan.schedule.clone(),
        };
        let again: Shrunk = toml::from_str(&shrunk.to_toml().unwrap()).unwrap();
        assert_eq!(again.plan(), plan);
    }
}
