//! A fault schedule: what happens to a cluster, when, and what is expected of it. The same schedule runs on all protocols.
//!
//! Named schedules are TOML files under `crates/sim/schedules/`; random runs draw theirs from the seed (`swarm`). Both
//! are the same type, so one runner carries them out and one shrinker takes them apart.
//!
//! ```toml
//! name = "leader-crash"
//! rows = [2]                                  # of the fault matrix (reliability.md §1)
//! about = "The leader is killed under load and comes back."
//! [cluster]
//! voters = 3
//! [[step]]
//! when = { at = 2000 }                        # ms of virtual time
//! do = { crash = { node = "leader", how = "power" } }
//! [[step]]
//! when = { after = 3000 }                     # ms after the step before
//! do = { restart = { node = "down" } }
//! [expect]
//! commit_within_te = 2.0
//! ```
//!
//! Triggers and targets are neutral: they name roles and figures that every protocol has.

mod load;
mod named;
mod story;
mod switches;

pub use load::{LoadError, PROTOCOLS};
pub use named::NAMED;
pub use switches::Switches;

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its file name without the suffix, or `swarm`.
    pub name: String,
    /// Rows of the fault matrix that it belongs to.
    #[serde(default)]
    pub rows: Vec<u8>,
    /// One sentence.
    #[serde(default)]
    pub about: String,
    /// Its times mean something: a seed does not shift them.
    #[serde(default)]
    pub exact: bool,
    /// The cluster.
    #[serde(default)]
    pub cluster: ClusterPlan,
    /// What clients do meanwhile.
    #[serde(default)]
    pub workload: Workload,
    /// In order. A step's trigger is looked at once the step before was carried out.
    #[serde(default, rename = "step")]
    pub steps: Vec<Step>,
    /// What is expected.
    #[serde(default)]
    pub expect: Expect,
}

/// The cluster of a schedule. What is left out, the seed decides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterPlan {
    /// 1 to 7.
    pub voters: Option<u32>,
    /// Observers.
    pub observers: Option<u32>,
    /// Hardened (as shipped) or textbook (as in the papers).
    pub variant: Option<Variant>,
    /// One-way delay of a frame, µs.
    pub latency_us: Option<u64>,
    /// Up to so much more, µs.
    pub jitter_us: Option<u64>,
    /// Time of an fsync, µs.
    pub fsync_us: Option<u64>,
    /// A snapshot every so many entries.
    pub snapshot_every: Option<u64>,
    /// Entries kept in the log behind a snapshot.
    pub keep_entries: Option<u64>,
    /// Rate of the nodes' clocks: up to so many per mille too fast or too slow.
    pub drift_per_mille: Option<u32>,
    /// Switches of the cores.
    #[serde(skip_serializing_if = "Switches::is_empty")]
    pub switches: Switches,
}

/// As shipped or as in the paper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// As shipped.
    #[default]
    Hardened,
    /// As in the paper: no PreVote, no CheckQuorum, votes and heartbeats without connectivity.
    Textbook,
}

/// What clients do during a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// Clients. What is left out, the seed decides.
    pub clients: Option<u32>,
    /// Operations a second, all clients together.
    pub rate: Option<u32>,
    /// Session timeout asked for, ms.
    pub timeout_ms: Option<u32>,
    /// ms of load after the last step, before everything heals.
    pub tail_ms: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self { clients: None, rate: None, timeout_ms: None, tail_ms: 2000 }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When.
    pub when: Trigger,
    /// What.
    #[serde(rename = "do")]
    pub act: Action,
}

/// When a step is carried out. Every trigger but the first two is given up after 20 Tₑ, and the step is skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Trigger {
    /// At this ms of virtual time (at once if it is past).
    At(u64),
    /// This many ms after the step before.
    After(u64),
    /// As soon as somebody leads and takes commands.
    Leader {},
    /// As soon as nobody does.
    NoLeader {},
    /// As soon as somebody is electing.
    Electing {},
    /// As soon as some replica lies this many entries behind the leader.
    LagOver(u64),
    /// As soon as so many more entries are committed.
    Committed(u64),
    /// As soon as a snapshot is being sent.
    SnapshotSent {},
    /// As soon as one was taken (counted from the step before).
    SnapshotTaken {},
}

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The leader; without one, the node with the longest log.
    Leader,
    /// A follower.
    Follower,
    /// The follower with the longest log.
    BestFollower,
    /// The follower with the shortest log.
    WorstFollower,
    /// A node that is down, or paused, or cut off; the first that went.
    Down,
    /// The node that the last step that named one was about (the first one, if it named two).
    Same,
    /// Any node, as the seed has it.
    Any,
    /// This one.
    Node(u32),
    /// Every node (where that makes sense: crash, restart, disks).
    All,
}

/// What is done. Names of fields: ms are virtual.
#[allow(missing_docs, reason = "a field is named by what it holds")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    // ---- processes
    /// The process ends at once.
    Crash { node: Target, how: CrashKind },
    /// The process ends after so many more operations on its disk, in the middle of whatever it does.
    CrashAtWrite { node: Target, operations: u64, how: CrashKind },
    /// A node that is down starts again on its disk.
    Restart { node: Target },
    /// A graceful stop: leadership is handed over first.
    Stop { node: Target },
    /// The process is stopped (SIGSTOP).
    Pause { node: Target },
    /// It goes on.
    Resume { node: Target },
    /// The node handles nothing for `ms` out of every `period_ms` (starved of CPU), until `heal`.
    Starve { node: Target, ms: u64, period_ms: u64 },
    /// Leadership is handed to another.
    Transfer {},
    // ---- data directories
    /// Its data directory is emptied while it is down, or after a kill.
    Wipe { node: Target },
    /// Its data directory becomes a copy of another's.
    CloneFrom { node: Target, of: Target },
    /// Its data directory is put aside …
    Backup { node: Target },
    /// … and put back, as old as it is.
    RestoreBackup { node: Target },
    // ---- network
    /// Nothing passes between two nodes.
    Cut { a: Target, b: Target },
    /// Nothing passes from one node to another.
    CutOneWay { from: Target, to: Target },
    /// The node can send and hears nothing.
    Deafen { node: Target },
    /// The node hears and cannot send.
    Mute { node: Target },
    /// Nothing passes between the node and the others.
    Isolate { node: Target },
    /// Two groups: the leader with so many followers, and the rest.
    Split { with_leader: u32 },
    /// All links but those of this node are cut (quorum-loss; five voters).
    HubOnly { hub: Target },
    /// The link between two nodes goes down and comes back every `period_ms`, until `heal`.
    Flap { a: Target, b: Target, period_ms: u64 },
    /// Links stop one after another, `gap_ms` apart, and heal in another order (swizzle-clog).
    Swizzle { gap_ms: u64 },
    /// The connection between two nodes breaks and is made anew.
    BreakLink { a: Target, b: Target },
    /// A frame between two nodes is damaged: its checksum fails, the link goes down and is made anew.
    CorruptFrame { a: Target, b: Target },
    /// Loss, duplication and reordering from now on, per mille of frames. Under a protocol that declares FIFO links a
    /// lost or overtaken frame is one that breaks the connection, as TCP would.
    Noise { loss: u32, duplicate: u32, reorder: u32 },
    /// One-way delay and jitter from now on, and bytes a second of each link (0: unlimited).
    Slow { latency_ms: u64, jitter_ms: u64, bytes_per_second: u64 },
    /// Every link is whole, noise and slowness end, starved and paused nodes go on. Nodes that are down stay down.
    Heal {},
    // ---- disks
    /// Every fsync takes so many times as long, until `mend_disk`.
    SlowDisk { node: Target, factor: u64 },
    /// No write completes for so long.
    StallDisk { node: Target, ms: u64 },
    /// The disk has no room left for so many bytes more.
    FillDisk { node: Target, room: u64 },
    /// Space, speed and life come back.
    MendDisk { node: Target },
    /// The next fsync fails.
    FailFsync { node: Target },
    /// The next write goes to another place of its file.
    Misdirect { node: Target },
    /// The next write is acknowledged and lost.
    LoseWrite { node: Target },
    /// One bit of a committed log record rots; it is found at the next restart, which follows at once.
    RotLog { node: Target },
    /// The same entry rots on a majority.
    RotMajority {},
    /// A bit of the newest snapshot rots (or of all).
    RotSnapshot { node: Target, all: bool },
    // ---- clocks
    /// The wall clock jumps.
    ClockJump { node: Target, ms: i64 },
    /// The monotonic clock runs at this many per mille of its rate (900 to 1100).
    ClockRate { node: Target, per_mille: u32 },
    // ---- snapshots
    /// It takes a snapshot now.
    Snapshot { node: Target },
    // ---- clients
    /// So many clients lose their connections at once, and come back.
    DropClients { count: u32 },
    /// So many clients stop for so long: no heartbeats, no reads (SIGSTOP, half-open TCP).
    StopClients { count: u32, ms: u64 },
    /// So many clients end without closing their sessions.
    KillClients { count: u32 },
    /// So many clients stop reading, go on sending, for so long.
    SlowReaders { count: u32, ms: u64 },
}

/// What becomes of unsynced writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashKind {
    /// The page cache survives (kill −9).
    #[default]
    Kill,
    /// They are lost (power cut).
    Power,
    /// Some sectors of them survive (torn writes).
    Torn,
}

/// What is expected. Safety is always: a violation fails every schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// After the last heal (or the last step, if nothing heals) every client commits within so many Tₑ. Left out: 20.
    pub commit_within_te: Option<f64>,
    /// No gap between two acknowledged writes is longer than so many Tₑ.
    pub gap_within_te: Option<f64>,
    /// At most so many leaders take over between the first step and the end.
    pub reigns_at_most: Option<u64>,
    /// Commits are expected to stop until the faults are healed; why, in words (shown in the matrix).
    pub unavailable: Option<String>,
    /// No progress is asked for, not even after everything healed; why, in words.
    pub safety_only: Option<String>,
    /// Other expectations for one protocol or variant: keys `zab`, `raft`, `paxos`, `textbook`, `zab.textbook`, ….
    pub but: std::collections::BTreeMap<String, Expect>,
}
