//! What is right must pass: generated histories, with and without faults.

use history::testing::{Wanted, generate};
use history::{check_all, jsonl};

#[test]
fn valid_histories_are_clean() {
    // More of them now and then: SEEDS=2000 cargo test -p history --release.
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    for faults in [false, true] {
        for exact_reads in [true, false] {
            for seed in 0..seeds {
                let history = generate(Wanted { seed, operations: 400, faults, exact_reads });
                let checked = check_all(&history);
                if !checked.findings.is_empty() {
                    let mut text = Vec::new();
                    jsonl::write(&history, &mut text).unwrap();
                    std::fs::write(std::env::temp_dir().join("false-alarm.history.jsonl"), text).unwrap();
                }
                assert_eq!(checked.findings, [], "faults {faults}, exact {exact_reads}, seed {seed}");
            }
        }
    }
}
