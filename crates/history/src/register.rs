//! A second opinion on C1 for single nodes: is there any order of their writes that real time and all answers allow?
//!
//! ```text
//!  configurations: (version or absent, which calls under way have taken effect)
//!  invoke ─► the call is under way
//!  return ─► each configuration lets calls under way take effect, one after another, until this one has;
//!            none left ⇒ no order explains the answers
//! ```
//!
//! C1 believes the zxids and replays; this search believes nothing but times and answers, and would find a mistake that
//! zxids and replay share. A node is taken as a register with a version: created, set (also compared and set), checked,
//! deleted, alone or in a multi that succeeded. A call without an answer may take effect at any time after it was asked
//! for, or never. Ephemeral and sequential nodes are left out; so are answers that say nothing of the node by itself (no
//! parent, children, a multi that failed).
//!
//! Source: Wing & Gong 1993, Lowe 2016 (just-in-time linearization); reliability.md C1.

use crate::check::{Finding, Sink};
use crate::facts::{Call, Facts};
use crate::model::code;
use crate::record::{CreateMode, History, Op, Outcome, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// Configurations of one node; beyond, it is given up.
const MOST: usize = 20_000;

/// What the search came to.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    /// Answers that an order explains.
    pub judged: u64,
    /// Nodes whose answers are all explained.
    pub sound: u64,
    /// Nodes with too many calls without an answer.
    pub given_up: u64,
    /// The first answer of each node that no order explains.
    pub findings: Vec<Finding>,
}

/// The version of the node, if it is there.
type State = Option<i32>;
/// The state, and which calls under way have taken effect.
type Configuration = (State, BTreeSet<usize>);

/// Searches an order for the writes of every node of its own.
#[must_use]
pub fn registers(history: &History) -> Registers {
    let facts = Facts::of(history, &mut Sink::default());
    let mut found = Registers::default();
    for (path, calls) in of_nodes(&facts) {
        match search(&facts, path, &calls) {
            Ok(judged) => {
                found.judged += judged;
                found.sound += 1;
            }
            Err(None) => found.given_up += 1,
            Err(Some(call)) => found.findings.extend(facts.calls.get(call).map(|call| Finding {
                checker: "C1",
                text: format!(
                    "no order of the writes of {path} explains {:?} to {:?}",
                    call.outcome, call.op
                ),
                events: vec![call.invoked, call.ended],
            })),
        }
    }
    found
}

/// The node that a write names.
fn named(op: &Op) -> Option<&str> {
    match op {
        Op::Create { path, .. } | Op::Set { path, .. } | Op::Delete { path, .. } | Op::Check { path, .. } => {
            Some(path)
        }
        _ => None,
    }
}

/// Per node that is a plain register: the calls that name it, in the order in which they were made.
fn of_nodes<'h>(facts: &Facts<'h>) -> BTreeMap<&'h str, Vec<usize>> {
    let mut nodes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut others: BTreeSet<&str> = BTreeSet::new();
    for (index, call) in facts.calls.iter().enumerate() {
        for (op, _) in call.parts() {
            let Some(path) = named(op) else { continue };
            if matches!(op, Op::Create { mode, .. } if *mode != CreateMode::Persistent) {
                others.insert(path);
            }
            let calls = nodes.entry(path).or_default();
            if calls.last() != Some(&index) {
                calls.push(index);
            }
        }
    }
    // A sequential node's path is longer than the one that was asked for.
    nodes.retain(|path, _| !others.iter().any(|other| path.starts_with(other)));
    nodes
}

/// Answers explained, or the call whose answer is not (`None`: given up).
fn search(facts: &Facts<'_>, path: &str, calls: &[usize]) -> Result<u64, Option<usize>> {
    let mut events: Vec<(usize, bool, usize)> = Vec::new();
    for &at in calls {
        let Some(call) = facts.calls.get(at) else { continue };
        if says_nothing(call) {
            continue;
        }
        events.push((call.invoked, false, at));
        if call.outcome.is_some() {
            events.push((call.ended, true, at));
        }
    }
    events.sort_unstable();
    let mut pending: BTreeSet<usize> = BTreeSet::new();
    let mut now: BTreeSet<Configuration> = BTreeSet::from([(None, BTreeSet::new())]);
    let mut judged = 0;
    for (_, returned, at) in events {
        if !returned {
            pending.insert(at);
            continue;
        }
        now = take_effect(facts, path, &pending, now, at).ok_or(None)?;
        pending.remove(&at);
        if now.is_empty() {
            return Err(Some(at));
        }
        judged += 1;
    }
    Ok(judged)
}

/// All configurations in which `must` has taken effect, with as few others as that may need.
fn take_effect(
    facts: &Facts<'_>,
    path: &str,
    pending: &BTreeSet<usize>,
    before: BTreeSet<Configuration>,
    must: usize,
) -> Option<BTreeSet<Configuration>> {
    let mut seen = before.clone();
    let mut left: Vec<Configuration> = before.into_iter().collect();
    let mut after = BTreeSet::new();
    while let Some((state, mut done)) = left.pop() {
        if done.remove(&must) {
            after.insert((state, done));
            continue;
        }
        for &at in pending.iter().filter(|at| !done.contains(at)) {
            let Some(next) = facts.calls.get(at).and_then(|call| step(call, path, state)) else { continue };
            let mut done = done.clone();
            done.insert(at);
            if seen.insert((next, done.clone())) {
                left.push((next, done));
            }
        }
        if seen.len() > MOST {
            return None;
        }
    }
    Some(after)
}

/// Whether the answer tells nothing of a node by itself, nor changes it: so does a multi that failed.
fn says_nothing(call: &Call<'_>) -> bool {
    match (call.op, call.outcome) {
        (Op::Multi { .. }, Some(Outcome::Ok(Reply::Multi(all)))) => {
            all.iter().any(|one| matches!(one, Outcome::Error(_)))
        }
        (Op::Multi { .. }, Some(_)) => true,
        (Op::Create { .. }, Some(Outcome::Error(error))) => *error != code::NODE_EXISTS,
        (_, Some(Outcome::Error(error))) => !matches!(*error, code::NO_NODE | code::BAD_VERSION),
        _ => false,
    }
}

/// The state after the call, if its answers fit the state before. Without an answer: if it changes anything.
fn step(call: &Call<'_>, path: &str, state: State) -> Option<State> {
    let parts = call.parts();
    let mut own = parts.into_iter().filter(|(op, _)| named(op) == Some(path));
    own.try_fold(state, |state, (op, outcome)| one(op, outcome, state))
}

fn one(op: &Op, outcome: Option<&Outcome>, state: State) -> Option<State> {
    let fits = |expected: i32| state.filter(|version| expected == -1 || expected == *version);
    match (op, outcome) {
        (Op::Create { .. }, None | Some(Outcome::Ok(_))) => state.is_none().then_some(Some(0)),
        (Op::Create { .. }, Some(Outcome::Error(_))) => state.is_some().then_some(state),
        (Op::Set { version, .. }, None) => fits(*version).map(|version| Some(version + 1)),
        (Op::Set { version, .. }, Some(Outcome::Ok(Reply::Stat(stat)))) => {
            fits(*version).filter(|version| stat.version == version + 1).map(|version| Some(version + 1))
        }
        (Op::Delete { version, .. }, None | Some(Outcome::Ok(_))) => fits(*version).map(|_| None),
        (Op::Check { version, .. }, None | Some(Outcome::Ok(_))) => fits(*version).map(|_| state),
        (Op::Set { version, .. } | Op::Delete { version, .. }, Some(Outcome::Error(error))) => {
            match (*error, state) {
                (code::NO_NODE, None) => Some(state),
                (code::BAD_VERSION, Some(_)) => fits(*version).is_none().then_some(state),
                _ => None,
            }
        }
        _ => None,
    }
}
