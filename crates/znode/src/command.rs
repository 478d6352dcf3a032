//! What the log carries: [`Command`] and its codec.
//!
//! ```text
//!  version 1 │ kind │ …
//!   0 OpenStream   server nonce
//!   1 Request      server stream number │ kind │ …
//!        0 OpenSession   session timeout_ms password
//!        1 Attach        session password
//!        2 CloseSession  session attachment
//!        3 Op            session attachment opcode │ identities (length, bytes) │ body (the rest)
//!   2 Decision     round proposer │ kind │ …
//!        0 Expire  session     1 Reap  path     2 Settings  level flags     3 Members  text
//! ```
//!
//! Small numbers are LEB128, session ids eight bytes big-endian. A command is a client's request, not its effect:
//! every replica decides for itself, from the same state, what it does (contract point 9). Decoding shares the
//! entry's memory, never panics and never allocates for a length it has not seen. A released layout is frozen: a new
//! one takes a new version, and is proposed only once the behaviour level says that everybody reads it.

use crate::acl::Identities;
use crate::zxid::Epoch;
use bytes::{Buf, BufMut, Bytes};

const VERSION: u8 = 1;

/// A server of the ensemble, as its forwarder names it.
pub type ServerId = u32;

/// Bytes of a session's password.
pub const PASSWORD_BYTES: usize = jute::PASSWORD_BYTES;

/// One entry of the log, above the consensus protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// A server's forwarder begins to number anew. The stream's number is the index of this entry.
    OpenStream {
        /// Whose.
        server: ServerId,
        /// Drawn by the opener, so that it knows its own.
        nonce: u64,
    },
    /// A request of a client (or of a server on behalf of one), executed if it is the next of its stream.
    Request {
        /// Its place.
        origin: Origin,
        /// What to do.
        request: Request,
    },
    /// Something that the leader decided by itself.
    Decision {
        /// The reign in which it was decided; void once a later one was passed.
        epoch: Epoch,
        /// What.
        decision: Decision,
    },
}

/// Where a request comes from: request `number` (1, 2, 3…) of `stream` of `server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The server that took it from the client and answers it.
    pub server: ServerId,
    /// Index of the entry that opened the stream.
    pub stream: u64,
    /// Its number in the stream, from 1.
    pub number: u64,
}

/// What a server asks for in its stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Open a session. This entry's index becomes its first attachment.
    OpenSession {
        /// Its id: not 0, top byte not 0xff (which marks TTL nodes).
        session: i64,
        /// Its timeout as negotiated.
        timeout_ms: i32,
        /// What a client must show to attach again.
        password: [u8; PASSWORD_BYTES],
    },
    /// Bind a session to another connection. This entry's index becomes the attachment's number; operations that
    /// carry an older one are fenced.
    Attach {
        /// The session.
        session: i64,
        /// As given when it was opened.
        password: [u8; PASSWORD_BYTES],
    },
    /// End a session and its ephemeral nodes.
    CloseSession {
        /// The session.
        session: i64,
        /// The attachment of the connection that asks.
        attachment: u64,
    },
    /// A client's write.
    Op {
        /// The session.
        session: i64,
        /// The attachment of the connection that asks.
        attachment: u64,
        /// Number of a [`jute::OpCode`].
        opcode: i32,
        /// Identities of the connection.
        identities: Identities,
        /// The request record as the client sent it.
        body: Bytes,
    },
}

/// What a leader decides by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// A session's time is over.
    Expire {
        /// Which.
        session: i64,
    },
    /// An empty container or a TTL node whose time is over goes. Checked again when applied.
    Reap {
        /// Which.
        path: String,
    },
    /// New settings.
    Settings(Settings),
    /// New text of `/zookeeper/config`.
    Members {
        /// The text.
        text: Bytes,
    },
}

/// What changes outcomes, and is therefore replicated state and not a local option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Behaviour level: raised when every member has announced it.
    pub level: u32,
    /// Whether TTL nodes may be created.
    pub extended_types: bool,
    /// Whether ACLs are ignored.
    pub skip_acl: bool,
}

impl Settings {
    pub(crate) const fn flags(self) -> u8 {
        self.extended_types as u8 | (self.skip_acl as u8) << 1
    }

    pub(crate) const fn from_flags(level: u32, flags: u8) -> Option<Self> {
        if flags & !0b11 != 0 {
            return None;
        }
        Some(Self { level, extended_types: flags & 1 != 0, skip_acl: flags & 2 != 0 })
    }
}

/// Bytes that are not a command of this version. Nobody's request: such an entry is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The bytes end inside a field.
    #[error("command ends inside a field")]
    Short,
    /// Written by a later version.
    #[error("command of unknown version {0}")]
    Version(u8),
    /// An unknown kind, flag, or a number or text out of its range.
    #[error("command has an invalid {0}")]
    Value(&'static str),
    /// Bytes behind the last field.
    #[error("command has bytes behind its end")]
    Long,
}

impl Command {
    /// Appends the encoding. One buffer may take many commands: split it per command and freeze the parts.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(VERSION);
        match self {
            Self::OpenStream { server, nonce } => {
                out.put_u8(0);
                put_number(out, u64::from(*server));
                out.put_u64(*nonce);
            }
            Self::Request { origin, request } => {
                out.put_u8(1);
                put_number(out, u64::from(origin.server));
                put_number(out, origin.stream);
                put_number(out, origin.number);
                request.encode(out);
            }
            Self::Decision { epoch, decision } => {
                out.put_u8(2);
                put_number(out, u64::from(epoch.round));
                put_number(out, u64::from(epoch.proposer));
                decision.encode(out);
            }
        }
    }

    /// Decodes a command; bodies and identities share the memory of `from`.
    ///
    /// # Errors
    /// The bytes are not one; see [`CommandError`].
    pub fn decode(from: &Bytes) -> Result<Self, CommandError> {
        let mut cursor = Cursor { rest: from.clone() };
        let version = cursor.byte()?;
        if version != VERSION {
            return Err(CommandError::Version(version));
        }
        let command = match cursor.byte()? {
            0 => Self::OpenStream { server: cursor.small("server")?, nonce: cursor.u64()? },
            1 => Self::Request {
                origin: Origin {
                    server: cursor.small("server")?,
                    stream: cursor.number()?,
                    number: cursor.number()?,
                },
                request: Request::decode(&mut cursor)?,
            },
            2 => Self::Decision {
                epoch: Epoch::new(cursor.small("round")?, cursor.small("proposer")?),
                decision: Decision::decode(&mut cursor)?,
            },
            _ => return Err(CommandError::Value("kind")),
        };
        if cursor.rest.is_empty() { Ok(command) } else { Err(CommandError::Long) }
    }
}

impl Request {
    fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::OpenSession { session, timeout_ms, password } => {
                out.put_u8(0);
                out.put_i64(*session);
                out.put_i32(*timeout_ms);
                out.put_slice(password);
            }
            Self::Attach { session, password } => {
                out.put_u8(1);
                out.put_i64(*session);
                out.put_slice(password);
            }
            Self::CloseSession { session, attachment } => {
                out.put_u8(2);
                out.put_i64(*session);
                put_number(out, *attachment);
            }
            Self::Op { session, attachment, opcode, identities, body } => {
                out.put_u8(3);
                out.put_i64(*session);
                put_number(out, *attachment);
                out.put_i32(*opcode);
                put_number(out, identities.encoded().len() as u64);
                out.put_slice(identities.encoded());
                out.put_slice(body);
            }
        }
    }

    fn decode(from: &mut Cursor) -> Result<Self, CommandError> {
        Ok(match from.byte()? {
            0 => Self::OpenSession {
                session: from.i64()?,
                timeout_ms: i32::from_be_bytes(from.array()?),
                password: from.array()?,
            },
            1 => Self::Attach { session: from.i64()?, password: from.array()? },
            2 => Self::CloseSession { session: from.i64()?, attachment: from.number()? },
            3 => Self::Op {
                session: from.i64()?,
                attachment: from.number()?,
                opcode: i32::from_be_bytes(from.array()?),
                identities: Identities::from_encoded(from.bytes()?),
                body: std::mem::take(&mut from.rest),
            },
            _ => return Err(CommandError::Value("kind of request")),
        })
    }
}

impl Decision {
    fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Expire { session } => {
                out.put_u8(0);
                out.put_i64(*session);
            }
            Self::Reap { path } => {
                out.put_u8(1);
                out.put_slice(path.as_bytes());
            }
            Self::Settings(settings) => {
                out.put_u8(2);
                put_number(out, u64::from(settings.level));
                out.put_u8(settings.flags());
            }
            Self::Members { text } => {
                out.put_u8(3);
                out.put_slice(text);
            }
        }
    }

    fn decode(from: &mut Cursor) -> Result<Self, CommandError> {
        Ok(match from.byte()? {
            0 => Self::Expire { session: from.i64()? },
            1 => {
                let rest = std::mem::take(&mut from.rest);
                let path = std::str::from_utf8(&rest).map_err(|_| CommandError::Value("path"))?;
                Self::Reap { path: path.to_owned() }
            }
            2 => {
                let level = from.small("level")?;
                let settings = Settings::from_flags(level, from.byte()?);
                Self::Settings(settings.ok_or(CommandError::Value("flag"))?)
            }
            3 => Self::Members { text: std::mem::take(&mut from.rest) },
            _ => return Err(CommandError::Value("kind of decision")),
        })
    }
}

pub(crate) fn put_number(out: &mut impl BufMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

struct Cursor {
    rest: Bytes,
}

impl Cursor {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CommandError> {
        let found = *self.rest.first_chunk::<N>().ok_or(CommandError::Short)?;
        self.rest.advance(N);
        Ok(found)
    }

    fn byte(&mut self) -> Result<u8, CommandError> {
        Ok(self.array::<1>()?[0])
    }

    fn u64(&mut self) -> Result<u64, CommandError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, CommandError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// LEB128, in its shortest form only: one command has one encoding.
    fn number(&mut self) -> Result<u64, CommandError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if (shift == 63 && part > 1) || (byte == 0 && shift > 0) {
                return Err(CommandError::Value("number"));
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(CommandError::Value("number"))
    }

    fn small(&mut self, what: &'static str) -> Result<u32, CommandError> {
        u32::try_from(self.number()?).map_err(|_| CommandError::Value(what))
    }

    fn bytes(&mut self) -> Result<Bytes, CommandError> {
        let len = usize::try_from(self.number()?).map_err(|_| CommandError::Short)?;
        if len > self.rest.len() {
            return Err(CommandError::Short);
        }
        Ok(self.rest.split_to(len))
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
