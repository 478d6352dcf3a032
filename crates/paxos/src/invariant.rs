//! Invariants that one replica can check about itself, after every step in the simulator.
//!
//! Agreement between replicas is the simulator's to check; these are the local halves of the proof.

use crate::Paxos;
use alloc::format;
use alloc::string::String;
use replog::{Index, Role, Violation};

impl Paxos {
    /// The first broken invariant.
    pub(crate) fn violation(&self) -> Option<Violation> {
        self.ballots().or_else(|| self.slots_in_order()).or_else(|| self.leadership())
    }

    fn ballots(&self) -> Option<Violation> {
        if self.promised < self.established {
            let detail = format!("promised {} < accepted {}", self.promised, self.established);
            return broken(
                "an acceptor accepts only what it has not promised away (paxos-simple §2.2 P1b)",
                detail,
            );
        }
        if self.written.promised > self.promised {
            let detail = format!("written {} > promised {}", self.written.promised, self.promised);
            return broken("a promise is never taken back (paxos-simple §2.2 P1b)", detail);
        }
        if self.written.committed > self.slots.committed() {
            let detail = format!("hint {} > chosen {}", self.written.committed, self.slots.committed());
            return broken("the commit hint never leads (contract point 6)", detail);
        }
        None
    }

    fn slots_in_order(&self) -> Option<Violation> {
        let mut end = self.slots.committed();
        for run in self.slots.held() {
            if run.from <= end || run.to < run.from {
                let detail = format!("{:?} after {end}", run);
                return broken("accepted slots are ascending and above the chosen prefix", detail);
            }
            if run.epoch > run.ballot {
                let detail = format!("{:?}", run);
                return broken(
                    "a value is accepted in no ballot before its first (paxos-simple §2.2 P2b)",
                    detail,
                );
            }
            end = run.to;
        }
        if self.slots.base().index > self.slots.committed() {
            let detail = format!("base {} > chosen {}", self.slots.base(), self.slots.committed());
            return broken("only what is chosen is purged (trap 3.4)", detail);
        }
        if self.told_committed > self.slots.committed() {
            let detail = format!("told {} > chosen {}", self.told_committed, self.slots.committed());
            return broken("commit covers only chosen slots (contract point 7)", detail);
        }
        None
    }

    fn leadership(&self) -> Option<Violation> {
        let Some(leading) = &self.leading else {
            return (self.role == Role::Leader)
                .then(|| Violation { rule: "a leader leads", detail: String::new() });
        };
        if leading.ballot.proposer != self.id.0 || self.reign.proposer != self.id.0 {
            let detail = format!("{} leads in {}", self.id, leading.ballot);
            return broken("a ballot belongs to one proposer (paxos-simple §2.5)", detail);
        }
        if self.promised < leading.ballot {
            let detail = format!("leads in {}, promised {}", leading.ballot, self.promised);
            return broken("a leader has promised its own ballot (paxos-simple §2.2)", detail);
        }
        let contiguous = self.slots.end_where(|r| r.ballot == leading.ballot);
        let damaged = !self.slots.damaged().is_empty();
        if contiguous != leading.last && !damaged {
            let detail = format!("proposed to {}, accepted to {contiguous}", leading.last);
            return broken("a leader leaves no hole (paxos-simple §3)", detail);
        }
        let open = leading.last.0.saturating_sub(self.slots.committed().0);
        if leading.own > leading.last || Index(self.slots.committed().0 + open) < leading.last {
            let detail = format!("own {} last {}", leading.own, leading.last);
            return broken("own acceptances lie among the proposals", detail);
        }
        None
    }
}

fn broken(rule: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { rule, detail })
}
