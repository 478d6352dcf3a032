//! The search for an order agrees with C1: valid histories have one, and an answer that lies has none.

#![allow(clippy::unwrap_used, reason = "a test")]

use history::testing::{Wanted, generate};
use history::{History, Op, Outcome, Reply, What, registers};

fn histories(faults: bool) -> impl Iterator<Item = History> {
    (0..12).map(move |seed| generate(Wanted { seed, operations: 350, faults, exact_reads: true }))
}

// requirement: S28
#[test]
fn valid_histories_have_an_order() {
    for faults in [false, true] {
        let (mut judged, mut given_up) = (0, 0);
        for history in histories(faults) {
            let found = registers(&history);
            assert_eq!(found.findings, []);
            judged += found.judged;
            given_up += found.given_up;
        }
        assert!(judged > 300, "{judged} answers");
        assert_eq!(given_up, 0);
    }
}

/// Changes an answer if it can.
type Lie = fn(&Op, &mut Outcome) -> bool;

/// Changes one answer to a set, if there is one that `lie` takes.
fn lies(history: &mut History, lie: Lie) -> bool {
    let sets = history.events.iter().filter_map(|e| match &e.what {
        What::Invoke { call, op: op @ Op::Set { .. }, .. } => Some((*call, op.clone())),
        _ => None,
    });
    let sets: Vec<(u64, Op)> = sets.collect();
    let middle = history.events.len() / 2;
    history.events.iter_mut().skip(middle).any(|event| match &mut event.what {
        What::Return { call, outcome, .. } => {
            sets.iter().find(|(set, _)| set == call).is_some_and(|(_, op)| lie(op, outcome))
        }
        _ => false,
    })
}

// requirement: S28
#[test]
fn an_answer_that_lies_has_no_order() {
    let later: Lie = |_: &Op, outcome: &mut Outcome| match outcome {
        Outcome::Ok(Reply::Stat(stat)) => {
            stat.version += 1;
            true
        }
        _ => false,
    };
    let refused: Lie = |op: &Op, outcome: &mut Outcome| {
        let any = matches!((op, &*outcome), (Op::Set { version: -1, .. }, Outcome::Ok(_)));
        if any {
            *outcome = Outcome::Error(-103);
        }
        any
    };
    let gone: Lie = |_: &Op, outcome: &mut Outcome| {
        let done = matches!(outcome, Outcome::Ok(Reply::Stat(stat)) if stat.version > 2);
        if done {
            *outcome = Outcome::Error(-101);
        }
        done
    };
    let all: [Lie; 3] = [later, refused, gone];
    for (number, lie) in all.into_iter().enumerate() {
        let mut told = 0;
        for mut history in histories(false) {
            let own = registers(&history).sound;
            if own > 0 && lies(&mut history, lie) {
                told += u64::from(!registers(&history).findings.is_empty());
            }
        }
        assert!(told >= 6, "lie {number}: found in {told} of 12");
    }
}
