//! Schedules in words: a head line, then one line per step, in the order in which they happen.
//!
//! ```text
//! leader-crash: 3 voters, raft's own variant …
//!   at 2.000 s         crash the leader (power)
//!   3.000 s later      restart who is down
//! ```

use super::{Action, CrashKind, Schedule, Step, Target, Trigger};
use std::fmt::{self, Display, Formatter};

impl Display for Schedule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if !self.about.is_empty() {
            write!(f, ": {}", self.about)?;
        }
        writeln!(f)?;
        let c = &self.cluster;
        let mut cluster = Vec::new();
        let mut say = |what: &str, value: Option<String>| {
            if let Some(v) = value {
                cluster.push(format!("{what} {v}"));
            }
        };
        say("voters", c.voters.map(|v| v.to_string()));
        say("observers", c.observers.map(|v| v.to_string()));
        say("variant", c.variant.map(|v| v.name().to_owned()));
        say("latency", c.latency_us.map(|v| format!("{v} µs")));
        say("jitter", c.jitter_us.map(|v| format!("{v} µs")));
        say("fsync", c.fsync_us.map(|v| format!("{v} µs")));
        say("snapshot every", c.snapshot_every.map(|v| v.to_string()));
        say("keep", c.keep_entries.map(|v| v.to_string()));
        say("drift", c.drift_per_mille.map(|v| format!("{v} ‰")));
        say("switches", Some(c.switches.in_words()).filter(|w| !w.is_empty()));
        say("clients", self.workload.clients.map(|v| v.to_string()));
        say("rate", self.workload.rate.map(|v| format!("{v}/s")));
        say("session timeout", self.workload.timeout_ms.map(|v| format!("{v} ms")));
        if !cluster.is_empty() {
            writeln!(f, "  {}", cluster.join(", "))?;
        }
        for step in &self.steps {
            writeln!(f, "  {step}")?;
        }
        writeln!(f, "  {:<24} everything heals", format!("{} later", seconds(self.workload.tail_ms)))
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:<24} {}", self.when.to_string(), self.act)
    }
}

impl Display for Trigger {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(ms) => write!(f, "at {}", seconds(*ms)),
            Self::After(0) => write!(f, "at once"),
            Self::After(ms) => write!(f, "{} later", seconds(*ms)),
            Self::Leader {} => write!(f, "when somebody leads"),
            Self::NoLeader {} => write!(f, "when nobody leads"),
            Self::Electing {} => write!(f, "when somebody elects"),
            Self::LagOver(n) => write!(f, "when one lags by {n}"),
            Self::Committed(n) => write!(f, "{n} commits later"),
            Self::SnapshotSent {} => write!(f, "when a snapshot is sent"),
            Self::SnapshotTaken {} => write!(f, "when a snapshot is taken"),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => write!(f, "the leader"),
            Self::Follower => write!(f, "a follower"),
            Self::BestFollower => write!(f, "the best follower"),
            Self::WorstFollower => write!(f, "the worst follower"),
            Self::Down => write!(f, "who is down"),
            Self::Same => write!(f, "the same node"),
            Self::Any => write!(f, "any node"),
            Self::Node(id) => write!(f, "node {id}"),
            Self::All => write!(f, "all nodes"),
        }
    }
}

impl Display for CrashKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Power => "power cut",
            Self::Torn => "torn writes",
        })
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { node, how } => write!(f, "crash {node} ({how})"),
            Self::CrashAtWrite { node, operations, how } => {
                write!(f, "crash {node} at its disk operation {operations} ({how})")
            }
            Self::Restart { node } => write!(f, "restart {node}"),
            Self::Stop { node } => write!(f, "stop {node} gracefully"),
            Self::Pause { node } => write!(f, "pause {node}"),
            Self::Resume { node } => write!(f, "resume {node}"),
            Self::Starve { node, ms, period_ms } => write!(f, "starve {node}: {ms} of every {period_ms} ms"),
            Self::Transfer {} => write!(f, "transfer leadership"),
            Self::Wipe { node } => write!(f, "wipe the data of {node}"),
            Self::CloneFrom { node, of } => write!(f, "give {node} a copy of the data of {of}"),
            Self::Backup { node } => write!(f, "back up {node}"),
            Self::RestoreBackup { node } => write!(f, "restore the backup of {node}"),
            Self::Cut { a, b } => write!(f, "cut {a} ╳ {b}"),
            Self::CutOneWay { from, to } => write!(f, "cut {from} → {to}"),
            Self::Deafen { node } => write!(f, "deafen {node}"),
            Self::Mute { node } => write!(f, "mute {node}"),
            Self::Isolate { node } => write!(f, "isolate {node}"),
            Self::Split { with_leader } => write!(f, "split: the leader and {with_leader} | the rest"),
            Self::HubOnly { hub } => write!(f, "cut all links but those of {hub}"),
            Self::Flap { a, b, period_ms } => write!(f, "flap {a} ~ {b} every {period_ms} ms"),
            Self::Swizzle { gap_ms } => write!(f, "swizzle-clog, {gap_ms} ms apart"),
            Self::BreakLink { a, b } => write!(f, "break the connection {a} – {b}"),
            Self::CorruptFrame { a, b } => write!(f, "corrupt a frame {a} – {b}"),
            Self::Noise { loss, duplicate, reorder } => {
                write!(f, "noise: lose {loss} ‰, double {duplicate} ‰, reorder {reorder} ‰")
            }
            Self::Slow { latency_ms, jitter_ms, bytes_per_second } => {
                write!(f, "slow network: {latency_ms} ms + {jitter_ms} ms, {bytes_per_second} B/s")
            }
            Self::Heal {} => write!(f, "heal the network"),
            Self::SlowDisk { node, factor } => write!(f, "disk of {node} {factor} times slower"),
            Self::StallDisk { node, ms } => write!(f, "disk of {node} hangs for {}", seconds(*ms)),
            Self::FillDisk { node, room } => write!(f, "disk of {node} has {room} bytes left"),
            Self::MendDisk { node } => write!(f, "mend the disk of {node}"),
            Self::FailFsync { node } => write!(f, "next fsync of {node} fails"),
            Self::Misdirect { node } => write!(f, "next write of {node} goes astray"),
            Self::LoseWrite { node } => write!(f, "next write of {node} is lost"),
            Self::RotLog { node } => write!(f, "a log record of {node} rots, restart"),
            Self::RotMajority {} => write!(f, "the same log record rots on a majority, restart"),
            Self::RotSnapshot { node, all: false } => write!(f, "the newest snapshot of {node} rots"),
            Self::RotSnapshot { node, all: true } => write!(f, "all snapshots of {node} rot"),
            Self::ClockJump { node, ms } => write!(f, "wall clock of {node} jumps by {ms} ms"),
            Self::ClockRate { node, per_mille } => write!(f, "clock of {node} runs at {per_mille} ‰"),
            Self::Snapshot { node } => write!(f, "{node} takes a snapshot"),
            Self::DropClients { count } => write!(f, "{count} clients lose their connections"),
            Self::StopClients { count, ms } => write!(f, "{count} clients stop for {}", seconds(*ms)),
            Self::KillClients { count } => write!(f, "{count} clients end"),
            Self::SlowReaders { count, ms } => write!(f, "{count} clients do not read for {}", seconds(*ms)),
        }
    }
}

impl Action {
    /// Its name in files.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::CrashAtWrite { .. } => "crash_at_write",
            Self::Restart { .. } => "restart",
            Self::Stop { .. } => "stop",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Starve { .. } => "starve",
            Self::Transfer {} => "transfer",
            Self::Wipe { .. } => "wipe",
            Self::CloneFrom { .. } => "clone_from",
            Self::Backup { .. } => "backup",
            Self::RestoreBackup { .. } => "restore_backup",
            Self::Cut { .. } => "cut",
            Self::CutOneWay { .. } => "cut_one_way",
            Self::Deafen { .. } => "deafen",
            Self::Mute { .. } => "mute",
            Self::Isolate { .. } => "isolate",
            Self::Split { .. } => "split",
            Self::HubOnly { .. } => "hub_only",
            Self::Flap { .. } => "flap",
            Self::Swizzle { .. } => "swizzle",
            Self::BreakLink { .. } => "break_link",
            Self::CorruptFrame { .. } => "corrupt_frame",
            Self::Noise { .. } => "noise",
            Self::Slow { .. } => "slow",
            Self::Heal {} => "heal",
            Self::SlowDisk { .. } => "slow_disk",
            Self::StallDisk { .. } => "stall_disk",
            Self::FillDisk { .. } => "fill_disk",
            Self::MendDisk { .. } => "mend_disk",
            Self::FailFsync { .. } => "fail_fsync",
            Self::Misdirect { .. } => "misdirect",
            Self::LoseWrite { .. } => "lose_write",
            Self::RotLog { .. } => "rot_log",
            Self::RotMajority {} => "rot_majority",
            Self::RotSnapshot { .. } => "rot_snapshot",
            Self::ClockJump { .. } => "clock_jump",
            Self::ClockRate { .. } => "clock_rate",
            Self::Snapshot { .. } => "snapshot",
            Self::DropClients { .. } => "drop_clients",
            Self::StopClients { .. } => "stop_clients",
            Self::KillClients { .. } => "kill_clients",
            Self::SlowReaders { .. } => "slow_readers",
        }
    }

    /// Whether it does harm; the others mend, or only look harmful.
    #[must_use]
    pub const fn harms(&self) -> bool {
        !matches!(
            self,
            Self::Restart { .. }
                | Self::Resume { .. }
                | Self::Heal {}
                | Self::MendDisk { .. }
                | Self::Backup { .. }
                | Self::Snapshot { .. }
        )
    }

    /// The nodes that it names, in the order of its fields.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        match *self {
            Self::Crash { node, .. }
            | Self::CrashAtWrite { node, .. }
            | Self::Restart { node }
            | Self::Stop { node }
            | Self::Pause { node }
            | Self::Resume { node }
            | Self::Starve { node, .. }
            | Self::Wipe { node }
            | Self::Backup { node }
            | Self::RestoreBackup { node }
            | Self::Deafen { node }
            | Self::Mute { node }
            | Self::Isolate { node }
            | Self::SlowDisk { node, .. }
            | Self::StallDisk { node, .. }
            | Self::FillDisk { node, .. }
            | Self::MendDisk { node }
            | Self::FailFsync { node }
            | Self::Misdirect { node }
            | Self::LoseWrite { node }
            | Self::RotLog { node }
            | Self::RotSnapshot { node, .. }
            | Self::ClockJump { node, .. }
            | Self::ClockRate { node, .. }
            | Self::Snapshot { node }
            | Self::HubOnly { hub: node } => vec![node],
            Self::CloneFrom { node: a, of: b }
            | Self::Cut { a, b }
            | Self::CutOneWay { from: a, to: b }
            | Self::Flap { a, b, .. }
            | Self::BreakLink { a, b }
            | Self::CorruptFrame { a, b } => vec![a, b],
            Self::Transfer {}
            | Self::Split { .. }
            | Self::Swizzle { .. }
            | Self::Noise { .. }
            | Self::Slow { .. }
            | Self::Heal {}
            | Self::RotMajority {}
            | Self::DropClients { .. }
            | Self::StopClients { .. }
            | Self::KillClients { .. }
            | Self::SlowReaders { .. } => Vec::new(),
        }
    }
}
