//! A server whose log lost acknowledged entries does not vote until it has caught up, however often it restarts.
//!
//! Found by the simulator (`sim replay 8 --backend zab`): the gap that proved the loss was cut away at the first start.

#![allow(clippy::unwrap_used)] // a test that panics has failed

use raft::{Message, Raft};
use replog::{
    Body, Configuration, Entry, Epoch, Frame, HardState, Index, Input, LogId, LogOp, NodeId, Replica, Setup,
    Stamp, Time,
};

/// n1 starts with entries up to `last` and the hint that up to `hint` is committed; n2 asks for its vote in term 7.
/// Whether n1 grants it, and the hint that it writes.
fn asked(last: u64, hint: u64) -> (bool, Option<Index>) {
    let epoch = Epoch::of(1);
    let entry =
        |i| Entry { id: LogId::new(epoch, Index(i)), ballot: epoch, stamp: Stamp(0), body: Body::Noop };
    let members = Configuration::of_voters([1, 2, 3].map(NodeId));
    let fresh = Setup::fresh(NodeId(1), members, raft::Options::default());
    let hard_state = HardState { promised: epoch, committed: Index(hint), ..HardState::default() };
    let entries = (1..=last).map(|i| entry(i).meta()).collect();
    let mut replica = Replica::<Raft>::open(Setup { hard_state, entries, ..fresh }, 256 << 10, Time(0));
    replica.set_link(NodeId(2), true);
    replica.step(Time(1));
    let (term, last) = (Epoch::of(7), LogId::new(Epoch::of(6), Index(200)));
    let message = Message::RequestVote { term, last, transfer: true };
    replica.push(Input::Message { from: NodeId(2), message, entries: Vec::new() });
    replica.step(Time(2));
    let writes = replica.take_writes();
    let written = writes.iter().flat_map(|w| &w.ops).rev().find_map(|op| match op {
        LogOp::HardState(hard) => Some(hard.committed),
        _ => None,
    });
    if let Some(last) = writes.last() {
        replica.persisted(last.ticket);
        replica.step(Time(3));
    }
    let mut frames: Vec<Frame<Message>> = Vec::new();
    replica.drain(NodeId(2), u64::MAX, &mut frames);
    let granted = frames.iter().any(|f| matches!(f.message, Message::Vote { granted: true, .. }));
    (granted, written)
}

// requirement: S26
#[test]
fn a_log_that_ends_below_its_hint_gives_no_vote_and_keeps_the_proof() {
    assert_eq!(asked(127, 127), (true, Some(Index(127))), "a whole log votes");
    assert_eq!(asked(25, 127), (false, Some(Index(127))), "25 is all that is left of 127");
}
