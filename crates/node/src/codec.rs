//! What travels between two nodes: the only module that knows bincode.
//!
//! ```text
//!  frame    length u32 │ lane u8 │ payload's crc32c u32 │ crc32c u32 of these │ payload [length]    little-endian
//!  core     size u32 │ message (bincode) [size] │ entry │ entry │ …     as many entries as there are bytes
//!  entry    epoch 2×u32 │ index u64 │ ballot 2×u32 │ stamp u64 │ kind u8 │ size u32 │ body [size]
//!  config   size u32 │ configuration (bincode) [size] │ the command      the body of kind 2
//!  app      the application's bytes
//!  ping     nothing
//! ```
//!
//! Messages are bincode 1.3 with fixed-width little-endian integers, whose encoding is frozen; the golden bytes below
//! notice if it is not. Entries are written by hand: a body is copied once on its way out and never on its way in,
//! where it is a slice of the receive buffer.
//!
//! Why the header has a checksum of its own: 1. a bit of a length flips, 300 becomes 8,388,908; 2. the receiver waits
//! for the rest; 3. heartbeats trickle into it for hours, so the link looks alive and delivers nothing.
//!
//! Nothing here trusts a peer: a length is checked against the cap before a byte is reserved, the buffer grows with
//! the bytes that arrive, every size is checked against what is left, and entries must ascend.

use bincode::Options;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc32c::crc32c;
use replog::{Body, Configuration, Entry, Epoch, Index, LogId, Message, Stamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 13;
/// Bytes of an entry before its body.
const ENTRY_BYTES: usize = 37;
/// The header's checksum covers the header up to here.
const CHECKED_BYTES: usize = 9;

const LANE_CORE: u8 = 1;
const LANE_APP: u8 = 2;
const LANE_PING: u8 = 3;

const KIND_NOOP: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_CONFIG: u8 = 2;

/// What a frame held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<M> {
    /// For the core.
    Core { message: M, entries: Vec<Entry>, bytes: usize },
    /// For the application.
    App { message: Bytes, bytes: usize },
    /// A sign of life.
    Ping,
}

/// Why a link has to go down: this peer's bytes, or ours, cannot be what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {bytes} bytes exceeds the limit of {limit}")]
    TooLong { bytes: usize, limit: u32 },
    #[error("a frame's checksum is wrong")]
    Checksum,
    #[error("a frame is malformed: {0}")]
    Malformed(&'static str),
}

fn options() -> impl Options + Copy {
    bincode::DefaultOptions::new().with_little_endian().with_fixint_encoding().reject_trailing_bytes()
}

fn encode_value(value: &impl Serialize, out: &mut BytesMut) -> Result<(), FrameError> {
    let at = out.len();
    out.put_u32_le(0);
    let unbounded = options().with_no_limit();
    unbounded
        .serialize_into((&mut *out).writer(), value)
        .map_err(|_| FrameError::Malformed("not encodable"))?;
    let size = u32::try_from(out.len() - at - 4).map_err(|_| FrameError::Malformed("message size"))?;
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&size.to_le_bytes());
    }
    Ok(())
}

fn decode_value<T: DeserializeOwned>(from: &mut Bytes) -> Result<T, FrameError> {
    let size = from.try_get_u32_le().map_err(|_| FrameError::Malformed("no size"))?;
    let bytes = split(from, size)?;
    let limited = options().with_limit(u64::from(size));
    limited.deserialize(&bytes).map_err(|_| FrameError::Malformed("not decodable"))
}

fn split(from: &mut Bytes, size: u32) -> Result<Bytes, FrameError> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > from.len() {
        return Err(FrameError::Malformed("a size exceeds its frame"));
    }
    Ok(from.split_to(size))
}

/// Writes frames behind one another into a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder {
    /// Largest payload.
    pub(crate) limit: u32,
}

impl Encoder {
    /// Appends a core message with its entries; how many bytes that took. On an error the buffer is useless.
    pub(crate) fn core<M: Message>(
        self,
        message: &M,
        entries: &[Entry],
        out: &mut BytesMut,
    ) -> Result<usize, FrameError> {
        let at = begin(LANE_CORE, out);
        encode_value(message, out)?;
        let bodies: usize = entries.iter().map(|e| e.bytes() as usize).sum();
        out.reserve(bodies);
        for entry in entries {
            encode_entry(entry, out)?;
        }
        self.finish(at, out)
    }

    /// Appends an application message.
    pub(crate) fn app(self, message: &[u8], out: &mut BytesMut) -> Result<usize, FrameError> {
        let at = begin(LANE_APP, out);
        out.extend_from_slice(message);
        self.finish(at, out)
    }

    /// Appends a ping.
    pub(crate) fn ping(self, out: &mut BytesMut) -> Result<usize, FrameError> {
        let at = begin(LANE_PING, out);
        self.finish(at, out)
    }

    fn finish(self, at: usize, out: &mut BytesMut) -> Result<usize, FrameError> {
        let bytes = out.len() - at - HEADER_BYTES;
        let limit = self.limit;
        let length =
            u32::try_from(bytes).ok().filter(|l| *l <= limit).ok_or(FrameError::TooLong { bytes, limit })?;
        let Some((header, payload)) = out.get_mut(at..).and_then(|f| f.split_at_mut_checked(HEADER_BYTES))
        else {
            return Err(FrameError::Malformed("no header"));
        };
        let (checked, sum) = header.split_at_mut(CHECKED_BYTES);
        if let Some(slot) = checked.get_mut(..4) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
        if let Some(slot) = checked.get_mut(5..) {
            slot.copy_from_slice(&crc32c(payload).to_le_bytes());
        }
        sum.copy_from_slice(&crc32c(checked).to_le_bytes());
        Ok(HEADER_BYTES + bytes)
    }
}

fn begin(lane: u8, out: &mut BytesMut) -> usize {
    let at = out.len();
    out.put_u32_le(0);
    out.put_u8(lane);
    out.put_u64_le(0);
    at
}

fn put_epoch(epoch: Epoch, out: &mut BytesMut) {
    out.put_u32_le(epoch.round);
    out.put_u32_le(epoch.proposer);
}

fn encode_entry(entry: &Entry, out: &mut BytesMut) -> Result<(), FrameError> {
    put_epoch(entry.id.epoch, out);
    out.put_u64_le(entry.id.index.0);
    put_epoch(entry.ballot, out);
    out.put_u64_le(entry.stamp.0);
    let size = |bytes: usize| u32::try_from(bytes).map_err(|_| FrameError::Malformed("body size"));
    match &entry.body {
        Body::Noop => {
            out.put_u8(KIND_NOOP);
            out.put_u32_le(0);
        }
        Body::Command(command) => {
            out.put_u8(KIND_COMMAND);
            out.put_u32_le(size(command.len())?);
            out.extend_from_slice(command);
        }
        Body::Config(configuration, command) => {
            out.put_u8(KIND_CONFIG);
            let at = out.len();
            out.put_u32_le(0);
            encode_value(&**configuration, out)?;
            out.extend_from_slice(command);
            let bytes = size(out.len() - at - 4)?;
            if let Some(slot) = out.get_mut(at..at + 4) {
                slot.copy_from_slice(&bytes.to_le_bytes());
            }
        }
    }
    Ok(())
}

fn get_epoch(from: &mut Bytes) -> Epoch {
    Epoch { round: from.get_u32_le(), proposer: from.get_u32_le() }
}

fn decode_entry(from: &mut Bytes) -> Result<Entry, FrameError> {
    if from.len() < ENTRY_BYTES {
        return Err(FrameError::Malformed("an entry is cut off"));
    }
    let id = LogId::new(get_epoch(from), Index(from.get_u64_le()));
    let ballot = get_epoch(from);
    let stamp = Stamp(from.get_u64_le());
    let kind = from.get_u8();
    let size = from.get_u32_le();
    let mut body = split(from, size)?;
    let body = match kind {
        KIND_NOOP if body.is_empty() => Body::Noop,
        KIND_COMMAND => Body::Command(body),
        KIND_CONFIG => {
            let configuration: Configuration = decode_value(&mut body)?;
            Body::Config(Box::new(configuration), body)
        }
        _ => return Err(FrameError::Malformed("an entry of an unknown kind")),
    };
    Ok(Entry { id, ballot, stamp, body })
}

/// Takes frames off a receive buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder {
    /// Largest payload.
    pub(crate) limit: u32,
}

impl Decoder {
    /// The next whole frame; `None` if more bytes are needed. After an error the stream is useless.
    pub(crate) fn next<M: Message>(self, buffer: &mut BytesMut) -> Result<Option<Incoming<M>>, FrameError> {
        let Some(length) = self.length(buffer)? else { return Ok(None) };
        let bytes = HEADER_BYTES + length;
        if buffer.len() < bytes {
            return Ok(None);
        }
        let mut frame = buffer.split_to(bytes).freeze();
        let mut header = frame.split_to(HEADER_BYTES);
        header.advance(4);
        let lane = header.get_u8();
        if header.get_u32_le() != crc32c(&frame) {
            return Err(FrameError::Checksum);
        }
        match lane {
            LANE_CORE => {
                let (message, entries) = decode_core(frame)?;
                Ok(Some(Incoming::Core { message, entries, bytes }))
            }
            LANE_APP => Ok(Some(Incoming::App { message: frame, bytes })),
            LANE_PING if frame.is_empty() => Ok(Some(Incoming::Ping)),
            _ => Err(FrameError::Malformed("an unknown lane")),
        }
    }

    /// How many more bytes the frame at the front of the buffer wants; 0 if it is whole or its header is not here.
    pub(crate) fn wanted(self, buffer: &BytesMut) -> usize {
        match self.length(buffer) {
            Ok(Some(length)) => (HEADER_BYTES + length).saturating_sub(buffer.len()),
            _ => 0,
        }
    }

    fn length(self, buffer: &BytesMut) -> Result<Option<usize>, FrameError> {
        let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let (checked, sum) = header.split_at(CHECKED_BYTES);
        if crc32c(checked).to_le_bytes() != sum {
            return Err(FrameError::Checksum);
        }
        let length = checked.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b));
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::TooLong { bytes, limit: self.limit });
        }
        Ok(Some(bytes))
    }
}

fn decode_core<M: Message>(mut frame: Bytes) -> Result<(M, Vec<Entry>), FrameError> {
    let message = decode_value(&mut frame)?;
    let mut entries: Vec<Entry> = Vec::new();
    while !frame.is_empty() {
        let entry = decode_entry(&mut frame)?;
        if entries.last().is_some_and(|last| last.id.index >= entry.id.index) {
            return Err(FrameError::Malformed("entries do not ascend"));
        }
        entries.push(entry);
    }
    Ok((message, entries))
}

#[cfg(test)]
mod tests;
