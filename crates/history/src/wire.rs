//! Between the words of a history and the bytes of ZooKeeper's protocol: for whoever records one as a client.
//!
//! ```text
//!  Op ──request──► Request ──► server ──► reply ──outcome──► Outcome
//! ```

use crate::{CreateMode, EventKind, Op, Outcome, Reply, Stat, WatchMode};
use jute::{
    Acl, AddWatchMode, AddWatchRequest, CheckVersionRequest, CreateRequest, DeleteRequest, EventType,
    ExistsRequest, GetChildren2Request, GetDataRequest, JStr, MultiOp, OpCode, OpResult, Reader, ReplyHeader,
    Request, Response, SetDataRequest, SetWatches, SetWatches2, SyncRequest,
};

fn create(path: &str, data: &str, mode: CreateMode) -> CreateRequest {
    let flags = match mode {
        CreateMode::Persistent => jute::CreateMode::Persistent,
        CreateMode::Ephemeral => jute::CreateMode::Ephemeral,
        CreateMode::PersistentSequential => jute::CreateMode::PersistentSequential,
        CreateMode::EphemeralSequential => jute::CreateMode::EphemeralSequential,
    };
    CreateRequest {
        path: path.into(),
        data: Some(data.to_owned().into()),
        acl: vec![Acl::open()],
        flags: flags.code(),
    }
}

/// One operation of a multi; reads and multis have no place in one.
fn part(op: &Op) -> Option<MultiOp> {
    Some(match op {
        Op::Create { path, data, mode } => MultiOp::Create2(create(path, data, *mode)),
        Op::Delete { path, version } => {
            MultiOp::Delete(DeleteRequest { path: path.as_str().into(), version: *version })
        }
        Op::Set { path, data, version } => {
            let request = SetDataRequest {
                path: path.as_str().into(),
                data: Some(data.clone().into()),
                version: *version,
            };
            MultiOp::SetData(request)
        }
        Op::Check { path, version } => {
            MultiOp::Check(CheckVersionRequest { path: path.as_str().into(), version: *version })
        }
        _ => return None,
    })
}

fn paths(of: &[String]) -> Vec<JStr> {
    of.iter().map(|p| p.as_str().into()).collect()
}

/// The request that asks for `op`; `None` for one that cannot stand alone.
///
/// As ZooKeeper's own client has it, watches are set again with the older request while none is persistent.
#[must_use]
pub fn request(op: &Op) -> Option<Request> {
    Some(match op {
        Op::Create { path, data, mode } => Request::Create2(create(path, data, *mode)),
        Op::Delete { path, version } => {
            Request::Delete(DeleteRequest { path: path.as_str().into(), version: *version })
        }
        Op::Set { path, data, version } => Request::SetData(SetDataRequest {
            path: path.as_str().into(),
            data: Some(data.clone().into()),
            version: *version,
        }),
        Op::Check { .. } => return None,
        Op::Get { path, watch } => {
            Request::GetData(GetDataRequest { path: path.as_str().into(), watch: *watch })
        }
        Op::Exists { path, watch } => {
            Request::Exists(ExistsRequest { path: path.as_str().into(), watch: *watch })
        }
        Op::Children { path, watch } => {
            Request::GetChildren2(GetChildren2Request { path: path.as_str().into(), watch: *watch })
        }
        Op::Sync { path } => Request::Sync(SyncRequest { path: path.as_str().into() }),
        Op::Multi { ops } => Request::Multi(ops.iter().map(part).collect::<Option<_>>()?),
        Op::AddWatch { path, mode } => {
            let mode = match mode {
                WatchMode::Persistent => AddWatchMode::Persistent,
                WatchMode::Recursive => AddWatchMode::PersistentRecursive,
            };
            Request::AddWatch(AddWatchRequest { path: path.as_str().into(), mode: mode.code() })
        }
        Op::SetWatches { relative, data, exist, child, persistent, recursive } => {
            let (relative_zxid, data, exists, child) = (*relative, paths(data), paths(exist), paths(child));
            if persistent.is_empty() && recursive.is_empty() {
                Request::SetWatches(SetWatches { relative_zxid, data, exists, child })
            } else {
                let (persistent, recursive) = (paths(persistent), paths(recursive));
                Request::SetWatches2(SetWatches2 {
                    relative_zxid,
                    data,
                    exists,
                    child,
                    persistent,
                    recursive,
                })
            }
        }
        Op::Close => Request::CloseSession,
    })
}

fn stat(of: &jute::Stat) -> Stat {
    Stat {
        czxid: of.czxid,
        mzxid: of.mzxid,
        ctime: of.ctime,
        mtime: of.mtime,
        version: of.version,
        cversion: of.cversion,
        aversion: of.aversion,
        ephemeral_owner: of.ephemeral_owner,
        data_length: of.data_length,
        num_children: of.num_children,
        pzxid: of.pzxid,
    }
}

fn result(of: &OpResult) -> Outcome {
    Outcome::Ok(match of {
        OpResult::Error(code) => return Outcome::Error(*code),
        OpResult::Create(r) => Reply::Created { path: r.path.as_str().to_owned(), stat: None },
        OpResult::Create2(r) => {
            Reply::Created { path: r.path.as_str().to_owned(), stat: Some(stat(&r.stat)) }
        }
        OpResult::SetData(r) => Reply::Stat(stat(&r.stat)),
        OpResult::Delete | OpResult::Check | OpResult::GetChildren(_) | OpResult::GetData(_) => {
            Reply::Nothing
        }
    })
}

fn text(data: Option<&[u8]>) -> String {
    String::from_utf8_lossy(data.unwrap_or_default()).into_owned()
}

/// What the reply under `header` to a request of `opcode` says; `None` if it cannot be read.
#[must_use]
pub fn outcome(header: &ReplyHeader, opcode: OpCode, body: &mut Reader<'_>) -> Option<Outcome> {
    if header.err != 0 {
        return Some(Outcome::Error(header.err));
    }
    Some(match Response::decode(opcode, body).ok()? {
        // addWatch answers with a code of its own.
        Response::AddWatch(r) if r.err != 0 => Outcome::Error(r.err),
        response => Outcome::Ok(reply(&response)?),
    })
}

/// The history's word for an event of this code; `None` for those that histories do not hold.
#[must_use]
pub fn event(kind: i32) -> Option<EventKind> {
    match EventType::from_code(kind)? {
        EventType::NodeCreated => Some(EventKind::Created),
        EventType::NodeDeleted => Some(EventKind::Deleted),
        EventType::NodeDataChanged => Some(EventKind::DataChanged),
        EventType::NodeChildrenChanged => Some(EventKind::ChildrenChanged),
        _ => None,
    }
}

/// What a successful response says; `None`: it is none that our requests can have.
fn reply(response: &Response) -> Option<Reply> {
    Some(match response {
        Response::Empty | Response::Sync(_) | Response::AddWatch(_) => Reply::Nothing,
        Response::Create(r) => Reply::Created { path: r.path.as_str().to_owned(), stat: None },
        Response::Create2(r) => {
            Reply::Created { path: r.path.as_str().to_owned(), stat: Some(stat(&r.stat)) }
        }
        Response::Exists(r) => Reply::Stat(stat(&r.stat)),
        Response::SetData(r) => Reply::Stat(stat(&r.stat)),
        Response::GetData(r) => Reply::Data { data: text(r.data.as_deref()), stat: stat(&r.stat) },
        Response::GetChildren2(r) => {
            let names = r.children.iter().map(|c| c.as_str().to_owned()).collect();
            Reply::Children { names, stat: stat(&r.stat) }
        }
        Response::Multi(results) => Reply::Multi(results.iter().map(result).collect()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use jute::{CreateResponse, ErrorResponse, Jute};

    #[test]
    fn every_operation_has_its_request() {
        let path = || "/a".to_owned();
        let set = Op::Set { path: path(), data: "v".into(), version: 3 };
        let Some(Request::SetData(r)) = request(&set) else { panic!("not a setData") };
        assert_eq!((r.path.as_str(), r.data.as_deref(), r.version), ("/a", Some(&b"v"[..]), 3));
        let check = Op::Check { path: path(), version: 1 };
        assert!(request(&check).is_none(), "check stands in multis only");
        let Some(Request::Multi(ops)) = request(&Op::Multi { ops: vec![check, set] }) else { panic!() };
        assert!(matches!(ops[..], [MultiOp::Check(_), MultiOp::SetData(_)]));
        assert!(request(&Op::Multi { ops: vec![Op::Get { path: path(), watch: false }] }).is_none());
        let watches = |persistent: Vec<String>| Op::SetWatches {
            relative: 7,
            data: vec![path()],
            exist: vec![],
            child: vec![],
            persistent,
            recursive: vec![],
        };
        assert!(matches!(request(&watches(vec![])), Some(Request::SetWatches(r)) if r.relative_zxid == 7));
        assert!(matches!(request(&watches(vec![path()])), Some(Request::SetWatches2(_))));
    }

    #[test]
    fn a_failed_multi_keeps_the_code_of_each_part() {
        let results = vec![OpResult::Error(0), OpResult::Error(-101)];
        let Some(Reply::Multi(outcomes)) = reply(&Response::Multi(results)) else { panic!() };
        assert_eq!(outcomes, [Outcome::Error(0), Outcome::Error(-101)]);
        let created = Response::Create(CreateResponse { path: "/a0000000001".into() });
        assert_eq!(reply(&created), Some(Reply::Created { path: "/a0000000001".into(), stat: None }));
    }

    #[test]
    fn an_error_is_read_from_the_header_or_from_the_answer_to_add_watch() {
        let header = |err| ReplyHeader { xid: 1, zxid: 1, err };
        assert_eq!(
            outcome(&header(-101), OpCode::GetData, &mut Reader::new(&Bytes::new())),
            Some(Outcome::Error(-101))
        );
        let body = ErrorResponse { err: -4 }.to_bytes();
        let outcome = |opcode| outcome(&header(0), opcode, &mut Reader::new(&body));
        assert_eq!(outcome(OpCode::AddWatch), Some(Outcome::Error(-4)));
        assert_eq!(outcome(OpCode::GetData), None, "cut off");
    }
}
