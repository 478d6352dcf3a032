//! One connection to a peer, as the core thread holds it: a socket, a receive buffer, a send buffer.
//!
//! All sockets belong to the core's one task, which reads what is there, steps, and writes what came of it. So a turn
//! costs one read and one write per peer that has something to say, and no task switch. Everything that may leave
//! for a peer is encoded into one buffer and written at once; while the socket is full, no more than
//! [`HIGH_BYTES`] waits here and the rest stays in the outbox, which is bounded: a peer that does not read is taken
//! down, and never holds up the core.

use crate::codec::{Decoder, Encoder, FrameError, Incoming};
use crate::story::frame_id;
use bytes::{Buf, Bytes, BytesMut};
use replog::{Message, NodeId};
use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

/// While this much waits for the socket, nothing more is encoded.
pub(crate) const HIGH_BYTES: usize = 512 << 10;
/// Application bytes that may wait for one peer.
const APP_BYTES: usize = 64 << 20;
/// Read in one turn at most, so that a step is never far.
const TURN_BYTES: usize = 1 << 20;
/// Room for reading: a block this large is shared by the frames that arrive in it.
const BLOCK_BYTES: usize = 64 << 10;
/// With less room than this left, a new block is begun.
const LEAST_BYTES: usize = 8 << 10;

/// Why a link goes down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("closed by the peer")]
    Closed,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the peer does not keep up with what is sent")]
    Overflow,
    #[error("nothing heard for too long")]
    Silent,
    #[error("replaced by a newer connection")]
    Replaced,
}

impl LinkError {
    /// Whether it is a fault worth counting, rather than the ordinary end of a connection.
    pub(crate) const fn is_fault(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Overflow)
    }
}

/// What one turn's reading came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadOutcome {
    /// Bytes read.
    pub(crate) bytes: usize,
    /// Reads that returned bytes.
    pub(crate) reads: u64,
    /// More may be there: come again without waiting.
    pub(crate) more: bool,
}

/// A link that is up.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    stream: TcpStream,
    received: BytesMut,
    out: BytesMut,
    app: VecDeque<Bytes>,
    app_bytes: usize,
    /// When bytes last came.
    pub(crate) heard: Instant,
    /// When bytes last went.
    pub(crate) said: Instant,
    /// When the socket was last found empty: whatever is read later had not arrived before.
    pub(crate) emptied: Instant,
    /// Lower bound of the arrival of the last core message.
    pub(crate) word: Option<Instant>,
    /// It was found silent for too long in the turn before.
    pub(crate) suspect: bool,
    /// Names the connection at both ends; with the counters, names traced frames.
    token: u64,
    /// Core frames traced in each direction.
    traced: (u64, u64),
}

impl Link {
    pub(crate) fn new(peer: NodeId, stream: TcpStream, token: u64, now: Instant) -> Self {
        Self {
            peer,
            stream,
            received: BytesMut::new(),
            out: BytesMut::new(),
            app: VecDeque::new(),
            app_bytes: 0,
            heard: now,
            said: now,
            emptied: now,
            word: None,
            suspect: false,
            token,
            traced: (0, 0),
        }
    }

    /// Id of the next core frame that this node, `me`, sends.
    pub(crate) fn next_sent(&mut self, me: NodeId) -> u64 {
        self.traced.0 += 1;
        frame_id(self.token, me, self.traced.0)
    }

    /// Id of the next core frame that comes.
    pub(crate) fn next_received(&mut self) -> u64 {
        self.traced.1 += 1;
        frame_id(self.token, self.peer, self.traced.1)
    }

    /// Reads what is there, at most about a mebibyte, and appends its frames to `frames`.
    pub(crate) fn read<M: Message>(
        &mut self,
        cx: &mut Context<'_>,
        decoder: Decoder,
        now: Instant,
        frames: &mut Vec<Incoming<M>>,
    ) -> (ReadOutcome, Result<(), LinkError>) {
        let mut outcome = ReadOutcome::default();
        let result = loop {
            if outcome.bytes >= TURN_BYTES {
                outcome.more = true;
                break Ok(());
            }
            self.make_room(decoder);
            let read = pin!(self.stream.read_buf(&mut self.received)).poll(cx);
            match read {
                Poll::Pending => break Ok(()),
                Poll::Ready(Ok(0)) => break Err(LinkError::Closed),
                Poll::Ready(Ok(n)) => {
                    outcome.bytes += n;
                    outcome.reads += 1;
                    if let Err(e) = self.take_frames(decoder, frames) {
                        break Err(e.into());
                    }
                }
                Poll::Ready(Err(e)) => break Err(e.into()),
            }
        };
        if outcome.bytes > 0 {
            self.heard = now;
        }
        (outcome, result)
    }

    /// The socket was read until it was empty at `now`, a moment before the reading began.
    pub(crate) fn mark_emptied(&mut self, now: Instant) {
        self.emptied = now;
    }

    /// Grows with the bytes that arrived, not with the length that a peer claims.
    fn make_room(&mut self, decoder: Decoder) {
        let room = self.received.capacity() - self.received.len();
        if room < LEAST_BYTES {
            let wanted =
                decoder.wanted(&self.received).clamp(BLOCK_BYTES, BLOCK_BYTES.max(self.received.len()));
            self.received.reserve(wanted);
        }
    }

    fn take_frames<M: Message>(
        &mut self,
        decoder: Decoder,
        frames: &mut Vec<Incoming<M>>,
    ) -> Result<(), FrameError> {
        while let Some(frame) = decoder.next(&mut self.received)? {
            frames.push(frame);
        }
        Ok(())
    }

    /// Whether more may be encoded now.
    pub(crate) fn has_room(&self) -> bool {
        self.out.len() < HIGH_BYTES
    }

    /// Where frames are encoded.
    pub(crate) fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Queues an application message.
    pub(crate) fn queue(&mut self, message: Bytes) -> Result<(), LinkError> {
        self.app_bytes += message.len();
        self.app.push_back(message);
        if self.app_bytes > APP_BYTES { Err(LinkError::Overflow) } else { Ok(()) }
    }

    /// Encodes queued application messages while there is room; calls `sent` with the size of each frame.
    pub(crate) fn encode_app(
        &mut self,
        encoder: Encoder,
        mut sent: impl FnMut(usize),
    ) -> Result<(), FrameError> {
        while self.out.len() < HIGH_BYTES
            && let Some(message) = self.app.pop_front()
        {
            self.app_bytes -= message.len();
            sent(encoder.app(&message, &mut self.out)?);
        }
        Ok(())
    }

    /// Writes what was encoded; how many writes it took. What the socket does not take now stays.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<u64, LinkError> {
        let mut writes = 0;
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(LinkError::Closed),
                Poll::Ready(Ok(n)) => {
                    self.out.advance(n);
                    self.said = now;
                    writes += 1;
                }
                Poll::Ready(Err(e)) => return Err(e.into()),
            }
        }
        Ok(writes)
    }

    /// Whether encoded bytes wait for the socket.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.out.is_empty()
    }
}
