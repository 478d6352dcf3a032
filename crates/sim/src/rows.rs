//! The rows of the fault matrix: number, fault, bound, and how each is shown.
//!
//! Rows 1 to 42 are single faults, row 43 is all of them together: pairs of schedules and random swarms. A row that
//! needs real processes is shown by the live runner, not here.

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number.
    pub number: u8,
    /// The fault.
    pub fault: &'static str,
    /// The bound after fault or heal.
    pub bound: &'static str,
    /// How it is shown.
    pub shown: Shown,
}

/// How a row is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// By named schedules.
    Schedules,
    /// By pairs of them and random swarms.
    Swarm,
    /// By real processes only.
    Live,
    /// Not at all, and why.
    Not(&'static str),
}

const fn row(number: u8, fault: &'static str, bound: &'static str) -> Row {
    Row { number, fault, bound, shown: Shown::Schedules }
}

const fn shown(mut row: Row, shown: Shown) -> Row {
    row.shown = shown;
    row
}

/// All rows, in order.
pub const ROWS: &[Row] = &[
    row(1, "follower crash", "no ack gap > 3 RTT"),
    row(2, "leader crash", "≤ 2 Tₑ"),
    row(3, "leader graceful stop", "≤ 5 RTT + 1 fsync"),
    row(4, "minority partition incl. leader", "≤ 2 Tₑ"),
    row(5, "even split, no quorum", "≤ 2 Tₑ after heal"),
    row(6, "leader sends, hears nothing", "≤ 3 Tₑ"),
    row(7, "leader hears, cannot send", "≤ 2 Tₑ"),
    row(8, "flapping link", "≤ 1 reign per 10 Tₑ"),
    row(9, "quorum-loss: hub only", "≤ 4 Tₑ"),
    row(10, "constrained election", "≤ 4 Tₑ; U: ≤ 2 Tₑ after heal"),
    row(11, "chained", "≤ 1 reign, then stable"),
    row(12, "swizzle-clog", "≤ 4 Tₑ after heal"),
    row(13, "loss 1, 10, 30 %", "degraded"),
    row(14, "duplicated, reordered, very late", "–"),
    row(15, "+100 ms, 1 MB/s", "no false election"),
    row(16, "slow follower disk", "as before"),
    row(17, "slow leader disk", "≤ 5 Tₑ"),
    row(18, "hung disk", "≤ 3 Tₑ"),
    row(19, "leader paused", "≤ 2 Tₑ, nothing stale"),
    row(20, "clocks jump and drift", "no session expires early"),
    row(21, "crash loses unsynced writes", "no acked loss"),
    row(22, "torn write at the tail", "recovers by itself"),
    row(23, "torn write of a vote", "never votes twice"),
    row(24, "bit rot in a log, minority", "repaired from peers"),
    row(25, "bit rot in logs, majority", "never silently truncated"),
    row(26, "bit rot in snapshots", "older one, else a peer's"),
    row(27, "misdirected, lost write", "detected"),
    row(28, "fsync fails once", "restart clean"),
    row(29, "disk full", "recovers with space"),
    row(30, "crash in a snapshot", "every point"),
    row(31, "crash in an install", "restart resumes"),
    row(32, "compaction races slow follower", "≤ 1 install per rejoin"),
    row(33, "amnesia: directory wiped", "a learner from then on"),
    row(34, "cloned directory, old backup", "refuse or catch up"),
    row(35, "rolling restart", "≤ 2 Tₑ per step"),
    shown(
        row(36, "reconfiguration under faults", "joint or single-step rules"),
        Shown::Not("no core changes its membership yet: `Reconfigure` is refused"),
    ),
    shown(row(37, "client storms", "heartbeats protected"), Shown::Live),
    row(38, "client faults", "per-connection caps"),
    shown(row(39, "out of memory", "as crash"), Shown::Live),
    shown(row(40, "leader starved of CPU", "no flap"), Shown::Live),
    shown(row(41, "peer's address changes", "re-resolve"), Shown::Live),
    row(42, "corrupt frame between nodes", "dropped, reconnect"),
    shown(row(43, "pairs of rows, random swarms", "as each"), Shown::Swarm),
];

/// The row of this number.
#[must_use]
pub fn by_number(number: u8) -> Option<&'static Row> {
    ROWS.iter().find(|r| r.number == number)
}

/// Numbers of the rows that named schedules show.
#[must_use]
pub fn simulated() -> Vec<u8> {
    ROWS.iter().filter(|r| r.shown == Shown::Schedules).map(|r| r.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;

    #[test]
    fn every_simulated_row_has_a_schedule_and_no_other() {
        // requirement: S21
        let named = Schedule::named().unwrap();
        for (n, row) in ROWS.iter().enumerate() {
            assert_eq!(usize::from(row.number), n + 1);
            let some = named.iter().any(|s| s.rows.contains(&row.number));
            assert_eq!(some, row.shown == Shown::Schedules, "row {}", row.number);
        }
    }
}
