//! Random runs with the switches in other positions than the suite's: the textbook protocol, classic Paxos, leases,
//! tiny windows, flexible quorums. `PAXOS_SEEDS=5000` runs more of them.

use paxos::{Options, Paxos};
use replog::conformance::{KeepEntries, random_run};

fn seeds() -> u64 {
    std::env::var("PAXOS_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(25)
}

fn runs(set: KeepEntries<Paxos>) {
    for seed in 1000..1000 + seeds() {
        let report = random_run::<Paxos>(seed, 40, set);
        assert!(report.chosen > 0, "seed {seed} chose nothing");
    }
}

#[test]
fn hardened() {
    runs(|o, keep| o.limits.keep_entries = keep);
}

#[test]
fn textbook() {
    runs(|o, keep| {
        *o = Options::textbook();
        o.limits.keep_entries = keep;
    });
}

// requirement: S42
#[test]
fn classic() {
    runs(|o, keep| {
        o.classic = true;
        o.limits.keep_entries = keep;
    });
}

#[test]
fn with_leases() {
    runs(|o, keep| {
        o.lease = true;
        o.limits.keep_entries = keep;
    });
}

#[test]
fn with_a_tiny_window_and_tiny_frames() {
    runs(|o, keep| {
        o.limits.keep_entries = keep;
        o.limits.window_commands = 3;
        o.limits.window_bytes = 400;
        o.limits.frame_bytes = 100;
        o.eager_commit = false;
    });
}
