//! One node: what survives its process (disk, clock), and the process itself.
//!
//! It starts with `node::Storage`, as a real one does, on a disk in memory.

use super::client::Conn;
use super::clock::Clock;
use super::network::Load;
use super::settings::Settings;
use super::snapshots::Snapshots;
use crate::schedule::CrashKind;
use bytes::Bytes;
use node::{Keeping, NodeHandle, Storage};
use replog::{
    Configuration, ConfigurationAt, Entry, LogId, LogStore, NodeId, Replica, ReplicatedLog, Role, Setup,
    Stamp, Status, Ticket, Write,
};
use server::Virtual;
use server::service::Service;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wal::{Identity, MemDisk, SnapshotOptions, SnapshotStore, Wal, WalOptions, WalReader};

/// Small segments, so that runs of seconds see many.
const SEGMENT_BYTES: u64 = 64 << 10;
const RESERVE_BYTES: u64 = 64 << 10;
const CLUSTER: u64 = 0x51D;

/// A node.
pub(crate) struct Host<P: ReplicatedLog> {
    pub(crate) id: NodeId,
    pub(crate) disk: MemDisk,
    pub(crate) clock: Clock,
    /// Number of its process, from 1.
    pub(crate) life: u32,
    /// `None` while it is down.
    pub(crate) process: Option<Box<Process<P>>>,
    /// When it went down, was paused or cut off; for `Target::Down`.
    pub(crate) out_since: Option<u64>,
    pub(crate) paused: bool,
    /// Handles nothing for the first ns of every second ns.
    pub(crate) starved: Option<(u64, u64)>,
    /// Whether its disk is what it wrote: a replaced one may not vote.
    pub(crate) may_vote: bool,
    /// Bit rot or a lying disk: it may refuse to start or to go on, and that is right.
    pub(crate) lied_to: bool,
    /// Its disk has a bound.
    pub(crate) full: bool,
    /// It ends in the middle of some write to its disk: how.
    pub(crate) crash_armed: Option<CrashKind>,
    /// How many times as long its fsyncs take.
    pub(crate) slowness: u64,
    /// No write completes before.
    pub(crate) stalled_until: u64,
    /// A data directory put aside.
    pub(crate) backup: Option<MemDisk>,
}

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkEnd {
    pub(crate) session: u64,
    /// World's times.
    pub(crate) heard: u64,
    pub(crate) said: u64,
    /// Lower bound of the arrival of the last core message, by the node's own clock.
    pub(crate) word: Option<u64>,
}

/// What waits for a turn.
#[derive(Debug)]
pub(crate) enum Mail<M> {
    Frame {
        from: usize,
        session: u64,
        id: u64,
        load: Load<M>,
    },
    /// The connection to a peer is made.
    Up {
        peer: usize,
        session: u64,
    },
    /// Everything up to here is durable.
    Durable(Ticket),
    /// Of the snapshot threads.
    Taken {
        at: LogId,
    },
    Received {
        from: usize,
        epoch: replog::Epoch,
        at: LogId,
        configurations: Vec<ConfigurationAt>,
    },
    Sent {
        to: usize,
        at: LogId,
        whole: bool,
    },
    /// A graceful end.
    Shutdown,
    /// Leadership is to be handed over.
    Transfer,
}

/// Work for the apply thread.
#[derive(Debug)]
pub(crate) enum Job {
    Entries { entries: Vec<Entry>, after: Ticket },
    Install { at: LogId },
}

/// The running process.
pub(crate) struct Process<P: ReplicatedLog> {
    pub(crate) replica: Replica<P>,
    pub(crate) status: Status,
    pub(crate) role: Role,
    pub(crate) app: Arc<Service>,
    /// The application's clock.
    pub(crate) time: Arc<Virtual>,
    pub(crate) handle: NodeHandle,
    /// What the application asked for outside of a turn.
    pub(crate) wishes: Option<node::Mail>,
    /// Whether it counts in quorums.
    pub(crate) may_vote: bool,
    /// A barrier was answered in this turn: some connection may go on.
    pub(crate) answered: bool,
    pub(crate) clients: Vec<Conn>,
    // ---- core thread
    pub(crate) inbox: Vec<Mail<P::Message>>,
    pub(crate) turn_scheduled: bool,
    /// World's time of the timer event under way.
    pub(crate) alarm: u64,
    pub(crate) busy_until: u64,
    /// By its own clock, as are `contact` and `LinkEnd::word`.
    pub(crate) last_turn: u64,
    pub(crate) links: Vec<Option<LinkEnd>>,
    pub(crate) downed: Vec<usize>,
    pub(crate) staged: Vec<LogId>,
    pub(crate) proposals: VecDeque<Bytes>,
    pub(crate) stamp: Stamp,
    pub(crate) configuration: Configuration,
    pub(crate) contact: u64,
    /// When the service last looked at its clock.
    pub(crate) kept_up: u64,
    /// Steps since the core's own invariants were last looked at.
    pub(crate) unchecked: u32,
    /// A graceful end was asked for: when to stop waiting for a successor.
    pub(crate) ending: Option<u64>,
    // ---- log thread
    pub(crate) wal: Wal<MemDisk>,
    pub(crate) reader: WalReader<MemDisk>,
    pub(crate) log_queue: Vec<Write>,
    /// What is being written: the first so many are appended.
    pub(crate) log_batch: Vec<Write>,
    pub(crate) appended: usize,
    pub(crate) log_busy: bool,
    pub(crate) written: Ticket,
    pub(crate) durable: Ticket,
    // ---- apply thread
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) apply_scheduled: bool,
    pub(crate) applied: LogId,
    // ---- snapshot threads
    pub(crate) snapshots: Snapshots,
    pub(crate) store: SnapshotStore<MemDisk>,
}

/// Where everything lies on a node's disk.
pub(crate) fn log_dir() -> PathBuf {
    PathBuf::from("/data/log")
}

/// As [`log_dir`].
pub(crate) fn snapshot_dir() -> PathBuf {
    PathBuf::from("/data/snapshots")
}

/// How a node keeps its data.
pub(crate) fn keeping(id: NodeId, protocol: &str, may_vote: bool, settings: &Settings) -> Keeping {
    Keeping {
        identity: Identity { protocol: protocol.into(), cluster: CLUSTER, node: id },
        log_dir: log_dir(),
        snapshot_dir: snapshot_dir(),
        log: WalOptions { segment_bytes: SEGMENT_BYTES, buffer_bytes: 1 << 20, reserve_bytes: RESERVE_BYTES },
        snapshots: SnapshotOptions { keep: 3, compress: false },
        configuration: settings.configuration.clone(),
        may_vote,
    }
}

impl<P: ReplicatedLog> Process<P> {
    /// The process around `replica`, which opened on `storage`.
    pub(crate) fn new(
        storage: Storage<MemDisk>,
        replica: Replica<P>,
        configuration: Configuration,
        (app, time, handle): (Arc<Service>, Arc<Virtual>, NodeHandle),
        settings: &Settings,
        seed: u64,
        (now, local): (u64, u64),
    ) -> Self {
        Self {
            status: replica.status(),
            replica,
            role: Role::Electing,
            app,
            time,
            handle,
            wishes: None,
            may_vote: true,
            answered: false,
            clients: Vec::new(),
            inbox: Vec::new(),
            turn_scheduled: false,
            alarm: u64::MAX,
            busy_until: now,
            last_turn: local,
            links: vec![None; settings.nodes],
            downed: Vec::new(),
            staged: Vec::new(),
            proposals: VecDeque::new(),
            stamp: Stamp(0),
            configuration,
            contact: local,
            kept_up: local,
            unchecked: 0,
            ending: None,
            reader: storage.wal.reader(),
            wal: storage.wal,
            log_queue: Vec::new(),
            log_batch: Vec::new(),
            appended: 0,
            log_busy: false,
            written: Ticket::NONE,
            durable: Ticket::NONE,
            jobs: VecDeque::new(),
            apply_scheduled: false,
            applied: storage.snapshot,
            snapshots: Snapshots::new(storage.configurations, settings.snapshot_every, seed),
            store: storage.store,
        }
    }
}

/// The configuration that counts for a core that opens on `setup`.
pub(crate) fn in_force<O>(setup: &Setup<O>) -> Configuration {
    let of_log = setup.entries.iter().rev().find_map(|e| e.configuration.as_deref());
    let of_snapshot = setup.configurations.last().map(|c| &c.configuration);
    of_log.or(of_snapshot).cloned().unwrap_or_default()
}

impl<P: ReplicatedLog> Host<P> {
    pub(crate) fn new(id: NodeId, clock: Clock) -> Self {
        Self {
            id,
            disk: MemDisk::new(),
            clock,
            life: 0,
            process: None,
            out_since: None,
            paused: false,
            starved: None,
            may_vote: true,
            lied_to: false,
            full: false,
            crash_armed: None,
            slowness: 1,
            stalled_until: 0,
            backup: None,
        }
    }

    /// Shows the application what time it is here.
    pub(crate) fn show_time(&self, now: u64, process: &Process<P>) {
        process.time.set(Duration::from_nanos(self.clock.local(now).0), self.clock.wall_ms(now));
    }

    /// Whether it runs and is not stopped.
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some() && !self.paused
    }
}
