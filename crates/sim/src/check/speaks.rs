//! What messages say about their senders, per protocol: the only place of the checks that knows messages.

use super::fact::Claim;
use replog::{Epoch, ReplicatedLog};

/// Which rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Zab: one log, epochs with one leader each, primary order.
    Zab,
    /// Raft: one log, terms with one leader each.
    Raft,
    /// Paxos: slots, ballots that name their proposer.
    Paxos,
}

/// A protocol whose messages are understood.
pub trait Speaks: ReplicatedLog {
    /// Which rules apply.
    const FAMILY: Family;

    /// Calls `say` with everything that `message` says about its sender.
    fn claims(message: &Self::Message, say: &mut dyn FnMut(Claim<'_>));
}

const fn leads(epoch: Epoch) -> Claim<'static> {
    Claim::Leads { reign: epoch, ballot: epoch }
}

impl Speaks for zab::Zab {
    const FAMILY: Family = Family::Zab;

    // spec: zab-dsn11 §4, zookeeper-reference §7
    fn claims(message: &Self::Message, say: &mut dyn FnMut(Claim<'_>)) {
        use zab::Message as M;
        match message {
            M::LeaderInfo { epoch, .. } => say(Claim::Announces { epoch: *epoch }),
            M::AckEpoch(ack) => {
                if ack.counts {
                    say(Claim::Vote { epoch: ack.epoch });
                    say(Claim::Promise { epoch: ack.epoch });
                    say(Claim::Last { id: ack.table.last_id() });
                }
            }
            M::AckNewLeader { epoch, upto } => {
                say(Claim::Established { epoch: *epoch });
                say(Claim::Ack { epoch: *epoch, upto: *upto, counts: true });
            }
            // The leader is still in discovery: a sign of life, in no epoch.
            M::Pong { epoch: Epoch::ZERO, .. } => {}
            M::Ack { epoch, upto } | M::Pong { epoch, upto, .. } => {
                say(Claim::Ack { epoch: *epoch, upto: *upto, counts: true });
            }
            M::Diff { epoch, .. }
            | M::Trunc { epoch, .. }
            | M::Snap { epoch, .. }
            | M::Catchup { epoch, .. }
            | M::NewLeader { epoch, .. }
            | M::UpToDate { epoch, .. }
            | M::Proposal { epoch, .. }
            | M::Commit { epoch, .. }
            | M::Inform { epoch, .. }
            | M::ReadIndex { epoch, .. }
            | M::Refill { epoch } => say(leads(*epoch)),
            M::Notification(_)
            | M::FollowerInfo { .. }
            | M::Ping { .. }
            | M::ReadAsk { .. }
            | M::Resign { .. }
            | M::Fetch { .. } => {}
        }
    }
}

impl Speaks for raft::Raft {
    const FAMILY: Family = Family::Raft;

    // spec: raft fig. 2, raft-thesis §6.4
    fn claims(message: &Self::Message, say: &mut dyn FnMut(Claim<'_>)) {
        use raft::Message as M;
        match message {
            M::RequestVote { last, .. } => say(Claim::Last { id: *last }),
            M::Vote { term, granted: true } => {
                say(Claim::Vote { epoch: *term });
                say(Claim::Promise { epoch: *term });
            }
            M::AppendEntries { term, .. }
            | M::Commit { term, .. }
            | M::TimeoutNow { term }
            | M::ReadIndexReply { term, .. } => say(leads(*term)),
            M::Appended { term, matched, counts, .. } => {
                say(Claim::Ack { epoch: *term, upto: *matched, counts: *counts });
            }
            M::Vote { granted: false, .. }
            | M::PreVote { .. }
            | M::PreVoteReply { .. }
            | M::Mismatch { .. }
            | M::Stale { .. }
            | M::ReadIndex { .. }
            | M::Refetch { .. } => {}
        }
    }
}

impl Speaks for paxos::Paxos {
    const FAMILY: Family = Family::Paxos;

    // spec: paxos-simple §2.2, §3
    fn claims(message: &Self::Message, say: &mut dyn FnMut(Claim<'_>)) {
        use paxos::Message as M;
        match message {
            M::Promise { ballot, committed, held, .. } => {
                say(Claim::Promise { epoch: *ballot });
                say(Claim::Held { ballot: *ballot, committed: *committed, runs: held });
            }
            M::Accepted { ballot, upto, more, counts, .. } => {
                say(Claim::Ack { epoch: *ballot, upto: *upto, counts: *counts });
                for span in more {
                    say(Claim::AckSpan { epoch: *ballot, span: *span });
                }
            }
            M::Accept { ballot, reign, .. } | M::Decide { ballot, reign, .. } => {
                say(Claim::Leads { reign: *reign, ballot: *ballot });
            }
            // Proposes nothing: it is sent in the reign. A ballot that classic Paxos has just raised is asked for by
            // Prepare before it is durable, and may be named here as early.
            M::Heartbeat { reign, .. } => say(Claim::Leads { reign: *reign, ballot: *reign }),
            M::Query { .. }
            | M::Answer { .. }
            | M::Prepare { .. }
            | M::Reject { .. }
            | M::Alive { .. }
            | M::Fetch { .. }
            | M::Chosen { .. }
            | M::ReadAsk { .. }
            | M::ReadAt { .. }
            | M::Lead { .. }
            | M::Recall { .. } => {}
        }
    }
}
