//! C11: a lock has one holder at a time, and an item of a queue is had once. The clients are those of [`crate::recipe`].
//!
//! ```text
//!  zxid     0x21 shows 7, 8 ── 0x22 work of 7 ── 0x25 shows 8 ── 0x29 work of 8 ── …
//!  holder          7               7                 8               8          never falls
//! ```
//!
//! 1. **Mutual exclusion, with fencing.** The lowest ticket of the lock is what a state shows, or what did fenced work at
//!    its zxid. From zxid to zxid it never falls: who was the holder is gone, before the next one is.
//! 2. **A queue.** No item is deleted twice; numbers are not given again (C6), so whoever deleted it has it alone.
//!
//! By the clients' own clocks two may hold the lock at once: one that is paused, or cut off, believes in its ticket until
//! it hears that its session is over. No service can prevent that, work that is fenced is safe from it. Such overlaps
//! are counted ([`Checked::overlaps`](super::Checked)) and reported as expected.
//!
//! A barrier is one watch: C8. Not judged: work without an answer (C1 settles whether it was done).
//!
//! Source: reliability.md C11; ZooKeeper recipes; Kleppmann, How to do distributed locking (fencing tokens), 2016.

use super::Sink;
use crate::facts::{Call, Facts};
use crate::intern::{Map, suffix_of};
use crate::recipe::{LOCK, QUEUE, fence};
use crate::record::{Op, Outcome, Reply};

const NAME: &str = "C11";

pub(crate) fn check(facts: &Facts<'_>, sink: &mut Sink) {
    exclusion(facts, sink);
    items(facts, sink);
    sink.checked.overlaps = overlaps(facts);
}

/// Who holds the lock, as one answer tells: zxid of the state, number of the ticket.
fn holder(call: &Call<'_>, exact_reads: bool) -> Option<(i64, i64)> {
    match (call.op, call.outcome?) {
        (Op::Children { path, .. }, Outcome::Ok(Reply::Children { names, stat })) if path == LOCK => {
            // What was read is at least as new as its last child: the header may be newer than what was read.
            let zxid = if exact_reads { call.zxid } else { stat.pzxid };
            Some((zxid, lowest(names)?))
        }
        (op, Outcome::Ok(Reply::Multi(results))) => {
            let done = results.iter().all(|result| matches!(result, Outcome::Ok(_)));
            Some((call.zxid, suffix_of(fence(op).filter(|_| done)?)?))
        }
        _ => None,
    }
}

fn lowest(names: &[String]) -> Option<i64> {
    names.iter().filter_map(|name| suffix_of(name)).min()
}

fn exclusion(facts: &Facts<'_>, sink: &mut Sink) {
    let exact = facts.history.header.exact_reads;
    let told = facts.calls.iter().filter_map(|call| Some((holder(call, exact)?, call)));
    let mut told: Vec<((i64, i64), &Call<'_>)> = told.collect();
    told.sort_by_key(|(at, call)| (*at, call.ended));
    sink.tally(NAME).skipped +=
        facts.calls.iter().filter(|call| call.outcome.is_none() && fence(call.op).is_some()).count() as u64;
    let mut before: Option<((i64, i64), &Call<'_>)> = None;
    for ((zxid, ticket), call) in told {
        sink.judged(NAME);
        if let Some(((at, other), by)) = before
            && (other > ticket || other != ticket && at == zxid)
        {
            let text = format!(
                "ticket {ticket} holds the lock at zxid {zxid:#x}; ticket {other} did at {at:#x} already"
            );
            sink.find(NAME, text, vec![by.ended, call.ended]);
        }
        before = Some(((zxid, ticket), call));
    }
}

fn items(facts: &Facts<'_>, sink: &mut Sink) {
    let mut had: Map<&str, &Call<'_>> = Map::default();
    for call in &facts.calls {
        for part in call.parts() {
            let (Op::Delete { path, .. }, Some(Outcome::Ok(_))) = part else { continue };
            let is_item = path.strip_prefix(QUEUE).is_some_and(|rest| rest.starts_with('/'));
            if !is_item || suffix_of(path).is_none() {
                continue;
            }
            sink.judged(NAME);
            if let Some(first) = had.insert(path, call) {
                let text = format!(
                    "{path} is deleted by session {:#x} and by session {:#x}",
                    first.session, call.session
                );
                sink.find(NAME, text, vec![first.ended, call.ended]);
            }
        }
    }
}

/// How often a client found itself the holder while another one still believed to be.
fn overlaps(facts: &Facts<'_>) -> u64 {
    let mut owners: Map<&str, i64> = Map::default();
    let mut let_go: Map<&str, usize> = Map::default();
    for call in &facts.calls {
        match (call.op, call.outcome) {
            (Op::Create { .. }, Some(Outcome::Ok(Reply::Created { path, .. }))) => {
                owners.insert(path, call.session);
            }
            (Op::Delete { path, .. }, _) => {
                let_go.entry(path).or_insert(call.invoked);
            }
            _ => {}
        }
    }
    let mut believes: Map<String, (usize, usize)> = Map::default();
    for call in &facts.calls {
        let (Op::Children { path, .. }, Some(Outcome::Ok(Reply::Children { names, .. }))) =
            (call.op, call.outcome)
        else {
            continue;
        };
        let first = names.iter().filter(|_| path == LOCK).min_by_key(|name| suffix_of(name));
        let Some(ticket) = first.map(|name| format!("{LOCK}/{name}")) else { continue };
        if owners.get(ticket.as_str()) == Some(&call.session) {
            let over = facts.sessions.get(&call.session).and_then(|session| {
                let close = session.close.and_then(|close| facts.calls.get(close)).map(|close| close.invoked);
                session.expired.into_iter().chain(close).min()
            });
            let end = let_go.get(ticket.as_str()).copied().into_iter().chain(over).min();
            believes.entry(ticket).or_insert((call.ended, end.unwrap_or(usize::MAX)));
        }
    }
    let mut believes: Vec<(usize, usize)> = believes.into_values().collect();
    believes.sort_unstable();
    let mut longest = 0;
    let mut overlaps = 0;
    for (begin, end) in believes {
        overlaps += u64::from(begin < longest);
        longest = longest.max(end);
    }
    overlaps
}
