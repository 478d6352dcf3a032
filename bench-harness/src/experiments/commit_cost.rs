//! Messages, bytes and log syncs per commit, from the servers' own counters, beside the prediction of
//! experiments.md section 1 for three servers and batches of one.
//!
//! `1×1`: one write under way in the whole cluster, so every batch is one entry and the counts should meet the
//! prediction, with heartbeats as the residue. `64×16`: batches as they form; the counts show what batching saves.
//! The client is connected to the leader, so forwarding adds nothing.

use crate::cluster::Cluster;
use crate::lab::{self, Lab};
use crate::load::{Op, Plan, Probe};
use crate::record::CommitCost;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// Servers.
const N: f64 = crate::cluster::NODES as f64;

/// Consensus messages in the cluster per commit that section 1 predicts, every server's commit included.
fn predicted_messages(system: &str) -> f64 {
    match system {
        // PROPOSAL, ACK and COMMIT for each follower.
        "zab" | "zookeeper" => 3.0 * (N - 1.0),
        // AppendEntries and its reply, and the eager push of the commit index, which is on by default.
        "raft" => 3.0 * (N - 1.0),
        // Accept, Accepted, and an explicit decide.
        "paxos" => 3.0 * (N - 1.0),
        // The commit rides on the next append.
        _ => 2.0 * (N - 1.0),
    }
}

/// Both loads on a running cluster.
///
/// # Errors
/// As [`lab::drive`].
pub(crate) fn measure(lab: &Lab, cluster: &Cluster<'_>, seconds: f64) -> Result<Vec<CommitCost>> {
    [(1, 1), (64, 16)]
        .into_iter()
        .map(|(sessions, depth)| one(lab, cluster, sessions, depth, seconds))
        .collect()
}

fn one(lab: &Lab, cluster: &Cluster<'_>, sessions: usize, depth: usize, seconds: f64) -> Result<CommitCost> {
    let load = format!("{sessions}×{depth}");
    lab.say(&format!("{} cost per commit at {load}", cluster.system.name()));
    let space = lab::space(cluster, &format!("commit-{sessions}-{depth}"), sessions)?;
    let leader = cluster.leader()?;
    let client = cluster.nodes.iter().find(|n| n.id == leader).map(|n| n.client).context("no leader")?;
    let plan = Plan::closed(&[client], Op::Set, sessions, depth, Duration::from_secs_f64(seconds));
    let read =
        || cluster.nodes.iter().map(|n| (n.id, lab::counters(cluster, n.id))).collect::<BTreeMap<_, _>>();
    let zxid = || cluster.states().iter().find(|(id, _)| *id == leader).map(|(_, s)| s.zxid);
    let (before, from, usage) = (read(), zxid(), lab::usage(cluster));
    let probe = Probe::default();
    lab::drive(cluster.system.path(), &plan, &space, &probe)?;
    let (cpu, _) = lab::spent(&usage, &lab::usage(cluster));
    let (after, to) = (read(), zxid());
    // Every committed write has a zxid, sessions' opening and closing included; etcd has none to tell.
    let commits = match (from, to) {
        (Some(from), Some(to)) => to.saturating_sub(from) as f64,
        _ => probe.acked.load(std::sync::atomic::Ordering::Relaxed) as f64,
    };
    let grown = |id: usize, keys: &[&str]| -> Option<f64> {
        let (before, after) = (before.get(&id)?, after.get(&id)?);
        keys.iter().map(|k| Some(after.get(*k)? - before.get(*k)?)).sum()
    };
    let everywhere = |keys: &[&str]| -> Option<f64> { cluster.nodes.iter().map(|n| grown(n.id, keys)).sum() };
    // ZooKeeper counts its syncs in a summary.
    let fsyncs = everywhere(&["log_fsyncs"]).or_else(|| everywhere(&["cnt_fsynctime"]));
    Ok(CommitCost {
        system: cluster.system.name().to_owned(),
        load,
        commits,
        messages: everywhere(&["peer_broadcast_messages_sent"]).map(|v| v / commits),
        leader_bytes: grown(leader, &["peer_broadcast_bytes_sent"]).map(|v| v / commits),
        fsyncs: fsyncs.map(|v| v / commits),
        predicted_messages: predicted_messages(cluster.system.name()),
        predicted_fsyncs: N,
        cpu_us: cpu * 1e6 / commits,
    })
}
