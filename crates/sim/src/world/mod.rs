//! The virtual cluster: production code on virtual time.
//!
//! ```text
//!  clients (jute bytes) ─► server::Service ─► Replica<P> (real core) ─► network ─► the others
//!        ▲                    real sessions,      │ real Wal and SnapshotStore
//!        └── history          watches, expiry     └─► MemDisk: lies, tears, fills up
//! ```
//!
//! Virtual are time, network, speed of disks, and chance; everything else is what runs in production. `turn.rs`, `log.rs`
//! and `snapshots.rs` do what the driver in `node` does, in its order. One seed decides everything: the same plan gives
//! the same events, to the last bit of [`crate::Report::digest`].
//!
//! Invariants: only the event at the head of the queue happens; no event depends on the system's clock, on addresses or
//! on the order of a hash map; a node's turn never runs another node's code.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "places of hosts and clients are made here; a wrong one is a bug of the simulator, and becomes a report"
)]

mod client;
mod clock;
mod ended;
mod events;
mod faults;
mod host;
mod ledger;
mod links;
mod load;
mod log;
mod network;
mod observe;
mod process;
mod run;
mod settings;
mod snapshots;
mod story;
mod targets;
mod turn;
#[cfg(test)]
mod watched;
mod workload;

pub use observe::{Happening, Observer, WorldEvent};
pub use run::run;

use crate::check::{Bounds, Checks, Quiet, Speaks, Watch};
use crate::schedule::{Switches, Variant};
use crate::{Figures, Plan, Violation};
use client::Client;
use clock::Clock;
use ended::Ended;
use events::{Event, Events, Life};
use history::History;
use host::{Host, Process};
use ledger::Ledger;
use network::{Network, Packet, Shape};
use replog::{Frame, Limits, NodeId, Rng, Timing};
use settings::Settings;
use std::time::Duration;
use trace::Record;
use turn::End;

/// What the simulator needs to know of a protocol.
pub trait Simulated: Speaks + 'static {
    /// Its options as a server would set them.
    fn options(variant: Variant, switches: &Switches, timing: Timing, limits: Limits) -> Self::Options;
    /// White-box checks of this protocol.
    fn observers(bounds: Bounds) -> Vec<Box<dyn Observer<Self>>> {
        let quiet = Quiet::new(load::SETTLE_US);
        vec![Box::new(Watch::new(Checks::new(Self::FAMILY, Some(quiet), Some(bounds))))]
    }
}

impl Simulated for zab::Zab {
    fn options(variant: Variant, switches: &Switches, timing: Timing, limits: Limits) -> zab::Options {
        let base = match variant {
            Variant::Hardened => zab::Options::default(),
            Variant::Textbook => zab::Options::textbook(),
        };
        zab::Options {
            finalize_wait: match switches.fixed_wait {
                Some(true) => zab::FinalizeWait::ZOOKEEPER,
                Some(false) => zab::FinalizeWait::Adaptive,
                None => base.finalize_wait,
            },
            sync_search: match switches.entry_search {
                Some(true) => zab::SyncSearch::ZooKeeper,
                Some(false) => zab::SyncSearch::EpochTable,
                None => base.sync_search,
            },
            connectivity: switches.connectivity.unwrap_or(base.connectivity),
            timing,
            limits,
        }
    }
}

impl Simulated for raft::Raft {
    fn options(variant: Variant, switches: &Switches, timing: Timing, limits: Limits) -> raft::Options {
        let base = match variant {
            Variant::Hardened => raft::Options::default(),
            Variant::Textbook => raft::Options::textbook(),
        };
        // The paper's protocol learns of a lost leader from its own timeout only.
        let link_loss_spread = base.timing.link_loss_spread.max(timing.link_loss_spread);
        let error = timing.election_timeout / 10;
        raft::Options {
            pre_vote: switches.pre_vote.unwrap_or(base.pre_vote),
            check_quorum: switches.check_quorum.unwrap_or(base.check_quorum),
            stickiness: switches.stickiness.unwrap_or(base.stickiness),
            eager_commit: switches.eager_commit.unwrap_or(base.eager_commit),
            lease: switches.lease.map_or(base.lease, |on| on.then_some(error)),
            inflight_bytes: switches.inflight_bytes.unwrap_or(base.inflight_bytes),
            timing: Timing { link_loss_spread, ..timing },
            limits,
        }
    }
}

impl Simulated for paxos::Paxos {
    fn options(variant: Variant, switches: &Switches, timing: Timing, limits: Limits) -> paxos::Options {
        let base = match variant {
            Variant::Hardened => paxos::Options::default(),
            Variant::Textbook => paxos::Options::textbook(),
        };
        paxos::Options {
            pre_prepare: switches.pre_vote.unwrap_or(base.pre_prepare),
            stickiness: switches.stickiness.unwrap_or(base.stickiness),
            eager_commit: switches.eager_commit.unwrap_or(base.eager_commit),
            classic: switches.classic.unwrap_or(base.classic),
            lease: switches.lease.unwrap_or(base.lease),
            timing,
            limits,
        }
    }
}

/// A sink for trace records.
pub type Sink<'a> = &'a mut dyn FnMut(&Record);

/// See the module.
pub struct World<'a, P: Simulated> {
    settings: Settings,
    /// ns since the run began.
    now: u64,
    rng: Rng,
    events: Events<P::Message>,
    hosts: Vec<Host<P>>,
    net: Network<P::Message>,
    ledger: Ledger,
    ended: Ended,
    observers: Vec<Box<dyn Observer<P>>>,
    /// Since when nothing is in the way.
    calm_since: Option<u64>,
    sink: Option<Sink<'a>>,
    figures: Figures,
    violation: Option<Violation>,
    /// Hash over everything that happened.
    digest: u64,
    next_frame: u64,
    next_stream: u64,
    snapshots_sent: u64,
    snapshots_taken: u64,
    clients: Vec<Client>,
    /// Number of hot nodes.
    keys: u64,
    next_conn: u64,
    next_call: u64,
    history: History,
    /// Nodes that the step before was about.
    same: Vec<usize>,
    skipped: Vec<usize>,
    heals: u32,
    first_step: Option<u64>,
    healed_at: Option<u64>,
    last_ack: u64,
    longest_gap: u64,
    /// Kept for their allocations.
    frames: Vec<Frame<P::Message>>,
    handing: Vec<Packet<P::Message>>,
}

impl<'a, P: Simulated> World<'a, P> {
    /// A cluster whose nodes are all down yet.
    pub(crate) fn new(plan: &Plan, sink: Option<Sink<'a>>) -> Self {
        let settings = Settings::of(plan);
        let mut rng = Rng::new(plan.seed);
        let shape = Shape { latency: settings.latency, jitter: settings.jitter, ..Shape::default() };
        let drift = u64::from(settings.drift_per_mille);
        let hosts = (1..=settings.nodes as u32).map(|id| {
            let rate = 1000 - drift + rng.below(2 * drift + 1);
            Host::new(NodeId(id), Clock::new(id, rate as u32))
        });
        let hosts: Vec<Host<P>> = hosts.collect();
        let keys = 1 + rng.below(50);
        Self {
            net: Network::new(hosts.len(), P::GUARANTEES.fifo_links, shape),
            now: 0,
            rng,
            events: Events::default(),
            hosts,
            ledger: Ledger::default(),
            ended: Ended::default(),
            observers: P::observers(load::bounds::<P>(&settings)),
            calm_since: None,
            sink,
            figures: Figures { election_ms: settings.election / 1_000_000, ..Figures::default() },
            violation: None,
            digest: plan.seed,
            next_frame: 0,
            next_stream: 0,
            snapshots_sent: 0,
            snapshots_taken: 0,
            clients: Vec::new(),
            keys,
            next_conn: 0,
            next_call: 0,
            history: History::default(),
            same: Vec::new(),
            skipped: Vec::new(),
            heals: 0,
            first_step: None,
            healed_at: None,
            last_ack: 0,
            longest_gap: 0,
            frames: Vec::new(),
            handing: Vec::new(),
            settings,
        }
    }

    /// Lets the next event happen, if it is due by `until`; false if there is none.
    pub(crate) fn advance(&mut self, until: u64) -> bool {
        if self.violation.is_some() || self.events.next_at().is_none_or(|at| at > until) {
            self.now = self.now.max(until);
            return false;
        }
        let Some((at, event)) = self.events.pop() else { return false };
        self.now = at;
        self.happen(event);
        true
    }

    fn happen(&mut self, event: Event<P::Message>) {
        match event {
            Event::Frame(packet) => self.frame(packet),
            Event::Release(from, to) => self.release(from, to),
            Event::Dial(a, b) => self.dial(a, b),
            Event::Stream(arrival) => self.stream(*arrival),
            Event::Client(event) => self.client_event(event),
            Event::Later(what) => self.go_on(what),
            Event::Turn(of) => self.if_alive(of, Self::turn),
            Event::Timer(of) => self.if_alive(of, Self::timer),
            Event::Synced(of) | Event::Retry(of) => self.if_alive(of, Self::synced),
            Event::Apply(of) => self.if_alive(of, Self::apply),
            Event::Care(of) => self.if_alive(of, Self::care),
            Event::Upkeep(of) => self.if_alive(of, Self::upkeep),
            Event::SnapshotWritten(of) => self.if_alive(of, Self::snapshot_written),
            Event::SnapshotSynced(of) => self.if_alive(of, Self::snapshot_synced),
        }
    }

    fn if_alive(&mut self, of: Life, act: impl FnOnce(&mut Self, usize)) {
        if self.is_alive(of) {
            self.mix(of.host as u64);
            act(self, of.host);
        }
    }

    /// Works on a running process; it ends if that fails.
    fn with_process(&mut self, i: usize, work: impl FnOnce(&mut Self, &mut Process<P>) -> Result<(), End>) {
        let Some(mut process) = self.hosts[i].process.take() else { return };
        let outcome = work(self, &mut process);
        self.hosts[i].process = Some(process);
        if let Err(end) = outcome {
            self.end_process(i, &end);
        }
    }

    /// Makes `what` part of the run's digest.
    fn mix(&mut self, what: u64) {
        let mixed = (self.digest ^ what).wrapping_add(self.now);
        self.digest = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
    }

    /// A rule is broken. The first one counts.
    fn violate(&mut self, checker: &str, text: String) {
        let at_us = self.now / 1000;
        self.violation.get_or_insert_with(|| Violation { checker: checker.to_owned(), text, at_us });
    }

    /// Whether anybody observes.
    fn is_observed(&self) -> bool {
        !self.observers.is_empty()
    }

    /// Tells the observers what a node's state is.
    fn tell_state(&mut self, i: usize, process: &Process<P>) {
        if self.is_observed() {
            let (zxid, digest) = process.app.fingerprint();
            self.tell(i, Happening::State { index: process.applied.index, zxid, digest });
        }
    }

    /// Tells the observers.
    fn tell(&mut self, i: usize, what: Happening<'_, P>) {
        if self.observers.is_empty() {
            return;
        }
        let host = &self.hosts[i];
        let at = Duration::from_nanos(self.now);
        let event = WorldEvent { at, node: host.id, life: host.life, what };
        let told = self.observers.iter_mut().find_map(|o| o.on_event(&event).err());
        if let Some(violation) = told {
            self.violation.get_or_insert(violation);
        }
    }
}
