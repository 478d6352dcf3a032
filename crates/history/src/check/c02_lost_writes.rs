//! C2: nothing that was acknowledged is lost, nothing appears that nobody wrote.
//!
//! Judges the final reads (after `Final`) by values alone, without a zxid and without the model:
//! ```text
//!  acknowledged, never deleted by anybody  ⊆  found at the end  ⊆  acknowledged ∪ unknown
//! ```
//! * a persistent node whose creation was acknowledged, and which nobody asked to delete, is there on every server;
//! * a node that is there was asked for; its content was written by somebody;
//! * content that is there was not replaced by a write that was acknowledged and had begun after it was acknowledged.
//!
//! Cannot see: paths that the final reads leave out; nodes older than the recording (skipped).
//!
//! Source: reliability.md C2 (Jepsen's set workload).

use super::Sink;
use crate::facts::Facts;
use crate::intern::Map;
use crate::model::{code, is_ephemeral, is_sequential, parent_of};
use crate::record::{Op, Outcome, Reply};

const NAME: &str = "C2";

/// What is known of a path without looking at zxids.
#[derive(Default)]
struct Known<'h> {
    /// A persistent creation was acknowledged, by this event.
    kept: Option<usize>,
    /// Somebody asked to delete it, or it goes with a session.
    fleeting: bool,
    asked: bool,
    /// (content, asked at, acknowledged at).
    written: Vec<(&'h str, usize, Option<usize>)>,
}

pub(crate) fn check(facts: &Facts<'_>, sink: &mut Sink) {
    let Some(last) = facts.last else { return };
    let mut paths: Map<&str, Known<'_>> = Map::default();
    let mut numbered: Map<&str, Vec<&str>> = Map::default();
    for call in &facts.calls {
        let failed = match call.outcome {
            Some(Outcome::Error(_)) => true,
            Some(Outcome::Ok(Reply::Multi(all))) => {
                all.iter().any(|one| matches!(one, Outcome::Error(c) if *c != 0))
            }
            _ => false,
        };
        if failed {
            continue;
        }
        for (op, outcome) in call.parts() {
            note(&mut paths, &mut numbered, op, outcome, (call.invoked, call.ended));
        }
    }
    for call in facts.calls.iter().filter(|call| call.invoked > last) {
        let events = vec![call.invoked, call.ended];
        match (call.op, call.outcome) {
            (Op::Get { path, .. } | Op::Exists { path, .. }, Some(Outcome::Error(code::NO_NODE))) => {
                sink.judged(NAME);
                lost(&paths, path, &events, sink);
            }
            (Op::Get { path, .. }, Some(Outcome::Ok(Reply::Data { data, .. }))) => {
                sink.judged(NAME);
                content(&paths, path, data, &events, sink);
            }
            (Op::Children { path, .. }, Some(Outcome::Ok(Reply::Children { names, .. }))) => {
                sink.judged(NAME);
                listing(&paths, &numbered, path, names, &events, sink);
            }
            _ => {}
        }
    }
}

fn note<'h>(
    paths: &mut Map<&'h str, Known<'h>>,
    numbered: &mut Map<&'h str, Vec<&'h str>>,
    op: &'h Op,
    outcome: Option<&'h Outcome>,
    (invoked, ended): (usize, usize),
) {
    let acknowledged = outcome.is_some().then_some(ended);
    match op {
        Op::Create { path, data, mode } => {
            let path = match outcome {
                Some(Outcome::Ok(Reply::Created { path, .. })) => path,
                None if is_sequential(*mode) => {
                    numbered.entry(parent_of(path)).or_default().push(path);
                    return;
                }
                _ => path,
            };
            let known = paths.entry(path).or_default();
            known.asked = true;
            known.written.push((data, invoked, acknowledged));
            if is_ephemeral(*mode) {
                known.fleeting = true;
            } else if acknowledged.is_some() {
                known.kept = acknowledged;
            }
        }
        Op::Set { path, data, .. } => {
            paths.entry(path).or_default().written.push((data, invoked, acknowledged));
        }
        Op::Delete { path, .. } => paths.entry(path).or_default().fleeting = true,
        _ => {}
    }
}

fn lost(paths: &Map<&str, Known<'_>>, path: &str, events: &[usize], sink: &mut Sink) {
    if let Some(known) = paths.get(path)
        && let Some(by) = known.kept.filter(|_| !known.fleeting)
    {
        let text = format!("{path} was acknowledged, nobody deleted it, and at the end it is not there");
        sink.find(NAME, text, events.iter().copied().chain([by]).collect());
    }
}

fn content(paths: &Map<&str, Known<'_>>, path: &str, data: &str, events: &[usize], sink: &mut Sink) {
    let Some(known) = paths.get(path).filter(|known| known.asked) else { return sink.skipped(NAME) };
    let written = || known.written.iter().filter(|(content, ..)| *content == data);
    if written().next().is_none() {
        let text = format!("{path} holds {data:?} at the end, which nobody wrote");
        return sink.find(NAME, text, events.to_vec());
    }
    // The latest moment at which this content may have been written.
    let until = written().map(|(.., end)| end.unwrap_or(usize::MAX)).max().unwrap_or(usize::MAX);
    let newer = known.written.iter().find(|(_, begin, end)| end.is_some() && *begin > until);
    if let Some((content, begin, end)) = newer.filter(|_| !known.fleeting) {
        let text =
            format!("{path} holds {data:?} at the end; {content:?} was written and acknowledged after it");
        sink.find(NAME, text, events.iter().copied().chain([*begin]).chain(*end).collect());
    }
}

fn listing(
    paths: &Map<&str, Known<'_>>,
    numbered: &Map<&str, Vec<&str>>,
    parent: &str,
    names: &[String],
    events: &[usize],
    sink: &mut Sink,
) {
    let full = |name: &str| if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") };
    let found: Map<String, ()> = names.iter().map(|name| (full(name), ())).collect();
    // A parent that this history did not make may have had children before it.
    let ours = paths.get(parent).is_some_and(|known| known.kept.is_some());
    for path in names.iter().map(|name| full(name)).filter(|_| ours) {
        let made = numbered.get(parent).is_some_and(|all| all.iter().any(|asked| path.starts_with(asked)));
        if !made && !paths.get(path.as_str()).is_some_and(|known| known.asked) {
            sink.find(NAME, format!("{path} is there at the end, and nobody asked for it"), events.to_vec());
        }
    }
    for (path, known) in paths.iter().filter(|(path, _)| **path != "/" && parent_of(path) == parent) {
        if let Some(by) = known.kept.filter(|_| !known.fleeting && !found.contains_key(*path)) {
            let text = format!("{path} was acknowledged, nobody deleted it, and at the end it is not listed");
            sink.find(NAME, text, events.iter().copied().chain([by]).collect());
        }
    }
}
