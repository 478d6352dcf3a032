//! Four-letter words: one TCP connection, four bytes, text until the end.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Sends `word`, returns the text.
///
/// # Errors
/// No connection or no answer within `within`.
pub(crate) fn ask(server: SocketAddr, word: &str, within: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, within)?;
    stream.set_read_timeout(Some(within))?;
    stream.write_all(word.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).with_context(|| format!("{word} to {server}"))?;
    Ok(text)
}

/// What `srvr` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Srvr {
    /// `leader`, `follower`, `observer`, `standalone`.
    pub(crate) mode: String,
    /// Last applied zxid.
    pub(crate) zxid: u64,
    /// znodes.
    pub(crate) nodes: u64,
}

/// Asks `srvr`; `None` when the server does not serve.
pub(crate) fn srvr(server: SocketAddr) -> Option<Srvr> {
    srvr_within(server, Duration::from_millis(1000))
}

/// The same with another patience.
pub(crate) fn srvr_within(server: SocketAddr, within: Duration) -> Option<Srvr> {
    parse_srvr(&ask(server, "srvr", within).ok()?)
}

fn parse_srvr(text: &str) -> Option<Srvr> {
    let field = |name: &str| {
        text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim_start_matches(':').trim().to_owned())
    };
    Some(Srvr {
        mode: field("Mode")?,
        zxid: u64::from_str_radix(field("Zxid")?.trim_start_matches("0x"), 16).ok()?,
        nodes: field("Node count")?.parse().ok()?,
    })
}

/// The numeric keys of `mntr`, without `zk_`; empty when the server does not serve.
pub(crate) fn mntr(server: SocketAddr) -> BTreeMap<String, f64> {
    ask(server, "mntr", Duration::from_secs(2)).map(|t| parse_mntr(&t)).unwrap_or_default()
}

fn parse_mntr(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once('\t')?;
            Some((key.strip_prefix("zk_")?.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srvr_is_read_from_zookeepers_own_text() {
        let text = "Zookeeper version: 3.8.0, built on x\nLatency min/avg/max: 0/0.6667/12\nReceived: 70\nSent: 69\n\
                    Connections: 1\nOutstanding: 0\nZxid: 0x100000002\nMode: leader\nNode count: 5\n\
                    Proposal sizes last/min/max: 48/48/96\n";
        let expected = Srvr { mode: "leader".into(), zxid: 0x1_0000_0002, nodes: 5 };
        assert_eq!(parse_srvr(text), Some(expected));
        assert_eq!(parse_srvr("This ZooKeeper instance is not currently serving requests\n"), None);
    }

    #[test]
    fn mntr_keeps_what_is_a_number() {
        let keys = parse_mntr("zk_version\t3.8.0\nzk_avg_latency\t0.5\nzk_server_state\tleader\nzk_x\t7\n");
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), [("avg_latency".into(), 0.5), ("x".into(), 7.0)]);
    }
}
