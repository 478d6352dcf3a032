//! Random runs under other switches than the default: safety may not depend on any of them.
//! `SEEDS=5000 cargo test -p raft --test random` runs longer.

use raft::{Options, Raft};
use replog::conformance::{KeepEntries, random_run};
use std::time::Duration;

fn run(first: u64, options: KeepEntries<Raft>) {
    let seeds = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    for seed in first..first + seeds {
        let report = random_run::<Raft>(seed, 60, options);
        assert!(report.chosen > 0, "seed {seed} chose nothing");
    }
}

#[test]
fn hardened() {
    run(10_000, |o, keep| o.limits.keep_entries = keep);
}

#[test]
fn textbook() {
    run(20_000, |o, keep| {
        *o = Options::textbook();
        o.limits.keep_entries = keep;
    });
}

#[test]
fn leases() {
    run(30_000, |o, keep| {
        o.lease = Some(Duration::from_millis(100));
        o.limits.keep_entries = keep;
    });
}

#[test]
fn narrow_windows_and_frames() {
    run(40_000, |o, keep| {
        o.limits.window_commands = 8;
        o.limits.frame_bytes = 120;
        o.inflight_bytes = 300;
        o.limits.keep_entries = keep;
    });
}

#[test]
fn each_guard_off() {
    run(50_000, |o, _| o.pre_vote = false);
    run(60_000, |o, _| o.check_quorum = false);
    run(70_000, |o, _| o.stickiness = false);
}
