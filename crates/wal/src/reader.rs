//! [`WalReader`]: committed entries, read from any thread while the log thread writes on.

use crate::disk::{Disk, DiskFile};
use crate::format::{self, Place};
use crate::index::LogIndex;
use bytes::Bytes;
use replog::{Entry, Index, LogReader, Missing, Span};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What log thread and readers share.
#[derive(Debug)]
pub(crate) struct Shared<F> {
    index: RwLock<LogIndex<F>>,
    /// Identity part of the checksums.
    pub(crate) log: u32,
    damaged: Mutex<Vec<Span>>,
    pub(crate) reads: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
}

impl<F> Shared<F> {
    pub(crate) fn new(log: u32, index: LogIndex<F>) -> Self {
        Self {
            index: RwLock::new(index),
            log,
            damaged: Mutex::new(Vec::new()),
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, LogIndex<F>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, LogIndex<F>> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads entries that have left the buffer of the log thread (at the latest when their `sync` returned).
pub struct WalReader<D: Disk> {
    shared: Arc<Shared<D::File>>,
}

impl<D: Disk> Clone for WalReader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D: Disk> WalReader<D> {
    pub(crate) fn new(shared: Arc<Shared<D::File>>) -> Self {
        Self { shared }
    }

    /// Positions found damaged by reads since the last call: to be given to the core as `Input::Damaged`.
    #[must_use]
    pub fn take_damaged(&self) -> Vec<Span> {
        std::mem::take(&mut self.shared.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One piece of file: the entries of the run that starts at `index`, up to the first damaged one.
    fn read_run(&self, index: Index, count: u64, max_bytes: u64) -> Option<Vec<Entry>> {
        let (file, run) = self.shared.index().run(index, count, max_bytes)?;
        let (first, last) = (*run.first()?, *run.last()?);
        let mut bytes = vec![0; usize::try_from(last.offset - first.offset + last.length).ok()?];
        let got = file.read_full(&mut bytes, u64::from(first.offset)).ok()?;
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        self.shared.read_bytes.fetch_add(got as u64, Ordering::Relaxed);
        bytes.truncate(got);
        let bytes = Bytes::from(bytes);
        let mut found = Vec::with_capacity(run.len());
        let mut expected = index;
        for at in run {
            let place = Place { log: self.shared.log, segment: at.segment, offset: at.offset };
            let offset = usize::try_from(at.offset - first.offset).ok()?;
            let decoded = format::entry(&bytes, offset, place).filter(|e| e.id.index == expected);
            let Some(entry) = decoded else {
                self.note_damage(expected);
                break;
            };
            found.push(entry);
            expected = expected.next();
        }
        Some(found)
    }

    fn note_damage(&self, at: Index) {
        let mut damaged = self.shared.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if !damaged.iter().any(|s| s.contains(at)) {
            damaged.extend(Span::new(at, at));
        }
    }
}

impl<D: Disk> LogReader for WalReader<D> {
    fn read(&self, span: Span, max_bytes: u64) -> Result<Vec<Entry>, Missing> {
        let mut found: Vec<Entry> = Vec::new();
        let mut next = span.from;
        let mut left = max_bytes;
        while next <= span.to && (left > 0 || found.is_empty()) {
            let count = Span { from: next, to: span.to }.count();
            let mut run = match self.read_run(next, count, left) {
                Some(run) if !run.is_empty() => run,
                _ => break,
            };
            let bytes: u64 = run.iter().map(|e| u64::from(e.bytes())).sum();
            if bytes > left && !found.is_empty() {
                break;
            }
            left = left.saturating_sub(bytes);
            next = run.last().map_or(next, |e| e.id.index.next());
            found.append(&mut run);
        }
        if found.is_empty() { Err(Missing) } else { Ok(found) }
    }
}
