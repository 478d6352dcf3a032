//! What a server is told: ZooKeeper's `zoo.cfg`, unchanged, and a flag for every key.
//!
//! ```text
//!  zoo.cfg ── properties.rs ──► (line, key, value) ──┐
//!  flags ────────────────────────────► (key, value) ─┴─► keys.rs sets one field ──► finish() ──► Config
//! ```
//!
//! * A key of [`keys::KEYS`] sets a field; a wrong value is an error that names file, line and key.
//! * A key that only a JVM needs is named and ignored; a feature that does not exist here is named louder; an unknown
//!   key warns. None of them stops the server, as an unknown key does not stop ZooKeeper.
//! * Flags win over the file.
//!
//! Deviations from ZooKeeper, on purpose:
//! * spec-deviates: failures are detected by `electionTimeoutMs` and `heartbeatMs` (defaults of `replog::Timing`), not by
//!   `syncLimit` × `tickTime`, which makes a frozen leader cost 10 s. initLimit and syncLimit are read and kept for `conf`.
//! * spec-deviates: the quorum port carries elections and replication; the election port is read and not used.
//! * spec-deviates: old snapshots and logs are always purged; `autopurge.purgeInterval` is read and not used.

mod keys;
mod members;
mod properties;

pub use keys::{KEYS, Key};
pub use members::{Member, MemberRole};

use crate::{Consensus, Variant};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a configuration cannot be used. The operator's fault; the text says where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// File and line, or the flag.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Something that the operator should know and that does not stop the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A key for Java's sake.
    Ignored(String),
    /// A feature of ZooKeeper that does not exist here.
    Unsupported(String),
    /// A key that nobody knows.
    Unknown(String),
    /// Anything else.
    Advice(String),
}

/// Everything that a server is told. Durations in ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which protocol replicates.
    pub consensus: Consensus,
    /// Switches of the protocol.
    pub variant: Variant,
    /// This server's id (`myid`), 1 for one that stands alone without an id.
    pub id: u32,
    /// Members by id. Empty: stands alone.
    pub members: BTreeMap<u32, Member>,
    /// Name of the cluster, compared in every handshake between servers.
    pub cluster_name: String,
    /// Basic unit.
    pub tick_ms: u32,
    /// Ticks; kept for `conf`.
    pub init_limit: u32,
    /// Ticks; kept for `conf`.
    pub sync_limit: u32,
    /// Snapshots, and the log unless `log_dir` is given.
    pub data_dir: PathBuf,
    /// The log.
    pub log_dir: Option<PathBuf>,
    /// Where clients connect; port 0 lets the system choose.
    pub client_port: u16,
    /// Address to bind for clients; empty for all.
    pub client_address: String,
    /// Address and port of peers come from `members`; whether to bind all addresses instead of the named one.
    pub listen_on_all: bool,
    /// Connections per client address, 0 for no limit.
    pub max_client_connections: u32,
    /// Connections in total, 0 for no limit.
    pub max_connections: u32,
    /// Bounds of the negotiated session timeout.
    pub min_session_ms: u32,
    /// See `min_session_ms`.
    pub max_session_ms: u32,
    /// Requests under way per connection before the server stops reading from it.
    pub outstanding_limit: u32,
    /// Longest client frame in bytes.
    pub max_frame: u32,
    /// Four-letter words that are answered.
    pub four_letter_words: Vec<String>,
    /// Entries between two snapshots.
    pub snap_count: u64,
    /// Entries kept below the newest snapshot for followers that are a little behind; `None` for the default.
    pub keep_entries: Option<u64>,
    /// Snapshots kept.
    pub snapshots_kept: u32,
    /// Leader's heartbeat; `None` for the protocol's default.
    pub heartbeat_ms: Option<u32>,
    /// Silence after which a leader is given up; `None` for the protocol's default.
    pub election_timeout_ms: Option<u32>,
    /// File with a secret that servers prove to each other.
    pub peer_secret_file: Option<PathBuf>,
    /// Whether this server's disk is what it was (see `node::NodeConfig::may_vote`).
    pub may_vote: bool,
    /// Where every message, fsync and phase is told (`menagerie.trace/1`); `None` tells nothing and costs nothing.
    pub trace_file: Option<PathBuf>,
    /// Threads that serve clients; 0 for the default of one per two cores.
    pub io_threads: u32,
    /// What the operator should know.
    pub notes: Vec<Note>,
    /// Raw value of `peerType`, compared with the server line.
    peer_type: Option<MemberRole>,
    /// Raw value of `minSessionTimeout` and `maxSessionTimeout`.
    session_bounds: (Option<u32>, Option<u32>),
    /// `myid` given as a flag.
    id_given: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            consensus: Consensus::default(),
            variant: Variant::default(),
            id: 0,
            members: BTreeMap::new(),
            cluster_name: String::new(),
            tick_ms: 3000,
            init_limit: 10,
            sync_limit: 5,
            data_dir: PathBuf::new(),
            log_dir: None,
            client_port: 2181,
            client_address: String::new(),
            listen_on_all: false,
            max_client_connections: 60,
            max_connections: 0,
            min_session_ms: 0,
            max_session_ms: 0,
            outstanding_limit: 1000,
            max_frame: jute::DEFAULT_MAX_FRAME,
            four_letter_words: vec!["srvr".to_owned()],
            snap_count: 100_000,
            keep_entries: None,
            snapshots_kept: 3,
            heartbeat_ms: None,
            election_timeout_ms: None,
            peer_secret_file: None,
            may_vote: true,
            trace_file: None,
            io_threads: 0,
            notes: Vec::new(),
            peer_type: None,
            session_bounds: (None, None),
            id_given: None,
        }
    }
}

impl Config {
    /// Reads `file` (if given), lets `flags` (key, value) override it, and checks the whole.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            config.read(path)?;
        }
        for (key, value) in flags {
            config.set(&format!("flag {key}"), key, value)?;
        }
        config.finish()
    }

    /// Reads one file of properties.
    fn read(&mut self, path: &Path) -> Result<(), ConfigError> {
        let error = |reason| ConfigError { place: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
        let place = |line| format!("{} line {line}", path.display());
        let properties =
            properties::parse(&text).map_err(|(line, reason)| ConfigError { place: place(line), reason })?;
        for property in properties {
            let place = place(property.line);
            if property.key == "dynamicConfigFile" {
                self.read(Path::new(&property.value))?;
            } else {
                self.set(&place, &property.key, &property.value)?;
            }
        }
        Ok(())
    }

    /// Sets one key.
    fn set(&mut self, place: &str, key: &str, value: &str) -> Result<(), ConfigError> {
        let error =
            |reason: String| ConfigError { place: place.to_owned(), reason: format!("{key}: {reason}") };
        if let Some(id) = key.strip_prefix("server.") {
            let id = id.parse().map_err(|_| error(format!("'{id}' is not a server id")))?;
            let member = Member::parse(value).map_err(error)?;
            if self.members.insert(id, member).is_some() {
                return Err(error("named twice".to_owned()));
            }
            return Ok(());
        }
        match KEYS.iter().find(|k| k.name == key) {
            Some(known) => (known.set)(self, value).map_err(error),
            None => {
                self.notes.push(keys::note(key));
                Ok(())
            }
        }
    }

    /// Fills in what follows from other keys, and checks what contradicts.
    fn finish(mut self) -> Result<Self, ConfigError> {
        let error = |reason: String| ConfigError { place: "configuration".to_owned(), reason };
        if self.data_dir.as_os_str().is_empty() {
            return Err(error("dataDir is missing".to_owned()));
        }
        self.min_session_ms = self.session_bounds.0.unwrap_or_else(|| self.tick_ms.saturating_mul(2));
        self.max_session_ms = self.session_bounds.1.unwrap_or_else(|| self.tick_ms.saturating_mul(20));
        if self.min_session_ms > self.max_session_ms {
            return Err(error(format!(
                "minSessionTimeout {} is above maxSessionTimeout {}",
                self.min_session_ms, self.max_session_ms
            )));
        }
        if self.members.is_empty() {
            self.id = self.id_given.unwrap_or(1);
            return Ok(self);
        }
        self.id = self.own_id()?;
        let Some(own) = self.members.get(&self.id) else {
            return Err(error(format!(
                "there is no server.{} (this server's id) among the members",
                self.id
            )));
        };
        if let Some((host, port)) = &own.client {
            self.client_port = *port;
            if !host.is_empty() && self.client_address.is_empty() {
                self.client_address.clone_from(host);
            }
        }
        if self.peer_type.is_some_and(|role| role != own.role) {
            return Err(error(format!("peerType contradicts the line server.{}", self.id)));
        }
        match self.voters().count() {
            0 => return Err(error("there is no voting member".to_owned())),
            1 if self.members.len() == 1 => {}
            voters if voters % 2 == 0 => self.notes.push(Note::Advice(format!(
                "{voters} voters tolerate no more failures than {}; use an odd number",
                voters - 1
            ))),
            _ => {}
        }
        Ok(self)
    }

    /// The id: flag, else the file `myid` in the data directory.
    fn own_id(&self) -> Result<u32, ConfigError> {
        if let Some(id) = self.id_given {
            return Ok(id);
        }
        let path = self.data_dir.join("myid");
        let error = |reason| ConfigError { place: path.display().to_string(), reason };
        let text = std::fs::read_to_string(&path).map_err(|e| error(e.to_string()))?;
        text.trim().parse().map_err(|_| error(format!("'{}' is not a server id", text.trim())))
    }

    /// Ids of the voting members.
    pub fn voters(&self) -> impl Iterator<Item = u32> {
        self.members.iter().filter(|(_, m)| m.role == MemberRole::Participant).map(|(id, _)| *id)
    }

    /// Ids of the observers.
    pub fn observers(&self) -> impl Iterator<Item = u32> {
        self.members.iter().filter(|(_, m)| m.role == MemberRole::Observer).map(|(id, _)| *id)
    }

    /// Durations of the protocol: its defaults unless the configuration says otherwise. A changed election timeout
    /// scales the random addition along.
    #[must_use]
    pub fn timing(&self) -> replog::Timing {
        let mut timing = replog::Timing::default();
        if let Some(ms) = self.heartbeat_ms {
            timing.heartbeat = Duration::from_millis(ms.into());
        }
        if let Some(ms) = self.election_timeout_ms {
            timing.election_timeout = Duration::from_millis(ms.into());
            timing.election_spread = timing.election_timeout / 2;
        }
        timing
    }

    /// The negotiated timeout of a session that asks for `asked_ms`.
    #[must_use]
    pub fn negotiate(&self, asked_ms: i32) -> u32 {
        u32::try_from(asked_ms).unwrap_or(0).clamp(self.min_session_ms, self.max_session_ms)
    }
}

#[cfg(test)]
mod tests;
