//! The small scopes hold, and the checker sees what is broken.

use super::explore::{Cut, Limits, Outcome, check};
use super::node::Lie;
use super::scope::{Modelled, Scope};
use super::world::{Action, World};
use crate::Backend;
use replog::Rng;
use std::time::Duration;

fn limits(transitions: u64) -> Limits {
    Limits { time: Duration::from_secs(600), transitions, threads: 1 }
}

/// Visits all of the small scopes.
fn holds<P: Modelled>(backend: Backend) {
    for scope in Scope::small(backend) {
        let outcome = check::<P>(&scope, limits(u64::MAX));
        assert_eq!(outcome.violation, None, "{} {}", P::NAME, scope.text());
        assert_eq!(outcome.cut, None);
        assert!(
            outcome.unreached.is_empty(),
            "{} {} reaches no {:?}",
            P::NAME,
            scope.text(),
            outcome.unreached
        );
        assert!(outcome.unique > 1000, "{outcome:?}");
    }
}

// requirement: S20
#[test]
fn zab_holds_on_the_small_scopes() {
    holds::<zab::Zab>(Backend::Zab);
}

// requirement: S20
#[test]
fn raft_holds_on_the_small_scopes() {
    holds::<raft::Raft>(Backend::Raft);
}

// requirement: S20
#[test]
fn paxos_holds_on_the_small_scopes() {
    holds::<paxos::Paxos>(Backend::Paxos);
}

fn lied_to<P: Modelled>(lie: Lie, timeouts: u8) -> Outcome {
    let scope =
        Scope { is_textbook: true, is_brief: true, crashes: 1, timeouts, lie, ..Scope::calm("lied to") };
    check::<P>(&scope, limits(1_000_000))
}

/// A disk that says `Persisted` too early loses what was applied, whatever the protocol.
#[test]
fn writes_that_are_called_durable_too_early_are_found() {
    for outcome in [
        lied_to::<zab::Zab>(Lie::PersistedBeforeSync, 0),
        lied_to::<raft::Raft>(Lie::PersistedBeforeSync, 0),
        lied_to::<paxos::Paxos>(Lie::PersistedBeforeSync, 0),
    ] {
        assert_eq!(outcome.cut, Some(Cut::Violation), "{outcome:?}");
    }
}

/// A recovery that brings back the entries without the promise lets a node vote twice in a term.
#[test]
fn votes_that_are_forgotten_are_found() {
    let outcome = lied_to::<raft::Raft>(Lie::ForgottenPromise, 2);
    assert_eq!(outcome.cut, Some(Cut::Violation), "{outcome:?}");
}

/// The head of print.rs: shifted clocks (and Raft's seeds with them) change no print, on random walks with every kind of action.
fn walk<P: Modelled>(seed: u64) {
    let scope = Scope {
        is_textbook: seed.is_multiple_of(2),
        crashes: 2,
        losses: 2,
        overtakes: 3,
        duplicates: 2,
        timeouts: 12,
        heartbeats: 6,
        commands: 4,
        ..Scope::calm("walk")
    };
    let other = Scope { disguise: 0x3_1234_5671, ..scope.clone() };
    let (mut one, mut two) = (World::<P>::new(&scope), World::<P>::new(&other));
    let mut rng = Rng::new(seed);
    for step in 0..400 {
        let (mut actions, mut others) = (Vec::<Action>::new(), Vec::new());
        one.actions(&scope, &mut actions);
        two.actions(&other, &mut others);
        assert_eq!(actions, others, "{} seed {seed} step {step}", P::NAME);
        if actions.is_empty() {
            return;
        }
        let action = actions[rng.below(actions.len() as u64) as usize];
        one.act(action, &scope);
        two.act(action, &other);
        assert!(one == two, "{} seed {seed} step {step}: {}", P::NAME, one.describe(action));
        assert_eq!(one.broken, None);
    }
}

#[test]
fn prints_leave_out_what_has_no_future() {
    for seed in 0..20 {
        walk::<zab::Zab>(seed);
        walk::<raft::Raft>(seed);
        walk::<paxos::Paxos>(seed);
    }
}
