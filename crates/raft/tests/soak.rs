//! Random runs of the other switches.
use raft::{Options, Raft};
use replog::conformance::random_run;

fn range() -> std::ops::Range<u64> {
    let n: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(40);
    1000..1000 + n
}
#[test]
fn default_options() {
    for s in range() {
        let _ = random_run::<Raft>(s, 60, |o, keep| o.limits.keep_entries = keep);
    }
}
#[test]
fn textbook() {
    for s in range() {
        let _ = random_run::<Raft>(s, 60, |o, keep| {
            *o = Options::textbook();
            o.limits.keep_entries = keep;
        });
    }
}
#[test]
fn leases() {
    for s in range() {
        let _ = random_run::<Raft>(s, 60, |o, keep| {
            o.lease = Some(std::time::Duration::from_millis(100));
            o.limits.keep_entries = keep;
        });
    }
}
#[test]
fn small() {
    for s in range() {
        let _ = random_run::<Raft>(s, 60, |o, keep| {
            o.limits.window_commands = 8;
            o.limits.frame_bytes = 120;
            o.inflight_bytes = 300;
            o.limits.keep_entries = keep;
        });
    }
}
