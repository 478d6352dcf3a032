//! Operations with unknown outcomes, and ends of sessions, that left a trace: which zxid were they?
//!
//! ```text
//!  invoke set /a "17" ── unknown           a get of /a shows "17", mzxid 0x2c; nobody's answer had 0x2c
//!                                          ⇒ that set was carried out, at 0x2c
//!  session 7 falls silent                  an event says that its /lock went at 0x31
//!                                          ⇒ it ended at 0x31
//! ```
//!
//! Every zxid that shows in a stat or an event and belongs to no answered write is a trace. What can have left it: the
//! unknown operations and silent sessions whose window holds it and that fit everything that was seen of it. If one
//! remains it is settled; if none does, somebody saw a change that nobody asked for. What leaves no trace, or one that
//! fits several, stays open: the replay then doubts what it may have touched.

use crate::check::Sink;
use crate::facts::{Call, Facts};
use crate::intern::Map;
use crate::model::{is_ephemeral, is_sequential, parent_of};
use crate::record::{EventKind, Op, Outcome, Reply, Stat, What};
use std::collections::BTreeMap;

/// Something seen of a zxid that no answer had.
#[derive(Clone, Copy, Debug)]
enum Trace<'h> {
    Created { path: &'h str, owner: Option<i64>, data: Option<&'h str> },
    Set { path: &'h str, data: Option<&'h str> },
    Deleted { path: &'h str },
    ChildOf { path: &'h str },
}

/// What may have happened unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Index of the call.
    Call(usize),
    /// The session.
    End(i64),
}

/// It, and between which zxids.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspect {
    pub(crate) what: Hidden,
    pub(crate) low: i64,
    pub(crate) high: i64,
}

/// What is known of the unseen.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// By zxid.
    pub(crate) settled: Vec<(i64, Hidden)>,
    /// Paths that the settled were seen to make: with a number, if there is one.
    pub(crate) made: Map<i64, String>,
    /// What may have happened or not.
    pub(crate) open: Vec<Suspect>,
    /// Lowest zxid of any answer: what is older was there before the recording.
    pub(crate) origin: i64,
}

impl Resolved {
    /// Sessions that ended without their wish, and at which zxid.
    pub(crate) fn ends(&self) -> Vec<(i64, i64)> {
        let ends = self.settled.iter().filter_map(|(zxid, what)| match what {
            Hidden::End(session) => Some((*session, *zxid)),
            Hidden::Call(_) => None,
        });
        ends.collect()
    }
}

/// Finds out.
pub(crate) fn resolve(facts: &Facts<'_>, sink: &mut Sink) -> Resolved {
    let mut traces = Traces::default();
    traces.gather(facts);
    let suspects = suspects(facts);
    let owned = owned(facts);
    let mut resolved = Resolved { origin: traces.origin, ..Resolved::default() };
    let mut taken = vec![false; suspects.len()];
    let mut left: Vec<_> = traces
        .all
        .iter()
        .map(|(zxid, seen)| (*zxid, fitting(facts, &suspects, &owned, *zxid, &seen.0), seen))
        .collect();
    // What is settled for one trace is out of the question for all others, which may settle those.
    let mut progress = true;
    while std::mem::take(&mut progress) {
        left.retain_mut(|(zxid, fitting, seen)| {
            if fitting.len() > 1 {
                fitting.retain(|at| !taken.get(*at).copied().unwrap_or(true));
            }
            let &[only] = fitting.as_slice() else { return true };
            let Some(slot) = taken.get_mut(only).filter(|slot| !**slot) else { return true };
            *slot = true;
            progress = true;
            if let Some(suspect) = suspects.get(only) {
                resolved.settled.push((*zxid, suspect.what));
                let made = seen.0.iter().find_map(|trace| match trace {
                    Trace::Created { path, .. } => Some((*zxid, (*path).to_owned())),
                    _ => None,
                });
                resolved.made.extend(made);
            }
            false
        });
    }
    for (zxid, fitting, seen) in left {
        let free = fitting.iter().any(|at| !taken.get(*at).copied().unwrap_or(true));
        if !free {
            complain(facts, zxid, &fitting, &suspects, seen, sink);
        }
    }
    resolved.settled.sort_unstable_by_key(|(zxid, _)| *zxid);
    let open = suspects.into_iter().zip(taken).filter(|(_, taken)| !taken);
    resolved.open = open.map(|(suspect, _)| suspect).collect();
    resolved.open.sort_by_key(|suspect| suspect.low);
    resolved
}

fn complain(
    facts: &Facts<'_>,
    zxid: i64,
    fitting: &[usize],
    suspects: &[Suspect],
    (traces, events, watched): &(Vec<Trace<'_>>, Vec<usize>, bool),
    sink: &mut Sink,
) {
    let mut events = events.clone();
    let twice = fitting.first().and_then(|at| suspects.get(*at));
    if let Some(Suspect { what: Hidden::Call(call), .. }) = twice {
        let call = facts.calls.get(*call);
        events.extend(call.map(|call| call.invoked));
        let op = call.map(|call| call.op);
        let text =
            format!("one operation seems to have been carried out twice, also at zxid {zxid:#x}: {op:?}");
        return sink.find("C1", text, events);
    }
    let checker = if *watched { "C8" } else { "C4" };
    let text = format!("zxid {zxid:#x} shows a change that nobody asked for: {traces:?}");
    sink.find(checker, text, events);
}

#[derive(Default)]
struct Traces<'h> {
    origin: i64,
    answered: Map<i64, ()>,
    /// Per zxid: what was seen, by which events, and whether only watch events show it.
    all: BTreeMap<i64, (Vec<Trace<'h>>, Vec<usize>, bool)>,
}

impl<'h> Traces<'h> {
    fn gather(&mut self, facts: &Facts<'h>) {
        let answers = || facts.calls.iter().filter(|call| call.zxid > 0);
        self.origin = answers().map(|call| call.zxid).min().unwrap_or(i64::MAX);
        self.answered = answers().filter(|call| call.is_write()).map(|call| (call.zxid, ())).collect();
        for call in answers() {
            if let Some(Outcome::Ok(reply)) = call.outcome {
                self.reply(call.ended, call.op, reply);
            }
        }
        for (index, event) in facts.history.events.iter().enumerate() {
            let What::Watch { zxid, kind, path, .. } = &event.what else { continue };
            let trace = match kind {
                EventKind::Created => Trace::Created { path, owner: None, data: None },
                EventKind::Deleted => Trace::Deleted { path },
                EventKind::DataChanged => Trace::Set { path, data: None },
                EventKind::ChildrenChanged => Trace::ChildOf { path },
            };
            self.add(*zxid, index, trace, true);
        }
    }

    fn add(&mut self, zxid: i64, event: usize, trace: Trace<'h>, watched: bool) {
        if zxid > self.origin && !self.answered.contains_key(&zxid) {
            let (traces, events, only_watched) = self.all.entry(zxid).or_insert((vec![], vec![], true));
            *only_watched &= watched;
            if events.len() < 8 {
                events.push(event);
                traces.push(trace);
            }
        }
    }

    fn reply(&mut self, event: usize, op: &'h Op, reply: &'h Reply) {
        match (op, reply) {
            (Op::Get { path, .. }, Reply::Data { data, stat }) => self.stat(event, path, stat, Some(data)),
            (Op::Exists { path, .. } | Op::Set { path, .. }, Reply::Stat(stat))
            | (Op::Children { path, .. }, Reply::Children { stat, .. }) => self.stat(event, path, stat, None),
            (Op::Multi { ops }, Reply::Multi(results)) => {
                for (op, result) in ops.iter().zip(results) {
                    if let Outcome::Ok(reply) = result {
                        self.reply(event, op, reply);
                    }
                }
            }
            _ => {}
        }
    }

    fn stat(&mut self, event: usize, path: &'h str, stat: &Stat, data: Option<&'h str>) {
        let first = data.filter(|_| stat.mzxid == stat.czxid);
        let owner = Some(stat.ephemeral_owner);
        self.add(stat.czxid, event, Trace::Created { path, owner, data: first }, false);
        if stat.mzxid != stat.czxid {
            self.add(stat.mzxid, event, Trace::Set { path, data }, false);
        }
        if stat.pzxid != stat.czxid {
            self.add(stat.pzxid, event, Trace::ChildOf { path }, false);
        }
    }
}

/// Everything that may have happened without an answer.
fn suspects(facts: &Facts<'_>) -> Vec<Suspect> {
    let unknown =
        |call: &Call<'_>| call.is_write() && call.outcome.is_none() && !matches!(call.op, Op::Close);
    let calls = facts.calls.iter().enumerate().filter(|(_, call)| unknown(call));
    let calls = calls.map(|(index, call)| {
        let (low, high) = facts.window(call);
        Suspect { what: Hidden::Call(index), low, high }
    });
    let silent = facts.sessions.iter().filter(|(_, session)| session.closed_at(facts).is_none());
    let ends = silent.map(|(id, session)| {
        let told = session.expired.map_or(i64::MAX, |event| facts.asked_after(event));
        let told = session.refused_at.map_or(told, |zxid| told.min(zxid));
        Suspect { what: Hidden::End(*id), low: session.alive_at, high: told }
    });
    calls.chain(ends).collect()
}

/// The ephemerals that each session made or may have made: path, and whether a number follows.
fn owned<'h>(facts: &Facts<'h>) -> Map<i64, Vec<(&'h str, bool)>> {
    let mut owned: Map<i64, Vec<(&str, bool)>> = Map::default();
    for call in &facts.calls {
        for (op, outcome) in call.parts() {
            let Op::Create { path, mode, .. } = op else { continue };
            let made = match outcome {
                Some(Outcome::Ok(Reply::Created { path, .. })) => Some((path.as_str(), false)),
                None => Some((path.as_str(), is_sequential(*mode))),
                Some(_) => None,
            };
            if is_ephemeral(*mode) {
                owned.entry(call.session).or_default().extend(made);
            }
        }
    }
    owned
}

fn fitting(
    facts: &Facts<'_>,
    suspects: &[Suspect],
    owned: &Map<i64, Vec<(&str, bool)>>,
    zxid: i64,
    traces: &[Trace<'_>],
) -> Vec<usize> {
    let fits = |suspect: &Suspect| {
        suspect.low < zxid
            && zxid < suspect.high
            && match suspect.what {
                Hidden::Call(call) => facts
                    .calls
                    .get(call)
                    .is_some_and(|call| traces.iter().all(|trace| fits_op(call.op, call.session, trace))),
                Hidden::End(session) => {
                    let owned = owned.get(&session).map_or(&[][..], |owned| owned);
                    traces.iter().all(|trace| fits_end(owned, trace))
                }
            }
    };
    suspects.iter().enumerate().filter(|(_, suspect)| fits(suspect)).map(|(index, _)| index).collect()
}

/// Whether a path is the one that was asked for, with its number if it is to have one.
fn is_made(asked: &str, sequential: bool, found: &str) -> bool {
    match found.strip_prefix(asked) {
        Some(rest) if sequential => rest.len() >= 10 && rest.bytes().all(|byte| byte.is_ascii_digit()),
        Some(rest) => rest.is_empty(),
        None => false,
    }
}

fn fits_op(op: &Op, session: i64, trace: &Trace<'_>) -> bool {
    match (op, trace) {
        (Op::Multi { ops }, _) => ops.iter().any(|op| fits_op(op, session, trace)),
        (Op::Create { path, data, mode }, Trace::Created { path: found, owner, data: seen }) => {
            let mine = if is_ephemeral(*mode) { session } else { 0 };
            is_made(path, is_sequential(*mode), found)
                && owner.is_none_or(|owner| owner == mine)
                && seen.is_none_or(|seen| seen == data)
        }
        (Op::Set { path, data, .. }, Trace::Set { path: found, data: seen }) => {
            path == found && seen.is_none_or(|seen| seen == data)
        }
        (Op::Delete { path, .. }, Trace::Deleted { path: found }) => path == found,
        (Op::Create { path, .. } | Op::Delete { path, .. }, Trace::ChildOf { path: found }) => {
            parent_of(path) == *found
        }
        _ => false,
    }
}

fn fits_end(owned: &[(&str, bool)], trace: &Trace<'_>) -> bool {
    match trace {
        Trace::Deleted { path } => owned.iter().any(|(mine, numbered)| is_made(mine, *numbered, path)),
        Trace::ChildOf { path } => owned.iter().any(|(mine, _)| parent_of(mine) == *path),
        Trace::Created { .. } | Trace::Set { .. } => false,
    }
}
