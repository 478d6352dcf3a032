//! White-box checks (C12 to C16): they watch every node while the world runs, and end the run at the first broken rule.
//!
//! ```text
//!  world ─► watch.rs ─► Event ─┬─► logs.rs          what each disk holds (C16 recovery)
//!             │                ├─► election.rs      one leader per epoch, in one life
//!         speaks.rs            ├─► epochs.rs        acted in only once durable
//!   (what messages say)        ├─► votes.rs         one vote per epoch, ballots never go down
//!                              ├─► matching.rs      an id is one entry with one history; made by its leader only
//!                              ├─► chosen.rs        agreement, a durable quorum, primary order
//!                              ├─► completeness.rs  a leader holds what was chosen
//!                              ├─► commit.rs        commit index and applies are monotonic
//!                              ├─► durability.rs    C16: nothing said that a power cut would make a lie
//!                              ├─► agreement.rs     C12: equal zxid, equal state
//!                              ├─► resources.rs     C15: bounds
//!                              └─► liveness.rs      C14: no epochs without a cause
//! ```
//!
//! They believe nothing that a node computes about itself or others: images of disks are made from writes and
//! completions, leaders from what they say, quorums from images. Each costs a few look-ups per event.

mod agreement;
mod chosen;
mod commit;
mod completeness;
mod durability;
mod election;
mod epochs;
mod fact;
mod liveness;
mod logs;
mod matching;
mod resources;
mod speaks;
#[cfg(test)]
mod testing;
mod votes;
mod watch;

pub use agreement::Agreement;
pub use chosen::Chosen;
pub use commit::Commits;
pub use election::Leaders;
pub use fact::{Broken, Claim, Event, Fact, Load, Verdict};
pub use liveness::{EPOCHS_PER_HOUR, Quiet};
pub use logs::{Image, Logs, NodeLog, Slot};
pub use matching::Matching;
pub use resources::Bounds;
pub use speaks::{Family, Speaks};
pub use votes::Votes;
pub use watch::Watch;

use crate::Violation;

/// All white-box checks of one run.
#[derive(Clone, Debug)]
pub struct Checks {
    family: Family,
    logs: Logs,
    leaders: Leaders,
    votes: Votes,
    matching: Matching,
    chosen: Chosen,
    commits: Commits,
    agreement: Agreement,
    quiet: Option<Quiet>,
    bounds: Option<Bounds>,
}

impl Checks {
    /// For one family of protocols. Without `quiet` and `bounds`, C14 and C15 are not checked.
    #[must_use]
    pub fn new(family: Family, quiet: Option<Quiet>, bounds: Option<Bounds>) -> Self {
        Self {
            family,
            logs: Logs::default(),
            leaders: Leaders::new(family),
            votes: Votes::default(),
            matching: Matching::new(family),
            chosen: Chosen::new(family),
            commits: Commits::default(),
            agreement: Agreement::default(),
            quiet,
            bounds,
        }
    }

    /// Reigns so far.
    #[must_use]
    pub fn reigns(&self) -> u64 {
        self.leaders.reigns()
    }

    /// `event` has just happened.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn see(&mut self, event: &Event<'_>) -> Result<(), Violation> {
        self.judge(event).map_err(|broken| broken.at(event.at_us))
    }

    fn judge(&mut self, event: &Event<'_>) -> Verdict {
        self.logs.follow(event)?;
        if let Some(quiet) = &mut self.quiet {
            quiet.see(event)?;
        }
        if self.leaders.see(event)?
            && let Some(epoch) = event.fact.epoch()
        {
            completeness::reign_began(&self.logs, &self.chosen, epoch, event)?;
        }
        match event.fact {
            Fact::Said { .. } => {
                epochs::see(&self.logs, event)?;
                self.votes.see(event)?;
                durability::see(self.family, &self.logs, &self.leaders, &self.commits, event)
            }
            Fact::Heard { .. } => {
                durability::see(self.family, &self.logs, &self.leaders, &self.commits, event)
            }
            Fact::Wrote { .. } => self.matching.see(&self.logs, &self.leaders, event),
            Fact::Applied { .. } => {
                self.commits.see(event)?;
                let (logs, leaders) = (&self.logs, &self.leaders);
                self.chosen.see(logs, event, |id| completeness::first_applied(logs, leaders, id))
            }
            Fact::Started { members, .. } => {
                self.chosen.started(members);
                self.commits.see(event)
            }
            Fact::Stepped { .. } | Fact::Installed { .. } => self.commits.see(event),
            Fact::State { .. } | Fact::Snapshot { .. } => self.agreement.see(event),
            Fact::Load { load, calm } => {
                let Some(bounds) = &self.bounds else { return Ok(()) };
                let log = self.logs.of(event.node).map(|log| &log.written);
                let log_entries = log.map_or(0, |l| l.last().index.0 - l.base.index.0);
                let load = Load { log_entries, ..load };
                resources::see(bounds, &Event { fact: Fact::Load { load, calm }, ..*event })
            }
            Fact::Replaced => self.votes.see(event),
            Fact::Reported { .. }
            | Fact::Durable { .. }
            | Fact::Link { .. }
            | Fact::Disturbed
            | Fact::Crashed { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{entry, event, hard};
    use super::*;
    use replog::{Configuration, Epoch, HardState, Index, LogId, LogOp, NodeId, Phase, Role, Ticket};

    struct Run {
        checks: Checks,
        members: Configuration,
    }

    impl Run {
        fn see(&mut self, node: u32, life: u32, fact: Fact<'_>) -> Result<(), Violation> {
            self.checks.see(&event(node, life, fact))
        }

        fn write(&mut self, node: u32, ticket: u64, ops: &[LogOp], sync: bool) -> Result<(), Violation> {
            self.see(node, 1, Fact::Wrote { ticket: Ticket(ticket), ops })?;
            if sync { self.see(node, 1, Fact::Durable { ticket: Ticket(ticket) }) } else { Ok(()) }
        }

        fn start(&mut self, node: u32, life: u32) {
            let members = self.members.clone();
            let (hard, base, snapshot) = (HardState::default(), LogId::ZERO, LogId::ZERO);
            let members = Some(&members);
            let fact = Fact::Started { hard, base, snapshot, entries: &[], whole: true, members };
            self.see(node, life, fact).unwrap();
        }
    }

    /// Three Raft nodes: n1 won term 2, n2's and its own vote are durable.
    fn elected() -> Run {
        let members = Configuration::of_voters([1, 2, 3].map(NodeId));
        let mut run = Run { checks: Checks::new(Family::Raft, Some(Quiet::new(0)), None), members };
        for node in 1..=3 {
            run.start(node, 1);
        }
        run.write(1, 1, &[hard(2, Some(1))], true).unwrap();
        run.write(2, 1, &[hard(2, Some(1))], true).unwrap();
        let vote = Claim::Vote { epoch: Epoch::of(2) };
        run.see(2, 1, Fact::Said { to: NodeId(1), claim: vote }).unwrap();
        let before = testing::status(Role::Electing, Phase::Discovery, 2, 0);
        let after = testing::status(Role::Leader, Phase::Sync, 2, 0);
        run.see(1, 1, Fact::Stepped { before: &before, after: &after }).unwrap();
        run
    }

    /// A write travels: leader, follower, ack, applied twice. Every check looks, none objects.
    // requirement: S28
    #[test]
    fn a_clean_run_passes() {
        let mut run = elected();
        let ops = [LogOp::Write(vec![entry(2, 1, "a")])];
        let claim = |epoch| Claim::Leads { reign: epoch, ballot: epoch };
        run.write(1, 2, &ops, true).unwrap();
        run.see(1, 1, Fact::Said { to: NodeId(2), claim: claim(Epoch::of(2)) }).unwrap();
        run.write(2, 2, &ops, true).unwrap();
        let ack = Claim::Ack { epoch: Epoch::of(2), upto: Index(1), counts: true };
        run.see(2, 1, Fact::Said { to: NodeId(1), claim: ack }).unwrap();
        run.see(1, 1, Fact::Heard { from: NodeId(2), claim: ack }).unwrap();
        for node in [1, 2] {
            run.see(node, 1, Fact::Applied { entries: &[entry(2, 1, "a")] }).unwrap();
            run.see(node, 1, Fact::State { index: Index(1), zxid: 1, digest: 5 }).unwrap();
        }
        assert_eq!(run.checks.reigns(), 1);
    }

    /// The same with one step wrong each; each is named.
    #[test]
    fn each_wrong_step_is_named() {
        let ops = [LogOp::Write(vec![entry(2, 1, "a")])];
        let ack = Claim::Ack { epoch: Epoch::of(2), upto: Index(1), counts: true };
        let mut run = elected();
        run.write(2, 2, &ops, false).unwrap_err();

        let mut run = elected();
        run.write(1, 2, &ops, true).unwrap();
        run.write(2, 2, &ops, false).unwrap();
        let found = run.see(2, 1, Fact::Said { to: NodeId(1), claim: ack }).unwrap_err();
        assert_eq!(found.checker, "C16 durability order");
        let found = run.see(1, 1, Fact::Applied { entries: &[entry(2, 1, "a")] }).unwrap_err();
        assert_eq!(found.checker, "C13 chosen by a quorum");

        let mut run = elected();
        let vote = Claim::Vote { epoch: Epoch::of(2) };
        let found = run.see(2, 1, Fact::Said { to: NodeId(3), claim: vote }).unwrap_err();
        assert_eq!(found.checker, "C13 vote uniqueness");
        let epoch = Epoch::of(3);
        let claim = Claim::Leads { reign: epoch, ballot: epoch };
        let found = run.see(3, 1, Fact::Said { to: NodeId(1), claim }).unwrap_err();
        assert_eq!(found.checker, "C13 epoch durability");
    }
}
