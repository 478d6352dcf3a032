//! The bytes of a snapshot file.
//!
//! ```text
//! header: magic, version, flags, node, cluster, protocol, length of meta, meta, CRC32C of all that
//! block:  stored length, raw length, CRC32C, stored bytes        (≤ 256 KiB raw; lz4 if that makes it smaller)
//! …
//! end:    0, 0, CRC32C, bytes of the whole state
//! ```
//!
//! Each checksum continues the one before, from the header's on: a missing, repeated or reordered block is as
//! visible as a flipped bit, and the last one covers the whole file.

use crate::Identity;
use crate::codec::{self, Input, Output};
use crate::disk::DiskFile;
use crate::format::{protocol, put_protocol};
use crc32c::crc32c_append;
use replog::{ConfigurationAt, LogId, NodeId};
use std::io::{self, Read};

const MAGIC: &[u8; 8] = b"mngsnap\n";
pub(crate) const VERSION: u32 = 1;
/// Raw bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;
/// Fields before the meta.
const FIXED_BYTES: usize = 48;
const META_LIMIT: usize = 16 << 20;
const BLOCK_HEADER_BYTES: usize = 12;

/// What a snapshot says of itself besides the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Last entry inside it.
    pub at: LogId,
    /// Every configuration in force or pending there, ascending: the log that told them is going to be purged.
    pub configurations: Vec<ConfigurationAt>,
}

/// Why a snapshot cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Damaged or cut short.
    Bytes(&'static str),
    /// Of a newer format.
    Version(u32),
}

impl From<Bad> for io::Error {
    fn from(bad: Bad) -> Self {
        let text = match bad {
            Bad::Bytes(what) => what.to_owned(),
            Bad::Version(found) => format!("snapshot format {found} is newer than this program"),
        };
        Self::new(io::ErrorKind::InvalidData, text)
    }
}

/// The header's bytes; the last four are the checksum with which the blocks go on.
pub(crate) fn put_header(identity: &Identity, meta: &Meta) -> Vec<u8> {
    let mut inner = Vec::new();
    inner.put_log_id(meta.at);
    codec::put_configurations(&mut inner, &meta.configurations);
    let mut b = Vec::with_capacity(FIXED_BYTES + inner.len() + 4);
    b.extend_from_slice(MAGIC);
    b.put_u32(VERSION);
    b.put_u32(identity.node.0);
    b.put_u64(identity.cluster);
    put_protocol(&mut b, &identity.protocol);
    b.put_u32(0);
    b.put_u32(u32::try_from(inner.len()).unwrap_or(u32::MAX));
    debug_assert_eq!(b.len(), FIXED_BYTES);
    b.extend_from_slice(&inner);
    let checksum = crc32c_append(0, &b);
    b.put_u32(checksum);
    b
}

/// The checksum that a header ends with.
pub(crate) fn header_checksum(header: &[u8]) -> u32 {
    header.last_chunk().map_or(0, |c| u32::from_le_bytes(*c))
}

/// A block's header and how its bytes are stored; the new checksum.
pub(crate) fn put_block(raw: &[u8], compress: bool, before: u32, into: &mut Vec<u8>) -> u32 {
    let packed = if compress { lz4_flex::block::compress(raw) } else { Vec::new() };
    let stored = if compress && packed.len() < raw.len() { packed.as_slice() } else { raw };
    let start = into.len();
    into.put_u32(u32::try_from(stored.len()).unwrap_or(u32::MAX));
    into.put_u32(u32::try_from(raw.len()).unwrap_or(u32::MAX));
    let of_lengths = crc32c_append(before, into.get(start..).unwrap_or_default());
    let checksum = crc32c_append(of_lengths, stored);
    into.put_u32(checksum);
    into.extend_from_slice(stored);
    checksum
}

/// The end.
pub(crate) fn put_end(total: u64, before: u32, into: &mut Vec<u8>) {
    into.put_u32(0);
    into.put_u32(0);
    let of_lengths = crc32c_append(before, &[0; 8]);
    into.put_u32(crc32c_append(of_lengths, &total.to_le_bytes()));
    into.put_u64(total);
}

/// Reads the state out of a snapshot file and checks it on the way. The end is only reported (`Ok(0)`) once the
/// whole file has proved right.
#[derive(Debug)]
pub struct SnapshotReader<F> {
    file: F,
    offset: u64,
    checksum: u32,
    total: u64,
    block: Vec<u8>,
    taken: usize,
    ended: bool,
    meta: Meta,
    writer: Identity,
}

impl<F: DiskFile> SnapshotReader<F> {
    /// Reads and checks the header.
    pub(crate) fn open(file: F) -> io::Result<Result<Self, Bad>> {
        let mut fixed = [0; FIXED_BYTES];
        let got = file.read_full(&mut fixed, 0)?;
        let Some((writer, length)) = Some(()).filter(|()| got == FIXED_BYTES).and_then(|()| fields(&fixed))
        else {
            return Ok(Err(Bad::Bytes("not a snapshot, or its header is damaged")));
        };
        if let Err(version) = length {
            return Ok(Err(Bad::Version(version)));
        }
        let length = length.unwrap_or(0).min(META_LIMIT);
        let mut rest = vec![0; length + 4];
        let got = file.read_full(&mut rest, FIXED_BYTES as u64)?;
        let (inner, tail) = rest.split_at_checked(length).unwrap_or_default();
        let checksum = crc32c_append(crc32c_append(0, &fixed), inner);
        if got != length + 4 || header_checksum(tail) != checksum {
            return Ok(Err(Bad::Bytes("the header is damaged")));
        }
        let mut i = Input(inner);
        let meta =
            i.log_id().and_then(|at| Some(Meta { at, configurations: codec::configurations(&mut i)? }));
        let Some(meta) = meta else { return Ok(Err(Bad::Bytes("the header makes no sense"))) };
        let offset = (FIXED_BYTES + length + 4) as u64;
        let (block, taken) = (Vec::new(), 0);
        Ok(Ok(Self { file, offset, checksum, total: 0, block, taken, ended: false, meta, writer }))
    }

    /// What the snapshot says of itself.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(crate) fn writer(&self) -> &Identity {
        &self.writer
    }

    /// The next block, `false` at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut head = [0; BLOCK_HEADER_BYTES];
        self.fill(&mut head)?;
        let mut i = Input(&head);
        let (Some(stored), Some(raw), Some(checksum)) = (i.u32(), i.u32(), i.u32()) else { return Ok(false) };
        let (lengths, _) = head.split_at(8);
        let of_lengths = crc32c_append(self.checksum, lengths);
        if stored == 0 {
            let mut total = [0; 8];
            self.fill(&mut total)?;
            let right =
                crc32c_append(of_lengths, &total) == checksum && u64::from_le_bytes(total) == self.total;
            let whole = right && self.file.len()? == self.offset;
            self.ended = whole;
            return if whole { Ok(false) } else { Err(Bad::Bytes("the end is damaged").into()) };
        }
        let too_long = || io::Error::from(Bad::Bytes("a block's length is damaged"));
        let stored = usize::try_from(stored).ok().filter(|n| *n <= BLOCK_BYTES).ok_or_else(too_long)?;
        let raw =
            usize::try_from(raw).ok().filter(|n| stored <= *n && *n <= BLOCK_BYTES).ok_or_else(too_long)?;
        let mut bytes = vec![0; stored];
        self.fill(&mut bytes)?;
        self.checksum = crc32c_append(of_lengths, &bytes);
        if self.checksum != checksum {
            return Err(Bad::Bytes("a block is damaged").into());
        }
        self.block = if stored == raw {
            bytes
        } else {
            let unpacked = lz4_flex::block::decompress(&bytes, raw).unwrap_or_default();
            if unpacked.len() != raw {
                return Err(Bad::Bytes("a block does not unpack").into());
            }
            unpacked
        };
        self.taken = 0;
        self.total += raw as u64;
        Ok(true)
    }

    fn fill(&mut self, into: &mut [u8]) -> io::Result<()> {
        let got = self.file.read_full(into, self.offset)?;
        self.offset += got as u64;
        if got == into.len() { Ok(()) } else { Err(Bad::Bytes("the file is cut short").into()) }
    }

    /// Reads to the end; the bytes of the state.
    pub(crate) fn verify(mut self) -> io::Result<u64> {
        while !self.ended && self.next_block()? {}
        Ok(self.total)
    }
}

impl<F: DiskFile> Read for SnapshotReader<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.block.len() && (self.ended || into.is_empty() || !self.next_block()?) {
            return Ok(0);
        }
        let rest = self.block.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.taken += count;
        Ok(count)
    }
}

/// Who wrote it, and the length of the meta or the unknown version.
fn fields(fixed: &[u8]) -> Option<(Identity, Result<usize, u32>)> {
    let mut i = Input(fixed);
    if i.bytes(8)? != MAGIC {
        return None;
    }
    let version = i.u32()?;
    let (node, cluster) = (NodeId(i.u32()?), i.u64()?);
    let protocol = protocol(&mut i)?;
    let _flags = i.u32()?;
    let length = usize::try_from(i.u32()?).ok()?;
    let length = if version == VERSION { Ok(length) } else { Err(version) };
    Some((Identity { protocol, cluster, node }, length))
}
