//! Snapshots on their way: cut from the state, streamed to a peer, received from one, installed.
//!
//! ```text
//!  taken     apply thread: freeze ─► snapshot thread: write … wait until the log is durable up to it ─► name it ─► Taken
//!  sent      core: SendSnapshot ─► own connection: header, the file's bytes ─► receiver's verdict ─► Sent
//!  received  own connection ─► staged, verified, synced ─► Received ─► core accepts ─► its Purge is durable
//!            ─► apply thread: accept, install                      └─ or not ─► deleted
//! ```
//!
//! * A snapshot gets its name only when the log is durable up to it: committed entries may be applied before the own
//!   disk has them, and a snapshot beyond the log would leave a gap after a crash.
//! * A stream carries the epoch in which its sender began it; the receiver's core decides what that is worth
//!   (contract schedule 3). The file's own checksums are verified by reading it back before the core hears of it.
//! * The header of a stream is 32 bytes: epoch 2×u32, at 2×u32 + u64, length u64, little-endian. The verdict is one
//!   byte, 1 for "staged and durable".

use crate::config::OnFatal;
use crate::handle::Shared;
use crate::handshake::Kind;
use crate::queue::Durable;
use crate::transport::Transport;
use crate::{Application, Fatal, FrozenState};
use parking_lot::Mutex;
use replog::{Configuration, ConfigurationAt, Epoch, Index, LogId, NodeId, Ticket};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use wal::{Disk, Meta, SnapshotStore, WalError};

/// A stream that moves nothing for this long is given up.
const STALLED: Duration = Duration::from_secs(10);
/// Streams under way in either direction.
const STREAMS: usize = 8;
const HEADER_BYTES: usize = 32;
const WHOLE: u8 = 1;

/// What the snapshot threads tell the core thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotEvent {
    /// The state at `at` is durable, so is the log up to it, and so is a newer state.
    Taken { at: LogId },
    /// What the core would send has rotted, and there is no other: one has to be taken.
    Wanted,
    /// A whole, verified, synced snapshot is staged.
    Received { from: NodeId, epoch: Epoch, at: LogId, configurations: Vec<ConfigurationAt> },
    /// A transfer to a peer ended.
    Sent { to: NodeId, at: LogId, whole: bool },
}

#[derive(Debug, Default)]
struct State {
    /// Settled ones, ascending: what a snapshot's header needs.
    configurations: Vec<ConfigurationAt>,
    /// Accepted by the core, not installed yet: a second copy of the same must not delete the first.
    accepted: Vec<LogId>,
    /// The next one replaces what has rotted: the core hears of it at once.
    wanted: bool,
    /// The thread that writes one.
    writer: Option<JoinHandle<()>>,
    /// Streams under way, to be cut when the node ends.
    streams: Vec<(u64, TcpStream)>,
    next_stream: u64,
    closed: bool,
}

/// All that a node does with snapshots.
pub(crate) struct Snapshots<D: Disk> {
    store: SnapshotStore<D>,
    shared: Arc<Shared>,
    durable: Arc<Durable>,
    on_fatal: OnFatal,
    state: Mutex<State>,
}

impl<D: Disk> Snapshots<D> {
    pub(crate) fn new(
        store: SnapshotStore<D>,
        configurations: Vec<ConfigurationAt>,
        shared: Arc<Shared>,
        durable: Arc<Durable>,
        on_fatal: OnFatal,
    ) -> Arc<Self> {
        let state = Mutex::new(State { configurations, ..State::default() });
        Arc::new(Self { store, shared, durable, on_fatal, state })
    }

    /// Ends everything under way and waits for the writing thread.
    pub(crate) fn close(&self) {
        let writer = {
            let mut state = self.state.lock();
            state.closed = true;
            for (_, stream) in state.streams.drain(..) {
                // Fails only if the peer was faster.
                let _ = stream.shutdown(Shutdown::Both);
            }
            state.writer.take()
        };
        if let Some(writer) = writer {
            drop(writer.join());
        }
    }

    // ---- configurations ----

    /// A configuration counts from `at`. What may still be rolled back is not put into snapshots.
    pub(crate) fn configured(&self, at: Index, configuration: &Configuration, settled: bool) {
        if !settled {
            return;
        }
        let configurations = &mut self.state.lock().configurations;
        configurations.retain(|c| c.from < at);
        configurations.push(ConfigurationAt { from: at, configuration: configuration.clone() });
    }

    /// Those in force or pending at `at`. One that was settled later but governs only later indexes may be among
    /// them: it is as certain as if its entry lay inside.
    fn configurations_at(&self, at: LogId) -> Vec<ConfigurationAt> {
        let all = &self.state.lock().configurations;
        let in_force = all.iter().rposition(|c| c.from <= at.index).unwrap_or(0);
        all.iter().skip(in_force).cloned().collect()
    }

    // ---- taken ----

    /// Freezes the state at `at` and writes it on a thread of its own, unless one is being written. `after`: the
    /// ticket that covers the log up to `at`.
    pub(crate) fn take(
        self: &Arc<Self>,
        at: LogId,
        after: Ticket,
        freeze: impl FnOnce() -> FrozenState,
    ) -> bool {
        let mut state = self.state.lock();
        if state.closed || state.writer.as_ref().is_some_and(|w| !w.is_finished()) {
            return false;
        }
        if let Some(done) = state.writer.take() {
            drop(done.join());
        }
        drop(state);
        let frozen = freeze();
        let this = Arc::clone(self);
        let spawned =
            thread::Builder::new().name("snapshot".into()).spawn(move || this.write(at, after, frozen));
        match spawned {
            Ok(writer) => self.state.lock().writer = Some(writer),
            Err(e) => tracing::error!(node = %self.shared.id, "no thread for a snapshot: {e}"),
        }
        true
    }

    fn write(&self, at: LogId, after: Ticket, frozen: FrozenState) {
        let node = self.shared.id;
        match self.try_write(at, after, frozen) {
            Ok(Some(bytes)) => {
                tracing::info!(%node, %at, bytes, "snapshot taken");
                self.shared.stats.snapshots_taken.add(1);
                // 1. Snapshots at 3746 and 4761 are taken, the core purges up to 4761 less a tail: 4261; 2. the newest
                // one rots; 3. the older one ends at 3746, the log begins at 4261: nothing covers the gap, and the node
                // cannot start. So the core hears of the older of the last two: the log always reaches back to it.
                // spec: reliability §4 rule 6
                // One that replaces what has rotted is told itself: an older one that is left is no use to the core, which
                // has purged beyond it.
                let wanted = std::mem::take(&mut self.state.lock().wanted);
                if let Some(at) = if wanted { Some(at) } else { self.store.before(at) } {
                    self.tell(SnapshotEvent::Taken { at });
                }
            }
            Ok(None) => {}
            Err(e) => {
                tracing::error!(%node, %at, "snapshot failed: {e}");
                self.end_if_unsynced(&e);
            }
        }
    }

    fn try_write(&self, at: LogId, after: Ticket, frozen: FrozenState) -> Result<Option<u64>, WalError> {
        let meta = Meta { at, configurations: self.configurations_at(at) };
        let mut writer = self.store.writer(&meta)?;
        let written = frozen(&mut writer);
        let path = || std::path::PathBuf::from(format!("snapshot {at}"));
        written.map_err(|source| WalError::Io { doing: "writing", path: path(), source })?;
        if !self.durable.wait(after) {
            return Ok(None);
        }
        Ok(Some(writer.finish()?.bytes))
    }

    /// A failed sync ends the process, whichever file it was.
    fn end_if_unsynced(&self, e: &WalError) {
        if matches!(e, WalError::Sync { .. }) {
            (self.on_fatal)(&Fatal::Log { node: self.shared.id, reason: e.to_string() });
            self.shared.mailbox.put(|inbox| inbox.stop = true);
        }
    }

    fn tell(&self, event: SnapshotEvent) {
        self.shared.mailbox.put(|inbox| inbox.snapshots.push(event));
    }

    // ---- sent ----

    /// Streams the snapshot at `at` to `to`; inside the runtime. The core hears how it ended.
    pub(crate) fn send(self: &Arc<Self>, transport: &Arc<Transport>, to: NodeId, at: LogId, epoch: Epoch) {
        let this = Arc::clone(self);
        let transport = Arc::clone(transport);
        tokio::spawn(async move {
            let whole = match this.stream_to(&transport, to, at, epoch).await {
                Ok(bytes) => {
                    tracing::info!(node = %this.shared.id, %to, %at, bytes, "snapshot sent");
                    this.shared.stats.snapshots_sent.add(1);
                    true
                }
                Err(e) => {
                    tracing::warn!(node = %this.shared.id, %to, %at, "snapshot not sent: {e}");
                    false
                }
            };
            this.tell(SnapshotEvent::Sent { to, at, whole });
        });
    }

    async fn stream_to(
        self: &Arc<Self>,
        transport: &Transport,
        to: NodeId,
        at: LogId,
        epoch: Epoch,
    ) -> io::Result<u64> {
        let peer = transport.peer(to).ok_or_else(|| io::Error::other("not a peer"))?;
        let (stream, _) = transport.connect(peer, Kind::Snapshot).await.map_err(io::Error::other)?;
        let stream = stream.into_std()?;
        let this = Arc::clone(self);
        let sent = tokio::task::spawn_blocking(move || {
            let mut complete = false;
            let sent = this.with(stream, |s| this.push(s, at, epoch, &mut complete));
            if sent.is_err() && complete {
                this.doubt(at);
            }
            sent
        });
        sent.await.map_err(io::Error::other)?
    }

    /// A peer got all of the snapshot at `at` and did not want it: is the own copy whole? If not, another takes its
    /// place, a fresh one if need be.
    fn doubt(&self, at: LogId) {
        let node = self.shared.id;
        let found = self.store.check(at).and_then(|whole| {
            // One that is gone was replaced meanwhile, and the core has heard of it or is about to.
            Ok(if whole { None } else { Some(self.store.newer(at)?) })
        });
        match found {
            Ok(None) => {}
            Ok(Some(Some(newer))) => self.tell(SnapshotEvent::Taken { at: newer }),
            Ok(Some(None)) => {
                tracing::warn!(%node, %at, "the snapshot has rotted; another is taken");
                self.state.lock().wanted = true;
                self.tell(SnapshotEvent::Wanted);
            }
            Err(e) => tracing::warn!(%node, %at, "the snapshot cannot be read back: {e}"),
        }
    }

    /// `complete`: whether all bytes have left.
    fn push(&self, stream: &mut TcpStream, at: LogId, epoch: Epoch, complete: &mut bool) -> io::Result<u64> {
        let (mut file, length) = self.store.raw(at).map_err(io::Error::other)?;
        stream.write_all(&Header { epoch, at, length }.encode())?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = file.read(&mut buffer)?;
            let Some(read) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
            stream.write_all(read)?;
            self.shared.stats.snapshot_bytes_sent.add(n as u64);
        }
        *complete = true;
        let mut verdict = [0];
        // It syncs and reads back before it answers.
        stream.set_read_timeout(Some(STALLED * 6))?;
        stream.read_exact(&mut verdict)?;
        if verdict == [WHOLE] { Ok(length) } else { Err(io::Error::other("the receiver refused it")) }
    }

    // ---- received ----

    /// Takes a snapshot off a connection; inside the runtime.
    pub(crate) fn receive(self: &Arc<Self>, from: NodeId, stream: tokio::net::TcpStream) {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let result = stream.into_std().and_then(|stream| this.with(stream, |s| this.pull(s, from)));
            if let Err(e) = result {
                tracing::warn!(node = %this.shared.id, %from, "snapshot not received: {e}");
            }
        });
    }

    fn pull(&self, stream: &mut TcpStream, from: NodeId) -> io::Result<()> {
        let mut bytes = [0; HEADER_BYTES];
        stream.read_exact(&mut bytes)?;
        let Header { epoch, at, length } = Header::decode(&bytes);
        let mut writer = self.store.stage().map_err(io::Error::other)?;
        let mut buffer = vec![0; 256 << 10];
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let n = stream.read(buffer.get_mut(..most).unwrap_or_default())?;
            let Some(read) = buffer.get(..n).filter(|b| !b.is_empty()) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            writer.write_all(read)?;
            left -= n as u64;
        }
        let info = writer.finish().map_err(|e| {
            self.end_if_unsynced(&e);
            io::Error::other(e)
        })?;
        if info.meta.at != at {
            self.discard(info.meta.at);
            return Err(io::Error::other(format!("it is the one at {}, not at {at}", info.meta.at)));
        }
        tracing::info!(node = %self.shared.id, %from, %at, bytes = length, "snapshot received");
        let configurations = info.meta.configurations;
        self.tell(SnapshotEvent::Received { from, epoch, at, configurations });
        stream.write_all(&[WHOLE])
    }

    /// Runs `work` on a blocking stream that [`Self::close`] can cut.
    fn with<T>(
        &self,
        stream: TcpStream,
        work: impl FnOnce(&mut TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut stream = stream;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(STALLED))?;
        stream.set_write_timeout(Some(STALLED))?;
        let number = {
            let mut state = self.state.lock();
            if state.closed || state.streams.len() >= STREAMS {
                return Err(io::Error::other("too many snapshots under way"));
            }
            state.next_stream += 1;
            let number = state.next_stream;
            state.streams.push((number, stream.try_clone()?));
            number
        };
        let result = work(&mut stream);
        self.state.lock().streams.retain(|(n, _)| *n != number);
        result
    }

    // ---- accepted or not ----

    /// The core accepted the received snapshot at `at`; [`Self::install`] follows.
    pub(crate) fn accepted(&self, at: LogId) {
        self.state.lock().accepted.push(at);
    }

    /// The core did not accept the received snapshot at `at`.
    pub(crate) fn discard(&self, at: LogId) {
        if self.state.lock().accepted.contains(&at) {
            return;
        }
        if let Err(e) = self.store.discard(at) {
            tracing::warn!(node = %self.shared.id, %at, "a received snapshot stays: {e}");
        }
    }

    /// Makes the accepted snapshot at `at` the newest and gives its state to `app`. Its `Purge` is durable.
    pub(crate) fn install(&self, at: LogId, app: &dyn Application) -> io::Result<()> {
        self.store.accept(at).map_err(io::Error::other)?;
        let mut reader = self.store.open_at(at).map_err(io::Error::other)?;
        let configurations = reader.meta().configurations.clone();
        app.install(at, &mut reader)?;
        // Its checksum comes last.
        io::copy(&mut reader, &mut io::sink())?;
        let mut state = self.state.lock();
        state.accepted.retain(|a| *a != at);
        let later = state.configurations.drain(..).filter(|c| c.from > at.index).collect::<Vec<_>>();
        state.configurations = configurations;
        let last = state.configurations.last().map_or(Index::ZERO, |c| c.from);
        state.configurations.extend(later.into_iter().filter(|c| c.from > last));
        Ok(())
    }
}

/// Head of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    epoch: Epoch,
    at: LogId,
    length: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let low = [self.epoch.round, self.epoch.proposer, self.at.epoch.round, self.at.epoch.proposer];
        let mut bytes = low
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .chain([self.at.index.0, self.length].into_iter().flat_map(u64::to_le_bytes));
        std::array::from_fn(|_| bytes.next().unwrap_or_default())
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        let mut words = bytes.chunks_exact(4).map(|c| c.try_into().map_or(0, u32::from_le_bytes));
        let mut word = || words.next().unwrap_or_default();
        let epoch = Epoch { round: word(), proposer: word() };
        let of = Epoch { round: word(), proposer: word() };
        let mut long = || u64::from(word()) | u64::from(word()) << 32;
        Self { epoch, at: LogId::new(of, Index(long())), length: long() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_header() {
        let header = Header {
            epoch: Epoch { round: 5, proposer: 2 },
            at: LogId::new(Epoch { round: 4, proposer: 1 }, Index(0x0102_0304_0506)),
            length: 0x0a0b_0c0d_0e0f,
        };
        let expected = [
            5, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 6, 5, 4, 3, 2, 1, 0, 0, 0xf, 0xe, 0xd, 0xc, 0xb,
            0xa, 0, 0,
        ];
        assert_eq!(header.encode(), expected);
        assert_eq!(Header::decode(&expected), header);
    }
}
