//! Checkers are tested like everything else: one named corruption of a valid history each, found by the checker that is
//! there for it. The same history without the corruption is clean.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "a test, in two files"
)]

mod corruptions;

use corruptions::{ALL, Case};
use history::testing::{Wanted, generate};
use history::{History, check};

const SEEDS: u64 = 12;

fn histories(faults: bool) -> Vec<History> {
    let wanted = |seed| Wanted { seed, operations: 350, faults, exact_reads: true };
    (0..SEEDS).map(|seed| generate(wanted(seed))).collect()
}

#[test]
fn every_corruption_is_found_by_its_checker() {
    let valid = [histories(false), histories(true)];
    for history in valid.iter().flatten() {
        assert_eq!(check(history), []);
    }
    assert!(ALL.len() >= 30, "{}", ALL.len());
    let mut wrong = Vec::new();
    for corruption in ALL {
        let mut applied = 0;
        for (seed, history) in valid[usize::from(corruption.faults)].iter().enumerate() {
            let mut case = Case::new(history.clone());
            if !(corruption.apply)(&mut case) {
                continue;
            }
            applied += 1;
            let found = check(&case.history);
            if !found.iter().any(|finding| finding.checker == corruption.checker) {
                let others: Vec<_> = found.iter().map(|finding| (finding.checker, &finding.text)).collect();
                wrong.push(format!("{} ({}), seed {seed}: {others:?}", corruption.name, corruption.checker));
            }
        }
        if applied == 0 {
            wrong.push(format!("{}: no history to corrupt", corruption.name));
        }
    }
    assert!(wrong.is_empty(), "{} not found:\n{}", wrong.len(), wrong.join("\n"));
}
