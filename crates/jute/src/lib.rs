//! ZooKeeper's client wire protocol: records, headers, framing, numbers. It knows nothing of servers.
//!
//! Everything is big-endian, without tags and padding: a record is its fields in order, a buffer or string is an
//! `i32` length and its bytes (−1 is null), a vector an `i32` count and its elements (−1 is null, read as empty).
//! Every message is an `i32` length and that many bytes:
//!
//! ```text
//!  connect   │ ConnectRequest                      ◄─► ConnectResponse            (no header)
//!  steady    │ RequestHeader  + request record     ◄─► ReplyHeader + response     (same xid)
//!  events    │                                     ◄── ReplyHeader{xid −1} + WatcherEvent
//! ```
//!
//! Invariants:
//! * Decoding never panics and never allocates for a length or a count that the remaining bytes cannot hold.
//! * Decoded buffers and strings are slices of the received [`bytes::Bytes`]; encoding writes straight into the
//!   caller's buffer.
//! * `decode(encode(x)) == x` for every record.

mod codec;
mod connect;
mod error;
mod frame;
mod multi;
mod ops;
mod record;
mod request;
mod response;
mod text;

pub use codec::{DecodeError, Jute, Reader, put_buffer, put_string};
pub use connect::{
    ConnectRequest, ConnectResponse, MultiHeader, PASSWORD_BYTES, ReplyHeader, RequestHeader, xid,
};
pub use error::ErrorCode;
pub use frame::{
    Buffer, DEFAULT_MAX_FRAME, FrameError, FrameMark, Frames, begin_frame, end_frame, put_frame, put_request,
    split_frames,
};
pub use multi::{
    MultiOp, OpResult, ReadOp, decode_multi, decode_multi_read, encode_multi, encode_multi_read,
};
pub use ops::{AddWatchMode, CreateMode, EventType, KeeperState, OpCode, Perms, WatcherType};
pub use record::{Acl, ClientInfo, Id, Stat};
pub use request::{
    AddWatchRequest, AuthPacket, CheckVersionRequest, CheckWatchesRequest, CreateRequest, CreateTtlRequest,
    DeleteRequest, ExistsRequest, GetAclRequest, GetAllChildrenNumberRequest, GetChildren2Request,
    GetChildrenRequest, GetDataRequest, GetEphemeralsRequest, ReconfigRequest, RemoveWatchesRequest, Request,
    RequestError, SaslRequest, SetAclRequest, SetDataRequest, SetWatches, SetWatches2, SyncRequest,
};
pub use response::{
    Create2Response, CreateResponse, ErrorResponse, ExistsResponse, GetAclResponse,
    GetAllChildrenNumberResponse, GetChildren2Response, GetChildrenResponse, GetDataResponse,
    GetEphemeralsResponse, Response, SaslResponse, SetAclResponse, SetDataResponse, SyncResponse,
    WatcherEvent, WhoAmIResponse,
};
pub use text::JStr;

#[cfg(test)]
mod tests;
