//! Export as Chrome trace events, which <https://ui.perfetto.dev> opens.
//!
//! ```text
//!  n1  phase      │■ Electing Election ■│■■ Leader Broadcast @2 ■■■■■■│
//!      messages   │  ▏RequestVote ────┐  ▏Vote                           flows: from the slice of a sending
//!      log        │ ■ t1 ■  ■■ t2..t4 ■■      (one fsync after another)   to the slice of its reception
//!      committed  │ ▁▁▂▃▅▆                     (counter)
//!  n2  …                               └─►▏RequestVote
//!  world          faults, as instants across all tracks
//! ```
//!
//! A node is a process, its tracks are threads. Slices of one track must not overlap, so an fsync begins when the one
//! before it ended or when the first write that it covers was handed over, whichever is later: that is when it ran.

use crate::{Header, Kind, Record, line};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Write};

const PHASE: u32 = 1;
const MESSAGES: u32 = 2;
const LOG: u32 = 3;

/// Length of the slice of a message, in ns: wide enough to be hit with a pointer.
const MESSAGE_NS: u64 = 2_000;

#[derive(Default)]
struct Track {
    /// Since when, and its name.
    phase: Option<(u64, String)>,
    /// Tickets handed to the log, with their time, not yet durable.
    writes: VecDeque<(u64, u64)>,
    /// End of the last fsync.
    synced_at: u64,
    /// End of the last message's slice.
    message_end: u64,
}

/// Writes records, ordered by time within each node, as trace events.
///
/// # Errors
/// Of `to`.
pub fn perfetto<'a>(
    header: &Header,
    records: impl IntoIterator<Item = &'a Record>,
    to: &mut impl Write,
) -> io::Result<()> {
    let mut out = Events { to, first: true };
    let about = serde_json::to_string(header)?;
    write!(out.to, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{about},\"traceEvents\":[")?;
    let mut tracks: BTreeMap<u32, Track> = BTreeMap::new();
    let mut named: BTreeSet<u32> = BTreeSet::new();
    let mut last = 0;
    for r in records {
        last = last.max(r.t);
        if named.insert(r.node) {
            out.name(r.node)?;
        }
        out.record(r, tracks.entry(r.node).or_default())?;
    }
    for (node, track) in &mut tracks {
        out.end_phase(*node, track, last)?;
    }
    writeln!(out.to, "\n]}}")
}

struct Events<'a, W: Write> {
    to: &'a mut W,
    first: bool,
}

fn micros(ns: u64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 104 days in ns")]
    let us = ns as f64 / 1000.0;
    json!(us)
}

impl<W: Write> Events<'_, W> {
    fn put(&mut self, event: &Value) -> io::Result<()> {
        self.to.write_all(if self.first { b"\n" } else { b",\n" })?;
        self.first = false;
        serde_json::to_writer(&mut *self.to, event)?;
        Ok(())
    }

    fn name(&mut self, node: u32) -> io::Result<()> {
        let name = if node == 0 { "world".to_owned() } else { format!("n{node}") };
        self.put(&json!({"ph": "M", "name": "process_name", "pid": node, "args": {"name": name}}))?;
        for (tid, name) in [(PHASE, "phase"), (MESSAGES, "messages"), (LOG, "log")] {
            if node > 0 {
                let args = json!({"name": name});
                self.put(&json!({"ph": "M", "name": "thread_name", "pid": node, "tid": tid, "args": args}))?;
            }
        }
        Ok(())
    }

    fn slice(&mut self, node: u32, tid: u32, from: u64, to: u64, name: &str, args: Value) -> io::Result<()> {
        let dur = micros(to.saturating_sub(from));
        self.put(&json!({
            "ph": "X", "pid": node, "tid": tid, "ts": micros(from), "dur": dur, "name": name, "args": args
        }))
    }

    fn record(&mut self, r: &Record, track: &mut Track) -> io::Result<()> {
        match r.kind {
            Kind::Send | Kind::Recv => self.message(r, track),
            Kind::Persist => {
                track.writes.push_back((r.ticket.unwrap_or_default(), r.t));
                Ok(())
            }
            Kind::Durable => self.fsync(r, track),
            Kind::Phase => {
                self.end_phase(r.node, track, r.t)?;
                let word = |w: &Option<String>| w.clone().unwrap_or_else(|| "?".to_owned());
                track.phase = Some((r.t, format!("{} {} @{}", word(&r.role), word(&r.name), word(&r.epoch))));
                self.commit(r)
            }
            Kind::Apply => self.commit(r),
            Kind::Crash => {
                self.end_phase(r.node, track, r.t)?;
                track.writes.clear();
                self.instant(r, "p")
            }
            Kind::Fault => self.instant(r, "g"),
            Kind::Lost | Kind::LinkUp | Kind::LinkDown | Kind::Snapshot | Kind::Ignored => {
                self.instant(r, "t")
            }
            Kind::Start | Kind::Note => self.instant(r, "p"),
        }
    }

    /// A slice, and one end of a flow that is bound to it.
    fn message(&mut self, r: &Record, track: &mut Track) -> io::Result<()> {
        let name = r.name.as_deref().unwrap_or("?");
        // Several messages of one moment are shown one after another.
        let from = r.t.max(track.message_end);
        track.message_end = from + MESSAGE_NS;
        let args = json!({"event": line(r), "bytes": r.bytes, "index": r.index, "at_ns": r.t});
        self.slice(r.node, MESSAGES, from, from + MESSAGE_NS, name, args)?;
        let Some(id) = r.id else { return Ok(()) };
        let ph = if r.kind == Kind::Send { "s" } else { "f" };
        self.put(&json!({
            "ph": ph, "bp": "e", "cat": "message", "name": "message", "id": format!("{id:#x}"),
            "pid": r.node, "tid": MESSAGES, "ts": micros(from)
        }))
    }

    fn fsync(&mut self, r: &Record, track: &mut Track) -> io::Result<()> {
        let upto = r.ticket.unwrap_or_default();
        let mut covered = None;
        while let Some((ticket, at)) = track.writes.front().copied().filter(|(t, _)| *t <= upto) {
            track.writes.pop_front();
            covered.get_or_insert((ticket, at));
        }
        let Some((first, at)) = covered else { return Ok(()) };
        let from = at.max(track.synced_at);
        track.synced_at = r.t;
        let name = if first == upto { format!("t{upto}") } else { format!("t{first}..t{upto}") };
        self.slice(r.node, LOG, from, r.t, &name, json!({"writes": upto - first + 1, "handed_over_ns": at}))
    }

    fn end_phase(&mut self, node: u32, track: &mut Track, at: u64) -> io::Result<()> {
        let Some((since, name)) = track.phase.take() else { return Ok(()) };
        self.slice(node, PHASE, since, at, &name, json!({}))
    }

    fn commit(&mut self, r: &Record) -> io::Result<()> {
        let committed = r.commit.or(r.index.filter(|_| r.kind == Kind::Apply));
        let Some(committed) = committed else { return Ok(()) };
        let args = json!({"index": committed});
        self.put(&json!({"ph": "C", "name": "committed", "pid": r.node, "ts": micros(r.t), "args": args}))
    }

    fn instant(&mut self, r: &Record, scope: &str) -> io::Result<()> {
        let tid = if scope == "t" { MESSAGES } else { PHASE };
        self.put(&json!({
            "ph": "i", "s": scope, "pid": r.node, "tid": tid, "ts": micros(r.t), "name": line(r)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    fn export(records: &[Record]) -> Vec<Value> {
        let mut out = Vec::new();
        perfetto(&Header::new("raft", Clock::Virtual), records, &mut out).unwrap();
        let whole: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(whole["otherData"]["backend"], "raft");
        whole["traceEvents"].as_array().unwrap().clone()
    }

    fn slices(events: &[Value], tid: u32) -> Vec<(String, f64, f64)> {
        let of = |e: &&Value| e["ph"] == "X" && e["tid"] == tid;
        let shown = |e: &Value| {
            (e["name"].as_str().unwrap().to_owned(), e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap())
        };
        events.iter().filter(of).map(shown).collect()
    }

    fn phase(t: u64, role: &str, name: &str) -> Record {
        Record {
            t,
            node: 1,
            kind: Kind::Phase,
            role: Some(role.into()),
            name: Some(name.into()),
            epoch: Some("2".into()),
            ..Record::default()
        }
    }

    fn log(t: u64, kind: Kind, ticket: u64) -> Record {
        Record { t, node: 1, kind, ticket: Some(ticket), ..Record::default() }
    }

    #[test]
    fn phases_are_slices_until_the_next_one_a_crash_or_the_end() {
        let crash = Record { t: 9000, node: 1, kind: Kind::Crash, ..Record::default() };
        let events = export(&[
            phase(1000, "Electing", "Election"),
            phase(4000, "Leader", "Broadcast"),
            crash,
            phase(10_000, "Electing", "Election"),
            log(12_000, Kind::Durable, 1),
        ]);
        let expected = [
            ("Electing Election @2".to_owned(), 1.0, 3.0),
            ("Leader Broadcast @2".to_owned(), 4.0, 5.0),
            ("Electing Election @2".to_owned(), 10.0, 2.0),
        ];
        assert_eq!(slices(&events, PHASE), expected);
    }

    #[test]
    fn fsyncs_do_not_overlap() {
        let events = export(&[
            log(1000, Kind::Persist, 1),
            log(2000, Kind::Persist, 2),
            log(3000, Kind::Persist, 3),
            log(5000, Kind::Durable, 1),
            log(9000, Kind::Durable, 3),
            log(9000, Kind::Durable, 3),
        ]);
        assert_eq!(slices(&events, LOG), [("t1".to_owned(), 1.0, 4.0), ("t2..t3".to_owned(), 5.0, 4.0)]);
    }

    #[test]
    fn messages_are_flows_between_slices() {
        let message = |t, node, kind, peer| Record {
            t,
            node,
            kind,
            id: Some(u64::MAX),
            peer: Some(peer),
            name: Some("Vote".into()),
            ..Record::default()
        };
        let events = export(&[
            message(1000, 1, Kind::Send, 2),
            message(1000, 1, Kind::Send, 3),
            message(5000, 2, Kind::Recv, 1),
        ]);
        let flows: Vec<_> = events.iter().filter(|e| e["cat"] == "message").collect();
        assert_eq!(flows.len(), 3);
        assert!(flows.iter().all(|f| f["id"] == "0xffffffffffffffff"), "as text: a number would be rounded");
        assert_eq!(
            (&flows[0]["ph"], &flows[2]["ph"], &flows[2]["bp"]),
            (&json!("s"), &json!("f"), &json!("e"))
        );
        let shown = slices(&events, MESSAGES);
        assert!(shown[0].1 + shown[0].2 <= shown[1].1, "slices of one track do not overlap: {shown:?}");
        assert_eq!(flows[1]["ts"], json!(shown[1].1), "a flow is bound to its slice");
    }
}
