//! C15 resource bounds: queues, memory and disks stay bounded under faults, and come back to their baseline after.
//!
//! Two kinds of figures. What only grows while something is in the way (queues, undurable writes) must be nearly empty
//! once nothing is. What is kept on purpose (entries in memory, log, snapshots) has a bound that follows from the
//! options, and holds at every moment.
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
    /// Bytes of log files.
    pub log_bytes: u64,
    /// Bytes of snapshot files.
    pub snapshot_bytes: u64,
}

/// Looks at the figures of a node.
///
/// # Errors
/// When one is out of bounds.
pub(super) fn see(bounds: &Bounds, event: &Event<'_>) -> Verdict {
    let Fact::Load { load, calm } = event.fact else { return Ok(()) };
    let Load {
        outbox_messages,
        recent_bytes,
        pending_writes,
        unapplied,
        proposals,
        log_bytes,
        snapshot_bytes,
    } = load;
    let kept = [
        ("bytes of entries in memory", recent_bytes, bounds.recent_bytes),
        ("bytes of log", log_bytes, bounds.log_bytes),
        ("bytes of snapshots", snapshot_bytes, bounds.snapshot_bytes),
    ];
    let queues = [
        ("messages that wait for peers", outbox_messages, bounds.at_rest),
        ("writes under way", pending_writes, bounds.at_rest),
        ("committed entries not applied", unapplied, bounds.at_rest),
        ("proposals that wait", proposals, bounds.at_rest),
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
        let bounds = Bounds { at_rest: 10, recent_bytes: 100, log_bytes: 1000, snapshot_bytes: 500 };
        let look = |load, calm| see(&bounds, &event(1, 1, Fact::Load { load, calm }));
        let queue = Load { outbox_messages: 11, ..Load::default() };
        assert_eq!(look(queue, false), Ok(()), "a peer is away");
        assert!(look(queue, true).unwrap_err().text.contains("11 messages that wait for peers although"));
        for load in [
            Load { recent_bytes: 101, ..Load::default() },
            Load { log_bytes: 1001, ..Load::default() },
            Load { snapshot_bytes: 501, ..Load::default() },
        ] {
            assert_eq!(look(load, false).unwrap_err().checker, RULE);
        }
        for load in [
            Load { pending_writes: 11, ..Load::default() },
            Load { unapplied: 11, ..Load::default() },
            Load { proposals: 11, ..Load::default() },
        ] {
            assert_eq!((look(load, false), look(load, true).is_err()), (Ok(()), true));
        }
    }
}
