//! The core's own invariants, checked after every step in tests and in the simulator.
//!
//! Each rule is named with its source; the first one found broken is reported with the values that break it. They
//! are about one replica; what holds between replicas (agreement, total order, primary order) is for the checkers
//! of the conformance suite and the simulator.

use crate::Zab;
use crate::state::{FollowerStage, LeaderStage, LearnerStage, State};
use alloc::format;
use alloc::string::String;
use replog::Violation;

/// Checks every rule.
///
/// # Errors
/// The first rule found broken.
pub fn check(zab: &Zab) -> Result<(), Violation> {
    positions(zab)?;
    match &zab.state {
        State::Looking(_) => Ok(()),
        State::Following(_) => following(zab),
        State::Leading(_) => leading(zab),
    }
}

fn rule(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { rule, detail: detail() }) }
}

fn positions(z: &Zab) -> Result<(), Violation> {
    let (base, last) = (z.log.base(), z.log.last());
    rule(z.hard.established <= z.hard.promised, "established ≤ promised (zab-dsn11 §4.1)", || {
        format!("established {} promised {}", z.hard.established, z.hard.promised)
    })?;
    rule(z.log.is_ordered(), "epochs ascend along a log (zab-dsn11 §3)", || format!("{:?}", z.log))?;
    rule(
        base.index <= z.committed && z.committed <= last.index,
        "base ≤ committed ≤ last (contract point 7)",
        || format!("base {base} committed {} last {last}", z.committed),
    )?;
    rule(z.told <= z.committed, "the driver is told what is committed (contract point 7)", || {
        format!("told {} committed {}", z.told, z.committed)
    })?;
    rule(
        z.hard.committed <= z.committed || !z.may_vote,
        "the commit hint never leads (contract point 3)",
        || format!("hint {} committed {}", z.hard.committed, z.committed),
    )?;
    rule(z.durable_index <= last.index, "what is durable is in the log", || {
        format!("durable {} last {last}", z.durable_index)
    })?;
    rule(
        z.durable <= z.ticket && z.work == crate::state::Work::default(),
        "a step leaves nothing behind",
        || format!("durable {:?} ticket {:?} work {:?}", z.durable, z.ticket, z.work),
    )
}

fn following(z: &Zab) -> Result<(), Violation> {
    let State::Following(f) = &z.state else { return Ok(()) };
    rule(f.leader != z.id, "nobody follows itself", || format!("{}", z.id))?;
    let bound = !z.counts() || f.stage < FollowerStage::Promised || z.hard.promised >= f.epoch;
    rule(bound, "a voter acts in no epoch that it has not promised (zab-dsn11 §4.1)", || {
        format!("epoch {} promised {}", f.epoch, z.hard.promised)
    })?;
    let (matched, last) = (f.matched, z.log.last().index);
    rule(
        matched <= last && (f.stage < FollowerStage::Synced || matched == last),
        "the log is a prefix of the leader's (zab-dsn11 §4.2)",
        || format!("matched {matched} last {last} {:?}", f.stage),
    )?;
    rule(
        f.stage < FollowerStage::Synced || z.hard.established >= f.epoch,
        "NEWLEADER is acknowledged with the epoch established (trap 1.9)",
        || format!("epoch {} established {}", f.epoch, z.hard.established),
    )
}

fn leading(z: &Zab) -> Result<(), Violation> {
    let State::Leading(l) = &z.state else { return Ok(()) };
    let last = z.log.last();
    rule(z.counts() && z.damaged.is_empty(), "only a whole voter leads (trap 1.5)", || {
        format!("damaged {:?}", z.damaged)
    })?;
    rule(
        l.stage < LeaderStage::Collecting || (z.durable >= l.promise_ticket && z.hard.promised == l.epoch),
        "a leader's epoch is durable before it is announced (trap 1.8)",
        || format!("epoch {} promised {} durable {:?}", l.epoch, z.hard.promised, z.durable),
    )?;
    rule(
        l.stage < LeaderStage::Syncing || z.hard.established == l.epoch,
        "a leader in phase 2 has established its epoch (zab-dsn11 §4.2)",
        || format!("epoch {} established {}", l.epoch, z.hard.established),
    )?;
    for (id, x) in &l.learners {
        rule(
            x.stage < LearnerStage::Syncing || (x.acked <= x.sent && x.sent <= last.index),
            "a learner acknowledges what it was sent (zab-dsn11 §4.3)",
            || format!("{id} acked {} sent {} last {last}", x.acked, x.sent),
        )?;
        rule(
            // An observer may know of a commit of which a leader learns only in phase 2.
            !x.observes || l.stage < LeaderStage::Broadcasting || x.sent <= z.committed,
            "observers get what is committed (zookeeper-reference §7.6)",
            || format!("{id} sent {} committed {}", x.sent, z.committed),
        )?;
    }
    Ok(())
}
