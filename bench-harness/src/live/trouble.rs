//! Clients that no server wishes for: storms, half-open connections, slow readers (reliability rows 37, 38).
//!
//! None of them changes the tree, so none is in the history; the recording clients beside them show what it costs.

use bytes::BytesMut;
use jute::{ConnectRequest, GetChildren2Request, Jute, Request, put_frame, put_request};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Patience with a server.
const PATIENCE: Duration = Duration::from_secs(1);

fn hello() -> BytesMut {
    let mut out = BytesMut::new();
    let password = Some(bytes::Bytes::from_static(&[0; jute::PASSWORD_BYTES]));
    let request = ConnectRequest { timeout_ms: 4000, password, read_only: Some(false), ..Default::default() };
    put_frame(&mut out, |out| request.encode(out));
    out
}

async fn open(server: SocketAddr) -> Option<TcpStream> {
    let opening = async {
        let mut stream = TcpStream::connect(server).await.ok()?;
        stream.write_all(&hello()).await.ok()?;
        // Length, version, timeout, session, password, read-only.
        let mut answer = [0; 41];
        stream.read_exact(&mut answer).await.ok()?;
        Some(stream)
    };
    timeout(PATIENCE, opening).await.ok()?
}

/// Opens sessions as fast as `width` connections can until `ends`; every second one is closed, the others are left.
pub(crate) async fn storm(servers: Vec<SocketAddr>, width: usize, ends: Instant) {
    let storms = (0..width).map(|i| {
        let servers = servers.clone();
        tokio::spawn(async move {
            let mut at = i;
            while Instant::now() < ends {
                at += 1;
                let Some(server) = servers.get(at % servers.len()) else { return };
                match open(*server).await {
                    Some(mut stream) if at % 2 == 0 => {
                        let mut out = BytesMut::new();
                        put_request(&mut out, 1, &Request::CloseSession);
                        let _ = stream.write_all(&out).await;
                        let _ = timeout(PATIENCE, stream.read(&mut [0; 64])).await;
                    }
                    Some(_) => {}
                    None => sleep(Duration::from_millis(20)).await,
                }
            }
        })
    });
    for storm in storms.collect::<Vec<_>>() {
        let _ = storm.await;
    }
}

/// Half of a hello, or nothing at all, and then silence until `ends`.
pub(crate) async fn half_open(servers: Vec<SocketAddr>, each: usize, ends: Instant) {
    let mut held = Vec::new();
    for server in servers {
        for i in 0..each {
            let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(server)).await else { continue };
            let hello = hello();
            let part = hello.get(..i % hello.len()).unwrap_or_default();
            let _ = stream.write_all(part).await;
            held.push(stream);
        }
    }
    tokio::time::sleep_until(ends).await;
}

/// Asks for long answers and reads none of them until `ends`.
pub(crate) async fn slow_readers(servers: Vec<SocketAddr>, each: usize, ends: Instant) {
    let mut held = Vec::new();
    for server in servers {
        for _ in 0..each {
            let Some(mut stream) = open(server).await else { continue };
            let mut out = BytesMut::new();
            for xid in 1..=400 {
                let read = GetChildren2Request { path: "/set".into(), watch: false };
                put_request(&mut out, xid, &Request::GetChildren2(read));
            }
            let _ = timeout(PATIENCE, stream.write_all(&out)).await;
            held.push(stream);
        }
    }
    tokio::time::sleep_until(ends).await;
}
