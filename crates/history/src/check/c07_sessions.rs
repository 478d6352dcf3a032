//! C7: a session lives while its client is heard, ends soon after it is not, and stays ended; its ephemerals with it.
//!
//! 1. A session id is given once. A session that its client closed, or was told to be over, is not resumed.
//! 2. It does not end within its timeout after anything that a leader surely heard of. What a server could not report it
//!    answers for a third of the timeout, then it lets the client go. So when a client was last answered at `H` on some
//!    connection, the leader knew what was answered there up to `H` less a third (and a tick; clocks may differ by a
//!    tenth):
//!
//!    ```text
//!     one connection   ──p────────────────h───────H                end ≥ p + timeout
//!                        └ told ≥ a third before H ┘               h: perhaps not told, the link may be cut
//!     the next one     ──────────────────────────────H'            says nothing of p and h
//!    ```
//!
//!    A client that was silent for most of its timeout and comes back on a server that is cut off is answered, for a third
//!    of the timeout, although the leader ends its session at any moment (`sim replay 4762 --backend zab`); and it may be
//!    on another server when that end arrives (`sim replay 16342 --backend paxos`).
//!    An end without a known zxid is not judged.
//! 3. Once somebody knows that it is over, no server answers its client for longer than its timeout: a server without a
//!    leader lets its clients go after a third of it, long before the leader ends the session. (1. S1 is cut off with C,
//!    who holds a lock; 2. C is expired, D takes the lock; 3. S1 answers C's pings, and C works on as the holder.)
//! 4. With every fault over, and its client gone for good, its ephemerals are gone after twice its timeout (a new leader
//!    starts all clocks again), four election timeouts and two ticks: no state known later shows them.
//!
//! The [replay](crate::replay) adds, by zxid: ephemerals are there while their session lives and vanish together at its
//! end; nothing of a session takes effect after its end.
//!
//! Source: reliability.md C7, requirements S6-S8, protocol-traps §4.1-4.5.

use super::Sink;
use crate::facts::{Facts, Session};
use crate::record::{Op, Outcome, Reply, What};
use std::collections::BTreeMap;

const NAME: &str = "C7";

pub(crate) fn check(facts: &Facts<'_>, ends: &[(i64, i64)], sink: &mut Sink) {
    for (id, session) in &facts.sessions {
        resumed(facts, *id, session, sink);
        early(facts, *id, session, ends, sink);
        answered_after(facts, *id, session, ends, sink);
    }
    outlived(facts, sink);
}

fn resumed(facts: &Facts<'_>, id: i64, session: &Session, sink: &mut Sink) {
    let closed = session.close.and_then(|call| facts.calls.get(call));
    let closed = closed.filter(|call| matches!(call.outcome, Some(Outcome::Ok(_)))).map(|call| call.ended);
    let over = session.expired.into_iter().chain(closed).min();
    let mut connections = session.connections.iter().filter_map(|at| facts.connections.get(*at)).peekable();
    let first = connections.peek().map(|first| first.begin);
    for connection in connections {
        sink.judged(NAME);
        if connection.resumed == (Some(connection.begin) == first) {
            let text = if connection.resumed {
                format!("session {id:#x} is resumed, and nobody ever opened it")
            } else {
                format!("session id {id:#x} is given a second time")
            };
            sink.find(NAME, text, first.into_iter().chain([connection.begin]).collect());
        }
        if let Some(over) = over.filter(|over| *over < connection.begin) {
            let text = format!("session {id:#x} was over, and its client is connected to it again");
            sink.find(NAME, text, vec![over, connection.begin]);
        }
        if connection.timeout_ms != session.timeout_ms {
            let text = format!(
                "session {id:#x} had a timeout of {} ms and has one of {} ms",
                connection.timeout_ms, session.timeout_ms
            );
            sink.find(NAME, text, vec![connection.begin]);
        }
    }
}

/// Ends that came too soon after something that was answered.
fn early(facts: &Facts<'_>, id: i64, session: &Session, ends: &[(i64, i64)], sink: &mut Sink) {
    if session.close.is_some() {
        return;
    }
    let Some(zxid) = ends.iter().find(|(ended, _)| *ended == id).map(|(_, zxid)| *zxid) else {
        return sink.skipped(NAME);
    };
    let end = facts.known_since(zxid);
    let (timeout, tick) = (session.timeout_ms * 1000, facts.history.header.tick_ms * 1000);
    let answered = session.calls.iter().filter_map(|call| facts.calls.get(*call));
    let answered = answered.filter(|call| call.outcome.is_some() && call.ended < end);
    let answered = answered.map(|call| (call.connection, facts.at_us(call.invoked), facts.at_us(call.ended)));
    let events = facts.history.events.iter().zip(&facts.connection_of).take(end);
    let pinged = events.filter_map(|(event, connection)| match event.what {
        What::Ping { session, sent_us } if session == id => Some((*connection, sent_us, event.at_us)),
        _ => None,
    });
    let heard: Vec<(Option<usize>, u64, u64)> = answered.chain(pinged).collect();
    sink.judged(NAME);
    let last = heard.iter().map(|(_, sent_us, _)| *sent_us).max().unwrap_or(0);
    let mut last_of: BTreeMap<Option<usize>, u64> = BTreeMap::new();
    for (connection, sent_us, _) in &heard {
        let last = last_of.entry(*connection).or_default();
        *last = (*last).max(*sent_us);
    }
    // A third on a clock that is slow by a tenth; the timeout on one that is fast by a tenth.
    let is_told = |connection: &Option<usize>, answered_us: u64| {
        last_of.get(connection).is_some_and(|last| answered_us + timeout * 10 / 27 + tick <= *last)
    };
    let told = heard.iter().filter(|(connection, _, answered_us)| is_told(connection, *answered_us));
    let told = told.map(|(_, sent_us, _)| *sent_us).max();
    let at = facts.at_us(end);
    if let Some(told) = told.filter(|told| at < told + timeout * 10 / 11) {
        let text = format!(
            "session {id:#x} (timeout {} ms) is over at zxid {zxid:#x}, {} ms after its client was answered and {} ms \
             after something that the leader knew of",
            session.timeout_ms,
            at.saturating_sub(last) / 1000,
            at.saturating_sub(told) / 1000
        );
        sink.find(NAME, text, vec![end]);
    }
}

/// Answers to what was asked long after the end was known.
fn answered_after(facts: &Facts<'_>, id: i64, session: &Session, ends: &[(i64, i64)], sink: &mut Sink) {
    let Some(zxid) = ends.iter().find(|(ended, _)| *ended == id).map(|(_, zxid)| *zxid) else {
        return sink.skipped(NAME);
    };
    let end = facts.known_since(zxid);
    if end >= facts.history.events.len() {
        return sink.skipped(NAME);
    }
    let deadline = facts.at_us(end) + session.timeout_ms * 1000;
    let answered = session.calls.iter().filter_map(|call| facts.calls.get(*call));
    let answered = answered.filter(|call| matches!(call.outcome, Some(Outcome::Ok(_))));
    let answered = answered.map(|call| (facts.at_us(call.invoked), call.ended));
    let events = facts.history.events.iter().enumerate().skip(end);
    let pinged = events.filter_map(|(index, event)| match event.what {
        What::Ping { session, sent_us } if session == id => Some((sent_us, index)),
        _ => None,
    });
    sink.judged(NAME);
    if let Some((asked, index)) = answered.chain(pinged).find(|(asked, _)| *asked > deadline) {
        let text = format!(
            "session {id:#x} (timeout {} ms) was known to be over at zxid {zxid:#x}, and its client is answered what it \
             asked {} ms later",
            session.timeout_ms,
            (asked - facts.at_us(end)) / 1000
        );
        sink.find(NAME, text, vec![end, index]);
    }
}

/// Ephemerals that are seen long after their session must have ended.
fn outlived(facts: &Facts<'_>, sink: &mut Sink) {
    let Some(healed) = facts.healed.map(|event| facts.at_us(event)) else { return };
    let header = &facts.history.header;
    for call in &facts.calls {
        let stat = match call.outcome {
            Some(Outcome::Ok(
                Reply::Stat(stat) | Reply::Data { stat, .. } | Reply::Children { stat, .. },
            )) => stat,
            _ => continue,
        };
        let owner = stat.ephemeral_owner;
        let Some(session) = facts.sessions.get(&owner).filter(|_| owner != 0) else { continue };
        let (Op::Get { path, .. }
        | Op::Exists { path, .. }
        | Op::Children { path, .. }
        | Op::Set { path, .. }) = call.op
        else {
            continue;
        };
        let Some(gone) = given_up(facts, owner, session) else { continue };
        let bound_ms = 2 * session.timeout_ms + 4 * header.election_ms + 2 * header.tick_ms;
        let deadline = healed.max(facts.at_us(gone)) + bound_ms * 1000;
        let known = facts.known_before(facts.history.events.partition_point(|event| event.at_us <= deadline));
        sink.judged(NAME);
        if facts.at_us(call.invoked) > deadline && call.zxid >= known {
            let text = format!(
                "{path} of session {owner:#x} is there at zxid {:#x}, {} ms after its client was gone for good",
                call.zxid,
                (facts.at_us(call.ended) - facts.at_us(gone)) / 1000
            );
            sink.find(NAME, text, vec![gone, call.invoked, call.ended]);
        }
    }
}

/// The event after which the client cannot have touched the session any more.
fn given_up(facts: &Facts<'_>, id: i64, session: &Session) -> Option<usize> {
    let last = session.connections.last()?;
    let ended = facts.connections.get(*last)?.end;
    let later = facts.connections.iter().skip(last + 1);
    let other = later.filter(|other| other.client == session.client && other.session != id);
    let other = other.map(|other| other.begin).next();
    let told = session.expired.into_iter().chain(other).min()?;
    (told >= ended).then_some(told)
}
