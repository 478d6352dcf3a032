//! The model checker finds rules that were switched off: three per protocol, each within a few thousand states.
//!
//! A process has one mutant at most, so this is a test binary of its own with a single test.
#![cfg(feature = "mutants")]

use sim::Backend;
use sim::model::{Cut, Limits, Scope, check_backend, switch_off};
use std::time::Duration;

const FOUND: [(Backend, &str); 9] = [
    (Backend::Zab, "ProposalAckBeforeDurable"),
    (Backend::Zab, "ZabOwnAckUndurable"),
    (Backend::Zab, "NewLeaderAckBeforeDurable"),
    (Backend::Raft, "AppendAckBeforeDurable"),
    (Backend::Raft, "RaftOwnAckUndurable"),
    (Backend::Raft, "VoteTwice"),
    (Backend::Paxos, "AcceptedUngated"),
    (Backend::Paxos, "PaxosOwnAckUndurable"),
    (Backend::Paxos, "PromiseTakenBack"),
];

#[test]
fn broken_cores_are_found() {
    let limits = Limits { time: Duration::from_secs(600), transitions: 1_000_000, threads: 1 };
    for (backend, mutant) in FOUND {
        switch_off(mutant).expect("a mutant of the bug bank");
        let (is_hasty, timeouts) = match backend {
            Backend::Zab => (true, 0),
            Backend::Raft => (false, 2),
            Backend::Paxos => (false, 1),
        };
        let base = Scope { is_textbook: true, is_brief: true, crashes: 1, ..Scope::calm("mutant") };
        let outcome = check_backend(backend, &Scope { is_hasty, timeouts, ..base }, limits);
        assert_eq!(outcome.cut, Some(Cut::Violation), "{} {mutant}: {outcome:?}", backend.name());
    }
}
