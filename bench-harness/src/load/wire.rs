//! What the driver asks of a protocol: to open a connection, to write requests, to find the ends of replies.
//!
//! ```text
//!  open ──hello──► opening ──opened──► ready ──request*/parse*──► …
//! ```
//!
//! Rules: replies come in the order of the requests; a protocol without that order gives each request a
//! connection of its own (etcd). A wire never blocks and never looks at a clock.

use super::frames::{self, Template};

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// Read one existing node.
    Get,
    /// Overwrite one existing node.
    Set,
    /// Create a node that does not exist.
    Create,
}

impl Op {
    /// All three, in the order in which they are measured (create last: it makes the tree grow).
    pub(crate) const ALL: [Op; 3] = [Op::Get, Op::Set, Op::Create];

    /// Lower-case name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::Set => "set",
            Op::Create => "create",
        }
    }
}

/// A complete reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    /// The answer to the oldest open request.
    Answer {
        /// Echoed number.
        xid: i32,
        /// Position that the server states, 0 or less: none.
        zxid: i64,
        /// 0: success.
        code: i32,
    },
    /// Something that answers no request (ping, event).
    Other,
}

/// What stands at the head of a connection's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not a whole reply yet.
    Incomplete,
    /// A reply.
    Reply {
        /// Bytes that it takes.
        consumed: usize,
        /// What it is.
        kind: ReplyKind,
    },
}

/// How the opening of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Waiting for more bytes.
    Wait,
    /// Ready.
    Ready {
        /// Bytes taken.
        consumed: usize,
    },
    /// The session is gone: the next attempt opens a new one.
    Expired,
}

/// One connection's protocol.
pub(crate) trait Wire {
    /// Appends what is said first.
    fn hello(&mut self, out: &mut Vec<u8>);
    /// Whether the server has to answer `hello` before requests may follow.
    fn speaks_first(&self) -> bool {
        true
    }
    /// Looks for the answer to `hello`.
    fn opened(&mut self, input: &[u8]) -> Result<Opening, String>;
    /// Appends one request on key `number`.
    fn request(&mut self, op: Op, xid: i32, number: u64, out: &mut Vec<u8>);
    /// Looks at the head of the input.
    fn parse(&mut self, input: &[u8]) -> Result<Parsed, String>;
    /// Appends a sign of life, if the protocol has one.
    fn ping(&mut self, out: &mut Vec<u8>);
    /// Appends a farewell, if the protocol has one.
    fn close(&mut self, out: &mut Vec<u8>);
}

/// ZooKeeper's client protocol.
#[derive(Debug)]
pub(crate) struct Jute {
    get: Template,
    set: Template,
    create: Template,
    session: i64,
    password: Vec<u8>,
    last_zxid: i64,
    timeout_ms: i32,
}

impl Jute {
    /// Reads and writes `{keys}{number}`, creates `{fresh}{number}`.
    pub(crate) fn new(keys: &str, fresh: &str, value: &[u8], timeout_ms: i32) -> Self {
        Self {
            get: Template::new(Op::Get, keys, value),
            set: Template::new(Op::Set, keys, value),
            create: Template::new(Op::Create, fresh, value),
            session: 0,
            password: vec![0; 16],
            last_zxid: 0,
            timeout_ms,
        }
    }
}

impl Wire for Jute {
    fn hello(&mut self, out: &mut Vec<u8>) {
        out.extend(frames::connect_frame(self.session, &self.password, self.last_zxid, self.timeout_ms));
    }

    fn opened(&mut self, input: &[u8]) -> Result<Opening, String> {
        let Some(connected) = frames::parse_connected(input)? else { return Ok(Opening::Wait) };
        if connected.timeout_ms <= 0 {
            self.session = 0;
            self.password = vec![0; 16];
            return Ok(Opening::Expired);
        }
        self.session = connected.session;
        self.password = connected.password;
        Ok(Opening::Ready { consumed: connected.consumed })
    }

    fn request(&mut self, op: Op, xid: i32, number: u64, out: &mut Vec<u8>) {
        let template = match op {
            Op::Get => &self.get,
            Op::Set => &self.set,
            Op::Create => &self.create,
        };
        template.write(xid, number, out);
    }

    fn parse(&mut self, input: &[u8]) -> Result<Parsed, String> {
        let parsed = frames::parse_reply(input)?;
        if let Parsed::Reply { kind: ReplyKind::Answer { zxid, .. }, .. } = parsed
            && zxid > 0
        {
            self.last_zxid = zxid;
        }
        Ok(parsed)
    }

    fn ping(&mut self, out: &mut Vec<u8>) {
        out.extend(frames::ping_frame());
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        out.extend(frames::close_frame());
    }
}
