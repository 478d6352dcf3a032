//! The session task against servers that live in the test and say exactly what a test wants.

use super::*;
use bytes::{Buf, Bytes, BytesMut};
use jute::{
    ConnectRequest, ConnectResponse, ErrorCode, ExistsResponse, Jute, ReplyHeader, RequestHeader,
    WatcherEvent, begin_frame, end_frame, split_frames, xid,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One accepted connection.
struct Peer {
    stream: TcpStream,
    input: BytesMut,
    frames: Vec<Bytes>,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        Self { stream, input: BytesMut::new(), frames: Vec::new() }
    }

    async fn frame(&mut self) -> Bytes {
        loop {
            if !self.frames.is_empty() {
                return self.frames.remove(0);
            }
            assert!(self.stream.read_buf(&mut self.input).await.unwrap() > 0, "the client hung up");
            self.frames.extend(split_frames(&mut self.input, 1 << 20).unwrap());
        }
    }

    /// Takes the connect request and grants `timeout_ms` (0: refuses).
    async fn greet(&mut self, timeout_ms: i32) -> ConnectRequest {
        let hello = ConnectRequest::from_bytes(&self.frame().await).unwrap();
        let response = ConnectResponse {
            timeout_ms,
            session: if timeout_ms > 0 { 77 } else { 0 },
            password: [9; 16],
            ..ConnectResponse::default()
        };
        self.send(|out| response.encode(out)).await;
        hello
    }

    async fn send(&mut self, body: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        let mark = begin_frame(&mut out);
        body(&mut out);
        end_frame(&mut out, mark);
        self.stream.write_all(&out).await.unwrap();
    }

    async fn reply(&mut self, number: i32, zxid: i64, err: i32, body: &impl Jute) {
        self.send(|out| {
            ReplyHeader { xid: number, zxid, err }.encode(out);
            if err == 0 {
                body.encode(out);
            }
        })
        .await;
    }

    async fn event(&mut self, kind: EventType, path: &str) {
        let event = WatcherEvent { kind: kind.code(), state: 3, path: path.into() };
        self.reply(xid::NOTIFICATION, -1, 0, &event).await;
    }

    async fn request(&mut self) -> (i32, Request) {
        let mut frame = self.frame().await;
        let header = RequestHeader::from_bytes(&frame).unwrap();
        frame.advance(8);
        (header.xid, Request::decode(header.opcode, &frame).unwrap())
    }
}

fn exists() -> ExistsResponse {
    ExistsResponse { stat: Stat::default() }
}

async fn pair(options: Options) -> (TcpListener, tokio::task::JoinHandle<Result<Client>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let servers = listener.local_addr().unwrap().to_string();
    (listener, tokio::spawn(async move { Client::connect(&servers, options).await }))
}

fn quick() -> Options {
    Options { pause: Duration::from_millis(1), ..Options::default() }
}

// requirement: S1, S4, S8
#[tokio::test]
async fn a_lost_connection_fails_what_was_sent_and_resumes_the_session() {
    let (listener, client) = pair(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    assert_eq!(peer.greet(30_000).await.session, 0);
    let client = client.await.unwrap().unwrap();
    let asked = tokio::spawn({
        let client = client.clone();
        async move { (client.exists("/a", None).await, client.exists("/b", None).await) }
    });
    let (number, _) = peer.request().await;
    peer.reply(number, 0x2_0000_0007, 0, &exists()).await;
    peer.request().await;
    drop(peer);
    let (a, b) = asked.await.unwrap();
    assert_eq!((a.is_ok(), b), (true, Err(Error::ConnectionLoss)));
    let mut peer = Peer::accept(&listener).await;
    let hello = peer.greet(30_000).await;
    assert_eq!((hello.session, hello.last_zxid_seen), (77, 0x2_0000_0007));
    assert_eq!(hello.password.as_deref(), Some([9; 16].as_slice()));
}

// requirement: S8
#[tokio::test]
async fn a_refused_session_is_expired_for_good() {
    let (listener, client) = pair(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    peer.greet(30_000).await;
    let client = client.await.unwrap().unwrap();
    drop(peer);
    Peer::accept(&listener).await.greet(0).await;
    client.wait_state(KeeperState::Expired).await.unwrap();
    let after = client.sync("/").await;
    assert!(matches!(after, Err(Error::SessionExpired | Error::Closed)), "{after:?}");
}

// requirement: S18
#[tokio::test]
async fn watches_are_registered_again_with_the_last_zxid() {
    let (listener, client) = pair(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    peer.greet(30_000).await;
    let client = client.await.unwrap().unwrap();
    let watcher: Watcher = Arc::new(|_| {});
    let asked = tokio::spawn({
        let client = client.clone();
        async move {
            client.exists("/here", Some(watcher.clone())).await.unwrap();
            client.exists("/absent", Some(watcher)).await.unwrap()
        }
    });
    let (number, _) = peer.request().await;
    peer.reply(number, 5, 0, &exists()).await;
    let (number, _) = peer.request().await;
    peer.reply(number, 6, ErrorCode::NoNode.code(), &exists()).await;
    assert_eq!(asked.await.unwrap(), None);
    drop(peer);
    let mut peer = Peer::accept(&listener).await;
    peer.greet(30_000).await;
    let (number, request) = peer.request().await;
    let Request::SetWatches(set) = request else { panic!("{request:?}") };
    assert_eq!((number, set.relative_zxid), (xid::SET_WATCHES, 6));
    assert_eq!((set.data, set.exists), (vec!["/here".into()], vec!["/absent".into()]));
}

// requirement: S16
#[tokio::test]
async fn watchers_are_called_one_at_a_time_in_the_order_of_the_wire() {
    let (listener, client) = pair(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    peer.greet(30_000).await;
    let client = client.await.unwrap().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    // The first watcher holds the queue until the test lets go: the second must not overtake it.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let (gate, first, second) = (Mutex::new(gate), Arc::clone(&seen), Arc::clone(&seen));
    let slow: Watcher = Arc::new(move |event| {
        if event.kind != EventType::None {
            gate.lock().unwrap().recv().unwrap();
            first.lock().unwrap().push(event.path.clone());
        }
    });
    let (told, done) = tokio::sync::oneshot::channel();
    let told = Mutex::new(Some(told));
    let fast: Watcher = Arc::new(move |event| {
        second.lock().unwrap().push(event.path.clone());
        if let Some(told) = told.lock().unwrap().take() {
            let _ = told.send(());
        }
    });
    let asked = tokio::spawn({
        let client = client.clone();
        async move {
            client.exists("/1", Some(slow)).await.unwrap();
            client.exists("/2", Some(fast)).await.unwrap();
            client.sync("/").await.unwrap();
        }
    });
    for _ in 0..2 {
        let (number, _) = peer.request().await;
        peer.reply(number, 1, 0, &exists()).await;
    }
    peer.event(EventType::NodeDeleted, "/1").await;
    peer.event(EventType::NodeDeleted, "/2").await;
    let (number, _) = peer.request().await;
    peer.reply(number, 2, 0, &jute::SyncResponse { path: "/".into() }).await;
    asked.await.unwrap();
    assert!(seen.lock().unwrap().is_empty());
    go.send(()).unwrap();
    done.await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["/1", "/2"]);
}

// requirement: S1, S6
#[tokio::test(start_paused = true)]
async fn an_idle_session_pings_at_a_third_and_gives_up_at_two_thirds() {
    let (listener, client) = pair(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    peer.greet(3_000).await;
    let client = client.await.unwrap().unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(peer.request().await, (xid::PING, Request::Ping));
    assert_eq!(start.elapsed().as_millis() / 100, 10, "{:?}", start.elapsed());
    client.wait_state(KeeperState::Disconnected).await.unwrap();
    assert_eq!(start.elapsed().as_millis() / 100, 20, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_reply_out_of_order_drops_the_connection() {
    let (listener, client) = pair(quick()).await;
    let mut peer = Peer::accept(&listener).await;
    peer.greet(30_000).await;
    let client = client.await.unwrap().unwrap();
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.exists("/a", None).await }
    });
    let (number, _) = peer.request().await;
    peer.reply(number + 1, 1, 0, &exists()).await;
    assert_eq!(asked.await.unwrap(), Err(Error::ConnectionLoss));
}

#[tokio::test]
async fn an_empty_list_is_refused_and_nobody_there_is_a_connection_loss() {
    assert_eq!(Client::connect(" ", quick()).await.unwrap_err(), Error::NoServers);
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let options = Options { timeout: Duration::from_millis(50), ..quick() };
    let refused = Client::connect(&format!("127.0.0.1:{port}"), options).await;
    assert_eq!(refused.unwrap_err(), Error::ConnectionLoss);
}
