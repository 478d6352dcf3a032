//! Sessions as a server sees them: opening, attaching, and the answer that a connect request gets.
//!
//! ```text
//!  ConnectRequest ─┬─ has seen a later zxid than we ────► closed without an answer            (S4)
//!                  ├─ no contact to a leader ───────────► closed
//!                  ├─ session 0 ──► log: OpenSession ───► SessionOpened ─► ConnectResponse
//!                  └─ session s ──► log: Attach(password) ┬─ Attached ───► ConnectResponse      (S8)
//!                                                         └─ refused ────► timeOut 0, closed
//! ```
//!
//! Passwords are 16 bytes of the system's randomness, drawn when the session is opened and kept in the replicated state.
//! spec-deviates: ZooKeeper derives them from the id by a constant, so that who knows an id can take the session over.
//! Attaching is logged (ZooKeeper: not): its index fences requests still under way from an older connection. But the
//! client counts as heard from its request on (as in ZooKeeper, where the leader is asked at once):
//! 1. C comes back in time, its Attach waits for a slow disk. 2. C's clock runs out, the leader logs Expire behind the
//!    Attach. 3. C is attached, and loses its session a moment later.

use super::apply::Dirty;
use super::connection::Connection;
use super::{Service, Taker};
use jute::{ConnectRequest, ConnectResponse, Jute as _, PASSWORD_BYTES};
use node::View;
use replog::mutant;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use znode::{Machine, Outcome, Request};

/// A connection that waits for its session.
#[derive(Debug)]
pub(super) struct Connecting {
    pub(super) connection: Arc<Connection>,
    password: [u8; PASSWORD_BYTES],
    /// Whether the client sent the readOnly byte, and so expects one.
    read_only: Option<bool>,
    arrived: Instant,
}

/// Draws session ids: the server's id in the top byte, ms of its start in the next five, then a counter of two bytes that
/// carries over into them.
#[derive(Debug)]
pub(super) struct SessionIds(AtomicI64);

impl SessionIds {
    pub(super) fn new(server: u32, wall: SystemTime) -> Self {
        let ms = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(AtomicI64::new(first_id(server, ms)))
    }

    fn draw(&self) -> i64 {
        self.0.fetch_add(1, Relaxed)
    }
}

/// The first id of `server`, started at `ms`.
fn first_id(server: u32, ms: u128) -> i64 {
    let top = i64::from(server & 0xff) << 56;
    let clock = i64::try_from(ms & 0xff_ffff_ffff).unwrap_or_default() << 16;
    // Server 0 in the first ms of a 35-year period: an id of 0 would say "new session".
    (top | clock).max(if server & 0x80 == 0 { 1 } else { i64::MIN + 1 })
}

impl Service {
    /// Begins to answer a connect request. False: close without an answer.
    pub(super) fn connect(&self, connection: &Arc<Connection>, request: &ConnectRequest) -> bool {
        let timeout_ms = self.config.negotiate(request.timeout_ms);
        connection.timeout_ms.store(timeout_ms, Relaxed);
        if self.lost_contact(timeout_ms) {
            return false;
        }
        let asked: Option<[u8; PASSWORD_BYTES]> =
            request.password.as_deref().and_then(|bytes| bytes.try_into().ok());
        {
            // requirement: S4. A server that is behind what the client has seen would take it back in time.
            let machine = self.state.read();
            if request.last_zxid_seen > machine.last_zxid() && !mutant!(LaterZxidAccepted) {
                tracing::info!(
                    peer = %connection.peer,
                    seen = format_args!("{:#x}", request.last_zxid_seen),
                    ours = format_args!("{:#x}", machine.last_zxid()),
                    "refusing a client that has seen a later zxid"
                );
                return false;
            }
            // A wrong password is not worth a log entry. What we do not know yet, the log decides.
            let known = machine.session(request.session);
            if known.is_some_and(|known| Some(known.password) != asked) {
                refuse(connection, request.read_only, None);
                return true;
            }
            if known.is_some() {
                connection.asked.store(request.session, Relaxed);
            }
        }
        let mut connecting = Connecting {
            connection: connection.clone(),
            password: asked.unwrap_or_default(),
            read_only: request.read_only,
            arrived: self.environment.now(),
        };
        let logged = if request.session == 0 {
            if self.environment.fill(&mut connecting.password).is_err() {
                return false;
            }
            let timeout_ms = i32::try_from(timeout_ms).unwrap_or(i32::MAX);
            Request::OpenSession {
                session: self.session_ids.draw(),
                timeout_ms,
                password: connecting.password,
            }
        } else {
            Request::Attach { session: request.session, password: connecting.password }
        };
        self.take(Taker::Connect(Box::new(connecting)), logged);
        true
    }

    /// Answers a connect request after its entry was applied. Under the machine's lock.
    pub(super) fn connected(
        &self,
        connecting: Connecting,
        outcome: &Outcome,
        machine: &Machine,
        dirty: &mut Dirty,
    ) {
        let Connecting { connection, password, read_only, arrived } = connecting;
        let (session, timeout_ms, attachment) = match *outcome {
            Outcome::SessionOpened { session, timeout_ms, attachment }
            | Outcome::Attached { session, timeout_ms, attachment } => (session, timeout_ms, attachment),
            _ => return refuse(&connection, read_only, Some(dirty)),
        };
        if connection.is_closed() {
            // It went away while it waited. The session lives on until it expires: the client may come back with it.
            return;
        }
        connection.session.store(session, Relaxed);
        connection.timeout_ms.store(u32::try_from(timeout_ms).unwrap_or(0), Relaxed);
        connection.touch();
        let before = {
            let mut registry = self.registry.write();
            registry.attach(session, connection.id)
        };
        if let Some(before) = before {
            before.close();
        }
        let response = ConnectResponse {
            protocol_version: 0,
            timeout_ms,
            session,
            password,
            read_only: read_only.map(|_| false),
        };
        let mut state = connection.lock();
        state.attachment = attachment;
        state.established = Some(true);
        state.figures.last_zxid = machine.last_zxid();
        let now = self.environment.now();
        let ms = state.answered(arrived, now);
        self.stats.answered(1, ms);
        let mark = jute::begin_frame(&mut state.out);
        response.encode(&mut state.out);
        jute::end_frame(&mut state.out, mark);
        dirty.note(&connection, &mut state);
        drop(state);
        connection.wake.notify_one();
    }

    /// Whether a client with this timeout has to be sent elsewhere: for a third of it nothing was heard of a leader (or,
    /// as a leader, of a quorum).
    ///
    /// Contract-schedules §7: 1. S1 is cut off with client C, keeps C's connection and answers its pings. 2. The
    /// majority's leader expires C; D takes C's lock. 3. C never saw Disconnected and still works as its holder.
    /// A third: C's own limit is two thirds without a word, and it needs time to reach another server.
    pub(super) fn lost_contact(&self, timeout_ms: u32) -> bool {
        self.handle.get().is_none_or(|handle| self.is_lost(self.silence(&handle.view()), timeout_ms))
    }

    /// How long nothing was heard of a leader or, as leader, of a quorum.
    pub(super) fn silence(&self, view: &View) -> Duration {
        // Who is a quorum alone has nobody to hear, and wakes for nobody's heartbeats to say so.
        let alone = self.config.voters().nth(1).is_none();
        if alone && view.is_leading() { Duration::ZERO } else { self.environment.since(view.contact) }
    }

    /// Leader: whether a quorum was heard within a third of a tick, or three heartbeats. Without it nobody is expired.
    pub(super) fn is_in_contact(&self, view: &View) -> bool {
        !self.is_lost(self.silence(view), self.config.tick_ms)
    }

    /// Whether that is too long for a client with this timeout. What a node knows of it lags by a heartbeat, and a heartbeat may
    /// be late: three of them are no silence.
    pub(super) fn is_lost(&self, silence: Duration, timeout_ms: u32) -> bool {
        let third = Duration::from_millis(u64::from(timeout_ms / 3));
        silence > third.max(3 * self.config.timing().heartbeat)
    }
}

/// "Your session is invalid or expired", then the end.
fn refuse(connection: &Arc<Connection>, read_only: Option<bool>, dirty: Option<&mut Dirty>) {
    let mut state = connection.lock();
    let mark = jute::begin_frame(&mut state.out);
    ConnectResponse::refusal(read_only).encode(&mut state.out);
    jute::end_frame(&mut state.out, mark);
    state.established = Some(false);
    state.ending = true;
    if let Some(dirty) = dirty {
        dirty.note(connection, &mut state);
    }
    drop(state);
    connection.wake.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_server_and_clock_and_are_never_zero() {
        assert_eq!(first_id(1, 0x19_a1b2_c3d4_e5f6), 0x01b2_c3d4_e5f6_0000);
        assert_eq!(first_id(0, 0), 1);
        assert_ne!(first_id(128, 0), i64::MIN);
        let ids = SessionIds(AtomicI64::new(first_id(3, 5)));
        assert_eq!([ids.draw(), ids.draw()], [0x0300_0000_0005_0000, 0x0300_0000_0005_0001]);
    }
}
