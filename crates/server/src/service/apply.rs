//! Committed entries: into the state, then to whom they concern. Apply thread, or the core thread for a few.
//!
//! For each entry, in this order and under the machine's lock:
//! 1. `Machine::apply`;
//! 2. events of its changes into the buffers of watching connections;
//! 3. sessions that it opened, moved or ended;
//! 4. if it is a request of this server's stream: its reply, then whatever had waited behind it on that connection.
//!
//! So on one connection the event for zxid z stands before every reply with zxid ≥ z, also before the reply to the
//! client's own write; and a read that waited behind a write sees that write and no later one of its session.

use super::connection::{Connection, State, Waiting, WaitingKind};
use super::{Service, Taker};
use jute::ErrorCode;
use parking_lot::RwLockWriteGuard;
use replog::{Body, Entry, mutant};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use znode::{Applied, At, Change, Machine, Outcome, Void, WatchTables};

/// Entries applied per lock: readers get in between.
const CHUNK: usize = 128;

/// Connections that got something during a batch. They are flushed at its end: one system call each.
#[derive(Debug, Default)]
pub(super) struct Dirty(Vec<Arc<Connection>>);

impl Dirty {
    pub(super) fn note(&mut self, connection: &Arc<Connection>, state: &mut State) {
        if !state.dirty {
            state.dirty = true;
            self.0.push(connection.clone());
        }
    }

    fn flush(self) {
        for connection in self.0 {
            connection.flush();
        }
    }
}

impl Service {
    pub(super) fn apply_entries(&self, entries: &[Entry]) {
        let mut dirty = Dirty::default();
        for chunk in entries.chunks(CHUNK) {
            self.apply_chunk(&mut self.state.write(), chunk, &mut dirty);
        }
        dirty.flush();
    }

    /// The same for one chunk, by who has the machine's lock already.
    pub(super) fn apply_entries_in(&self, mut machine: RwLockWriteGuard<'_, Machine>, chunk: &[Entry]) {
        let mut dirty = Dirty::default();
        self.apply_chunk(&mut machine, chunk, &mut dirty);
        drop(machine);
        dirty.flush();
    }

    fn apply_chunk(&self, machine: &mut Machine, chunk: &[Entry], dirty: &mut Dirty) {
        let now = self.environment.now();
        let mut watches = self.watches.lock();
        for entry in chunk {
            let at = At {
                epoch: znode::Epoch::new(entry.id.epoch.round, entry.id.epoch.proposer),
                index: entry.id.index.0,
                time_ms: i64::try_from(entry.stamp.0).unwrap_or(i64::MAX),
            };
            match &entry.body {
                Body::Noop => machine.pass(at),
                Body::Command(command) | Body::Config(_, command) => {
                    let applied = machine.apply(at, command);
                    self.settle(machine, &mut watches, applied, dirty, now);
                }
            }
        }
        self.release_barriers(machine, &mut watches, dirty, now);
    }

    fn settle(
        &self,
        machine: &Machine,
        watches: &mut WatchTables,
        applied: Applied,
        dirty: &mut Dirty,
        now: Instant,
    ) {
        if !mutant!(EventAfterReply) {
            self.fire_all(machine, watches, &applied, dirty);
        }
        match applied.outcome {
            Outcome::SessionOpened { session, timeout_ms, .. } => {
                self.expiry.lock().opened(self.now(), session, u32::try_from(timeout_ms).unwrap_or(0));
            }
            // Where it was attached before, its writes are fenced now. As in ZooKeeper that connection is only closed when
            // it tries one (or falls silent): two handles that share a session would chase each other away for ever.
            Outcome::Attached { session, .. } => self.expiry.lock().touch(self.now(), session),
            Outcome::SessionClosed { session, .. } => self.expiry.lock().closed(session),
            Outcome::StreamOpened { server, nonce } if server == self.me.0 => {
                let mut forwarder = self.forwarder.lock();
                forwarder.on_opened(self.now(), nonce, applied.index);
                self.forward(&mut forwarder);
            }
            _ => {}
        }
        if let Some(origin) = applied.origin.filter(|origin| origin.server == self.me.0) {
            if let Outcome::Voided(void) = applied.outcome {
                if void == Void::Repeated || matches!(void, Void::Gap { .. }) {
                    self.forwarder.lock().on_voided(origin.stream, origin.number);
                }
            } else {
                let taker = self.forwarder.lock().on_applied(self.now(), origin.stream, origin.number);
                match taker {
                    Some(Taker::Write(connection)) => {
                        self.answer(machine, watches, &connection, &applied, dirty, now);
                    }
                    Some(Taker::Connect(connecting)) => {
                        self.connected(*connecting, &applied.outcome, machine, dirty)
                    }
                    None => {}
                }
            }
        }
        if mutant!(EventAfterReply) {
            self.fire_all(machine, watches, &applied, dirty);
        }
        if let Outcome::SessionClosed { session, .. } = applied.outcome {
            self.close_session_connection(session);
        }
    }

    fn fire_all(&self, machine: &Machine, watches: &mut WatchTables, applied: &Applied, dirty: &mut Dirty) {
        if !applied.changes.is_empty() && !watches.is_empty() {
            for change in &applied.changes {
                self.fire(machine, watches, change, applied.zxid, dirty);
            }
        }
    }

    // requirement: S12
    fn fire(
        &self,
        machine: &Machine,
        watches: &mut WatchTables,
        change: &Change,
        zxid: i64,
        dirty: &mut Dirty,
    ) {
        let registry = self.registry.read();
        let may_read = |id, acl: &znode::AclRef| {
            registry.get(id).is_some_and(|connection| machine.may_read(acl, &connection.lock().identities))
        };
        watches.fire(change, may_read, |kind, path, told| {
            for connection in told.iter().filter_map(|id| registry.get(*id)) {
                let mut state = connection.lock();
                state.event(zxid, kind, path);
                self.stats.sent.fetch_add(1, Relaxed);
                dirty.note(connection, &mut state);
            }
        });
    }

    /// Answers the write at the front of a connection's queue.
    fn answer(
        &self,
        machine: &Machine,
        watches: &mut WatchTables,
        connection: &Arc<Connection>,
        applied: &Applied,
        dirty: &mut Dirty,
        now: Instant,
    ) {
        let mut state = connection.lock();
        // Under its lock: the task of a closed connection empties the queue.
        if connection.is_closed() {
            return;
        }
        let Some(Waiting { xid, kind: WaitingKind::Write(opcode), arrived }) = state.pop() else {
            panic!("{}: the request applied at {} is not its connection's first", self.me, applied.index);
        };
        match &applied.outcome {
            Outcome::Done(reply) => state.reply(xid, applied.zxid, ErrorCode::Ok, |out| reply.encode(out)),
            Outcome::SessionClosed { .. } => {
                state.reply(xid, applied.zxid, ErrorCode::Ok, |_| ());
                state.ending = true;
            }
            // A reply would be ambiguous: the client is attached elsewhere.
            Outcome::Failed(ErrorCode::SessionMoved) => {
                drop(state);
                return connection.close();
            }
            Outcome::Failed(code) => state.reply(xid, applied.zxid, *code, |_| ()),
            other => panic!("{}: {opcode:?} at {} came out as {other:?}", self.me, applied.index),
        }
        let ms = state.answered(arrived, now);
        self.stats.answered(1, ms);
        self.advance(machine, watches, connection, &mut state, now);
        dirty.note(connection, &mut state);
    }

    /// Answers syncs whose barrier is covered now.
    fn release_barriers(
        &self,
        machine: &Machine,
        watches: &mut WatchTables,
        dirty: &mut Dirty,
        now: Instant,
    ) {
        let applied = machine.last_index();
        if self.awaited.load(Relaxed) > applied {
            return;
        }
        let due: Vec<Arc<Connection>> = {
            let mut barriers = self.barriers.lock();
            let (due, later) =
                std::mem::take(&mut barriers.passed).into_iter().partition(|(at, _)| *at <= applied);
            barriers.passed = later;
            let next = barriers.passed.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX);
            self.awaited.store(next, Relaxed);
            let due: Vec<(u64, Arc<Connection>)> = due;
            due.into_iter().map(|(_, connection)| connection).collect()
        };
        for connection in due {
            let mut state = connection.lock();
            self.advance(machine, watches, &connection, &mut state, now);
            dirty.note(&connection, &mut state);
        }
    }

    /// Ends the connection, if there is one here, of a session that is gone.
    fn close_session_connection(&self, session: i64) {
        if let Some(connection) = self.registry.read().of_session(session) {
            connection.close_after_flush();
        }
    }
}
