//! One segment file: its name, how it comes into being, and how it is read back as a list of frames.
//!
//! A segment becomes visible only when it is whole: written under a temporary name with its header and its
//! preamble frame, synced, renamed, and the directory synced.
// spec: reliability §4 rule 3

use crate::disk::{Disk, DiskFile};
use crate::format::{
    FRAME_HEADER_BYTES, FrameHeader, Place, SEGMENT_HEADER_BYTES, SegmentHeader, frame_bytes,
};
use crate::{Identity, WalError};
use replog::mutant;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".log";
const TEMPORARY: &str = ".log.tmp";

/// `0000000042.log`.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}{SUFFIX}"))
}

/// The number in a segment's name.
pub(crate) fn number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() == 10 { digits.parse().ok().filter(|n| *n > 0) } else { None }
}

/// Numbers of the segments in `dir`, ascending. What a crash left half made is removed.
pub(crate) fn list<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<u32>, WalError> {
    let names = disk.list(dir).map_err(|e| WalError::io("listing", dir, e))?;
    for name in names.iter().filter(|n| n.ends_with(TEMPORARY)) {
        let path = dir.join(name);
        disk.remove(&path).map_err(|e| WalError::io("removing", &path, e))?;
    }
    let mut numbers: Vec<u32> = names.iter().filter_map(|n| number(n)).collect();
    numbers.sort_unstable();
    for (have, next) in numbers.iter().zip(numbers.iter().skip(1)) {
        if have + 1 != *next {
            return Err(WalError::MissingSegment { path: path(dir, have + 1) });
        }
    }
    Ok(numbers)
}

/// A new segment with these first bytes, durable when this returns.
pub(crate) fn create<D: Disk>(
    disk: &D,
    dir: &Path,
    number: u32,
    start: &[u8],
    preallocate: u64,
) -> Result<D::File, WalError> {
    let to = path(dir, number);
    let from = dir.join(format!("{number:010}{TEMPORARY}"));
    let made = (|| {
        let file = disk.create(&from).map_err(|e| WalError::io("creating", &to, e))?;
        file.preallocate(preallocate).map_err(|e| WalError::io("reserving room for", &to, e))?;
        file.write_at(start, 0).map_err(|e| WalError::io("writing", &to, e))?;
        file.sync().map_err(|e| WalError::sync(&to, e))?;
        Ok(file)
    })();
    let file = match made {
        Ok(file) => file,
        Err(e) => {
            // A full disk is not the end: give back what was taken. If even that fails, the next start does it.
            let _ = disk.remove(&from);
            return Err(e);
        }
    };
    disk.rename(&from, &to).map_err(|e| WalError::io("renaming", &to, e))?;
    if !mutant!(WalNoDirSync) {
        disk.sync_dir(dir).map_err(|e| WalError::sync(dir, e))?;
    }
    Ok(file)
}

/// All bytes of a file.
pub(crate) fn read_all<F: DiskFile>(file: &F, path: &Path) -> Result<Vec<u8>, WalError> {
    let length = file.len().map_err(|e| WalError::io("measuring", path, e))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let got = file.read_full(&mut bytes, 0).map_err(|e| WalError::io("reading", path, e))?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Refuses a segment of another protocol, cluster or server. `None`: the header is damaged.
pub(crate) fn check_identity(
    bytes: &[u8],
    path: &Path,
    ours: &Identity,
) -> Result<Option<SegmentHeader>, WalError> {
    let Some(header) = SegmentHeader::decode(bytes, path)? else { return Ok(None) };
    ours.check(&header.identity, path)?;
    Ok(Some(header))
}

/// A frame found in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) header: FrameHeader,
    /// Where its records begin.
    pub(crate) records: usize,
}

/// Every frame of a segment whose header is whole, in order of sequence. Damaged stretches are skipped; what lies
/// inside a whole frame is not searched.
pub(crate) fn frames(bytes: &[u8], log: u32, segment: u32) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset + FRAME_HEADER_BYTES <= bytes.len() {
        let Ok(here) = u32::try_from(offset) else { break };
        let Some(header) = FrameHeader::decode(bytes, Place { log, segment, offset: here }) else {
            offset += 8;
            continue;
        };
        // A frame that repeats or contradicts its predecessor is stale: the bytes of a write that was superseded.
        let fits = found.last().is_none_or(|before| {
            let (a, b) = (&before.header, &header);
            if b.is_mark() {
                return b.sequence > a.sequence || (b.sequence == a.sequence && b.prev == a.checksum);
            }
            // A mark that a torn write left in the middle stands for the frame that it names.
            let chain = if a.is_mark() { a.prev } else { a.checksum };
            b.sequence > a.sequence + 1 || (b.sequence == a.sequence + 1 && b.prev == chain)
        });
        if fits {
            found.push(Found { header, records: offset + FRAME_HEADER_BYTES });
        }
        offset += frame_bytes(usize::try_from(header.payload).unwrap_or(usize::MAX - 1024));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        assert_eq!(number("0000000042.log"), Some(42));
        assert_eq!(path(Path::new("d"), 42), Path::new("d/0000000042.log"));
        for other in ["42.log", "0000000000.log", "0000000042.log.tmp", "x000000042.log", "0000000042.snap"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
