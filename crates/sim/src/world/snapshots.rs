//! Snapshots on their way, as `node/src/snapshots.rs` has them: taken, sent, received, installed.
//!
//! ```text
//!  taken     frozen ─► written (takes its time) ─► log durable up to it? ─► synced, named ─► Taken
//!  sent      the file's bytes ─► a stream of its own ─► staged there ─► synced, read back ─► Received; verdict ─► Sent
//!  installed accepted by the core, its Purge durable ─► named ─► the application's state
//! ```

use super::host::{Mail, Process};
use super::observe::Happening;
use super::turn::End;
use super::{Event, Life, Simulated, World};
use node::{Application, FrozenState};
use replog::{Configuration, ConfigurationAt, Epoch, Index, LogId, Rng, Ticket};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use wal::{MemDisk, Meta, SnapshotStore, SnapshotWriter, StagedWriter, WalError};

/// A stream that moves nothing for this long is given up.
const STALLED_NS: u64 = 10_000_000_000;

/// What a process holds of its snapshots.
pub(crate) struct Snapshots {
    /// Settled ones, ascending.
    pub(crate) configurations: Vec<ConfigurationAt>,
    /// Accepted by the core, not installed yet.
    pub(crate) accepted: Vec<LogId>,
    /// The next one replaces what has rotted: the core hears of it at once.
    wanted: bool,
    every: u64,
    left: u64,
    rng: Rng,
    writing: Option<Writing>,
    receiving: Vec<(u64, StagedWriter<MemDisk>)>,
}

/// The one that is being written.
struct Writing {
    at: LogId,
    after: Ticket,
    frozen: Option<FrozenState>,
    writer: Option<SnapshotWriter<MemDisk>>,
    /// Its last sync is under way.
    finishing: bool,
}

/// A stage of a stream.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// All bytes are with the receiver.
    Bytes { from: Life, to: usize, epoch: Epoch, at: LogId, bytes: Vec<u8> },
    /// The receiver has synced them.
    Staged { from: Life, to: Life, epoch: Epoch, at: LogId, number: u64 },
    /// The sender hears how it ended.
    Verdict { from: Life, to: usize, at: LogId, whole: bool },
}

impl Snapshots {
    pub(crate) fn new(configurations: Vec<ConfigurationAt>, every: u64, seed: u64) -> Self {
        let mut snapshots = Self {
            configurations,
            accepted: Vec::new(),
            wanted: false,
            every,
            left: 0,
            rng: Rng::new(seed),
            writing: None,
            receiving: Vec::new(),
        };
        snapshots.restart();
        snapshots
    }

    /// The next is due after between half of the configured count and the whole.
    fn restart(&mut self) {
        self.left = self.every / 2 + self.rng.below(self.every - self.every / 2 + 1);
    }

    pub(crate) fn is_due(&mut self, commands: u64) -> bool {
        self.left = self.left.saturating_sub(commands);
        self.left == 0
    }

    /// A configuration counts from `at`.
    pub(crate) fn configured(&mut self, at: Index, configuration: &Configuration, settled: bool) {
        if settled {
            self.configurations.retain(|c| c.from < at);
            self.configurations.push(ConfigurationAt { from: at, configuration: configuration.clone() });
        }
    }

    fn at(&self, at: LogId) -> Vec<ConfigurationAt> {
        let in_force = self.configurations.iter().rposition(|c| c.from <= at.index).unwrap_or(0);
        self.configurations.iter().skip(in_force).cloned().collect()
    }
}

impl<P: Simulated> World<'_, P> {
    // ---- taken ---------------------------------------------------------------------------------------------

    /// Freezes the state and begins to write it, unless one is being written. `after` covers the log up to it.
    pub(crate) fn take_snapshot(&mut self, i: usize, process: &mut Process<P>, after: Ticket) {
        if process.snapshots.writing.is_some() {
            return;
        }
        let frozen = Some(process.app.freeze());
        let writing = Writing { at: process.applied, after, frozen, writer: None, finishing: false };
        process.snapshots.writing = Some(writing);
        process.snapshots.restart();
        let at = self.sync_done_at(i) + self.rng.below(4 * self.settings.fsync);
        self.events.schedule(at, Event::SnapshotWritten(self.life(i)));
    }

    /// The bytes are on the disk.
    pub(crate) fn snapshot_written(&mut self, i: usize) {
        self.with_process(i, |world, process| {
            let Some(writing) = &mut process.snapshots.writing else { return Ok(()) };
            let (at, frozen) = (writing.at, writing.frozen.take());
            let meta = Meta { at, configurations: process.snapshots.at(at) };
            let written = process.store.writer(&meta).and_then(|mut writer| {
                let put = frozen.map_or(Ok(()), |frozen| frozen(&mut writer));
                let path = std::path::PathBuf::from("snapshot");
                put.map_err(|source| WalError::Io { doing: "writing", path, source })?;
                Ok(writer)
            });
            match written {
                Ok(writer) => {
                    if let Some(writing) = &mut process.snapshots.writing {
                        writing.writer = Some(writer);
                    }
                    world.snapshot_may_finish(i, process);
                    Ok(())
                }
                Err(e) => {
                    process.snapshots.writing = None;
                    world.snapshot_error(i, &e)
                }
            }
        });
    }

    /// Lets the last sync begin if the log is durable up to the snapshot.
    pub(crate) fn snapshot_may_finish(&mut self, i: usize, process: &mut Process<P>) {
        let durable = process.durable;
        let Some(writing) = &mut process.snapshots.writing else { return };
        if writing.writer.is_some() && !writing.finishing && durable >= writing.after {
            writing.finishing = true;
            let at = self.sync_done_at(i);
            self.events.schedule(at, Event::SnapshotSynced(self.life(i)));
        }
    }

    /// The last sync is through.
    pub(crate) fn snapshot_synced(&mut self, i: usize) {
        self.with_process(i, |world, process| {
            let Some(Writing { at, writer: Some(writer), .. }) = process.snapshots.writing.take() else {
                return Ok(());
            };
            match writer.finish() {
                Ok(_) => {
                    world.figures.snapshots += 1;
                    world.snapshots_taken += 1;
                    world.trace_snapshot(i, "taken", at, None);
                    // It may be gone: 1. a slow disk takes long over it; 2. two newer ones are installed meanwhile; 3. it is
                    // written, and is the one too many.
                    if world.is_observed()
                        && let Some(hash) = hash_of(&process.store, at)
                    {
                        world.tell(i, Happening::SnapshotTaken { at, hash });
                    }
                    // The log reaches back to the older of the last two, as in node/src/snapshots.rs.
                    let wanted = std::mem::take(&mut process.snapshots.wanted);
                    if let Some(at) = if wanted { Some(at) } else { process.store.before(at) } {
                        process.inbox.push(Mail::Taken { at });
                    }
                    Ok(())
                }
                Err(e) => world.snapshot_error(i, &e),
            }
        });
        self.poke(i);
    }

    /// A failed sync ends the process, whichever file it was; so does a chosen crash point.
    fn snapshot_error(&mut self, i: usize, e: &WalError) -> Result<(), End> {
        let fatal = matches!(e, WalError::Sync { .. }) || self.hosts[i].crash_armed.is_some();
        if fatal { Err(End::Fatal(e.to_string())) } else { Ok(()) }
    }

    // ---- sent ----------------------------------------------------------------------------------------------

    /// Streams the snapshot at `at` to `to`.
    pub(crate) fn send_snapshot(&mut self, i: usize, process: &mut Process<P>, to: usize, at: LogId) {
        self.snapshots_sent += 1;
        let mut bytes = Vec::new();
        let read = process.store.raw(at).map_err(io::Error::other);
        let read = read.and_then(|(mut file, _)| file.read_to_end(&mut bytes));
        if read.is_err() {
            return self.verdict(self.life(i), to, at, false, 0);
        }
        self.trace_snapshot(i, "sent", at, Some(to));
        let (from, epoch) = (self.life(i), process.status.epoch);
        let way = 3 * self.net.delay(&mut self.rng) + self.net.transmission(bytes.len() as u64);
        let arrival = Arrival::Bytes { from, to, epoch, at, bytes };
        self.events.schedule(self.now + way, Event::Stream(Box::new(arrival)));
    }

    /// A stage of a stream is reached.
    pub(crate) fn stream(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Bytes { from, to, epoch, at, bytes } => {
                let cut = self.net.is_cut(from.host, to) || self.net.is_cut(to, from.host);
                if cut || self.hosts[to].paused {
                    self.verdict(from, to, at, false, STALLED_NS);
                } else if self.hosts[to].process.is_none() || !self.is_alive(from) {
                    self.verdict(from, to, at, false, 0);
                } else {
                    self.stage(from, to, epoch, at, &bytes);
                }
            }
            Arrival::Staged { from, to, epoch, at, number } => {
                let whole = self.is_alive(to) && self.staged(from, to.host, epoch, at, number);
                if !whole && self.is_alive(from) {
                    self.doubt_snapshot(from.host, at);
                }
                self.verdict(from, to.host, at, whole, 0);
            }
            Arrival::Verdict { from, to, at, whole } => {
                let cut = self.net.is_cut(to, from.host);
                if self.is_alive(from)
                    && let Some(process) = &mut self.hosts[from.host].process
                {
                    process.inbox.push(Mail::Sent { to, at, whole: whole && !cut });
                    self.poke(from.host);
                }
            }
        }
    }

    /// The peer got all of it and did not want it: is the own copy whole? As in node/src/snapshots.rs.
    fn doubt_snapshot(&mut self, i: usize, at: LogId) {
        self.with_process(i, |world, process| {
            let whole = process.store.check(at);
            match whole.and_then(|whole| Ok(if whole { None } else { Some(process.store.newer(at)?) })) {
                Ok(Some(Some(newer))) => process.inbox.push(Mail::Taken { at: newer }),
                Ok(Some(None)) if process.applied.index.0 > 0 => {
                    process.snapshots.wanted = true;
                    let after = process.written;
                    world.take_snapshot(i, process, after);
                }
                Ok(_) => {}
                Err(e) => return world.snapshot_error(i, &e),
            }
            Ok(())
        });
        self.poke(i);
    }

    fn verdict(&mut self, from: Life, to: usize, at: LogId, whole: bool, wait: u64) {
        let arrives = self.now + wait + self.net.delay(&mut self.rng);
        self.events.schedule(arrives, Event::Stream(Box::new(Arrival::Verdict { from, to, at, whole })));
    }

    fn stage(&mut self, from: Life, to: usize, epoch: Epoch, at: LogId, bytes: &[u8]) {
        let mut refused = true;
        self.with_process(to, |world, process| {
            let staged = process.store.stage().map_err(io::Error::other);
            let Ok(writer) = staged.and_then(|mut w| w.write_all(bytes).map(|()| w)) else { return Ok(()) };
            refused = false;
            world.next_stream += 1;
            let number = world.next_stream;
            process.snapshots.receiving.push((number, writer));
            let done = world.sync_done_at(to);
            let life = world.life(to);
            let staged = Arrival::Staged { from, to: life, epoch, at, number };
            world.events.schedule(done, Event::Stream(Box::new(staged)));
            Ok(())
        });
        if refused {
            self.verdict(from, to, at, false, 0);
        }
    }

    /// Whether it is whole.
    fn staged(&mut self, from: Life, to: usize, epoch: Epoch, at: LogId, number: u64) -> bool {
        let mut whole = false;
        self.with_process(to, |world, process| {
            let receiving = &mut process.snapshots.receiving;
            let Some(place) = receiving.iter().position(|(n, _)| *n == number) else { return Ok(()) };
            let (_, writer) = receiving.remove(place);
            match writer.finish() {
                Ok(info) => {
                    whole = true;
                    world.trace_snapshot(to, "received", at, Some(from.host));
                    let configurations = info.meta.configurations;
                    process.inbox.push(Mail::Received { from: from.host, epoch, at, configurations });
                    Ok(())
                }
                Err(e) => world.snapshot_error(to, &e),
            }
        });
        self.poke(to);
        whole
    }

    // ---- installed -----------------------------------------------------------------------------------------

    /// Makes the accepted snapshot the newest and gives its state to the application.
    pub(crate) fn install(&mut self, i: usize, process: &mut Process<P>, at: LogId) -> Result<(), End> {
        let fatal = |e: io::Error| End::Fatal(format!("installing {at}: {e}"));
        process.store.accept(at).map_err(|e| fatal(io::Error::other(e)))?;
        let mut reader = process.store.open_at(at).map_err(|e| fatal(io::Error::other(e)))?;
        let configurations = reader.meta().configurations.clone();
        process.app.install(at, &mut reader).map_err(fatal)?;
        io::copy(&mut reader, &mut io::sink()).map_err(fatal)?;
        let snapshots = &mut process.snapshots;
        snapshots.accepted.retain(|a| *a != at);
        let later = snapshots.configurations.drain(..).filter(|c| c.from > at.index).collect::<Vec<_>>();
        snapshots.configurations = configurations;
        let last = snapshots.configurations.last().map_or(Index::ZERO, |c| c.from);
        snapshots.configurations.extend(later.into_iter().filter(|c| c.from > last));
        snapshots.restart();
        process.applied = at;
        self.figures.installs += 1;
        self.trace_snapshot(i, "installed", at, None);
        self.tell(i, Happening::Installed { at });
        self.tell_state(i, process);
        if let Err((checker, text)) = self.ledger.loaded(at, process.digest()) {
            self.violate(checker, format!("{}: {text}", self.hosts[i].id));
        }
        Ok(())
    }
}

/// Hash of the state's bytes in the snapshot at `at`, if it can be read.
fn hash_of(store: &SnapshotStore<MemDisk>, at: LogId) -> Option<u64> {
    let mut bytes = Vec::new();
    let read = store.open_at(at).map_err(io::Error::other).and_then(|mut r| r.read_to_end(&mut bytes));
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    read.ok().map(|_| hasher.finish())
}
