//! [`Wal`]: the log of one replica.
//!
//! `append` encodes a frame into a buffer, `sync` writes the buffer with one pwrite and makes it durable with one
//! fdatasync, so all appends between two syncs share both. Reading goes through [`WalReader`].
//!
//! ```text
//!  next_sequence ──┐      buffer (not in the file yet)
//!  [preamble][5][6]│[7][8] ............ zeros (preallocated)
//!        ▲ synced  ▲ written
//! ```
//!
//! Invariants: `synced < next_sequence`; the file holds every frame before the buffer; a frame never crosses a
//! segment; segments are removed oldest first, once the base that makes them useless is durable.

use crate::disk::{Disk, DiskFile};
use crate::format::{self, FrameHeader, LogState, Place, SegmentHeader};
use crate::index::{Location, LogIndex};
use crate::reader::Shared;
use crate::recovery::{self, Resume};
use crate::reserve::Reserve;
use crate::segment;
use crate::{Identity, WalError, WalReader};
use replog::{HardState, Index, LogId, LogOp, LogStore, Recovered, Span, mutant};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A frame must fit the 32-bit offsets of a segment with room to spare.
const FRAME_LIMIT: u64 = 1 << 30;

/// Sizes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Bytes of a segment, 4 KiB to 1 GiB. Reserved when it is made.
    pub segment_bytes: u64,
    /// Bytes of appends that are gathered before they are written without waiting for `sync`.
    pub buffer_bytes: usize,
    /// Bytes kept back for a full disk, 0 for none.
    pub reserve_bytes: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, buffer_bytes: 1 << 20, reserve_bytes: 64 << 20 }
    }
}

/// What the log has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of `append`.
    pub appends: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of frames.
    pub bytes: u64,
    /// Writes to files.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Segments made.
    pub segments_created: u64,
    /// Segments removed.
    pub segments_removed: u64,
    /// Pieces read back.
    pub reads: u64,
    /// Bytes read back.
    pub read_bytes: u64,
}

/// A segmented log on a disk.
pub struct Wal<D: Disk> {
    disk: D,
    dir: PathBuf,
    identity: Identity,
    options: WalOptions,
    shared: Arc<Shared<D::File>>,
    active: Active<D::File>,
    /// The segments before it, oldest first.
    older: VecDeque<Older>,
    buffer: Vec<u8>,
    state: LogState,
    next_sequence: u64,
    /// Last frame known to be durable.
    synced: u64,
    chain: u32,
    last_low: u64,
    failed: bool,
    created: bool,
    counters: Counters,
    reserve: Reserve<D>,
    _lock: D::Lock,
}

/// A segment that is full.
struct Older {
    number: u32,
    /// No entry in it lies above.
    highest: Index,
    bytes: u64,
}

/// The segment that is written.
struct Active<F> {
    number: u32,
    file: Arc<F>,
    /// Bytes in the file.
    written: u64,
    /// Bytes after which the next segment begins.
    limit: u64,
    /// Whether something was written since the last sync.
    dirty: bool,
    /// Whether it holds more than its preamble.
    used: bool,
    /// No entry in it lies above.
    highest: Index,
}

impl<D: Disk> Wal<D> {
    /// Opens the log in `dir`, which is made if it is missing, and says what it holds. Everything reported is
    /// durable. A torn tail is cut; damage is reported in [`Recovered::damaged`], of which a position that is not
    /// also in [`Recovered::entries`] has lost its id: such a replica may not vote before it is admitted again.
    ///
    /// # Errors
    /// The directory is locked, or belongs to another protocol, cluster or server; the last hard state is damaged;
    /// the disk refuses.
    pub fn open(
        disk: D,
        dir: impl AsRef<Path>,
        identity: Identity,
        options: WalOptions,
    ) -> Result<(Self, Recovered), WalError> {
        let dir = dir.as_ref().to_owned();
        disk.create_dir(&dir).map_err(|e| WalError::io("creating", &dir, e))?;
        let lock = lock(&disk, &dir, "log.lock")?;
        let numbers = segment::list(&disk, &dir)?;
        let created = numbers.is_empty();
        let loaded = recovery::load(&disk, &dir, &numbers, &identity)?;
        let (recovered, resume) = (loaded.recovered, loaded.resume);
        let mut index = LogIndex::new(resume.state.base);
        for (at, location) in &resume.locations {
            index.put(*at, *location);
        }
        let older = loaded
            .files
            .iter()
            .map(|(n, _, bytes)| Older {
                number: *n,
                highest: resume.highest.get(n).copied().unwrap_or(Index(u64::MAX)),
                bytes: *bytes,
            })
            .collect();
        let tail = loaded.files.last().map(|(n, file, _)| (*n, Arc::clone(file)));
        for (n, file, _) in loaded.files {
            index.add_segment(n, file);
        }
        let reserve = Reserve::open(disk.clone(), &dir, options.reserve_bytes)?;
        let number = numbers.last().map_or(1, |n| n + 1);
        let shared = Arc::new(Shared::new(identity.checksum(), index));
        let (proven, good) = (resume.proven_end, resume.good_end);
        let mut wal = Self::begin(disk, dir, identity, options, shared, resume, number, reserve, lock)?;
        wal.older = older;
        wal.created = created;
        if let Some((n, file)) = tail {
            wal.trim(n, &file, proven, good)?;
        }
        wal.remove_purged()?;
        Ok((wal, recovered))
    }

    /// Cuts the torn tail and the unused room of the segment that was written last. The next one is durable by now
    /// and says where this one ends, so a crash here changes nothing.
    // 1. A sync fails, and the process ends; 2. the kernel has marked the pages clean, and still has them: the next start
    // reads an entry that no disk holds; 3. its sync has nothing to write, the entry is acknowledged; 4. the power fails.
    // Rule: what nothing proves to be durable is written again before it is synced.
    // spec: reliability §4 ("fsyncgate": https://wiki.postgresql.org/wiki/Fsync_Errors)
    fn trim(&mut self, number: u32, file: &D::File, proven: u64, end: u64) -> Result<(), WalError> {
        let path = self.path(number);
        let mut doubtful = vec![0; usize::try_from(end.saturating_sub(proven)).unwrap_or(0)];
        let read = file.read_full(&mut doubtful, proven).map_err(|e| WalError::io("reading", &path, e))?;
        doubtful.truncate(read);
        file.write_at(&doubtful, proven).map_err(|e| WalError::io("writing", &path, e))?;
        file.set_len(end).map_err(|e| WalError::io("cutting", &path, e))?;
        if !mutant!(WalRecoveryUnsynced) {
            file.sync().map_err(|e| WalError::sync(&path, e))?;
        }
        if let Some(last) = self.older.back_mut() {
            last.bytes = end;
        }
        Ok(())
    }

    /// A new segment after each start: what is torn is never written over, and the new preamble testifies that all
    /// before it is durable.
    #[expect(clippy::too_many_arguments, reason = "the parts of one value, put together in one place")]
    fn begin(
        disk: D,
        dir: PathBuf,
        identity: Identity,
        options: WalOptions,
        shared: Arc<Shared<D::File>>,
        resume: Resume,
        number: u32,
        mut reserve: Reserve<D>,
        lock: D::Lock,
    ) -> Result<Self, WalError> {
        let sequence = resume.next_sequence.max(1);
        let preamble = Preamble { number, sequence, chain: resume.chain, prev_low: resume.last_low };
        let (start, chain) = preamble.encode(&identity, resume.state);
        let file = match segment::create(&disk, &dir, number, &start, options.segment_bytes) {
            // A full disk must not keep a server from starting: it is needed for the purge that makes room.
            Err(e) if e.is_disk_full() && reserve.release()? => {
                segment::create(&disk, &dir, number, &start, options.segment_bytes)?
            }
            other => other?,
        };
        let file = Arc::new(file);
        let written = start.len() as u64;
        {
            let mut index = shared.index_mut();
            index.add_segment(number, Arc::clone(&file));
            index.set_flushed(number, written);
        }
        let limit = options.segment_bytes;
        let highest = resume.state.last;
        let active = Active { number, file, written, limit, dirty: false, used: false, highest };
        Ok(Self {
            disk,
            dir,
            identity,
            options,
            shared,
            active,
            older: VecDeque::new(),
            buffer: Vec::new(),
            state: resume.state,
            next_sequence: sequence + 1,
            synced: sequence,
            chain,
            last_low: u64::MAX,
            failed: false,
            created: false,
            counters: Counters { segments_created: 1, ..Counters::default() },
            reserve,
            _lock: lock,
        })
    }

    /// Whether `open` found no log and began one: a server that should have had one has lost its disk.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.created
    }

    /// Gives up, durably, the part of the log that the state at `snapshot` covers, if damage took ids there.
    ///
    /// # Errors
    /// As `append` and `sync`.
    pub fn cover(&mut self, recovered: &mut Recovered, snapshot: LogId) -> Result<(), WalError> {
        // 1. The header of entry 97 rots; the own snapshot ends at 401; 2. the others have purged 97: nobody can send it
        // again; 3. a core that finds the hole cuts its log there, below what is applied, or loses its vote for an entry
        // whose effect it holds. What a snapshot covers is committed and known: the log begins behind it instead.
        let known = |index| recovered.entries.binary_search_by_key(&index, |e| e.id.index).is_ok();
        let covered = |span: &Span| span.from.0..=span.to.min(snapshot.index).0;
        if recovered.damaged.iter().flat_map(covered).all(|index| known(Index(index))) {
            return Ok(());
        }
        self.append(&[LogOp::Purge { upto: snapshot }])?;
        self.sync()?;
        recovered.base = snapshot;
        recovered.entries.retain(|e| e.id.index > snapshot.index);
        recovered.damaged.retain_mut(|span| {
            span.from = span.from.max(snapshot.index.next());
            span.from <= span.to
        });
        Ok(())
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            reads: self.shared.reads.load(Ordering::Relaxed),
            read_bytes: self.shared.read_bytes.load(Ordering::Relaxed),
            ..self.counters
        }
    }

    /// Bytes that the segments take on the disk, preallocated room included.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.older.iter().map(|o| o.bytes).sum::<u64>() + self.active.written.max(self.active.limit)
    }

    /// Gives the reserved room back to a full disk. Whether there was any.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn release_reserve(&mut self) -> Result<bool, WalError> {
        self.reserve.release()
    }

    /// Reserves the room again, if there is enough by now. Whether it is held.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn restore_reserve(&mut self) -> Result<bool, WalError> {
        self.reserve.take()
    }

    /// Where the next frame begins.
    fn end(&self) -> u64 {
        self.active.written + self.buffer.len() as u64
    }

    fn place(&self) -> Place {
        let offset = u32::try_from(self.end()).unwrap_or(u32::MAX);
        Place { log: self.shared.log, segment: self.active.number, offset }
    }

    /// Marks the log as unusable unless the error is one after which it may go on.
    fn note<T>(&mut self, result: Result<T, WalError>) -> Result<T, WalError> {
        if let Err(e) = &result {
            self.failed |= !e.is_disk_full();
        }
        result
    }

    fn try_append(&mut self, ops: &[LogOp]) -> Result<(), WalError> {
        let payload = format::payload_bytes(ops);
        let size = format::frame_bytes(payload) as u64;
        if size > FRAME_LIMIT {
            return Err(WalError::TooLarge { bytes: size, limit: FRAME_LIMIT });
        }
        if self.end() + size > self.active.limit && self.active.used {
            self.next_segment(size)?;
        }
        if !self.buffer.is_empty() && self.buffer.len() >= self.options.buffer_bytes {
            self.flush()?;
        }
        // From here on nothing can fail: a refused append has left no trace.
        self.encode(ops, payload);
        if mutant!(WalPurgeBeforeDurable) {
            self.remove_purged()?;
        }
        self.counters.appends += 1;
        self.counters.bytes += size;
        Ok(())
    }

    fn encode(&mut self, ops: &[LogOp], payload: usize) {
        let head = self.place();
        let frame = self.buffer.len();
        self.buffer.resize(frame + format::FRAME_HEADER_BYTES, 0);
        let mut records = 0;
        let mut low = u64::MAX;
        let shared = Arc::clone(&self.shared);
        let mut index = shared.index_mut();
        for op in ops {
            match op {
                LogOp::HardState(_) => {}
                LogOp::Write(entries) => {
                    for entry in entries {
                        let place = self.place();
                        format::put_entry(entry, place, &mut self.buffer);
                        let end = self.place().offset;
                        let (segment, offset) = (place.segment, place.offset);
                        index.put(entry.id.index, Location { segment, offset, length: end - offset });
                        low = low.min(entry.id.index.0);
                        records += 1;
                    }
                    self.counters.entries += entries.len() as u64;
                }
                LogOp::Truncate { from } => {
                    format::put_truncate(*from, self.place(), &mut self.buffer);
                    low = low.min(from.0);
                    records += 1;
                }
                LogOp::Purge { upto } => {
                    format::put_purge(*upto, self.place(), &mut self.buffer);
                    records += 1;
                }
            }
            index.follow(op);
            self.state.apply(op);
            self.active.highest = self.active.highest.max(self.state.last);
        }
        drop(index);
        let mut header = FrameHeader {
            payload: u32::try_from(payload).unwrap_or(u32::MAX),
            records,
            prev: self.chain,
            sequence: self.next_sequence,
            synced: self.synced,
            low,
            prev_low: self.last_low,
            after: self.state,
            checksum: 0,
        };
        let bytes = header.encode(head);
        if let Some(place) = self.buffer.get_mut(frame..frame + bytes.len()) {
            place.copy_from_slice(&bytes);
        }
        self.buffer.resize(frame + format::frame_bytes(payload), 0);
        self.chain = header.checksum;
        self.last_low = low;
        self.next_sequence += 1;
        self.active.used = true;
    }

    /// Writes the buffer. On a full disk it is kept, and the next call writes all of it again.
    fn flush(&mut self) -> Result<(), WalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.active.dirty = true;
        let written = self.active.file.write_at(&self.buffer, self.active.written);
        written.map_err(|e| WalError::io("writing", &self.path(self.active.number), e))?;
        self.active.written += self.buffer.len() as u64;
        self.counters.writes += 1;
        self.buffer.clear();
        self.shared.index_mut().set_flushed(self.active.number, self.active.written);
        Ok(())
    }

    fn try_sync(&mut self) -> Result<(), WalError> {
        self.flush()?;
        if self.active.dirty && !mutant!(WalSyncSkipped) {
            let synced = self.active.file.sync();
            if !mutant!(WalSyncErrorIgnored) {
                synced.map_err(|e| WalError::sync(&self.path(self.active.number), e))?;
            }
            self.counters.syncs += 1;
            self.active.dirty = false;
            self.testify();
        }
        self.synced = self.next_sequence - 1;
        self.remove_purged()
    }

    /// Says behind the last frame that everything is durable; the next write takes the place.
    // 1. The disk hangs; 120 entries wait, are written and synced at once, and acknowledged; 2. the process is killed, a
    // record among them rots; 3. the restart finds a frame that is not whole and none later that calls it durable: a torn
    // tail, cut, and what was acknowledged is forgotten without a word. This mark is the later one. It needs no sync of
    // its own: a kill leaves it, and after a power failure it may be missing, as it always was.
    fn testify(&mut self) {
        if self.end() + format::FRAME_HEADER_BYTES as u64 > self.active.limit {
            return;
        }
        let last = self.next_sequence - 1;
        let mut mark = FrameHeader::mark(last, self.chain, self.last_low, self.state);
        let bytes = mark.encode(self.place());
        // Nobody relies on it: without it the log is as good as before.
        let _ = self.active.file.write_at(&bytes, self.active.written);
    }

    /// Begins a segment that takes a frame of `size`. The present one is durable before the next has a name: the
    /// disk could otherwise keep the new one and lose the tail of the old one, and the image be no prefix.
    fn next_segment(&mut self, size: u64) -> Result<(), WalError> {
        self.flush()?;
        if self.active.dirty && !mutant!(WalSegmentBeforeTail) {
            self.active.file.sync().map_err(|e| WalError::sync(&self.path(self.active.number), e))?;
            self.counters.syncs += 1;
            self.active.dirty = false;
        }
        self.synced = self.next_sequence - 1;
        let number = self.active.number + 1;
        let sequence = self.next_sequence;
        let preamble = Preamble { number, sequence, chain: self.chain, prev_low: self.last_low };
        let (start, chain) = preamble.encode(&self.identity, self.state);
        let limit = self.options.segment_bytes.max(start.len() as u64 + size);
        let file = Arc::new(segment::create(&self.disk, &self.dir, number, &start, limit)?);
        let written = start.len() as u64;
        let mut index = self.shared.index_mut();
        index.add_segment(number, Arc::clone(&file));
        index.set_flushed(number, written);
        drop(index);
        let highest = self.state.last;
        let next = Active { number, file, written, limit, dirty: false, used: false, highest };
        let old = std::mem::replace(&mut self.active, next);
        let bytes = old.written.max(old.limit);
        self.older.push_back(Older { number: old.number, highest: old.highest, bytes });
        self.next_sequence = sequence + 1;
        self.synced = sequence;
        self.chain = chain;
        self.last_low = u64::MAX;
        self.counters.segments_created += 1;
        Ok(())
    }

    /// Removes the segments that lie wholly at or below the base, which is durable by now. Oldest first, and each
    /// removal durable before the next, or a power failure could leave a gap.
    fn remove_purged(&mut self) -> Result<(), WalError> {
        while let Some(&Older { number, highest, .. }) = self.older.front()
            && highest <= self.state.base.index
        {
            let path = self.path(number);
            self.disk.remove(&path).map_err(|e| WalError::io("removing", &path, e))?;
            self.disk.sync_dir(&self.dir).map_err(|e| WalError::sync(&self.dir, e))?;
            self.shared.index_mut().remove_segment(number);
            self.older.pop_front();
            self.counters.segments_removed += 1;
        }
        Ok(())
    }

    fn path(&self, number: u32) -> PathBuf {
        segment::path(&self.dir, number)
    }
}

impl<D: Disk> LogStore for Wal<D> {
    type Error = WalError;
    type Reader = WalReader<D>;

    fn append(&mut self, ops: &[LogOp]) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        let done = self.try_append(ops);
        self.note(done)
    }

    fn sync(&mut self) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        let done = self.try_sync();
        self.note(done)
    }

    fn reader(&self) -> WalReader<D> {
        WalReader::new(Arc::clone(&self.shared))
    }
}

/// How a segment begins.
struct Preamble {
    number: u32,
    sequence: u64,
    chain: u32,
    prev_low: u64,
}

impl Preamble {
    /// Header and first frame, and the frame's checksum.
    fn encode(&self, identity: &Identity, state: LogState) -> (Vec<u8>, u32) {
        let header = SegmentHeader { identity: identity.clone(), number: self.number, first: self.sequence };
        let mut bytes = header.encode();
        let offset = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut frame = FrameHeader {
            payload: 0,
            records: 0,
            prev: self.chain,
            sequence: self.sequence,
            synced: self.sequence - 1,
            low: u64::MAX,
            prev_low: self.prev_low,
            after: if mutant!(WalStateNotRepeated) {
                LogState { hard: HardState::default(), ..state }
            } else {
                state
            },
            checksum: 0,
        };
        bytes.extend(frame.encode(Place { log: identity.checksum(), segment: self.number, offset }));
        (bytes, frame.checksum)
    }
}

/// Takes a lock file of the directory.
pub(crate) fn lock<D: Disk>(disk: &D, dir: &Path, name: &str) -> Result<D::Lock, WalError> {
    disk.lock(&dir.join(name)).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => WalError::Locked { path: dir.to_owned() },
        _ => WalError::io("locking", dir, e),
    })
}
