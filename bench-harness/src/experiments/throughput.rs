//! Throughput and latency: get, set, create at 1, 16, 64 sessions with 1 and 16 requests under way. Closed loop.
//!
//! Sessions are spread over the three servers in turn: from the leader on in the first repeat, from its neighbour on in
//! the second, and so on. A single session on the leader saves a hop each way; every system gets that as often. The cells of one repeat run on one fresh cluster, in the same order for
//! every system: gets, sets, creates (which make the tree grow). Repeats are interleaved by the caller.

use crate::cluster::Cluster;
use crate::lab::{self, Lab};
use crate::load::{Op, Outcome, Plan, Probe};
use crate::record::{CellRun, Quiet};
use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use std::time::{Duration, Instant};

/// Sessions per cell.
pub(crate) const SESSIONS: [usize; 3] = [1, 16, 64];
/// Under way per session.
pub(crate) const DEPTHS: [usize; 2] = [1, 16];

/// The cells, in the order in which they run.
pub(crate) fn cells() -> impl Iterator<Item = (Op, usize, usize)> {
    Op::ALL
        .into_iter()
        .flat_map(|op| SESSIONS.into_iter().flat_map(move |s| DEPTHS.into_iter().map(move |d| (op, s, d))))
}

/// Runs a JVM until it is compiled: sets and gets with many sessions.
///
/// # Errors
/// As [`lab::drive`].
pub(crate) fn warm_up(cluster: &Cluster<'_>, for_s: f64) -> Result<()> {
    let since = Instant::now();
    let space = lab::space(cluster, "warmup", 64)?;
    let mut round = 0;
    while since.elapsed().as_secs_f64() < for_s {
        let (op, depth) = if round % 2 == 0 { (Op::Set, 16) } else { (Op::Get, 4) };
        let slice = Duration::from_secs_f64((for_s / 6.0).clamp(0.5, 5.0));
        let plan = Plan::closed(&cluster.clients(), op, 64, depth, slice);
        lab::drive(cluster.system.path(), &plan, &space, &Probe::default())?;
        round += 1;
    }
    Ok(())
}

/// Runs every cell once; what fails is handed to `failed` and the next cell is tried.
pub(crate) fn measure(
    lab: &Lab,
    cluster: &mut Cluster<'_>,
    repeat: usize,
    seconds: f64,
    mut failed: impl FnMut(String, anyhow::Error),
) -> (Vec<CellRun>, Quiet) {
    let mut runs = Vec::new();
    let (first, since) = (lab::reign(cluster), Instant::now());
    for (op, sessions, depth) in cells() {
        let name = format!("{} {sessions}×{depth}", op.name());
        lab.say(&format!("{} repeat {}: {name}", cluster.system.name(), repeat + 1));
        match cell(cluster, repeat, op, sessions, depth, seconds) {
            Ok(run) => runs.push(CellRun { repeat, ..run }),
            Err(e) => {
                failed(name, e);
                if let Err(e) = cluster.wait_serving(Duration::from_secs(30)) {
                    failed("recovering after it".into(), e);
                    break;
                }
            }
        }
    }
    let quiet = Quiet {
        system: cluster.system.name().to_owned(),
        load: "saturated".into(),
        seconds: since.elapsed().as_secs_f64(),
        elections: lab::reign(cluster).elections_since(&first),
        cpu_shares: Vec::new(),
    };
    (runs, quiet)
}

fn cell(
    cluster: &Cluster<'_>,
    repeat: usize,
    op: Op,
    sessions: usize,
    depth: usize,
    seconds: f64,
) -> Result<CellRun> {
    let space = lab::space(cluster, &format!("{}-{sessions}-{depth}", op.name()), sessions)?;
    let clients = cluster.clients_from_leader(repeat)?;
    let plan = Plan::closed(&clients, op, sessions, depth, Duration::from_secs_f64(seconds));
    let (reign, usage) = (lab::reign(cluster), lab::usage(cluster));
    let outcome = lab::drive(cluster.system.path(), &plan, &space, &Probe::default())?;
    let (server_cpu_s, server_switches) = lab::spent(&usage, &lab::usage(cluster));
    let leader_changes = lab::reign(cluster).elections_since(&reign);
    Ok(CellRun {
        system: cluster.system.name().to_owned(),
        op: op.name().to_owned(),
        sessions,
        depth,
        server_cpu_s,
        server_switches,
        leader_changes,
        ..record(&outcome)
    })
}

fn record(outcome: &Outcome) -> CellRun {
    CellRun {
        seconds: outcome.seconds,
        ok: outcome.ok,
        errors: outcome.errors.clone(),
        unknown: outcome.unknown,
        rate: outcome.rate(),
        p50_us: outcome.latency_us(50.0),
        p99_us: outcome.latency_us(99.0),
        max_us: outcome.latency.max() as f64 / 1e3,
        hdr_b64: encode(&outcome.latency),
        generator_cpu: outcome.cpu_share(),
        ..CellRun::default()
    }
}

fn encode(histogram: &hdrhistogram::Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => STANDARD.encode(bytes),
        Err(_) => String::new(),
    }
}

/// Reads back what [`CellRun::hdr_b64`] holds.
pub(crate) fn decode(text: &str) -> Option<hdrhistogram::Histogram<u64>> {
    let bytes = STANDARD.decode(text).ok()?;
    hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_18_cells_and_creates_come_last() {
        let all: Vec<_> = cells().collect();
        assert_eq!(all.len(), 18);
        assert!(all[12..].iter().all(|(op, ..)| *op == Op::Create));
    }

    #[test]
    fn a_histogram_survives_the_record() {
        let mut histogram = crate::load::histogram();
        (1..=1000u64).for_each(|i| histogram.saturating_record(i * 1_000));
        let back = decode(&encode(&histogram)).unwrap();
        assert_eq!((back.len(), back.value_at_percentile(50.0)), (1000, histogram.value_at_percentile(50.0)));
    }
}
