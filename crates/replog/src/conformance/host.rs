//! One node of the virtual cluster: a [`Replica`], its disk and its state machine.

use super::{MemoryDisk, State};
use crate::{
    Configuration, ConfigurationAt, Index, LogId, NodeId, Replica, ReplicatedLog, Setup, Ticket, Time,
};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// A snapshot that waits until the log is durable up to it.
#[derive(Clone, Debug)]
pub(crate) struct PendingSnapshot {
    pub(crate) state: State,
    pub(crate) after: Ticket,
}

#[derive(Clone, Debug)]
pub(crate) struct Host<P: ReplicatedLog> {
    pub(crate) id: NodeId,
    /// Counts restarts; events of an earlier life are void.
    pub(crate) life: u64,
    /// `None` while it is down.
    pub(crate) replica: Option<Replica<P>>,
    pub(crate) disk: MemoryDisk,
    pub(crate) state: State,
    pub(crate) paused: bool,
    /// An fsync is under way.
    pub(crate) syncing: bool,
    pub(crate) last_ticket: Ticket,
    pub(crate) durable_ticket: Ticket,
    pub(crate) timer: u64,
    /// Commands offered to this node that wait for room.
    pub(crate) waiting: VecDeque<Bytes>,
    pub(crate) pending_snapshot: Option<PendingSnapshot>,
    pub(crate) configurations: Vec<ConfigurationAt>,
    /// Barriers asked: token → top of the ledger when asked.
    pub(crate) barriers: BTreeMap<u64, Index>,
    /// Barriers passed: token → index to wait for.
    pub(crate) readable: BTreeMap<u64, Index>,
    pub(crate) refused: Vec<u64>,
}

impl<P: ReplicatedLog> Host<P> {
    pub(crate) fn new(id: NodeId, bootstrap: Configuration) -> Self {
        Self {
            id,
            life: 0,
            replica: None,
            disk: MemoryDisk::default(),
            state: State::default(),
            paused: false,
            syncing: false,
            last_ticket: Ticket::NONE,
            durable_ticket: Ticket::NONE,
            timer: 0,
            waiting: VecDeque::new(),
            pending_snapshot: None,
            configurations: vec![ConfigurationAt { from: Index::ZERO, configuration: bootstrap }],
            barriers: BTreeMap::new(),
            readable: BTreeMap::new(),
            refused: Vec::new(),
        }
    }

    /// Opens the core on what the disk holds. The state starts from the newest snapshot.
    pub(crate) fn start(
        &mut self,
        options: P::Options,
        frame_bytes: u64,
        seed: u64,
        may_vote: bool,
        now: Time,
    ) {
        self.life += 1;
        let recovered = self.disk.durable().recovered();
        let snapshot = self.disk.newest().cloned();
        self.state = snapshot.as_ref().map(|s| s.state).unwrap_or_default();
        if let Some(s) = snapshot {
            self.configurations = s.configurations;
        }
        let setup = Setup {
            id: self.id,
            seed: seed ^ (u64::from(self.id.0) << 32) ^ self.life,
            configurations: self.configurations.clone(),
            hard_state: recovered.hard_state,
            base: recovered.base,
            snapshot: self.state.last,
            entries: recovered.entries,
            damaged: recovered.damaged,
            may_vote,
            options,
        };
        self.replica = Some(Replica::open(setup, frame_bytes, now));
        (self.syncing, self.paused) = (false, false);
        (self.last_ticket, self.durable_ticket) = (Ticket::NONE, Ticket::NONE);
        self.pending_snapshot = None;
        self.waiting.clear();
        self.barriers.clear();
        self.readable.clear();
    }

    /// The id of the last applied entry.
    pub(crate) fn applied(&self) -> LogId {
        self.state.last
    }
}
