//! The four-letter words: text on the client port, in the shapes that tools parse (zookeeper-reference 6.3).
//!
//! Parsers in the field are strict: telegraf fails on any `mntr` line that is not `zk_<word>\t<number or word>`, Datadog
//! reads `stat` by position, probes compare `imok` without a newline. Lines keep their order; new ones go to the end.
//! The functions here are pure: [`Facts`] in, text out.

use std::fmt::Write as _;

/// Every word that exists here.
const WORDS: [&str; 14] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "isro", "mntr", "ruok", "srst", "srvr", "stat", "wchs",
    "wchc",
];
/// Also a word: paths by watchers.
const WCHP: &str = "wchp";

/// The word in the first four bytes of a connection, if it is one.
#[must_use]
pub(crate) fn word(bytes: [u8; 4]) -> Option<&'static str> {
    WORDS.into_iter().chain([WCHP]).find(|w| w.as_bytes() == bytes)
}

/// Whether `word` may be answered.
pub(crate) fn is_allowed(word: &str, whitelist: &[String]) -> bool {
    whitelist.iter().any(|w| w == "*" || w == word)
}

/// The answer to a word that may not be answered.
pub(crate) fn refusal(word: &str) -> String {
    format!("{word} is not executed because it is not in the whitelist.\n")
}

/// The answer while there is no leader.
pub(crate) const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// Day of the release, for the place where tools expect a build date.
const RELEASED: &str = "2026-11-22 00:00 UTC";

/// First line of `srvr` and `stat`, also `zk_version`. The ZooKeeper whose behaviour this is, and our own version.
pub(crate) fn version() -> String {
    format!("3.9.5-menagerie-{}, built on {RELEASED}", env!("CARGO_PKG_VERSION"))
}

/// What `srvr`, `stat` and `mntr` say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) min_latency: u64,
    pub(crate) mean_latency: f64,
    pub(crate) max_latency: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) connections: usize,
    pub(crate) outstanding: usize,
    pub(crate) zxid: i64,
    /// leader, follower, observer, standalone.
    pub(crate) mode: &'static str,
    /// `leading - broadcast`, …
    pub(crate) peer_state: &'static str,
    pub(crate) nodes: u64,
    pub(crate) watches: usize,
    pub(crate) ephemerals: u64,
    pub(crate) data_bytes: u64,
    pub(crate) sessions: usize,
    pub(crate) uptime_ms: u128,
    pub(crate) quorum_size: usize,
    pub(crate) auth_failed: u64,
    pub(crate) protocol: &'static str,
    pub(crate) digest: u64,
    /// Leader only: followers and observers with a link.
    pub(crate) learners: Option<Learners>,
    /// Of the node: keys of ours, at the end of `mntr`.
    pub(crate) counters: node::Counters,
}

/// The leader's view of its learners.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Learners {
    pub(crate) followers: usize,
    pub(crate) observers: usize,
}

/// A mean as ZooKeeper prints it: up to four decimals, at least one.
fn decimals(value: f64) -> String {
    let text = format!("{value:.4}");
    let trimmed = text.trim_end_matches('0');
    if trimmed.ends_with('.') { format!("{trimmed}0") } else { trimmed.to_owned() }
}

/// `srvr`, or `stat` when the clients' lines are given.
pub(crate) fn srvr(facts: &Facts, clients: Option<&[String]>) -> String {
    let mut out = format!("Zookeeper version: {}\n", version());
    if let Some(clients) = clients {
        out.push_str("Clients:\n");
        for line in clients {
            out.push_str(line);
            out.push('\n');
        }
        out.push('\n');
    }
    let Facts { min_latency, max_latency, .. } = facts;
    let _ =
        writeln!(out, "Latency min/avg/max: {min_latency}/{}/{max_latency}", decimals(facts.mean_latency));
    let _ = writeln!(out, "Received: {}", facts.received);
    let _ = writeln!(out, "Sent: {}", facts.sent);
    let _ = writeln!(out, "Connections: {}", facts.connections);
    let _ = writeln!(out, "Outstanding: {}", facts.outstanding);
    let _ = writeln!(out, "Zxid: {:#x}", facts.zxid);
    let _ = writeln!(out, "Mode: {}", facts.mode);
    let _ = writeln!(out, "Node count: {}", facts.nodes);
    if facts.mode == "leader" {
        out.push_str("Proposal sizes last/min/max: -1/-1/-1\n");
    }
    out
}

/// `mntr`.
pub(crate) fn mntr(facts: &Facts) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "zk_{key}\t{value}");
    };
    // The version has spaces and a comma in ZooKeeper too; telegraf's pattern takes its first word.
    line("version", &version());
    line("server_state", &facts.mode);
    line("peer_state", &facts.peer_state);
    line("avg_latency", &decimals(facts.mean_latency));
    line("max_latency", &facts.max_latency);
    line("min_latency", &facts.min_latency);
    line("packets_received", &facts.received);
    line("packets_sent", &facts.sent);
    line("num_alive_connections", &facts.connections);
    line("outstanding_requests", &facts.outstanding);
    line("uptime", &facts.uptime_ms);
    line("znode_count", &facts.nodes);
    line("watch_count", &facts.watches);
    line("ephemerals_count", &facts.ephemerals);
    line("approximate_data_size", &facts.data_bytes);
    line("global_sessions", &facts.sessions);
    line("local_sessions", &0);
    let (open, limit) = file_descriptors();
    line("open_file_descriptor_count", &open);
    line("max_file_descriptor_count", &limit);
    line("connection_drop_probability", &"0.0");
    line("outstanding_tls_handshake", &0);
    line("auth_failed_count", &facts.auth_failed);
    line("quorum_size", &facts.quorum_size);
    if let Some(learners) = facts.learners {
        let all = learners.followers + learners.observers;
        line("learners", &all);
        line("followers", &learners.followers);
        line("synced_followers", &learners.followers);
        line("synced_observers", &learners.observers);
        line("pending_syncs", &0);
    }
    let c = &facts.counters;
    line("fsync_threshold_exceed_count", &0);
    line("consensus_protocol", &facts.protocol);
    line("elections", &c.elections);
    line("elections_won", &c.won);
    line("log_fsyncs", &c.fsyncs);
    line("log_persists", &c.persists);
    line("log_bytes", &c.appended_bytes);
    line("applied_entries", &c.applied_entries);
    line("apply_batches", &c.apply_batches);
    line("proposed_commands", &c.proposed);
    for (phase, at) in [("election", 0), ("discovery", 1), ("sync", 2), ("broadcast", 3)] {
        for (direction, traffic) in [("sent", &c.sent), ("received", &c.received)] {
            let Some(of) = traffic.get(at) else { continue };
            line(&format!("peer_{phase}_messages_{direction}"), &of.messages);
            line(&format!("peer_{phase}_bytes_{direction}"), &of.bytes);
        }
    }
    line("peer_app_messages_sent", &c.app_sent.messages);
    line("peer_app_bytes_sent", &c.app_sent.bytes);
    line("snapshots_taken", &c.snapshots_taken);
    line("snapshots_sent", &c.snapshots_sent);
    line("snapshot_bytes_sent", &c.snapshot_bytes_sent);
    line("snapshots_installed", &c.snapshots_installed);
    line("tree_digest", &facts.digest);
    out
}

/// Open file descriptors of this process and their limit, as far as the system tells.
fn file_descriptors() -> (u64, u64) {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64);
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap_or_default();
    let limit = line.split_whitespace().nth(3).and_then(|n| n.parse().ok()).unwrap_or(0);
    (open, limit)
}

/// `envi`.
pub(crate) fn envi() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let directory = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
    format!(
        "Environment:\nzookeeper.version={}\nhost.name={}\njava.version=none\nos.name={}\nos.arch={}\nuser.name={}\nuser.dir={directory}\n",
        version(),
        host.trim(),
        std::env::consts::OS,
        std::env::consts::ARCH,
        std::env::var("USER").unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srvr_has_the_lines_that_tools_read() {
        let facts = Facts {
            mean_latency: 2.0 / 3.0,
            max_latency: 12,
            received: 70,
            sent: 69,
            connections: 1,
            zxid: 0x1_0000_0002,
            mode: "leader",
            nodes: 5,
            ..Facts::default()
        };
        let text = srvr(&facts, None);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("Zookeeper version: 3.9.5-"));
        assert_eq!(lines[1], "Latency min/avg/max: 0/0.6667/12");
        assert_eq!(lines[2..6], ["Received: 70", "Sent: 69", "Connections: 1", "Outstanding: 0"]);
        assert_eq!(lines[6..9], ["Zxid: 0x100000002", "Mode: leader", "Node count: 5"]);
        assert!(lines[9].starts_with("Proposal sizes last/min/max: "));

        let text = srvr(&facts, Some(&[" /127.0.0.1:5[1](queued=0,recved=1,sent=0)".to_owned()]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1..4], ["Clients:", " /127.0.0.1:5[1](queued=0,recved=1,sent=0)", ""]);
    }

    #[test]
    fn every_mntr_line_is_what_telegraf_wants() {
        let text = mntr(&Facts {
            mode: "follower",
            peer_state: "following - broadcast",
            protocol: "zab",
            ..Facts::default()
        });
        for line in text.lines() {
            let (key, value) = line.split_once('\t').unwrap();
            let name = key.strip_prefix("zk_").unwrap();
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
            assert!(value.starts_with(|c: char| c.is_ascii_alphanumeric() || "_.-".contains(c)), "{line}");
        }
    }

    #[test]
    fn words_and_the_whitelist() {
        assert_eq!(word(*b"ruok"), Some("ruok"));
        assert_eq!(word(*b"wchp"), Some("wchp"));
        assert_eq!(word([0, 0, 0, 45]), None);
        assert!(is_allowed("srvr", &["srvr".to_owned()]));
        assert!(!is_allowed("ruok", &["srvr".to_owned()]));
        assert!(is_allowed("ruok", &["*".to_owned()]));
        assert_eq!(decimals(0.0), "0.0");
        assert_eq!(decimals(1.5), "1.5");
    }
}
