//! Between the history's words and the client protocol's bytes.

use history::{CreateMode, EventKind, Op, Outcome, Reply, Stat, WatchMode};
use jute::{
    Acl, AddWatchRequest, CheckVersionRequest, CreateRequest, DeleteRequest, EventType, ExistsRequest,
    GetChildren2Request, GetDataRequest, JStr, Jute, MultiOp, OpCode, OpResult, Reader, Request,
    RequestHeader, Response, SetDataRequest, SetWatches2, SyncRequest, begin_frame, end_frame,
};

/// Appends one request as a frame.
pub(crate) fn put(out: &mut Vec<u8>, xid: i32, request: &Request) {
    let mark = begin_frame(out);
    RequestHeader { xid, opcode: request.opcode().code() }.encode(out);
    request.encode(out);
    end_frame(out, mark);
}

/// The request that asks for `op`. A check stands only within a multi: alone it is asked as one.
pub(crate) fn request(op: &Op) -> Request {
    let js = |text: &str| JStr::from(text);
    match op {
        Op::Create { path, data, mode } => Request::Create2(create(path, data, *mode)),
        Op::Delete { path, version } => Request::Delete(DeleteRequest { path: js(path), version: *version }),
        Op::Set { path, data, version } => Request::SetData(SetDataRequest {
            path: js(path),
            data: Some(data.clone().into()),
            version: *version,
        }),
        Op::Get { path, watch } => Request::GetData(GetDataRequest { path: js(path), watch: *watch }),
        Op::Exists { path, watch } => Request::Exists(ExistsRequest { path: js(path), watch: *watch }),
        Op::Children { path, watch } => {
            Request::GetChildren2(GetChildren2Request { path: js(path), watch: *watch })
        }
        Op::Sync { path } => Request::Sync(SyncRequest { path: js(path) }),
        Op::Check { .. } => Request::Multi(part(op).into_iter().collect()),
        Op::Multi { ops } => Request::Multi(ops.iter().filter_map(part).collect()),
        Op::AddWatch { path, mode } => {
            let mode = match mode {
                WatchMode::Persistent => jute::AddWatchMode::Persistent,
                WatchMode::Recursive => jute::AddWatchMode::PersistentRecursive,
            };
            Request::AddWatch(AddWatchRequest { path: js(path), mode: mode.code() })
        }
        Op::SetWatches { relative, data, exist, child, persistent, recursive } => {
            let all = |paths: &[String]| paths.iter().map(|p| js(p)).collect();
            Request::SetWatches2(SetWatches2 {
                relative_zxid: *relative,
                data: all(data),
                exists: all(exist),
                child: all(child),
                persistent: all(persistent),
                recursive: all(recursive),
            })
        }
        Op::Close => Request::CloseSession,
    }
}

fn create(path: &str, data: &str, mode: CreateMode) -> CreateRequest {
    let mode = match mode {
        CreateMode::Persistent => jute::CreateMode::Persistent,
        CreateMode::Ephemeral => jute::CreateMode::Ephemeral,
        CreateMode::PersistentSequential => jute::CreateMode::PersistentSequential,
        CreateMode::EphemeralSequential => jute::CreateMode::EphemeralSequential,
    };
    let data = Some(data.to_owned().into());
    CreateRequest { path: JStr::from(path), data, acl: vec![Acl::open()], flags: mode.code() }
}

fn part(op: &Op) -> Option<MultiOp> {
    Some(match op {
        Op::Create { path, data, mode } => MultiOp::Create2(create(path, data, *mode)),
        Op::Delete { path, version } => {
            MultiOp::Delete(DeleteRequest { path: JStr::from(path.as_str()), version: *version })
        }
        Op::Set { path, data, version } => MultiOp::SetData(SetDataRequest {
            path: JStr::from(path.as_str()),
            data: Some(data.clone().into()),
            version: *version,
        }),
        Op::Check { path, version } => {
            MultiOp::Check(CheckVersionRequest { path: JStr::from(path.as_str()), version: *version })
        }
        _ => return None,
    })
}

/// What a reply with error 0 says; `None` if it cannot be read.
pub(crate) fn reply(opcode: OpCode, from: &mut Reader<'_>) -> Option<Reply> {
    Some(match Response::decode(opcode, from).ok()? {
        Response::Create(r) => Reply::Created { path: r.path.as_str().to_owned(), stat: None },
        Response::Create2(r) => {
            Reply::Created { path: r.path.as_str().to_owned(), stat: Some(stat(&r.stat)) }
        }
        Response::Exists(r) => Reply::Stat(stat(&r.stat)),
        Response::SetData(r) => Reply::Stat(stat(&r.stat)),
        Response::GetData(r) => Reply::Data { data: text(r.data.as_deref()), stat: stat(&r.stat) },
        Response::GetChildren2(r) => Reply::Children {
            names: r.children.iter().map(|n| n.as_str().to_owned()).collect(),
            stat: stat(&r.stat),
        },
        Response::Multi(results) => Reply::Multi(results.into_iter().map(result).collect()),
        _ => Reply::Nothing,
    })
}

fn result(of: OpResult) -> Outcome {
    Outcome::Ok(match of {
        OpResult::Create(r) => Reply::Created { path: r.path.as_str().to_owned(), stat: None },
        OpResult::Create2(r) => {
            Reply::Created { path: r.path.as_str().to_owned(), stat: Some(stat(&r.stat)) }
        }
        OpResult::SetData(r) => Reply::Stat(stat(&r.stat)),
        OpResult::Error(code) => return Outcome::Error(code),
        _ => Reply::Nothing,
    })
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
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

/// The history's word for an event.
pub(crate) fn event(kind: i32) -> Option<EventKind> {
    match EventType::from_code(kind)? {
        EventType::NodeCreated => Some(EventKind::Created),
        EventType::NodeDeleted => Some(EventKind::Deleted),
        EventType::NodeDataChanged => Some(EventKind::DataChanged),
        EventType::NodeChildrenChanged => Some(EventKind::ChildrenChanged),
        _ => None,
    }
}
