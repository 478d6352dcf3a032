//! invariant: what must hold after every step, with its source. The simulator calls [`check`] each time.
//!
//! Cluster-wide properties (one leader per term, log matching, state machine safety) need more than one replica and
//! are checked by the simulator and the conformance suite; here is what one replica can see of them.

use crate::state::{Raft, Standing};
use alloc::format;
use alloc::string::String;
use replog::{Index, Violation};

/// The first invariant found broken.
pub(crate) fn check(raft: &Raft) -> Result<(), Violation> {
    check_log(raft)?;
    check_writes(raft)?;
    check_standing(raft)?;
    check_leader(raft)
}

fn require(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { rule, detail: detail() }) }
}

fn check_log(raft: &Raft) -> Result<(), Violation> {
    let (base, last) = (raft.log.base(), raft.log.last());
    let runs = raft.log.runs();
    let ascending = runs.iter().zip(runs.iter().skip(1)).all(|(a, b)| a.epoch < b.epoch && a.from < b.from);
    let ascending = ascending && runs.first().is_none_or(|first| first.epoch >= base.epoch);
    require(ascending, "terms never decrease along a log (raft §5.3)", || format!("{runs:?}"))?;
    require(last.epoch <= raft.term(), "no entry of a later term than the own (raft §5.1)", || {
        format!("last {last}, term {}", raft.term())
    })?;
    require(
        base.index <= raft.snapshot.index
            && raft.snapshot.index <= raft.committed
            && raft.told <= raft.committed
            && raft.committed <= last.index,
        "base ≤ snapshot ≤ committed ≤ last (raft §5.3, §7)",
        || format!("base {base}, snapshot {}, committed {}, last {last}", raft.snapshot, raft.committed),
    )?;
    let first_unsettled = raft.configs.get(1);
    require(
        raft.configs.first().is_some_and(|c| c.from <= raft.committed || c.from == Index::ZERO)
            && first_unsettled.is_none_or(|c| c.from <= last.index),
        "the configuration in force is the latest in the log (raft §6)",
        || format!("{:?}", raft.configs),
    )
}

fn check_writes(raft: &Raft) -> Result<(), Violation> {
    let pending = raft.writes.pending();
    let ascending =
        pending.iter().zip(pending.iter().skip(1)).all(|(a, b)| a.ticket < b.ticket && a.upto <= b.upto);
    let last = raft.log.last().index;
    require(
        ascending && raft.writes.durable_index() <= last && pending.back().is_none_or(|p| p.upto <= last),
        "what is called durable is in the log (protocol-traps 2.21)",
        || format!("durable {}, pending {pending:?}, last {last}", raft.writes.durable_index()),
    )?;
    let covered = pending.back().map_or(raft.writes.durable_index(), |p| p.upto);
    require(covered == last, "every entry is written or under way", || format!("{covered} of {last}"))?;
    require(
        raft.writes.is_idle() && raft.outgoing.is_empty() && raft.install.is_none(),
        "a step leaves nothing behind",
        || format!("{:?} {:?}", raft.outgoing, raft.install),
    )
}

fn check_standing(raft: &Raft) -> Result<(), Violation> {
    let standing = raft.standing;
    require((standing == Standing::Leading) == raft.lead.is_some(), "only a leader has followers", || {
        format!("{standing:?}")
    })?;
    let votes_for_self = raft.hard.voted_for == Some(raft.id);
    require(
        !matches!(standing, Standing::Running | Standing::Leading) || votes_for_self,
        "candidates and leaders voted for themselves (raft §5.2)",
        || format!("{standing:?}, voted for {:?}", raft.hard.voted_for),
    )?;
    let verified = raft.following.verified;
    require(
        verified <= raft.log.last().index,
        "what equals the leader's log is in the log (raft §5.3)",
        || format!("verified {verified}, last {}", raft.log.last()),
    )?;
    require(
        standing == Standing::Following || raft.following.forwards.is_empty(),
        "nothing is asked of a leader that is not followed",
        || format!("{standing:?}"),
    )
}

fn check_leader(raft: &Raft) -> Result<(), Violation> {
    let Some(lead) = &raft.lead else { return Ok(()) };
    let last = raft.log.last();
    require(
        raft.writes.is_term_durable(),
        "nobody leads in a term that its disk may forget (contract schedule 1)",
        || format!("term {}", raft.term()),
    )?;
    require(
        raft.log.term_at(lead.term_start) == Some(raft.term()) || lead.term_start <= raft.log.base().index,
        "a reign begins with an entry of its own (raft §8)",
        || format!("start {}", lead.term_start),
    )?;
    for peer in &lead.peers {
        require(
            peer.matched <= last.index && peer.matched < peer.next,
            "matchIndex < nextIndex (raft fig. 2)",
            || format!("{peer:?}, last {last}"),
        )?;
        require(
            peer.streaming.is_none_or(|at| at.index >= raft.log.base().index),
            "log kept for a stream (raft §7)",
            || format!("{peer:?}, base {}", raft.log.base()),
        )?;
    }
    let rounds = lead.reads.iter().zip(lead.reads.iter().skip(1));
    require(
        rounds.clone().all(|(a, b)| a.round <= b.round && a.at <= b.at),
        "barriers are confirmed in order (raft-thesis §6.4)",
        || format!("{:?}", lead.reads),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use replog::{Configuration, Effects, Epoch, Input, LogId, NodeId, ReplicatedLog, Setup, Ticket, Time};

    /// A leader of one, with its no-op committed.
    fn leader() -> Raft {
        let configuration = Configuration::of_voters([NodeId(1)]);
        let setup = Setup::fresh(NodeId(1), configuration, crate::Options::default());
        let mut out = Effects::new();
        let mut raft = Raft::open(setup, Time(0), &mut out);
        for ticket in 1..=2 {
            raft.step(Time(1), &mut Vec::new(), &mut out);
            raft.step(Time(1), &mut vec![Input::Persisted(Ticket(ticket))], &mut out);
        }
        assert_eq!(raft.committed, Index(1), "a single voter elects itself at once");
        raft
    }

    #[test]
    fn each_rule_can_be_broken() {
        type Damage = fn(&mut Raft);
        let breaks: [(&str, Damage); 8] = [
            ("no entry of a later term", |r| r.hard.promised = Epoch::ZERO),
            ("base ≤ snapshot", |r| r.committed = Index(9)),
            ("base ≤ snapshot", |r| r.told = Index(9)),
            ("the configuration in force", |r| r.configs.clear()),
            ("every entry is written", |r| r.log.append(LogId::new(Epoch::of(1), Index(2)), 1)),
            ("a step leaves nothing behind", |r| r.writes.change_hard_state()),
            ("candidates and leaders voted", |r| r.hard.voted_for = None),
            ("only a leader has followers", |r| r.standing = Standing::Following),
        ];
        assert_eq!(check(&leader()), Ok(()));
        for (rule, damage) in breaks {
            let mut raft = leader();
            damage(&mut raft);
            let found = check(&raft).map_err(|v| v.rule);
            assert!(found.is_err_and(|r| r.starts_with(rule)), "{rule}: {found:?}");
        }
    }
}
