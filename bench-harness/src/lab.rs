//! What every experiment needs: where to put data, how loads are driven, how progress is shown.

use crate::cluster::usage::Usage;
use crate::cluster::{ClientPath, Cluster, fourletter};
use crate::load::prepare::Space;
use crate::load::{Op, Outcome, Pace, Plan, Probe, run};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes in every value.
pub(crate) const VALUE_BYTES: usize = 100;
/// How long a server may take to accept the first session.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

/// The place where experiments happen.
#[derive(Debug)]
pub(crate) struct Lab {
    /// Data directories go below.
    pub(crate) base: PathBuf,
    /// Shown on a terminal only.
    pub(crate) progress: ProgressBar,
}

impl Lab {
    /// A lab with `steps` steps to show.
    pub(crate) fn new(base: PathBuf, steps: u64) -> Self {
        // indicatif hides itself when standard error is no terminal.
        let progress = ProgressBar::new(steps);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed_precise}  {msg}");
        progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { base, progress }
    }

    /// Says what is done now. One line each where there is no terminal.
    pub(crate) fn say(&self, what: &str) {
        if self.progress.is_hidden() {
            eprintln!("{what}");
        } else {
            self.progress.set_message(what.to_owned());
        }
    }
}

/// Lays out keys for `sessions` sessions under `tag`.
///
/// # Errors
/// The cluster does not take them.
pub(crate) fn space(cluster: &Cluster<'_>, tag: &str, sessions: usize) -> Result<Space> {
    let space = Space::new(tag, VALUE_BYTES);
    for server in cluster.clients() {
        // Any server takes writes; a stopped one does not.
        let done = match cluster.system.path() {
            ClientPath::Jute => space.prepare(server, sessions, OPEN_WITHIN),
            ClientPath::EtcdGateway => space.prepare_etcd(server, sessions),
        };
        if done.is_ok() || cluster.clients().last() == Some(&server) {
            return done.map(|()| space);
        }
    }
    Ok(space)
}

/// Runs `plan` the way this system is talked to.
///
/// # Errors
/// Sessions that do not open, a server that breaks the protocol.
pub(crate) fn drive(path: ClientPath, plan: &Plan, space: &Space, probe: &Probe) -> Result<Outcome> {
    match path {
        ClientPath::Jute => run(plan, probe, |i| space.wire(i)),
        ClientPath::EtcdGateway => {
            // HTTP/1.1 answers one at a time: what is under way in a session becomes connections.
            let spread = Plan { sessions: plan.sessions * plan.depth, depth: 1, ..plan.clone() };
            run(&spread, probe, |i| space.http(i, plan.sessions))
        }
    }
}

/// An open-loop foreground of sets at `per_second` on `servers`, for fault runs.
pub(crate) fn foreground(
    cluster: &Cluster<'_>,
    servers: Vec<std::net::SocketAddr>,
    longest: Duration,
) -> Plan {
    // A request that etcd's gateway cannot commit holds its connection for seconds: it gets enough of them.
    let (sessions, depth, per_second) = match cluster.system.path() {
        ClientPath::Jute => (8, 64, 1000),
        ClientPath::EtcdGateway => (8, 128, 200),
    };
    Plan {
        pace: Pace::Open { per_second, max_waiting: 20_000 },
        warmup: Duration::ZERO,
        measure: longest,
        keep_acks: true,
        depth,
        ..Plan::closed(&servers, Op::Set, sessions, depth, longest)
    }
}

/// Usage of every server that runs.
pub(crate) fn usage(cluster: &Cluster<'_>) -> Vec<Usage> {
    cluster.nodes.iter().filter_map(|n| n.pid()).map(Usage::of).collect()
}

/// CPU seconds and context switches between two readings.
pub(crate) fn spent(before: &[Usage], after: &[Usage]) -> (f64, u64) {
    let all = before.iter().zip(after).map(|(b, a)| a.since(*b));
    all.fold((0.0, 0), |(cpu, switches), u| (cpu + u.cpu_seconds, switches + u.switches))
}

/// `mntr` of one server.
pub(crate) fn counters(cluster: &Cluster<'_>, id: usize) -> BTreeMap<String, f64> {
    match cluster.system.path() {
        ClientPath::Jute => cluster.nodes.iter().find(|n| n.id == id).map(|n| fourletter::mntr(n.client)),
        ClientPath::EtcdGateway => None,
    }
    .unwrap_or_default()
}

/// Who leads, and since which epoch; to notice elections that nobody asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reign {
    leader: Option<usize>,
    epoch: Option<u64>,
    won: f64,
}

/// Looks who leads.
pub(crate) fn reign(cluster: &Cluster<'_>) -> Reign {
    let epoch = cluster.states().iter().map(|(_, s)| s.zxid >> 32).max();
    let won =
        cluster.nodes.iter().filter_map(|n| counters(cluster, n.id).get("elections_won").copied()).sum();
    Reign { leader: cluster.leader().ok(), epoch, won }
}

impl Reign {
    /// How many elections lie between, as far as can be told: counted where the servers count, else 0 or 1.
    pub(crate) fn elections_since(&self, earlier: &Self) -> u64 {
        let counted = (self.won - earlier.won).max(0.0) as u64;
        let epochs = self.epoch.unwrap_or(0).saturating_sub(earlier.epoch.unwrap_or(0));
        counted.max(epochs).max(u64::from(self.leader != earlier.leader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elections_are_seen_by_count_by_epoch_and_by_leader() {
        let reign = |leader, epoch, won| Reign { leader: Some(leader), epoch: Some(epoch), won };
        assert_eq!(reign(1, 1, 1.0).elections_since(&reign(1, 1, 1.0)), 0);
        assert_eq!(reign(1, 1, 3.0).elections_since(&reign(1, 1, 1.0)), 2);
        assert_eq!(reign(1, 2, 0.0).elections_since(&reign(1, 1, 0.0)), 1);
        assert_eq!(reign(2, 1, 0.0).elections_since(&reign(1, 1, 0.0)), 1);
    }
}
