//! C3: one session sees one history: answers in order, time never runs backwards, also across servers.
//!
//! 1. Answers come in the order of the questions ([`Facts::of`] looks).
//! 2. zxids of a session's answers never decrease, whichever server gives them; a server that a client reconnects to
//!    is not behind what the client has seen.
//! 3. After an event with zxid z a connection answers with z or more.
//! 4. Whatever the headers say: a node that a session has seen at mzxid m is not seen with a lower one later, nor
//!    with one below the session's own write (read your writes).
//!
//! Cannot see: time running backwards between two sessions of one client, which ZooKeeper does not promise.
//!
//! Source: reliability.md C3, requirements S4, S5; Terry et al. 1994 (session guarantees).

use super::Sink;
use crate::facts::{Call, Facts};
use crate::intern::Map;
use crate::record::{Op, Outcome, Reply, Stat, What};

const NAME: &str = "C3";

/// What a session has seen so far.
#[derive(Default)]
struct Seen<'h> {
    zxid: i64,
    /// Event that showed it.
    by: usize,
    /// Highest czxid, mzxid, pzxid of each path, and by which event.
    nodes: Map<&'h str, ([i64; 3], usize)>,
}

pub(crate) fn check(facts: &Facts<'_>, sink: &mut Sink) {
    let mut sessions: Map<i64, Seen<'_>> = Map::default();
    let mut floors: Vec<i64> = facts.connections.iter().map(|connection| connection.seen).collect();
    for (index, event) in facts.history.events.iter().enumerate() {
        let connection = facts.connection_of.get(index).copied().flatten();
        let floor = connection.and_then(|connection| floors.get_mut(connection));
        match &event.what {
            What::Watch { zxid, .. } => {
                if let Some(floor) = floor {
                    *floor = (*floor).max(*zxid);
                }
            }
            What::Return { zxid, .. } if *zxid > 0 => {
                let Some(call) = facts.call(index) else { continue };
                let seen = sessions.entry(call.session).or_default();
                let floor = floor.map_or(0, |floor| *floor);
                order(index, call, seen, floor, sink);
                nodes(index, call, seen, sink);
            }
            _ => {}
        }
    }
}

fn order(index: usize, call: &Call<'_>, seen: &mut Seen<'_>, floor: i64, sink: &mut Sink) {
    sink.judged(NAME);
    if call.zxid < seen.zxid {
        let text = format!(
            "session {:#x} got an answer at zxid {:#x} after one at {:#x}: time runs backwards",
            call.session, call.zxid, seen.zxid
        );
        sink.find(NAME, text, vec![seen.by, call.invoked, index]);
    } else if call.zxid < floor {
        let text = format!(
            "session {:#x} got an answer at zxid {:#x} from a server that had accepted it with {floor:#x} seen",
            call.session, call.zxid
        );
        sink.find(NAME, text, vec![call.invoked, index]);
    }
    if call.zxid >= seen.zxid {
        (seen.zxid, seen.by) = (call.zxid, index);
    }
}

fn nodes<'h>(index: usize, call: &Call<'h>, seen: &mut Seen<'h>, sink: &mut Sink) {
    let mut look = |path: &'h str, stat: &Stat, all: bool| {
        let now = if all { [stat.czxid, stat.mzxid, stat.pzxid] } else { [0, stat.mzxid, 0] };
        let (before, by) = seen.nodes.entry(path).or_insert(([0; 3], index));
        let named = ["czxid", "mzxid", "pzxid"].iter().zip(before.iter().zip(now));
        for (name, (before, now)) in named.filter(|(_, (before, now))| *now != 0 && now < before) {
            let text = format!(
                "session {:#x} sees {path} with {name} {now:#x} after it had seen or made {before:#x}",
                call.session
            );
            sink.find(NAME, text, vec![*by, call.invoked, index]);
        }
        for (before, now) in before.iter_mut().zip(now) {
            *before = now.max(*before);
        }
        *by = index;
    };
    match (call.op, call.outcome) {
        (Op::Get { path, .. }, Some(Outcome::Ok(Reply::Data { stat, .. })))
        | (Op::Exists { path, .. } | Op::Set { path, .. }, Some(Outcome::Ok(Reply::Stat(stat))))
        | (Op::Children { path, .. }, Some(Outcome::Ok(Reply::Children { stat, .. }))) => {
            look(path, stat, true)
        }
        (Op::Create { .. }, Some(Outcome::Ok(Reply::Created { path, .. }))) => {
            look(path, &Stat { mzxid: call.zxid, ..Stat::default() }, false);
        }
        _ => {}
    }
}
