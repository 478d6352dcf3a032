//! What a node's disk holds, and in which order a start believes it. The simulator starts its nodes with this too.
//!
//! ```text
//!  log (synced before it is believed) ─► base ─► snapshots ─► newest whole one ─► the application's state
//!                                                                └─► what the log lacks below it costs nothing
//! ```
//!
//! * No snapshot reaches the log's base: entries are lost that this node may have acknowledged. It does not start.
//! * Snapshots and no log: what it voted for is lost. It starts as a learner, and only if it is told to.
//! * An entry whose very id is lost may be one that it acknowledged: it starts, and does not vote.

use crate::{Application, StartError};
use replog::{Configuration, ConfigurationAt, Index, LogId, LogOp, LogStore, Recovered, Setup};
use std::path::PathBuf;
use wal::{Disk, Identity, SnapshotOptions, SnapshotStore, Wal, WalOptions};

/// Where a node keeps its data, whose it is, and how it is kept.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Protocol, cluster and server: another's data is refused.
    pub identity: Identity,
    /// Folder of the log.
    pub log_dir: PathBuf,
    /// Folder of the snapshots.
    pub snapshot_dir: PathBuf,
    /// Sizes of the log.
    pub log: WalOptions,
    /// How many snapshots, and how.
    pub snapshots: SnapshotOptions,
    /// What counts while no snapshot says otherwise.
    pub configuration: Configuration,
    /// False: a learner, whatever the configuration says.
    pub may_vote: bool,
}

/// What a node's disk holds.
pub struct Storage<D: Disk> {
    /// The log, behind what it held.
    pub wal: Wal<D>,
    /// The snapshots.
    pub store: SnapshotStore<D>,
    /// The last configuration of the newest snapshot, and all after it that it knows.
    pub configurations: Vec<ConfigurationAt>,
    /// The newest whole snapshot; the application's state is that.
    pub snapshot: LogId,
    recovered: Recovered,
    keeping: Keeping,
}

impl<D: Disk> std::fmt::Debug for Storage<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl<D: Disk> Storage<D> {
    /// Reads the disk, and installs the newest whole snapshot in `app`.
    ///
    /// # Errors
    /// See [`StartError`]: another's data, damage that cannot be lived with, a disk that fails.
    pub fn open(disk: D, keeping: Keeping, app: &dyn Application) -> Result<Self, StartError> {
        let identity = || keeping.identity.clone();
        let (mut wal, mut recovered) =
            Wal::open(disk.clone(), &keeping.log_dir, identity(), keeping.log.clone())?;
        let (dir, options) = (&keeping.snapshot_dir, keeping.snapshots.clone());
        let store = SnapshotStore::open(disk, dir, identity(), options, recovered.base)?;
        let loaded = store.load_newest(|meta, from| app.install(meta.at, from))?;
        let meta = loaded.map(|(meta, ())| meta);
        let snapshot = meta.as_ref().map_or(LogId::ZERO, |m| m.at);
        if snapshot.index < recovered.base.index {
            return Err(StartError::SnapshotLost { base: recovered.base });
        }
        if wal.is_new() && snapshot > LogId::ZERO {
            if keeping.may_vote {
                return Err(StartError::LogLost { dir: keeping.log_dir });
            }
            wal.append(&[LogOp::Purge { upto: snapshot }])?;
            wal.sync()?;
            recovered.base = snapshot;
        }
        wal.cover(&mut recovered, snapshot)?;
        let bootstrap =
            || vec![ConfigurationAt { from: Index::ZERO, configuration: keeping.configuration.clone() }];
        let configurations =
            meta.map(|m| m.configurations).filter(|c| !c.is_empty()).unwrap_or_else(bootstrap);
        Ok(Self { wal, store, configurations, snapshot, recovered, keeping })
    }

    /// What the core opens on.
    #[must_use]
    pub fn setup<O>(&self, options: O, seed: u64) -> Setup<O> {
        let Recovered { hard_state, base, entries, damaged } = self.recovered.clone();
        let known = |index| entries.binary_search_by_key(&index, |e| e.id.index).is_ok();
        let whole = damaged.iter().all(|span| (span.from.0..=span.to.0).all(|i| known(Index(i))));
        let Identity { node, protocol, .. } = &self.keeping.identity;
        if !whole {
            tracing::warn!(%node, ?damaged, "the log has lost entries: this node may not vote");
        }
        let setup = Setup {
            id: *node,
            seed,
            configurations: self.configurations.clone(),
            hard_state,
            base,
            snapshot: self.snapshot,
            entries,
            damaged,
            may_vote: self.keeping.may_vote && whole,
            options,
        };
        let Setup { snapshot, may_vote, .. } = &setup;
        let last = setup.entries.last().map_or(base, |e| e.id);
        tracing::info!(%node, protocol, %base, %snapshot, %last, may_vote, "recovered");
        setup
    }
}
