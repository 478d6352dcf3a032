//! Framing: an `i32` length and that many bytes, in both directions.
//!
//! The cap is tested on the four length bytes, before anything is reserved for the frame: a peer that claims 2 GiB
//! costs what it has sent, not what it claims.

use crate::{Jute, Request, RequestHeader};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// `jute.maxbuffer`: the longest frame a server takes; exactly this long is accepted.
pub const DEFAULT_MAX_FRAME: u32 = 0xf_ffff;

/// A frame that no peer may send. ZooKeeper closes the connection without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {length} bytes; 0 to {max} are allowed")]
pub struct FrameError {
    /// The length that it claims.
    pub length: i32,
    /// The longest that is allowed.
    pub max: u32,
}

/// Whole frames that were received together; iterates over their bodies.
#[derive(Clone, Debug, Default)]
pub struct Frames(Bytes);

impl Frames {
    /// Whether there is none (left).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left, with the length bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Iterator for Frames {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.0.try_get_i32().ok()?).ok()?;
        // `split_frames` has counted only whole frames.
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }
}

/// Splits all whole frames off the front of `buffer`; an incomplete one stays.
///
/// # Errors
/// [`FrameError`] if the first frame that is not yet split off has a length below 0 or above `max`; whole frames
/// before it are returned by the call before: they are split off first, and the error shows at the next call.
pub fn split_frames(buffer: &mut BytesMut, max: u32) -> Result<Frames, FrameError> {
    let mut end = 0;
    while let Some(head) = buffer.get(end..).and_then(|rest| rest.first_chunk::<4>()) {
        let length = i32::from_be_bytes(*head);
        let size = match u32::try_from(length) {
            Ok(size) if size <= max => usize::try_from(size).unwrap_or(usize::MAX),
            _ if end == 0 => return Err(FrameError { length, max }),
            _ => break,
        };
        if buffer.len() - end - 4 < size {
            break;
        }
        end += 4 + size;
    }
    Ok(Frames(if end == 0 { Bytes::new() } else { buffer.split_to(end).freeze() }))
}

/// A growable output whose written bytes can be patched: `BytesMut` and `Vec<u8>`.
pub trait Buffer: BufMut + AsMut<[u8]> + AsRef<[u8]> {}
impl<T: BufMut + AsMut<[u8]> + AsRef<[u8]>> Buffer for T {}

/// Where a frame begins in an output buffer.
#[derive(Debug)]
#[must_use = "the frame has no length until it is ended"]
pub struct FrameMark(usize);

/// Reserves the four length bytes of a frame.
#[inline]
pub fn begin_frame(out: &mut impl Buffer) -> FrameMark {
    let at = out.as_ref().len();
    out.put_i32(0);
    FrameMark(at)
}

/// Writes the length of what was appended since `mark`.
#[inline]
#[allow(clippy::needless_pass_by_value, reason = "a mark is used once")]
pub fn end_frame(out: &mut impl Buffer, mark: FrameMark) {
    let length = i32::try_from(out.as_ref().len() - mark.0 - 4).unwrap_or(i32::MAX);
    if let Some(head) = out.as_mut().get_mut(mark.0..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *head = length.to_be_bytes();
    }
}

/// Appends a frame: its length, then what `body` writes.
#[inline]
pub fn put_frame<B: Buffer>(out: &mut B, body: impl FnOnce(&mut B)) {
    let mark = begin_frame(out);
    body(out);
    end_frame(out, mark);
}

/// Appends a request of a client as a frame.
pub fn put_request(out: &mut impl Buffer, xid: i32, request: &Request) {
    put_frame(out, |out| {
        RequestHeader { xid, opcode: request.opcode().code() }.encode(out);
        request.encode(out);
    });
}
