//! Virtual clients: sessions over connections that carry jute bytes, with the habits of real ones.
//!
//! ```text
//!  pause ─► connect (next server in turn, last zxid, password) ─► steady: requests, pings every third of the timeout
//!    ▲           │ refused, silent                                  │ closed, or silent for two thirds of the timeout
//!    └───────────┴──────────────────────────────────────────────────┘   expired ─► a new session
//! ```
//!
//! Replies must come in the order of the requests; anything else is a violation at once. What was sent and not answered
//! when a connection ends is `Unknown`. After a reconnect all watches are registered again.

mod hearing;

use super::workload::Wishes;
use super::{Event, Simulated, World};
use bytes::{Bytes, BytesMut};
use history::{Op, What, wire};
use jute::{ConnectRequest, Jute, OpCode, Request, put_frame, put_request, xid};
use server::service::VirtualClient;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Longest frame taken from a server.
const MAX_FRAME: u32 = 16 << 20;
/// Longest pause before the next attempt to connect.
const PAUSE_NS: u64 = 100_000_000;
/// A client looks at its clock at least this often.
const LOOK_NS: u64 = 100_000_000;
const MS: u64 = 1_000_000;

/// Something that concerns a client.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// It looks at its clock.
    Act(usize),
    /// Its connect request reaches the server.
    Open { client: usize, conn: u64, server: usize, bytes: Vec<u8> },
    /// Its bytes reach the server.
    ToServer { client: usize, conn: u64, server: usize, bytes: Vec<u8> },
    /// The server's bytes reach it.
    ToClient { client: usize, conn: u64, bytes: Vec<u8> },
    /// The connection's end reaches it.
    Closed { client: usize, conn: u64 },
    /// The connection's end reaches the server.
    Gone { server: usize, conn: u64 },
}

/// The server's end of a connection.
pub(crate) struct Conn {
    pub(crate) number: u64,
    pub(crate) client: usize,
    virt: VirtualClient,
    /// Last zxid that the client has seen, until the server has looked at it.
    seen: Option<i64>,
    /// When its last bytes arrive at the client.
    last_arrival: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until then.
    Pausing(u64),
    /// Since then.
    Connecting(u64),
    Steady,
    /// Ended for good.
    Dead,
}

#[derive(Debug)]
struct Sent {
    xid: i32,
    call: u64,
    opcode: OpCode,
    op: Op,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its number in the history.
    pub(crate) id: u32,
    state: State,
    conn: u64,
    server: usize,
    /// The only server it may use.
    pinned: Option<usize>,
    session: i64,
    password: [u8; jute::PASSWORD_BYTES],
    timeout: u64,
    last_zxid: i64,
    next_xid: i32,
    sent: VecDeque<Sent>,
    input: BytesMut,
    sent_at: u64,
    heard_at: u64,
    pings: VecDeque<u64>,
    last_arrival: u64,
    next_op: u64,
    /// When it looks at its clock next.
    look_at: u64,
    outstanding: usize,
    tables: [BTreeSet<String>; 5],
    pub(crate) wishes: Wishes,
    /// Stopped until then.
    stopped: Option<u64>,
    backlog: Vec<ClientEvent>,
    /// It does not read until then.
    pub(crate) slow_until: u64,
    /// When a write of its own was last acknowledged.
    pub(crate) acked_at: Option<u64>,
    /// It asks for nothing but what is in `wishes.first`.
    pub(crate) quiet: bool,
    /// Its next request is a write that succeeds in any state.
    pub(crate) probe: bool,
}

/// Places of [`Client::tables`].
const DATA: usize = 0;
const EXIST: usize = 1;
const CHILD: usize = 2;
const PERSISTENT: usize = 3;
const RECURSIVE: usize = 4;

impl Client {
    fn new(id: u32, server: usize, outstanding: usize, now: u64) -> Self {
        Self {
            id,
            state: State::Pausing(now),
            conn: 0,
            server,
            pinned: None,
            session: 0,
            password: [0; jute::PASSWORD_BYTES],
            timeout: 0,
            last_zxid: 0,
            next_xid: 1,
            sent: VecDeque::new(),
            input: BytesMut::new(),
            sent_at: 0,
            heard_at: 0,
            pings: VecDeque::new(),
            last_arrival: 0,
            next_op: now,
            look_at: 0,
            outstanding,
            tables: Default::default(),
            wishes: Wishes::new(id),
            stopped: None,
            backlog: Vec::new(),
            slow_until: 0,
            acked_at: None,
            quiet: false,
            probe: false,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Whether it has asked for everything that it should and has all answers.
    pub(crate) fn is_done(&self) -> bool {
        self.is_dead()
            || (self.wishes.first.is_empty() && self.sent.is_empty() && self.state == State::Steady)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    fn forget_session(&mut self) {
        self.session = 0;
        self.password = [0; jute::PASSWORD_BYTES];
        self.last_zxid = 0;
        self.tables.iter_mut().for_each(BTreeSet::clear);
    }
}

impl<P: Simulated> World<'_, P> {
    // ---- clients come and go -------------------------------------------------------------------------------

    /// A new client; with `pinned` it uses that server only and asks for nothing by itself.
    pub(crate) fn add_client(&mut self, pinned: Option<usize>) -> usize {
        let place = self.clients.len();
        let server = pinned.unwrap_or(place % self.hosts.len());
        let outstanding = 1 + self.rng.below(8) as usize;
        let mut client = Client::new(place as u32 + 1, server, outstanding, self.now);
        (client.pinned, client.quiet) = (pinned, pinned.is_some());
        self.clients.push(client);
        let at = self.now + 1 + self.rng.below(20 * MS);
        self.look_at(place, at);
        place
    }

    /// It closes its connection and comes back.
    pub(crate) fn drop_client(&mut self, c: usize) {
        if matches!(self.clients[c].state, State::Steady | State::Connecting(_)) {
            self.hang_up(c);
            self.lost(c);
        }
    }

    /// It ends without closing its session.
    pub(crate) fn kill_client(&mut self, c: usize) {
        if self.clients[c].is_dead() {
            return;
        }
        self.hang_up(c);
        self.lost(c);
        self.record(c, What::Stopped);
        self.clients[c].state = State::Dead;
    }

    /// It neither reads nor sends for a while.
    pub(crate) fn stop_client(&mut self, c: usize, ns: u64) {
        if self.clients[c].is_dead() || self.clients[c].stopped.is_some() {
            return;
        }
        let until = self.now + ns;
        self.clients[c].stopped = Some(until);
        self.record(c, What::Stopped);
    }

    fn hang_up(&mut self, c: usize) {
        let (server, conn) = (self.clients[c].server, self.clients[c].conn);
        if conn != 0 {
            let at = (self.now + self.client_delay()).max(self.clients[c].last_arrival + 1);
            self.events.schedule(at, Event::Client(ClientEvent::Gone { server, conn }));
        }
    }

    // ---- events --------------------------------------------------------------------------------------------

    pub(crate) fn client_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Act(c) => self.act_client(c),
            ClientEvent::Open { client, conn, server, bytes } => self.accept(client, conn, server, &bytes),
            ClientEvent::ToServer { client, conn, server, bytes } => self.serve(client, conn, server, &bytes),
            ClientEvent::Gone { server, conn } => {
                if let Some(process) = &mut self.hosts[server].process {
                    process.clients.retain(|c| c.number != conn);
                }
            }
            ClientEvent::ToClient { client, conn, .. } | ClientEvent::Closed { client, conn } => {
                if self.clients[client].stopped.is_some() {
                    self.clients[client].backlog.push(event);
                } else if self.clients[client].conn == conn && conn != 0 {
                    match event {
                        ClientEvent::ToClient { bytes, .. } => self.hear(client, &bytes),
                        _ => self.lost(client),
                    }
                }
            }
        }
    }

    /// The client looks at its clock.
    fn act_client(&mut self, c: usize) {
        let now = self.now;
        if self.clients[c].look_at != now {
            return; // an earlier one took its place
        }
        if let Some(until) = self.clients[c].stopped {
            if now < until {
                return self.look_at(c, until);
            }
            self.clients[c].stopped = None;
            self.record(c, What::Continued);
            for event in std::mem::take(&mut self.clients[c].backlog) {
                self.client_event(event);
            }
        }
        let patience = u64::from(self.settings.session_ms) * MS / self.hosts.len() as u64;
        let client = &self.clients[c];
        match client.state {
            State::Dead => return,
            State::Pausing(until) if now >= until => self.connect(c),
            State::Connecting(since) if now > since + patience.max(200 * MS) => {
                self.hang_up(c);
                self.lost(c);
            }
            State::Steady if now > client.heard_at + client.timeout * 2 / 3 => {
                self.hang_up(c);
                self.lost(c);
            }
            State::Steady => self.ask(c),
            _ => {}
        }
        self.look_later(c);
    }

    /// Sees to it that the client looks at its clock in time.
    fn look_later(&mut self, c: usize) {
        let now = self.now;
        let client = &self.clients[c];
        let next = match client.state {
            State::Dead => return,
            State::Pausing(until) => until.max(now + 1),
            State::Steady => {
                let full = client.sent.len() >= client.outstanding;
                let op = if full { now + LOOK_NS } else { client.next_op };
                op.min(client.sent_at + client.timeout / 3).clamp(now + 1, now + LOOK_NS)
            }
            State::Connecting(_) => now + LOOK_NS,
        };
        self.look_at(c, next);
    }

    /// One event is under way for each client; an earlier one takes its place.
    fn look_at(&mut self, c: usize, at: u64) {
        let client = &mut self.clients[c];
        if client.look_at <= self.now || at < client.look_at {
            client.look_at = at;
            self.events.schedule(at, Event::Client(ClientEvent::Act(c)));
        }
    }

    fn connect(&mut self, c: usize) {
        self.next_conn += 1;
        let (now, conn) = (self.now, self.next_conn);
        let client = &mut self.clients[c];
        client.server = client.pinned.unwrap_or((client.server + 1) % self.hosts.len());
        (client.conn, client.state) = (conn, State::Connecting(now));
        client.input.clear();
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: client.last_zxid,
            timeout_ms: self.settings.session_ms as i32,
            session: client.session,
            password: Some(Bytes::copy_from_slice(&client.password)),
            read_only: Some(false),
        };
        let mut bytes = Vec::with_capacity(64);
        put_frame(&mut bytes, |out| request.encode(out));
        let server = client.server;
        let at = now + 2 * self.client_delay();
        self.clients[c].last_arrival = at;
        self.events.schedule(at, Event::Client(ClientEvent::Open { client: c, conn, server, bytes }));
    }

    /// Pings, and asks for what it wants now.
    fn ask(&mut self, c: usize) {
        let now = self.now;
        let mut out = Vec::new();
        while self.clients[c].next_op <= now && self.clients[c].sent.len() < self.clients[c].outstanding {
            let interval = 1_000 * MS * u64::from(self.settings.clients) / u64::from(self.settings.rate);
            let wait = self.rng.below(2 * interval + 1);
            let client = &mut self.clients[c];
            if client.quiet {
                let Some(op) = client.wishes.first.pop() else {
                    client.next_op = now + LOOK_NS;
                    break;
                };
                self.invoke(c, op, &mut out);
                continue;
            }
            client.next_op = now + wait;
            let op = if client.probe && client.wishes.first.is_empty() {
                client.wishes.probe()
            } else {
                client.wishes.next(self.keys, &mut self.rng)
            };
            self.invoke(c, op, &mut out);
        }
        let client = &mut self.clients[c];
        if out.is_empty() && now >= client.sent_at + client.timeout / 3 {
            client.pings.push_back(now);
            put_request(&mut out, xid::PING, &Request::Ping);
        }
        self.say(c, out);
    }

    fn invoke(&mut self, c: usize, op: Op, out: &mut Vec<u8>) {
        let Some(request) = wire::request(&op) else { return };
        self.next_call += 1;
        self.figures.ops += 1;
        let call = self.next_call;
        let client = &mut self.clients[c];
        let number = if matches!(op, Op::SetWatches { .. }) {
            xid::SET_WATCHES
        } else {
            client.next_xid += 1;
            client.next_xid
        };
        put_request(out, number, &request);
        client.sent.push_back(Sent { xid: number, call, opcode: request.opcode(), op: op.clone() });
        let session = client.session;
        self.record(c, What::Invoke { call, session, op });
    }

    fn say(&mut self, c: usize, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = (self.now + self.client_delay()).max(self.clients[c].last_arrival + 1);
        let client = &mut self.clients[c];
        (client.sent_at, client.last_arrival) = (self.now, at);
        let (conn, server) = (client.conn, client.server);
        self.events.schedule(at, Event::Client(ClientEvent::ToServer { client: c, conn, server, bytes }));
    }

    /// One way between a client and a server.
    fn client_delay(&mut self) -> u64 {
        self.settings.latency + self.rng.below(self.settings.latency / 4 + 1)
    }

    // ---- the server's end ----------------------------------------------------------------------------------

    fn accept(&mut self, client: usize, conn: u64, server: usize, bytes: &[u8]) {
        self.set_time(server);
        let opened = self.hosts[server].process.as_ref().and_then(|process| {
            let port = 1024 + (conn % 60_000) as u16;
            process.app.open(SocketAddr::from(([10, 0, 0, 1], port)))
        });
        let Some(mut virt) = opened else { return self.close_at_client(client, conn, 0) };
        virt.receive(bytes);
        // Behind the frame's length and the version.
        let seen = bytes.get(8..16).and_then(|word| word.try_into().ok()).map(i64::from_be_bytes);
        if let Some(process) = &mut self.hosts[server].process {
            process.clients.push(Conn { number: conn, client, virt, seen, last_arrival: 0 });
        }
        self.after_service(server);
    }

    fn serve(&mut self, client: usize, conn: u64, server: usize, bytes: &[u8]) {
        self.mix(conn);
        self.set_time(server);
        let found = self.hosts[server].process.as_mut().and_then(|process| {
            let conn = process.clients.iter_mut().find(|c| c.number == conn)?;
            conn.virt.receive(bytes);
            Some(())
        });
        match found {
            Some(()) => self.after_service(server),
            None => self.close_at_client(client, conn, 0),
        }
    }

    fn close_at_client(&mut self, client: usize, conn: u64, after: u64) {
        let at = (self.now + self.client_delay()).max(after);
        self.events.schedule(at, Event::Client(ClientEvent::Closed { client, conn }));
    }

    /// Something may have changed for the clients of a server: turns of their connections, and what they say. What the
    /// service asked of its node goes on as well.
    pub(crate) fn after_service(&mut self, i: usize) {
        if self.hosts[i].paused || self.ready_at(i) > self.now + MS {
            return;
        }
        let Some(mut process) = self.hosts[i].process.take() else { return };
        let mut at = 0;
        while let Some(conn) = process.clients.get_mut(at) {
            // requirement: S4. Only a server that holds everything that the client has seen takes it in.
            let behind = conn.seen.take().filter(|seen| *seen > process.app.fingerprint().0);
            let goes_on = conn.virt.turn();
            let (client, number) = (conn.client, conn.number);
            if let Some(seen) = behind.filter(|_| goes_on) {
                let (id, server) = (self.clients[client].id, self.hosts[i].id);
                let ours = process.app.fingerprint().0;
                self.violate(
                    "C3",
                    format!("{server} takes in client {id}, which has seen {seen:#x}, at {ours:#x}"),
                );
            }
            if self.clients[client].slow_until <= self.now {
                let bytes = conn.virt.take_output(64 << 10);
                if !bytes.is_empty() {
                    let arrival = (self.now + self.client_delay()).max(conn.last_arrival + 1);
                    conn.last_arrival = arrival;
                    let event = ClientEvent::ToClient { client, conn: number, bytes };
                    self.events.schedule(arrival, Event::Client(event));
                }
            }
            if goes_on {
                at += 1;
            } else {
                let conn = process.clients.remove(at);
                self.close_at_client(client, number, conn.last_arrival + 1);
            }
        }
        if process.wishes.is_none() {
            process.wishes = process.handle.take_mail();
        }
        let busy = process.wishes.is_some() || !process.inbox.is_empty();
        self.hosts[i].process = Some(process);
        if busy {
            self.poke(i);
        }
    }

    /// The process of a server has ended.
    pub(crate) fn disconnect_clients(&mut self, conns: &[(usize, u64)], told: bool) {
        for &(client, conn) in conns {
            if told {
                self.close_at_client(client, conn, 0);
            }
        }
    }

    /// Puts an event into the history.
    pub(crate) fn record(&mut self, c: usize, what: What) {
        let client = self.clients[c].id;
        self.history.events.push(history::Event { at_us: self.now / 1000, client, what });
    }
}
