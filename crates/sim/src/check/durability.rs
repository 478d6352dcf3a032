//! C16 durability order: what leaves a node about itself is what its disk would say after a power cut.
//!
//! ```text
//!  node:    write t7 ─────────── durable t7 ─┐
//!  message: ack(upto 9, after t7) ───────────┴─► leaves: the durable image must hold 9 now
//!                                                └─► is heard: it must still hold it, and the very entry that
//!                                                    the leader who is going to count it has there
//! ```
//!
//! The gate itself (`replog::Outbox`) is not asked: images are made from writes and completions alone (`logs.rs`).
//!
//! A gated message may leave late, after a newer epoch overwrote what it speaks of; that equals a slow network, since
//! whoever promised the newer epoch told its leader about the older entries. So a claim about an epoch below the durable
//! promise is not judged.
// spec: contract-schedules §1, §4, §5, §13; reliability.md §4 rules 5, 7; protocol-traps 1.9, 2.5, 2.6, 3.1, 3.2

use super::commit::Commits;
use super::election::Leaders;
use super::fact::{Claim, Event, Fact, Verdict, require};
use super::logs::{Image, Logs, NodeLog};
use super::speaks::Family;
use replog::{Epoch, Index, NodeId};

const RULE: &str = "C16 durability order";
const COUNTED: &str = "C16 counted acks";
const PROMISE: &str = "C16 promises are complete";

/// Looks at what is said and heard.
///
/// # Errors
/// See the module.
pub(super) fn see(
    family: Family,
    logs: &Logs,
    leaders: &Leaders,
    commits: &Commits,
    event: &Event<'_>,
) -> Verdict {
    match event.fact {
        Fact::Said { to, claim } => {
            let Some(log) = logs.of(event.node) else { return Ok(()) };
            let about = Said { node: event.node, to, log, disk: &log.durable, chosen: commits.top() };
            about.judge(family, claim)
        }
        Fact::Heard { from, claim: Claim::Ack { epoch, upto, counts: true } } => {
            heard(logs, leaders, event.node, from, epoch, upto)
        }
        _ => Ok(()),
    }
}

struct Said<'a> {
    node: NodeId,
    to: NodeId,
    log: &'a NodeLog,
    disk: &'a Image,
    /// Known committed somewhere.
    chosen: Index,
}

impl Said<'_> {
    fn judge(&self, family: Family, claim: Claim<'_>) -> Verdict {
        let hard = self.disk.hard;
        match claim {
            Claim::Vote { epoch } => {
                let given = family != Family::Raft || hard.voted_for == Some(self.to);
                self.durable(claim, hard.promised > epoch || (hard.promised == epoch && given))
            }
            Claim::Promise { epoch } => self.durable(claim, hard.promised >= epoch),
            Claim::Established { epoch } => {
                self.durable(claim, hard.established >= epoch || hard.promised > epoch)
            }
            Claim::Last { id } => self.durable(claim, self.disk.holds(id) || hard.promised > id.epoch),
            Claim::Ack { counts: false, .. } | Claim::Announces { .. } | Claim::Leads { .. } => Ok(()),
            Claim::Ack { epoch, upto, counts: true } if family == Family::Paxos => {
                self.durable(claim, hard.promised > epoch || self.accepted(epoch, upto))
            }
            Claim::Ack { epoch, upto, counts: true } => {
                self.durable(claim, hard.promised > epoch || self.disk.last().index >= upto)
            }
            Claim::AckSpan { epoch, span } => {
                let both = self.accepted(epoch, span.from) && self.accepted(epoch, span.to);
                self.durable(claim, hard.promised > epoch || both)
            }
            Claim::Held { ballot, committed, runs } => self.complete(ballot, committed, runs),
        }
    }

    fn durable(&self, claim: Claim<'_>, holds: bool) -> Verdict {
        require(holds, RULE, || {
            format!(
                "{} tells {} {claim:?}; on its disk are {:?}, base {}, last {}",
                self.node,
                self.to,
                self.disk.hard,
                self.disk.base,
                self.disk.last()
            )
        })
    }

    /// Whether `index` is accepted in `ballot`, or chosen.
    fn accepted(&self, ballot: Epoch, index: Index) -> bool {
        index <= self.disk.base.index
            || self.disk.at(index).is_some_and(|s| s.ballot >= ballot || index <= self.chosen)
    }

    /// A promise tells of everything accepted below its ballot, with the ballot of acceptance.
    ///
    /// It may leave late (its link was full or its sender starved): what was learned since the promise was made, as
    /// chosen, lies on the disk with an older ballot and is not in it.
    // spec: paxos-simple §2.2 phase 1 (b); contract-schedules §9
    fn complete(&self, ballot: Epoch, committed: Index, runs: &[paxos::Run]) -> Verdict {
        if self.disk.hard.promised > ballot {
            return Ok(());
        }
        let made = self.log.promised_by(ballot);
        let mut runs = runs.iter().peekable();
        let accepted = self.disk.above(committed).filter(|(_, s)| s.ballot < ballot && s.written <= made);
        for (index, slot) in accepted {
            while runs.peek().is_some_and(|r| r.to < index) {
                runs.next();
            }
            let told = runs.peek().filter(|r| r.from <= index);
            let right = told
                .is_some_and(|r| r.ballot >= slot.ballot && (r.epoch, r.ballot) >= (slot.epoch, slot.ballot));
            require(right, PROMISE, || {
                let (node, to) = (self.node, self.to);
                format!(
                    "{node} promises {ballot} to {to}; slot {index} is {slot:?} on its disk, and {told:?} is told"
                )
            })?;
        }
        Ok(())
    }
}

/// An ack reaches the leader who counts it: the sender's disk holds now what the leader has there.
fn heard(logs: &Logs, leaders: &Leaders, leader: NodeId, from: NodeId, epoch: Epoch, upto: Index) -> Verdict {
    if leaders.reign(leader) != Some(epoch) {
        return Ok(());
    }
    let (Some(mine), Some(theirs)) = (logs.of(leader), logs.of(from)) else { return Ok(()) };
    if theirs.forgetful || theirs.durable.hard.promised > epoch {
        return Ok(());
    }
    let Some(slot) = mine.written.at(upto) else { return Ok(()) };
    let equal =
        upto <= theirs.durable.base.index || theirs.durable.at(upto).is_some_and(|s| s.epoch == slot.epoch);
    require(equal, COUNTED, || {
        let found = theirs.durable.at(upto);
        format!(
            "{leader} hears that {from} holds {upto} of epoch {epoch}: {slot:?}; {found:?} would survive a power cut"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Disk, entry, event, hard, status};
    use super::*;
    use replog::{LogId, LogOp, Phase, Role, Span};

    fn say(family: Family, disk: &Disk, claim: Claim<'_>) -> Verdict {
        let said = event(1, 1, Fact::Said { to: NodeId(2), claim });
        see(family, &disk.logs, &Leaders::new(family), &Commits::default(), &said)
    }

    /// Every claim is false before the write is durable and true after.
    // requirement: S25
    #[test]
    fn no_claim_leaves_before_its_fsync() {
        let epoch = Epoch::of(6);
        let span = Span { from: Index(1), to: Index(2) };
        let ack = Claim::Ack { epoch, upto: Index(2), counts: true };
        let cases = [
            (Family::Raft, Claim::Vote { epoch }),
            (Family::Zab, Claim::Vote { epoch }),
            (Family::Paxos, Claim::Promise { epoch }),
            (Family::Zab, Claim::Established { epoch }),
            (Family::Raft, Claim::Last { id: LogId::new(epoch, Index(2)) }),
            (Family::Raft, ack),
            (Family::Zab, ack),
            (Family::Paxos, ack),
            (Family::Paxos, Claim::AckSpan { epoch, span }),
        ];
        for (family, claim) in cases {
            let mut disk = Disk::new(1);
            let mut state = hard(6, Some(2));
            if let LogOp::HardState(h) = &mut state {
                h.established = epoch;
            }
            disk.write(1, &[state, LogOp::Write(vec![entry(6, 1, "a"), entry(6, 2, "b")])]);
            let broken = say(family, &disk, claim).unwrap_err();
            assert_eq!(broken.checker, RULE, "{family:?} {claim:?}");
            disk.sync(1, 1);
            assert_eq!(say(family, &disk, claim), Ok(()), "{family:?} {claim:?}");
        }
        let disk = Disk::new(1);
        assert_eq!(say(Family::Raft, &disk, Claim::Ack { epoch, upto: Index(9), counts: false }), Ok(()));
    }

    #[test]
    fn a_vote_names_its_candidate() {
        let mut disk = Disk::new(1);
        disk.write(1, &[hard(6, Some(3))]);
        disk.sync(1, 1);
        assert!(say(Family::Raft, &disk, Claim::Vote { epoch: Epoch::of(6) }).is_err(), "n3 has it");
        assert_eq!(
            say(Family::Raft, &disk, Claim::Vote { epoch: Epoch::of(5) }),
            Ok(()),
            "late, and harmless"
        );
    }

    #[test]
    fn a_promise_tells_of_everything_accepted() {
        let mut disk = Disk::new(1);
        disk.write(1, &[hard(7, None), LogOp::Write(vec![entry(5, 1, "a"), entry(6, 2, "b")])]);
        disk.sync(1, 1);
        let run = |epoch, from, to| paxos::Run {
            from: Index(from),
            to: Index(to),
            epoch: Epoch::of(epoch),
            ballot: Epoch::of(epoch),
        };
        let promise = |committed, runs: &[paxos::Run]| {
            say(Family::Paxos, &disk, Claim::Held { ballot: Epoch::of(7), committed: Index(committed), runs })
        };
        assert_eq!(promise(0, &[run(5, 1, 1), run(6, 2, 2)]), Ok(()));
        assert_eq!(promise(1, &[run(6, 2, 2)]), Ok(()), "what is below the prefix is not told");
        assert_eq!(promise(0, &[run(5, 1, 1)]).unwrap_err().checker, PROMISE);
        assert_eq!(promise(0, &[run(5, 1, 2)]).unwrap_err().checker, PROMISE, "an old label on a new value");
        assert!(promise(0, &[]).is_err());
    }

    #[test]
    fn what_a_leader_counts_would_survive_a_power_cut() {
        let mut disk = Disk::new(1);
        disk.start(2);
        let ops = [LogOp::Write(vec![entry(6, 1, "a")])];
        disk.write_as(1, 1, &ops);
        let mut leaders = Leaders::new(Family::Raft);
        let (before, after) =
            (status(Role::Electing, Phase::Discovery, 6, 0), status(Role::Leader, Phase::Broadcast, 6, 0));
        leaders.see(&event(1, 1, Fact::Stepped { before: &before, after: &after })).unwrap();
        let claim = Claim::Ack { epoch: Epoch::of(6), upto: Index(1), counts: true };
        let ack = event(1, 1, Fact::Heard { from: NodeId(2), claim });
        let judge = |disk: &Disk| see(Family::Raft, &disk.logs, &leaders, &Commits::default(), &ack);
        assert_eq!(judge(&disk).unwrap_err().checker, COUNTED, "nothing there");
        disk.write_as(2, 1, &[LogOp::Write(vec![entry(5, 1, "z")])]);
        disk.sync(2, 1);
        assert!(judge(&disk).is_err(), "something else there");
        disk.write_as(2, 2, &ops);
        assert!(judge(&disk).is_err(), "not durable");
        disk.sync(2, 2);
        assert_eq!(judge(&disk), Ok(()));
    }
}
