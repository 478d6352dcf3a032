//! A state of the model, and what can happen next.
//!
//! ```text
//!   deliver · sync · timeout · propose · crash · restart · notice · lose · duplicate · break · connect
//! ```
//!
//! Each action steps at most two cores. What costs a budget can happen a bounded number of times; the rest always can.
//! A crash is a power cut: unsynced writes are lost from any point on, links die silently. A peer notices later
//! (`notice`), at the latest when the node is back. What the dead node had sent and nobody read yet is gone: reading
//! it after the crash leads to the same states as reading it before.
//!
//! Wires keep the order of each link. On links that need not be FIFO, a message may overtake others, at the price of
//! a budget; a loss there is silent, on FIFO links it breaks the link (requirement S26: a lost byte ends a connection).

use super::node::Node;
use super::print::plain;
use super::steps::{Packet, Steps, Stimulus};
use super::{Modelled, Scope};
use replog::{Body, Entry, Epoch, LogId, NodeId, Phase, Role};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Nodes of the model, ids from 1.
pub(super) const NODES: u32 = 3;

/// Something that can happen. Positions are those of a wire's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Deliver(usize),
    Duplicate(usize),
    Lose(usize),
    Sync(NodeId),
    Timeout(NodeId),
    Propose(NodeId),
    /// Power cut: of the unsynced writes this many survive.
    Crash(NodeId, usize),
    Restart(NodeId),
    /// The first learns that its link to the second is dead.
    Notice(NodeId, NodeId),
    Break(NodeId, NodeId),
    Connect(NodeId, NodeId),
}

/// How often each bounded thing has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Spent {
    pub(super) commands: u8,
    pub(super) crashes: u8,
    pub(super) losses: u8,
    pub(super) duplicates: u8,
    pub(super) overtakes: u8,
    pub(super) timeouts: u8,
    pub(super) heartbeats: u8,
}

/// What the first replica to apply an index found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Chosen {
    pub(super) id: LogId,
    pub(super) is_command: bool,
    body: u64,
}

/// A state.
#[derive(Clone, Debug)]
pub(super) struct World<P: Modelled> {
    nodes: Vec<Arc<Node<P>>>,
    wires: Vec<Arc<Packet<P::Message>>>,
    /// Pairs (lower id first) whose link is up.
    links: Vec<(NodeId, NodeId)>,
    /// (who, whom): who still believes that its dead link to whom is up.
    unaware: Vec<(NodeId, NodeId)>,
    pub(super) spent: Spent,
    pub(super) chosen: Vec<Chosen>,
    /// Commands proposed, by epoch; counted where the scope bounds them.
    proposed: Vec<(Epoch, u8)>,
    /// Who led, by epoch.
    leaders: Vec<(Epoch, NodeId)>,
    /// The first rule broken on the way here.
    pub(super) broken: Option<Arc<str>>,
    /// Messages overtake each other without limit: a wire is a bag.
    is_bag: bool,
}

impl<P: Modelled> Hash for World<P> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        self.nodes.iter().for_each(|n| to.write_u64(n.print()));
        to.write_usize(self.wires.len());
        self.wires.iter().for_each(|p| to.write_u64(p.print));
        (&self.links, &self.unaware, self.spent).hash(to);
        (&self.chosen, &self.proposed, &self.leaders, self.broken.is_some()).hash(to);
    }
}

impl<P: Modelled> PartialEq for World<P> {
    fn eq(&self, other: &Self) -> bool {
        plain(self) == plain(other)
    }
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

impl<P: Modelled> World<P> {
    /// All nodes open on empty disks, all links up.
    pub(super) fn new(steps: &Steps<P>) -> Self {
        let ids = || (1..=NODES).map(NodeId);
        let mut world = Self {
            nodes: ids().map(|id| Arc::new(Node::new(id))).collect(),
            wires: Vec::new(),
            links: Vec::new(),
            unaware: Vec::new(),
            spent: Spent::default(),
            chosen: Vec::new(),
            proposed: Vec::new(),
            leaders: Vec::new(),
            broken: None,
            is_bag: !P::GUARANTEES.fifo_links && steps.scope.overtakes == Scope::UNLIMITED,
        };
        for id in ids() {
            world.step(id, &Stimulus::Open, steps);
        }
        for a in ids() {
            for b in ids().filter(|b| a < *b) {
                world.connect(a, b, steps);
            }
        }
        world
    }

    pub(super) fn node(&self, id: NodeId) -> &Node<P> {
        &self.nodes[id.0 as usize - 1]
    }

    fn ids() -> impl Iterator<Item = NodeId> {
        (1..=NODES).map(NodeId)
    }

    /// The highest epoch that anybody acts in.
    pub(super) fn epoch(&self) -> Epoch {
        self.nodes.iter().filter_map(|n| n.status()).map(|s| s.epoch).max().unwrap_or_default()
    }

    /// Whose timer must fire so that everybody serves: of those that do not, or of the leader that has to tell them.
    /// `None` when all do.
    pub(super) fn idle(&self, is_own: bool) -> Option<NodeId> {
        let phase = |id: &NodeId| self.node(*id).status().map(|s| s.phase);
        let idle = Self::ids().find(|id| phase(id) != Some(Phase::Broadcast))?;
        let leader = Self::ids().find(|id| self.node(*id).status().is_some_and(|s| s.role == Role::Leader));
        leader.filter(|_| !is_own).or(Some(idle))
    }

    /// Whether somebody leads in Broadcast in an epoch above `round`.
    pub(super) fn serves_after(&self, round: u32) -> bool {
        let statuses = self.nodes.iter().filter_map(|n| n.status());
        statuses
            .filter(|s| s.role == Role::Leader && s.phase == Phase::Broadcast)
            .any(|s| s.epoch.round > round)
    }

    /// Nodes whose synced log holds `id`.
    pub(super) fn holders(&self, id: LogId) -> usize {
        self.nodes.iter().filter(|n| n.durable_id(id.index) == Some(id)).count()
    }

    // ---- what can happen ---------------------------------------------------------------------------------------

    /// Everything that can happen next, in a fixed order, as far as the order matters.
    ///
    /// Partial order reduction: once no fault, timer, restart or link is to come, only deliveries, fsyncs and
    /// proposals are left, and those of different nodes commute. If a message waits on *every* wire to some node, then
    /// whatever the others do first, this node's next doing is one of those that it has now (new messages queue up
    /// behind): the others can wait, and only this node's doings are explored. That is a persistent set (Godefroid,
    /// LNCS 1032, ch. 4). What the properties see of such a step may only come earlier by it, never be hidden:
    /// * entries reaching a disk are not put first (durability looks at disks when others apply);
    /// * proposals are not put first (they share a budget);
    /// * `chosen`, `leaders` and `broken` only grow, and do not depend on the order of commuting steps.
    ///
    /// No cycle can ignore the others for ever: no core answers an answer, so deliveries alone come to an end.
    pub(super) fn actions(&self, scope: &Scope, to: &mut Vec<Action>) {
        self.all_actions(scope, to);
        if !scope.is_reduced || self.is_bag || to.len() < 2 {
            return;
        }
        let at_rest = |a: &Action| matches!(a, Action::Deliver(_) | Action::Sync(_) | Action::Propose(_));
        if !to.iter().all(at_rest) || !P::GUARANTEES.fifo_links && self.spent.overtakes < scope.overtakes {
            return;
        }
        let first = Self::ids().find(|id| {
            let waits = |from: NodeId| self.wires.iter().any(|p| p.to == *id && p.from == from);
            Self::ids().all(|from| from == *id || waits(from))
                && !to.contains(&Action::Propose(*id))
                && !self.node(*id).has_unsynced_entries()
        });
        if let Some(id) = first {
            to.retain(|action| match action {
                Action::Deliver(at) => self.wires[*at].to == id,
                other => *other == Action::Sync(id),
            });
        }
    }

    /// Everything that can happen next.
    fn all_actions(&self, scope: &Scope, to: &mut Vec<Action>) {
        if self.broken.is_some() {
            return;
        }
        self.wire_actions(scope, to);
        let spent = &self.spent;
        for id in Self::ids() {
            let node = self.node(id);
            let Some(status) = node.status() else {
                to.push(Action::Restart(id));
                continue;
            };
            if node.unsynced() > 0 {
                to.push(Action::Sync(id));
            }
            if status.room.commands > 0
                && spent.commands < scope.commands
                && self.proposed_in(status.epoch) < scope.commands_an_epoch
            {
                to.push(Action::Propose(id));
            }
            let beats = status.role == Role::Leader;
            let left =
                if beats { spent.heartbeats < scope.heartbeats } else { spent.timeouts < scope.timeouts };
            if left && node.deadline().is_some() {
                to.push(Action::Timeout(id));
            }
            if spent.crashes < scope.crashes {
                to.extend((0..=node.unsynced()).map(|keep| Action::Crash(id, keep)));
            }
        }
        to.extend(self.unaware.iter().map(|(who, whom)| Action::Notice(*who, *whom)));
        for a in Self::ids() {
            for b in Self::ids().filter(|b| a < *b && self.node(a).is_up() && self.node(*b).is_up()) {
                if !self.links.contains(&(a, b)) {
                    to.push(Action::Connect(a, b));
                } else if P::GUARANTEES.fifo_links && spent.losses < scope.losses {
                    to.push(Action::Break(a, b));
                }
            }
        }
    }

    fn proposed_in(&self, epoch: Epoch) -> u8 {
        self.proposed.iter().find(|(e, _)| *e == epoch).map_or(0, |(_, count)| *count)
    }

    fn count_proposal(&mut self, leader: NodeId) {
        let epoch = self.node(leader).status().map(|s| s.epoch).unwrap_or_default();
        match self.proposed.iter_mut().find(|(e, _)| *e == epoch) {
            Some((_, count)) => *count += 1,
            None => self.proposed.push((epoch, 1)),
        }
        self.proposed.sort_unstable();
    }

    fn wire_actions(&self, scope: &Scope, to: &mut Vec<Action>) {
        let fifo = P::GUARANTEES.fifo_links;
        for (at, packet) in self.wires.iter().enumerate() {
            let before = self.wires.iter().take(at).filter(|p| (p.from, p.to) == (packet.from, packet.to));
            let mut ahead = 0;
            let mut same = false;
            for other in before {
                ahead += 1;
                same |= other.print == packet.print;
            }
            let is_next = ahead == 0 || self.is_bag;
            if same || !is_next && (fifo || self.spent.overtakes >= scope.overtakes) {
                continue;
            }
            to.push(Action::Deliver(at));
            if fifo || !is_next {
                continue;
            }
            if self.spent.losses < scope.losses {
                to.push(Action::Lose(at));
            }
            if self.spent.duplicates < scope.duplicates {
                to.push(Action::Duplicate(at));
            }
        }
    }

    // ---- how it happens ----------------------------------------------------------------------------------------

    /// The state after `action`.
    pub(super) fn act(&mut self, action: Action, steps: &Steps<P>) {
        match action {
            Action::Deliver(at) => {
                let packet = self.wires.remove(at);
                let overtook = self.wires.iter().take(at).any(|p| (p.from, p.to) == (packet.from, packet.to));
                self.spent.overtakes += u8::from(overtook && !self.is_bag);
                self.step(packet.to, &Stimulus::Deliver(&packet), steps);
            }
            Action::Duplicate(at) => {
                self.spent.duplicates += 1;
                let packet = Arc::clone(&self.wires[at]);
                self.step(packet.to, &Stimulus::Deliver(&packet), steps);
            }
            Action::Lose(at) => {
                self.spent.losses += 1;
                self.wires.remove(at);
            }
            Action::Sync(id) => self.step(id, &Stimulus::Sync, steps),
            Action::Timeout(id) => {
                let beats = self.node(id).status().is_some_and(|s| s.role == Role::Leader);
                *if beats { &mut self.spent.heartbeats } else { &mut self.spent.timeouts } += 1;
                self.step(id, &Stimulus::Timeout, steps);
            }
            Action::Propose(id) => {
                self.spent.commands += 1;
                if steps.scope.commands_an_epoch < steps.scope.commands {
                    self.count_proposal(id);
                }
                self.step(id, &Stimulus::Propose(self.spent.commands), steps);
            }
            Action::Crash(id, keep) => {
                self.crash(id, keep, steps);
                if steps.scope.is_brief {
                    self.step(id, &Stimulus::Open, steps);
                    // Nobody else can be down: a crash that is brief leaves nobody down.
                    Self::ids().filter(|p| *p != id).for_each(|peer| self.connect(id, peer, steps));
                }
            }
            Action::Restart(id) => self.step(id, &Stimulus::Open, steps),
            Action::Notice(who, whom) => {
                self.unaware.retain(|u| *u != (who, whom));
                self.step(who, &Stimulus::Link(whom, false), steps);
            }
            Action::Break(a, b) => {
                self.spent.losses += 1;
                self.unlink(a, b);
                self.step(a, &Stimulus::Link(b, false), steps);
                self.step(b, &Stimulus::Link(a, false), steps);
            }
            Action::Connect(a, b) => self.connect(a, b, steps),
        }
    }

    fn crash(&mut self, id: NodeId, keep: usize, steps: &Steps<P>) {
        self.spent.crashes += 1;
        self.step(id, &Stimulus::Crash(keep), steps);
        self.unaware.retain(|(who, _)| *who != id);
        for peer in Self::ids().filter(|p| *p != id) {
            if self.links.contains(&pair(id, peer)) {
                self.unlink(id, peer);
                if self.node(peer).is_up() {
                    self.unaware.push((peer, id));
                }
            }
        }
        self.unaware.sort_unstable();
    }

    fn unlink(&mut self, a: NodeId, b: NodeId) {
        self.links.retain(|l| *l != pair(a, b));
        self.wires.retain(|p| pair(p.from, p.to) != pair(a, b));
    }

    /// After a restart, links come up one by one.
    fn connect(&mut self, a: NodeId, b: NodeId, steps: &Steps<P>) {
        for (who, whom) in [(a, b), (b, a)] {
            if self.unaware.contains(&(who, whom)) {
                self.unaware.retain(|u| *u != (who, whom));
                self.step(who, &Stimulus::Link(whom, false), steps);
            }
        }
        self.links.push(pair(a, b));
        self.links.sort_unstable();
        self.step(a, &Stimulus::Link(b, true), steps);
        self.step(b, &Stimulus::Link(a, true), steps);
    }

    /// Steps a node and takes note of all that it did.
    fn step(&mut self, id: NodeId, stimulus: &Stimulus<'_, P::Message>, steps: &Steps<P>) {
        let at = id.0 as usize - 1;
        let step = steps.take(&self.nodes[at], stimulus);
        self.nodes[at] = Arc::clone(&step.node);
        let carried = step.packets.iter().filter(|p| self.links.contains(&pair(p.from, p.to)));
        self.wires.extend(carried.cloned());
        // Only the order within a link means something: links in a fixed order make equal states equal.
        let is_bag = self.is_bag;
        self.wires.sort_by_key(|p| (p.from, p.to, if is_bag { p.print } else { 0 }));
        let mut broken = step.broken.as_ref().map(|why| format!("{id}: {why}"));
        for entry in &step.applied {
            broken = broken.or(self.apply(id, entry));
        }
        broken = broken.or(self.witness(id));
        if self.broken.is_none() {
            self.broken = broken.map(Into::into);
        }
    }

    /// Compares an applied entry with the ledger.
    fn apply(&mut self, id: NodeId, entry: &Entry) -> Option<String> {
        let is_command = matches!(entry.body, Body::Command(_));
        let found = Chosen { id: entry.id, is_command, body: plain(&entry.body) };
        let at = entry.id.index.0 as usize;
        match self.chosen.get(at - 1) {
            Some(first) if *first == found => None,
            Some(first) => Some(format!("agreement: {id} applies {entry:?}, {} was applied there", first.id)),
            None if at == self.chosen.len() + 1 => {
                self.chosen.push(found);
                None
            }
            None => Some(format!("prefix: {id} applies {} before anybody applied what lies below", entry.id)),
        }
    }

    /// Notes who leads.
    fn witness(&mut self, id: NodeId) -> Option<String> {
        let status = self.node(id).status()?;
        if status.role != Role::Leader || status.phase < Phase::Sync {
            return None;
        }
        match self.leaders.iter().find(|(epoch, _)| *epoch == status.epoch) {
            Some((_, other)) if *other == id => None,
            Some((epoch, other)) => Some(format!("election safety: {other} and {id} lead in {epoch}")),
            None => {
                self.leaders.push((status.epoch, id));
                self.leaders.sort_unstable();
                None
            }
        }
    }

    // ---- telling -----------------------------------------------------------------------------------------------

    /// One line about `action` in this state.
    pub(super) fn describe(&self, action: Action) -> String {
        let message = |at: usize| {
            let p = &self.wires[at];
            let entries: Vec<String> = p.frame.entries.iter().map(|e| e.id.to_string()).collect();
            format!("{} -> {} {:?} [{}]", p.from, p.to, p.frame.message, entries.join(" "))
        };
        match action {
            Action::Deliver(at) => format!("deliver    {}", message(at)),
            Action::Duplicate(at) => format!("duplicate  {}", message(at)),
            Action::Lose(at) => format!("lose       {}", message(at)),
            other => format!("{other:?}"),
        }
    }

    /// One line per node.
    pub(super) fn summary(&self) -> String {
        let line = |id: NodeId| match self.node(id).status() {
            Some(s) => format!(
                "{id} {:?}/{:?} epoch {} last {} committed {} unsynced {}",
                s.role,
                s.phase,
                s.epoch,
                s.last,
                s.committed,
                self.node(id).unsynced()
            ),
            None => format!("{id} down"),
        };
        Self::ids().map(line).collect::<Vec<_>>().join("; ")
    }
}
