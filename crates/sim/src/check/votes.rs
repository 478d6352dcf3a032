//! C13 vote uniqueness, and ballots that never go down: what was promised outlives every crash.
//!
//! * A voter gives its vote of an epoch to one candidate (Raft's vote, Zab's promise of an epoch to its leader).
//! * After a promise of ballot b nothing below b is accepted, promised or acknowledged (Paxos, and Zab's epochs).
//!
//! What counts is what left the node, so the check is made at sending. Frames to one peer leave in order; frames to
//! different peers need not, so within a life promises are compared per peer, and over lives all of them.
// spec: raft §5.2 (at most one candidate per term); zab-dsn11 §4.1 step 1.2; paxos-simple §2.2 P1b

use super::fact::{Claim, Event, Fact, Verdict, require};
use replog::{Epoch, NodeId};
use std::collections::{BTreeMap, HashMap};

const VOTES: &str = "C13 vote uniqueness";
const BALLOTS: &str = "C13 ballots never go down";

#[derive(Clone, Debug, Default)]
struct Voter {
    life: u32,
    /// Highest promise of earlier lives.
    before: Epoch,
    /// Highest promise of this life, by peer.
    now: BTreeMap<NodeId, Epoch>,
}

/// What every voter promised.
#[derive(Clone, Debug, Default)]
pub struct Votes {
    given: HashMap<(NodeId, Epoch), NodeId>,
    voters: BTreeMap<NodeId, Voter>,
}

impl Votes {
    /// Looks at what is said.
    ///
    /// # Errors
    /// See the module.
    pub fn see(&mut self, event: &Event<'_>) -> Verdict {
        match event.fact {
            Fact::Said { to, claim: Claim::Vote { epoch } } => self.vote(event, to, epoch),
            Fact::Said { to, claim: Claim::Promise { epoch } } => {
                self.not_below(event, to, epoch, "promises")?;
                let voter = self.voters.entry(event.node).or_default();
                let now = voter.now.entry(to).or_default();
                *now = (*now).max(epoch);
                Ok(())
            }
            Fact::Said { to, claim: Claim::Ack { epoch, counts: true, .. } } => {
                self.not_below(event, to, epoch, "acknowledges in")
            }
            Fact::Replaced => {
                // Its memory is gone, and it may not vote: what it says later is judged anew.
                self.voters.remove(&event.node);
                self.given.retain(|(node, _), _| *node != event.node);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn vote(&mut self, event: &Event<'_>, to: NodeId, epoch: Epoch) -> Verdict {
        let first = *self.given.entry((event.node, epoch)).or_insert(to);
        require(first == to, VOTES, || {
            format!("{} gave its vote in {epoch} to {first}, and now to {to}", event.node)
        })
    }

    fn not_below(&mut self, event: &Event<'_>, to: NodeId, epoch: Epoch, does: &str) -> Verdict {
        let voter = self.voters.entry(event.node).or_default();
        if voter.life != event.life {
            voter.life = event.life;
            let best = voter.now.values().copied().max().unwrap_or_default();
            voter.before = voter.before.max(best);
            voter.now.clear();
        }
        let floor = voter.before.max(voter.now.get(&to).copied().unwrap_or_default());
        require(epoch >= floor, BALLOTS, || {
            format!("{} {does} {epoch} to {to} after it promised {floor}", event.node)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::*;
    use replog::Index;

    fn said(node: u32, life: u32, to: u32, claim: Claim<'static>) -> Event<'static> {
        event(node, life, Fact::Said { to: NodeId(to), claim })
    }

    fn promise(round: u32) -> Claim<'static> {
        Claim::Promise { epoch: Epoch::of(round) }
    }

    fn ack(round: u32) -> Claim<'static> {
        Claim::Ack { epoch: Epoch::of(round), upto: Index(1), counts: true }
    }

    #[test]
    fn one_vote_per_epoch_over_all_lives() {
        let mut votes = Votes::default();
        let vote = |to, life| said(1, life, to, Claim::Vote { epoch: Epoch::of(5) });
        assert_eq!(votes.see(&vote(2, 1)), Ok(()));
        assert_eq!(votes.see(&vote(2, 2)), Ok(()), "the same vote may be repeated");
        assert_eq!(votes.see(&vote(3, 2)).unwrap_err().checker, VOTES);
    }

    #[test]
    fn promises_hold_over_restarts() {
        let mut votes = Votes::default();
        votes.see(&said(1, 1, 2, promise(5))).unwrap();
        assert_eq!(votes.see(&said(1, 1, 3, ack(4))), Ok(()), "said before, left later: another lane");
        assert_eq!(votes.see(&said(1, 1, 2, ack(4))).unwrap_err().checker, BALLOTS);
        assert_eq!(votes.see(&said(1, 2, 3, ack(4))).unwrap_err().checker, BALLOTS);
        assert_eq!(votes.see(&said(1, 2, 3, ack(5))), Ok(()));
        assert!(votes.see(&said(1, 3, 3, promise(4))).is_err());
    }

    #[test]
    fn a_disk_that_was_replaced_promised_nothing() {
        let mut votes = Votes::default();
        votes.see(&said(1, 1, 2, promise(5))).unwrap();
        votes.see(&event(1, 1, Fact::Replaced)).unwrap();
        assert_eq!(votes.see(&said(1, 2, 2, promise(4))), Ok(()));
    }
}
