//! What a client sends, several frames at a time: reads are answered at once unless an earlier request of the same
//! connection is not answered yet, writes go to the forwarder together.
//!
//! ```text
//!  frames ─decode─► [read read write read write]          one batch: one lock of the state, one of the forwarder,
//!                     │    │     │    │     │             one write to the socket
//!                   answered     ▼    ▼     ▼
//!                              queue: write read write    the read runs when the first write was applied
//! ```
//!
//! A read must not see a write that its client sent after it. So a write is held back
//! 1. behind a sync: of [sync, read, write], the write could be applied before the barrier comes back;
//! 2. behind reads that wait until the client takes its replies (at most 1 MiB of them pile up);
//! 3. behind many reads that wait for an earlier write: they may come to case 2.

use super::connection::{Connection, State, Waiting, WaitingKind, Write};
use super::{Service, Taker, reads};
use bytes::{Bytes, BytesMut};
use jute::{AuthPacket, ErrorCode, Frames, Jute as _, OpCode, Request, RequestError, RequestHeader};
use replog::mutant;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use znode::{Command, Machine, Origin, WatchTables};

/// Bytes of requests under way in the whole server beyond which connections that have some are not read.
const MAX_OUTSTANDING_BYTES: usize = 64 << 20;

/// A decoded frame.
#[derive(Debug)]
pub(super) struct Incoming {
    xid: i32,
    request: Result<Request, RequestError>,
    /// The record as it came, for the log.
    body: Bytes,
}

impl Service {
    /// Takes the frames that came with one read of the socket. `scratch` is empty before and after.
    pub(super) fn on_frames(
        &self,
        connection: &Arc<Connection>,
        frames: Frames,
        scratch: &mut Vec<Incoming>,
    ) {
        let mut local = false;
        let mut watching = false;
        for frame in frames {
            let Some(incoming) = decode(&frame) else {
                // Not even a header.
                connection.close();
                break;
            };
            if let Ok(request) = &incoming.request {
                local |= !request.opcode().is_write();
                watching |= reads::needs_watches(request);
            } else {
                local = true;
            }
            scratch.push(incoming);
        }
        connection.touch();
        self.stats.received.fetch_add(scratch.len() as u64, Relaxed);
        let mut writes = Vec::new();
        {
            let machine = local.then(|| self.state.read());
            let mut watches = watching.then(|| self.watches.lock());
            let mut batch = Batch {
                service: self,
                connection,
                arrived: self.environment.now(),
                writes: &mut writes,
                answered: 0,
            };
            let mut state = connection.lock();
            for incoming in scratch.drain(..) {
                if state.ending || connection.is_closed() {
                    break;
                }
                batch.take(&mut state, machine.as_deref(), watches.as_deref_mut(), incoming);
            }
            self.stats.answered(batch.answered, 0);
            self.limit(connection, &mut state);
        }
        scratch.clear();
        if !writes.is_empty() {
            self.submit(connection, writes);
        }
        connection.flush();
    }

    /// Stops reading from a connection that has much under way.
    fn limit(&self, connection: &Connection, state: &mut State) {
        if state.stalled {
            connection.wake.notify_one();
        }
        let many = state.queue().len() >= self.config.outstanding_limit as usize;
        if many
            || (!state.queue().is_empty()
                && self.forwarder.lock().outstanding_bytes() > MAX_OUTSTANDING_BYTES)
        {
            state.paused = true;
        }
    }

    /// Numbers a batch of writes of one connection and sends it on its way.
    fn submit(&self, connection: &Arc<Connection>, writes: Vec<Write>) {
        let Some(session) = connection.session() else { return };
        let size: usize = writes.iter().map(|w| w.body.len() + 64).sum();
        let mut buffer = BytesMut::with_capacity(size);
        let mut forwarder = self.forwarder.lock();
        for Write { opcode, body, identities, attachment } in writes {
            let (stream, number) = forwarder.next();
            let origin = Origin { server: self.me.0, stream, number };
            let request = if opcode == OpCode::CloseSession {
                znode::Request::CloseSession { session, attachment }
            } else {
                znode::Request::Op { session, attachment, opcode: opcode.code(), identities, body }
            };
            Command::Request { origin, request }.encode(&mut buffer);
            forwarder.take(Taker::Write(connection.clone()), buffer.split().freeze());
        }
        self.forward(&mut forwarder);
    }

    /// Answers what now stands at the front of a connection's queue and needs no log entry. Under the machine's lock.
    pub(super) fn advance(
        &self,
        machine: &Machine,
        watches: &mut WatchTables,
        connection: &Arc<Connection>,
        state: &mut State,
        now: Instant,
    ) {
        // 1. A sync waits for its barrier; 2. a snapshot is installed, which ends all connections, and entries behind it
        // are applied; 3. the barrier has passed, and the answer would show a state whose events were skipped.
        // spec: contract-schedules §7 (c)
        if connection.is_closed() {
            return;
        }
        loop {
            let ready = match state.queue().front().map(|w| &w.kind) {
                None | Some(WaitingKind::Write(_)) => false,
                Some(WaitingKind::Read(_)) if state.must_stall() => {
                    state.stalled = true;
                    connection.wake.notify_one();
                    false
                }
                Some(WaitingKind::Read(_) | WaitingKind::Refused(_)) => true,
                Some(WaitingKind::Sync { at, .. }) => at.is_some_and(|at| at <= machine.last_index()),
                Some(WaitingKind::Held(_)) => {
                    // The connection stays locked: its task can push no later write in between.
                    self.submit(connection, state.release_held());
                    false
                }
            };
            let Some(waiting) = (if ready { state.pop() } else { None }) else { break };
            let Waiting { xid, kind, arrived } = waiting;
            match kind {
                WaitingKind::Read(request) => {
                    reads::run(machine, Some(&mut *watches), connection, state, xid, &request);
                }
                WaitingKind::Sync { path, .. } => {
                    state.reply(xid, machine.last_zxid(), ErrorCode::Ok, |out| path.encode(out));
                }
                WaitingKind::Refused(error) => refuse(state, xid, machine.last_zxid(), error),
                WaitingKind::Write(_) | WaitingKind::Held(_) => {}
            }
            let ms = state.answered(arrived, now);
            self.stats.answered(1, ms);
        }
        if state.paused && !state.stalled && state.queue().len() <= self.config.outstanding_limit as usize / 2
        {
            state.paused = false;
            connection.wake.notify_one();
        }
        if state.ending {
            connection.wake.notify_one();
        }
    }
}

impl Service {
    /// Goes on with a connection's queue: after a barrier passed, or once the client has taken what was there.
    pub(super) fn resume(&self, connection: &Arc<Connection>) {
        let machine = self.state.read();
        let mut watches = self.watches.lock();
        let mut state = connection.lock();
        state.stalled = false;
        self.advance(&machine, &mut watches, connection, &mut state, self.environment.now());
        // Under the machine's lock: the apply thread will look after its next entry.
        for at in state.take_passed(machine.last_index()) {
            self.barriers.lock().passed.push((at, connection.clone()));
            self.awaited.fetch_min(at, Relaxed);
        }
        drop(state);
        drop(watches);
        drop(machine);
        connection.flush();
    }
}

fn decode(frame: &Bytes) -> Option<Incoming> {
    let mut reader = jute::Reader::new(frame);
    let RequestHeader { xid, opcode } = RequestHeader::decode(&mut reader).ok()?;
    let body = reader.rest();
    Some(Incoming { xid, request: Request::decode_from(opcode, &mut reader), body })
}

/// Answers what cannot be carried out; after an unknown opcode the connection ends.
fn refuse(state: &mut State, xid: i32, last_zxid: i64, error: RequestError) {
    match error {
        RequestError::Unimplemented(_) => {
            state.reply(xid, -1, ErrorCode::Unimplemented, |_| ());
            state.ending = true;
        }
        RequestError::Undecodable(_) => state.reply(xid, last_zxid, ErrorCode::MarshallingError, |_| ()),
    }
}

/// Whether nothing of this connection waits for an answer.
fn is_first(state: &State) -> bool {
    state.queue().is_empty() || mutant!(ReadOvertakesWrite)
}

/// What the requests of one batch share.
struct Batch<'a> {
    service: &'a Service,
    connection: &'a Arc<Connection>,
    arrived: Instant,
    writes: &'a mut Vec<Write>,
    /// Answered at once.
    answered: u64,
}

impl Batch<'_> {
    fn take(
        &mut self,
        state: &mut State,
        machine: Option<&Machine>,
        watches: Option<&mut WatchTables>,
        incoming: Incoming,
    ) {
        let Incoming { xid, request, body } = incoming;
        state.figures.received += 1;
        state.figures.last_xid = xid;
        state.figures.last_op = request.as_ref().ok().map(Request::opcode);
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.refuse(state, machine, xid, error),
        };
        match request {
            Request::Auth(packet) => self.authenticate(state, xid, &packet),
            // Without a login context there is nothing to negotiate.
            Request::Sasl(_) => self.auth_failed(state, xid),
            Request::Sync(r) => {
                let token = self.service.barrier(self.connection);
                self.wait(state, xid, WaitingKind::Sync { token, at: None, watched: false, path: r.path });
            }
            request if request.opcode().is_write() => {
                let opcode = request.opcode();
                let (identities, attachment) = (state.identities.clone(), state.attachment);
                let write = Write { opcode, body, identities, attachment };
                if state.holds_writes() && !mutant!(WriteOvertakesSync) {
                    self.wait(state, xid, WaitingKind::Held(write));
                } else {
                    self.wait(state, xid, WaitingKind::Write(opcode));
                    self.writes.push(write);
                }
            }
            request => match machine.filter(|_| is_first(state) && state.has_room()) {
                Some(machine) => {
                    reads::run(machine, watches, self.connection, state, xid, &request);
                    self.answered += 1;
                }
                None => {
                    // The first of a queue waits for nothing but room.
                    state.stalled |= state.queue().is_empty();
                    self.wait(state, xid, WaitingKind::Read(Box::new(request)));
                }
            },
        }
    }

    fn wait(&self, state: &mut State, xid: i32, kind: WaitingKind) {
        state.push(Waiting { xid, kind, arrived: self.arrived });
    }

    fn refuse(&mut self, state: &mut State, machine: Option<&Machine>, xid: i32, error: RequestError) {
        match machine.filter(|_| state.queue().is_empty()) {
            Some(machine) => {
                refuse(state, xid, machine.last_zxid(), error);
                self.answered += 1;
            }
            None => self.wait(state, xid, WaitingKind::Refused(error)),
        }
    }

    /// Auth packets are handled at once, outside of the order of requests, and answered with zxid 0.
    fn authenticate(&mut self, state: &mut State, xid: i32, packet: &AuthPacket) {
        let proof = packet.auth.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        match (packet.scheme.as_str(), proof) {
            ("digest", Some(proof)) => {
                state.identities = state.identities.with("digest", &znode::digest_id(proof));
                state.reply(xid, 0, ErrorCode::Ok, |_| ());
                self.answered += 1;
            }
            // Every connection has its address already.
            ("ip", _) => {
                state.reply(xid, 0, ErrorCode::Ok, |_| ());
                self.answered += 1;
            }
            _ => self.auth_failed(state, xid),
        }
    }

    fn auth_failed(&mut self, state: &mut State, xid: i32) {
        self.service.stats.auth_failed.fetch_add(1, Relaxed);
        state.reply(xid, 0, ErrorCode::AuthFailed, |_| ());
        state.ending = true;
        self.answered += 1;
    }
}
