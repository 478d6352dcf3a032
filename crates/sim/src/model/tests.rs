//! The small scopes hold, and the checker sees what is broken.

use super::explore::{Cut, Limits, Outcome, check};
use super::node::Lie;
use super::scope::{Modelled, Scope};
use super::steps::Steps;
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

/// Random walks with every kind of action, in two worlds at a time.
///
/// The head of print.rs: shifted clocks (and Raft's seeds with them) change no print. The head of steps.rs: nor does it
/// matter whether a step is taken or was kept, be it by another walk.
fn walks<P: Modelled>(is_textbook: bool) {
    let scope = Scope {
        is_textbook,
        crashes: 2,
        losses: 2,
        overtakes: 3,
        duplicates: 2,
        timeouts: 12,
        heartbeats: 6,
        commands: 4,
        ..Scope::calm("walk")
    };
    let kept = Steps::<P>::new(&scope);
    let taken = Steps::<P>::forgetful(&Scope { disguise: 0x3_1234_5671, ..scope });
    for seed in 0..10 {
        let (mut one, mut other) = (World::new(&kept), World::new(&taken));
        let mut rng = Rng::new(seed);
        for step in 0..400 {
            let (mut actions, mut others) = (Vec::<Action>::new(), Vec::new());
            one.actions(&kept.scope, &mut actions);
            other.actions(&taken.scope, &mut others);
            assert_eq!(actions, others, "{} seed {seed} step {step}", P::NAME);
            if actions.is_empty() {
                break;
            }
            let action = actions[rng.below(actions.len() as u64) as usize];
            one.act(action, &kept);
            other.act(action, &taken);
            assert!(one == other, "{} seed {seed} step {step}: {}", P::NAME, one.describe(action));
            assert_eq!(one.broken, None);
        }
    }
}

#[test]
fn prints_leave_out_what_has_no_future() {
    for is_textbook in [true, false] {
        walks::<zab::Zab>(is_textbook);
        walks::<raft::Raft>(is_textbook);
        walks::<paxos::Paxos>(is_textbook);
    }
}
