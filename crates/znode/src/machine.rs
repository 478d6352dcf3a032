//! The state machine: one committed command in, one outcome and some changes out.
//!
//! ```text
//!  apply(at, bytes) ─► zxid ─► decode ─► OpenStream ──────────────► streams
//!                                     ├► Request ─► next of stream? ─► sessions, ops (tree)
//!                                     └► Decision ─► reign not over? ─► sessions, ops, settings
//! ```
//!
//! `apply` reads the state and the entry, nothing else: no clock, no configuration, no randomness, no hash order.
//! Invariants:
//! * every command takes one zxid, whatever becomes of it; a failed one changes nothing else but its stream;
//! * indices rise; replicas that applied the same commands have equal digests and equal snapshots;
//! * `passed` ≥ the epoch of every entry so far, no-ops included.
//!
//! Source: contract points 9 to 12, zookeeper-reference 2 and 4.

use crate::acl::{AclRef, Identities};
use crate::command::{Command, Decision, PASSWORD_BYTES, Request, Settings};
use crate::digest::mix;
use crate::mutant::mutant;
use crate::ops::{self, Caller};
use crate::outcome::{Applied, Outcome, Reply, Void};
use crate::session::{Session, Sessions, Stream, Streams};
use crate::tree::{Moment, Tree};
use crate::zxid::{Epoch, ZxidFold};
use bytes::Bytes;
use jute::{ErrorCode, Perms};

/// Where and when an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Epoch of its first proposal.
    pub epoch: Epoch,
    /// Its position in the log.
    pub index: u64,
    /// The leader's wall clock when it proposed it, ms since the Unix epoch.
    pub time_ms: i64,
}

/// The replicated state. A clone is a consistent cut and costs some reference counts, not a copy.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) tree: Tree,
    pub(crate) sessions: Sessions,
    pub(crate) streams: Streams,
    pub(crate) fold: ZxidFold,
    pub(crate) passed: Epoch,
    pub(crate) applied: u64,
    pub(crate) settings: Settings,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A fresh database.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tree: Tree::fresh(),
            sessions: Sessions::new(),
            streams: Streams::default(),
            fold: ZxidFold::default(),
            passed: Epoch::ZERO,
            applied: 0,
            settings: Settings::default(),
        }
    }

    /// Applies a command.
    ///
    /// # Panics
    /// If `at.index` is not beyond every index so far: the log was replayed twice.
    pub fn apply(&mut self, at: At, command: &Bytes) -> Applied {
        self.pass(at);
        let moment = Moment { zxid: self.fold.next(at.epoch), time_ms: at.time_ms };
        let mut applied = Applied {
            zxid: moment.zxid,
            index: at.index,
            origin: None,
            outcome: Outcome::Voided(Void::Malformed),
            changes: Vec::new(),
        };
        match Command::decode(command) {
            Err(_) => {}
            Ok(Command::OpenStream { server, nonce }) => {
                self.streams.open(server, at.index);
                applied.outcome = Outcome::StreamOpened { server, nonce };
            }
            Ok(Command::Request { origin, request }) => {
                applied.origin = Some(origin);
                match self.streams.take(origin) {
                    Ok(()) => self.request(request, moment, &mut applied),
                    Err(void) => applied.outcome = Outcome::Voided(void),
                }
            }
            // Schedule 7 (d):
            // 1. L1 (ballot 1, cut off) accepts slot 20 = expire X alone; L2 commits up to 19 with X alive.
            // 2. L1 is back, L2 dies; L3 prepares from 20, hears of L1's value and must choose it.
            // 3. X would expire by a clock that stopped two reigns ago. Hence: void once a later epoch was passed.
            Ok(Command::Decision { epoch, decision }) => {
                if self.passed > epoch && !mutant!(EndedReignDecides) {
                    applied.outcome = Outcome::Voided(Void::EndedReign);
                } else {
                    self.decision(decision, moment, &mut applied);
                }
            }
        }
        applied
    }

    /// Passes an entry that is no command (a no-op, a configuration): its epoch is remembered, it takes no zxid.
    ///
    /// # Panics
    /// As [`Self::apply`].
    pub fn pass(&mut self, at: At) {
        assert!(at.index > self.applied, "entry {} applied after {}", at.index, self.applied);
        self.applied = at.index;
        self.passed = self.passed.max(at.epoch);
    }

    fn request(&mut self, request: Request, at: Moment, applied: &mut Applied) {
        applied.outcome = match request {
            Request::OpenSession { session, timeout_ms, password } => {
                self.open_session(session, timeout_ms, password, applied.index)
            }
            Request::Attach { session, password } => self.attach(session, password, applied.index),
            Request::CloseSession { session, attachment } => match self.holder(session, attachment) {
                Ok(()) => self.close(session, false, at, applied),
                Err(code) => Outcome::Failed(code),
            },
            Request::Op { session, attachment, opcode, identities, body } => {
                let holder = self.holder(session, attachment);
                if holder == Err(ErrorCode::SessionMoved) {
                    // Schedule 6: w1 of the old connection arrives again after the client, re-attached elsewhere, has
                    // read and written. It must not run, and keeps its number so that its stream goes on.
                    Outcome::Failed(ErrorCode::SessionMoved)
                } else {
                    let caller = Caller { session, holder, identities: &identities, settings: self.settings };
                    match ops::run(&mut self.tree, &caller, opcode, &body, at, &mut applied.changes) {
                        Ok(reply) => Outcome::Done(reply),
                        Err(code) => Outcome::Failed(code),
                    }
                }
            }
        };
    }

    fn decision(&mut self, decision: Decision, at: Moment, applied: &mut Applied) {
        applied.outcome = match decision {
            Decision::Expire { session } if self.sessions.get(session).is_some() => {
                self.close(session, true, at, applied)
            }
            Decision::Expire { .. } => Outcome::Failed(ErrorCode::SessionExpired),
            Decision::Reap { path } => match ops::reap(&mut self.tree, &path, at, &mut applied.changes) {
                Ok(()) => Outcome::Done(Reply::Empty),
                Err(code) => Outcome::Failed(code),
            },
            Decision::Settings(settings) => {
                self.settings = settings;
                Outcome::Configured(settings)
            }
            Decision::Members { text } => {
                ops::set_members(&mut self.tree, &text, at, &mut applied.changes);
                Outcome::Done(Reply::Empty)
            }
        };
    }

    fn open_session(
        &mut self,
        session: i64,
        timeout_ms: i32,
        password: [u8; PASSWORD_BYTES],
        attachment: u64,
    ) -> Outcome {
        // Top byte 0xff marks the stored owner of TTL nodes, 0x80…0 that of containers, 0 that of persistent nodes.
        if session == 0 || session == i64::MIN || (session as u64) >> 56 == 0xff {
            return Outcome::Failed(ErrorCode::BadArguments);
        }
        if self.sessions.get(session).is_some() {
            return Outcome::Failed(ErrorCode::NodeExists);
        }
        self.sessions.put(session, Session { timeout_ms, password, attachment });
        Outcome::SessionOpened { session, timeout_ms, attachment }
    }

    fn attach(&mut self, session: i64, password: [u8; PASSWORD_BYTES], attachment: u64) -> Outcome {
        match self.sessions.get(session) {
            Some(known) if known.password == password => {
                let known = Session { attachment, ..*known };
                self.sessions.put(session, known);
                Outcome::Attached { session, timeout_ms: known.timeout_ms, attachment }
            }
            None if mutant!(SessionRevived) => self.open_session(session, 10_000, password, attachment),
            // A wrong password is answered exactly like an expired session.
            _ => Outcome::Failed(ErrorCode::SessionExpired),
        }
    }

    /// Ends a session: its ephemerals go at this entry's zxid, from the tree as it is now.
    fn close(&mut self, session: i64, expired: bool, at: Moment, applied: &mut Applied) -> Outcome {
        self.sessions.remove(session);
        if !mutant!(EphemeralsKept) {
            ops::delete_ephemerals(&mut self.tree, session, at, &mut applied.changes);
        }
        Outcome::SessionClosed { session, expired }
    }

    /// Whether the session exists and this attachment holds it.
    fn holder(&self, session: i64, attachment: u64) -> Result<(), ErrorCode> {
        match self.sessions.get(session) {
            None => Err(ErrorCode::SessionExpired),
            Some(known) if known.attachment == attachment || mutant!(MovedNotFenced) => Ok(()),
            Some(_) => Err(ErrorCode::SessionMoved),
        }
    }

    /// zxid of the last command, 0 before the first: what replies to reads carry.
    #[must_use]
    pub const fn last_zxid(&self) -> i64 {
        self.fold.last()
    }

    /// Index of the last entry, commands and others.
    #[must_use]
    pub const fn last_index(&self) -> u64 {
        self.applied
    }

    /// The highest epoch of any entry so far.
    #[must_use]
    pub const fn passed(&self) -> Epoch {
        self.passed
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// A session, if it exists.
    #[must_use]
    pub fn session(&self, id: i64) -> Option<&Session> {
        self.sessions.get(id)
    }

    /// All sessions, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = (i64, &Session)> {
        self.sessions.iter()
    }

    /// Number of sessions.
    #[must_use]
    pub const fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// A server's latest stream.
    #[must_use]
    pub fn stream(&self, server: u32) -> Option<Stream> {
        self.streams.get(server)
    }

    /// Whether a connection may READ what this ACL guards: the filter of watch events.
    #[must_use]
    pub fn may_read(&self, acl: &AclRef, who: &Identities) -> bool {
        self.settings.skip_acl || acl.allows(Perms::READ, who)
    }

    /// Equal on all replicas that applied the same commands; differs, but for accidents, on others. Costs the number
    /// of servers, not of nodes.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = self.tree.digest().wrapping_add(self.sessions.digest());
        digest = digest.wrapping_add(mix(self.fold.last() as u64));
        digest =
            digest.wrapping_add(mix(u64::from(self.settings.level) << 8 | u64::from(self.settings.flags())));
        for (server, stream) in self.streams.iter() {
            digest = digest
                .wrapping_add(mix(mix(u64::from(server) ^ stream.number.rotate_left(32)) ^ stream.last));
        }
        digest
    }

    /// ZooKeeper's digest of the tree alone (digest version 2).
    #[must_use]
    pub const fn tree_digest(&self) -> u64 {
        self.tree.digest()
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
