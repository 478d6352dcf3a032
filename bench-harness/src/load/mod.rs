//! The load generator: one thread, one `epoll`, raw frames in batches.
//!
//! Two models, always named with a result (experiments.md section 3, rule 1):
//! * **closed loop**: N sessions, each keeps d requests under way; shows what the servers can do at most;
//! * **open loop**: requests leave by a plan that no reply can slow down; latency counts from the *planned* start, so
//!   an outage is felt by every request that should have been sent during it.
//!
//! ```text
//!  Plan ──► driver::run ──► Outcome { ok, errors, unknown, dropped, latency, service, lag, acks … }
//! ```
//!
//! Invariants: every planned request ends as exactly one of ok, error, unknown or dropped (or is under way when the
//! run ends); histograms are in nanoseconds and are merged, never averaged.

mod driver;
pub(crate) mod frames;
pub(crate) mod http;
mod link;
pub(crate) mod prepare;
pub(crate) mod wire;

pub(crate) use driver::{Probe, run};
pub(crate) use wire::Op;

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What decides when a request leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As soon as an earlier one is answered.
    Closed,
    /// By plan: so many per second in all, at fixed distances.
    Open {
        /// Requests per second.
        per_second: u32,
        /// Planned requests that may wait for a connection; more are dropped and counted.
        max_waiting: usize,
    },
}

/// One run of the generator.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Client addresses; session i prefers server i modulo their number.
    pub(crate) servers: Vec<SocketAddr>,
    /// Sessions.
    pub(crate) sessions: usize,
    /// Requests that a session may have under way.
    pub(crate) depth: usize,
    /// What is done.
    pub(crate) op: Op,
    /// When.
    pub(crate) pace: Pace,
    /// Time before anything is counted.
    pub(crate) warmup: Duration,
    /// Time counted.
    pub(crate) measure: Duration,
    /// Stop after so many requests.
    pub(crate) limit: Option<u64>,
    /// Keys per session that get and set choose from.
    pub(crate) keys: u64,
    /// Keep the time of every success (fault runs).
    pub(crate) keep_acks: bool,
}

impl Plan {
    /// A closed-loop run of `measure` after a tenth of warm-up.
    pub(crate) fn closed(
        servers: &[SocketAddr],
        op: Op,
        sessions: usize,
        depth: usize,
        measure: Duration,
    ) -> Self {
        Self {
            servers: servers.to_vec(),
            sessions,
            depth,
            op,
            pace: Pace::Closed,
            warmup: measure / 5,
            measure,
            limit: None,
            keys: prepare::KEYS,
            keep_acks: false,
        }
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Zero of every time below.
    pub(crate) started: Instant,
    /// Length of the measured window, s.
    pub(crate) seconds: f64,
    /// Requests sent inside the run.
    pub(crate) sent: u64,
    /// Successes inside the window.
    pub(crate) ok: u64,
    /// Errors inside the window by code.
    pub(crate) errors: BTreeMap<i32, u64>,
    /// Requests whose connection was lost before the reply.
    pub(crate) unknown: u64,
    /// Planned requests that found no place (open loop).
    pub(crate) dropped: u64,
    /// Reply − planned start, ns.
    pub(crate) latency: Histogram<u64>,
    /// Reply − actual send, ns.
    pub(crate) service: Histogram<u64>,
    /// Actual send − planned start, ns.
    pub(crate) lag: Histogram<u64>,
    /// Successes, ns since `started`, if asked for; ascending.
    pub(crate) acks: Vec<u64>,
    /// Latency of each of them from its planned start, ns.
    pub(crate) ack_latencies: Vec<u64>,
    /// Connections lost.
    pub(crate) losses: u64,
    /// Sessions lost.
    pub(crate) expired: u64,
    /// CPU time of the generator's thread over the window, s.
    pub(crate) cpu_seconds: f64,
}

impl Outcome {
    /// Successes per second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.ok as f64 / self.seconds } else { 0.0 }
    }

    /// A latency percentile in microseconds.
    pub(crate) fn latency_us(&self, percent: f64) -> f64 {
        self.latency.value_at_percentile(percent) as f64 / 1e3
    }

    /// Share of one core that the generator itself used.
    pub(crate) fn cpu_share(&self) -> f64 {
        if self.seconds > 0.0 { self.cpu_seconds / self.seconds } else { 0.0 }
    }

    /// Errors of all kinds.
    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.unknown + self.dropped
    }

    /// The longest time without a success within `from..to` (ns since `started`): its start and its end. Without
    /// any success after the last one the gap ends at `to`.
    pub(crate) fn longest_gap(&self, from: u64, to: u64) -> (u64, u64) {
        let mut longest = (from, from);
        let mut previous = from;
        let inside = self.acks.iter().copied().filter(|t| (from..=to).contains(t));
        for ack in inside.chain([to]) {
            if ack - previous > longest.1 - longest.0 {
                longest = (previous, ack);
            }
            previous = ack;
        }
        longest
    }
}

/// A histogram for 1 µs .. 10 min in ns, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1_000, 600_000_000_000, 3)
        .or_else(|_| Histogram::new(3))
        .unwrap_or_else(|e| unreachable!("constant bounds: {e}"));
    histogram.auto(true);
    histogram
}

#[cfg(test)]
mod tests;
