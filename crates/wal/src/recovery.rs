//! Reading the log back: what was durable, what is torn, what is damaged.
//!
//! Rules, in the order in which they are applied to the first frame that is not whole:
//! 1. it was called durable by a later record (a frame's or mark's `synced`, or a later segment's existence) → damage:
//!    its positions are reported, nothing is cut;
//! 2. otherwise nobody was ever told of it → torn tail: it and what follows is forgotten.
//!
//! Why not simply "something valid follows → damage": one write may carry several frames, and a power failure keeps
//! any subset of its sectors. 1. Frames 7 and 8 are written together; 2. power fails, the sectors of 8 are on the
//! platter, those of 7 are not; 3. neither was acknowledged, and to call 7 damaged would make this replica ask its
//! peers for an entry that nobody ever had.
//!
//! What a damaged frame may hide: its entries. Not votes, truncations or purges: the next frame repeats the state.
//! If no frame follows (the last segment's preamble and everything after it is rotten) the last vote is unknown, and
//! the log refuses to open.
// spec: reliability §4 rules 1-2; "Protocol-Aware Recovery" (FAST 18) §3.3

use crate::disk::{Disk, DiskFile};
use crate::format::{
    self, BodyAt, FRAME_HEADER_BYTES, FrameHeader, LogState, Place, Record, SEGMENT_HEADER_BYTES,
};
use crate::index::Location;
use crate::segment::{self, Found};
use crate::{Identity, WalError};
use replog::{Entry, EntryMeta, Index, Recovered, Span, mutant};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A log, read back.
pub(crate) struct Loaded<F> {
    pub(crate) recovered: Recovered,
    pub(crate) resume: Resume,
    /// Number, file and length of each segment.
    pub(crate) files: Vec<(u32, Arc<F>, u64)>,
}

/// Reads the segments `numbers` of `dir`, one in memory at a time. Everything read is durable when this returns.
pub(crate) fn load<D: Disk>(
    disk: &D,
    dir: &Path,
    numbers: &[u32],
    identity: &Identity,
) -> Result<Loaded<D::File>, WalError> {
    let log = identity.checksum();
    let mut files = Vec::new();
    let mut firsts = Vec::new();
    for number in numbers.iter().copied() {
        let path = segment::path(dir, number);
        let file = disk.open(&path).map_err(|e| WalError::io("opening", &path, e))?;
        let mut start = vec![0; SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES];
        file.read_full(&mut start, 0).map_err(|e| WalError::io("reading", &path, e))?;
        let header = segment::check_identity(&start, &path, identity)?;
        // 1. a follower writes entry 5 and is killed before its sync; 2. it restarts, reads 5 from the page cache
        // and reports it; 3. it is counted, 5 commits; 4. power fails, 5 is gone. So: sync, then believe.
        if !mutant!(WalRecoveryUnsynced) {
            file.sync().map_err(|e| WalError::sync(&path, e))?;
        }
        let preamble = || segment::frames(&start, log, number).first().map(|f| f.header.sequence);
        firsts.push(header.map(|h| h.first).or_else(preamble));
        let length = file.len().map_err(|e| WalError::io("measuring", &path, e))?;
        files.push((number, Arc::new(file), length));
    }
    disk.sync_dir(dir).map_err(|e| WalError::sync(dir, e))?;
    let mut recovery = Recovery::new(log);
    for (i, (number, file, _)) in files.iter().enumerate() {
        let path = segment::path(dir, *number);
        let bytes = segment::read_all(file.as_ref(), &path)?;
        let frames = segment::frames(&bytes, log, *number);
        let first = firsts.get(i).copied().flatten().or(frames.first().map(|f| f.header.sequence));
        let next_first = firsts.iter().skip(i + 1).copied().flatten().next();
        let last = i + 1 == files.len();
        recovery.segment(
            &ReadSegment { number: *number, bytes: &bytes, frames, first, next_first, last },
            &path,
        )?;
    }
    let (recovered, resume) = recovery.finish();
    Ok(Loaded { recovered, resume, files })
}

/// One segment, read.
struct ReadSegment<'a> {
    pub(crate) number: u32,
    pub(crate) bytes: &'a [u8],
    pub(crate) frames: Vec<Found>,
    /// Sequence of its preamble: what the header says, or else its first frame.
    pub(crate) first: Option<u64>,
    /// Sequence of the preamble of a later segment, if one can be read.
    pub(crate) next_first: Option<u64>,
    /// Whether it is the last one.
    pub(crate) last: bool,
}

/// What is at a position.
enum Slot {
    Known { meta: EntryMeta, at: Location, rotten: bool },
    Lost,
}

/// The log as far as it has been read.
struct Recovery {
    log: u32,
    slots: BTreeMap<Index, Slot>,
    state: LogState,
    /// Sequence of the next frame.
    expected: u64,
    /// Checksum of the last frame.
    chain: u32,
    /// Whether a frame has been seen at all.
    begun: bool,
    /// A torn tail was met; nothing further counts.
    torn: bool,
    /// `low` of the last frame.
    last_low: u64,
    /// No entry of these segments lies above these indexes.
    highest: BTreeMap<u32, Index>,
    good_end: u64,
    /// How far the present segment is known to be durable.
    proven_end: u64,
}

/// What the log goes on from.
pub(crate) struct Resume {
    pub(crate) state: LogState,
    pub(crate) next_sequence: u64,
    pub(crate) chain: u32,
    pub(crate) last_low: u64,
    pub(crate) locations: Vec<(Index, Location)>,
    /// No entry of these segments lies above these indexes.
    pub(crate) highest: BTreeMap<u32, Index>,
    /// Where the last whole frame of the last segment ends.
    pub(crate) good_end: u64,
    /// What lies from here to there was read, and nothing says that a sync was done since it was written.
    pub(crate) proven_end: u64,
}

impl Recovery {
    fn new(log: u32) -> Self {
        Self {
            log,
            slots: BTreeMap::new(),
            state: LogState::default(),
            expected: 0,
            chain: 0,
            begun: false,
            torn: false,
            last_low: u64::MAX,
            highest: BTreeMap::new(),
            good_end: 0,
            proven_end: 0,
        }
    }

    /// Takes the next segment.
    ///
    /// # Errors
    /// [`WalError::HardStateLost`] if it is the last one and does not tell the state of the log.
    fn segment(&mut self, read: &ReadSegment<'_>, path: &Path) -> Result<(), WalError> {
        let frames: Vec<&Found> =
            read.frames.iter().filter(|f| read.next_first.is_none_or(|n| f.header.sequence < n)).collect();
        let Some(first) = read.first else {
            // Nothing in it can be read. The next segment tells the state; without one the last vote is unknown.
            return if read.last { Err(WalError::HardStateLost { path: path.to_owned() }) } else { Ok(()) };
        };
        if !self.begun {
            self.expected = first;
        }
        self.good_end = SEGMENT_HEADER_BYTES as u64;
        self.proven_end = self.good_end;
        // The preamble was durable before the segment had its name.
        let testified = match read.next_first {
            Some(next) => next.saturating_sub(1),
            None if !read.last => u64::MAX,
            None => frames.iter().map(|f| f.header.synced).fold(first, u64::max),
        };
        for found in frames {
            if self.torn {
                return Ok(());
            }
            if found.header.is_mark() {
                self.mark(read.number, found, first);
            } else if found.header.sequence >= self.expected {
                self.frame(read, found, first, testified);
            }
        }
        if self.expected == first && self.begun && !self.torn {
            // Only the preamble is gone, and it repeats the state in which the whole segment before it ended.
            self.expected += 1;
        }
        if read.last && !self.torn && self.expected <= testified {
            return Err(WalError::HardStateLost { path: path.to_owned() });
        }
        Ok(())
    }

    fn frame(&mut self, read: &ReadSegment<'_>, found: &Found, first: u64, testified: u64) {
        let header = &found.header;
        if header.sequence > self.expected {
            if self.expected > testified {
                self.torn = true;
                return;
            }
            self.lose_frames(&found.header, found.header.sequence, first);
        }
        let durable = header.sequence <= testified;
        let whole = self.records(read, found, true);
        if !whole && !durable && !mutant!(WalTornTailBelieved) {
            self.torn = true;
            return;
        }
        self.records(read, found, false);
        self.state = header.after;
        let base = self.state.base.index;
        self.slots = self.slots.split_off(&base.next());
        self.slots.split_off(&self.state.last.next());
        self.expected = header.sequence + 1;
        self.chain = header.checksum;
        self.last_low = header.low;
        self.begun = true;
        let payload = usize::try_from(header.payload).unwrap_or(0);
        let start = found.records - FRAME_HEADER_BYTES;
        self.good_end = (start + format::frame_bytes(payload)) as u64;
        if durable {
            self.proven_end = self.good_end;
        }
        self.bound(read.number, header.after.last);
    }

    /// Everything up to the mark was durable: of the frames that are not there it tells at least the state.
    fn mark(&mut self, segment: u32, found: &Found, first: u64) {
        let header = &found.header;
        if header.sequence < self.expected {
            return;
        }
        self.lose_frames(header, header.sequence + 1, first);
        self.state = header.after;
        self.slots = self.slots.split_off(&self.state.base.index.next());
        self.slots.split_off(&self.state.last.next());
        self.expected = header.sequence + 1;
        self.chain = header.prev;
        self.last_low = header.prev_low;
        self.begun = true;
        self.good_end = (found.records - FRAME_HEADER_BYTES) as u64;
        self.proven_end = self.good_end;
        self.bound(segment, header.after.last);
    }

    /// The segment, and the one before (whose last frames may be gone), hold nothing above `last`.
    fn bound(&mut self, segment: u32, last: Index) {
        for number in [segment.saturating_sub(1), segment] {
            let highest = self.highest.entry(number).or_default();
            *highest = last.max(*highest);
        }
    }

    /// The frames before `next` are gone, as `header` behind them shows. Whatever they may have written is unknown.
    fn lose_frames(&mut self, header: &FrameHeader, next: u64, first: u64) {
        let count = next - self.expected;
        if count == 1 && self.expected == first {
            return; // a preamble holds no entries
        }
        // A frame may replace and cut entries, but never committed ones; the hint lags, so it is a safe bound.
        // If exactly one frame is gone, its successor tells how low it reached.
        let bound = self.state.hard.committed.max(self.state.base.index).next();
        let low = if count == 1 { Index(header.prev_low) } else { bound };
        let high = header.after.last;
        self.slots.split_off(&low);
        let mut at = low.max(header.after.base.index.next());
        while at <= high {
            self.slots.insert(at, Slot::Lost);
            at = at.next();
        }
    }

    /// Goes through a frame's records; whether all of them are whole. A dry run changes nothing.
    fn records(&mut self, read: &ReadSegment<'_>, found: &Found, dry: bool) -> bool {
        let header = &found.header;
        let payload = usize::try_from(header.payload).unwrap_or(usize::MAX);
        let end = found.records.saturating_add(payload);
        let mut offset = found.records;
        let mut whole = true;
        for _ in 0..header.records {
            let here = u32::try_from(offset).unwrap_or(u32::MAX);
            let place = Place { log: self.log, segment: read.number, offset: here };
            let bytes = read.bytes.get(offset..end).unwrap_or_default();
            let Some((record, length)) = format::record(bytes, place) else {
                if !dry {
                    self.lose_rest(read.number, found);
                }
                return false;
            };
            let at = Location {
                segment: read.number,
                offset: here,
                length: u32::try_from(length).unwrap_or(u32::MAX),
            };
            whole &= !matches!(record, Record::Entry { body: None, .. });
            if !dry {
                self.apply(record, at);
            }
            offset += length;
        }
        whole
    }

    /// The rest of a frame has no readable record headers: what it may have written and was not read is lost.
    fn lose_rest(&mut self, segment: u32, found: &Found) {
        let end = found.records + usize::try_from(found.header.payload).unwrap_or(0);
        let read_here = |slot: &Slot| match slot {
            Slot::Known { at, .. } => {
                at.segment == segment
                    && (found.records..end).contains(&usize::try_from(at.offset).unwrap_or(0))
            }
            Slot::Lost => false,
        };
        let high = found.header.after.last;
        let mut at = found.header.after.base.index.next().max(Index(found.header.low));
        while at <= high {
            if !self.slots.get(&at).is_some_and(read_here) {
                self.slots.insert(at, Slot::Lost);
            }
            at = at.next();
        }
    }

    fn apply(&mut self, record: Record, at: Location) {
        match record {
            Record::Truncate { from } => {
                self.slots.split_off(&from);
            }
            Record::Purge { upto } => {
                self.slots = self.slots.split_off(&upto.index.next());
            }
            Record::Entry { id, ballot, body, body_bytes, .. } => {
                let rotten = body.is_none();
                let (configuration, skip) = match body {
                    Some(BodyAt::Config(c, skip)) => (Some(c), u32::try_from(skip).unwrap_or(0)),
                    _ => (None, 0),
                };
                let extra = if configuration.is_some() { 256 } else { 0 };
                let command = body_bytes.saturating_sub(skip);
                let bytes = Entry::OVERHEAD_BYTES.saturating_add(command).saturating_add(extra);
                let meta = EntryMeta { id, ballot, bytes, configuration };
                self.slots.insert(id.index, Slot::Known { meta, at, rotten });
            }
        }
    }

    /// The end: what the core is told, and what the log goes on from.
    fn finish(self) -> (Recovered, Resume) {
        let mut recovered =
            Recovered { hard_state: self.state.hard, base: self.state.base, ..Recovered::default() };
        let mut locations = Vec::new();
        let mut damage: Option<Span> = None;
        for (index, slot) in self.slots {
            let bad = match slot {
                Slot::Lost => true,
                Slot::Known { meta, at, rotten } => {
                    recovered.entries.push(meta);
                    if !rotten {
                        locations.push((index, at));
                    }
                    rotten
                }
            };
            if bad {
                damage = match damage {
                    Some(span) if span.to.next() == index => Some(Span { to: index, ..span }),
                    other => {
                        recovered.damaged.extend(other);
                        Some(Span { from: index, to: index })
                    }
                };
            }
        }
        recovered.damaged.extend(damage);
        let resume = Resume {
            state: self.state,
            next_sequence: self.expected,
            chain: self.chain,
            last_low: self.last_low,
            locations,
            highest: self.highest,
            good_end: self.good_end,
            proven_end: self.proven_end,
        };
        (recovered, resume)
    }
}
