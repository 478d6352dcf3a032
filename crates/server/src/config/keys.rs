//! The keys, one row each: what it sets, and the help text of its flag.

use super::{Config, MemberRole, Note};
use crate::Consensus;
use std::path::PathBuf;
use std::str::FromStr;

/// A key of `zoo.cfg`, or one of ours.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the file. The flag is the same in kebab case: `tickTime` → `--tick-time`.
    pub name: &'static str,
    /// Name of its value in the help.
    pub value: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Sets it, or says what is wrong with the value.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Key {
    /// Name of the flag, without the dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        let mut flag = String::new();
        let mut before = 'A';
        for c in self.name.chars() {
            if c.is_ascii_uppercase() && !before.is_ascii_uppercase() {
                flag.push('-');
            }
            flag.push(if c == '.' { '-' } else { c.to_ascii_lowercase() });
            before = c;
        }
        flag
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("'{text}' is not a number that fits"))
}

fn positive(text: &str) -> Result<u32, String> {
    match number(text)? {
        0 => Err("must be above 0".to_owned()),
        n => Ok(n),
    }
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

/// Java reads jute.maxbuffer as an int that may be hexadecimal.
fn bytes(text: &str) -> Result<u32, String> {
    let found = match text.strip_prefix("0x") {
        Some(hex) => {
            u32::from_str_radix(hex, 16).map_err(|_| format!("'{text}' is not a number that fits"))?
        }
        None => number(text)?,
    };
    if (1024..=64 << 20).contains(&found) {
        Ok(found)
    } else {
        Err("must be 1024 bytes to 64 MiB".to_owned())
    }
}

/// Shorthand for a row.
macro_rules! key {
    ($name:literal, $value:literal, $help:literal, $set:expr) => {
        Key { name: $name, value: $value, help: $help, set: $set }
    };
}

/// Every key that has a meaning here.
pub const KEYS: &[Key] = &[
    key!("consensus", "PROTOCOL", "zab, raft or paxos, among those compiled in", |c, v| {
        c.consensus = Consensus::parse(v)?;
        Ok(())
    }),
    key!("variant", "NAME", "hardened (default), or textbook: the protocol as its paper has it", |c, v| {
        c.variant.textbook = match v {
            "hardened" => false,
            "textbook" => true,
            _ => return Err(format!("'{v}' is neither hardened nor textbook")),
        };
        Ok(())
    }),
    key!("eagerCommit", "BOOL", "raft, paxos: push the commit position at once (hardened: yes)", |c, v| {
        c.variant.eager_commit = Some(truth(v)?);
        Ok(())
    }),
    key!("classicPaxos", "BOOL", "paxos: both phases for every command, as a yardstick", |c, v| {
        c.variant.classic = truth(v)?;
        Ok(())
    }),
    key!("myid", "ID", "this server's id; default: the file myid in dataDir", |c, v| {
        c.id_given = Some(number(v)?);
        Ok(())
    }),
    key!("clusterName", "NAME", "compared between servers, so that two clusters cannot mix", |c, v| {
        v.clone_into(&mut c.cluster_name);
        Ok(())
    }),
    key!("tickTime", "MS", "basic time unit", |c, v| {
        c.tick_ms = positive(v)?;
        Ok(())
    }),
    key!("initLimit", "TICKS", "kept for `conf`; see electionTimeoutMs", |c, v| {
        c.init_limit = positive(v)?;
        Ok(())
    }),
    key!("syncLimit", "TICKS", "kept for `conf`; see electionTimeoutMs", |c, v| {
        c.sync_limit = positive(v)?;
        Ok(())
    }),
    key!("heartbeatMs", "MS", "leader's heartbeat interval (default 100)", |c, v| {
        c.heartbeat_ms = Some(positive(v)?);
        Ok(())
    }),
    key!("electionTimeoutMs", "MS", "silence after which a leader is given up (default 1000)", |c, v| {
        c.election_timeout_ms = Some(positive(v)?);
        Ok(())
    }),
    key!("dataDir", "DIR", "snapshots, and the log unless dataLogDir is given", |c, v| {
        c.data_dir = PathBuf::from(v);
        Ok(())
    }),
    key!("dataLogDir", "DIR", "the log; a disk of its own makes it faster", |c, v| {
        c.log_dir = Some(PathBuf::from(v));
        Ok(())
    }),
    key!("clientPort", "PORT", "where clients connect", |c, v| {
        c.client_port = number(v)?;
        Ok(())
    }),
    key!("clientPortAddress", "ADDRESS", "address to bind for clients; default all", |c, v| {
        v.clone_into(&mut c.client_address);
        Ok(())
    }),
    key!("quorumListenOnAllIPs", "BOOL", "bind the peer port on all addresses", |c, v| {
        c.listen_on_all = truth(v)?;
        Ok(())
    }),
    key!("maxClientCnxns", "N", "connections per client address, 0 for no limit", |c, v| {
        c.max_client_connections = number(v)?;
        Ok(())
    }),
    key!("maxCnxns", "N", "connections in total, 0 for no limit", |c, v| {
        c.max_connections = number(v)?;
        Ok(())
    }),
    key!("minSessionTimeout", "MS", "default: 2 ticks", |c, v| {
        // −1 is ZooKeeper's way to say "default".
        c.session_bounds.0 = if v == "-1" { None } else { Some(positive(v)?) };
        Ok(())
    }),
    key!("maxSessionTimeout", "MS", "default: 20 ticks", |c, v| {
        c.session_bounds.1 = if v == "-1" { None } else { Some(positive(v)?) };
        Ok(())
    }),
    key!("globalOutstandingLimit", "N", "requests under way per connection before it is not read", |c, v| {
        c.outstanding_limit = positive(v)?;
        Ok(())
    }),
    key!("jute.maxbuffer", "BYTES", "longest client frame", |c, v| {
        c.max_frame = bytes(v)?;
        Ok(())
    }),
    key!("4lw.commands.whitelist", "WORDS", "four-letter words that are answered; * for all", |c, v| {
        c.four_letter_words = v.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect();
        Ok(())
    }),
    key!("snapCount", "N", "entries between two snapshots", |c, v| {
        c.snap_count = u64::from(positive(v)?).max(2);
        Ok(())
    }),
    key!("commitLogCount", "N", "entries kept on disk for followers that are a little behind", |c, v| {
        c.keep_entries = Some(u64::from(number::<u32>(v)?));
        Ok(())
    }),
    key!("autopurge.snapRetainCount", "N", "snapshots kept", |c, v| {
        c.snapshots_kept = number::<u32>(v)?.max(3);
        Ok(())
    }),
    key!("autopurge.purgeInterval", "HOURS", "not used: old files are always purged", |_, v| {
        number::<i32>(v).map(|_| ())
    }),
    key!("peerType", "ROLE", "participant or observer; must agree with the server line", |c, v| {
        c.peer_type = Some(MemberRole::parse(v)?);
        Ok(())
    }),
    key!("standaloneEnabled", "BOOL", "not used: one server runs the same code as many", |_, v| {
        truth(v).map(|_| ())
    }),
    key!("electionAlg", "N", "only 3 exists", |_, v| match v {
        "3" => Ok(()),
        _ => Err(format!("'{v}': only 3 exists")),
    }),
    key!("forceSync", "BOOL", "only yes: what is acknowledged is on disk", |_, v| match truth(v)? {
        true => Ok(()),
        false => Err("writes are always forced to disk here".to_owned()),
    }),
    key!("peerSecretFile", "FILE", "secret that servers prove to each other", |c, v| {
        c.peer_secret_file = Some(PathBuf::from(v));
        Ok(())
    }),
    key!("mayVote", "BOOL", "false after this server's disk was lost, until it has caught up", |c, v| {
        c.may_vote = truth(v)?;
        Ok(())
    }),
    key!(
        "traceFile",
        "FILE",
        "tells every message, fsync and phase there; costs speed; see `sim trace`",
        |c, v| {
            c.trace_file = Some(PathBuf::from(v));
            Ok(())
        }
    ),
    key!("ioThreads", "N", "threads that serve clients; default one per two cores", |c, v| {
        c.io_threads = number::<u32>(v)?.min(64);
        Ok(())
    }),
];

/// Keys (or prefixes that end in a dot) that only a JVM, or the Java implementation's inner life, needs.
const FOR_JAVA: &[&str] = &[
    "preAllocSize",
    "snapshotSizeFactor",
    "maxResponseCacheSize",
    "flushDelay",
    "maxBatchSize",
    "maxGetChildrenResponseCacheSize",
    "maxWriteQueuePollTime",
    "fsync.warningthresholdms",
    "cnxTimeout",
    "quorumCnxnTimeoutMs",
    "clientPortListenBacklog",
    "connectToLearnerMasterLimit",
    "electionPortBindRetry",
    "snapSizeLimitInKb",
    "txnLogSizeLimitInKb",
    "serverCnxnFactory",
    "nio.",
    "netty.",
    "clientTcpKeepAlive",
    "tcpKeepAlive",
    "digest.enabled",
    "serializeLastProcessedZxid.enabled",
    "closeSessionTxn.enabled",
    "syncEnabled",
    "leader.",
    "observer.",
    "jvm.",
    "metricsProvider.exportJvmInfo",
    "fips-mode",
    "snapshot.compression.method",
    "snapshot.trust.empty",
    "watchManagerName",
    "zookeeper.",
    "commitProcessor.",
    "request_throttle",
    "connection_throttle",
    "admin.idleTimeout",
    "multiAddress.",
    "learner.",
    "datadir.autocreate",
    "db.autocreate",
    "initialConfig",
    "localSessionsUpgradingEnabled",
];

/// Features of ZooKeeper that do not exist here (yet): somebody may rely on them.
const UNSUPPORTED: &[&str] = &[
    "secureClientPort",
    "secureClientPortAddress",
    "client.portUnification",
    "ssl.",
    "sslQuorum",
    "portUnification",
    "sslQuorumReloadCertFiles",
    "client.certReload",
    "authProvider.",
    "quorum.auth.",
    "kerberos.",
    "sasl.",
    "enforce.auth.",
    "sessionRequireClientSASLAuth",
    "superDigest",
    "DigestAuthenticationProvider.",
    "skipACL",
    "enforceQuota",
    "audit.enable",
    "localSessionsEnabled",
    "readonlymode.enabled",
    "reconfigEnabled",
    "extendedTypesEnabled",
    "observerMasterPort",
    "leaderServes",
    "group.",
    "weight.",
    "metricsProvider.",
    "admin.",
    "znode.container.",
    "globalSession",
];

/// What to say about a key that has no row.
pub(super) fn note(key: &str) -> Note {
    let within = |list: &[&str]| list.iter().any(|k| *k == key || (k.ends_with('.') && key.starts_with(k)));
    // `zookeeper.skipACL` as a property is `skipACL` in the file.
    let bare = key.strip_prefix("zookeeper.").unwrap_or(key);
    let unsupported = UNSUPPORTED.iter().any(|k| *k == bare || (k.ends_with('.') && bare.starts_with(k)));
    if unsupported && !within(&["metricsProvider.exportJvmInfo", "admin.idleTimeout"]) {
        Note::Unsupported(key.to_owned())
    } else if within(FOR_JAVA) {
        Note::Ignored(key.to_owned())
    } else {
        Note::Unknown(key.to_owned())
    }
}
