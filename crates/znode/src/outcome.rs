//! What `apply` hands back: the outcome for the server that took the request, the changes for the watch tables.
//!
//! ```text
//!  Applied ─┬─ origin == mine? ─► outcome ─► Reply::encode into the connection's buffer
//!           └─ changes ─────────► WatchTables::fire, before any reply
//! ```
//!
//! Every replica computes all of it; replies are only encoded where somebody waits for them.

use crate::acl::AclRef;
use crate::command::{Origin, ServerId, Settings};
use bytes::BufMut;
use jute::{ErrorCode, Jute as _, MultiHeader, OpCode, Stat, put_string};
use std::sync::Arc;

/// What one committed command did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The command's zxid: every command takes one, also one that failed or was void.
    pub zxid: i64,
    /// Its index.
    pub index: u64,
    /// Where it came from, if from a stream.
    pub origin: Option<Origin>,
    /// What became of it.
    pub outcome: Outcome,
    /// What changed in the tree, in order.
    pub changes: Vec<Change>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was not executed.
    Voided(Void),
    /// A stream begins; its number is the command's index.
    StreamOpened {
        /// Whose.
        server: ServerId,
        /// As in the command.
        nonce: u64,
    },
    /// A session exists now.
    SessionOpened {
        /// Its id.
        session: i64,
        /// Its timeout.
        timeout_ms: i32,
        /// Number of its first attachment: the command's index.
        attachment: u64,
    },
    /// A session has a new attachment.
    Attached {
        /// Its id.
        session: i64,
        /// The timeout it was opened with.
        timeout_ms: i32,
        /// The attachment's number: the command's index.
        attachment: u64,
    },
    /// A session and its ephemeral nodes are gone, on its own request or because it expired. Close its connection.
    SessionClosed {
        /// Its id.
        session: i64,
        /// Whether the leader expired it.
        expired: bool,
    },
    /// Executed.
    Done(Reply),
    /// Executed, and refused: the state did not change. `SessionExpired`: the session is not there (any more).
    /// `SessionMoved`: the operation was fenced by a newer attachment; close the connection without an answer.
    Failed(ErrorCode),
    /// The settings changed.
    Configured(Settings),
}

/// Why a command was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Void {
    /// The bytes are no command that this version knows.
    Malformed,
    /// The server has opened a later stream, or none of that number.
    OtherStream,
    /// It was executed before.
    Repeated,
    /// Requests before it are missing. The server sends again from number `expected`.
    Gap {
        /// The next number of the stream.
        expected: u64,
    },
    /// A decision of a reign that is over.
    EndedReign,
}

/// The body of a successful reply, ready to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing behind the header: delete, reaping, new members.
    Empty,
    /// create.
    Created {
        /// With the sequence number.
        path: Arc<str>,
    },
    /// create2, createContainer, createTTL.
    Created2 {
        /// With the sequence number.
        path: Arc<str>,
        /// The new node's.
        stat: Stat,
    },
    /// setData, setACL.
    Stat(Stat),
    /// A multi all of whose operations succeeded.
    Multi(Vec<OpReply>),
    /// A multi that was rolled back. The reply header's `err` is 0 all the same.
    MultiFailed {
        /// Number of operations.
        count: u32,
        /// Position of the one that failed, from 0.
        failed: u32,
        /// Why.
        code: ErrorCode,
    },
}

/// Result of one operation of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpReply {
    /// create.
    Created {
        /// With the sequence number.
        path: Arc<str>,
    },
    /// create2, createContainer, createTTL.
    Created2 {
        /// With the sequence number.
        path: Arc<str>,
        /// The new node's.
        stat: Stat,
    },
    /// delete.
    Deleted,
    /// setData.
    Stat(Stat),
    /// check.
    Checked,
}

impl Reply {
    /// Appends the body.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Empty => {}
            Self::Created { path } => put_string(out, path),
            Self::Created2 { path, stat } => {
                put_string(out, path);
                stat.encode(out);
            }
            Self::Stat(stat) => stat.encode(out),
            Self::Multi(results) => {
                for result in results {
                    result.encode(out);
                }
                MultiHeader::END.encode(out);
            }
            Self::MultiFailed { count, failed, code } => {
                for at in 0..*count {
                    let err = match at.cmp(failed) {
                        std::cmp::Ordering::Less => ErrorCode::Ok,
                        std::cmp::Ordering::Equal => *code,
                        std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency,
                    };
                    header(OpCode::Error, err.code()).encode(out);
                    out.put_i32(err.code());
                }
                MultiHeader::END.encode(out);
            }
        }
    }
}

impl OpReply {
    fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Created { path } => {
                header(OpCode::Create, 0).encode(out);
                put_string(out, path);
            }
            Self::Created2 { path, stat } => {
                header(OpCode::Create2, 0).encode(out);
                put_string(out, path);
                stat.encode(out);
            }
            Self::Deleted => header(OpCode::Delete, 0).encode(out),
            Self::Stat(stat) => {
                header(OpCode::SetData, 0).encode(out);
                stat.encode(out);
            }
            Self::Checked => header(OpCode::Check, 0).encode(out),
        }
    }
}

const fn header(opcode: OpCode, err: i32) -> MultiHeader {
    MultiHeader { opcode: opcode.code(), done: false, err }
}

/// A change of one node, as the watch tables need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened to it.
    pub kind: ChangeKind,
    /// Its path.
    pub path: Arc<str>,
    /// Its ACL (at its deletion: the last one). Who may not READ gets no event.
    pub acl: AclRef,
    /// The parent's ACL, for the parent's ChildrenChanged event. Open where there is no such event.
    pub parent_acl: AclRef,
}

/// What happened to a node. Created and Deleted mean ChildrenChanged for its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its data was set.
    DataChanged,
}
