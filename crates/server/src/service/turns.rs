//! What a connection does between two waits, without IO: the task of a socket and a simulated client run the same turns.
//!
//! ```text
//!  begin ─► connect ─► next: closed? ─► ending? ─► stalled or a barrier passed: resume ─► whole frames ─► Wait ─┐
//!                        ▲                                                                                      │
//!                        └───────── bytes, a wake, room for more ◄──────────────────────────────────────────────┘
//! ```

use super::Service;
use super::connection::Connection;
use super::outlet::Outlet;
use super::pipeline::Incoming;
use bytes::BytesMut;
use jute::split_frames;
use std::net::SocketAddr;
use std::sync::Arc;
use znode::{ConnectionId, Identities};

/// Space offered to each read of a socket: first, and after a read that filled it.
pub(super) const READ_BYTES: (usize, usize) = (8 << 10, 64 << 10);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is over; what was appended still leaves if the connection is `ending` and not closed.
    End,
    /// A wake; bytes, if `reading`; room for more output, if `blocked`.
    Wait { reading: bool, blocked: bool },
}

/// See the module. One per connection.
#[derive(Debug, Default)]
pub(super) struct Turns {
    scratch: Vec<Incoming>,
    established: bool,
    resumed: bool,
}

impl Turns {
    /// Something changed since the last wait.
    pub(super) fn awake(&mut self) {
        self.resumed = false;
    }

    /// Does all that can be done with the bytes in `buffer`.
    pub(super) fn next(
        &mut self,
        service: &Arc<Service>,
        connection: &Arc<Connection>,
        buffer: &mut BytesMut,
    ) -> Next {
        loop {
            if connection.is_closed() {
                return Next::End;
            }
            let (ending, reading, blocked, resume) = {
                let state = connection.lock();
                self.established |= state.established == Some(true);
                let blocked = state.is_blocked();
                let resume = (state.stalled && !blocked && state.has_room()) || state.has_passed();
                (state.ending, self.established && !state.paused, blocked, resume)
            };
            if ending {
                return Next::End;
            }
            if resume && !self.resumed {
                // Once per turn: a barrier whose index is not applied yet waits for the apply thread.
                self.resumed = true;
                service.resume(connection);
                continue;
            }
            // What came together with the connect request, or while reading was paused.
            if reading {
                if !self.take_frames(service, connection, buffer) {
                    return Next::End;
                }
                if buffer.capacity() - buffer.len() < READ_BYTES.0 / 2 {
                    buffer.reserve(READ_BYTES.0);
                }
            }
            return Next::Wait { reading, blocked };
        }
    }

    /// Hands over whole frames. False: the peer broke the framing, close without a reply.
    fn take_frames(
        &mut self,
        service: &Arc<Service>,
        connection: &Arc<Connection>,
        buffer: &mut BytesMut,
    ) -> bool {
        if buffer.len() < 4 {
            return true;
        }
        match split_frames(buffer, service.config.max_frame) {
            Ok(frames) => {
                if !frames.is_empty() {
                    service.on_frames(connection, frames, &mut self.scratch);
                }
                true
            }
            Err(error) => {
                tracing::warn!(peer = %connection.peer, %error, "closing");
                connection.close();
                false
            }
        }
    }
}

impl Service {
    /// A connection that sent its connect request.
    pub(super) fn begin(&self, id: ConnectionId, peer: SocketAddr, outlet: Outlet) -> Arc<Connection> {
        let identities = Identities::new([("ip", peer.ip().to_canonical().to_string().as_str())]);
        let connection = Arc::new(Connection::new(id, peer, outlet, identities, self.environment.wall()));
        self.registry.write().insert(connection.clone());
        connection
    }

    /// It is over, whichever side ended it.
    pub(super) fn end(&self, connection: &Arc<Connection>) {
        connection.close();
        self.registry.write().remove(connection);
        self.watches.lock().remove_connection(connection.id);
        connection.lock().abandon();
    }
}
