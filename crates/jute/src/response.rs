//! Response records, the event record, and [`Response`]: any of them, as decoded by its request's opcode.

use crate::codec::record;
use crate::multi::OpResult;
use crate::{Acl, ClientInfo, DecodeError, JStr, Jute, OpCode, Reader, Stat};
use bytes::{BufMut, Bytes};

record! {
    /// Of create.
    CreateResponse {
        /// The path with its sequence number.
        path: JStr,
    }

    /// Of create2, createContainer, createTTL.
    Create2Response {
        /// The path with its sequence number.
        path: JStr,
        /// The new node.
        stat: Stat,
    }

    /// Of exists.
    ExistsResponse {
        /// The node.
        stat: Stat,
    }

    /// Of getData.
    GetDataResponse {
        /// Data; null is not empty.
        data: Option<Bytes>,
        /// The node.
        stat: Stat,
    }

    /// Of setData.
    SetDataResponse {
        /// The node.
        stat: Stat,
    }

    /// Of getACL.
    GetAclResponse {
        /// The ACL.
        acl: Vec<Acl>,
        /// The node.
        stat: Stat,
    }

    /// Of setACL.
    SetAclResponse {
        /// The node.
        stat: Stat,
    }

    /// Of getChildren.
    GetChildrenResponse {
        /// Names without a slash, in no order.
        children: Vec<JStr>,
    }

    /// Of getChildren2.
    GetChildren2Response {
        /// Names without a slash, in no order.
        children: Vec<JStr>,
        /// The node.
        stat: Stat,
    }

    /// Of sync.
    SyncResponse {
        /// The request's path.
        path: JStr,
    }

    /// Of addWatch (0), and inside multis.
    ErrorResponse {
        /// Number of an [`crate::ErrorCode`].
        err: i32,
    }

    /// Of getEphemerals.
    GetEphemeralsResponse {
        /// Paths.
        paths: Vec<JStr>,
    }

    /// Of getAllChildrenNumber.
    GetAllChildrenNumberResponse {
        /// Number of descendants.
        total: i32,
    }

    /// Of whoAmI.
    WhoAmIResponse {
        /// One entry per identity.
        clients: Vec<ClientInfo>,
    }

    /// Of sasl.
    SaslResponse {
        /// The mechanism's token.
        token: Option<Bytes>,
    }

    /// A watch event.
    WatcherEvent {
        /// Number of a [`crate::EventType`].
        kind: i32,
        /// Number of a [`crate::KeeperState`]; 3 from servers.
        state: i32,
        /// The changed node.
        path: JStr,
    }
}

/// The body of a successful reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Response {
    /// Nothing behind the header.
    Empty,
    /// Of create.
    Create(CreateResponse),
    /// Of create2, createContainer, createTTL.
    Create2(Create2Response),
    /// Of exists.
    Exists(ExistsResponse),
    /// Of getData and reconfig.
    GetData(GetDataResponse),
    /// Of setData.
    SetData(SetDataResponse),
    /// Of getACL.
    GetAcl(GetAclResponse),
    /// Of setACL.
    SetAcl(SetAclResponse),
    /// Of getChildren.
    GetChildren(GetChildrenResponse),
    /// Of getChildren2.
    GetChildren2(GetChildren2Response),
    /// Of sync.
    Sync(SyncResponse),
    /// Of multi and multiRead.
    Multi(Vec<OpResult>),
    /// Of addWatch.
    AddWatch(ErrorResponse),
    /// Of getEphemerals.
    GetEphemerals(GetEphemeralsResponse),
    /// Of getAllChildrenNumber.
    GetAllChildrenNumber(GetAllChildrenNumberResponse),
    /// Of whoAmI.
    WhoAmI(WhoAmIResponse),
    /// Of sasl.
    Sasl(SaslResponse),
}

impl Response {
    /// Decodes the body of a reply with `err` 0 to a request with this opcode.
    ///
    /// # Errors
    /// The server's fault.
    pub fn decode(opcode: OpCode, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match opcode {
            OpCode::Create => Self::Create(Jute::decode(from)?),
            OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Self::Create2(Jute::decode(from)?)
            }
            OpCode::Exists => Self::Exists(Jute::decode(from)?),
            OpCode::GetData | OpCode::Reconfig => Self::GetData(Jute::decode(from)?),
            OpCode::SetData => Self::SetData(Jute::decode(from)?),
            OpCode::GetAcl => Self::GetAcl(Jute::decode(from)?),
            OpCode::SetAcl => Self::SetAcl(Jute::decode(from)?),
            OpCode::GetChildren => Self::GetChildren(Jute::decode(from)?),
            OpCode::GetChildren2 => Self::GetChildren2(Jute::decode(from)?),
            OpCode::Sync => Self::Sync(Jute::decode(from)?),
            OpCode::Multi | OpCode::MultiRead => Self::Multi(OpResult::decode_all(from)?),
            OpCode::AddWatch => Self::AddWatch(Jute::decode(from)?),
            OpCode::GetEphemerals => Self::GetEphemerals(Jute::decode(from)?),
            OpCode::GetAllChildrenNumber => Self::GetAllChildrenNumber(Jute::decode(from)?),
            OpCode::WhoAmI => Self::WhoAmI(Jute::decode(from)?),
            OpCode::Sasl => Self::Sasl(Jute::decode(from)?),
            OpCode::Delete
            | OpCode::Ping
            | OpCode::Check
            | OpCode::CheckWatches
            | OpCode::RemoveWatches
            | OpCode::DeleteContainer
            | OpCode::Auth
            | OpCode::SetWatches
            | OpCode::SetWatches2
            | OpCode::CreateSession
            | OpCode::CloseSession
            | OpCode::Error => Self::Empty,
        })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Empty => {}
            Self::Create(r) => r.encode(out),
            Self::Create2(r) => r.encode(out),
            Self::Exists(r) => r.encode(out),
            Self::GetData(r) => r.encode(out),
            Self::SetData(r) => r.encode(out),
            Self::GetAcl(r) => r.encode(out),
            Self::SetAcl(r) => r.encode(out),
            Self::GetChildren(r) => r.encode(out),
            Self::GetChildren2(r) => r.encode(out),
            Self::Sync(r) => r.encode(out),
            Self::Multi(results) => OpResult::encode_all(results, out),
            Self::AddWatch(r) => r.encode(out),
            Self::GetEphemerals(r) => r.encode(out),
            Self::GetAllChildrenNumber(r) => r.encode(out),
            Self::WhoAmI(r) => r.encode(out),
            Self::Sasl(r) => r.encode(out),
        }
    }
}
