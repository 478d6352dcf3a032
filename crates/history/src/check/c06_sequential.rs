//! C6: numbers of sequential nodes are never given twice, and rise with the zxid.
//!
//! Per parent, over all answered sequential creates (alone or in a multi), in the order of their zxids: the number at the
//! end of the name rises. That each is exactly the count of the children ever created is the
//! [replay](crate::replay)'s business; this holds also where the replay is in doubt.
//!
//! Not judged: parents that somebody may have deleted, since a new node of that name counts from 0 again.
//!
//! Source: reliability.md C6, zookeeper-reference 1.11.

use super::Sink;
use crate::facts::{Call, Facts};
use crate::intern::{Map, suffix_of};
use crate::model::{is_sequential, parent_of};
use crate::record::{Op, Outcome, Reply};

const NAME: &str = "C6";

pub(crate) fn check(facts: &Facts<'_>, sink: &mut Sink) {
    let mut deleted: Map<&str, ()> = Map::default();
    for (op, _) in facts.calls.iter().flat_map(Call::parts) {
        if let Op::Delete { path, .. } = op {
            deleted.insert(path, ());
        }
    }
    let mut last: Map<&str, (i64, i64, usize)> = Map::default();
    for call in facts.placed.iter().filter_map(|index| facts.calls.get(*index)) {
        for part in call.parts() {
            let (Op::Create { path: asked, mode, .. }, Some(Outcome::Ok(Reply::Created { path, .. }))) = part
            else {
                continue;
            };
            if !is_sequential(*mode) {
                continue;
            }
            let parent = parent_of(path);
            if deleted.contains_key(parent) {
                sink.skipped(NAME);
                continue;
            }
            sink.judged(NAME);
            let events = [call.invoked, call.ended];
            let Some(number) = suffix_of(path).filter(|_| path.len() == asked.len() + 10) else {
                let text =
                    format!("a sequential create of {asked} gave {path}, which has no number of ten digits");
                sink.find(NAME, text, events.to_vec());
                continue;
            };
            let before = last.insert(parent, (number, call.zxid, call.ended));
            if let Some((before, zxid, by)) = before.filter(|(before, ..)| *before >= number) {
                let text = format!(
                    "{path}, made at zxid {:#x}, has number {number}; {before} was given at {zxid:#x} already",
                    call.zxid
                );
                sink.find(NAME, text, events.into_iter().chain([by]).collect());
            }
        }
    }
}
