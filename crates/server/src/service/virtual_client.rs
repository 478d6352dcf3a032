//! The server's end of a simulated client's connection: bytes in, bytes out, turns in between; no socket, no task.
//!
//! ```text
//!  client's bytes ─► receive ─► turn (after anything that may concern it) ─► take_output ─► client
//! ```

use super::Service;
use super::connection::Connection;
use super::outlet::Outlet;
use super::task::{Hello, parse_hello};
use super::turns::{Next, Turns};
use bytes::BytesMut;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};
use znode::ConnectionId;

/// Bytes that the network holds for a client that does not read.
const SEND_BUFFER: usize = 256 << 10;

/// See the module. Dropping it is the client's going away.
#[derive(Debug)]
pub struct VirtualClient {
    service: Arc<Service>,
    peer: SocketAddr,
    id: ConnectionId,
    /// Once it sent its connect request.
    connection: Option<Arc<Connection>>,
    buffer: BytesMut,
    /// Bytes came since the last turn.
    fresh: bool,
    turns: Turns,
    over: bool,
}

impl Service {
    /// A connection from `peer`; `None` if there are too many.
    #[must_use]
    pub fn open(self: &Arc<Self>, peer: SocketAddr) -> Option<VirtualClient> {
        let config = &self.config;
        let admitted =
            self.registry.write().admit(peer.ip(), config.max_client_connections, config.max_connections);
        let Some(id) = admitted else {
            self.stats.refused_connections.fetch_add(1, Relaxed);
            return None;
        };
        Some(VirtualClient {
            service: self.clone(),
            peer,
            id,
            connection: None,
            buffer: BytesMut::new(),
            fresh: false,
            turns: Turns::default(),
            over: false,
        })
    }
}

impl VirtualClient {
    /// Bytes of the client arrived. They are looked at by the next [`Self::turn`].
    pub fn receive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.fresh = true;
    }

    /// Does what the connection's task would do now. False once it is over: what [`Self::take_output`] still gives is
    /// delivered, then the connection is closed.
    pub fn turn(&mut self) -> bool {
        if self.over {
            return false;
        }
        if self.connection.is_none() && !self.hello() {
            return !self.over;
        }
        let Some(connection) = &self.connection else { return false };
        let woken = is_woken(connection);
        if woken || connection.is_blocked() {
            self.turns.awake();
        } else if !std::mem::take(&mut self.fresh) {
            return true;
        }
        connection.unblock();
        if self.turns.next(&self.service, connection, &mut self.buffer) == Next::End {
            if !connection.is_closed() {
                connection.flush();
            }
            self.end();
        }
        !self.over
    }

    /// Takes the connect request. False: it is not whole, or this is over.
    fn hello(&mut self) -> bool {
        match parse_hello(&mut self.buffer) {
            Ok(None) => false,
            Ok(Some(Hello::Connect(request))) => {
                let connection = self.service.begin(self.id, self.peer, Outlet::memory(SEND_BUFFER));
                let goes_on = self.service.connect(&connection, &request);
                self.connection = Some(connection);
                if !goes_on {
                    self.end();
                }
                goes_on
            }
            // Four-letter words are asked of real servers.
            Ok(Some(Hello::Word(_))) | Err(_) => {
                self.end();
                false
            }
        }
    }

    /// Bytes for the client, at most `most`: what it does not take piles up.
    #[must_use]
    pub fn take_output(&mut self, most: usize) -> Vec<u8> {
        self.connection.as_ref().map_or_else(Vec::new, |connection| connection.outlet.take(most))
    }

    /// Whether the server has ended it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        if let Some(connection) = &self.connection {
            self.service.end(connection);
        }
        self.service.registry.write().release(self.peer.ip());
    }
}

/// Whether somebody woke the connection since this was last asked.
fn is_woken(connection: &Connection) -> bool {
    let notified = pin!(connection.wake.notified());
    notified.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

impl Drop for VirtualClient {
    fn drop(&mut self) {
        self.end();
    }
}
