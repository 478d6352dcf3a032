//! One node of the model: the real core in its real [`Replica`] (outbox, recent entries), and a disk of which only
//! the synced prefix survives.
//!
//! ```text
//!   input ─► Replica::step ─► writes ─► unsynced ──sync──► durable ─► Persisted
//!                          ─► frames ─► the world's wires
//!                          ─► committed entries ─► the world's ledger
//! ```
//!
//! Nothing here takes time. A clock stands still until its node's timer fires, which moves it to that deadline: so a
//! timer may fire at any moment, and what a core measures by its clock is what its own timers have let pass.

use super::print::{Print, START, generators};
use super::steps::Stimulus;
use super::world::NODES;
use super::{Modelled, Scope};
use replog::conformance::DiskImage;
use replog::{
    Committed, Configuration, ConfigurationAt, Entry, Frame, Index, Input, LogId, Missing, NodeId, Replica,
    ReplicatedLog, Setup, Span, Stamp, Status, Time, Write,
};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A frame's budget; entries of the model are tiny, so attachments are never cut.
const FRAME_BYTES: u64 = 1 << 20;
/// Steps that one input may cause.
const STEPS: u32 = 100;

/// A driver that breaks its word: what the checker must notice even when the cores are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// None.
    #[default]
    None,
    /// Says `Persisted` before the fsync.
    PersistedBeforeSync,
    /// A restart brings back the entries, but not what was promised.
    ForgottenPromise,
}

/// What a step has brought about.
#[derive(Debug)]
pub(super) struct Doings<M> {
    pub(super) frames: Vec<(NodeId, Frame<M>)>,
    pub(super) applied: Vec<Entry>,
    /// A broken invariant of the core, or its panic.
    pub(super) broken: Option<String>,
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node<P: ReplicatedLog> {
    id: NodeId,
    /// `None` while it is down.
    replica: Option<Replica<P>>,
    durable: DiskImage,
    unsynced: Vec<Write>,
    now: Time,
    generators: Vec<u64>,
    /// Of the replica; `None` while it is down.
    status: Option<Status>,
    print: u64,
}

impl<P: Modelled> Node<P> {
    /// A node with an empty disk, down.
    pub(super) fn new(id: NodeId) -> Self {
        let mut node = Self {
            id,
            replica: None,
            durable: DiskImage::default(),
            unsynced: Vec::new(),
            now: START,
            generators: Vec::new(),
            status: None,
            print: 0,
        };
        node.look();
        node
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    pub(super) fn print(&self) -> u64 {
        self.print
    }

    pub(super) fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    pub(super) fn status(&self) -> Option<Status> {
        self.status
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.replica.as_ref().and_then(Replica::deadline)
    }

    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Whether entries wait for the disk.
    pub(super) fn has_unsynced_entries(&self) -> bool {
        self.unsynced.iter().flat_map(|w| &w.ops).any(|op| !matches!(op, replog::LogOp::HardState(_)))
    }

    /// The entry that a power cut now would leave at `index`.
    pub(super) fn durable_id(&self, index: Index) -> Option<LogId> {
        self.durable.entries.get(&index).map(|e| e.id)
    }

    /// Takes one step.
    pub(super) fn take(&mut self, stimulus: &Stimulus<'_, P::Message>, scope: &Scope) -> Doings<P::Message> {
        let lie = scope.lie;
        match stimulus {
            Stimulus::Open => self.open(scope),
            Stimulus::Crash(keep) => self.crash(*keep),
            Stimulus::Deliver(packet) => {
                let Frame { message, entries } = packet.frame.clone();
                self.step(lie, |r| r.push(Input::Message { from: packet.from, message, entries }))
            }
            Stimulus::Sync => {
                let write = self.unsynced.remove(0);
                write.ops.iter().for_each(|op| self.durable.follow(op));
                self.step(lie, |r| r.persisted(write.ticket))
            }
            Stimulus::Timeout => {
                self.now = self.deadline().unwrap_or(self.now).max(self.now);
                self.step(lie, |_| {})
            }
            Stimulus::Propose(byte) => {
                let commands = vec![bytes::Bytes::copy_from_slice(&[*byte])];
                self.step(lie, |r| r.push(Input::Propose { stamp: Stamp(1), commands }))
            }
            Stimulus::Link(peer, up) => self.step(lie, |r| r.set_link(*peer, *up)),
        }
    }

    /// Opens the core on what is durable; its clock is a new one.
    fn open(&mut self, scope: &Scope) -> Doings<P::Message> {
        let lie = scope.lie;
        let mut recovered = self.durable.recovered();
        if lie == Lie::ForgottenPromise {
            let last = recovered.entries.last().map_or(replog::Epoch::ZERO, |e| e.id.epoch);
            recovered.hard_state.promised = last.max(recovered.hard_state.established);
            recovered.hard_state.voted_for = None;
        }
        self.now = START + Duration::from_nanos(scope.disguise);
        let setup = Setup {
            id: self.id,
            seed: 0xC0DE_0000 + u64::from(self.id.0),
            configurations: vec![ConfigurationAt { from: Index::ZERO, configuration: configuration() }],
            hard_state: recovered.hard_state,
            base: recovered.base,
            snapshot: LogId::ZERO,
            entries: recovered.entries,
            damaged: Vec::new(),
            may_vote: true,
            options: P::options(scope),
        };
        self.generators = generators::<P>(&setup, self.now);
        self.replica = Some(Replica::open(setup, FRAME_BYTES, self.now));
        self.step(lie, |_| {})
    }

    /// Loses what is not synced but the first `keep` writes (recovery makes those durable), and stops.
    fn crash(&mut self, keep: usize) -> Doings<P::Message> {
        self.replica = None;
        self.unsynced.truncate(keep);
        for write in std::mem::take(&mut self.unsynced) {
            write.ops.iter().for_each(|op| self.durable.follow(op));
        }
        self.now = START;
        self.generators.clear();
        self.look();
        Doings { frames: Vec::new(), applied: Vec::new(), broken: None }
    }

    /// Gives the replica its inputs, steps it, and carries out what follows, as every driver does.
    fn step(&mut self, lie: Lie, inputs: impl FnOnce(&mut Replica<P>)) -> Doings<P::Message> {
        let mut doings = Doings { frames: Vec::new(), applied: Vec::new(), broken: None };
        let outcome = catch_unwind(AssertUnwindSafe(|| self.steps(lie, inputs, &mut doings)));
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            doings.broken = Some(text.unwrap_or_else(|| "a panic".to_owned()));
        }
        self.look();
        doings
    }

    fn steps(&mut self, lie: Lie, inputs: impl FnOnce(&mut Replica<P>), doings: &mut Doings<P::Message>) {
        let Some(replica) = &mut self.replica else { return };
        inputs(replica);
        for step in 0.. {
            assert!(step < STEPS, "{} never comes to rest", self.id);
            replica.step(self.now);
            if let Err(v) = replica.core().check() {
                doings.broken = Some(format!("{}: {}", v.rule, v.detail));
            }
            for write in replica.take_writes() {
                let ticket = write.ticket;
                self.unsynced.push(write);
                if lie == Lie::PersistedBeforeSync {
                    replica.persisted(ticket);
                }
            }
            for request in replica.take_reads() {
                let found = read(&self.durable, &self.unsynced, request.span);
                replica.read_done(request, found);
            }
            drop(replica.take_notices());
            for peer in replica.outbox().peers().collect::<Vec<_>>() {
                let mut frames = Vec::new();
                replica.drain(peer, u64::MAX, &mut frames);
                doings.frames.extend(frames.into_iter().map(|frame| (peer, frame)));
            }
            let (durable, unsynced) = (&self.durable, &self.unsynced);
            while let Some(batch) = replica.take_committed(1 << 20, |span, _| read(durable, unsynced, span)) {
                match batch {
                    Committed::Entries(entries) => doings.applied.extend(entries),
                    Committed::Install(at) => panic!("{} installs {at}: no snapshot was sent", self.id),
                }
            }
            if !replica.has_input() {
                return;
            }
        }
    }

    /// Renews the status and the print.
    fn look(&mut self) {
        self.status = self.replica.as_ref().map(Replica::status);
        let mut print = Print::new(self.now, &self.generators);
        (&self.replica, &self.durable, &self.unsynced).hash(&mut print);
        self.print = print.finish();
    }
}

/// Entries of `span` that were written, synced or not.
fn read(durable: &DiskImage, unsynced: &[Write], span: Span) -> Result<Vec<Entry>, Missing> {
    let mut image = durable.clone();
    unsynced.iter().flat_map(|w| &w.ops).for_each(|op| image.follow(op));
    let run = image.entries.range(span.from..=span.to).zip(span.from.0..);
    let found: Vec<Entry> = run.take_while(|((i, _), n)| i.0 == *n).map(|((_, e), _)| e.clone()).collect();
    if found.is_empty() { Err(Missing) } else { Ok(found) }
}

/// Ids 1 to [`NODES`], all voters.
fn configuration() -> Configuration {
    Configuration::of_voters((1..=NODES).map(NodeId))
}
