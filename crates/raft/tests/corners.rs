//! Random runs that turn the corners of the protocol: its textbook form, and switches that are off by default.

use raft::{Options, Raft};
use replog::conformance::corner_run;
use std::time::Duration;

fn options(seed: u64) -> (Options, bool) {
    let mut options = if seed.is_multiple_of(3) { Options::textbook() } else { Options::default() };
    let leases = seed % 3 == 1;
    options.lease = leases.then(|| Duration::from_millis(800));
    options.limits.keep_entries = seed % 40;
    options.limits.window_commands = if seed.is_multiple_of(4) { 3 } else { 1000 };
    options.limits.window_bytes = if seed.is_multiple_of(5) { 600 } else { 1 << 20 };
    options.limits.frame_bytes = if seed.is_multiple_of(2) { 200 } else { 4096 };
    options.inflight_bytes = if seed % 3 == 2 { 400 } else { 1 << 20 };
    options.eager_commit = !seed.is_multiple_of(7);
    (options, leases)
}

// requirement: S20
#[test]
fn corners_hold() {
    for seed in 0..60 {
        let (options, leases) = options(seed);
        let report = corner_run::<Raft>(seed, 60, options, leases);
        assert!(report.chosen > 0, "seed {seed}");
    }
}
