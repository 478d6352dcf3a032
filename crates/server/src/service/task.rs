//! A connection's task: reads the socket, and writes to it what another thread could not.
//!
//! Before a session exists the peer is nobody: it gets 10 s, 4 KiB and no decoded allocation beyond its bytes.

use super::Service;
use super::connection::Connection;
use super::outlet::Outlet;
use super::turns::{Next, READ_BYTES, Turns};
use crate::fourletter;
use bytes::{Buf as _, BytesMut};
use jute::{ConnectRequest, Jute as _};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use znode::ConnectionId;

/// How long a connection may take to send its connect request.
const HELLO: Duration = Duration::from_secs(10);
/// Largest connect request: 45 bytes, and room for a longer password.
const MAX_HELLO: u32 = 4096;
/// How long the last bytes may take to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a client begins with.
pub(super) enum Hello {
    Word(&'static str),
    Connect(ConnectRequest),
}

/// Serves one connection until it ends.
pub(super) async fn serve(service: Arc<Service>, stream: TcpStream, peer: SocketAddr, id: ConnectionId) {
    // Replies are written whole; waiting for more would only add latency.
    let _ = stream.set_nodelay(true);
    let mut buffer = BytesMut::with_capacity(READ_BYTES.0);
    let (mut read, mut write) = stream.into_split();
    match tokio::time::timeout(HELLO, hello(&mut read, &mut buffer)).await {
        Ok(Ok(Hello::Word(word))) => {
            let text = service.answer_word(word);
            let _ = tokio::time::timeout(FAREWELL, async {
                write.write_all(text.as_bytes()).await?;
                write.shutdown().await
            })
            .await;
        }
        Ok(Ok(Hello::Connect(request))) => {
            let connection = service.begin(id, peer, Outlet::Socket(write));
            if service.connect(&connection, &request) {
                session(&service, &connection, read, buffer).await;
            }
            service.end(&connection);
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no connect request"),
        Err(_) => tracing::debug!(%peer, "no connect request in time"),
    }
    service.registry.write().release(peer.ip());
}

/// Reads a four-letter word or the connect request.
async fn hello(read: &mut OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<Hello> {
    loop {
        if let Some(hello) = parse_hello(buffer)? {
            return Ok(hello);
        }
        if read.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// What a client begins with, once it is whole.
pub(super) fn parse_hello(buffer: &mut BytesMut) -> io::Result<Option<Hello>> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    if let Some(word) = fourletter::word(*head) {
        return Ok(Some(Hello::Word(word)));
    }
    let length = u32::from_be_bytes(*head);
    if length > MAX_HELLO {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("first frame of {length} bytes")));
    }
    let whole = 4 + length as usize;
    if buffer.len() < whole {
        return Ok(None);
    }
    let mut frame = buffer.split_to(whole).freeze();
    frame.advance(4);
    let request = ConnectRequest::from_bytes(&frame);
    request.map(|r| Some(Hello::Connect(r))).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// From the connect request to the end.
async fn session(
    service: &Arc<Service>,
    connection: &Arc<Connection>,
    mut read: OwnedReadHalf,
    mut buffer: BytesMut,
) {
    let mut turns = Turns::default();
    loop {
        let Next::Wait { reading, blocked } = turns.next(service, connection, &mut buffer) else {
            if connection.lock().ending && !connection.is_closed() {
                farewell(connection).await;
            }
            return;
        };
        tokio::select! {
            biased;
            () = connection.wake.notified() => turns.awake(),
            done = connection.writable(), if blocked => match done {
                Ok(()) => {
                    connection.unblock();
                    turns.awake();
                }
                Err(_) => return,
            },
            found = read.read_buf(&mut buffer), if reading => match found {
                Ok(n) if n > 0 => {
                    if buffer.len() == buffer.capacity() {
                        buffer.reserve(READ_BYTES.1);
                    }
                }
                _ => return,
            },
        }
    }
}

/// Sends what is left, for a while.
async fn farewell(connection: &Connection) {
    let _ = tokio::time::timeout(FAREWELL, async {
        connection.flush();
        while !connection.is_closed() && !connection.is_drained() {
            if connection.is_blocked() {
                if connection.writable().await.is_err() {
                    return;
                }
                connection.unblock();
            } else {
                connection.wake.notified().await;
            }
        }
    })
    .await;
}
