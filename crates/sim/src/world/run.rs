//! One run: the schedule's steps under load, then everything heals and must make progress.

use super::{Event, Simulated, Sink, World};
use crate::{Backend, Plan, Report, Violation};
use bytes::Bytes;
use replog::{Phase, Role};
use std::panic::{AssertUnwindSafe, catch_unwind};
use trace::Record;

/// Carries `plan` out. Never panics: a core's broken assertion becomes [`Report::violation`]. `trace` gets a record of
/// everything that happens.
#[must_use]
pub fn run(plan: &Plan, trace: Option<&mut dyn FnMut(&Record)>) -> Report {
    match plan.backend {
        Backend::Zab => run_on::<zab::Zab>(plan, trace),
        Backend::Raft => run_on::<raft::Raft>(plan, trace),
        Backend::Paxos => run_on::<paxos::Paxos>(plan, trace),
    }
}

fn run_on<P: Simulated>(plan: &Plan, trace: Option<Sink<'_>>) -> Report {
    let mut world = World::<P>::new(plan, trace);
    let ended = catch_unwind(AssertUnwindSafe(|| world.carry_out(plan)));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        let violation = Violation {
            checker: "panic".to_owned(),
            text: text.unwrap_or_default(),
            at_us: world.now / 1000,
        };
        world.violation = Some(violation);
    }
    world.report()
}

impl<P: Simulated> World<'_, P> {
    fn carry_out(&mut self, plan: &Plan) {
        let end = plan.schedule.workload.tail_ms * 1_000_000;
        let mut number = 0_u64;
        while self.now < end {
            let until = self.now + 10_000_000;
            self.events.schedule(until, Event::Tick);
            while self.advance(until) {}
            if let Some(leader) = self.leader() {
                number += 1;
                if let Some(process) = &self.hosts[leader].process {
                    process.handle.propose(vec![Bytes::copy_from_slice(&number.to_be_bytes())]);
                }
                self.poke(leader);
            }
        }
    }

    /// The serving leader of the highest epoch, among nodes that run.
    pub(crate) fn leader(&self) -> Option<usize> {
        let serving = self.hosts.iter().enumerate().filter(|(_, h)| h.is_up()).filter_map(|(i, h)| {
            let status = h.process.as_ref()?.status;
            (status.role == Role::Leader && status.phase == Phase::Broadcast).then_some((status.epoch, i))
        });
        serving.max().map(|(_, i)| i)
    }

    fn report(self) -> Report {
        let mut figures = self.figures;
        figures.simulated_us = self.now / 1000;
        figures.message_faults += self.net.faults;
        figures.acked = self.ledger.top();
        Report { violation: self.violation, figures, digest: self.digest, ..Report::default() }
    }

    pub(crate) fn after_service(&mut self, i: usize) {
        let Some(process) = &mut self.hosts[i].process else { return };
        if process.wishes.is_none() {
            process.wishes = process.handle.take_mail();
        }
        if process.wishes.is_some() || !process.inbox.is_empty() {
            self.poke(i);
        }
    }

    pub(crate) fn disconnect_clients(&mut self, _i: usize, _told: bool) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{ClusterPlan, Schedule, Workload};

    fn plan(backend: Backend, seed: u64) -> Plan {
        let schedule = Schedule {
            name: "test".to_owned(),
            rows: Vec::new(),
            about: String::new(),
            cluster: ClusterPlan { snapshot_every: Some(40), ..ClusterPlan::default() },
            workload: Workload { tail_ms: 3000, ..Workload::default() },
            steps: Vec::new(),
            expect: crate::schedule::Expect::default(),
            exact: false,
        };
        Plan { backend, seed, schedule }
    }

    // requirement: S20
    #[test]
    fn the_same_plan_gives_the_same_events() {
        for backend in Backend::ALL {
            for seed in 0..3 {
                let (first, second) = (run(&plan(backend, seed), None), run(&plan(backend, seed), None));
                assert_eq!(first.violation, None, "{} {seed}", backend.name());
                assert_eq!(first.digest, second.digest, "{} {seed}", backend.name());
                assert_eq!(first.figures, second.figures);
                assert!(first.figures.acked > 100, "{:?}", first.figures);
            }
        }
    }
}
