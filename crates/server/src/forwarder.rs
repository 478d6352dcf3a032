//! The forwarder: this server's requests on their way into the log, each exactly once and in order.
//!
//! A server's requests form a *stream*: opened by a logged command (whose index is the stream's number), then numbered
//! 1, 2, 3…. `Machine::apply` executes number last + 1 of a server's latest stream and voids everything else. So sending
//! again is always safe, and sending everything again from the first unapplied request is always right:
//!
//! ```text
//!  closed ──route──► opening ──own OpenStream applied──► open: 1 2 3 4 5 6 7
//!    ▲                  ▲                                      │   │     └ taken, not sent (no route)
//!    │                  └── foreign OpenStream of our id ──────┤   └ sent
//!    └───────────────── install of a snapshot ─────────────────┘   └ front: first unapplied
//! ```
//!
//! Why not (session, xid) as a request's id (contract-schedules.md §6):
//! 1. (a) xids repeat: the second create with one xid would be swallowed with the first one's reply.
//! 2. (b) a, b in flight; b survives the failover, a does not; with "highest xid seen" a is taken for a duplicate.
//! 3. (c) a in slot 7, b in slot 8; the next leader fills 7 with a no-op and adopts 8; a is sent again: the log says
//!    b, a. Here b (number 2) is voided over the gap, and a, b are both sent again.
//!
//! Invariants: `pending` holds exactly the requests of `stream` that were taken and not applied, numbered `first`,
//! `first` + 1, …; the first `sent` of them went out on the present route. Sans-IO: time comes in, commands go out.

use bytes::Bytes;
use replog::{Epoch, NodeId, mutant};
use std::collections::VecDeque;
use std::time::Duration;

/// A moment in ms on this server's monotonic clock.
pub type Millis = u64;

/// How the forwarder's commands look in the log.
pub trait Codec {
    /// The command that opens a stream.
    fn open(&self, nonce: u64) -> Bytes;
    /// `command` with another stream and number.
    fn renumber(&self, command: &Bytes, stream: u64, number: u64) -> Bytes;
}

/// Commands to hand to the leader, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The leader, possibly this server.
    pub to: NodeId,
    /// The commands.
    pub commands: Vec<Bytes>,
}

/// A request that was taken.
#[derive(Debug)]
struct Taken<T> {
    token: T,
    command: Bytes,
}

/// See the module. `T` names the taker of a request.
#[derive(Debug)]
pub struct Forwarder<T, C> {
    codec: C,
    nonce: u64,
    /// Number of the open stream.
    stream: Option<u64>,
    /// Whether our `OpenStream` went out on this route.
    open_sent: bool,
    /// Number of `pending`'s front.
    first: u64,
    pending: VecDeque<Taken<T>>,
    pending_bytes: usize,
    /// How many of `pending` went out on this route.
    sent: usize,
    /// The reign and its leader, while there is one that takes proposals.
    route: Option<(Epoch, NodeId)>,
    /// A request of ours was voided over a gap at this time; cleared by sending again.
    gap: bool,
    /// When something was last sent again, or applied.
    progress: Millis,
    /// How long to wait for progress before sending again without a reason.
    patience: Duration,
}

/// Pause between two rounds of sending again because of gaps: the copies under way cause voids of their own.
const GAP_PAUSE: Duration = Duration::from_millis(50);
/// First and longest wait for progress. Nothing but liveness hangs on it: a reason is missed only if a message was
/// lost without a link or epoch change.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(2000), Duration::from_millis(16_000));

impl<T, C: Codec> Forwarder<T, C> {
    /// A forwarder without a stream. `nonce` tells its `OpenStream` from those of former lives of this server.
    pub fn new(codec: C, nonce: u64) -> Self {
        Self {
            codec,
            nonce,
            stream: None,
            open_sent: false,
            first: 1,
            pending: VecDeque::new(),
            pending_bytes: 0,
            sent: 0,
            route: None,
            gap: false,
            progress: 0,
            patience: PATIENCE.0,
        }
    }

    /// Stream and number that the next taken request must carry. While no stream is open they are placeholders.
    pub fn next(&self) -> (u64, u64) {
        (self.stream.unwrap_or(0), self.first + self.pending.len() as u64)
    }

    /// Takes a request, encoded with [`Self::next`].
    pub fn take(&mut self, token: T, command: Bytes) {
        self.pending_bytes += command.len();
        self.pending.push_back(Taken { token, command });
    }

    /// Requests taken and not applied.
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// Their bytes.
    pub fn outstanding_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether requests can get anywhere now.
    pub fn is_open(&self) -> bool {
        self.stream.is_some() && self.route.is_some()
    }

    /// A reign with a leader that takes proposals began (`Some`), or ended.
    pub fn on_route(&mut self, now: Millis, route: Option<(Epoch, NodeId)>) {
        if self.route != route {
            self.route = route;
            self.send_again(now);
        }
    }

    /// The link to `peer` came up: what was under way on the old one is lost.
    pub fn on_link_up(&mut self, now: Millis, peer: NodeId) {
        if self.route.is_some_and(|(_, leader)| leader == peer) {
            self.send_again(now);
        }
    }

    /// `number` of `stream`, both of this server, was executed: gives back its token if it was ours.
    pub fn on_applied(&mut self, now: Millis, stream: u64, number: u64) -> Option<T> {
        if self.stream != Some(stream) || number != self.first {
            // Of a former life, replayed from the log at start.
            return None;
        }
        let taken = self.pending.pop_front()?;
        self.pending_bytes -= taken.command.len();
        self.first += 1;
        self.sent = self.sent.saturating_sub(1);
        self.progress = now;
        self.patience = PATIENCE.0;
        Some(taken.token)
    }

    /// `number` of `stream`, both of this server, was voided.
    pub fn on_voided(&mut self, stream: u64, number: u64) {
        // A repeat (number < first) is a second copy of what was executed: nothing is missing.
        if self.stream == Some(stream) && number > self.first {
            self.gap = true;
        }
    }

    /// A stream of this server's id was opened.
    pub fn on_opened(&mut self, now: Millis, nonce: u64, stream: u64) {
        if nonce == self.nonce {
            // Also when it is open already: 1. OpenStream goes to L1 and L2 and both copies are committed; 2. requests
            // of the first stream behind the second copy are voided. What is pending at this point of the log was not
            // executed and never will be under its old name, so it moves over to the new stream.
            self.stream = Some(stream);
            self.first = 1;
            self.pending_bytes = 0;
            for (taken, number) in self.pending.iter_mut().zip(self.first..) {
                taken.command = self.codec.renumber(&taken.command, stream, number);
                self.pending_bytes += taken.command.len();
            }
            self.send_again(now);
        } else if self.stream.take().is_some() {
            // A late copy of a former life's OpenStream took our place: 1. S1 sends OpenStream(a), dies, restarts, opens
            // with b; 2. a later leader adopts a's slot behind b's. Everything of ours is void now. Open again.
            self.send_again(now);
        }
    }

    /// The state was replaced by a snapshot: what became of the pending requests is unknown. Gives back their tokens and
    /// starts over with a new stream, whose opening voids all copies still under way.
    pub fn on_install(&mut self, now: Millis) -> Vec<T> {
        self.stream = None;
        self.first = 1;
        self.pending_bytes = 0;
        let tokens = self.pending.drain(..).map(|t| t.token).collect();
        self.send_again(now);
        tokens
    }

    /// Time passes.
    pub fn on_tick(&mut self, now: Millis) {
        let waited = Duration::from_millis(now.saturating_sub(self.progress));
        let waiting = self.sent > 0 || self.open_sent;
        if self.gap && waited >= GAP_PAUSE {
            self.send_again(now);
        } else if waiting && self.route.is_some() && waited >= self.patience {
            self.patience = (self.patience * 2).min(PATIENCE.1);
            self.send_again(now);
        }
    }

    fn send_again(&mut self, now: Millis) {
        if mutant!(NothingSentAgain) && self.stream.is_some() {
            return;
        }
        self.sent = 0;
        self.open_sent = false;
        self.gap = false;
        self.progress = now;
    }

    /// What to hand to the leader now: one command at least, and as many as `max_bytes` holds. Call until it gives
    /// nothing.
    pub fn poll(&mut self, max_bytes: usize) -> Option<Outgoing> {
        let (_, to) = self.route?;
        if self.stream.is_none() {
            if self.open_sent {
                return None;
            }
            self.open_sent = true;
            return Some(Outgoing { to, commands: vec![self.codec.open(self.nonce)] });
        }
        self.open_sent = false;
        let mut bytes = 0;
        let mut commands = Vec::new();
        for taken in self.pending.range(self.sent..) {
            bytes += taken.command.len();
            if bytes > max_bytes && !commands.is_empty() {
                break;
            }
            commands.push(taken.command.clone());
        }
        if commands.is_empty() {
            return None;
        }
        self.sent += commands.len();
        Some(Outgoing { to, commands })
    }
}

#[cfg(test)]
#[path = "forwarder_tests.rs"]
mod tests;
