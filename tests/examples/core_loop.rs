//! `core_loop zab|raft|paxos BATCH ROUNDS`: the loop of the core benchmark, for `valgrind --tool=callgrind`, which
//! counts instructions and so gives the same number on a busy machine.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a tool for the developer's own eyes

use bytes::Bytes;
use replog::ReplicatedLog;
use tests::Cores;

fn run<P: ReplicatedLog>(batch: usize, rounds: usize) {
    let body = Bytes::from(vec![7_u8; 100]);
    let mut trio = Cores::<P>::new();
    let leader = trio.leader().expect("a leader");
    for round in 1..=rounds {
        trio.round(leader, vec![body.clone(); batch]);
        if round * batch % 100_000 < batch {
            trio.snapshot();
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let number =
        |i: usize| words.get(i).and_then(|w| w.parse().ok()).expect("core_loop PROTOCOL BATCH ROUNDS");
    let (batch, rounds) = (number(2), number(3));
    match words.get(1).map(String::as_str) {
        Some("zab") => run::<zab::Zab>(batch, rounds),
        Some("raft") => run::<raft::Raft>(batch, rounds),
        Some("paxos") => run::<paxos::Paxos>(batch, rounds),
        _ => panic!("zab, raft or paxos"),
    }
}
