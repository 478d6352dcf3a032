//! What a client makes of what it hears: the welcome, answers, events, the loss of its connection.
//!
//! ```text
//!  bytes ─► frames ─┬─ first of a connection ─► welcome: session, or expired
//!                   ├─ xid −1 ─► event: recorded, its watch is disarmed
//!                   ├─ xid −2 ─► pong
//!                   └─ else ──► answer to the oldest call: recorded, learned from
//! ```

use super::{CHILD, DATA, EXIST, MAX_FRAME, MS, PAUSE_NS, PERSISTENT, RECURSIVE, State};
use crate::world::{Simulated, World};
use bytes::Bytes;
use history::{EventKind, Op, Outcome, Reply, WatchMode, What, wire};
use jute::{ConnectResponse, ErrorCode, Jute as _, Reader, ReplyHeader, WatcherEvent, split_frames, xid};
use std::collections::BTreeSet;

impl<P: Simulated> World<'_, P> {
    pub(super) fn hear(&mut self, c: usize, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        let client = &mut self.clients[c];
        client.heard_at = self.now;
        client.input.extend_from_slice(bytes);
        let Ok(frames) = split_frames(&mut client.input, MAX_FRAME) else {
            return self.violate("wire", format!("client {}: a frame that is none", self.clients[c].id));
        };
        let conn = self.clients[c].conn;
        for frame in frames {
            if self.clients[c].conn != conn {
                return;
            }
            match self.clients[c].state {
                State::Connecting(_) => self.welcome(c, &frame),
                _ => self.take_reply(c, &frame),
            }
        }
        if self.clients[c].state == State::Steady {
            self.ask(c);
        }
        self.look_later(c);
    }

    fn welcome(&mut self, c: usize, frame: &Bytes) {
        let Ok(response) = ConnectResponse::from_bytes(frame) else {
            return self.violate("wire", format!("client {}: no connect response", self.clients[c].id));
        };
        let client = &mut self.clients[c];
        if response.timeout_ms <= 0 {
            let session = client.session;
            client.forget_session();
            if session != 0 {
                self.record(c, What::Expired { session });
            }
            return self.lost(c);
        }
        let resumed = client.session == response.session;
        let (seen, server) = (client.last_zxid, client.server);
        client.session = response.session;
        client.password = response.password;
        client.timeout = u64::from(response.timeout_ms.unsigned_abs()) * MS;
        (client.state, client.sent_at, client.next_op) = (State::Steady, self.now, self.now);
        client.pings.clear();
        let (session, timeout_ms) = (response.session, client.timeout / MS);
        let server = self.hosts[server].id.0;
        self.record(c, What::Connected { session, server, timeout_ms, resumed, seen });
        let paths = |t: &BTreeSet<String>| t.iter().cloned().collect::<Vec<_>>();
        let client = &self.clients[c];
        if client.tables.iter().any(|t| !t.is_empty()) {
            let op = Op::SetWatches {
                relative: seen,
                data: paths(&client.tables[DATA]),
                exist: paths(&client.tables[EXIST]),
                child: paths(&client.tables[CHILD]),
                persistent: paths(&client.tables[PERSISTENT]),
                recursive: paths(&client.tables[RECURSIVE]),
            };
            let mut out = Vec::new();
            self.invoke(c, op, &mut out);
            self.say(c, out);
        }
    }

    /// The connection has ended, or was never made.
    pub(super) fn lost(&mut self, c: usize) {
        let was = self.clients[c].state;
        for sent in std::mem::take(&mut self.clients[c].sent) {
            self.figures.unknown += 1;
            self.clients[c].wishes.answered(&sent.op, None);
            self.record(c, What::Unknown { call: sent.call });
        }
        if was == State::Steady {
            self.record(c, What::Disconnected);
        } else if matches!(was, State::Connecting(_)) {
            let (server, seen) = (self.hosts[self.clients[c].server].id.0, self.clients[c].last_zxid);
            self.record(c, What::Refused { server, seen });
        }
        let pause = self.rng.below(PAUSE_NS);
        let client = &mut self.clients[c];
        client.conn = 0;
        client.state = State::Pausing(self.now + 1 + pause);
        self.look_later(c);
    }

    fn take_reply(&mut self, c: usize, frame: &Bytes) {
        let mut reader = Reader::new(frame);
        let Ok(header) = ReplyHeader::decode(&mut reader) else {
            return self.violate("wire", format!("client {}: a reply without a header", self.clients[c].id));
        };
        match header.xid {
            xid::PING => {
                let session = self.clients[c].session;
                let sent = self.clients[c].pings.pop_front().unwrap_or(self.now);
                self.record(c, What::Ping { session, sent_us: sent / 1000 });
                let timeout = self.clients[c].timeout;
                if let Some(over) = self.ended.since(session).filter(|over| sent > over + timeout) {
                    let (server, ms) = (self.hosts[self.clients[c].server].id, (sent - over) / MS);
                    let text = format!(
                        "{server} answers a ping of session {session:#x}, {ms} ms after it was ended"
                    );
                    self.violate("C7", text);
                }
            }
            xid::NOTIFICATION => {
                let Ok(event) = WatcherEvent::decode(&mut reader) else { return };
                let Some(kind) = wire::event(event.kind) else { return };
                let path = event.path.as_str().to_owned();
                self.disarm(c, kind, &path);
                let session = self.clients[c].session;
                self.record(c, What::Watch { session, zxid: header.zxid, kind, path });
            }
            _ => self.take_answer(c, header, &mut reader),
        }
    }

    fn take_answer(&mut self, c: usize, header: ReplyHeader, reader: &mut Reader<'_>) {
        let client = &mut self.clients[c];
        let Some(sent) = client.sent.pop_front().filter(|s| s.xid == header.xid) else {
            let text = format!("client {}: a reply to {}, out of order", client.id, header.xid);
            return self.violate("C3 order of replies", text);
        };
        if header.zxid > 0 {
            client.last_zxid = client.last_zxid.max(header.zxid);
        }
        let Some(outcome) = wire::outcome(&header, sent.opcode, reader) else {
            let text = format!("client {}: an unreadable reply to {:?}", client.id, sent.op);
            return self.violate("wire", text);
        };
        self.learn(c, &sent.op, &outcome);
        let over = outcome == Outcome::Error(ErrorCode::SessionExpired.code());
        let closed = sent.op == Op::Close && matches!(outcome, Outcome::Ok(_));
        self.record(c, What::Return { call: sent.call, zxid: header.zxid, outcome });
        if over || closed {
            let session = self.clients[c].session;
            if over {
                self.record(c, What::Expired { session });
            }
            self.hang_up(c);
            self.lost(c);
            self.clients[c].forget_session();
        }
    }

    /// What an answer teaches: watches that are armed now, versions, acknowledged writes.
    fn learn(&mut self, c: usize, op: &Op, outcome: &Outcome) {
        let no_node = *outcome == Outcome::Error(ErrorCode::NoNode.code());
        let client = &mut self.clients[c];
        match (op, outcome) {
            (Op::Exists { path, watch: true }, _) if no_node => {
                client.tables[EXIST].insert(path.clone());
            }
            (Op::Exists { path, watch: true } | Op::Get { path, watch: true }, Outcome::Ok(_)) => {
                client.tables[DATA].insert(path.clone());
            }
            (Op::Children { path, watch: true }, Outcome::Ok(_)) => {
                client.tables[CHILD].insert(path.clone());
            }
            (Op::AddWatch { path, mode }, Outcome::Ok(_)) => {
                let table = if *mode == WatchMode::Persistent { PERSISTENT } else { RECURSIVE };
                let other = PERSISTENT + RECURSIVE - table;
                client.tables[other].remove(path);
                client.tables[table].insert(path.clone());
            }
            _ => {}
        }
        client.wishes.answered(op, Some(outcome));
        if let (true, Op::Children { path, .. }, Outcome::Ok(Reply::Children { names, .. })) =
            (client.pinned.is_some(), op, outcome)
        {
            self.read_children(c, path, names);
        }
        let write = matches!(
            op,
            Op::Create { .. } | Op::Delete { .. } | Op::Set { .. } | Op::Multi { .. } | Op::Check { .. }
        );
        if write && matches!(outcome, Outcome::Ok(_)) {
            self.acked(c);
        }
    }

    fn disarm(&mut self, c: usize, kind: EventKind, path: &str) {
        let tables: &[usize] = match kind {
            EventKind::Created | EventKind::DataChanged => &[DATA, EXIST],
            EventKind::ChildrenChanged => &[CHILD],
            EventKind::Deleted => &[DATA, EXIST, CHILD],
        };
        for &table in tables {
            self.clients[c].tables[table].remove(path);
        }
    }
}
