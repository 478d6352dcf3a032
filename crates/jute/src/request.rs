//! Request records, and [`Request`]: any of them, as decoded by its opcode.

use crate::codec::record;
use crate::multi::{MultiOp, ReadOp, decode_multi, decode_multi_read, encode_multi, encode_multi_read};
use crate::{Acl, DecodeError, ErrorCode, JStr, Jute, OpCode, Reader};
use bytes::{BufMut, Bytes};

record! {
    /// create, create2, createContainer.
    CreateRequest {
        /// Full path (before the sequence number).
        path: JStr,
        /// Data; null is not empty.
        data: Option<Bytes>,
        /// ACL; a null one reads as empty.
        acl: Vec<Acl>,
        /// Number of a [`crate::CreateMode`].
        flags: i32,
    }

    /// createTTL.
    CreateTtlRequest {
        /// Full path (before the sequence number).
        path: JStr,
        /// Data; null is not empty.
        data: Option<Bytes>,
        /// ACL.
        acl: Vec<Acl>,
        /// Number of a [`crate::CreateMode`].
        flags: i32,
        /// Time to live in ms.
        ttl_ms: i64,
    }

    /// delete.
    DeleteRequest {
        /// Path.
        path: JStr,
        /// Expected version, −1 for any.
        version: i32,
    }

    /// exists.
    ExistsRequest {
        /// Path.
        path: JStr,
        /// Whether to leave a watch.
        watch: bool,
    }

    /// getData.
    GetDataRequest {
        /// Path.
        path: JStr,
        /// Whether to leave a watch.
        watch: bool,
    }

    /// setData.
    SetDataRequest {
        /// Path.
        path: JStr,
        /// New data; null is not empty.
        data: Option<Bytes>,
        /// Expected version, −1 for any.
        version: i32,
    }

    /// getACL.
    GetAclRequest {
        /// Path.
        path: JStr,
    }

    /// setACL.
    SetAclRequest {
        /// Path.
        path: JStr,
        /// New ACL.
        acl: Vec<Acl>,
        /// Expected ACL version, −1 for any.
        version: i32,
    }

    /// getChildren.
    GetChildrenRequest {
        /// Path.
        path: JStr,
        /// Whether to leave a watch.
        watch: bool,
    }

    /// getChildren2.
    GetChildren2Request {
        /// Path.
        path: JStr,
        /// Whether to leave a watch.
        watch: bool,
    }

    /// sync.
    SyncRequest {
        /// Echoed.
        path: JStr,
    }

    /// check, inside a multi.
    CheckVersionRequest {
        /// Path.
        path: JStr,
        /// Expected version, −1 for any.
        version: i32,
    }

    /// reconfig.
    ReconfigRequest {
        /// Members to add or to change.
        joining: JStr,
        /// Ids to remove.
        leaving: JStr,
        /// The whole new membership, instead of the two above.
        new_members: JStr,
        /// Version of the configuration to change, −1 for any.
        config_version: i64,
    }

    /// setWatches.
    SetWatches {
        /// Last zxid that the client saw: later changes fire at once.
        relative_zxid: i64,
        /// Paths of data watches.
        data: Vec<JStr>,
        /// Paths of exists watches.
        exists: Vec<JStr>,
        /// Paths of child watches.
        child: Vec<JStr>,
    }

    /// setWatches2.
    SetWatches2 {
        /// Last zxid that the client saw: later changes fire at once.
        relative_zxid: i64,
        /// Paths of data watches.
        data: Vec<JStr>,
        /// Paths of exists watches.
        exists: Vec<JStr>,
        /// Paths of child watches.
        child: Vec<JStr>,
        /// Paths of persistent watches.
        persistent: Vec<JStr>,
        /// Paths of persistent recursive watches.
        recursive: Vec<JStr>,
    }

    /// addWatch.
    AddWatchRequest {
        /// Path.
        path: JStr,
        /// Number of a [`crate::AddWatchMode`].
        mode: i32,
    }

    /// checkWatches.
    CheckWatchesRequest {
        /// Path.
        path: JStr,
        /// Number of a [`crate::WatcherType`].
        kind: i32,
    }

    /// removeWatches.
    RemoveWatchesRequest {
        /// Path.
        path: JStr,
        /// Number of a [`crate::WatcherType`].
        kind: i32,
    }

    /// auth.
    AuthPacket {
        /// 0.
        kind: i32,
        /// `digest`, …
        scheme: JStr,
        /// `user:password`, …
        auth: Option<Bytes>,
    }

    /// sasl.
    SaslRequest {
        /// The mechanism's token.
        token: Option<Bytes>,
    }

    /// getEphemerals.
    GetEphemeralsRequest {
        /// Plain string prefix; empty lists all.
        prefix: JStr,
    }

    /// getAllChildrenNumber.
    GetAllChildrenNumberRequest {
        /// Path.
        path: JStr,
    }
}

/// Why a request cannot be carried out, before anything looked at the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// An opcode that nobody, or no client, may send: answer −6 and close.
    #[error("opcode {0} is not for clients")]
    Unimplemented(i32),
    /// The body is not the opcode's record: answer −5.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
}

impl RequestError {
    /// The code to answer with.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Unimplemented(_) => ErrorCode::Unimplemented,
            Self::Undecodable(_) => ErrorCode::MarshallingError,
        }
    }
}

/// Defines [`Request`] and its mapping to opcodes.
macro_rules! requests {
    ($($(#[$meta:meta])* $name:ident $(($body:ty))?,)*) => {
        /// Any request that a client may send, decoded.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Request {
            $($(#[$meta])* $name $(($body))?,)*
            /// Several writes as one.
            Multi(Vec<MultiOp>),
            /// Several reads in one.
            MultiRead(Vec<ReadOp>),
        }

        impl Request {
            /// Decodes the body of a request with this opcode.
            ///
            /// # Errors
            /// The client's fault; see [`RequestError::code`].
            pub fn decode(opcode: i32, body: &Bytes) -> Result<Self, RequestError> {
                Self::decode_from(opcode, &mut Reader::new(body))
            }

            /// The same from a reader that stands behind the header.
            ///
            /// # Errors
            /// The client's fault; see [`RequestError::code`].
            pub fn decode_from(opcode: i32, from: &mut Reader<'_>) -> Result<Self, RequestError> {
                match OpCode::from_code(opcode) {
                    $(Some(OpCode::$name) => Ok(requests!(@decode from $name $($body)?)),)*
                    Some(OpCode::Multi) => Ok(Self::Multi(decode_multi(from)?)),
                    Some(OpCode::MultiRead) => Ok(Self::MultiRead(decode_multi_read(from)?)),
                    // spec-deviates: ZooKeeper takes createSession (−10) and deleteContainer (20) from clients and
                    // checks no ACL for the latter; check (13) is for multis only.
                    _ => Err(RequestError::Unimplemented(opcode)),
                }
            }

            /// Its opcode.
            #[must_use]
            pub const fn opcode(&self) -> OpCode {
                match self {
                    $(Self::$name { .. } => OpCode::$name,)*
                    Self::Multi(_) => OpCode::Multi,
                    Self::MultiRead(_) => OpCode::MultiRead,
                }
            }

            /// Appends the body (without a header).
            pub fn encode(&self, out: &mut impl BufMut) {
                match self {
                    $(requests!(@pattern body $name $($body)?) => requests!(@encode out body $($body)?),)*
                    Self::Multi(ops) => encode_multi(ops, out),
                    Self::MultiRead(ops) => encode_multi_read(ops, out),
                }
            }
        }
    };
    (@decode $from:ident $name:ident $body:ty) => { Self::$name(<$body>::decode($from)?) };
    (@decode $from:ident $name:ident) => { Self::$name };
    (@pattern $bind:ident $name:ident $body:ty) => { Self::$name($bind) };
    (@pattern $bind:ident $name:ident) => { Self::$name };
    (@encode $out:ident $bind:ident $body:ty) => { $bind.encode($out) };
    (@encode $out:ident $bind:ident) => { () };
}

requests! {
    /// Create a node; answers with the path.
    Create(CreateRequest),
    /// Create a node; answers with path and stat.
    Create2(CreateRequest),
    /// Create a container.
    CreateContainer(CreateRequest),
    /// Create a node with a time to live.
    CreateTtl(CreateTtlRequest),
    /// Delete a node.
    Delete(DeleteRequest),
    /// Stat of a node.
    Exists(ExistsRequest),
    /// Data and stat.
    GetData(GetDataRequest),
    /// Replace the data.
    SetData(SetDataRequest),
    /// ACL and stat.
    GetAcl(GetAclRequest),
    /// Replace the ACL.
    SetAcl(SetAclRequest),
    /// Names of the children.
    GetChildren(GetChildrenRequest),
    /// Names of the children and stat.
    GetChildren2(GetChildren2Request),
    /// Wait until this server has applied what was committed.
    Sync(SyncRequest),
    /// Heartbeat.
    Ping,
    /// Change the membership.
    Reconfig(ReconfigRequest),
    /// Whether a watch is registered.
    CheckWatches(CheckWatchesRequest),
    /// Remove a watch.
    RemoveWatches(RemoveWatchesRequest),
    /// Add an identity.
    Auth(AuthPacket),
    /// Register one-shot watches again.
    SetWatches(SetWatches),
    /// SASL token.
    Sasl(SaslRequest),
    /// Paths owned by this session.
    GetEphemerals(GetEphemeralsRequest),
    /// Number of descendants.
    GetAllChildrenNumber(GetAllChildrenNumberRequest),
    /// Register watches of all modes again.
    SetWatches2(SetWatches2),
    /// Register a persistent watch.
    AddWatch(AddWatchRequest),
    /// Identities of the connection.
    WhoAmI,
    /// Close the session.
    CloseSession,
}
