//! A recording client: one session at a time on one connection at a time, everything told to the [`Recorder`].
//!
//! ```text
//!  run: loop { choose a server ─► connect ─► hello ─► setWatches ─► steady ─► lost }   until the source is done
//!  steady: select { bytes in │ bytes out │ next operation │ ping │ silence │ phase }
//! ```
//!
//! It speaks the wire itself instead of using the `client` crate, because a history needs what an application never
//! sees: the zxid of every reply, answers to pings, refusals, the moment before the first byte leaves. Rules that a
//! client owes its session, as ZooKeeper's own has them: a ping after a third of the timeout, the connection is given
//! up after two thirds of silence, the session after 4/3 of the timeout without any server; `seen` is the zxid of the
//! last reply that carried one; watches are set again after a reconnect, relative to it.

use super::chance::Chance;
use super::recorder::Recorder;
use super::source::{Next, Source};
use super::watches::Watches;
use bytes::{Buf, Bytes, BytesMut};
use history::{Op, What, wire};
use jute::{
    ConnectRequest, ConnectResponse, Jute, Reader, ReplyHeader, Request, WatcherEvent, put_frame,
    put_request, split_frames, xid,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Longest frame taken from a server.
const MAX_FRAME: u32 = 16 << 20;
/// How long a connection may take to open.
const PATIENCE: Duration = Duration::from_millis(1200);

/// What the clients of a run are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Ask.
    Load,
    /// Wait for what is under way, close the session, end.
    Drain,
    /// End at once.
    Over,
}

/// What all clients share.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Where events go.
    pub(crate) recorder: Recorder,
    /// Ids and client addresses of the servers.
    pub(crate) servers: Vec<(u32, SocketAddr)>,
    /// What to do.
    pub(crate) phase: watch::Sender<Phase>,
}

#[derive(Debug)]
struct Session {
    id: i64,
    password: Bytes,
    timeout: Duration,
    seen: i64,
    lost_at: Instant,
    watches: Watches,
    is_closing: bool,
}

#[derive(Debug)]
struct Sent {
    call: u64,
    xid: i32,
    op: Op,
    request: jute::OpCode,
}

/// One connection.
#[derive(Debug)]
struct Link {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    sent_at: Instant,
    heard_at: Instant,
    pings: VecDeque<u64>,
    xid: i32,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    number: u32,
    stage: Arc<Stage>,
    servers: Vec<(u32, SocketAddr)>,
    source: Box<dyn Source>,
    chance: Chance,
    wish: Duration,
    session: Session,
    pending: VecDeque<Sent>,
    /// Index of the server that it was connected to last.
    last: Option<usize>,
}

impl Session {
    fn new(wish: Duration) -> Self {
        Self {
            id: 0,
            password: Bytes::from_static(&[0; jute::PASSWORD_BYTES]),
            timeout: wish,
            seen: 0,
            lost_at: Instant::now(),
            watches: Watches::default(),
            is_closing: false,
        }
    }
}

impl Client {
    /// Client `number`, which wishes a session timeout of `wish`.
    pub(crate) fn new(
        number: u32,
        stage: &Arc<Stage>,
        source: Box<dyn Source>,
        wish: Duration,
        chance: Chance,
    ) -> Self {
        Self {
            number,
            stage: Arc::clone(stage),
            servers: stage.servers.clone(),
            source,
            chance,
            wish,
            session: Session::new(wish),
            pending: VecDeque::new(),
            last: None,
        }
    }

    /// Connects to this server only.
    pub(crate) fn only(&mut self, server: (u32, SocketAddr)) {
        self.servers = vec![server];
    }

    /// Runs until the source is done or the phase says so; gives the source back.
    pub(crate) async fn run(mut self) -> Box<dyn Source> {
        let mut phase = self.stage.phase.subscribe();
        while !self.is_done(*phase.borrow_and_update()) {
            let Some(link) = self.connect().await else {
                let pause = self.chance.ms(20, 200);
                tokio::select! {
                    () = sleep(pause) => {}
                    _ = phase.changed() => {}
                }
                continue;
            };
            self.steady(link, &mut phase).await;
            self.lose();
        }
        self.source
    }

    fn is_done(&self, phase: Phase) -> bool {
        let is_idle = self.session.id == 0;
        phase == Phase::Over || (is_idle && (phase == Phase::Drain || self.source.is_done()))
    }

    fn record(&self, what: What) -> u64 {
        self.stage.recorder.record(self.number, what)
    }

    /// The connection is gone: nothing that was asked will be answered.
    fn lose(&mut self) {
        for sent in std::mem::take(&mut self.pending) {
            self.record(What::Unknown { call: sent.call });
            self.source.answered(&sent.op, None);
        }
        self.record(What::Disconnected);
        self.session.lost_at = Instant::now();
        if self.session.is_closing {
            self.forget();
        }
    }

    /// The session is over for this client.
    fn forget(&mut self) {
        self.session = Session::new(self.wish);
        self.source.session_over();
    }

    fn choose(&mut self) -> Option<(u32, SocketAddr)> {
        let servers = self.servers.len() as u64;
        let mut at = self.chance.below(servers) as usize;
        if Some(at) == self.last && servers > 1 {
            at = (at + 1) % servers as usize;
        }
        self.last = Some(at);
        self.servers.get(at).copied()
    }

    async fn connect(&mut self) -> Option<Link> {
        let (server, address) = self.choose()?;
        if self.session.id != 0 && self.session.lost_at.elapsed() > self.session.timeout * 4 / 3 {
            self.forget();
        }
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.ok()?.ok()?;
        stream.set_nodelay(true).ok()?;
        let now = Instant::now();
        let (input, output) = (BytesMut::with_capacity(16 << 10), BytesMut::with_capacity(16 << 10));
        let (pings, xid) = (VecDeque::new(), 1);
        let mut link = Link { stream, input, output, sent_at: now, heard_at: now, pings, xid };
        // Silence is no refusal: a stopped server may yet answer, to nobody.
        let answer = timeout(PATIENCE, self.hello(&mut link)).await.ok()?;
        let Some(answer) = answer else {
            self.record(What::Refused { server, seen: self.session.seen });
            return None;
        };
        if answer.timeout_ms <= 0 {
            if self.session.id != 0 {
                self.record(What::Expired { session: self.session.id });
                self.forget();
            }
            return None;
        }
        self.open(server, &answer);
        link.heard_at = Instant::now();
        if let Some(op) = self.session.watches.set_again(self.session.seen) {
            self.ask(op, &mut link);
        }
        Some(link)
    }

    fn open(&mut self, server: u32, answer: &ConnectResponse) {
        let (session, resumed) = (answer.session, self.session.id != 0);
        if resumed && session != self.session.id {
            self.stage.recorder.broken(self.number, "another session than the one asked for");
        }
        let timeout_ms = u64::from(answer.timeout_ms.unsigned_abs());
        let seen = self.session.seen;
        self.record(What::Connected { session, server, timeout_ms, resumed, seen });
        self.session.id = session;
        self.session.password = Bytes::copy_from_slice(&answer.password);
        self.session.timeout = Duration::from_millis(timeout_ms);
    }

    /// Asks for the session; `None` when the server closes without an answer.
    async fn hello(&mut self, link: &mut Link) -> Option<ConnectResponse> {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.session.seen,
            timeout_ms: self.wish.as_millis() as i32,
            session: self.session.id,
            password: Some(self.session.password.clone()),
            read_only: Some(false),
        };
        put_frame(&mut link.output, |out| request.encode(out));
        link.stream.write_all_buf(&mut link.output).await.ok()?;
        loop {
            if let Some(frame) = split_frames(&mut link.input, MAX_FRAME).ok()?.next() {
                return ConnectResponse::from_bytes(&frame).ok();
            }
            if link.stream.read_buf(&mut link.input).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn steady(&mut self, mut link: Link, phase: &mut watch::Receiver<Phase>) {
        let mut next_at = Instant::now();
        loop {
            let now = Instant::now();
            if *phase.borrow() == Phase::Over {
                return;
            }
            let is_draining = *phase.borrow() == Phase::Drain || self.source.is_done();
            if is_draining && self.pending.is_empty() && !self.session.is_closing {
                self.ask(Op::Close, &mut link);
            }
            while !is_draining && now >= next_at && self.may_ask() {
                match self.source.next(self.session.id) {
                    Next::Ask(op) => self.ask(op, &mut link),
                    Next::Wait(wait) => next_at = now + wait,
                    Next::Hop => return,
                    Next::Nap(nap) => {
                        self.record(What::Stopped);
                        sleep(nap).await;
                        self.record(What::Continued);
                        break;
                    }
                }
            }
            let third = self.session.timeout / 3;
            let (ping_at, dead_at) = (link.sent_at + third, link.heard_at + third * 2);
            let wake = if self.may_ask() && !is_draining { next_at } else { ping_at };
            let (mut reader, mut writer) = link.stream.split();
            tokio::select! {
                read = reader.read_buf(&mut link.input) => match read {
                    Ok(bytes) if bytes > 0 => {
                        link.heard_at = Instant::now();
                        if self.receive(&mut link).is_none() {
                            return;
                        }
                    }
                    _ => return,
                },
                written = writer.write_buf(&mut link.output), if link.output.has_remaining() => {
                    if written.is_err() {
                        return;
                    }
                }
                () = sleep_until(wake.min(ping_at).min(dead_at)) => {}
                changed = phase.changed() => if changed.is_err() { return },
            }
            let now = Instant::now();
            if now >= link.heard_at + third * 2 {
                return;
            }
            if now >= link.sent_at + third {
                self.ping(&mut link);
            }
        }
    }

    fn may_ask(&self) -> bool {
        !self.session.is_closing && self.pending.len() < self.source.depth()
    }

    fn ping(&self, link: &mut Link) {
        link.sent_at = Instant::now();
        link.pings.push_back(self.stage.recorder.now_us());
        put_request(&mut link.output, xid::PING, &Request::Ping);
    }

    fn ask(&mut self, op: Op, link: &mut Link) {
        let Some(request) = wire::request(&op) else { return };
        let xid = if matches!(op, Op::SetWatches { .. }) { xid::SET_WATCHES } else { link.xid };
        link.xid += 1;
        self.session.is_closing |= op == Op::Close;
        let (call, session) = (self.stage.recorder.call(), self.session.id);
        self.record(What::Invoke { call, session, op: op.clone() });
        link.sent_at = Instant::now();
        put_request(&mut link.output, xid, &request);
        self.pending.push_back(Sent { call, xid, op, request: request.opcode() });
    }

    /// Takes every whole frame; `None` when the connection has to end.
    fn receive(&mut self, link: &mut Link) -> Option<()> {
        let Ok(frames) = split_frames(&mut link.input, MAX_FRAME) else {
            self.stage.recorder.broken(self.number, "a frame of an impossible length");
            return None;
        };
        for frame in frames {
            let mut reader = Reader::new(&frame);
            let Ok(header) = ReplyHeader::decode(&mut reader) else {
                self.stage.recorder.broken(self.number, "a reply without a header");
                return None;
            };
            match header.xid {
                xid::PING => {
                    let session = self.session.id;
                    let sent_us = link.pings.pop_front()?;
                    self.record(What::Ping { session, sent_us });
                }
                xid::NOTIFICATION => self.event(header, &mut reader),
                _ => self.answer(header, &mut reader)?,
            }
        }
        Some(())
    }

    fn event(&mut self, header: ReplyHeader, reader: &mut Reader<'_>) {
        let Ok(event) = WatcherEvent::decode(reader) else {
            self.stage.recorder.broken(self.number, "an event that cannot be decoded");
            return;
        };
        let Some(kind) = wire::event(event.kind) else { return };
        let (session, zxid, path) = (self.session.id, header.zxid, event.path.as_str().to_owned());
        self.session.watches.fired(kind, &path);
        self.record(What::Watch { session, zxid, kind, path });
    }

    fn answer(&mut self, header: ReplyHeader, reader: &mut Reader<'_>) -> Option<()> {
        let Some(sent) = self.pending.front().filter(|sent| sent.xid == header.xid) else {
            self.stage.recorder.broken(self.number, "a reply out of order");
            return None;
        };
        let Some(outcome) = wire::outcome(&header, sent.request, reader) else {
            self.stage.recorder.broken(self.number, "a reply that cannot be decoded");
            return None;
        };
        let sent = self.pending.pop_front()?;
        if header.zxid > 0 {
            self.session.seen = header.zxid;
        }
        self.session.watches.answered(&sent.op, &outcome);
        self.source.answered(&sent.op, Some(&outcome));
        let is_closed = sent.op == Op::Close;
        self.record(What::Return { call: sent.call, zxid: header.zxid, outcome });
        (!is_closed).then_some(())
    }
}
