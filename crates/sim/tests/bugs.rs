//! The bug bank in small: some rules, switched off, are seen by their stored runs, and the same runs are clean without.
//! `sim bugs` does it for all of them.

#![cfg(feature = "mutants")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use sim::bugs::{Bank, Bug, Hunt, Outcome, hunt, verify};
use std::time::Duration;

/// A few of each crate, whose runs take no time.
const HANDFUL: [&str; 8] = [
    "AckBeforeFsync",
    "SyncCommitsAll",
    "ProposalAckBeforeDurable",
    "VoteTwice",
    "WalSyncSkipped",
    "BoundIsLicence",
    "NothingReproposed",
    "PromiseWithoutPrefix",
];

// One test: at most one mutant is on in a process.
#[test]
fn stored_runs_see_their_mutant_and_nothing_without_it() {
    let bank = Bank::load().expect("the bank can be read");
    for name in HANDFUL {
        let bug = Bug::named(name).expect(name);
        let entry = bank.entry(name).expect(name);
        let mut outcome = verify(bug, &entry.trial());
        if matches!(outcome, Outcome::Missed(_)) {
            // A change of behaviour has moved what the stored run meets.
            outcome = hunt(
                bug,
                &bug.grounds(),
                &Hunt { budget: Duration::from_secs(60), trials: 3000, threads: 2 },
            );
        }
        assert!(matches!(outcome, Outcome::Found(_)), "{name}: {outcome:?}");
    }
}

#[test]
fn names_are_unique_and_the_bank_knows_no_other() {
    let mut names: Vec<&str> = Bug::all().map(|b| b.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 45, "{count} mutants");
    for entry in Bank::load().expect("the bank can be read").bugs {
        assert!(Bug::named(&entry.mutant).is_some(), "{} is no mutant", entry.mutant);
    }
}
