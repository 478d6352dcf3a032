//! What a run leaves behind: `run.json`, schema `menagerie.bench/1`. Reports are made from it and from nothing else.
//!
//! Everything measured is here as it was measured, failures included; summaries are computed by the report.
//! Units are in the names: `_us` microseconds, `_ms` milliseconds, `_s` seconds.

use crate::environment::Environment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema's name.
pub(crate) const SCHEMA: &str = "menagerie.bench/1";

/// One run of the harness.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// Folder name of the run.
    pub(crate) run_id: String,
    /// When it began, RFC 3339 in UTC.
    pub(crate) started_utc: String,
    /// How long it took.
    pub(crate) duration_s: f64,
    /// The command that was given.
    pub(crate) command: String,
    /// `quick` or `full`.
    pub(crate) suite: String,
    /// Commit of the harness and of our servers.
    pub(crate) git_sha: String,
    /// Whether the tree had changes on top.
    pub(crate) git_dirty: bool,
    /// The machine.
    pub(crate) environment: Environment,
    /// What was raced.
    pub(crate) systems: Vec<SystemRecord>,
    /// Repeats of the throughput cells.
    pub(crate) repeats: usize,
    /// Seconds measured per cell and repeat.
    pub(crate) cell_seconds: f64,
    /// What the generator reaches against a server that does nothing.
    pub(crate) generator: Vec<GeneratorProof>,
    /// Throughput and latency.
    pub(crate) cells: Vec<CellRun>,
    /// Elections forced.
    pub(crate) elections: Vec<ElectionTrial>,
    /// Elections that nobody forced.
    pub(crate) quiet: Vec<Quiet>,
    /// Rejoining followers.
    pub(crate) syncs: Vec<SyncTrial>,
    /// Cost per commit.
    pub(crate) commits: Vec<CommitCost>,
    /// Memory.
    pub(crate) memory: Vec<MemoryUse>,
    /// What went wrong, as it was said.
    pub(crate) failures: Vec<Failure>,
}

/// A system under test.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SystemRecord {
    /// Short name.
    pub(crate) name: String,
    /// Its own version.
    pub(crate) version: String,
    /// How it was driven.
    pub(crate) client_path: String,
    /// How the first server was started.
    pub(crate) command_line: String,
}

/// The generator against the null server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GeneratorProof {
    /// Sessions.
    pub(crate) sessions: usize,
    /// Under way per session.
    pub(crate) depth: usize,
    /// Replies per second.
    pub(crate) rate: f64,
}

/// One cell, one system, one repeat. Closed loop.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CellRun {
    /// Which system.
    pub(crate) system: String,
    /// Which repeat, from 0.
    pub(crate) repeat: usize,
    /// `get`, `set`, `create`.
    pub(crate) op: String,
    /// Sessions.
    pub(crate) sessions: usize,
    /// Under way per session.
    pub(crate) depth: usize,
    /// Window measured.
    pub(crate) seconds: f64,
    /// Successes in it.
    pub(crate) ok: u64,
    /// Errors in it by code.
    pub(crate) errors: BTreeMap<i32, u64>,
    /// Connection lost before the reply.
    pub(crate) unknown: u64,
    /// Successes per second.
    pub(crate) rate: f64,
    /// Latency percentiles of this repeat.
    pub(crate) p50_us: f64,
    /// 99th.
    pub(crate) p99_us: f64,
    /// Largest.
    pub(crate) max_us: f64,
    /// The whole histogram (HdrHistogram V2 deflate, base64), in ns.
    pub(crate) hdr_b64: String,
    /// Share of a core that the generator used.
    pub(crate) generator_cpu: f64,
    /// CPU time of the three servers, s.
    pub(crate) server_cpu_s: f64,
    /// Context switches of the three servers.
    pub(crate) server_switches: u64,
    /// Leader changes during the cell that nobody asked for.
    pub(crate) leader_changes: u64,
}

impl CellRun {
    /// `set 64×16`.
    pub(crate) fn cell(&self) -> String {
        format!("{} {}×{}", self.op, self.sessions, self.depth)
    }
}

/// One forced election under open-loop load. Times count from the fault.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ElectionTrial {
    /// Which system.
    pub(crate) system: String,
    /// `kill` (SIGKILL) or `freeze` (SIGSTOP) of the leader.
    pub(crate) fault: String,
    /// Which trial.
    pub(crate) trial: usize,
    /// First survivor to notice, by its own log.
    pub(crate) detected_ms: Option<f64>,
    /// A new leader known, by its own log.
    pub(crate) elected_ms: Option<f64>,
    /// It leads with a quorum in sync, by its own log.
    pub(crate) serving_ms: Option<f64>,
    /// First command of the new reign applied, by its own log.
    pub(crate) committed_ms: Option<f64>,
    /// First success at a client after the outage.
    pub(crate) replied_ms: Option<f64>,
    /// Longest time without any success.
    pub(crate) gap_ms: f64,
    /// 99th percentile of latency from the planned start over the whole trial.
    pub(crate) p99_ms: f64,
    /// Successes.
    pub(crate) ok: u64,
    /// Errors.
    pub(crate) errors: u64,
    /// Connection lost before the reply.
    pub(crate) unknown: u64,
    /// Planned but never sent.
    pub(crate) dropped: u64,
    /// Sessions that the servers declared gone.
    pub(crate) expired: u64,
    /// Whether a session opened before, and its ephemeral node, were still there afterwards.
    pub(crate) session_kept: Option<bool>,
}

/// A time in which nobody asked for an election.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Quiet {
    /// Which system.
    pub(crate) system: String,
    /// `idle` or `saturated`.
    pub(crate) load: String,
    /// How long.
    pub(crate) seconds: f64,
    /// Leader changes seen.
    pub(crate) elections: u64,
    /// CPU per server, share of a core (idle only).
    pub(crate) cpu_shares: Vec<f64>,
}

/// A follower that missed writes comes back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SyncTrial {
    /// Which system.
    pub(crate) system: String,
    /// `log` or `snapshot`: how it was made to catch up.
    pub(crate) by: String,
    /// Writes missed.
    pub(crate) missed: u64,
    /// From the process's start until it holds what was committed then.
    pub(crate) seconds: f64,
    /// Bytes that the leader sent for it (log and snapshot), if it tells.
    pub(crate) bytes: Option<f64>,
    /// Messages that the leader sent in the Sync phase, if it tells.
    pub(crate) messages: Option<f64>,
    /// Syncs of the follower's log meanwhile, if it tells.
    pub(crate) fsyncs: Option<f64>,
    /// Snapshots that the leader streamed, if it tells.
    pub(crate) snapshots: Option<f64>,
    /// 99th percentile of the foreground's latency before.
    pub(crate) p99_before_ms: f64,
    /// The same during the catch-up.
    pub(crate) p99_during_ms: f64,
    /// Longest time without a success during the catch-up.
    pub(crate) gap_ms: f64,
    /// Foreground requests that failed.
    pub(crate) failed: u64,
}

/// Counters per committed write.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CommitCost {
    /// Which system.
    pub(crate) system: String,
    /// `1×1` (batch of one) or `64×16` (batches as they form).
    pub(crate) load: String,
    /// Writes committed meanwhile.
    pub(crate) commits: f64,
    /// Consensus messages in the cluster per commit.
    pub(crate) messages: Option<f64>,
    /// Consensus bytes out of the leader per commit.
    pub(crate) leader_bytes: Option<f64>,
    /// Log syncs in the cluster per commit.
    pub(crate) fsyncs: Option<f64>,
    /// Consensus messages in the cluster per commit at batch 1, by experiments.md section 1.
    pub(crate) predicted_messages: f64,
    /// Log syncs in the cluster per commit at batch 1.
    pub(crate) predicted_fsyncs: f64,
    /// CPU time of the servers per commit, µs.
    pub(crate) cpu_us: f64,
}

/// Resident memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct MemoryUse {
    /// Which system.
    pub(crate) system: String,
    /// znodes.
    pub(crate) znodes: u64,
    /// Bytes of data in each.
    pub(crate) value_bytes: u64,
    /// Resident bytes of each server, empty.
    pub(crate) empty_bytes: Vec<u64>,
    /// Resident bytes of each server.
    pub(crate) rss_bytes: Vec<u64>,
}

/// Something that did not work.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Which system.
    pub(crate) system: String,
    /// Doing what.
    pub(crate) during: String,
    /// What was said.
    pub(crate) error: String,
}
