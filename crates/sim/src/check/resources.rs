//! C15 resource bounds: queues, memory and disks stay bounded under faults, and come back to their baseline after.
//!
//! Two kinds of figures. What only grows while something is in the way (queues, undurable writes, a log that
//! cannot be purged) must be short once nothing is. What is kept on purpose (entries in memory, snapshots) has a bound
//! that follows from the options, and holds at every moment.
// spec: reliability.md §2 C15, §4 rule 11; contract-schedules §12

use super::fact::{Event, Fact, Load, Verdict, require};

const RULE: &str = "C15 resource bounds";

/// What a node may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In every queue when all is calm: what one batch under way amounts to.
    pub at_rest: u64,
    /// Bytes of entries in memory.
    pub recent_bytes: u64,
    /// Entries of the log, when it had the time to be purged.
    pub log_entries: u64,
    /// Files of snapshots.
    pub snapshots: u64,
}

/// Looks at the figures of a node.
///
/// # Errors
/// When one is out of bounds.
pub(super) fn see(bounds: &Bounds, event: &Event<'_>) -> Verdict {
    let Fact::Load { load, calm } = event.fact else { return Ok(()) };
    let Load { outbox_messages, recent_bytes, pending_writes, unapplied, proposals, log_entries, snapshots } =
        load;
    let kept = [
        ("bytes of entries in memory", recent_bytes, bounds.recent_bytes),
        ("files of snapshots", snapshots, bounds.snapshots),
    ];
    let queues = [
        ("messages that wait for peers", outbox_messages, bounds.at_rest),
        ("writes under way", pending_writes, bounds.at_rest),
        ("committed entries not applied", unapplied, bounds.at_rest),
        ("proposals that wait", proposals, bounds.at_rest),
        ("entries of log", log_entries, bounds.log_entries),
    ];
    let queues = queues.into_iter().filter(|_| calm);
    for (what, found, bound) in kept.into_iter().chain(queues) {
        require(found <= bound, RULE, || {
            let when = if calm { " although all is calm" } else { "" };
            format!("{} holds {found} {what}{when}; the bound is {bound}", event.node)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::*;

    #[test]
    fn queues_empty_when_calm_and_the_rest_is_always_bounded() {
        let bounds = Bounds { at_rest: 10, recent_bytes: 100, log_entries: 1000, snapshots: 5 };
        let look = |load, calm| see(&bounds, &event(1, 1, Fact::Load { load, calm }));
        let queue = Load { outbox_messages: 11, ..Load::default() };
        assert_eq!(look(queue, false), Ok(()), "a peer is away");
        assert!(look(queue, true).unwrap_err().text.contains("11 messages that wait for peers although"));
        for load in [Load { recent_bytes: 101, ..Load::default() }, Load { snapshots: 6, ..Load::default() }]
        {
            assert_eq!(look(load, false).unwrap_err().checker, RULE);
        }
        for load in [
            Load { pending_writes: 11, ..Load::default() },
            Load { unapplied: 11, ..Load::default() },
            Load { proposals: 11, ..Load::default() },
            Load { log_entries: 1001, ..Load::default() },
        ] {
            assert_eq!((look(load, false), look(load, true).is_err()), (Ok(()), true));
        }
    }
}
