//! Sessions, streams, attachments, decisions, error transactions, determinism.

use crate::testing::*;
use crate::*;
use bytes::Bytes;
use jute::{CreateMode, ErrorCode, OpCode};
use proptest::prelude::*;

fn zxid(epoch: i64, counter: i64) -> i64 {
    (epoch << 32) | counter
}

#[test]
fn a_fresh_database() {
    let bench = Machine::new();
    let who = Identities::NONE;
    assert_eq!(bench.counts().nodes, 5, "as ZooKeeper counts");
    assert_eq!(bench.all_children_number("/", &who), Ok(3));
    for path in ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
        let stat = bench.stat(path).unwrap();
        assert_eq!((stat.czxid, stat.version, stat.pzxid), (0, 0, 0), "{path}");
    }
    assert_eq!(bench.last_zxid(), 0);
}

// requirement: TX6, OP28
#[test]
fn every_command_takes_a_zxid() {
    let mut bench = Bench::new();
    assert_eq!(bench.zxid(), zxid(1, 2));
    assert_eq!(bench.delete("/none", -1), Err(ErrorCode::NoNode));
    assert_eq!(bench.zxid(), zxid(1, 3));
    assert_eq!(bench.apply_bytes(&Bytes::from_static(b"junk")), Outcome::Voided(Void::Malformed));
    assert_eq!(bench.zxid(), zxid(1, 4));
    bench.epoch = Epoch::new(5, 0);
    let index = bench.machine.last_index() + 1;
    bench.machine.pass(At { epoch: bench.epoch, index, time_ms: 0 });
    assert_eq!(bench.zxid(), zxid(1, 4), "a no-op takes none");
    bench.make("/a");
    assert_eq!(bench.zxid(), zxid(5, 1), "and does not use up the epoch's first");
}

// requirement: SE2
#[test]
fn sessions_open_attach_and_close() {
    let mut bench = Bench::new();
    let first = bench.attachment();
    assert_eq!(first, bench.machine.last_index());
    let wrong = bench.request(Request::Attach { session: 1, password: [0; 16] });
    assert_eq!(wrong, Outcome::Failed(ErrorCode::SessionExpired));
    let unknown = bench.request(Request::Attach { session: 2, password: PASSWORD });
    assert_eq!(unknown, Outcome::Failed(ErrorCode::SessionExpired));
    let attached = bench.request(Request::Attach { session: 1, password: PASSWORD });
    let attachment = bench.machine.last_index();
    assert_eq!(attached, Outcome::Attached { session: 1, timeout_ms: 4000, attachment });
    let late = bench.request(Request::CloseSession { session: 1, attachment: first });
    assert_eq!(late, Outcome::Failed(ErrorCode::SessionMoved));
    assert_eq!(bench.close(), Outcome::SessionClosed { session: 1, expired: false });
    assert_eq!(bench.close(), Outcome::Failed(ErrorCode::SessionExpired));
    assert_eq!(bench.create("/a", CreateMode::Persistent), Err(ErrorCode::SessionExpired));
    assert_eq!(bench.machine.session_count(), 0);
}

#[test]
fn session_ids_that_mean_something_else_are_refused() {
    let mut bench = Bench::new();
    let mut open =
        |session| bench.request(Request::OpenSession { session, timeout_ms: 1, password: PASSWORD });
    assert_eq!(open(0), Outcome::Failed(ErrorCode::BadArguments));
    assert_eq!(open(i64::MIN), Outcome::Failed(ErrorCode::BadArguments));
    assert_eq!(open(-1), Outcome::Failed(ErrorCode::BadArguments));
    assert_eq!(open(1), Outcome::Failed(ErrorCode::NodeExists));
}

// requirement: SE4 (schedule 6, "Moves")
#[test]
fn an_operation_of_an_old_attachment_is_fenced_and_uses_its_number() {
    let mut bench = Bench::new();
    bench.make("/a");
    let old = bench.attachment();
    bench.request(Request::Attach { session: 1, password: PASSWORD });
    let body = bench_set_body("/a");
    let identities = bench.who.clone();
    let late = Request::Op { session: 1, attachment: old, opcode: OpCode::SetData.code(), identities, body };
    let number = bench.machine.stream(SERVER).unwrap().last;
    assert_eq!(bench.request(late), Outcome::Failed(ErrorCode::SessionMoved));
    assert_eq!(bench.stat("/a").version, 0);
    assert_eq!(bench.machine.stream(SERVER).unwrap().last, number + 1, "the stream goes on");
    assert_eq!(bench.set("/a", b"x", 0).unwrap().version, 1);
}

fn bench_set_body(path: &str) -> Bytes {
    use jute::Jute;
    jute::SetDataRequest { path: path.into(), data: None, version: -1 }.to_bytes()
}

// requirement: ND3, SE7
#[test]
fn closing_and_expiring_delete_the_ephemerals_at_one_zxid() {
    for expired in [false, true] {
        let mut bench = Bench::new();
        bench.make("/b");
        for path in ["/z", "/b/y", "/a"] {
            bench.create(path, CreateMode::Ephemeral).unwrap();
        }
        bench.open(2);
        bench.create("/other", CreateMode::Ephemeral).unwrap();
        bench.session = 1;
        let outcome = if expired { bench.decide(Decision::Expire { session: 1 }) } else { bench.close() };
        assert_eq!(outcome, Outcome::SessionClosed { session: 1, expired });
        let gone = ["/a", "/b/y", "/z"].map(|path| (ChangeKind::Deleted, path.to_owned()));
        assert_eq!(bench.changes(), gone, "path by path, sorted");
        assert_eq!(bench.stat("/").pzxid, bench.zxid());
        assert_eq!(bench.stat("/b").pzxid, bench.zxid());
        assert_eq!(bench.machine.counts().ephemerals, 1);
        assert_eq!(bench.machine.ephemerals(2, "").collect::<Vec<_>>(), ["/other"]);
        assert_eq!(bench.decide(Decision::Expire { session: 1 }), Outcome::Failed(ErrorCode::SessionExpired));
    }
}

// Contract point 12, schedule 7 (d).
#[test]
fn a_decision_dies_with_its_reign() {
    let expire = |epoch| Command::Decision { epoch, decision: Decision::Expire { session: 1 } };
    let void = Outcome::Voided(Void::EndedReign);
    // An entry of a later epoch was applied.
    let mut bench = Bench::new();
    bench.epoch = Epoch::new(2, 0);
    bench.make("/a");
    bench.epoch = Epoch::new(1, 0);
    assert_eq!(bench.apply(&expire(Epoch::new(1, 0))), void);
    // A no-op of a later epoch was passed.
    let mut bench = Bench::new();
    let index = bench.machine.last_index() + 1;
    bench.machine.pass(At { epoch: Epoch::new(1, 1), index, time_ms: 0 });
    assert_eq!(bench.apply(&expire(Epoch::new(1, 0))), void);
    // Decided in one reign, proposed in the next one of the same leader.
    let mut bench = Bench::new();
    bench.epoch = Epoch::new(2, 0);
    assert_eq!(bench.apply(&expire(Epoch::new(1, 0))), void);
    assert_eq!(bench.apply(&expire(Epoch::new(2, 0))), Outcome::SessionClosed { session: 1, expired: true });
}

#[test]
fn settings_and_members_are_state() {
    let mut bench = Bench::new();
    assert_eq!(bench.create_ttl("/t", 5, 1000), Err(ErrorCode::Unimplemented));
    let settings = Settings { level: 3, extended_types: true, skip_acl: false };
    assert_eq!(bench.decide(Decision::Settings(settings)), Outcome::Configured(settings));
    assert_eq!(bench.machine.settings(), settings);
    assert!(bench.create_ttl("/t", 5, 1000).is_ok());
    bench.decide(Decision::Members { text: Bytes::from_static(b"version=1") });
    assert_eq!(bench.changes(), [(ChangeKind::DataChanged, "/zookeeper/config".to_owned())]);
    let (data, stat) = bench.machine.data("/zookeeper/config", &Identities::NONE).unwrap();
    assert_eq!((data, stat.version, stat.mzxid), (Some(&b"version=1"[..]), -1, bench.zxid()));
    assert_eq!(bench.set("/zookeeper/config", b"", -1), Err(ErrorCode::NoAuth));
}

#[test]
#[should_panic(expected = "applied after")]
fn an_index_that_was_applied_is_a_broken_invariant() {
    let mut bench = Bench::new();
    bench.machine.pass(At { epoch: Epoch::ZERO, index: 1, time_ms: 0 });
}

#[test]
fn a_clone_is_a_consistent_cut() {
    let mut bench = Bench::new();
    for i in 0..200 {
        bench.make(&format!("/n{i}"));
    }
    let (frozen, bytes, digest) = (bench.clone(), bench.snapshot(), bench.machine.digest());
    for i in 0..200 {
        bench.set(&format!("/n{i}"), b"new", -1).ok();
        bench.delete(&format!("/n{}", 199 - i), -1).ok();
    }
    bench.close();
    assert_eq!(frozen.snapshot(), bytes);
    assert_eq!(frozen.machine.digest(), digest);
    assert_ne!(bench.machine.digest(), digest);
}

/// One of the things that a log can bring: a request of a stream, or a new stream.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    Open,
    Request { back: u64, number: u64 },
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let request = (0u64..3, 1u64..9).prop_map(|(back, number)| Arrival::Request { back, number });
    prop::collection::vec(prop_oneof![1 => Just(Arrival::Open), 12 => request], 1..120)
}

proptest! {
    // Schedule 6: holes, repeats and requests of old streams, in any order: each number of each stream runs at most
    // once, in order, without a gap; everything else is void and changes nothing but the zxid.
    #[test]
    fn a_stream_runs_each_request_once_and_in_order(log in arrivals()) {
        let mut bench = Bench::new();
        let mut streams = vec![bench.machine.stream(SERVER).unwrap().number];
        let mut ran: Vec<u64> = vec![1];
        for arrival in log {
            match arrival {
                Arrival::Open => {
                    bench.apply(&Command::OpenStream { server: SERVER, nonce: 7 });
                    streams.push(bench.machine.last_index());
                    ran.push(0);
                }
                Arrival::Request { back, number } => {
                    let at = streams.len().saturating_sub(1 + back as usize);
                    let origin = Origin { server: SERVER, stream: streams[at], number };
                    let request = Request::Op {
                        session: 1,
                        attachment: bench.attachment(),
                        opcode: OpCode::Create.code(),
                        identities: Identities::NONE,
                        body: create_body(&format!("/s{at}-{number}")),
                    };
                    let before = bench.machine.counts();
                    let outcome = bench.apply(&Command::Request { origin, request });
                    let latest = at + 1 == streams.len();
                    let expected = ran[at] + 1;
                    let void = match (latest, number.cmp(&expected)) {
                        (false, _) => Some(Void::OtherStream),
                        (true, std::cmp::Ordering::Less) => Some(Void::Repeated),
                        (true, std::cmp::Ordering::Greater) => Some(Void::Gap { expected }),
                        (true, std::cmp::Ordering::Equal) => None,
                    };
                    match void {
                        Some(void) => {
                            prop_assert_eq!(outcome, Outcome::Voided(void));
                            prop_assert_eq!(bench.machine.counts(), before);
                        }
                        None => {
                            // Never NodeExists: it did not run before.
                            prop_assert!(matches!(outcome, Outcome::Done(_)), "{:?}", outcome);
                            ran[at] = number;
                        }
                    }
                }
            }
        }
    }
}

fn create_body(path: &str) -> Bytes {
    use jute::Jute;
    jute::CreateRequest { path: path.into(), data: None, acl: vec![jute::Acl::open()], flags: 0 }.to_bytes()
}
