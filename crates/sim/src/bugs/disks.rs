//! The log alone, on a disk that crashes: after each crash it must hold the state after some prefix of what was
//! appended, no shorter than what was synced, and report no damage, since nothing rots here (reliability.md §4).

use crate::Violation;
use bytes::Bytes;
use replog::conformance::DiskImage;
use replog::{Body, Entry, Epoch, HardState, Index, LogId, LogOp, LogStore, NodeId, Recovered, Rng, Stamp};
use std::io::Write as _;
use std::path::Path;
use wal::{Crash, Identity, MemDisk, Meta, SnapshotOptions, SnapshotStore, Wal, WalError, WalOptions};

/// Crashes of a run.
pub(crate) const CRASHES: u32 = 12;

/// One random run. The first broken rule.
pub(crate) fn run(seed: u64, crashes: u32) -> Option<Violation> {
    let mut torture = Torture::new(seed);
    let broken = torture.go(crashes).err()?;
    Some(Violation { checker: "C16 recovery".to_owned(), text: format!("seed {seed}: {broken}"), at_us: 0 })
}

struct Torture {
    rng: Rng,
    disk: MemDisk,
    identity: Identity,
    options: WalOptions,
    /// The state after each append; the first is what the log began with.
    images: Vec<DiskImage>,
    /// How many of them a sync covers, the first included.
    synced: usize,
    epoch: u32,
}

impl Torture {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xD15C);
        let segment_bytes = 4096 << rng.below(2);
        Self {
            options: WalOptions { segment_bytes, buffer_bytes: 256 << rng.below(8), reserve_bytes: 0 },
            rng,
            disk: MemDisk::new(),
            identity: Identity { protocol: "raft".to_owned(), cluster: 7, node: NodeId(1) },
            images: vec![DiskImage::default()],
            synced: 1,
            epoch: 1,
        }
    }

    fn go(&mut self, crashes: u32) -> Result<(), String> {
        for _ in 0..crashes {
            let (mut wal, recovered) = self.open().map_err(|e| format!("the log does not open: {e}"))?;
            self.judge(&recovered)?;
            let snapshots = self.open_snapshots(recovered.base)?;
            let mut failed = false;
            for _ in 0..self.rng.below(25) {
                failed = failed || !self.one(&mut wal)?;
            }
            if self.rng.one_in(3) {
                self.stage(&snapshots).map_err(|e| format!("staging: {e}"))?;
            }
            drop((wal, snapshots));
            // After a failed sync the system calls its pages clean: only with the power they are gone for certain.
            let kind = if failed { Crash::PowerLoss } else { self.crash() };
            self.disk.crash(kind);
        }
        Ok(())
    }

    fn open(&self) -> Result<(Wal<MemDisk>, Recovered), WalError> {
        Wal::open(self.disk.clone(), Path::new("/log"), self.identity.clone(), self.options.clone())
    }

    fn crash(&mut self) -> Crash {
        match self.rng.below(4) {
            0 => Crash::Kill,
            1 => Crash::PowerLoss,
            2 => Crash::Torn(self.rng.below(self.disk.unsynced_bytes() + 1)),
            _ => Crash::Sectors(self.rng.bits()),
        }
    }

    /// Appends or syncs. False: the process must end.
    fn one(&mut self, wal: &mut Wal<MemDisk>) -> Result<bool, String> {
        match self.rng.below(8) {
            0 | 1 => {
                wal.sync().map_err(|e| format!("sync: {e}"))?;
                self.synced = self.images.len();
            }
            2 if self.rng.one_in(8) => {
                // Something must be there to be synced.
                self.append(wal)?;
                self.disk.fail_next_sync();
                if wal.sync().is_ok() {
                    return Err("a failed sync was taken for one that succeeded".to_owned());
                }
                return Ok(false);
            }
            _ => self.append(wal)?,
        }
        Ok(true)
    }

    fn append(&mut self, wal: &mut Wal<MemDisk>) -> Result<(), String> {
        let mut image = self.images.last().cloned().unwrap_or_default();
        let ops = self.ops(&image);
        ops.iter().for_each(|op| image.follow(op));
        self.images.push(image);
        wal.append(&ops).map_err(|e| format!("append: {e}"))
    }

    /// One `Persist` such as a core would ask for.
    fn ops(&mut self, now: &DiskImage) -> Vec<LogOp> {
        let last = now.entries.keys().next_back().copied().unwrap_or(now.base.index);
        let mut ops = Vec::new();
        if self.rng.one_in(3) {
            self.epoch += 1;
            let (promised, voted_for) = (Epoch::of(self.epoch), Some(NodeId(self.epoch % 5)));
            ops.push(LogOp::HardState(HardState { promised, voted_for, ..HardState::default() }));
        }
        let mut from = last.next();
        if self.rng.one_in(6) && last.0 > now.base.index.0 + 2 {
            from = Index(last.0 - self.rng.below(2));
            ops.push(LogOp::Truncate { from });
        }
        if !self.rng.one_in(5) || ops.is_empty() {
            let count = 1 + self.rng.below(5);
            ops.push(LogOp::Write((from.0..from.0 + count).map(|i| self.entry(Index(i))).collect()));
        }
        let settled = Index(from.0.saturating_sub(4));
        if self.rng.one_in(6)
            && let Some(upto) = now.entries.get(&settled).map(|e| e.id)
        {
            ops.push(LogOp::Purge { upto });
        }
        ops
    }

    fn entry(&mut self, index: Index) -> Entry {
        let epoch = Epoch::of(self.epoch);
        let size = usize::try_from(self.rng.below(900)).unwrap_or(0);
        let body = Body::Command(Bytes::from(vec![index.0 as u8; size]));
        Entry { id: LogId::new(epoch, index), ballot: epoch, stamp: Stamp(index.0), body }
    }

    /// Whether what was read back is one of the states that may be there; from then on it is durable.
    fn judge(&mut self, found: &Recovered) -> Result<(), String> {
        if !found.damaged.is_empty() {
            return Err(format!("damage without rot: {:?}", found.damaged));
        }
        let ids: Vec<LogId> = found.entries.iter().map(|e| e.id).collect();
        let fits = |image: &DiskImage| {
            (image.hard_state, image.base) == (found.hard_state, found.base)
                && image.entries.values().map(|e| e.id).eq(ids.iter().copied())
        };
        let Some(at) = self.images.iter().rposition(fits) else {
            return Err(format!(
                "no prefix of what was written: {:?} {:?} {ids:?}",
                found.hard_state, found.base
            ));
        };
        if at + 1 < self.synced {
            return Err(format!("{} writes were synced, {at} are left", self.synced - 1));
        }
        self.images.truncate(at + 1);
        self.synced = at + 1;
        Ok(())
    }

    fn open_snapshots(&self, base: LogId) -> Result<SnapshotStore<MemDisk>, String> {
        let options = SnapshotOptions::default();
        let store = SnapshotStore::open(
            self.disk.clone(),
            Path::new("/snapshots"),
            self.identity.clone(),
            options,
            base,
        )
        .map_err(|e| format!("the snapshots do not open: {e}"))?;
        match store.newest() {
            // Nobody has accepted any: the log never moved its base for one.
            Some(meta) => Err(format!("a staged snapshot counts without its purge: {}", meta.at)),
            None => Ok(store),
        }
    }

    /// A snapshot comes from a peer; the core does not get to accept it.
    fn stage(&mut self, into: &SnapshotStore<MemDisk>) -> Result<(), WalError> {
        let at = LogId::new(Epoch::of(self.epoch), Index(1_000_000 + self.rng.below(1000)));
        let peer = Identity { node: NodeId(2), ..self.identity.clone() };
        let theirs =
            SnapshotStore::open(MemDisk::new(), Path::new("/s"), peer, SnapshotOptions::default(), at)?;
        let mut writer = theirs.writer(&Meta { at, configurations: Vec::new() })?;
        let io = |e| WalError::Io { doing: "writing", path: Path::new("/s").to_owned(), source: e };
        writer.write_all(b"state").map_err(io)?;
        writer.finish()?;
        let (mut raw, _) = theirs.raw(at)?;
        let mut staged = into.stage()?;
        std::io::copy(&mut raw, &mut staged).map_err(io)?;
        staged.finish().map(drop)
    }
}
