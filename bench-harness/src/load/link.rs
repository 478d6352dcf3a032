//! One session of the generator: a non-blocking socket, its buffers, and what is under way.
//!
//! ```text
//!           connect ok              hello answered
//!  Waiting ────────────► Opening ─────────────────► Ready
//!     ▲ retry_at            │ refused, closed, late     │ closed
//!     └─────────────────────┴───────────────────────────┘   next server of the list
//! ```
//!
//! Invariants: `flights` is in request order; a reply answers the front one and echoes its xid; after a loss
//! everything under way counts as *unknown*, nothing is sent twice.

use super::wire::{Op, Opening, Parsed, ReplyKind, Wire};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Pause before the next attempt to connect. Clients' libraries wait longer; the generator looks at the servers.
const RETRY_NS: u64 = 10_000_000;
/// A connection that is not answered for this long is given up.
const OPENING_NS: u64 = 3_000_000_000;
/// Silence after which a ping is sent.
const PING_NS: u64 = 5_000_000_000;

/// A request under way. Times are nanoseconds on the driver's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    /// When it should have left.
    pub(crate) planned_ns: u64,
    /// When it left.
    pub(crate) sent_ns: u64,
    xid: i32,
}

/// A finished request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// The request.
    pub(crate) flight: Flight,
    /// 0: success.
    pub(crate) code: i32,
}

#[derive(Debug)]
enum State {
    Waiting { retry_at: u64 },
    Opening { stream: TcpStream, since: u64 },
    Ready { stream: TcpStream },
}

/// One session.
#[derive(Debug)]
pub(crate) struct Link<W> {
    wire: W,
    servers: Vec<SocketAddr>,
    next_server: usize,
    state: State,
    input: Vec<u8>,
    output: Vec<u8>,
    flights: VecDeque<Flight>,
    next_xid: i32,
    last_sent_ns: u64,
    leaving: bool,
    /// Number of the connection: changes with every new socket.
    pub(crate) generation: u64,
    /// Connections lost after they had been ready.
    pub(crate) losses: u64,
    /// Sessions that the servers declared gone.
    pub(crate) expired: u64,
}

impl<W: Wire> Link<W> {
    /// A session that prefers `servers[first % len]`.
    pub(crate) fn new(wire: W, servers: Vec<SocketAddr>, first: usize) -> Self {
        Self {
            wire,
            servers,
            next_server: first,
            state: State::Waiting { retry_at: 0 },
            input: Vec::with_capacity(64 << 10),
            output: Vec::with_capacity(64 << 10),
            flights: VecDeque::new(),
            next_xid: 1,
            last_sent_ns: 0,
            leaving: false,
            generation: 0,
            losses: 0,
            expired: 0,
        }
    }

    /// Whether requests may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Requests under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The socket to poll, and whether it has something to write.
    pub(crate) fn socket(&self) -> Option<(&TcpStream, bool)> {
        match &self.state {
            State::Waiting { .. } => None,
            State::Opening { stream, .. } | State::Ready { stream } => {
                Some((stream, !self.output.is_empty()))
            }
        }
    }

    /// Connects, pings or gives up, as the time demands. Returns the requests whose outcome became unknown.
    pub(crate) fn tick(&mut self, now: u64) -> usize {
        match &self.state {
            State::Waiting { retry_at } if *retry_at <= now && !self.leaving => {
                self.connect(now);
                0
            }
            State::Opening { since, .. } if now > since + OPENING_NS => self.lose(now),
            State::Ready { .. } if now > self.last_sent_ns + PING_NS => {
                self.last_sent_ns = now;
                self.wire.ping(&mut self.output);
                0
            }
            _ => 0,
        }
    }

    fn connect(&mut self, now: u64) {
        let Some(server) = self.servers.get(self.next_server % self.servers.len().max(1)).copied() else {
            return;
        };
        let opened = TcpStream::connect_timeout(&server, Duration::from_millis(200)).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => {
                self.generation += 1;
                self.input.clear();
                self.output.clear();
                self.wire.hello(&mut self.output);
                self.state = if self.wire.speaks_first() {
                    State::Opening { stream, since: now }
                } else {
                    State::Ready { stream }
                };
            }
            Err(_) => {
                self.next_server += 1;
                self.state = State::Waiting { retry_at: now + RETRY_NS };
            }
        }
    }

    fn lose(&mut self, now: u64) -> usize {
        if self.is_ready() && !self.leaving {
            self.losses += 1;
        }
        self.next_server += 1;
        self.state = State::Waiting { retry_at: now + RETRY_NS };
        self.input.clear();
        self.output.clear();
        let unknown = self.flights.len();
        self.flights.clear();
        unknown
    }

    /// Queues one request.
    pub(crate) fn request(&mut self, op: Op, number: u64, planned_ns: u64, now: u64) {
        let xid = self.next_xid;
        self.next_xid = if xid == i32::MAX - 1 { 1 } else { xid + 1 };
        self.wire.request(op, xid, number, &mut self.output);
        self.last_sent_ns = now;
        self.flights.push_back(Flight { planned_ns, sent_ns: now, xid });
    }

    /// Queues the farewell; no connection is opened after it.
    pub(crate) fn close(&mut self) {
        self.leaving = true;
        if self.is_ready() {
            self.wire.close(&mut self.output);
        }
    }

    /// Writes what is queued. Returns the requests whose outcome became unknown.
    pub(crate) fn flush(&mut self, now: u64) -> usize {
        let (State::Opening { stream, .. } | State::Ready { stream }) = &mut self.state else { return 0 };
        while !self.output.is_empty() {
            match stream.write(&self.output) {
                Ok(n) if n == self.output.len() => self.output.clear(),
                Ok(n) if n > 0 => {
                    self.output.drain(..n);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return 0,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return self.lose(now),
            }
        }
        0
    }

    /// Reads what is there and hands finished requests to `done`. Returns the requests whose outcome became unknown.
    ///
    /// # Errors
    /// A reply that breaks the protocol: the server under test is wrong, the run is void.
    pub(crate) fn receive(
        &mut self,
        now: u64,
        scratch: &mut [u8],
        mut done: impl FnMut(Done),
    ) -> Result<usize, String> {
        loop {
            let (State::Opening { stream, .. } | State::Ready { stream }) = &mut self.state else {
                return Ok(0);
            };
            let n = match stream.read(scratch) {
                Ok(0) => return Ok(self.lose(now)),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Ok(self.lose(now)),
            };
            self.input.extend_from_slice(scratch.get(..n).unwrap_or_default());
            if !self.is_ready() && !self.opened(now)? {
                continue;
            }
            self.parse(&mut done)?;
            if n < scratch.len() {
                return Ok(0);
            }
        }
    }

    fn opened(&mut self, now: u64) -> Result<bool, String> {
        match self.wire.opened(&self.input)? {
            Opening::Wait => Ok(false),
            Opening::Expired => {
                self.expired += 1;
                self.lose(now);
                Ok(false)
            }
            Opening::Ready { consumed } => {
                self.input.drain(..consumed);
                let old = std::mem::replace(&mut self.state, State::Waiting { retry_at: 0 });
                if let State::Opening { stream, .. } = old {
                    self.state = State::Ready { stream };
                }
                Ok(true)
            }
        }
    }

    fn parse(&mut self, done: &mut impl FnMut(Done)) -> Result<(), String> {
        let mut at = 0;
        while let Parsed::Reply { consumed, kind } =
            self.wire.parse(self.input.get(at..).unwrap_or_default())?
        {
            at += consumed;
            let ReplyKind::Answer { xid, code, .. } = kind else { continue };
            // Only the farewell is answered without a flight.
            let Some(flight) = self.flights.pop_front() else { continue };
            if flight.xid != xid {
                return Err(format!("reply to xid {xid} where {} was due", flight.xid));
            }
            done(Done { flight, code });
        }
        self.input.drain(..at);
        Ok(())
    }
}
