//! Who takes part, and what a quorum is. Roles are data: a core asks a [`Configuration`], it never counts itself.

use crate::{Index, NodeId};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A voting member and its weight (1 unless hierarchical weights are used; 0 never wins nor counts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Voter {
    /// Its id.
    pub node: NodeId,
    /// Its weight.
    pub weight: u32,
}

/// Which of a protocol's two quorums is asked for. They differ only under [`QuorumRule::Flexible`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuorumPhase {
    /// Choosing a leader: votes, promises, discovery and synchronisation acks.
    Election,
    /// Replicating: acks of entries.
    Replication,
}

/// What makes a set of voters a quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QuorumRule {
    /// More than half of the weight.
    #[default]
    Majority,
    /// Flexible Paxos: `election` + `replication` > total weight, so that any two quorums of different kinds meet.
    // spec: flexible-paxos §3
    Flexible {
        /// Weight that an election needs.
        election: u32,
        /// Weight that a commit needs.
        replication: u32,
    },
}

/// The members of the ensemble at some index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Configuration {
    /// The voters, ascending by id.
    pub voters: Vec<Voter>,
    /// While a change is under way: the voters of the configuration that is left. Both must agree.
    pub outgoing: Vec<Voter>,
    /// Members that replicate and will vote after a later change (a voter that lost its disk is one of them).
    pub learners: Vec<NodeId>,
    /// Members that replicate and never vote.
    pub observers: Vec<NodeId>,
    /// The quorum rule.
    pub rule: QuorumRule,
}

/// A configuration and the index from which it counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConfigurationAt {
    /// First index that it governs. Raft and Zab: the index of its own entry. Paxos: that plus α.
    pub from: Index,
    /// The configuration.
    pub configuration: Configuration,
}

impl Configuration {
    /// Voters of weight 1 under the majority rule.
    #[must_use]
    pub fn of_voters(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let mut voters: Vec<Voter> = nodes.into_iter().map(|node| Voter { node, weight: 1 }).collect();
        voters.sort_unstable();
        Self { voters, ..Self::default() }
    }

    /// The same with observers.
    #[must_use]
    pub fn with_observers(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        self.observers = nodes.into_iter().collect();
        self.observers.sort_unstable();
        self
    }

    /// Whether `node` votes (with a weight above 0) in the current or the outgoing set.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.iter().chain(&self.outgoing).any(|v| v.node == node && v.weight > 0)
    }

    /// Whether `node` is named at all.
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node) || self.observers.contains(&node)
    }

    /// All members, ascending, each once.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        let voters = self.voters.iter().chain(&self.outgoing).map(|v| v.node);
        let mut all: Vec<NodeId> =
            voters.chain(self.learners.iter().copied()).chain(self.observers.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// All voters, ascending, each once.
    #[must_use]
    pub fn voter_ids(&self) -> Vec<NodeId> {
        let mut all: Vec<NodeId> = self.voters.iter().chain(&self.outgoing).map(|v| v.node).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether the nodes for which `has` holds are a quorum (of both sets during a change).
    #[must_use]
    pub fn is_quorum(&self, phase: QuorumPhase, has: impl Fn(NodeId) -> bool) -> bool {
        let holds = |set: &[Voter]| {
            let weight: u64 = set.iter().filter(|v| has(v.node)).map(|v| u64::from(v.weight)).sum();
            weight >= self.needed(set, phase)
        };
        !self.voters.is_empty() && holds(&self.voters) && (self.outgoing.is_empty() || holds(&self.outgoing))
    }

    /// The highest index that a replication quorum has reached, given each voter's durable position.
    #[must_use]
    pub fn replicated(&self, position: impl Fn(NodeId) -> Index) -> Index {
        let of = |set: &[Voter]| {
            // Ensembles are small: look at each voter's position as a candidate instead of sorting into a heap.
            set.iter()
                .map(|v| position(v.node))
                .filter(|&candidate| {
                    let weight: u64 = set
                        .iter()
                        .filter(|v| position(v.node) >= candidate)
                        .map(|v| u64::from(v.weight))
                        .sum();
                    weight >= self.needed(set, QuorumPhase::Replication)
                })
                .max()
                .unwrap_or(Index::ZERO)
        };
        if self.outgoing.is_empty() { of(&self.voters) } else { of(&self.voters).min(of(&self.outgoing)) }
    }

    /// Weight that a quorum of `set` needs; at least 1.
    fn needed(&self, set: &[Voter], phase: QuorumPhase) -> u64 {
        let total: u64 = set.iter().map(|v| u64::from(v.weight)).sum();
        let majority = total / 2 + 1;
        match (self.rule, phase) {
            (QuorumRule::Majority, _) => majority,
            (QuorumRule::Flexible { election, .. }, QuorumPhase::Election) => u64::from(election).max(1),
            (QuorumRule::Flexible { replication, .. }, QuorumPhase::Replication) => {
                u64::from(replication).max(1)
            }
        }
    }

    /// Whether the rule can be safe: flexible quorums must intersect, and there must be a voter.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let total: u64 = self.voters.iter().map(|v| u64::from(v.weight)).sum();
        let meets = match self.rule {
            QuorumRule::Majority => true,
            QuorumRule::Flexible { election, replication } => {
                u64::from(election) + u64::from(replication) > total
                    && u64::from(election) <= total
                    && u64::from(replication) <= total
            }
        };
        total > 0 && meets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(n: u32) -> Configuration {
        Configuration::of_voters((1..=n).map(NodeId))
    }

    #[test]
    fn majority_is_more_than_half() {
        for (n, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            let c = of(n);
            assert!(c.is_quorum(QuorumPhase::Election, |v| v.0 <= needed));
            assert!(!c.is_quorum(QuorumPhase::Election, |v| v.0 < needed));
        }
    }

    #[test]
    fn replicated_is_the_quorums_lowest_position() {
        let positions = [9, 7, 4, 4, 1];
        let at = |v: NodeId| Index(positions[v.0 as usize - 1]);
        assert_eq!(of(5).replicated(at), Index(4));
        assert_eq!(of(3).replicated(at), Index(7));
        assert_eq!(of(1).replicated(at), Index(9));
    }

    #[test]
    fn a_joint_configuration_needs_both_sets() {
        let mut c = of(3);
        c.outgoing = [4, 5, 6].map(|n| Voter { node: NodeId(n), weight: 1 }).to_vec();
        assert!(!c.is_quorum(QuorumPhase::Replication, |v| v.0 <= 3));
        assert!(c.is_quorum(QuorumPhase::Replication, |v| [1, 2, 5, 6].contains(&v.0)));
    }

    #[test]
    fn flexible_quorums_must_meet() {
        let mut c = of(4);
        c.rule = QuorumRule::Flexible { election: 3, replication: 2 };
        assert!(c.is_sound());
        assert!(c.is_quorum(QuorumPhase::Replication, |v| v.0 <= 2));
        assert!(!c.is_quorum(QuorumPhase::Election, |v| v.0 <= 2));
        c.rule = QuorumRule::Flexible { election: 2, replication: 2 };
        assert!(!c.is_sound());
    }

    #[test]
    fn zero_weight_never_votes() {
        let mut c = of(3);
        c.voters[2].weight = 0;
        assert!(!c.is_voter(NodeId(3)));
        assert!(!c.is_quorum(QuorumPhase::Election, |v| v.0 != 1));
    }
}
