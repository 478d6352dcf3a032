//! A modelled network: per-direction latency, loss, duplication and reordering where the protocol allows them,
//! cuts in one or both directions. A link is a session: messages of an old one are never delivered on a new one.

use crate::{Frame, NodeId, Rng, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the network does to messages.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// Least one-way latency.
    pub latency: Duration,
    /// Random addition (0..jitter); reorders unless links are FIFO.
    pub jitter: Duration,
    /// Messages lost, per thousand. On FIFO links a loss is a broken link.
    pub loss_per_mille: u64,
    /// Messages delivered twice, per thousand (never on FIFO links).
    pub duplicate_per_mille: u64,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(100),
            jitter: Duration::ZERO,
            loss_per_mille: 0,
            duplicate_per_mille: 0,
        }
    }
}

/// A message under way.
#[derive(Clone, Debug)]
pub(crate) struct Packet<M> {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) session: u64,
    pub(crate) frame: Frame<M>,
}

/// What becomes of a message.
pub(crate) enum Fate {
    /// Delivered at these times.
    Deliver(Vec<Time>),
    /// Lost silently.
    Lost,
    /// Lost on a FIFO link: the link breaks.
    Broken,
}

/// Links and cuts.
#[derive(Clone, Debug)]
pub struct Network {
    /// What happens to messages from now on.
    pub options: NetworkOptions,
    fifo: bool,
    /// (from, to) pairs over which nothing passes.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Current session of an unordered pair, if up.
    sessions: BTreeMap<(NodeId, NodeId), u64>,
    last_delivery: BTreeMap<(NodeId, NodeId), Time>,
    next_session: u64,
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

impl Network {
    pub(crate) fn new(options: NetworkOptions, fifo: bool) -> Self {
        Self {
            options,
            fifo,
            cuts: BTreeSet::new(),
            sessions: BTreeMap::new(),
            last_delivery: BTreeMap::new(),
            next_session: 0,
        }
    }

    /// The session of the link between `a` and `b`, if it is up.
    pub(crate) fn session(&self, a: NodeId, b: NodeId) -> Option<u64> {
        self.sessions.get(&pair(a, b)).copied()
    }

    pub(crate) fn connect(&mut self, a: NodeId, b: NodeId) {
        self.next_session += 1;
        self.sessions.insert(pair(a, b), self.next_session);
    }

    /// Returns whether it was up.
    pub(crate) fn disconnect(&mut self, a: NodeId, b: NodeId) -> bool {
        self.sessions.remove(&pair(a, b)).is_some()
    }

    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    pub(crate) fn heal(&mut self) -> Vec<(NodeId, NodeId)> {
        let mut healed: Vec<_> = self.cuts.iter().map(|&(a, b)| pair(a, b)).collect();
        healed.sort_unstable();
        healed.dedup();
        self.cuts.clear();
        healed
    }

    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    pub(crate) fn fate(&mut self, now: Time, from: NodeId, to: NodeId, rng: &mut Rng) -> Fate {
        if self.is_cut(from, to) {
            return Fate::Lost;
        }
        if self.options.loss_per_mille > 0 && rng.below(1000) < self.options.loss_per_mille {
            return if self.fifo { Fate::Broken } else { Fate::Lost };
        }
        let arrive = |rng: &mut Rng| now + rng.duration(self.options.latency, self.options.jitter);
        let mut times = vec![arrive(rng)];
        if self.fifo {
            let last = self.last_delivery.entry((from, to)).or_default();
            times[0] = times[0].max(Time(last.0 + 1));
            *last = times[0];
        } else if self.options.duplicate_per_mille > 0 && rng.below(1000) < self.options.duplicate_per_mille {
            times.push(arrive(rng) + self.options.jitter);
        }
        Fate::Deliver(times)
    }
}
