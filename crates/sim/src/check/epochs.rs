//! C13 epoch durability: nobody acts in an epoch that its disk may forget.
//!
//! 1. A leads term 6 before its own write of term 6 is durable, and proposes (6,10)=X. B stores it.
//! 2. A crashes, restarts in term 5, wins term 6 again and proposes (6,10)=Y. C stores it.
//! 3. Two values under one id.
//!
//! Rule: whoever announces, proposes or leads in an epoch has its promise of that epoch on disk.
// spec: contract-schedules §1; raft §5.2 with fig. 2 "persistent state"; zab: protocol-traps 1.8; paxos: 3.5

use super::fact::{Claim, Event, Fact, Verdict, require};
use super::logs::Logs;

const RULE: &str = "C13 epoch durability";

/// Looks at what has just been said.
///
/// # Errors
/// When the epoch is not durable.
pub(super) fn see(logs: &Logs, event: &Event<'_>) -> Verdict {
    let Fact::Said { claim, .. } = event.fact else { return Ok(()) };
    let epoch = match claim {
        Claim::Announces { epoch } => epoch,
        Claim::Leads { ballot, .. } => ballot,
        _ => return Ok(()),
    };
    let Some(log) = logs.of(event.node) else { return Ok(()) };
    let promised = log.durable.hard.promised;
    require(promised >= epoch, RULE, || {
        format!("{} acts in epoch {epoch}, and its disk knows of {promised} only: {claim:?}", event.node)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Disk, event, hard};
    use super::*;
    use replog::{Epoch, NodeId};

    #[test]
    fn an_epoch_is_durable_before_it_is_acted_in() {
        let mut disk = Disk::new(1);
        disk.write(1, &[hard(6, Some(1))]);
        let epoch = Epoch::of(6);
        for claim in [Claim::Announces { epoch }, Claim::Leads { reign: epoch, ballot: epoch }] {
            let said = event(1, 1, Fact::Said { to: NodeId(2), claim });
            let mut logs = disk.logs.clone();
            let broken = see(&logs, &said).unwrap_err();
            assert_eq!(broken.checker, RULE);
            logs.follow(&event(1, 1, Fact::Durable { ticket: replog::Ticket(1) })).unwrap();
            assert_eq!(see(&logs, &said), Ok(()));
        }
    }
}
