//! Connects the checks to a world: every happening becomes facts.

use super::fact::{Event, Fact};
use super::{Checks, Speaks};
use crate::Violation;
use crate::world::{Happening, Observer, WorldEvent};
use replog::NodeId;

/// The white-box checks as an observer of one world.
#[derive(Clone, Debug)]
pub struct Watch {
    checks: Checks,
}

impl Watch {
    /// Watches with these.
    #[must_use]
    pub fn new(checks: Checks) -> Self {
        Self { checks }
    }

    /// What a message says about its sender, as facts.
    fn claims<P: Speaks>(
        &mut self,
        (at_us, node, life): (u64, NodeId, u32),
        message: &P::Message,
        fact: impl Fn(super::Claim<'_>) -> Fact<'_>,
    ) -> Result<(), Violation> {
        let mut verdict = Ok(());
        P::claims(message, &mut |claim| {
            if verdict.is_ok() {
                verdict = self.checks.see(&Event { at_us, node, life, fact: fact(claim) });
            }
        });
        verdict
    }
}

impl<P: Speaks> Observer<P> for Watch {
    fn on_event(&mut self, event: &WorldEvent<'_, P>) -> Result<(), Violation> {
        let at_us = u64::try_from(event.at.as_micros()).unwrap_or(u64::MAX);
        let (node, life) = (event.node, event.life);
        let who = (at_us, node, life);
        let fact = match &event.what {
            Happening::Started { setup, .. } => Fact::Started {
                hard: setup.hard_state,
                base: setup.base,
                snapshot: setup.snapshot,
                entries: &setup.entries,
                whole: setup.may_vote && setup.damaged.is_empty(),
                members: setup.configurations.first().map(|c| &c.configuration),
            },
            Happening::Reported { role, phase, epoch } => {
                Fact::Reported { role: *role, phase: *phase, epoch: *epoch }
            }
            Happening::Stepped { before, after, .. } => Fact::Stepped { before, after },
            Happening::Wrote { ticket, ops } => Fact::Wrote { ticket: *ticket, ops },
            Happening::Durable { ticket } => Fact::Durable { ticket: *ticket },
            Happening::Sent { to, message, .. } => {
                let to = *to;
                return self.claims::<P>(who, message, |claim| Fact::Said { to, claim });
            }
            Happening::Received { from, message, .. } => {
                let from = *from;
                return self.claims::<P>(who, message, |claim| Fact::Heard { from, claim });
            }
            Happening::Link { peer, up } => Fact::Link { peer: *peer, up: *up },
            Happening::Applied { entries } => Fact::Applied { entries },
            Happening::State { index, zxid, digest } => {
                Fact::State { index: *index, zxid: *zxid, digest: *digest }
            }
            Happening::Installed { at } => Fact::Installed { at: *at },
            Happening::SnapshotTaken { at, hash } => Fact::Snapshot { at: *at, hash: *hash },
            Happening::Load { load, calm } => Fact::Load { load: *load, calm: *calm },
            Happening::Disturbed => Fact::Disturbed,
            Happening::Crashed { how } => Fact::Crashed { how: *how },
            Happening::DiskReplaced => Fact::Replaced,
        };
        self.checks.see(&Event { at_us, node, life, fact })
    }
}
