//! Requests that are answered from this server's own state: reads, pings and everything about watches.
//!
//! Called with the machine's lock held (for reading by a connection's task, for writing by the apply thread when a read
//! had waited behind a write), so the zxid in the reply is the one of the state that was read, and no event of a later
//! change can slip in between a read and its watch.

use super::connection::{Connection, State};
use bytes::BufMut as _;
use jute::{
    AddWatchMode, ClientInfo, ErrorCode, Jute as _, MultiHeader, OpCode, ReadOp, Request, SetWatches2, Stat,
    WatcherType, put_buffer, put_string,
};
use znode::{Children, Identities, Machine, WatchTables};

/// zxid of events that `setWatches` makes up.
const SYNTHESIZED: i64 = -1;

/// Whether the request touches the watch tables.
pub(super) fn needs_watches(request: &Request) -> bool {
    match request {
        Request::Exists(r) => r.watch,
        Request::GetData(r) => r.watch,
        Request::GetChildren(r) => r.watch,
        Request::GetChildren2(r) => r.watch,
        Request::AddWatch(_)
        | Request::CheckWatches(_)
        | Request::RemoveWatches(_)
        | Request::SetWatches(_)
        | Request::SetWatches2(_) => true,
        _ => false,
    }
}

/// Answers `request`. `watches` must be given if [`needs_watches`].
pub(super) fn run(
    machine: &Machine,
    watches: Option<&mut WatchTables>,
    connection: &Connection,
    state: &mut State,
    xid: i32,
    request: &Request,
) {
    let reader = Reader { machine, connection, xid, zxid: machine.last_zxid() };
    match request {
        Request::GetData(r) => reader.data(state, watches.filter(|_| r.watch), &r.path),
        Request::Exists(r) => reader.exists(state, watches.filter(|_| r.watch), &r.path),
        Request::GetChildren(r) => reader.children(state, watches.filter(|_| r.watch), &r.path, false),
        Request::GetChildren2(r) => reader.children(state, watches.filter(|_| r.watch), &r.path, true),
        Request::GetAcl(r) => match machine.acl(&r.path, &state.identities) {
            Ok((acl, stat)) => reader.ok(state, |out| {
                acl.encode(out);
                stat.encode(out);
            }),
            Err(code) => reader.fail(state, code),
        },
        Request::Ping => reader.ok(state, |_| ()),
        Request::GetAllChildrenNumber(r) => match machine.all_children_number(&r.path, &state.identities) {
            Ok(total) => reader.ok(state, |out| out.put_i32(total)),
            Err(code) => reader.fail(state, code),
        },
        Request::GetEphemerals(r) => reader.ephemerals(state, &r.prefix),
        Request::WhoAmI => reader.who_am_i(state),
        Request::MultiRead(ops) => reader.multi(state, ops),
        _ => reader.watch_request(state, watches, request),
    }
}

struct Reader<'a> {
    machine: &'a Machine,
    connection: &'a Connection,
    xid: i32,
    zxid: i64,
}

impl Reader<'_> {
    fn ok(&self, state: &mut State, body: impl FnOnce(&mut Vec<u8>)) {
        state.reply(self.xid, self.zxid, ErrorCode::Ok, body);
    }

    fn fail(&self, state: &mut State, code: ErrorCode) {
        state.reply(self.xid, self.zxid, code, |_| ());
    }

    fn data(&self, state: &mut State, watches: Option<&mut WatchTables>, path: &str) {
        match self.machine.data(path, &state.identities) {
            Ok((data, stat)) => {
                self.ok(state, |out| put_data(out, data, &stat));
                if let Some(watches) = watches {
                    watches.watch_data(self.connection.id, path);
                }
            }
            Err(code) => self.fail(state, code),
        }
    }

    fn exists(&self, state: &mut State, watches: Option<&mut WatchTables>, path: &str) {
        let found = self.machine.exists(path, &state.identities);
        // The watch stays for a node that is missing, not for one that may not be read.
        if let Some(watches) = watches
            && matches!(found, Ok(_) | Err(ErrorCode::NoNode))
        {
            watches.watch_data(self.connection.id, path);
        }
        match found {
            Ok(stat) => self.ok(state, |out| stat.encode(out)),
            Err(code) => self.fail(state, code),
        }
    }

    fn children(&self, state: &mut State, watches: Option<&mut WatchTables>, path: &str, with_stat: bool) {
        match self.machine.children(path, &state.identities) {
            Ok(children) => {
                self.ok(state, |out| {
                    put_children(out, &children);
                    if with_stat {
                        children.stat.encode(out);
                    }
                });
                if let Some(watches) = watches {
                    watches.watch_children(self.connection.id, path);
                }
            }
            Err(code) => self.fail(state, code),
        }
    }

    fn ephemerals(&self, state: &mut State, prefix: &str) {
        let session = self.connection.session().unwrap_or_default();
        let paths: Vec<&str> = self.machine.ephemerals(session, prefix).collect();
        self.ok(state, |out| {
            out.put_i32(wire_count(paths.len()));
            paths.iter().for_each(|path| put_string(out, path));
        });
    }

    fn who_am_i(&self, state: &mut State) {
        let clients: Vec<ClientInfo> =
            state.identities.iter().map(|(scheme, id)| client(scheme, id)).collect();
        self.ok(state, |out| clients.encode(out));
    }

    /// Each read has its own result or error; none of them leaves a watch.
    fn multi(&self, state: &mut State, ops: &[ReadOp]) {
        let identities = state.identities.clone();
        self.ok(state, |out| {
            for op in ops {
                self.multi_part(out, op, &identities);
            }
            MultiHeader::END.encode(out);
        });
    }

    fn multi_part(&self, out: &mut Vec<u8>, op: &ReadOp, identities: &Identities) {
        let header = |out: &mut Vec<u8>, opcode: OpCode, err: ErrorCode| {
            MultiHeader { opcode: opcode.code(), done: false, err: err.code() }.encode(out);
        };
        let failed = match op {
            ReadOp::GetData(r) => match self.machine.data(&r.path, identities) {
                Ok((data, stat)) => {
                    header(out, OpCode::GetData, ErrorCode::Ok);
                    return put_data(out, data, &stat);
                }
                Err(code) => code,
            },
            ReadOp::GetChildren(r) => match self.machine.children(&r.path, identities) {
                Ok(children) => {
                    header(out, OpCode::GetChildren, ErrorCode::Ok);
                    return put_children(out, &children);
                }
                Err(code) => code,
            },
        };
        header(out, OpCode::Error, failed);
        out.put_i32(failed.code());
    }

    fn watch_request(&self, state: &mut State, watches: Option<&mut WatchTables>, request: &Request) {
        let Some(watches) = watches else { return self.fail(state, ErrorCode::MarshallingError) };
        let id = self.connection.id;
        let found = match request {
            Request::AddWatch(r) => match AddWatchMode::from_code(r.mode) {
                Some(mode) => {
                    watches.add(id, &r.path, mode);
                    // Four bytes of body, or the Java client fails to decode the reply.
                    return self.ok(state, |out| out.put_i32(0));
                }
                None => return self.fail(state, ErrorCode::MarshallingError),
            },
            Request::SetWatches(r) => {
                let all = SetWatches2 {
                    relative_zxid: r.relative_zxid,
                    data: r.data.clone(),
                    exists: r.exists.clone(),
                    child: r.child.clone(),
                    ..SetWatches2::default()
                };
                return self.set_watches(state, watches, &all);
            }
            Request::SetWatches2(r) => return self.set_watches(state, watches, r),
            Request::CheckWatches(r) => {
                WatcherType::from_code(r.kind).map(|kind| watches.has(id, &r.path, kind))
            }
            Request::RemoveWatches(r) => {
                WatcherType::from_code(r.kind).map(|kind| watches.remove(id, &r.path, kind))
            }
            _ => None,
        };
        match found {
            Some(true) => self.ok(state, |_| ()),
            Some(false) => self.fail(state, ErrorCode::NoWatcher),
            None => self.fail(state, ErrorCode::MarshallingError),
        }
    }

    // requirement: S18
    fn set_watches(&self, state: &mut State, watches: &mut WatchTables, all: &SetWatches2) {
        let id = self.connection.id;
        watches.set_watches(
            id,
            all,
            |path| self.machine.stat(path),
            |kind, path| state.event(SYNTHESIZED, kind, path),
        );
        self.ok(state, |_| ());
    }
}

fn put_data(out: &mut Vec<u8>, data: Option<&[u8]>, stat: &Stat) {
    put_buffer(out, data);
    stat.encode(out);
}

fn put_children(out: &mut Vec<u8>, children: &Children<'_>) {
    out.put_i32(wire_count(children.len()));
    children.names().for_each(|name| put_string(out, name));
}

fn wire_count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// One identity as `whoAmI` shows it: no hash, nothing of schemes that are not known to be harmless.
fn client(scheme: &str, id: &str) -> ClientInfo {
    let user = match scheme {
        "digest" => id.split(':').next().unwrap_or_default(),
        "ip" => id,
        _ => "",
    };
    ClientInfo { auth_scheme: scheme.into(), user: user.into() }
}
