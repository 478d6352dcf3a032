//! One pass over the events: calls with their answers, connections, sessions, and what was known when.
//!
//! ```text
//!  events   invoke a ── invoke b ── return a @ 7 ── return b @ 8 ── invoke c
//!  known      0           0            7               8             8        zxids that some client has seen so far
//!  later      7           8            9               9             9        least zxid of writes asked for from here on
//! ```
//!
//! Both follow from one rule, the real-time order of writes: a command that is proposed after zxid z was applied
//! anywhere gets a zxid above z. So an operation with an unknown outcome lies in a window: above `known` at its
//! invocation, below `later` once it is known to be over.

use crate::check::Sink;
use crate::intern::Map;
use crate::model::code;
use crate::record::{Event, History, Op, Outcome, Reply, What};
use std::collections::{BTreeMap, VecDeque};

/// An operation that a client asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'h> {
    pub(crate) session: i64,
    pub(crate) op: &'h Op,
    /// Index of its `Invoke`.
    pub(crate) invoked: usize,
    /// Index of its `Return` or `Unknown`; the number of events if there is neither.
    pub(crate) ended: usize,
    pub(crate) zxid: i64,
    pub(crate) outcome: Option<&'h Outcome>,
    /// Index in [`Facts::connections`], if it had one.
    pub(crate) connection: Option<usize>,
}

impl<'h> Call<'h> {
    /// The single operations that it asked for, each with its own outcome: one, or those of a multi.
    pub(crate) fn parts(&self) -> Vec<(&'h Op, Option<&'h Outcome>)> {
        match (self.op, self.outcome) {
            (Op::Multi { ops }, Some(Outcome::Ok(Reply::Multi(results)))) => {
                ops.iter().zip(results.iter().map(Some)).collect()
            }
            (Op::Multi { ops }, outcome) => ops.iter().map(|op| (op, outcome)).collect(),
            (op, outcome) => vec![(op, outcome)],
        }
    }

    pub(crate) const fn is_write(&self) -> bool {
        matches!(
            self.op,
            Op::Create { .. } | Op::Delete { .. } | Op::Set { .. } | Op::Multi { .. } | Op::Close
        )
    }

    pub(crate) const fn is_read(&self) -> bool {
        matches!(self.op, Op::Get { .. } | Op::Exists { .. } | Op::Children { .. })
    }

    /// Whether it went through the log and tells its place there. Refused arguments may have been refused before.
    pub(crate) fn is_placed(&self) -> bool {
        self.is_write()
            && self.zxid > 0
            && match self.outcome {
                Some(Outcome::Ok(_)) => true,
                Some(Outcome::Error(code)) => !code::is_foreign(*code),
                None => false,
            }
    }
}

/// A connection of a client, from its answer to the connect request to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) client: u32,
    pub(crate) session: i64,
    pub(crate) server: u32,
    pub(crate) begin: usize,
    /// Index of the event that ended it; the number of events if none did.
    pub(crate) end: usize,
    pub(crate) seen: i64,
    pub(crate) resumed: bool,
    pub(crate) timeout_ms: u64,
}

/// A session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    pub(crate) client: u32,
    pub(crate) timeout_ms: u64,
    pub(crate) connections: Vec<usize>,
    pub(crate) calls: Vec<usize>,
    /// Index of the event by which the client learned of its end.
    pub(crate) expired: Option<usize>,
    /// Its closeSession, if one was asked for.
    pub(crate) close: Option<usize>,
    /// Highest zxid of a reply that it got while alive.
    pub(crate) alive_at: i64,
    /// Lowest zxid of a write that was refused because it was over.
    pub(crate) refused_at: Option<i64>,
}

impl Session {
    /// Whether its end is in the history with its place.
    pub(crate) fn closed_at(&self, facts: &Facts<'_>) -> Option<i64> {
        let call = facts.calls.get(self.close?)?;
        matches!(call.outcome, Some(Outcome::Ok(_))).then_some(call.zxid)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Facts<'h> {
    pub(crate) history: &'h History,
    pub(crate) calls: Vec<Call<'h>>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) sessions: BTreeMap<i64, Session>,
    /// Per event: its call, if it is an `Invoke`, `Return` or `Unknown`.
    pub(crate) call_of: Vec<Option<usize>>,
    /// Per event: its client's connection at that moment.
    pub(crate) connection_of: Vec<Option<usize>>,
    /// Calls that took a zxid, by zxid.
    pub(crate) placed: Vec<usize>,
    known: Vec<i64>,
    later: Vec<i64>,
    pub(crate) healed: Option<usize>,
    pub(crate) last: Option<usize>,
}

impl<'h> Facts<'h> {
    /// Gathers them; what cannot be is reported as `format`.
    pub(crate) fn of(history: &'h History, sink: &mut Sink) -> Self {
        let mut gather = Gather::new(history);
        for (index, event) in history.events.iter().enumerate() {
            if let Some((checker, complaint)) = gather.event(index, event) {
                sink.find(checker, complaint, vec![index]);
            }
        }
        gather.finish()
    }

    pub(crate) fn call(&self, event: usize) -> Option<&Call<'h>> {
        self.calls.get((*self.call_of.get(event)?)?)
    }

    /// The highest zxid that anybody had seen before this event.
    pub(crate) fn known_before(&self, event: usize) -> i64 {
        event.checked_sub(1).and_then(|before| self.known.get(before)).copied().unwrap_or(0)
    }

    /// The lowest zxid of a write that was asked for after this event.
    pub(crate) fn asked_after(&self, event: usize) -> i64 {
        self.later.get(event + 1).copied().unwrap_or(i64::MAX)
    }

    /// The first event by which somebody had seen this zxid or a later one.
    pub(crate) fn known_since(&self, zxid: i64) -> usize {
        self.known.partition_point(|known| *known < zxid)
    }

    pub(crate) fn at_us(&self, event: usize) -> u64 {
        self.history.events.get(event).map_or(0, |event| event.at_us)
    }

    /// Where an operation with an unknown outcome may lie: strictly between these zxids.
    pub(crate) fn window(&self, call: &Call<'_>) -> (i64, i64) {
        let mut high = i64::MAX;
        if let Some(session) = self.sessions.get(&call.session) {
            // A later connection of its session fences what the earlier one had under way.
            let next = session.connections.iter().find(|c| Some(**c) > call.connection);
            if let Some(begin) = next.and_then(|next| self.connections.get(*next)).map(|next| next.begin) {
                high = high.min(self.asked_after(begin));
                let first = session.calls.partition_point(|index| {
                    self.calls.get(*index).is_some_and(|later| later.invoked < begin)
                });
                let answered = session.calls.get(first..).unwrap_or_default().iter();
                let answered = answered.filter_map(|index| self.calls.get(*index));
                if let Some(reply) = answered.filter(|later| later.zxid > 0).map(|later| later.zxid).next() {
                    // A read may show the state at its zxid; the fence lies below.
                    high = high.min(reply + 1);
                }
            }
            if let Some(closed) = session.closed_at(self) {
                high = high.min(closed);
            }
            if let Some(expired) = session.expired {
                high = high.min(self.asked_after(expired));
            }
        }
        (self.known_before(call.invoked), high)
    }
}

const FORMAT: &str = "format";

/// The checker that has something to say, and what.
type Complaint = Option<(&'static str, String)>;

struct Gather<'h> {
    facts: Facts<'h>,
    by_number: Map<u64, usize>,
    current: Map<u32, usize>,
    waiting: Map<i64, VecDeque<usize>>,
}

impl<'h> Gather<'h> {
    fn new(history: &'h History) -> Self {
        let count = history.events.len();
        let facts = Facts {
            history,
            calls: Vec::with_capacity(count / 2),
            connections: Vec::new(),
            sessions: BTreeMap::new(),
            call_of: vec![None; count],
            connection_of: vec![None; count],
            placed: Vec::new(),
            known: Vec::with_capacity(count),
            later: Vec::new(),
            healed: None,
            last: None,
        };
        Self { facts, by_number: Map::default(), current: Map::default(), waiting: Map::default() }
    }

    fn event(&mut self, index: usize, event: &'h Event) -> Complaint {
        let facts = &mut self.facts;
        let connection = self.current.get(&event.client).copied();
        let mut zxid = 0;
        let mut complaint = None;
        match &event.what {
            What::Connected { session, server, timeout_ms, resumed, seen } => {
                let new = facts.connections.len();
                facts.connections.push(Connection {
                    client: event.client,
                    session: *session,
                    server: *server,
                    begin: index,
                    end: facts.history.events.len(),
                    seen: *seen,
                    resumed: *resumed,
                    timeout_ms: *timeout_ms,
                });
                let known = facts.sessions.entry(*session).or_default();
                (known.client, known.timeout_ms) = (event.client, *timeout_ms);
                known.connections.push(new);
                if self.current.insert(event.client, new).is_some() {
                    complaint = Some((FORMAT, "connected while it has a connection".into()));
                }
            }
            What::Disconnected => self.disconnect(index, event.client),
            What::Expired { session } => {
                self.disconnect(index, event.client);
                self.facts.sessions.entry(*session).or_default().expired = Some(index);
            }
            What::Invoke { call, session, op } => {
                complaint = self.invoke(index, *call, *session, op, connection)
            }
            What::Return { call, zxid: header, outcome } => {
                zxid = *header;
                complaint = self.end(index, *call, *header, Some(outcome));
            }
            What::Unknown { call } => complaint = self.end(index, *call, 0, None),
            What::Watch { zxid: header, .. } => zxid = *header,
            What::Healed => facts.healed = Some(index),
            What::Final => facts.last = Some(index),
            What::Refused { .. }
            | What::Stopped
            | What::Continued
            | What::Ping { .. }
            | What::Fault { .. } => {}
        }
        let facts = &mut self.facts;
        if let Some(entry) = facts.connection_of.get_mut(index) {
            *entry = self.current.get(&event.client).copied().or(connection);
        }
        facts.known.push(zxid.max(facts.known.last().copied().unwrap_or(0)));
        complaint
    }

    fn disconnect(&mut self, index: usize, client: u32) {
        if let Some(ended) = self.current.remove(&client).and_then(|c| self.facts.connections.get_mut(c)) {
            ended.end = index;
        }
    }

    fn invoke(
        &mut self,
        index: usize,
        number: u64,
        session: i64,
        op: &'h Op,
        connection: Option<usize>,
    ) -> Complaint {
        let facts = &mut self.facts;
        let call = facts.calls.len();
        let ended = facts.history.events.len();
        facts.calls.push(Call { session, op, invoked: index, ended, zxid: 0, outcome: None, connection });
        let known = facts.sessions.entry(session).or_default();
        known.calls.push(call);
        if matches!(op, Op::Close) {
            known.close = Some(call);
        }
        if let Some(entry) = facts.call_of.get_mut(index) {
            *entry = Some(call);
        }
        self.waiting.entry(session).or_default().push_back(call);
        let repeated = self.by_number.insert(number, call).is_some();
        repeated.then(|| (FORMAT, format!("call {number} is invoked twice")))
    }

    fn end(&mut self, index: usize, number: u64, zxid: i64, outcome: Option<&'h Outcome>) -> Complaint {
        let Some(at) = self.by_number.get(&number).copied() else {
            return Some((FORMAT, format!("call {number} ends and was never invoked")));
        };
        let facts = &mut self.facts;
        let count = facts.history.events.len();
        let call = facts.calls.get_mut(at)?;
        if call.ended < count {
            return Some((FORMAT, format!("call {number} ends twice")));
        }
        (call.ended, call.zxid, call.outcome) = (index, zxid, outcome);
        let (session, placed) = (call.session, call.is_placed());
        if let Some(entry) = facts.call_of.get_mut(index) {
            *entry = Some(at);
        }
        if placed {
            facts.placed.push(at);
        }
        if let Some(outcome) = outcome
            && let Some(session) = facts.sessions.get_mut(&session)
        {
            if !code::is_over(outcome) {
                session.alive_at = session.alive_at.max(zxid);
            } else if placed {
                session.refused_at = Some(session.refused_at.map_or(zxid, |before| before.min(zxid)));
            }
        }
        // Answers come in the order of the questions.
        let waiting = self.waiting.entry(session).or_default();
        let first = waiting.front() == Some(&at);
        waiting.retain(|other| *other != at);
        let turn = outcome.is_none() || first;
        (!turn).then(|| ("C3", format!("call {number} is answered before an earlier one of its session")))
    }

    fn finish(mut self) -> Facts<'h> {
        let facts = &mut self.facts;
        let zxid = |call: &usize| facts.calls.get(*call).map_or(0, |call| call.zxid);
        let mut placed = std::mem::take(&mut facts.placed);
        placed.sort_by_key(zxid);
        let mut later = vec![i64::MAX; facts.history.events.len() + 1];
        for call in placed.iter().filter_map(|call| facts.calls.get(*call)) {
            if let Some(entry) = later.get_mut(call.invoked) {
                *entry = call.zxid;
            }
        }
        let mut least = i64::MAX;
        for entry in later.iter_mut().rev() {
            least = least.min(*entry);
            *entry = least;
        }
        (facts.placed, facts.later) = (placed, later);
        self.facts
    }
}
