//! The two messages without a header, and the headers of all others.

use crate::codec::{put_buffer, record};
use crate::{DecodeError, Jute, Reader};
use bytes::{BufMut, Bytes};

/// Length of a session's password.
pub const PASSWORD_BYTES: usize = 16;

/// Numbers that are no client's own request number.
pub mod xid {
    /// A watch event.
    pub const NOTIFICATION: i32 = -1;
    /// A ping.
    pub const PING: i32 = -2;
    /// An authentication packet.
    pub const AUTH: i32 = -4;
    /// `setWatches` of the C client after a reconnect. The Java client uses an ordinary number: key on the opcode.
    pub const SET_WATCHES: i32 = -8;
}

/// First message of a client: opens a session, or continues one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectRequest {
    /// 0.
    pub protocol_version: i32,
    /// Highest zxid that the client has seen; 0 for a new client.
    pub last_zxid_seen: i64,
    /// Wished session timeout in ms.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session: i64,
    /// The session's password: 16 bytes; zeros, empty or null for a new session.
    pub password: Option<Bytes>,
    /// Whether a read-only server will do. `None`: the client (before 3.4) does not send the byte, and must not get it.
    pub read_only: Option<bool>,
}

impl Jute for ConnectRequest {
    const MIN_BYTES: usize = 28;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_i32(self.protocol_version);
        out.put_i64(self.last_zxid_seen);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session);
        put_buffer(out, self.password.as_deref());
        if let Some(read_only) = self.read_only {
            read_only.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol_version: i32::decode(from)?,
            last_zxid_seen: i64::decode(from)?,
            timeout_ms: i32::decode(from)?,
            session: i64::decode(from)?,
            password: from.buffer()?,
            read_only: if from.remaining() == 0 { None } else { Some(bool::decode(from)?) },
        })
    }
}

/// The answer to [`ConnectRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectResponse {
    /// 0.
    pub protocol_version: i32,
    /// Negotiated session timeout in ms; 0: the session is invalid or expired, and the server hangs up.
    pub timeout_ms: i32,
    /// The session, 0 when refused.
    pub session: i64,
    /// Its password, zeros when refused.
    pub password: [u8; PASSWORD_BYTES],
    /// Whether the server is read-only. Sent only to clients that sent theirs.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// "Your session is invalid or expired."
    #[must_use]
    pub fn refusal(read_only: Option<bool>) -> Self {
        Self { read_only: read_only.map(|_| false), ..Self::default() }
    }
}

impl Jute for ConnectResponse {
    const MIN_BYTES: usize = 20;

    fn encode(&self, out: &mut impl BufMut) {
        out.put_i32(self.protocol_version);
        out.put_i32(self.timeout_ms);
        out.put_i64(self.session);
        put_buffer(out, Some(&self.password));
        if let Some(read_only) = self.read_only {
            read_only.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let protocol_version = i32::decode(from)?;
        let timeout_ms = i32::decode(from)?;
        let session = i64::decode(from)?;
        let bytes = from.buffer()?.unwrap_or_default();
        // Shorter or absent passwords of foreign servers count as zeros behind what they sent.
        let mut password = [0; PASSWORD_BYTES];
        for (to, from) in password.iter_mut().zip(&bytes) {
            *to = *from;
        }
        let read_only = if from.remaining() == 0 { None } else { Some(bool::decode(from)?) };
        Ok(Self { protocol_version, timeout_ms, session, password, read_only })
    }
}

record! {
    /// What precedes every request.
    RequestHeader {
        /// The client's number for it; echoed. See [`xid`].
        xid: i32,
        /// Number of a [`crate::OpCode`].
        opcode: i32,
    }

    /// What precedes every reply and event.
    ReplyHeader {
        /// The request's number, or [`xid::NOTIFICATION`].
        xid: i32,
        /// The zxid of the write, the last applied one for reads, 0 for authentication.
        zxid: i64,
        /// Number of an [`crate::ErrorCode`].
        err: i32,
    }

    /// What precedes each part of a multi, and ends it.
    MultiHeader {
        /// Number of an [`crate::OpCode`]; −1 at the end and for error results.
        opcode: i32,
        /// Whether this is the end.
        done: bool,
        /// −1 in requests and at the end, 0 in results, the code in error results.
        err: i32,
    }
}

impl MultiHeader {
    /// The end of a multi.
    pub const END: Self = Self { opcode: -1, done: true, err: -1 };
}
