//! What the tests share: a machine with one server's stream and easy words for its requests.

use crate::*;
use bytes::Bytes;
use jute::{
    Acl, CheckVersionRequest, CreateMode, CreateRequest, CreateTtlRequest, DeleteRequest, ErrorCode, Id,
    Jute, MultiOp, OpCode, Perms, SetAclRequest, SetDataRequest, Stat, encode_multi,
};

/// A machine, the stream through which the test talks to it, and one session.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) machine: Machine,
    pub(crate) epoch: Epoch,
    pub(crate) time_ms: i64,
    pub(crate) who: Identities,
    pub(crate) session: i64,
    pub(crate) last: Option<Applied>,
}

pub(crate) const SERVER: ServerId = 1;
pub(crate) const PASSWORD: [u8; 16] = *b"sixteen  bytes!!";

pub(crate) fn encoded(command: &Command) -> Bytes {
    let mut out = Vec::new();
    command.encode(&mut out);
    out.into()
}

pub(crate) fn acl(perms: i32, scheme: &str, id: &str) -> Acl {
    Acl { perms, id: Id { scheme: scheme.into(), id: id.into() } }
}

impl Bench {
    /// Session 1 is open: zxids (1, 1) and (1, 2) are used.
    pub(crate) fn new() -> Self {
        let mut bench = Self {
            machine: Machine::new(),
            epoch: Epoch::new(1, 0),
            time_ms: 1000,
            who: Identities::new([("ip", "127.0.0.1")]),
            session: 0,
            last: None,
        };
        bench.apply(&Command::OpenStream { server: SERVER, nonce: 1 });
        bench.open(1);
        bench
    }

    /// Applies a command at the next index, one ms later.
    pub(crate) fn apply(&mut self, command: &Command) -> Outcome {
        self.apply_bytes(&encoded(command))
    }

    pub(crate) fn apply_bytes(&mut self, command: &Bytes) -> Outcome {
        self.time_ms += 1;
        let at = At { epoch: self.epoch, index: self.machine.last_index() + 1, time_ms: self.time_ms };
        let applied = self.machine.apply(at, command);
        let outcome = applied.outcome.clone();
        self.last = Some(applied);
        outcome
    }

    /// The next request of the stream.
    pub(crate) fn request(&mut self, request: Request) -> Outcome {
        let stream = self.machine.stream(SERVER).unwrap();
        let origin = Origin { server: SERVER, stream: stream.number, number: stream.last + 1 };
        self.apply(&Command::Request { origin, request })
    }

    pub(crate) fn decide(&mut self, decision: Decision) -> Outcome {
        self.apply(&Command::Decision { epoch: self.epoch, decision })
    }

    pub(crate) fn open(&mut self, session: i64) {
        let outcome = self.request(Request::OpenSession { session, timeout_ms: 4000, password: PASSWORD });
        assert!(matches!(outcome, Outcome::SessionOpened { .. }), "{outcome:?}");
        self.session = session;
    }

    pub(crate) fn attachment(&self) -> u64 {
        self.machine.session(self.session).map_or(0, |session| session.attachment)
    }

    pub(crate) fn close(&mut self) -> Outcome {
        let (session, attachment) = (self.session, self.attachment());
        self.request(Request::CloseSession { session, attachment })
    }

    pub(crate) fn op_bytes(&mut self, opcode: i32, body: Bytes) -> Outcome {
        let (session, attachment, identities) = (self.session, self.attachment(), self.who.clone());
        self.request(Request::Op { session, attachment, opcode, identities, body })
    }

    pub(crate) fn op(&mut self, opcode: OpCode, body: &impl Jute) -> Result<Reply, ErrorCode> {
        match self.op_bytes(opcode.code(), body.to_bytes()) {
            Outcome::Done(reply) => Ok(reply),
            Outcome::Failed(code) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn create_with(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: Vec<Acl>,
        mode: CreateMode,
    ) -> Result<String, ErrorCode> {
        let data = data.map(Bytes::copy_from_slice);
        let request = CreateRequest { path: path.into(), data, acl, flags: mode.code() };
        match self.op(OpCode::Create, &request)? {
            Reply::Created { path } => Ok(path.to_string()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn create(&mut self, path: &str, mode: CreateMode) -> Result<String, ErrorCode> {
        self.create_with(path, Some(b"data"), vec![Acl::open()], mode)
    }

    pub(crate) fn make(&mut self, path: &str) {
        assert_eq!(self.create(path, CreateMode::Persistent).as_deref(), Ok(path));
    }

    pub(crate) fn create_ttl(&mut self, path: &str, mode: i32, ttl_ms: i64) -> Result<Stat, ErrorCode> {
        let acl = vec![Acl::open()];
        let request = CreateTtlRequest { path: path.into(), data: None, acl, flags: mode, ttl_ms };
        match self.op(OpCode::CreateTtl, &request)? {
            Reply::Created2 { stat, .. } => Ok(stat),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&mut self, path: &str, version: i32) -> Result<(), ErrorCode> {
        self.op(OpCode::Delete, &DeleteRequest { path: path.into(), version }).map(|reply| {
            assert_eq!(reply, Reply::Empty);
        })
    }

    pub(crate) fn set(&mut self, path: &str, data: &[u8], version: i32) -> Result<Stat, ErrorCode> {
        let data = Some(Bytes::copy_from_slice(data));
        match self.op(OpCode::SetData, &SetDataRequest { path: path.into(), data, version })? {
            Reply::Stat(stat) => Ok(stat),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn set_acl(&mut self, path: &str, acl: Vec<Acl>, version: i32) -> Result<Stat, ErrorCode> {
        match self.op(OpCode::SetAcl, &SetAclRequest { path: path.into(), acl, version })? {
            Reply::Stat(stat) => Ok(stat),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn multi(&mut self, ops: &[MultiOp]) -> Result<Reply, ErrorCode> {
        let mut body = Vec::new();
        encode_multi(ops, &mut body);
        match self.op_bytes(OpCode::Multi.code(), body.into()) {
            Outcome::Done(reply) => Ok(reply),
            Outcome::Failed(code) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stat(&self, path: &str) -> Stat {
        self.machine.stat(path).unwrap_or_else(|| panic!("{path} does not exist"))
    }

    pub(crate) fn zxid(&self) -> i64 {
        self.machine.last_zxid()
    }

    pub(crate) fn changes(&self) -> Vec<(ChangeKind, String)> {
        let changes = &self.last.as_ref().unwrap().changes;
        changes.iter().map(|change| (change.kind, change.path.to_string())).collect()
    }

    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.machine.write_snapshot(&mut bytes).unwrap();
        bytes
    }
}

pub(crate) fn op_create(path: &str, mode: CreateMode) -> MultiOp {
    let acl = vec![Acl { perms: Perms::ALL.0, id: Id::anyone() }];
    MultiOp::Create(CreateRequest { path: path.into(), data: None, acl, flags: mode.code() })
}

pub(crate) fn op_delete(path: &str, version: i32) -> MultiOp {
    MultiOp::Delete(DeleteRequest { path: path.into(), version })
}

pub(crate) fn op_set(path: &str, data: &'static [u8], version: i32) -> MultiOp {
    MultiOp::SetData(SetDataRequest { path: path.into(), data: Some(Bytes::from_static(data)), version })
}

pub(crate) fn op_check(path: &str, version: i32) -> MultiOp {
    MultiOp::Check(CheckVersionRequest { path: path.into(), version })
}
