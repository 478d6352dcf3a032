//! The task that owns a session: connections one after the other, requests in order, signs of life.
//!
//! ```text
//!  run: loop { pause ─► connect ─► hello ─► steady ─► lost }  until over
//!  steady: select { bytes in │ bytes out │ requests │ ping or give-up time }
//! ```
//!
//! Invariants:
//! * `pending` is in wire order; the k-th reply with a positive xid answers its front and echoes its xid. Anything
//!   else is a broken server, and the connection is dropped.
//! * `last_zxid` is the zxid of the last reply that carried one > 0 (not of events, which may be older or −1).
//! * What was sent and not answered fails with `ConnectionLoss`; what was not sent yet waits for the next connection,
//!   at most for a session timeout.

use crate::handle::{Options, Status};
use crate::servers::{Servers, random};
use crate::watches::{Table, Watches};
use crate::{Error, Result, Watcher};
use bytes::{Buf, Bytes, BytesMut};
use jute::{
    AuthPacket, ConnectRequest, ConnectResponse, ErrorCode, EventType, Jute, KeeperState, OpCode, Reader,
    ReplyHeader, Request, Response, WatcherEvent, put_frame, put_request, split_frames, xid,
};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Longest frame taken from a server: replies may be larger than requests.
const MAX_FRAME: u32 = 16 << 20;
/// Requests under way at most; more wait in the channel.
const MAX_PENDING: usize = 8192;
/// Requests taken from the channel at once.
const BATCH: usize = 512;

/// One request from a handle.
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) watcher: Option<(Table, Watcher)>,
    pub(crate) reply: oneshot::Sender<Result<Response>>,
}

struct Sent {
    xid: i32,
    opcode: OpCode,
    path: String,
    watcher: Option<(Table, Watcher)>,
    reply: oneshot::Sender<Result<Response>>,
}

/// Why a connection ended.
enum End {
    /// Try the next server.
    Lost,
    /// The session is over.
    Over(Error),
}

/// One connection.
struct Connection {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    sent_at: Instant,
    heard_at: Instant,
}

pub(crate) struct Session {
    servers: Servers,
    options: Options,
    inbox: mpsc::UnboundedReceiver<Command>,
    watches: Watches,
    status: watch::Sender<Status>,
    id: i64,
    password: Bytes,
    timeout: Duration,
    last_zxid: i64,
    next_xid: i32,
    pending: VecDeque<Sent>,
    /// Auth packets of this connection; those that a reconnect repeats have nobody waiting.
    auth_pending: VecDeque<Option<oneshot::Sender<Result<Response>>>>,
    auths: Vec<AuthPacket>,
}

impl Session {
    pub(crate) fn new(
        servers: Servers,
        options: Options,
        inbox: mpsc::UnboundedReceiver<Command>,
        watches: Watches,
        status: watch::Sender<Status>,
    ) -> Self {
        Self {
            timeout: options.timeout,
            servers,
            options,
            inbox,
            watches,
            status,
            id: 0,
            password: Bytes::from_static(&[0; jute::PASSWORD_BYTES]),
            last_zxid: 0,
            next_xid: 1,
            pending: VecDeque::new(),
            auth_pending: VecDeque::new(),
            auths: Vec::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        let (mut first, mut lost_at) = (true, Instant::now());
        let why = loop {
            let end = self.attempt(first).await;
            first = false;
            self.fail_sent();
            let was_connected = self.status.borrow().state == Some(KeeperState::SyncConnected);
            match end {
                End::Over(why) => break why,
                End::Lost if was_connected => {
                    lost_at = Instant::now();
                    self.become_state(KeeperState::Disconnected, None);
                }
                End::Lost => {}
            }
            if self.inbox.is_closed() && self.inbox.is_empty() {
                break Error::Closed;
            }
            if lost_at.elapsed() > self.timeout {
                self.fail_waiting(Error::ConnectionLoss);
            }
        };
        self.become_state(
            match why {
                Error::SessionExpired => KeeperState::Expired,
                Error::AuthFailed => KeeperState::AuthFailed,
                _ => KeeperState::Closed,
            },
            None,
        );
        self.inbox.close();
        self.fail_waiting(why);
    }

    fn become_state(&mut self, state: KeeperState, server: Option<std::net::SocketAddr>) {
        tracing::debug!(session = self.id, ?state, ?server, "session");
        self.watches.state(state);
        let (session, timeout, last_zxid) = (self.id, self.timeout, self.last_zxid);
        let next = Status { state: Some(state), session, timeout, last_zxid, server };
        // Before the session was ever open there is no state to tell of: `connect` waits for the first.
        if session != 0 || state != KeeperState::Disconnected {
            self.status.send_replace(next);
        }
    }

    fn fail_sent(&mut self) {
        for sent in self.pending.drain(..) {
            let _ = sent.reply.send(Err(Error::ConnectionLoss));
        }
        for reply in self.auth_pending.drain(..).flatten() {
            let _ = reply.send(Err(Error::ConnectionLoss));
        }
    }

    fn fail_waiting(&mut self, why: Error) {
        while let Ok(command) = self.inbox.try_recv() {
            let _ = command.reply.send(Err(why));
        }
    }

    /// One connection, from the pause before it to its end.
    async fn attempt(&mut self, first: bool) -> End {
        let (Some(name), round) = self.servers.turn() else { return End::Over(Error::NoServers) };
        if !first {
            let longest = self.options.pause * if round { 2 } else { 1 };
            let pause = longest.mul_f64((random() % 1000) as f64 / 1000.0);
            sleep(pause).await;
        }
        // Names are resolved anew at each attempt: a server may have moved.
        let patience = self.timeout / u32::try_from(self.servers.len()).unwrap_or(1).max(1);
        let Ok(Ok(stream)) = timeout(patience, TcpStream::connect(name.as_str())).await else {
            return End::Lost;
        };
        if stream.set_nodelay(true).is_err() {
            return End::Lost;
        }
        let now = Instant::now();
        let (input, output) = (BytesMut::with_capacity(16 << 10), BytesMut::with_capacity(16 << 10));
        let mut connection = Connection { stream, input, output, sent_at: now, heard_at: now };
        match timeout(patience, self.hello(&mut connection)).await {
            Ok(None) => self.steady(connection).await,
            Ok(Some(end)) => end,
            Err(_) => End::Lost,
        }
    }

    /// Opens or continues the session; `None` when it is open.
    async fn hello(&mut self, connection: &mut Connection) -> Option<End> {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.last_zxid,
            timeout_ms: i32::try_from(self.options.timeout.as_millis()).unwrap_or(i32::MAX),
            session: self.id,
            password: Some(self.password.clone()),
            read_only: Some(false),
        };
        put_frame(&mut connection.output, |out| request.encode(out));
        if connection.stream.write_all_buf(&mut connection.output).await.is_err() {
            return Some(End::Lost);
        }
        let response = loop {
            match connection.stream.read_buf(&mut connection.input).await {
                Ok(0) | Err(_) => return Some(End::Lost),
                Ok(_) => {}
            }
            // Nothing else may come before the first reply, and we have asked for nothing else.
            match split_frames(&mut connection.input, MAX_FRAME).map(|mut frames| frames.next()) {
                Ok(None) => {}
                Ok(Some(frame)) => match ConnectResponse::from_bytes(&frame) {
                    Ok(response) => break response,
                    Err(_) => return Some(End::Lost),
                },
                Err(_) => return Some(End::Lost),
            }
        };
        if response.timeout_ms <= 0 {
            return Some(End::Over(Error::SessionExpired));
        }
        self.id = response.session;
        self.password = Bytes::copy_from_slice(&response.password);
        self.timeout = Duration::from_millis(u64::from(response.timeout_ms.unsigned_abs()));
        connection.heard_at = Instant::now();
        self.become_state(KeeperState::SyncConnected, connection.stream.peer_addr().ok());
        self.resume(connection);
        None
    }

    /// What a new connection has to be told: identities first, then watches.
    fn resume(&mut self, connection: &mut Connection) {
        for auth in &self.auths {
            self.auth_pending.push_back(None);
            put_request(&mut connection.output, xid::AUTH, &Request::Auth(auth.clone()));
        }
        for request in self.watches.set_watches(self.last_zxid) {
            put_request(&mut connection.output, xid::SET_WATCHES, &request);
        }
    }

    async fn steady(&mut self, mut connection: Connection) -> End {
        enum Woken {
            Read(std::io::Result<usize>),
            Written(std::io::Result<usize>),
            Asked(usize),
            Time,
        }
        let mut commands = Vec::with_capacity(BATCH);
        loop {
            let (ping_at, dead_at) =
                (connection.sent_at + self.timeout / 3, connection.heard_at + self.timeout * 2 / 3);
            let (mut reader, mut writer) = connection.stream.split();
            let woken = tokio::select! {
                n = reader.read_buf(&mut connection.input) => Woken::Read(n),
                n = writer.write_buf(&mut connection.output), if connection.output.has_remaining() => {
                    Woken::Written(n)
                }
                n = self.inbox.recv_many(&mut commands, BATCH), if self.pending.len() < MAX_PENDING => {
                    Woken::Asked(n)
                }
                () = sleep_until(ping_at.min(dead_at)) => Woken::Time,
            };
            match woken {
                Woken::Read(Ok(0) | Err(_)) | Woken::Written(Err(_)) => return End::Lost,
                Woken::Read(Ok(_)) => {
                    connection.heard_at = Instant::now();
                    if let Some(end) = self.receive(&mut connection.input) {
                        return end;
                    }
                }
                Woken::Written(Ok(_)) => {}
                // Every handle is gone: the session is left to expire.
                Woken::Asked(0) => return End::Over(Error::Closed),
                Woken::Asked(_) => {
                    connection.sent_at = Instant::now();
                    commands.drain(..).for_each(|c| self.send(c, &mut connection.output));
                }
                Woken::Time => {
                    let now = Instant::now();
                    if now >= dead_at {
                        return End::Lost;
                    }
                    if now >= ping_at {
                        connection.sent_at = now;
                        put_request(&mut connection.output, xid::PING, &Request::Ping);
                    }
                }
            }
        }
    }

    fn send(&mut self, command: Command, output: &mut BytesMut) {
        let Command { request, watcher, reply } = command;
        if let Request::Auth(packet) = &request {
            self.auths.push(packet.clone());
            self.auth_pending.push_back(Some(reply));
            put_request(output, xid::AUTH, &request);
            return;
        }
        let number = self.next_xid;
        self.next_xid = if number == i32::MAX { 1 } else { number + 1 };
        put_request(output, number, &request);
        let path = if watcher.is_some() { watched_path(&request) } else { String::new() };
        self.pending.push_back(Sent { xid: number, opcode: request.opcode(), path, watcher, reply });
    }

    /// Takes every whole frame; `Some` when the connection has to end.
    fn receive(&mut self, input: &mut BytesMut) -> Option<End> {
        let Ok(frames) = split_frames(input, MAX_FRAME) else { return Some(End::Lost) };
        let before = self.last_zxid;
        for frame in frames {
            if let Some(end) = self.take(&frame) {
                return Some(end);
            }
        }
        if self.last_zxid != before {
            let last_zxid = self.last_zxid;
            self.status.send_if_modified(|status| {
                status.last_zxid = last_zxid;
                false
            });
        }
        None
    }

    fn take(&mut self, frame: &Bytes) -> Option<End> {
        let mut reader = Reader::new(frame);
        let Ok(header) = ReplyHeader::decode(&mut reader) else { return Some(End::Lost) };
        match header.xid {
            xid::PING | xid::SET_WATCHES => None,
            xid::NOTIFICATION => {
                let event = WatcherEvent::decode(&mut reader).ok()?;
                if let Some(kind) = EventType::from_code(event.kind) {
                    self.watches.fire(kind, event.path.as_str());
                }
                None
            }
            xid::AUTH => self.take_auth(header.err),
            _ => self.take_reply(header, &mut reader),
        }
    }

    fn take_auth(&mut self, code: i32) -> Option<End> {
        let waiting = self.auth_pending.pop_front().flatten();
        if code == 0 {
            if let Some(reply) = waiting {
                let _ = reply.send(Ok(Response::Empty));
            }
            return None;
        }
        if let Some(reply) = waiting {
            let _ = reply.send(Err(Error::AuthFailed));
        }
        Some(End::Over(Error::AuthFailed))
    }

    fn take_reply(&mut self, header: ReplyHeader, reader: &mut Reader<'_>) -> Option<End> {
        // A reply out of order means that every later one would answer the wrong request.
        if self.pending.front().is_none_or(|sent| sent.xid != header.xid) {
            tracing::warn!(
                session = self.id,
                xid = header.xid,
                "reply out of order, dropping the connection"
            );
            return Some(End::Lost);
        }
        let sent = self.pending.pop_front()?;
        if header.zxid > 0 {
            self.last_zxid = header.zxid;
        }
        let result = match header.err {
            0 => Response::decode(sent.opcode, reader).map_err(|_| Error::Undecodable),
            code => Err(Error::Server(code)),
        };
        if let Some((table, watcher)) = sent.watcher {
            match (&result, table) {
                (Ok(_), Table::Exists) => self.watches.register(Table::Data, &sent.path, watcher),
                (Ok(_), table) => self.watches.register(table, &sent.path, watcher),
                (Err(e), Table::Exists) if e.is(ErrorCode::NoNode) => {
                    self.watches.register(Table::Exists, &sent.path, watcher);
                }
                _ => {}
            }
        }
        let expired = result == Err(Error::Server(ErrorCode::SessionExpired.code()));
        let closed = sent.opcode == OpCode::CloseSession && result.is_ok();
        let _ = sent.reply.send(if expired { Err(Error::SessionExpired) } else { result });
        match (expired, closed) {
            (true, _) => Some(End::Over(Error::SessionExpired)),
            (_, true) => Some(End::Over(Error::Closed)),
            _ => None,
        }
    }
}

fn watched_path(request: &Request) -> String {
    match request {
        Request::Exists(r) => r.path.as_str().to_owned(),
        Request::GetData(r) => r.path.as_str().to_owned(),
        Request::GetChildren(r) => r.path.as_str().to_owned(),
        Request::GetChildren2(r) => r.path.as_str().to_owned(),
        _ => String::new(),
    }
}
