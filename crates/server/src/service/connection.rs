//! One client's connection: what waits for an answer, and what waits for the socket.
//!
//! ```text
//!   task:  read ─► reads, pings ──┐                      ┌─ flush by whoever appended last: task or apply thread
//!                  writes ─► queue│ ─► out (bytes) ─► buffer being written ─► socket
//!   apply: own write applied ─────┘                      └─ socket full: the task waits until it is writable
//! ```
//!
//! Invariants:
//! * `queue` holds, in arrival order, every request not answered yet. Its front is never a read that could run: a read
//!   runs as soon as nothing is before it, so it sees its own session's earlier writes and no later ones.
//! * Bytes are appended while the machine's lock is held, so an event for zxid z precedes every reply with zxid ≥ z, and
//!   reply zxids never decrease.
//! * At most one thread writes to the socket. It takes all that is there; what is appended meanwhile goes with its next
//!   round. No lock is held during the system call: the apply thread never waits for a socket.

use super::outlet::Outlet;
use crate::reports::Signs;
use bytes::Bytes;
use jute::{ErrorCode, EventType, Jute as _, KeeperState, OpCode, ReplyHeader, Request, RequestError};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed};
use std::time::{Instant, SystemTime};
use tokio::sync::Notify;
use znode::{ConnectionId, Identities};

/// Unsent bytes beyond which a client that does not read (its events, mostly) is cut off.
const MAX_UNSENT: usize = 16 << 20;
/// Unsent bytes beyond which no read is carried out for it: its requests wait, then its socket is not read.
const ENOUGH_UNSENT: usize = 1 << 20;
/// Reads before a write in the queue up to which the write goes on its way before they are answered.
const MAX_READS_AHEAD: usize = 8;
/// Capacity above which a spent buffer is given back.
const KEEP_CAPACITY: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) peer: SocketAddr,
    pub(super) outlet: Outlet,
    state: Mutex<State>,
    /// Wakes the connection's task: closed, established, socket full, room in the queue, a barrier passed.
    pub(crate) wake: Notify,
    /// Whether the client was heard since touches were last gathered.
    pub(crate) touched: AtomicBool,
    /// What was gathered of them.
    pub(crate) signs: Mutex<Signs>,
    /// 0 until the session is established.
    pub(crate) session: AtomicI64,
    /// The session that the client came back for, with its password; 0 if none.
    pub(crate) asked: AtomicI64,
    /// Negotiated (or, until then, wished) session timeout.
    pub(crate) timeout_ms: AtomicU32,
    closed: AtomicBool,
}

/// What the connection's mutex guards.
#[derive(Debug)]
pub(crate) struct State {
    /// Replies and events, framed, not yet taken by a writer.
    pub(crate) out: Vec<u8>,
    /// Requests without an answer.
    queue: VecDeque<Waiting>,
    /// How many of them are reads.
    reads: usize,
    /// How many of them hold back the writes behind them: syncs, and writes that are held back themselves.
    holds: usize,
    /// Number of the session's attachment to this connection.
    pub(crate) attachment: u64,
    /// Who the client is.
    pub(crate) identities: Identities,
    /// How the connect request ended, once it did.
    pub(crate) established: Option<bool>,
    /// Close as soon as everything appended so far has left.
    pub(crate) ending: bool,
    /// Whether the task has stopped reading because the queue is long.
    pub(crate) paused: bool,
    /// Whether reads wait for the client to take what is there.
    pub(crate) stalled: bool,
    /// Whether this connection is on the apply thread's list of those to flush.
    pub(crate) dirty: bool,
    /// A writer is in a system call with the bytes it took.
    writing: bool,
    /// The socket was full; these bytes (from the offset on) go first once it is not.
    blocked: Option<(Vec<u8>, usize)>,
    spare: Vec<u8>,
    /// For `cons` and `stat`.
    pub(crate) figures: Figures,
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) xid: i32,
    pub(crate) kind: WaitingKind,
    pub(crate) arrived: Instant,
}

/// What it waits for.
#[derive(Debug)]
pub(crate) enum WaitingKind {
    /// Its entry to be applied.
    Write(OpCode),
    /// Its turn to be sent on its way: a sync is before it.
    Held(Write),
    /// Its turn.
    Read(Box<Request>),
    /// Its turn, to be told that it cannot be carried out.
    Refused(RequestError),
    /// Its turn, and a barrier.
    Sync {
        /// Name of the barrier.
        token: u64,
        /// The index that must be applied, once the barrier is passed.
        at: Option<u64>,
        /// Whether that index is looked after: the apply thread goes on here when it is applied.
        watched: bool,
        /// Echoed.
        path: jute::JStr,
    },
}

/// A write on its way to the forwarder.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) opcode: OpCode,
    pub(crate) body: Bytes,
    pub(crate) identities: Identities,
    pub(crate) attachment: u64,
}

/// What `cons` and `stat` show of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) established: SystemTime,
    pub(crate) last_op: Option<OpCode>,
    pub(crate) last_xid: i32,
    pub(crate) last_zxid: i64,
    pub(crate) last_response: Option<Instant>,
    pub(crate) latency_ms: Latency,
    pub(crate) last_latency_ms: u64,
}

/// Least, mean and most of a duration in ms.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Latency {
    pub(crate) fn add(&mut self, ms: u64) {
        self.min = if self.count == 0 { ms } else { self.min.min(ms) };
        self.max = self.max.max(ms);
        self.count += 1;
        self.sum += ms;
    }

    pub(crate) fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }
}

impl Connection {
    pub(crate) fn new(
        id: ConnectionId,
        peer: SocketAddr,
        outlet: Outlet,
        identities: Identities,
        established: SystemTime,
    ) -> Self {
        let figures = Figures {
            received: 0,
            sent: 0,
            established,
            last_op: None,
            last_xid: 0,
            last_zxid: 0,
            last_response: None,
            latency_ms: Latency::default(),
            last_latency_ms: 0,
        };
        let state = State {
            out: Vec::new(),
            queue: VecDeque::new(),
            reads: 0,
            holds: 0,
            attachment: 0,
            identities,
            established: None,
            ending: false,
            paused: false,
            stalled: false,
            dirty: false,
            writing: false,
            blocked: None,
            spare: Vec::new(),
            figures,
        };
        Self {
            id,
            peer,
            outlet,
            state: Mutex::new(state),
            wake: Notify::new(),
            touched: AtomicBool::new(true),
            signs: Mutex::default(),
            session: AtomicI64::new(0),
            asked: AtomicI64::new(0),
            timeout_ms: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The session, once there is one.
    pub(crate) fn session(&self) -> Option<i64> {
        Some(self.session.load(Relaxed)).filter(|&s| s != 0)
    }

    /// The session whose client is heard here, established or asked for.
    pub(crate) fn heard_of(&self) -> Option<i64> {
        self.session().or_else(|| Some(self.asked.load(Relaxed)).filter(|&s| s != 0))
    }

    pub(crate) fn touch(&self) {
        if !self.touched.load(Relaxed) {
            self.touched.store(true, Relaxed);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Closes without sending what is left.
    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.wake.notify_one();
    }

    /// Closes once everything appended so far has left.
    pub(crate) fn close_after_flush(&self) {
        self.lock().ending = true;
        self.wake.notify_one();
    }

    /// Whether everything has left.
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.lock();
        state.out.is_empty() && !state.writing && state.blocked.is_none()
    }

    /// Whether the task should wait for the socket to take more.
    pub(crate) fn is_blocked(&self) -> bool {
        self.lock().blocked.is_some()
    }

    /// Waits until the socket may take more.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.outlet.writable().await
    }

    /// Goes on writing after the socket was full.
    pub(crate) fn unblock(&self) {
        let mut state = self.lock();
        let Some((buffer, at)) = state.blocked.take() else { return };
        state.writing = true;
        drop(state);
        self.write_from(buffer, at);
    }

    /// Writes what was appended, unless somebody else is writing (who then takes it along).
    pub(crate) fn flush(&self) {
        let mut state = self.lock();
        state.dirty = false;
        if state.blocked.is_some() {
            return self.cut_off(&state);
        }
        if state.writing || state.out.is_empty() {
            return;
        }
        let buffer = take_output(&mut state);
        drop(state);
        self.write_from(buffer, 0);
    }

    /// Writes `buffer` from `at` on, then whatever was appended meanwhile. `writing` is set.
    fn write_from(&self, mut buffer: Vec<u8>, mut at: usize) {
        loop {
            let outcome = self.write_once(&buffer, &mut at);
            let mut state = self.lock();
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.writing = false;
                    state.blocked = Some((buffer, at));
                    self.cut_off(&state);
                    drop(state);
                    self.wake.notify_one();
                    return;
                }
                Err(_) => {
                    state.writing = false;
                    drop(state);
                    self.close();
                    return;
                }
            }
            buffer.clear();
            if buffer.capacity() <= KEEP_CAPACITY {
                state.spare = buffer;
            }
            if state.out.is_empty() {
                state.writing = false;
                let waited_for = state.ending || state.stalled;
                drop(state);
                if waited_for {
                    self.wake.notify_one();
                }
                return;
            }
            buffer = take_output(&mut state);
            at = 0;
        }
    }

    /// Gives up a client that lets too much pile up.
    fn cut_off(&self, state: &State) {
        if state.unsent() > MAX_UNSENT {
            tracing::warn!(peer = %self.peer, "client does not read what it is sent: closing");
            self.close();
        }
    }

    fn write_once(&self, buffer: &[u8], at: &mut usize) -> io::Result<()> {
        while let Some(rest) = buffer.get(*at..).filter(|rest| !rest.is_empty()) {
            match self.outlet.try_write(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => *at += n,
            }
        }
        Ok(())
    }
}

/// Takes the appended bytes and marks the taker as the writer.
fn take_output(state: &mut State) -> Vec<u8> {
    state.writing = true;
    let spare = std::mem::take(&mut state.spare);
    std::mem::replace(&mut state.out, spare)
}

impl State {
    /// What waits, oldest first.
    pub(crate) fn queue(&self) -> &VecDeque<Waiting> {
        &self.queue
    }

    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.count(&waiting.kind, 1);
        self.queue.push_back(waiting);
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.queue.pop_front()?;
        self.count(&waiting.kind, -1);
        Some(waiting)
    }

    /// The connection is closed: nobody waits any more.
    pub(crate) fn abandon(&mut self) {
        self.queue.clear();
        (self.reads, self.holds) = (0, 0);
    }

    fn count(&mut self, kind: &WaitingKind, change: isize) {
        match kind {
            WaitingKind::Read(_) => self.reads = self.reads.saturating_add_signed(change),
            WaitingKind::Sync { .. } | WaitingKind::Held(_) => {
                self.holds = self.holds.saturating_add_signed(change)
            }
            WaitingKind::Write(_) | WaitingKind::Refused(_) => {}
        }
    }

    /// Whether a write that comes now must be held back; see `pipeline.rs`.
    pub(crate) fn holds_writes(&self) -> bool {
        self.holds > 0 || self.stalled || self.reads > MAX_READS_AHEAD
    }

    /// Takes out, as writes that are on their way now, those held back at the front of the queue, up to what holds back
    /// the next.
    pub(crate) fn release_held(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut reads = 0;
        for waiting in &mut self.queue {
            match &waiting.kind {
                WaitingKind::Sync { .. } => break,
                WaitingKind::Read(_) => reads += 1,
                WaitingKind::Held(write) if reads <= MAX_READS_AHEAD => {
                    let on_its_way = WaitingKind::Write(write.opcode);
                    if let WaitingKind::Held(write) = std::mem::replace(&mut waiting.kind, on_its_way) {
                        writes.push(write);
                    }
                }
                WaitingKind::Held(_) => break,
                WaitingKind::Write(_) | WaitingKind::Refused(_) => {}
            }
        }
        self.holds -= writes.len();
        writes
    }

    /// A barrier passed: its sync may be answered once `index` is applied.
    pub(crate) fn barrier_passed(&mut self, of: u64, index: u64) {
        for waiting in &mut self.queue {
            if let WaitingKind::Sync { token, at, .. } = &mut waiting.kind
                && *token == of
            {
                *at = Some(index);
            }
        }
    }

    /// Whether the read at the front has to wait until the client takes what is there. Not if a write behind it is on its
    /// way: it would see that.
    pub(crate) fn must_stall(&self) -> bool {
        !self.has_room() && !self.queue.iter().any(|w| matches!(w.kind, WaitingKind::Write(_)))
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    fn unsent(&self) -> usize {
        self.out.len() + self.blocked.as_ref().map_or(0, |(unsent, at)| unsent.len() - at)
    }

    /// Whether a barrier has passed that nobody looks after yet.
    pub(crate) fn has_passed(&self) -> bool {
        let passed =
            |kind: &WaitingKind| matches!(kind, WaitingKind::Sync { at: Some(_), watched: false, .. });
        self.queue.iter().any(|waiting| passed(&waiting.kind))
    }

    /// The indexes beyond `applied` that syncs wait for; each is given once.
    // All of them: 1. a write, and two syncs behind it; 2. the first barrier passed at what is applied, and waits for the
    // write's answer; 3. the second passed beyond. Nobody but the apply thread will look at it when its index is there.
    pub(crate) fn take_passed(&mut self, applied: u64) -> Vec<u64> {
        let mut taken = Vec::new();
        for waiting in &mut self.queue {
            if let WaitingKind::Sync { at: Some(at), watched, .. } = &mut waiting.kind
                && !std::mem::replace(watched, true)
                && *at > applied
            {
                taken.push(*at);
            }
        }
        taken
    }

    /// Whether a read may be carried out: the client takes its replies.
    pub(crate) fn has_room(&self) -> bool {
        self.unsent() < ENOUGH_UNSENT
    }

    /// Appends a reply; `body` appends what follows the header.
    #[inline]
    pub(crate) fn reply(&mut self, xid: i32, zxid: i64, err: ErrorCode, body: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.out, &ReplyHeader { xid, zxid, err: err.code() }, body);
        self.figures.sent += 1;
        self.figures.last_zxid = zxid;
    }

    /// Appends an event.
    pub(crate) fn event(&mut self, zxid: i64, kind: EventType, path: &str) {
        let header = ReplyHeader { xid: jute::xid::NOTIFICATION, zxid, err: 0 };
        append(&mut self.out, &header, |out| {
            kind.code().encode(out);
            KeeperState::SyncConnected.code().encode(out);
            jute::put_string(out, path);
        });
        self.figures.sent += 1;
    }

    /// Notes how long a request took.
    pub(crate) fn answered(&mut self, arrived: Instant, now: Instant) -> u64 {
        let ms = u64::try_from(now.saturating_duration_since(arrived).as_millis()).unwrap_or(u64::MAX);
        self.figures.latency_ms.add(ms);
        self.figures.last_latency_ms = ms;
        self.figures.last_response = Some(now);
        ms
    }
}

/// Appends one frame.
#[inline]
fn append(out: &mut Vec<u8>, header: &ReplyHeader, body: impl FnOnce(&mut Vec<u8>)) {
    let mark = jute::begin_frame(out);
    header.encode(out);
    body(out);
    jute::end_frame(out, mark);
}
