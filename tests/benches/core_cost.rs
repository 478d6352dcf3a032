//! What a protocol costs: three nodes in memory, a 100-byte entry from proposal to committed everywhere, one round in
//! flight, at batches of 1 and 64: `cargo bench -p tests --bench core_cost`. `core` is the bare state machines;
//! `replica` adds what production puts around them: outbox, recent entries, hand-over to the state machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use replog::ReplicatedLog;
use tests::{Cores, Trio};

/// Entries between snapshots, which let the log be purged as in production.
const SNAPSHOT_EVERY: usize = 100_000;

fn bench<P: ReplicatedLog>(c: &mut Criterion) {
    let body = Bytes::from(vec![7_u8; 100]);
    for batch in [1_usize, 64] {
        let mut cores = Cores::<P>::new();
        let leader = cores.leader().unwrap();
        let mut since = 0;
        let mut group = c.benchmark_group("core");
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new(P::NAME, batch), |b| {
            b.iter(|| {
                cores.round(leader, vec![body.clone(); batch]);
                since += batch;
                if since >= SNAPSHOT_EVERY {
                    since = 0;
                    cores.snapshot();
                }
            });
        });
        group.finish();

        let mut trio = Trio::<P>::new();
        let leader = trio.leader().unwrap();
        let mut group = c.benchmark_group("replica");
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new(P::NAME, batch), |b| {
            b.iter(|| {
                trio.round(leader, vec![body.clone(); batch]);
                since += batch;
                if since >= SNAPSHOT_EVERY {
                    since = 0;
                    trio.snapshot();
                }
            });
        });
        group.finish();
    }
}

fn all(c: &mut Criterion) {
    bench::<zab::Zab>(c);
    bench::<raft::Raft>(c);
    bench::<paxos::Paxos>(c);
}

criterion_group!(benches, all);
criterion_main!(benches);
