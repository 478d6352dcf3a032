//! What goes into a run and what comes out of it.
//!
//! A [`Plan`] decides everything: the same plan gives the same [`Report`], to the last bit of [`Report::digest`].

use crate::Backend;
use crate::schedule::Schedule;
use history::History;
use serde::{Deserialize, Serialize};

/// One run, whole: nothing else decides what happens in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Which protocol.
    pub backend: Backend,
    /// Decides what the schedule leaves open, and every chance.
    pub seed: u64,
    /// What happens.
    pub schedule: Schedule,
}

/// What a run showed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// What clients saw.
    pub history: History,
    /// What was measured.
    pub figures: Figures,
    /// Steps whose trigger never came, or that found nothing to act on, by their place in the schedule.
    pub skipped: Vec<usize>,
    /// Equal for equal plans: a hash over all events of the run.
    pub digest: u64,
}

/// A broken rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// `C1` … `C16`, with the rule's name where one checker has several (`C13 election safety`), or `panic`.
    pub checker: String,
    /// What is wrong, for a reader.
    pub text: String,
    /// µs of virtual time.
    pub at_us: u64,
}

/// What was measured. Tₑ is the longest election timeout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// µs of virtual time.
    pub simulated_us: u64,
    /// ms of Tₑ.
    pub election_ms: u64,
    /// Frames between nodes.
    pub messages: u64,
    /// Frames lost, doubled, overtaken, damaged or cut off.
    pub message_faults: u64,
    /// Ends of processes, graceful ones not counted.
    pub crashes: u64,
    /// Starts of processes but the first.
    pub restarts: u64,
    /// Links or groups cut (one per action, flap or swizzle step).
    pub partitions: u64,
    /// Pauses and starvation.
    pub pauses: u64,
    /// Faults of disks and data directories: slow, stalled, full, failing, torn, rotten, misdirected, lost, wiped, old.
    pub disk_faults: u64,
    /// Clocks that jumped or drift.
    pub clock_faults: u64,
    /// Clients dropped, stopped, killed or slowed.
    pub client_faults: u64,
    /// Snapshots taken.
    pub snapshots: u64,
    /// Snapshots installed from a peer.
    pub installs: u64,
    /// Reigns that began after the first step.
    pub reigns: u64,
    /// Completed fsyncs.
    pub fsyncs: u64,
    /// Operations asked for by clients.
    pub ops: u64,
    /// Writes acknowledged.
    pub acked: u64,
    /// Writes acknowledged between the first step and the heal.
    pub acked_during: u64,
    /// Operations without an answer.
    pub unknown: u64,
    /// From the last heal until every client has committed, in Tₑ; none if no quorum with whole disks was left.
    pub recovery_te: Option<f64>,
    /// Longest time between two acknowledged writes from the first step to the end, in Tₑ.
    pub longest_gap_te: f64,
}
