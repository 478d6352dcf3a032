//! C13 election safety: an epoch has at most one leader, and that leader leads it in one life only.
//!
//! A leader that forgets its epoch in a crash and wins it again is two leaders (contract-schedules §1): it proposes two
//! values under one id. So the process counts, not the node.
//!
//! A candidate may be many: in Zab's discovery two nodes may announce the same new epoch; the promises of a quorum
//! decide who leads it. Leading begins with synchronisation.
// spec: raft §5.2 fig. 3; zab-dsn11 §4.1 (leader of an epoch is established once); paxos-simple §2.5

use super::fact::{Claim, Event, Fact, Verdict, require};
use super::speaks::Family;
use replog::{Epoch, NodeId, Phase, Role};
use std::collections::{BTreeMap, HashMap};

const RULE: &str = "C13 election safety";

/// Who leads, and who led.
#[derive(Clone, Debug)]
pub struct Leaders {
    family: Family,
    led: HashMap<Epoch, (NodeId, u32)>,
    /// Reign that each node leads now.
    leading: BTreeMap<NodeId, Epoch>,
    /// The highest epoch that was led.
    newest: Epoch,
}

impl Leaders {
    pub(crate) fn new(family: Family) -> Self {
        Self { family, led: HashMap::new(), leading: BTreeMap::new(), newest: Epoch::ZERO }
    }

    /// The process that led `epoch`.
    #[must_use]
    pub fn leader_of(&self, epoch: Epoch) -> Option<(NodeId, u32)> {
        self.led.get(&epoch).copied()
    }

    /// The reign that `node` leads now, as it sees itself.
    #[must_use]
    pub fn reign(&self, node: NodeId) -> Option<Epoch> {
        self.leading.get(&node).copied()
    }

    /// Who leads the newest reign, if its leader still leads it.
    #[must_use]
    pub fn newest(&self) -> Option<(Epoch, NodeId)> {
        let (node, _) = self.leader_of(self.newest)?;
        (self.reign(node) == Some(self.newest)).then_some((self.newest, node))
    }

    /// Reigns so far.
    #[must_use]
    pub fn reigns(&self) -> u64 {
        self.led.len() as u64
    }

    /// True if a reign began with this event.
    ///
    /// # Errors
    /// If its epoch was led before by another process.
    pub fn see(&mut self, event: &Event<'_>) -> Result<bool, super::fact::Broken> {
        match event.fact {
            Fact::Stepped { before, after } => {
                if self.leads(after.role, after.phase) {
                    let known = self.leads(before.role, before.phase) && before.epoch == after.epoch;
                    self.leading.insert(event.node, after.epoch);
                    return if known { Ok(false) } else { self.lead(event, after.epoch) };
                }
                if before.role == Role::Leader {
                    self.leading.remove(&event.node);
                }
                Ok(false)
            }
            // It may have ended within the same step: who leads now is told by the step itself.
            Fact::Reported { role, phase, epoch } if self.leads(role, phase) => self.lead(event, epoch),
            Fact::Said { claim: Claim::Leads { reign, .. }, .. } => self.lead(event, reign),
            Fact::Crashed { .. } | Fact::Started { .. } => {
                self.leading.remove(&event.node);
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn leads(&self, role: Role, phase: Phase) -> bool {
        let led = match self.family {
            Family::Raft | Family::Zab => matches!(phase, Phase::Sync | Phase::Broadcast),
            Family::Paxos => phase == Phase::Broadcast,
        };
        role == Role::Leader && led
    }

    fn lead(&mut self, event: &Event<'_>, epoch: Epoch) -> Result<bool, super::fact::Broken> {
        let me = (event.node, event.life);
        if let Some(before) = self.led.get(&epoch) {
            one(*before == me, || {
                let ((a, i), (b, j)) = (*before, me);
                format!("epoch {epoch} is led by {a} in its life {i} and by {b} in its life {j}")
            })?;
            return Ok(false);
        }
        let owned = self.family != Family::Paxos || epoch.proposer == event.node.0;
        one(owned, || format!("{} leads in {epoch}, a ballot of another proposer", event.node))?;
        self.led.insert(epoch, me);
        self.newest = self.newest.max(epoch);
        Ok(true)
    }
}

fn one(holds: bool, text: impl FnOnce() -> String) -> Verdict {
    require(holds, RULE, text)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{event, status};
    use super::*;

    fn leads(node: u32, life: u32, round: u32, proposer: u32) -> Event<'static> {
        let epoch = Epoch { round, proposer };
        let claim = Claim::Leads { reign: epoch, ballot: epoch };
        event(node, life, Fact::Said { to: NodeId(9), claim })
    }

    // requirement: S23
    #[test]
    fn an_epoch_has_one_leader() {
        let mut leaders = Leaders::new(Family::Raft);
        assert_eq!(leaders.see(&leads(1, 1, 5, 0)), Ok(true));
        assert_eq!(leaders.see(&leads(1, 1, 5, 0)), Ok(false), "it says so often");
        assert_eq!(leaders.see(&leads(2, 1, 6, 0)), Ok(true));
        let broken = leaders.see(&leads(2, 1, 5, 0)).unwrap_err();
        assert!(broken.text.contains("epoch 5 is led by n1 in its life 1 and by n2"), "{}", broken.text);
    }

    /// Contract schedule 1: the leader of term 6 forgets it, and wins it again.
    #[test]
    fn a_life_that_forgot_its_epoch_is_another_leader() {
        let mut leaders = Leaders::new(Family::Zab);
        leaders.see(&leads(1, 1, 6, 0)).unwrap();
        assert!(leaders.see(&leads(1, 2, 6, 0)).is_err());
    }

    #[test]
    fn ballots_of_two_proposers_are_two_reigns() {
        let mut leaders = Leaders::new(Family::Paxos);
        assert_eq!(leaders.see(&leads(1, 1, 5, 1)), Ok(true));
        assert_eq!(leaders.see(&leads(2, 1, 5, 2)), Ok(true));
        assert!(leaders.see(&leads(2, 1, 6, 1)).is_err(), "a ballot belongs to its proposer");
    }

    #[test]
    fn a_reign_that_ends_within_a_step_is_one() {
        let mut leaders = Leaders::new(Family::Raft);
        let report = |role, phase, epoch| event(1, 1, Fact::Reported { role, phase, epoch });
        let won = report(Role::Leader, Phase::Sync, Epoch::of(28));
        assert_eq!(leaders.see(&won), Ok(true));
        assert_eq!(leaders.see(&report(Role::Follower, Phase::Sync, Epoch::of(29))), Ok(false));
        assert_eq!(leaders.leader_of(Epoch::of(28)), Some((NodeId(1), 1)));
        assert_eq!((leaders.leader_of(Epoch::of(29)), leaders.newest()), (None, None));
    }

    #[test]
    fn who_leads_now_is_known() {
        let mut leaders = Leaders::new(Family::Zab);
        let following = status(Role::Follower, Phase::Broadcast, 4, 0);
        let discovering = status(Role::Leader, Phase::Discovery, 5, 0);
        let leading = status(Role::Leader, Phase::Sync, 5, 0);
        let step = |before, after| event(1, 1, Fact::Stepped { before, after });
        assert_eq!(leaders.see(&step(&following, &discovering)), Ok(false), "others may announce 5 too");
        assert_eq!(leaders.see(&step(&discovering, &leading)), Ok(true));
        assert_eq!(leaders.newest(), Some((Epoch::of(5), NodeId(1))));
        leaders.see(&step(&leading, &following)).unwrap();
        assert_eq!((leaders.newest(), leaders.reigns()), (None, 1));
    }
}
