//! The driver against servers that live in the test.

use super::*;
use crate::null_server::NullServer;
use std::sync::atomic::Ordering;

fn short(servers: &[SocketAddr], pace: Pace) -> Plan {
    let mut plan = Plan::closed(servers, Op::Set, 3, 4, Duration::from_millis(100));
    plan.pace = pace;
    plan
}

#[test]
fn a_closed_loop_keeps_its_depth_and_loses_nothing() {
    let server = NullServer::start().unwrap();
    let space = prepare::Space::new("t", 100);
    let plan = short(&[server.address()], Pace::Closed);
    let outcome = run(&plan, &Probe::default(), |i| space.wire(i)).unwrap();
    assert!(outcome.ok > 100, "only {} replies", outcome.ok);
    assert_eq!((outcome.failed(), outcome.losses, outcome.expired), (0, 0, 0));
    assert_eq!(outcome.ok, outcome.latency.len());
}

#[test]
fn a_limit_ends_a_run_after_exactly_so_many_requests() {
    let server = NullServer::start().unwrap();
    let space = prepare::Space::new("t", 100);
    let mut plan = short(&[server.address()], Pace::Closed);
    plan.warmup = Duration::ZERO;
    plan.measure = Duration::from_secs(20);
    plan.limit = Some(500);
    let outcome = run(&plan, &Probe::default(), |i| space.wire(i)).unwrap();
    assert_eq!((outcome.sent, outcome.ok), (500, 500));
}

#[test]
fn an_open_loop_sends_what_was_planned() {
    let server = NullServer::start().unwrap();
    let space = prepare::Space::new("t", 100);
    let mut plan = short(&[server.address()], Pace::Open { per_second: 1000, max_waiting: 100 });
    plan.warmup = Duration::ZERO;
    plan.measure = Duration::from_millis(300);
    plan.keep_acks = true;
    let outcome = run(&plan, &Probe::default(), |i| space.wire(i)).unwrap();
    assert!((299..=301).contains(&(outcome.sent + outcome.dropped)), "{} sent", outcome.sent);
    assert!(outcome.acks.is_sorted());
}

#[test]
fn an_outage_is_felt_by_every_request_planned_during_it() {
    let server = NullServer::start().unwrap();
    let space = prepare::Space::new("t", 100);
    let mut plan = short(&[server.address()], Pace::Open { per_second: 1000, max_waiting: 10_000 });
    plan.warmup = Duration::ZERO;
    plan.measure = Duration::from_secs(10);
    plan.keep_acks = true;
    let probe = Probe::default();
    let acked = |n| {
        while probe.acked.load(Ordering::Relaxed) < n {
            std::thread::yield_now();
        }
    };
    let (outcome, silence) = std::thread::scope(|scope| {
        let load = scope.spawn(|| run(&plan, &probe, |i| space.wire(i)));
        acked(20);
        server.silence(true);
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(100) {
            std::thread::yield_now();
        }
        server.silence(false);
        let silence = since.elapsed();
        acked(probe.acked.load(Ordering::Relaxed) + 200);
        probe.stop.store(true, Ordering::Relaxed);
        (load.join().unwrap().unwrap(), silence)
    });
    // Only twelve requests may be under way, yet all that were planned during the silence count its length.
    let late = outcome.ack_latencies.iter().filter(|l| **l > 30_000_000).count();
    assert!(late >= 50, "{late} late requests after {silence:?}");
    let (from, to) = outcome.longest_gap(0, *outcome.acks.last().unwrap());
    assert!(to - from >= 90_000_000, "a gap of {} ns", to - from);
}

#[test]
fn the_longest_gap_is_found_at_the_start_inside_and_at_the_end() {
    let server = NullServer::start().unwrap();
    let plan = short(&[server.address()], Pace::Closed);
    let mut outcome = run(&plan, &Probe::default(), |i| prepare::Space::new("t", 1).wire(i)).unwrap();
    outcome.acks = vec![10, 20, 60, 70];
    assert_eq!(outcome.longest_gap(10, 80), (20, 60));
    assert_eq!(outcome.longest_gap(0, 15), (0, 10));
    assert_eq!(outcome.longest_gap(60, 200), (70, 200));
    assert_eq!(outcome.longest_gap(300, 400), (300, 400));
}
