//! What a node does as trace records, in the golden scripts' notation. Shared by live nodes and the simulator.
//!
//! `Tracer` is a live node's: it exists only while `NodeConfig::trace` is set, so an untraced node pays one look at an
//! `Option` per frame and turn. It lives on the core thread; what the log and apply threads do is told when the core
//! thread hears of it (`Durable`) or hands it over (`Apply`).
//!
//! Message ids: both ends of a connection know the nonces of its handshake, and TCP keeps order, so each end counts the
//! core frames of each direction and both arrive at the same id without a byte on the wire ([`frame_id`]).

use crate::link::Link;
use replog::{Body, Entry, LogId, LogOp, Message, NodeId, Notice, Status, Ticket, Write};
use std::time::Instant;
use trace::{Kind, Record, Recorder};

/// Entries as the golden scripts show them: `5:17=12B`, `5:17..5:20`; bodies by their size.
#[must_use]
pub fn entries(entries: &[Entry]) -> String {
    let body = |e: &Entry| match &e.body {
        Body::Noop => "noop".to_owned(),
        Body::Command(bytes) => format!("{}B", bytes.len()),
        Body::Config(..) => "config".to_owned(),
    };
    match entries {
        [] => String::new(),
        [one] => format!("{}={}", one.id, body(one)),
        [first, .., last] => format!("{}..{}", first.id, last.id),
    }
}

/// The operations of a write: `hard(5, n3, 5, 17) +5:18=12B truncate≥19 purge≤4:2`.
#[must_use]
pub fn ops(ops: &[LogOp]) -> String {
    let one = |op: &LogOp| match op {
        LogOp::HardState(h) => {
            let voted = h.voted_for.map_or_else(|| "-".to_owned(), |n| n.to_string());
            format!("hard({}, {voted}, {}, {})", h.promised, h.established, h.committed)
        }
        LogOp::Write(list) => format!("+{}", entries(list)),
        LogOp::Truncate { from } => format!("truncate≥{from}"),
        LogOp::Purge { upto } => format!("purge≤{upto}"),
    };
    ops.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A frame that left for `peer`, came from it, or was lost on the way there.
#[must_use]
pub fn frame<M: Message>(kind: Kind, id: u64, peer: NodeId, message: &M, riding: &[Entry]) -> Record {
    // What was said stands at its sending.
    let text = (kind != Kind::Recv).then(|| {
        let riding = entries(riding);
        if riding.is_empty() { format!("{message:?}") } else { format!("{message:?} [{riding}]") }
    });
    Record {
        kind,
        id: Some(id),
        peer: Some(peer.0),
        name: Some(message.kind().to_owned()),
        epoch: Some(message.epoch().to_string()),
        index: riding.last().map(|e| e.id.index.0),
        text,
        ..Record::default()
    }
}

/// A write that is handed to the log.
#[must_use]
pub fn write(write: &Write) -> Record {
    let written = write.ops.iter().rev().find_map(|op| match op {
        LogOp::Write(entries) => entries.last(),
        _ => None,
    });
    Record {
        kind: Kind::Persist,
        ticket: Some(write.ticket.0),
        index: written.map(|e| e.id.index.0),
        text: Some(ops(&write.ops)),
        ..Record::default()
    }
}

/// Everything up to `ticket` is durable.
#[must_use]
pub fn durable(ticket: Ticket) -> Record {
    Record { kind: Kind::Durable, ticket: Some(ticket.0), ..Record::default() }
}

/// Entries that are applied; `None` if there are none.
#[must_use]
pub fn apply(list: &[Entry]) -> Option<Record> {
    let last = list.last()?.id;
    Some(Record { text: Some(entries(list)), ..at(Kind::Apply, last) })
}

/// Role, phase, epoch or leader, as of `status`.
#[must_use]
pub fn phase(status: &Status) -> Record {
    Record {
        kind: Kind::Phase,
        epoch: Some(status.epoch.to_string()),
        role: Some(format!("{:?}", status.role)),
        name: Some(format!("{:?}", status.phase)),
        peer: status.leader.map(|l| l.0),
        index: Some(status.last.index.0),
        commit: Some(status.committed.0),
        ..Record::default()
    }
}

/// A snapshot is `what`: `taken`, `sent`, `received` or `installed`.
#[must_use]
pub fn snapshot(what: &str, position: LogId, peer: Option<NodeId>) -> Record {
    let peer = peer.map(|p| p.0);
    Record { name: Some(what.to_owned()), peer, ..at(Kind::Snapshot, position) }
}

/// A peer's input was ignored.
#[must_use]
pub fn ignored(from: NodeId, why: &str) -> Record {
    Record { kind: Kind::Ignored, peer: Some(from.0), cause: Some(why.to_owned()), ..Record::default() }
}

/// The link to `peer` came up, or went down for a reason.
#[must_use]
pub fn link(peer: NodeId, down: Option<String>) -> Record {
    let kind = if down.is_some() { Kind::LinkDown } else { Kind::LinkUp };
    Record { kind, peer: Some(peer.0), cause: down, ..Record::default() }
}

fn at(kind: Kind, position: LogId) -> Record {
    let (epoch, index) = (Some(position.epoch.to_string()), Some(position.index.0));
    Record { kind, epoch, index, ..Record::default() }
}

/// Id of the `n`-th core frame that `from` sends on the connection whose handshake came to `token`. 52 bits, so that
/// tools that read numbers as doubles keep it whole.
#[must_use]
pub fn frame_id(token: u64, from: NodeId, n: u64) -> u64 {
    // The finalizer of SplitMix64 spreads the start over all bits; frames count on from there.
    let mut start = token ^ u64::from(from.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    start = (start ^ (start >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    start = (start ^ (start >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    start.wrapping_add(n) & ((1 << 52) - 1)
}

/// A live node's trace.
#[derive(Debug)]
pub(crate) struct Tracer {
    recorder: Recorder,
    node: NodeId,
    /// The turn's moment.
    pub(crate) now: Instant,
}

impl Tracer {
    pub(crate) fn new(recorder: Recorder, node: NodeId) -> Self {
        let tracer = Self { recorder, node, now: Instant::now() };
        tracer.put(Record { kind: Kind::Start, ..Record::default() });
        tracer
    }

    pub(crate) fn put(&self, record: Record) {
        self.recorder.record(self.now, Record { node: self.node.0, ..record });
    }

    pub(crate) fn sent<M: Message>(&self, link: &mut Link, message: &M, riding: &[Entry], bytes: usize) {
        let id = link.next_sent(self.node);
        let record = frame(Kind::Send, id, link.peer, message, riding);
        self.put(Record { bytes: Some(bytes as u64), ..record });
    }

    pub(crate) fn received<M: Message>(&self, link: &mut Link, message: &M, riding: &[Entry], bytes: usize) {
        let id = link.next_received();
        let record = frame(Kind::Recv, id, link.peer, message, riding);
        self.put(Record { bytes: Some(bytes as u64), ..record });
    }

    /// What the notices of a step have to tell.
    pub(crate) fn notice(&self, notice: &Notice) {
        match notice {
            Notice::SendSnapshot { to, at } => self.put(snapshot("sent", *at, Some(*to))),
            Notice::InstallAccepted { at } => self.put(snapshot("received", *at, None)),
            Notice::Ignored { from, why } => self.put(ignored(*from, why)),
            // The phase is told with the status after the step.
            Notice::Phase { .. }
            | Notice::Readable { .. }
            | Notice::Refused { .. }
            | Notice::Configured { .. }
            | Notice::Overflown(_) => {}
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.now = Instant::now();
        self.put(Record { kind: Kind::Note, cause: Some("the node ends".to_owned()), ..Record::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use replog::{Epoch, HardState, Index, Stamp};

    fn entry(index: u64, body: Body) -> Entry {
        let epoch = Epoch::of(5);
        Entry { id: LogId::new(epoch, Index(index)), ballot: epoch, stamp: Stamp(0), body }
    }

    #[test]
    fn the_notation_is_the_one_of_the_golden_scripts() {
        let command = entry(18, Body::Command(Bytes::from_static(b"hello")));
        let list = vec![entry(17, Body::Noop), command.clone()];
        assert_eq!(entries(&[]), "");
        assert_eq!(entries(&list[..1]), "5:17=noop");
        assert_eq!(entries(&[command]), "5:18=5B");
        assert_eq!(entries(&list), "5:17..5:18");
        let hard = HardState { promised: Epoch::of(5), voted_for: Some(NodeId(3)), ..HardState::default() };
        let all = [
            LogOp::HardState(hard),
            LogOp::Truncate { from: Index(17) },
            LogOp::Write(list),
            LogOp::Purge { upto: LogId::new(Epoch::of(4), Index(2)) },
        ];
        assert_eq!(ops(&all), "hard(5, n3, 0, 0) truncate≥17 +5:17..5:18 purge≤4:2");
    }

    #[test]
    fn frames_of_both_directions_and_of_all_connections_differ() {
        let mut seen = std::collections::BTreeSet::new();
        for token in [1, 2, u64::MAX] {
            for from in [1, 2] {
                seen.extend((0..1000).map(|n| frame_id(token, NodeId(from), n)));
            }
        }
        assert_eq!(seen.len(), 6000);
        assert!(seen.iter().all(|id| *id < 1 << 52));
    }
}
