//! Who takes part: what a leader knows of each peer, and who counts.
//!
//! Membership change by log (a configuration at slot i counts from i + α) has its place in the contract; this core
//! answers `Refused { why: Unsupported }`.
//!
//! A leader counts, per slot, the acceptors that said they accepted it in exactly its ballot. What an acceptor said is
//! kept as the end of a gapless stretch and the spans beyond its hole, so holes at different acceptors do not stop
//! the prefix:
//!
//! ```text
//!   self  11 12 13     chosen: 11 (self, A), 12 (self, B), 13 (self, A)
//!   A     11  . 13     walk: the stretch that a quorum shares, again and again from its end
//!   B      . 12  .
//! ```

use crate::Paxos;
use crate::state::LateEffect;
use alloc::vec::Vec;
use replog::{Configuration, ConfigurationAt, Index, LogId, NodeId, QuorumPhase, Refusal, Span, Time, Token};

/// What is known of another member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    /// A voter of the configuration.
    pub(crate) votes: bool,
    /// It said that it counts (a voter that lost its disk does not).
    pub(crate) counts: bool,
    pub(crate) connected: bool,
    /// Last word in our ballot.
    pub(crate) heard: Option<Time>,
    /// Accepted in our ballot, or chosen there: everything up to here…
    pub(crate) upto: Index,
    /// …and these.
    pub(crate) more: Vec<Span>,
    /// Its chosen prefix, as far as it said.
    pub(crate) committed: Index,
    /// Next slot to send: an acceptor gets proposals, a learner gets what is chosen.
    pub(crate) next: Index,
    /// `next` when the last heartbeat left: what had been sent before it must have arrived with its answer.
    pub(crate) next_at_beat: (u64, Index),
    /// Highest heartbeat round answered.
    pub(crate) round: u64,
    /// Last commit bound sent to it.
    pub(crate) bound: Index,
    /// A snapshot on its way, and until when a repeated request is not answered by another.
    pub(crate) snapshot: Option<LogId>,
    pub(crate) snapshot_quiet: Time,
}

impl Peer {
    fn new(node: NodeId, votes: bool) -> Self {
        Self {
            node,
            votes,
            counts: true,
            connected: false,
            heard: None,
            upto: Index::ZERO,
            more: Vec::new(),
            committed: Index::ZERO,
            next: Index(1),
            next_at_beat: (0, Index::ZERO),
            round: 0,
            bound: Index::ZERO,
            snapshot: None,
            snapshot_quiet: Time(0),
        }
    }

    /// Forgets what was said in another ballot.
    pub(crate) fn reset(&mut self, next: Index) {
        self.counts = true;
        self.heard = None;
        self.upto = Index::ZERO;
        self.more.clear();
        self.next = next;
        self.next_at_beat = (0, Index::ZERO);
        self.round = 0;
        self.bound = Index::ZERO;
    }

    /// End of the stretch after `after` that it accepted in our ballot.
    fn end_after(&self, after: Index) -> Index {
        if self.upto > after {
            return self.upto;
        }
        self.more.iter().find(|s| s.contains(after.next())).map_or(after, |s| s.to)
    }
}

/// The peers of `id` in a configuration.
pub(crate) fn peers_of(configuration: &Configuration, id: NodeId) -> Vec<Peer> {
    let others = configuration.members().into_iter().filter(|n| *n != id);
    others.map(|n| Peer::new(n, configuration.is_voter(n))).collect()
}

impl Paxos {
    pub(crate) fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.node == node)
    }

    pub(crate) fn peer_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|p| p.node == node)
    }

    /// The other voters.
    pub(crate) fn other_voters(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|p| p.votes).map(|p| p.node).collect()
    }

    /// Adopts the configuration that a snapshot brought.
    pub(crate) fn adopt(&mut self, adopted: ConfigurationAt) {
        let ConfigurationAt { from: at, configuration } = adopted;
        if configuration == self.configuration {
            return;
        }
        let mut peers = peers_of(&configuration, self.id);
        for peer in &mut peers {
            if let Some(old) = self.peer(peer.node) {
                peer.connected = old.connected;
            }
        }
        self.out.effects.push(LateEffect::Configured { at, configuration: configuration.clone() });
        self.configuration = configuration;
        self.peers = peers;
    }

    pub(crate) fn on_reconfigure(&mut self, token: Token) {
        self.refuse(token, Refusal::Unsupported);
    }

    /// How far the slots after the prefix were accepted by replication quorums, slot by slot.
    // spec: paxos-simple §2.2 (chosen: a majority accepted it in one ballot); flexible-paxos §4 (replication quorum)
    pub(crate) fn chosen_upto(&self) -> Index {
        let Some(leading) = &self.leading else { return self.slots.committed() };
        let mut chosen = self.slots.committed();
        loop {
            let position = |node: NodeId| {
                if node == self.id {
                    return if self.may_vote { leading.own.max(chosen) } else { chosen };
                }
                self.peer(node).filter(|p| p.counts).map_or(chosen, |p| p.end_after(chosen))
            };
            let next = self.configuration.replicated(position).min(leading.last);
            if next <= chosen {
                return chosen;
            }
            chosen = next;
            if chosen == leading.last {
                return chosen;
            }
        }
    }

    /// Whether a quorum, this replica included, answered within the election timeout.
    pub(crate) fn hears_quorum(&self) -> bool {
        let Some(leading) = &self.leading else { return false };
        let patience = self.options.timing.election_timeout;
        self.is_quorum(QuorumPhase::Replication, |node| {
            node == self.id
                || self.peer(node).is_some_and(|p| {
                    p.counts && self.now.since(p.heard.unwrap_or(leading.since).max(leading.since)) < patience
                })
        })
    }
}
