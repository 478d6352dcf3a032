//! C13 leader completeness: who leads holds everything that was chosen before.
//!
//! Checked from both sides: when a reign begins, against what was applied anywhere; and when something of an older
//! epoch is applied for the first time later (its quorum was complete before, only nobody knew), against the log of who
//! leads by then. One lookup each: by log matching the entries below are equal too. Paxos has no such induction; there
//! every entry is looked up when it is first applied, and the topmost when the reign begins.
// spec: raft §5.4 fig. 3 leader completeness; zab-dsn11 §4 (leader has the history of a quorum); paxos-simple §3

use super::chosen::Chosen;
use super::election::Leaders;
use super::fact::{Event, Verdict, require};
use super::logs::Logs;
use replog::{Epoch, LogId, NodeId};

const RULE: &str = "C13 leader completeness";

/// The reign of `epoch` began at this event.
///
/// # Errors
/// If its leader lacks what was chosen before it.
// "Before" is an order of ballots, not of time: 1. a quorum promises 3.2, but n2 is far behind and has to catch up before
// it may propose; 2. a quorum promises 4.1 as well, and n1 gets 1350 chosen; 3. n2 has caught up, and leads 3.2 without
// 1350. Whatever it proposes is refused by whoever promised 4.1.
pub(super) fn reign_began(logs: &Logs, chosen: &Chosen, epoch: Epoch, event: &Event<'_>) -> Verdict {
    holds(logs, event.node, chosen.top_below(epoch))
}

/// `id` was applied for the first time.
///
/// # Errors
/// If the leader of a later epoch lacks it.
pub(super) fn first_applied(logs: &Logs, leaders: &Leaders, id: LogId) -> Verdict {
    match leaders.newest() {
        Some((epoch, leader)) if epoch > id.epoch => holds(logs, leader, id),
        _ => Ok(()),
    }
}

fn holds(logs: &Logs, leader: NodeId, id: LogId) -> Verdict {
    let Some(log) = logs.of(leader) else { return Ok(()) };
    require(log.written.holds(id), RULE, || {
        let (at, last) = (log.written.at(id.index), log.written.last());
        format!(
            "{leader} leads without {id}, which was chosen before; it has {at:?} there, its log ends at {last}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::speaks::Family;
    use super::super::testing::{Disk, entry, event, leads};
    use super::*;
    use crate::check::fact::Fact;
    use replog::LogOp;

    #[test]
    fn a_leader_holds_what_was_chosen() {
        let mut disk = Disk::new(1);
        disk.start(2);
        let ops = [LogOp::Write(vec![entry(3, 1, "a")])];
        disk.write_as(1, 1, &ops);
        let mut chosen = Chosen::new(Family::Raft);
        let entries = [entry(3, 1, "a")];
        chosen.see(&disk.logs, &event(1, 1, Fact::Applied { entries: &entries }), |_| Ok(())).unwrap();
        let began =
            |node, round| reign_began(&disk.logs, &chosen, Epoch::of(round), &leads(node, 1, round, 0));
        assert_eq!(began(1, 4), Ok(()));
        let broken = began(2, 4).unwrap_err();
        assert!(broken.text.contains("n2 leads without 3:1"), "{}", broken.text);
        assert_eq!(began(2, 2), Ok(()), "it won epoch 2 and was overtaken before it knew");
    }

    #[test]
    fn what_turns_out_to_be_chosen_lies_in_the_later_leaders_log() {
        use super::super::testing::status;
        use replog::{Index, Phase, Role};
        let mut disk = Disk::new(1);
        disk.start(2);
        disk.write_as(1, 1, &[LogOp::Write(vec![entry(3, 1, "a")])]);
        let mut leaders = Leaders::new(Family::Raft);
        let (before, after) =
            (status(Role::Electing, Phase::Discovery, 4, 0), status(Role::Leader, Phase::Sync, 4, 0));
        leaders.see(&event(2, 1, Fact::Stepped { before: &before, after: &after })).unwrap();
        let id = LogId::new(Epoch::of(3), Index(1));
        assert!(first_applied(&disk.logs, &leaders, id).is_err());
        disk.write_as(2, 1, &[LogOp::Write(vec![entry(3, 1, "a")])]);
        assert_eq!(first_applied(&disk.logs, &leaders, id), Ok(()));
    }
}
