//! A connection's task: reads the socket, and writes to it what another thread could not.
//!
//! Before a session exists the peer is nobody: it gets 10 s, 4 KiB and no decoded allocation beyond its bytes.

use super::Service;
use super::connection::Connection;
use crate::fourletter;
use bytes::{Buf as _, BytesMut};
use jute::{ConnectRequest, Jute as _, split_frames};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use znode::{ConnectionId, Identities};

/// How long a connection may take to send its connect request.
const HELLO: Duration = Duration::from_secs(10);
/// Largest connect request: 45 bytes, and room for a longer password.
const MAX_HELLO: u32 = 4096;
/// How long the last bytes may take to leave.
const FAREWELL: Duration = Duration::from_secs(2);
/// Space offered to each read of the socket: first, and after a read that filled it.
const READ_BYTES: (usize, usize) = (8 << 10, 64 << 10);

/// What a client begins with.
enum Hello {
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
            let identities = Identities::new([("ip", peer.ip().to_canonical().to_string().as_str())]);
            let connection = Arc::new(Connection::new(id, peer, write, identities));
            service.registry.write().insert(connection.clone());
            if service.connect(&connection, &request) {
                session(&service, &connection, read, buffer).await;
            }
            connection.close();
            service.registry.write().remove(&connection);
            service.watches.lock().remove_connection(connection.id);
            connection.lock().abandon();
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no connect request"),
        Err(_) => tracing::debug!(%peer, "no connect request in time"),
    }
    service.registry.write().release(peer.ip());
}

/// Reads a four-letter word or the connect request.
async fn hello(read: &mut OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<Hello> {
    loop {
        if let Some(head) = buffer.first_chunk::<4>() {
            if let Some(word) = fourletter::word(*head) {
                return Ok(Hello::Word(word));
            }
            let length = u32::from_be_bytes(*head);
            if length > MAX_HELLO {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("first frame of {length} bytes"),
                ));
            }
            let whole = 4 + length as usize;
            if buffer.len() >= whole {
                let mut frame = buffer.split_to(whole).freeze();
                frame.advance(4);
                let request = ConnectRequest::from_bytes(&frame);
                return request
                    .map(Hello::Connect)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e));
            }
        }
        if read.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// From the connect request to the end.
async fn session(
    service: &Arc<Service>,
    connection: &Arc<Connection>,
    mut read: OwnedReadHalf,
    mut buffer: BytesMut,
) {
    let mut scratch = Vec::new();
    let (mut established, mut resumed) = (false, false);
    loop {
        if connection.is_closed() {
            return;
        }
        let (ending, reading, blocked, resume) = {
            let state = connection.lock();
            established |= state.established == Some(true);
            let blocked = state.is_blocked();
            let resume = (state.stalled && !blocked && state.has_room()) || state.awaited_index().is_some();
            (state.ending, established && !state.paused, blocked, resume)
        };
        if ending {
            return farewell(connection).await;
        }
        if resume && !resumed {
            // Once per turn: a barrier whose index is not applied yet waits for the apply thread.
            resumed = true;
            service.resume(connection);
            continue;
        }
        // What came together with the connect request, or while reading was paused.
        if reading {
            if !take_frames(service, connection, &mut buffer, &mut scratch) {
                return;
            }
            if buffer.capacity() - buffer.len() < READ_BYTES.0 / 2 {
                buffer.reserve(READ_BYTES.0);
            }
        }
        tokio::select! {
            biased;
            () = connection.wake.notified() => resumed = false,
            done = connection.writable(), if blocked => match done {
                Ok(()) => {
                    connection.unblock();
                    resumed = false;
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

/// Hands over whole frames. False: the peer broke the framing, close without a reply.
fn take_frames(
    service: &Arc<Service>,
    connection: &Arc<Connection>,
    buffer: &mut BytesMut,
    scratch: &mut Vec<super::pipeline::Incoming>,
) -> bool {
    if buffer.len() < 4 {
        return true;
    }
    match split_frames(buffer, service.config.max_frame) {
        Ok(frames) => {
            if !frames.is_empty() {
                service.on_frames(connection, frames, scratch);
            }
            true
        }
        Err(error) => {
            tracing::warn!(peer = %connection.peer, %error, "closing");
            false
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
