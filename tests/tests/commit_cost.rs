//! Exact costs in the simulator: messages and fsyncs per commit equal the prediction of the cost model.
//!
//! Stable leader, N voters, one entry in flight, no heartbeats inside the measured window:
//!
//! | protocol | messages per commit | why |
//! |---|---|---|
//! | Zab | 3(N-1) | PROPOSAL, ACK, COMMIT |
//! | Raft, Paxos with eager commit | 3(N-1) | proposal, acknowledgement, commit position |
//! | Raft, Paxos without | 2(N-1) | the commit position rides with the next proposal |
//! | Paxos, classic | 5(N-1) or 4(N-1) | Prepare and Promise come before every command |
//!
//! Fsyncs per commit and cluster: N / batch. No entry crosses a link twice: N-1 copies of its bytes.

use replog::conformance::{Cluster, ClusterOptions};
use replog::{Phase, ReplicatedLog, Timing};
use std::time::Duration;

const COMMITS: u64 = 200;

struct Cost {
    messages: u64,
    fsyncs: u64,
    entry_bytes: u64,
}

/// A cluster whose heartbeats and timeouts are far apart.
fn calm<P: ReplicatedLog>(voters: u32, tune: impl Fn(&mut P::Options, Timing)) -> Cluster<P> {
    let mut options = ClusterOptions::<P::Options>::new(11, voters);
    let timing = Timing {
        heartbeat: Duration::from_secs(1000),
        election_timeout: Duration::from_secs(10_000),
        election_spread: Duration::from_millis(500),
        disk_stall: Duration::from_secs(10_000),
        ..Timing::default()
    };
    tune(&mut options.protocol, timing);
    Cluster::new(options)
}

/// What `COMMITS` rounds of `batch` commands cost, from proposal to applied on the whole cluster.
fn cost<P: ReplicatedLog>(c: &mut Cluster<P>, batch: u64) -> Cost {
    assert!(c.run_until(Duration::from_secs(100_000), |c| c.leader().is_some()), "no leader\n{}", c.story());
    c.propose(1);
    c.run_for(Duration::from_secs(1)); // what the election left under way
    let (messages, fsyncs) = (c.counters().messages(), c.fsyncs());
    let bytes = c.counters().entry_bytes.get(&Phase::Broadcast).copied().unwrap_or_default();
    for _ in 0..COMMITS {
        let top = c.ledger().top().0;
        c.propose(batch);
        c.run_for(Duration::from_millis(20));
        assert_eq!(c.ledger().top().0, top + batch, "not committed\n{}", c.story());
    }
    let now = c.counters();
    Cost {
        messages: now.messages() - messages,
        fsyncs: c.fsyncs() - fsyncs,
        entry_bytes: now.entry_bytes.get(&Phase::Broadcast).copied().unwrap_or_default() - bytes,
    }
}

fn expect<P: ReplicatedLog>(per_follower: u64, tune: impl Fn(&mut P::Options, Timing) + Copy) {
    for voters in [3, 5, 7] {
        for batch in [1, 16] {
            let cost = cost(&mut calm::<P>(voters, tune), batch);
            let n = u64::from(voters);
            let what = format!("{} {voters} voters, batch {batch}", P::NAME);
            assert_eq!(cost.messages, COMMITS * per_follower * (n - 1), "messages: {what}");
            assert_eq!(cost.fsyncs, COMMITS * n, "fsyncs: {what}");
            let entry = u64::from(replog::Entry::OVERHEAD_BYTES) + 8;
            assert_eq!(cost.entry_bytes, COMMITS * batch * (n - 1) * entry, "entry bytes: {what}");
        }
    }
}

#[test]
fn zab_broadcasts_in_three_messages_per_follower() {
    expect::<zab::Zab>(3, |o, t| o.timing = t);
}

#[test]
fn raft_with_eager_commit_takes_three() {
    expect::<raft::Raft>(3, |o, t| o.timing = t);
}

#[test]
fn raft_takes_two_when_the_commit_rides_along() {
    expect::<raft::Raft>(2, |o, t| {
        o.timing = t;
        o.eager_commit = false;
    });
}

// requirement: S42
#[test]
fn paxos_with_a_stable_leader_takes_three_with_eager_commit() {
    expect::<paxos::Paxos>(3, |o, t| o.timing = t);
}

// requirement: S42
#[test]
fn paxos_with_a_stable_leader_takes_two_when_the_commit_rides_along() {
    expect::<paxos::Paxos>(2, |o, t| {
        o.timing = t;
        o.eager_commit = false;
    });
}
