//! Traces of live servers. `cargo test -p server --test traces`

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // test support: panics are verdicts

mod common;

use common::*;
use rustix::process::{Pid, Signal, kill_process};
use server::Consensus;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use trace::{Kind, Record, Trace, merge, perfetto, read, shiviz, timed_line, unmatched};

fn trace_of(path: &Path) -> Trace {
    read(BufReader::new(File::open(path).unwrap())).unwrap()
}

/// Three traced servers, some writes, a graceful end of each.
fn traced(consensus: Consensus) -> Trace {
    let folder = tempfile::tempdir().unwrap();
    let name = |id: usize| folder.path().join(format!("{id}.jsonl"));
    let mut ensemble =
        Ensemble::with(3, |id| format!("consensus={}\ntraceFile={}", consensus.name(), name(id).display()));
    let mut client = Client::open(ensemble.servers[1].port, 10_000);
    for n in 0..20 {
        assert_eq!(client.call(create(&format!("/n{n}"), 0)).header.err, 0);
    }
    for server in &mut ensemble.servers {
        kill_process(Pid::from_child(&server.process), Signal::TERM).unwrap();
    }
    for server in &mut ensemble.servers {
        assert!(server.process.wait().unwrap().success());
    }
    let traces: Vec<Trace> = (1..=3).map(|id| trace_of(&name(id))).collect();
    for (id, trace) in (1..).zip(&traces) {
        assert!(!trace.torn && trace.header.node == Some(id) && trace.header.backend == consensus.name());
        assert!(trace.records.iter().all(|r| r.node == id), "a node tells of itself");
    }
    merge(traces).unwrap()
}

fn count(records: &[Record], kind: Kind) -> usize {
    records.iter().filter(|r| r.kind == kind).count()
}

// requirement: S30
#[test]
fn every_reception_has_its_sending_under_each_protocol() {
    for consensus in Consensus::ALL {
        let merged = traced(*consensus);
        let records = &merged.records;
        let found = unmatched(records);
        assert!(found.received.is_empty(), "{}: {:?}", consensus.name(), found.received.first());
        assert!(found.repeated.is_empty(), "{}: ids are unique", consensus.name());
        let received = count(records, Kind::Recv);
        // What is not received was under way when a link went down: at the ends of the servers.
        assert!(received > 60 && found.sent < 60, "{received} received, {} not", found.sent);
        for kind in [Kind::Persist, Kind::Durable, Kind::Apply, Kind::Phase, Kind::LinkUp, Kind::Start] {
            assert!(count(records, kind) >= 3, "{}: {kind:?}", consensus.name());
        }
        for node in 1..=3 {
            let last = records.iter().rfind(|r| r.node == node && r.kind == Kind::Apply).unwrap();
            assert!(last.index.unwrap() >= 20, "n{node} applied the writes");
        }

        let text: Vec<String> = records.iter().map(timed_line).collect();
        let shown = |what: &str| text.iter().any(|l| l.contains(what));
        assert!(shown(" Leader Broadcast ⇨ ") && shown(" synced t") && shown(" applies ") && shown(" ← n"));
        let mut out = Vec::new();
        shiviz(records, &mut out).unwrap();
        let lines = String::from_utf8(out).unwrap().lines().count();
        assert_eq!(lines, 2 + 2 * records.len());
        let mut out = Vec::new();
        perfetto(&merged.header, records, &mut out).unwrap();
        let flows = String::from_utf8(out).unwrap().matches(r#""ph":"f""#).count();
        assert_eq!(flows, received);
    }
}

#[test]
fn the_trace_of_a_killed_server_is_kept_and_readable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.jsonl");
    let mut ensemble = Ensemble::new(1, &format!("traceFile={}", path.display()));
    let mut client = ensemble.client();
    assert_eq!(client.call(create("/a", 0)).header.err, 0);
    wait_for("the write is told", || {
        trace_of(&path).records.iter().any(|r| r.kind == Kind::Durable).then_some(())
    });
    let old = ensemble.servers.remove(0);
    let port = old.port;
    drop(old);
    let file = ensemble.dir.path().join("1/zoo.cfg");
    let process = spawn(&["--config".into(), file.display().to_string()]);
    ensemble.servers.push(Server { port, process });
    wait_for("it serves again", || word(port, "srvr").filter(|t| t.contains("Mode: ")));
    let kept = trace_of(&folder.path().join("trace.jsonl.1"));
    assert!(kept.records.iter().any(|r| r.kind == Kind::Apply));
    assert_eq!(trace_of(&path).records.first().unwrap().kind, Kind::Start);
}
