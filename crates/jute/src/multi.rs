//! multi and multiRead: a list of `MultiHeader` + record, ended by a header that says so.
//!
//! A failed multi has `err` 0 in its reply header and an error result for *every* operation: 0 before the failing one
//! (rolled back), its own code, and −2 after it (not attempted). In a multiRead each read has its own result.

use crate::{
    CheckVersionRequest, Create2Response, CreateMode, CreateRequest, CreateResponse, CreateTtlRequest,
    DecodeError, DeleteRequest, ErrorCode, ErrorResponse, GetChildrenRequest, GetChildrenResponse,
    GetDataRequest, GetDataResponse, Jute, MultiHeader, OpCode, Reader, SetDataRequest, SetDataResponse,
};
use bytes::BufMut;

/// An operation of a multi.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MultiOp {
    /// Create a node; the result is the path.
    Create(CreateRequest),
    /// Create a node; the result is path and stat.
    Create2(CreateRequest),
    /// Create a container.
    CreateContainer(CreateRequest),
    /// Create a node with a time to live.
    CreateTtl(CreateTtlRequest),
    /// Delete a node.
    Delete(DeleteRequest),
    /// Replace the data.
    SetData(SetDataRequest),
    /// Require a version.
    Check(CheckVersionRequest),
}

/// An operation of a multiRead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReadOp {
    /// Names of the children. The watch flag is ignored.
    GetChildren(GetChildrenRequest),
    /// Data and stat. The watch flag is ignored.
    GetData(GetDataRequest),
}

/// The result of one operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OpResult {
    /// Of create.
    Create(CreateResponse),
    /// Of create2, createContainer and createTTL.
    Create2(Create2Response),
    /// Of delete.
    Delete,
    /// Of setData.
    SetData(SetDataResponse),
    /// Of check.
    Check,
    /// Of getChildren.
    GetChildren(GetChildrenResponse),
    /// Of getData.
    GetData(GetDataResponse),
    /// A failure; 0 and −2 stand for rolled back and not attempted.
    Error(i32),
}

impl MultiOp {
    /// Its opcode.
    #[must_use]
    pub const fn opcode(&self) -> OpCode {
        match self {
            Self::Create(_) => OpCode::Create,
            Self::Create2(_) => OpCode::Create2,
            Self::CreateContainer(_) => OpCode::CreateContainer,
            Self::CreateTtl(_) => OpCode::CreateTtl,
            Self::Delete(_) => OpCode::Delete,
            Self::SetData(_) => OpCode::SetData,
            Self::Check(_) => OpCode::Check,
        }
    }
}

/// Reads up to the end marker, giving each operation's opcode and the reader to `op`.
fn decode_list<T>(
    from: &mut Reader<'_>,
    mut op: impl FnMut(i32, &mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut all = Vec::new();
    loop {
        let header = MultiHeader::decode(from)?;
        if header.done {
            return Ok(all);
        }
        all.push(op(header.opcode, from)?);
    }
}

fn checked(flags: i32) -> Result<(), DecodeError> {
    match CreateMode::from_code(flags) {
        Some(_) => Ok(()),
        // Outside of a multi this is BadArguments; inside, ZooKeeper cannot decode the request.
        None => Err(DecodeError::Value("create flags", flags)),
    }
}

/// Decodes the body of a multi.
///
/// # Errors
/// A part that is not a write, or not decodable.
pub fn decode_multi(from: &mut Reader<'_>) -> Result<Vec<MultiOp>, DecodeError> {
    decode_list(from, |opcode, from| {
        let create = |from: &mut Reader<'_>| {
            let request = CreateRequest::decode(from)?;
            checked(request.flags)?;
            Ok(request)
        };
        match OpCode::from_code(opcode) {
            Some(OpCode::Create) => Ok(MultiOp::Create(create(from)?)),
            Some(OpCode::Create2) => Ok(MultiOp::Create2(create(from)?)),
            Some(OpCode::CreateContainer) => Ok(MultiOp::CreateContainer(create(from)?)),
            Some(OpCode::CreateTtl) => {
                let request = CreateTtlRequest::decode(from)?;
                checked(request.flags)?;
                Ok(MultiOp::CreateTtl(request))
            }
            Some(OpCode::Delete) => Ok(MultiOp::Delete(DeleteRequest::decode(from)?)),
            Some(OpCode::SetData) => Ok(MultiOp::SetData(SetDataRequest::decode(from)?)),
            Some(OpCode::Check) => Ok(MultiOp::Check(CheckVersionRequest::decode(from)?)),
            _ => Err(DecodeError::Value("operation of a multi", opcode)),
        }
    })
}

/// Decodes the body of a multiRead.
///
/// # Errors
/// A part that is not getData or getChildren, or not decodable.
pub fn decode_multi_read(from: &mut Reader<'_>) -> Result<Vec<ReadOp>, DecodeError> {
    decode_list(from, |opcode, from| match OpCode::from_code(opcode) {
        Some(OpCode::GetChildren) => Ok(ReadOp::GetChildren(GetChildrenRequest::decode(from)?)),
        Some(OpCode::GetData) => Ok(ReadOp::GetData(GetDataRequest::decode(from)?)),
        _ => Err(DecodeError::Value("operation of a multiRead", opcode)),
    })
}

/// Appends the body of a multi.
pub fn encode_multi(ops: &[MultiOp], out: &mut impl BufMut) {
    for op in ops {
        MultiHeader { opcode: op.opcode().code(), done: false, err: -1 }.encode(out);
        match op {
            MultiOp::Create(r) | MultiOp::Create2(r) | MultiOp::CreateContainer(r) => r.encode(out),
            MultiOp::CreateTtl(r) => r.encode(out),
            MultiOp::Delete(r) => r.encode(out),
            MultiOp::SetData(r) => r.encode(out),
            MultiOp::Check(r) => r.encode(out),
        }
    }
    MultiHeader::END.encode(out);
}

/// Appends the body of a multiRead.
pub fn encode_multi_read(ops: &[ReadOp], out: &mut impl BufMut) {
    for op in ops {
        let opcode = match op {
            ReadOp::GetChildren(_) => OpCode::GetChildren,
            ReadOp::GetData(_) => OpCode::GetData,
        };
        MultiHeader { opcode: opcode.code(), done: false, err: -1 }.encode(out);
        match op {
            ReadOp::GetChildren(r) => r.encode(out),
            ReadOp::GetData(r) => r.encode(out),
        }
    }
    MultiHeader::END.encode(out);
}

impl OpResult {
    /// The results of a multi of `count` operations whose operation `failed` failed with `why`.
    #[must_use]
    pub fn failed_multi(count: usize, failed: usize, why: ErrorCode) -> Vec<Self> {
        let code = |at: usize| match at.cmp(&failed) {
            std::cmp::Ordering::Less => ErrorCode::Ok,
            std::cmp::Ordering::Equal => why,
            std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency,
        };
        (0..count).map(|at| Self::Error(code(at).code())).collect()
    }

    /// Appends this result; a list of them is ended by [`MultiHeader::END`].
    pub fn encode(&self, out: &mut impl BufMut) {
        let (opcode, err) = match self {
            Self::Create(_) => (OpCode::Create, 0),
            Self::Create2(_) => (OpCode::Create2, 0),
            Self::Delete => (OpCode::Delete, 0),
            Self::SetData(_) => (OpCode::SetData, 0),
            Self::Check => (OpCode::Check, 0),
            Self::GetChildren(_) => (OpCode::GetChildren, 0),
            Self::GetData(_) => (OpCode::GetData, 0),
            Self::Error(err) => (OpCode::Error, *err),
        };
        MultiHeader { opcode: opcode.code(), done: false, err }.encode(out);
        match self {
            Self::Create(r) => r.encode(out),
            Self::Create2(r) => r.encode(out),
            Self::Delete | Self::Check => {}
            Self::SetData(r) => r.encode(out),
            Self::GetChildren(r) => r.encode(out),
            Self::GetData(r) => r.encode(out),
            Self::Error(err) => ErrorResponse { err: *err }.encode(out),
        }
    }

    /// Appends all results and the end.
    pub fn encode_all(results: &[Self], out: &mut impl BufMut) {
        for result in results {
            result.encode(out);
        }
        MultiHeader::END.encode(out);
    }

    /// Decodes results up to the end.
    ///
    /// # Errors
    /// The server's fault.
    pub fn decode_all(from: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        decode_list(from, |opcode, from| match OpCode::from_code(opcode) {
            Some(OpCode::Create) => Ok(Self::Create(Jute::decode(from)?)),
            Some(OpCode::Create2) => Ok(Self::Create2(Jute::decode(from)?)),
            Some(OpCode::Delete) => Ok(Self::Delete),
            Some(OpCode::SetData) => Ok(Self::SetData(Jute::decode(from)?)),
            Some(OpCode::Check) => Ok(Self::Check),
            Some(OpCode::GetChildren) => Ok(Self::GetChildren(Jute::decode(from)?)),
            Some(OpCode::GetData) => Ok(Self::GetData(Jute::decode(from)?)),
            Some(OpCode::Error) => Ok(Self::Error(ErrorResponse::decode(from)?.err)),
            _ => Err(DecodeError::Value("result of a multi", opcode)),
        })
    }
}
