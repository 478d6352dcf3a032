//! Three bare cores: effects are carried out in the simplest way that keeps their meaning. A write is durable at once,
//! a message is moved, an attachment is cloned out of the sender's log (that is what sending costs), a commit is
//! counted. What is left is the protocol itself.

use bytes::Bytes;
use replog::{
    Configuration, Effect, Effects, Entry, Input, LogOp, NodeId, Phase, ReplicatedLog, Role, Setup, Stamp,
    Time,
};
use std::collections::VecDeque;
use std::time::Duration;

struct Core<P: ReplicatedLog> {
    core: P,
    inbox: Vec<Input<P::Message>>,
    /// Entries from `first` on.
    log: VecDeque<Entry>,
    first: u64,
    committed: u64,
}

/// Three cores.
pub struct Cores<P: ReplicatedLog> {
    cores: Vec<Core<P>>,
    effects: Effects<P::Message>,
    now: Time,
}

impl<P: ReplicatedLog> Default for Cores<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: ReplicatedLog> Cores<P> {
    /// Elects a leader.
    #[must_use]
    pub fn new() -> Self {
        let configuration = Configuration::of_voters((1..=3).map(NodeId));
        let now = Time(1);
        let mut effects = Effects::new();
        let mut open = |id| {
            let setup = Setup::fresh(NodeId(id), configuration.clone(), P::Options::default());
            let core = P::open(setup, now, &mut effects);
            // Nobody is linked yet: what a core says while it opens reaches nobody.
            effects.drain().for_each(drop);
            let inbox =
                (1..=3).filter(|n| *n != id).map(|n| Input::Peer { node: NodeId(n), connected: true });
            Core { core, inbox: inbox.collect(), log: VecDeque::new(), first: 1, committed: 0 }
        };
        let cores = (1..=3).map(&mut open).collect();
        let mut cores = Self { cores, effects, now };
        while cores.leader().is_none() {
            cores.now = cores.now + Duration::from_millis(10);
            cores.settle(true);
        }
        cores
    }

    /// Position of the leader among the three.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        self.cores.iter().position(|c| {
            let s = c.core.status();
            s.role == Role::Leader && s.phase == Phase::Broadcast
        })
    }

    /// One batch, from proposal to committed on all three.
    pub fn round(&mut self, leader: usize, commands: Vec<Bytes>) {
        let goal = self.cores[leader].committed + commands.len() as u64;
        self.cores[leader].inbox.push(Input::Propose { stamp: Stamp(1), commands });
        self.now = self.now + Duration::from_micros(10);
        self.settle(false);
        assert!(self.cores.iter().all(|c| c.committed == goal), "one round must commit everywhere");
    }

    /// Everybody takes a snapshot of what is committed: the log stays as short as it is in production.
    pub fn snapshot(&mut self) {
        for c in &mut self.cores {
            c.inbox.push(Input::SnapshotTaken { at: c.core.status().last });
        }
        self.settle(false);
    }

    fn settle(&mut self, timers: bool) {
        let mut first = timers;
        while first || self.cores.iter().any(|c| !c.inbox.is_empty()) {
            for i in 0..3 {
                if first || !self.cores[i].inbox.is_empty() {
                    self.step(i);
                }
            }
            first = false;
        }
    }

    fn step(&mut self, i: usize) {
        let Core { core, inbox, .. } = &mut self.cores[i];
        core.step(self.now, inbox, &mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain() {
            match effect {
                Effect::Persist { ticket, ops } => {
                    let c = &mut self.cores[i];
                    ops.into_iter().for_each(|op| c.write(op));
                    c.inbox.push(Input::Persisted(ticket));
                }
                Effect::Send { to, message, attach, .. } => {
                    let entries = attach.map_or_else(Vec::new, |span| {
                        let c = &self.cores[i];
                        let skip = (span.from.0 - c.first) as usize;
                        c.log.iter().skip(skip).take(span.count() as usize).cloned().collect()
                    });
                    let from = NodeId(i as u32 + 1);
                    self.cores[to.0 as usize - 1].inbox.push(Input::Message { from, message, entries });
                }
                Effect::Commit { upto } => self.cores[i].committed = upto.0,
                _ => {}
            }
        }
        self.effects = effects;
    }
}

impl<P: ReplicatedLog> Core<P> {
    fn write(&mut self, op: LogOp) {
        match op {
            LogOp::Write(entries) => {
                let at = entries.first().map_or(0, |e| (e.id.index.0 - self.first) as usize);
                self.log.truncate(at);
                self.log.extend(entries);
            }
            LogOp::Truncate { from } => self.log.truncate((from.0 - self.first) as usize),
            LogOp::Purge { upto } => {
                let n = (upto.index.0 + 1).saturating_sub(self.first).min(self.log.len() as u64);
                self.log.drain(..n as usize);
                self.first += n;
            }
            LogOp::HardState(_) => {}
        }
    }
}
