//! C14, as far as clients see it: once every fault is over, every client gets a write through in time.
//!
//! In time: four election timeouts for the cluster, and a session timeout for the client, who may first have to notice that its
//! server is gone. Judged are clients that asked for a write after `Healed`, or had no connection by then, if the history
//! goes on for that long.
//!
//! If nobody at all got a write through, the cluster may have been left without a quorum (there are schedules that promise
//! safety only): the history cannot tell, so that is left open, and whoever ran the schedule has to judge it.
//!
//! Cannot see: clients that stopped; whether the cluster itself was faster (the simulator's own check is tighter).
//!
//! Source: reliability.md C14, section 1 (bounds after heal).

use super::Sink;
use crate::facts::Facts;
use crate::record::{Op, What};
use std::collections::BTreeMap;

const NAME: &str = "C14";

#[derive(Default)]
struct Client {
    tried: Option<usize>,
    done: bool,
    stopped: bool,
    timeout_ms: u64,
    lost: Option<usize>,
    /// Whether it was there before: who comes later may only want to read.
    before: bool,
}

pub(crate) fn check(facts: &Facts<'_>, sink: &mut Sink) {
    let Some(healed) = facts.healed else { return };
    let start = facts.at_us(healed);
    let end = facts.history.events.last().map_or(0, |event| event.at_us);
    let mut clients: BTreeMap<u32, Client> = BTreeMap::new();
    let longest = facts.sessions.values().map(|session| session.timeout_ms).max().unwrap_or(0);
    let deadline = start + (4 * facts.history.header.election_ms + longest) * 1000;
    let judged = |index: usize| {
        index > healed
            && facts.at_us(index) <= deadline
            && facts.call(index).is_some_and(|call| call.is_write())
    };
    for (index, event) in facts.history.events.iter().enumerate().filter(|(_, event)| event.client != 0) {
        let client = clients.entry(event.client).or_default();
        client.before |= index < healed;
        match &event.what {
            What::Stopped => client.stopped = true,
            What::Continued => client.stopped = false,
            What::Connected { timeout_ms, .. } => (client.timeout_ms, client.lost) = (*timeout_ms, None),
            What::Disconnected | What::Expired { .. } if event.at_us <= deadline => client.lost = Some(index),
            // Who has closed its session wants nothing more, until it connects again.
            What::Invoke { op: Op::Close, .. } => client.timeout_ms = 0,
            What::Invoke { .. } if judged(index) => client.tried = client.tried.or(Some(index)),
            What::Return { .. } if judged(index) => client.done = true,
            _ => {}
        }
    }
    let served = clients.values().any(|client| client.done);
    for (id, client) in clients {
        if client.done {
            sink.judged(NAME);
            continue;
        }
        if !served || client.stopped || client.timeout_ms == 0 || end < deadline {
            sink.skipped(NAME);
            continue;
        }
        match client.tried.or(client.lost.filter(|_| client.before)) {
            Some(since) => {
                sink.judged(NAME);
                let text = format!(
                    "client {id} got no write through within {} ms after every fault was over",
                    (deadline - start) / 1000
                );
                sink.find(NAME, text, vec![healed, since]);
            }
            None => sink.skipped(NAME),
        }
    }
}
