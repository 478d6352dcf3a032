//! The bytes of a segment.
//!
//! ```text
//! segment  = header, preamble frame, frame, frame, …, zeros
//! frame    = frame header, record, record, …          one Persist; 8-byte aligned; all or nothing
//! record   = record header, body                       one entry, truncation or purge
//! ```
//!
//! * Every checksum is CRC32C. Those of frame and record headers also cover the identity of the log, the number of
//!   the segment and the offset, so bytes that belong elsewhere (misdirected, stale, of another server) never pass.
//! * A frame header names its predecessor's checksum and repeats the *state after the frame*: hard state, base, last
//!   index. A damaged frame in the middle can therefore never hide a vote, a truncation or a purge, only entries.
//! * `synced` is the last frame known to be durable when this one was written. It tells damage from a torn tail:
//!   what a later frame calls durable was once whole. Behind the last frame lies a *mark*, a frame header that calls its
//!   own sequence durable: without one the last write could not be told from a torn one.
//! * The record header holds id, ballot and stamp with a checksum of its own: rotten bodies keep their ids.

use crate::codec::{self, Input, Output};
use crate::{Identity, WalError};
use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use replog::{Body, Entry, Epoch, HardState, Index, LogId, LogOp, NodeId, Stamp};
use std::path::Path;

pub(crate) const SEGMENT_MAGIC: &[u8; 8] = b"mnglog\r\n";
pub(crate) const VERSION: u32 = 1;
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
pub(crate) const FRAME_HEADER_BYTES: usize = 112;
pub(crate) const RECORD_HEADER_BYTES: usize = 48;
const FRAME_MAGIC: u32 = 0x4d52_464d;
const PROTOCOL_BYTES: usize = 16;

/// Where bytes belong. Part of every checksum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) log: u32,
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

impl Place {
    fn checksum(self, bytes: &[u8]) -> u32 {
        let place = u64::from(self.segment) << 32 | u64::from(self.offset);
        crc32c_append(crc32c_append(self.log, &place.to_le_bytes()), bytes)
    }
}

/// What the log says besides its entries. In each frame header: the state after the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    pub(crate) hard: HardState,
    pub(crate) base: LogId,
    /// Highest index present, at least the base's.
    pub(crate) last: Index,
}

impl LogState {
    pub(crate) fn apply(&mut self, op: &LogOp) {
        match op {
            LogOp::HardState(hard) => self.hard = *hard,
            LogOp::Write(entries) => {
                let highest = entries.iter().map(|e| e.id.index).max().unwrap_or_default();
                self.last = self.last.max(highest);
            }
            LogOp::Truncate { from } => self.last = self.last.min(from.prev()).max(self.base.index),
            LogOp::Purge { upto } => {
                if upto.index > self.base.index {
                    self.base = *upto;
                    self.last = self.last.max(upto.index);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of the records.
    pub(crate) payload: u32,
    /// Number of records.
    pub(crate) records: u32,
    /// Checksum of the frame before.
    pub(crate) prev: u32,
    pub(crate) sequence: u64,
    /// Last frame known to be durable when this one was written.
    pub(crate) synced: u64,
    /// Lowest index touched (written or truncated); `u64::MAX` if none.
    pub(crate) low: u64,
    /// `low` of the frame before.
    pub(crate) prev_low: u64,
    pub(crate) after: LogState,
    /// Checksum of this header: the next frame's `prev`.
    pub(crate) checksum: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: Identity,
    pub(crate) number: u32,
    /// Sequence of the preamble frame.
    pub(crate) first: u64,
}

/// Bytes of a frame with these records, padding included.
pub(crate) const fn frame_bytes(payload: usize) -> usize {
    (FRAME_HEADER_BYTES + payload).next_multiple_of(8)
}

/// Bytes of the records of one `Persist`.
pub(crate) fn payload_bytes(ops: &[LogOp]) -> usize {
    let of = |op: &LogOp| match op {
        LogOp::HardState(_) => 0,
        LogOp::Write(entries) => entries.iter().map(|e| RECORD_HEADER_BYTES + body_bytes(&e.body)).sum(),
        LogOp::Truncate { .. } | LogOp::Purge { .. } => RECORD_HEADER_BYTES,
    };
    ops.iter().map(of).sum()
}

fn body_bytes(body: &Body) -> usize {
    match body {
        Body::Noop => 0,
        Body::Command(bytes) => bytes.len(),
        Body::Config(configuration, bytes) => 4 + configuration_bytes(configuration).len() + bytes.len(),
    }
}

fn configuration_bytes(c: &replog::Configuration) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::put_configuration(&mut bytes, c);
    bytes
}

impl FrameHeader {
    /// Says that everything up to the frame `last` is durable, and which state that left. No frame: it lies where the
    /// next one is going to be written.
    pub(crate) fn mark(last: u64, checksum_of_last: u32, low_of_last: u64, after: LogState) -> Self {
        Self {
            payload: 0,
            records: 0,
            prev: checksum_of_last,
            sequence: last,
            synced: last,
            low: u64::MAX,
            prev_low: low_of_last,
            after,
            checksum: 0,
        }
    }

    /// Whether this is a mark; a frame is never known to be durable when it is written.
    pub(crate) fn is_mark(&self) -> bool {
        self.synced == self.sequence
    }

    pub(crate) fn encode(&mut self, place: Place) -> Vec<u8> {
        let mut b = Vec::with_capacity(FRAME_HEADER_BYTES);
        b.put_u32(FRAME_MAGIC);
        b.put_u32(self.payload);
        b.put_u32(self.records);
        b.put_u32(self.prev);
        b.put_u64(self.sequence);
        b.put_u64(self.synced);
        b.put_u64(self.low);
        b.put_u64(self.prev_low);
        let LogState { hard, base, last } = self.after;
        b.put_u64(last.0);
        b.put_log_id(base);
        b.put_epoch(hard.promised);
        b.put_epoch(hard.established);
        b.put_u64(hard.committed.0);
        b.put_u32(u32::from(hard.voted_for.is_some()));
        b.put_u32(hard.voted_for.map_or(0, |n| n.0));
        self.checksum = place.checksum(&b);
        b.put_u32(self.checksum);
        b.put_u32(0);
        debug_assert_eq!(b.len(), FRAME_HEADER_BYTES);
        b
    }

    /// The header at `place` if its checksum is right and its records fit the file.
    pub(crate) fn decode(segment: &[u8], place: Place) -> Option<Self> {
        let rest = segment.get(usize::try_from(place.offset).ok()?..)?;
        let mut i = Input(rest);
        if i.u32()? != FRAME_MAGIC {
            return None;
        }
        let (payload, records, prev) = (i.u32()?, i.u32()?, i.u32()?);
        let (sequence, synced, low, prev_low) = (i.u64()?, i.u64()?, i.u64()?, i.u64()?);
        let (last, base) = (Index(i.u64()?), i.log_id()?);
        let (promised, established, committed) = (i.epoch()?, i.epoch()?, Index(i.u64()?));
        let voted_for = match (i.u32()?, i.u32()?) {
            (0, _) => None,
            (_, n) => Some(NodeId(n)),
        };
        let hard = HardState { promised, voted_for, established, committed };
        let covered = rest.get(..rest.len() - i.0.len())?;
        let checksum = i.u32()?;
        i.u32()?;
        let whole = checksum == place.checksum(covered) && i.0.len() >= usize::try_from(payload).ok()?;
        let after = LogState { hard, base, last };
        whole.then_some(Self { payload, records, prev, sequence, synced, low, prev_low, after, checksum })
    }
}

/// A record as it is found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An entry; `None` if the body's checksum is wrong.
    Entry {
        id: LogId,
        ballot: Epoch,
        stamp: Stamp,
        body: Option<BodyAt>,
        body_bytes: u32,
    },
    Truncate {
        from: Index,
    },
    Purge {
        upto: LogId,
    },
}

/// A body, still in the bytes that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyAt {
    Noop,
    Command,
    /// The configuration, and how many bytes it takes before the command.
    Config(Box<replog::Configuration>, usize),
}

mod tag {
    pub(super) const NOOP: u32 = 1;
    pub(super) const COMMAND: u32 = 2;
    pub(super) const CONFIG: u32 = 3;
    pub(super) const TRUNCATE: u32 = 4;
    pub(super) const PURGE: u32 = 5;
}

struct RecordHeader {
    id: LogId,
    ballot: Epoch,
    stamp: Stamp,
    tag: u32,
    body_bytes: u32,
    body_checksum: u32,
}

impl RecordHeader {
    fn encode(&self, place: Place, into: &mut Vec<u8>) {
        let start = into.len();
        into.put_log_id(self.id);
        into.put_epoch(self.ballot);
        into.put_u64(self.stamp.0);
        into.put_u32(self.tag);
        into.put_u32(self.body_bytes);
        into.put_u32(self.body_checksum);
        let checksum = place.checksum(into.get(start..).unwrap_or_default());
        into.put_u32(checksum);
    }

    fn decode(bytes: &[u8], place: Place) -> Option<Self> {
        let mut i = Input(bytes);
        let header = Self {
            id: i.log_id()?,
            ballot: i.epoch()?,
            stamp: Stamp(i.u64()?),
            tag: i.u32()?,
            body_bytes: i.u32()?,
            body_checksum: i.u32()?,
        };
        let covered = bytes.get(..RECORD_HEADER_BYTES - 4)?;
        (i.u32()? == place.checksum(covered)).then_some(header)
    }
}

/// Appends an entry's record; its place is where the record begins.
pub(crate) fn put_entry(entry: &Entry, place: Place, into: &mut Vec<u8>) {
    let config;
    let (tag, prefix, command): (u32, &[u8], &[u8]) = match &entry.body {
        Body::Noop => (tag::NOOP, &[], &[]),
        Body::Command(bytes) => (tag::COMMAND, &[], bytes),
        Body::Config(configuration, bytes) => {
            let inner = configuration_bytes(configuration);
            let mut framed = Vec::with_capacity(4 + inner.len());
            framed.put_u32(u32::try_from(inner.len()).unwrap_or(u32::MAX));
            framed.extend_from_slice(&inner);
            config = framed;
            (tag::CONFIG, &config, bytes)
        }
    };
    let header = RecordHeader {
        id: entry.id,
        ballot: entry.ballot,
        stamp: entry.stamp,
        tag,
        body_bytes: u32::try_from(prefix.len() + command.len()).unwrap_or(u32::MAX),
        body_checksum: crc32c_append(crc32c(prefix), command),
    };
    header.encode(place, into);
    into.extend_from_slice(prefix);
    into.extend_from_slice(command);
}

/// Appends a truncation's record.
pub(crate) fn put_truncate(from: Index, place: Place, into: &mut Vec<u8>) {
    put_mark(tag::TRUNCATE, LogId::new(Epoch::ZERO, from), place, into);
}

/// Appends a purge's record.
pub(crate) fn put_purge(upto: LogId, place: Place, into: &mut Vec<u8>) {
    put_mark(tag::PURGE, upto, place, into);
}

fn put_mark(tag: u32, id: LogId, place: Place, into: &mut Vec<u8>) {
    let header =
        RecordHeader { id, ballot: Epoch::ZERO, stamp: Stamp(0), tag, body_bytes: 0, body_checksum: 0 };
    header.encode(place, into);
}

/// The record at the start of `bytes` and its length; `None` if the header is damaged. A damaged body is told apart:
/// see [`Record::Entry`].
pub(crate) fn record(bytes: &[u8], place: Place) -> Option<(Record, usize)> {
    let header = RecordHeader::decode(bytes, place)?;
    let body_bytes = usize::try_from(header.body_bytes).ok()?;
    let length = RECORD_HEADER_BYTES.checked_add(body_bytes)?;
    let body = bytes.get(RECORD_HEADER_BYTES..length);
    let record = match header.tag {
        tag::TRUNCATE => Record::Truncate { from: header.id.index },
        tag::PURGE => Record::Purge { upto: header.id },
        tag::NOOP | tag::COMMAND | tag::CONFIG => {
            let whole = body.filter(|b| crc32c(b) == header.body_checksum);
            Record::Entry {
                id: header.id,
                ballot: header.ballot,
                stamp: header.stamp,
                body: whole.and_then(|b| body_at(header.tag, b)),
                body_bytes: header.body_bytes,
            }
        }
        _ => return None,
    };
    Some((record, length))
}

fn body_at(tag: u32, body: &[u8]) -> Option<BodyAt> {
    match tag {
        tag::NOOP => Some(BodyAt::Noop),
        tag::COMMAND => Some(BodyAt::Command),
        _ => {
            let mut i = Input(body);
            let length = usize::try_from(i.u32()?).ok()?;
            let mut inner = Input(i.bytes(length)?);
            Some(BodyAt::Config(Box::new(codec::configuration(&mut inner)?), 4 + length))
        }
    }
}

/// The entry at `offset` of `bytes`, sharing them; `None` if it is damaged or not an entry.
pub(crate) fn entry(bytes: &Bytes, offset: usize, place: Place) -> Option<Entry> {
    let (record, length) = record(bytes.get(offset..)?, place)?;
    let Record::Entry { id, ballot, stamp, body: Some(body), .. } = record else { return None };
    let start = offset + RECORD_HEADER_BYTES;
    let end = offset + length;
    let body = match body {
        BodyAt::Noop => Body::Noop,
        BodyAt::Command => Body::Command(bytes.slice(start..end)),
        BodyAt::Config(configuration, skip) => Body::Config(configuration, bytes.slice(start + skip..end)),
    };
    Some(Entry { id, ballot, stamp, body })
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        b.extend_from_slice(SEGMENT_MAGIC);
        b.put_u32(VERSION);
        b.put_u32(self.identity.node.0);
        b.put_u64(self.identity.cluster);
        b.put_u64(self.first);
        b.put_u32(self.number);
        put_protocol(&mut b, &self.identity.protocol);
        b.resize(SEGMENT_HEADER_BYTES - 4, 0);
        let checksum = crc32c(&b);
        b.put_u32(checksum);
        b
    }

    /// The header of a segment, `None` if it is damaged.
    ///
    /// # Errors
    /// A format version that this program does not know.
    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Option<Self>, WalError> {
        let Some((covered, rest)) = bytes.split_at_checked(SEGMENT_HEADER_BYTES - 4) else { return Ok(None) };
        if Input(rest).u32() != Some(crc32c(covered)) {
            return Ok(None);
        }
        let mut i = Input(covered);
        if i.bytes(8) != Some(SEGMENT_MAGIC) {
            return Ok(None);
        }
        match i.u32() {
            Some(VERSION) => Ok(Self::decode_fields(&mut i)),
            found => Err(WalError::Version {
                path: path.to_owned(),
                found: found.unwrap_or_default(),
                supported: VERSION,
            }),
        }
    }

    fn decode_fields(i: &mut Input<'_>) -> Option<Self> {
        let (node, cluster, first, number) = (NodeId(i.u32()?), i.u64()?, i.u64()?, i.u32()?);
        let protocol = protocol(i)?;
        Some(Self { identity: Identity { protocol, cluster, node }, number, first })
    }
}

/// A protocol's name in its 16 bytes.
pub(crate) fn put_protocol(into: &mut Vec<u8>, name: &str) {
    let mut field = [0; PROTOCOL_BYTES];
    field.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    into.extend_from_slice(&field);
}

/// Inverse of [`put_protocol`].
pub(crate) fn protocol(from: &mut Input<'_>) -> Option<String> {
    let field = from.bytes(PROTOCOL_BYTES)?;
    let name = field.iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect();
    Some(name)
}
