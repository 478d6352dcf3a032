//! Real server processes, and a client that speaks raw frames.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

use bytes::{Bytes, BytesMut};
use jute::{
    Acl, ConnectRequest, ConnectResponse, CreateRequest, GetDataRequest, Jute, OpCode, Reader, ReplyHeader,
    Request, RequestHeader, Response, SetDataRequest, begin_frame, end_frame,
};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Ports that nobody else is about to take: below those that the system hands out by itself, and apart from those of
/// tests that start at the same moment, in this process or another.
pub fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 600).unwrap() * 32;
    let candidates =
        std::iter::repeat_with(|| first + NEXT.fetch_add(1, Relaxed)).take_while(|p| *p < 32_000);
    let free: Vec<u16> =
        candidates.filter(|p| TcpListener::bind((Ipv4Addr::LOCALHOST, *p)).is_ok()).take(count).collect();
    assert_eq!(free.len(), count, "no {count} free ports from {first} on");
    free
}

/// A server process; killed when dropped.
pub struct Server {
    pub port: u16,
    pub process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn spawn(arguments: &[String]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_menagerie"))
        .arg("serve")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Servers on loopback, all serving.
pub struct Ensemble {
    pub servers: Vec<Server>,
    pub dir: TempDir,
}

impl Ensemble {
    /// `count` servers (1: stands alone) whose files have `extra` appended.
    pub fn new(count: usize, extra: &str) -> Self {
        Self::with(count, |_| extra.to_owned())
    }

    /// The same with lines of each server's own, by its id.
    pub fn with(count: usize, extra: impl Fn(usize) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(2 * count);
        let mut servers = Vec::new();
        for at in 0..count {
            let home = dir.path().join(format!("{}", at + 1));
            std::fs::create_dir(&home).unwrap();
            let mut text = format!(
                "tickTime=200\ndataDir={}\nclientPort={}\n4lw.commands.whitelist=srvr,ruok,mntr,stat,cons\n{}\n",
                home.display(),
                ports[at],
                extra(at + 1)
            );
            if count > 1 {
                std::fs::write(home.join("myid"), format!("{}", at + 1)).unwrap();
                for (other, peer) in ports[count..].iter().enumerate() {
                    text +=
                        &format!("server.{}=127.0.0.1:{peer}:{peer};127.0.0.1:{}\n", other + 1, ports[other]);
                }
            }
            let file = home.join("zoo.cfg");
            std::fs::write(&file, text).unwrap();
            let process = spawn(&["--config".into(), file.display().to_string()]);
            servers.push(Server { port: ports[at], process });
        }
        let ensemble = Self { servers, dir };
        for server in &ensemble.servers {
            wait_for("it serves", || word(server.port, "srvr").filter(|t| t.contains("Mode: ")));
        }
        ensemble
    }

    pub fn client(&self) -> Client {
        Client::open(self.servers[0].port, 10_000)
    }
}

/// The answer to a four-letter word, asked for by a tool that closes its half at once.
pub fn word(port: u16, word: &str) -> Option<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(word.as_bytes()).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A connection that speaks frames.
pub struct Client {
    pub stream: TcpStream,
    pub session: ConnectResponse,
    xid: i32,
}

/// One reply or event.
#[derive(Debug)]
pub struct Answer {
    pub header: ReplyHeader,
    pub body: Bytes,
}

impl Answer {
    pub fn response(&self, opcode: OpCode) -> Response {
        Response::decode(opcode, &mut Reader::new(&self.body)).unwrap()
    }

    pub fn data(&self) -> Vec<u8> {
        let Response::GetData(r) = self.response(OpCode::GetData) else { panic!("{self:?}") };
        r.data.unwrap().to_vec()
    }
}

pub fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The body of the next frame; `None` at the end of the connection.
pub fn read_frame(stream: &mut TcpStream) -> Option<Bytes> {
    let mut head = [0; 4];
    match stream.read_exact(&mut head) {
        Ok(()) => {}
        Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            return None;
        }
        Err(e) => panic!("{e}"),
    }
    let mut body = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut body).unwrap();
    Some(body.into())
}

impl Client {
    pub fn connect(port: u16, request: &ConnectRequest) -> Option<Self> {
        let mut stream = dial(port);
        let mut out = BytesMut::new();
        let mark = begin_frame(&mut out);
        request.encode(&mut out);
        end_frame(&mut out, mark);
        stream.write_all(&out).unwrap();
        let session = ConnectResponse::from_bytes(&read_frame(&mut stream)?).unwrap();
        Some(Self { stream, session, xid: 0 })
    }

    pub fn open(port: u16, timeout_ms: i32) -> Self {
        let client = Self::connect(port, &ConnectRequest { timeout_ms, ..Default::default() }).unwrap();
        assert_ne!(client.session.session, 0);
        client
    }

    /// The request that continues this session.
    pub fn again(&self) -> ConnectRequest {
        ConnectRequest {
            timeout_ms: self.session.timeout_ms,
            session: self.session.session,
            password: Some(Bytes::copy_from_slice(&self.session.password)),
            read_only: Some(false),
            ..Default::default()
        }
    }

    /// The same connection, to send from another thread.
    pub fn sender(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap(), session: self.session.clone(), xid: self.xid }
    }

    /// Sends requests in one piece; numbers go on from the last one.
    pub fn send(&mut self, requests: &[Request]) {
        let mut out = BytesMut::new();
        for request in requests {
            self.xid += 1;
            put(&mut out, self.xid, request.opcode().code(), |out| request.encode(out));
        }
        self.stream.write_all(&out).unwrap();
    }

    /// Sends a frame with any opcode and body.
    pub fn send_raw(&mut self, opcode: i32, body: &[u8]) {
        self.xid += 1;
        let mut out = BytesMut::new();
        put(&mut out, self.xid, opcode, |out| out.extend_from_slice(body));
        self.stream.write_all(&out).unwrap();
    }

    pub fn receive(&mut self) -> Option<Answer> {
        let frame = read_frame(&mut self.stream)?;
        let mut reader = Reader::new(&frame);
        let header = ReplyHeader::decode(&mut reader).unwrap();
        Some(Answer { header, body: reader.rest() })
    }

    /// One request and its reply.
    pub fn call(&mut self, request: Request) -> Answer {
        self.send(&[request]);
        let answer = self.receive().expect("a reply");
        assert_eq!(answer.header.xid, self.xid);
        answer
    }
}

fn put(out: &mut BytesMut, xid: i32, opcode: i32, body: impl FnOnce(&mut BytesMut)) {
    let mark = begin_frame(out);
    RequestHeader { xid, opcode }.encode(out);
    body(out);
    end_frame(out, mark);
}

pub fn create(path: &str, flags: i32) -> Request {
    let data = Some(Bytes::from_static(b"0"));
    Request::Create(CreateRequest { path: path.into(), data, acl: vec![Acl::open()], flags })
}

pub fn set(path: &str, data: &[u8]) -> Request {
    Request::SetData(SetDataRequest {
        path: path.into(),
        data: Some(Bytes::copy_from_slice(data)),
        version: -1,
    })
}

pub fn get(path: &str, watch: bool) -> Request {
    Request::GetData(GetDataRequest { path: path.into(), watch })
}
