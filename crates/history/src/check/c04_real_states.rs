//! C4: a read shows a state that there was, in the window that its header leaves.
//!
//! ```text
//!  session's last answer @ 20        read answered @ 27
//!          ├──────── the state of some zxid in here ────┤
//! ```
//!
//! With exact reads (`Header::exact_reads`, Menagerie) the window is one point, and the [replay](crate::replay) compares
//! each read in its place. Here are the others: ZooKeeper reads first and looks at its zxid afterwards, so a read may be
//! older than its header, but never older than what its session has seen. Compared are stat and content.
//!
//! Cannot see: paths on which an unknown outcome may have acted (left open).
//!
//! Source: reliability.md C4, requirement S33.

use super::Sink;
use crate::facts::{Call, Facts};
use crate::intern::{Map, Path};
use crate::model::{Node, Version, code};
use crate::record::{Op, Outcome, Reply};
use crate::replay::{Replayed, tell};

const NAME: &str = "C4";

pub(crate) fn check(facts: &Facts<'_>, replayed: &mut Replayed, sink: &mut Sink) {
    let Replayed { names: Some(names), past, .. } = replayed else { return };
    if facts.history.header.exact_reads {
        return;
    }
    let mut floors: Map<i64, i64> = Map::default();
    let mut calls: Vec<&Call<'_>> = facts.calls.iter().filter(|call| call.zxid > 0).collect();
    calls.sort_by_key(|call| call.ended);
    for call in calls {
        let floor = floors.entry(call.session).or_default();
        let from = std::mem::replace(floor, call.zxid.max(*floor));
        let (Op::Get { path, .. } | Op::Exists { path, .. } | Op::Children { path, .. }) = call.op else {
            continue;
        };
        let path: Path = names.path(path);
        let (stat, data) = match call.outcome {
            Some(Outcome::Error(code::NO_NODE)) => (None, None),
            Some(Outcome::Ok(Reply::Data { data, stat })) => (Some(stat), Some(names.content(data))),
            Some(Outcome::Ok(Reply::Stat(stat) | Reply::Children { stat, .. })) => (Some(stat), None),
            _ => continue,
        };
        let states = past.within(path, from, call.zxid);
        if states.is_empty() || states.iter().any(|state| state.doubt != 0) {
            sink.skipped(NAME);
            continue;
        }
        sink.judged(NAME);
        let shown = stat.map(|stat| Node::of(stat, data));
        let fits = |state: &Version| match (state.node, shown) {
            (None, None) => true,
            (Some(node), Some(shown)) => {
                let masked = Node { ctime: shown.ctime, mtime: shown.mtime, data: node.data, ..shown };
                let node = Node { ctime: shown.ctime, mtime: shown.mtime, ..node };
                masked == node && (shown.data.is_none() || node.data.is_none() || shown.data == node.data)
            }
            _ => false,
        };
        if !states.iter().any(fits) {
            let text = format!(
                "session {:#x} reads {} as {}; no state between zxid {from:#x} and {:#x} was that",
                call.session,
                names.text(path),
                stat.map_or("missing".into(), tell),
                call.zxid
            );
            sink.find(NAME, text, vec![call.invoked, call.ended]);
        }
    }
}
