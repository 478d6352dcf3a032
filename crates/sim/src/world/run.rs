//! One run: the schedule's steps under load, then everything heals and must make progress, then everything is read.
//!
//! ```text
//!  start ─► steps, each at its moment ─► tail ─► heal all ─► every client commits (C14) ─► replicas agree ─► final reads
//!  └──────────── safety under faults ────────┘  └───────────────────── liveness ─────────────────────────────────────┘
//! ```

use super::targets::Since;
use super::{Simulated, Sink, World};
use crate::schedule::{Expect, Step, Trigger};
use crate::{Backend, Plan, Report, Violation};
use history::{Header, Op, What};
use std::panic::{AssertUnwindSafe, catch_unwind};
use trace::Record;
use wal::MemDisk;

/// A trigger that does not come within so many Tₑ is given up.
const PATIENCE_TE: u64 = 20;
/// Tₑ within which every client has to commit after the heal, unless the schedule says otherwise.
const COMMIT_TE: f64 = 20.0;
/// Tₑ within which all replicas have to hold the same state once nobody writes.
const CONVERGE_TE: u64 = 20;
const US: u64 = 1_000;

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
        let violation =
            Violation { checker: "panic".to_owned(), text: text.unwrap_or_default(), at_us: world.now / US };
        world.violation = Some(violation);
    }
    world.report(plan)
}

impl<P: Simulated> World<'_, P> {
    fn carry_out(&mut self, plan: &Plan) {
        let expect = plan.schedule.expectation(plan.backend.name(), self.settings.variant);
        for i in 0..self.hosts.len() {
            self.start(i);
        }
        for _ in 0..self.settings.clients {
            self.add_client(None);
        }
        self.clients[0].wishes.found();
        let mut since = self.since();
        for (place, step) in plan.schedule.steps.iter().enumerate() {
            let came = self.wait_for(step, &since);
            self.first_step.get_or_insert(self.now);
            if self.violation.is_some() {
                return;
            }
            if !came || !self.act(&step.act) {
                self.skipped.push(place);
            }
            since = self.since();
        }
        self.first_step.get_or_insert(self.now);
        self.run_until(self.now + self.settings.tail);
        self.heal_all();
        self.live(&expect);
        for observer in &mut self.observers {
            if let Err(violation) = observer.on_end(self.now / US)
                && self.violation.is_none()
            {
                self.violation = Some(violation);
            }
        }
    }

    fn run_until(&mut self, until: u64) {
        while self.advance(until) {}
    }

    /// Runs until `done`, at most until `until`; whether it came.
    fn run_while(&mut self, until: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            if !self.advance(until) {
                return self.violation.is_none() && done(self);
            }
        }
    }

    /// Waits for a step's moment; false if it does not come.
    fn wait_for(&mut self, step: &Step, since: &Since) -> bool {
        match step.when {
            Trigger::At(ms) => self.run_until(self.now.max(ms * 1_000_000)),
            Trigger::After(ms) => self.run_until(since.at + ms * 1_000_000),
            _ => {
                let until = self.now + PATIENCE_TE * self.settings.election;
                return self.run_while(until, |w| w.is_time(&step.when, since));
            }
        }
        true
    }

    // ---- the second phase ----------------------------------------------------------------------------------

    /// Every fault ends: links, disks, clocks; everybody runs again. A directory that is beyond use is replaced by an
    /// empty one, whose node does not vote, as an operator would; but never so many that no quorum is left.
    fn heal_all(&mut self) {
        if self.violation.is_some() {
            return;
        }
        self.heal();
        for i in 0..self.hosts.len() {
            self.mend_disk(i);
            self.hosts[i].clock.set_rate(self.now, 1000);
            self.poke(i);
        }
        for i in 0..self.hosts.len() {
            // The first start may meet the last of the disk's armed failures.
            if !self.start(i) && !self.start(i) && self.violation.is_none() {
                // A majority of the voters must hold what they held.
                let voters = self.settings.voters as usize;
                let kept = self.hosts.iter().take(voters).filter(|h| h.may_vote && h.id != self.hosts[i].id);
                let spare = i >= voters || kept.count() > voters / 2;
                if spare {
                    self.hosts[i].disk = MemDisk::new();
                    self.hosts[i].may_vote = false;
                    self.tell(i, super::Happening::DiskReplaced);
                    self.start(i);
                }
            }
        }
        for client in &mut self.clients {
            client.slow_until = 0;
        }
        self.healed_at = Some(self.now);
        self.trace_fault("healed");
    }

    fn live(&mut self, expect: &Expect) {
        let te = self.settings.election;
        let quorum = self.voting() > self.settings.voters as usize / 2;
        let asked = expect.safety_only.is_none() && quorum;
        let bound = (expect.commit_within_te.unwrap_or(COMMIT_TE) * te as f64) as u64;
        let healed = self.now;
        if asked {
            let what = What::Healed;
            self.history.events.push(history::Event { at_us: healed / US, client: 0, what });
        } else {
            self.record_fault("everything is healed that can be; no progress is asked for".to_owned());
        }
        for client in self.clients.iter_mut().filter(|c| !c.is_dead()) {
            client.probe = true;
        }
        let all =
            |w: &Self| w.clients.iter().all(|c| c.is_dead() || c.acked_at.is_some_and(|at| at >= healed));
        let committed = self.run_while(healed + bound.max(1), all);
        if self.violation.is_some() {
            return;
        }
        let owed = asked && self.voting() > self.settings.voters as usize / 2;
        self.figures.recovery_te = (committed || owed).then(|| (self.now - healed) as f64 / te as f64);
        if !committed {
            if owed {
                let without =
                    self.clients.iter().filter(|c| !c.is_dead() && c.acked_at.is_none_or(|at| at < healed));
                let ids: Vec<u32> = without.map(|c| c.id).collect();
                let text = format!(
                    "clients {ids:?} have committed nothing {:.1} Te after everything healed\n{}",
                    bound as f64 / te as f64,
                    self.standing()
                );
                self.violate("C14 liveness", text);
            }
            return;
        }
        self.converge(asked);
        if self.violation.is_none() {
            self.read_everything(asked);
        }
    }

    /// Nobody writes any more: all replicas must come to hold the same.
    fn converge(&mut self, asked: bool) {
        for client in &mut self.clients {
            client.quiet = true;
            client.wishes.first.clear();
        }
        let until = self.now + CONVERGE_TE * self.settings.election;
        let same = |w: &Self| w.clients.iter().all(super::client::Client::is_idle) && w.is_converged();
        if !self.run_while(until, same) && asked && self.violation.is_none() {
            let text = format!("replicas differ long after everything healed\n{}", self.standing());
            self.violate("C14 convergence", text);
        }
    }

    /// Whether every process that runs has applied everything that any has.
    fn is_converged(&self) -> bool {
        let top = self.ledger.top();
        self.hosts.iter().flat_map(|h| &h.process).all(|p| p.applied.index.0 == top)
    }

    /// A reader on every server: sync, then everything there is.
    fn read_everything(&mut self, asked: bool) {
        self.history.events.push(history::Event { at_us: self.now / US, client: 0, what: What::Final });
        let first = self.clients.len();
        for server in 0..self.hosts.len() {
            if self.hosts[server].process.is_none() {
                continue;
            }
            let c = self.add_client(Some(server));
            let children = |path: &str| Op::Children { path: path.to_owned(), watch: false };
            self.clients[c].wishes.first = vec![children("/"), Op::Sync { path: "/".to_owned() }];
        }
        let until = self.now + CONVERGE_TE * self.settings.election;
        let read = |w: &Self| w.clients[first..].iter().all(super::client::Client::is_done);
        if !self.run_while(until, read) && asked && self.violation.is_none() {
            self.violate("C14 final reads", format!("not all servers answer\n{}", self.standing()));
        }
    }

    /// A final reader has seen a node's children: they are next.
    pub(crate) fn read_children(&mut self, c: usize, path: &str, names: &[String]) {
        let mut names: Vec<&String> = names.iter().collect();
        names.sort();
        for name in names {
            let path = format!("{}/{name}", if path == "/" { "" } else { path });
            let first = &mut self.clients[c].wishes.first;
            if path.starts_with("/zookeeper") {
                continue;
            }
            if path.matches('/').count() < 2 {
                first.push(Op::Children { path: path.clone(), watch: false });
            }
            first.push(Op::Get { path, watch: false });
        }
    }

    /// How things stand, in words.
    fn standing(&self) -> String {
        let mut lines = Vec::new();
        for host in &self.hosts {
            lines.push(match &host.process {
                Some(p) => {
                    format!("{}: {:?}, applied {}, links {:?}", host.id, p.status, p.applied, p.linked())
                }
                None => format!("{}: down", host.id),
            });
        }
        lines.join("\n")
    }

    // ---- figures -------------------------------------------------------------------------------------------

    /// A write of this client was acknowledged.
    pub(crate) fn acked(&mut self, c: usize) {
        self.clients[c].acked_at = Some(self.now);
        self.clients[c].probe = false;
        self.figures.acked += 1;
        if let Some(first) = self.first_step {
            if self.healed_at.is_none() {
                self.figures.acked_during += 1;
            }
            let gap = self.now - self.last_ack.max(first);
            self.longest_gap = self.longest_gap.max(gap);
        }
        self.last_ack = self.now;
    }

    /// Client 0 tells of a fault.
    pub(crate) fn record_fault(&mut self, text: String) {
        self.history.events.push(history::Event {
            at_us: self.now / US,
            client: 0,
            what: What::Fault { text },
        });
    }

    fn report(mut self, plan: &Plan) -> Report {
        let te = self.settings.election as f64;
        self.figures.simulated_us = self.now / US;
        self.figures.message_faults += self.net.faults;
        self.figures.longest_gap_te = self.longest_gap as f64 / te;
        self.history.header = Header {
            format: history::FORMAT.to_owned(),
            system: format!("menagerie {}", plan.backend.name()),
            seed: Some(plan.seed),
            commit: None,
            exact_reads: true,
            strict_sync: true,
            tick_ms: u64::from(super::process::TICK_MS),
            election_ms: self.figures.election_ms,
        };
        Report {
            violation: self.violation,
            history: self.history,
            figures: self.figures,
            skipped: self.skipped,
            digest: self.digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Action, ClusterPlan, CrashKind, Schedule, Target, Workload};

    fn plan(backend: Backend, seed: u64, acts: &[Action]) -> Plan {
        let steps = acts.iter().map(|act| Step { when: Trigger::After(700), act: act.clone() }).collect();
        let schedule = Schedule {
            name: "test".to_owned(),
            rows: Vec::new(),
            about: String::new(),
            cluster: ClusterPlan { snapshot_every: Some(40), ..ClusterPlan::default() },
            workload: Workload { tail_ms: 1500, ..Workload::default() },
            steps,
            expect: Expect::default(),
            exact: false,
        };
        Plan { backend, seed, schedule }
    }

    fn acts() -> Vec<Action> {
        let leader = Target::Leader;
        vec![
            Action::Crash { node: leader, how: CrashKind::Torn },
            Action::Isolate { node: leader },
            Action::Restart { node: Target::Down },
            Action::Heal {},
            Action::Noise { loss: 20, duplicate: 20, reorder: 20 },
            Action::DropClients { count: 2 },
            Action::Pause { node: Target::Any },
            Action::StopClients { count: 1, ms: 500 },
            Action::Heal {},
            Action::Transfer {},
            Action::Stop { node: leader },
            Action::CrashAtWrite { node: leader, operations: 5, how: CrashKind::Power },
        ]
    }

    // requirement: S20
    #[test]
    fn the_same_plan_gives_the_same_run() {
        for backend in Backend::ALL {
            for seed in 0..2 {
                let plan = plan(backend, seed, &acts());
                let (first, second) = (run(&plan, None), run(&plan, None));
                let name = backend.name();
                assert_eq!(first.violation, None, "{name} {seed}");
                assert_eq!(first.digest, second.digest, "{name} {seed}");
                assert_eq!(first.figures, second.figures, "{name} {seed}");
                assert_eq!(first.history, second.history, "{name} {seed}");
                assert!(first.figures.acked > 20, "{:?}", first.figures);
            }
        }
    }
}
