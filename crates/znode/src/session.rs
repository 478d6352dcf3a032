//! Sessions and streams: who may act, and which request is next.
//!
//! ```text
//!  stream of server S:   OpenStream @ index 40 ─► number 40, last 0
//!                        Request (S, 40, 1) runs, (S, 40, 2) runs, (S, 40, 2) void, (S, 40, 4) void, (S, 31, 9) void
//!
//!  session:  OpenSession @ 50 ─► attachment 50 ── Attach @ 70 ─► attachment 70: operations that carry 50 are fenced
//! ```
//!
//! Invariants: a stream's `last` rises by one per executed request and never otherwise; a session's attachment only
//! rises. 16 bytes per server, nothing per request: the server that took a request answers it from its own `apply`.
//! Source: contract point 11.

use crate::command::{Origin, PASSWORD_BYTES, ServerId};
use crate::cow::CowMap;
use crate::digest::mix;
use crate::mutant::mutant;
use crate::outcome::Void;
use std::collections::BTreeMap;

/// A session, as every replica knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// As negotiated when it was opened.
    pub timeout_ms: i32,
    /// What a client must show to attach again.
    pub password: [u8; PASSWORD_BYTES],
    /// Index of the command that opened it or attached it last. Operations with another one are fenced.
    pub attachment: u64,
}

/// A server's stream of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Its number: index of the command that opened it.
    pub number: u64,
    /// Number of the last request that was executed, 0 before the first.
    pub last: u64,
}

/// The latest stream of each server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams(BTreeMap<ServerId, Stream>);

impl Streams {
    pub(crate) fn open(&mut self, server: ServerId, number: u64) {
        self.0.insert(server, Stream { number, last: 0 });
    }

    pub(crate) fn get(&self, server: ServerId) -> Option<Stream> {
        self.0.get(&server).copied()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (ServerId, Stream)> {
        self.0.iter().map(|(server, stream)| (*server, *stream))
    }

    pub(crate) fn restore(&mut self, server: ServerId, stream: Stream) {
        self.0.insert(server, stream);
    }

    /// Whether the request is the next one; if so it counts as executed from now on.
    ///
    /// Schedule 6, why xids cannot serve:
    /// 1. Session s pipelines a (slot 7), b (slot 8) through S1 to L1. L1 dies; slot 8 was accepted, 7 by nobody.
    /// 2. L2 fills 7 with a no-op and adopts 8. S1 sends a again. The log says b, a: session order is broken.
    /// 3. Here b has number n + 1 with n missing before it: void. S1 sees its own request void over a gap and sends
    ///    a, b again; each runs exactly once, in order, however often it was sent.
    pub(crate) fn take(&mut self, origin: Origin) -> Result<(), Void> {
        let stream = self.0.get_mut(&origin.server).filter(|stream| stream.number == origin.stream);
        let stream = stream.ok_or(Void::OtherStream)?;
        let expected = stream.last + 1;
        match origin.number.cmp(&expected) {
            std::cmp::Ordering::Less if mutant!(RepeatExecuted) => Ok(()),
            std::cmp::Ordering::Less => Err(Void::Repeated),
            std::cmp::Ordering::Greater if mutant!(GapExecuted) => {
                stream.last = origin.number;
                Ok(())
            }
            std::cmp::Ordering::Greater => Err(Void::Gap { expected }),
            std::cmp::Ordering::Equal => {
                stream.last = expected;
                Ok(())
            }
        }
    }
}

/// All sessions, with a digest that changes with them.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    all: CowMap<Session>,
    digest: u64,
}

fn digest_of(id: i64, session: &Session) -> u64 {
    mix(mix(id as u64 ^ session.attachment.rotate_left(32)) ^ session.timeout_ms as u64)
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { all: CowMap::new(), digest: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Session> {
        self.all.get(id)
    }

    /// In no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Session)> {
        self.all.iter()
    }

    pub(crate) fn sorted(&self) -> Vec<(i64, &Session)> {
        self.all.sorted()
    }

    /// Adds or replaces one.
    pub(crate) fn put(&mut self, id: i64, session: Session) {
        self.remove(id);
        self.digest = self.digest.wrapping_add(digest_of(id, &session));
        self.all.insert(id, session);
    }

    pub(crate) fn remove(&mut self, id: i64) -> bool {
        let Some(session) = self.all.remove(id) else { return false };
        self.digest = self.digest.wrapping_sub(digest_of(id, &session));
        true
    }

    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }
}
