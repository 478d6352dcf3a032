//! Operations: every error code with its trigger, every Stat field with its rule, the golden sequences.

use crate::testing::*;
use crate::*;
use bytes::Bytes;
use jute::{
    Acl, CreateMode, CreateRequest, ErrorCode, JStr, Jute as _, MultiOp, OpCode, OpResult, Reader, Stat,
    encode_multi,
};

use proptest::prelude::*;

const PERSISTENT: CreateMode = CreateMode::Persistent;
const EPHEMERAL: CreateMode = CreateMode::Ephemeral;
const SEQUENTIAL: CreateMode = CreateMode::PersistentSequential;
const CONTAINER: CreateMode = CreateMode::Container;

fn locked(perms: i32) -> Vec<Acl> {
    vec![acl(perms, "digest", "somebody:hash")]
}

// requirement: OP28, OP2, ND8 (validation order: zookeeper-reference 4.4)
#[test]
fn create_fails_in_order() {
    let mut bench = Bench::new();
    bench.make("/a");
    bench.create("/e", EPHEMERAL).unwrap();
    bench.create_with("/locked", None, locked(31), PERSISTENT).unwrap();
    let mut create = |path: &str, acl: Vec<Acl>, mode| bench.create_with(path, None, acl, mode);
    let open = || vec![Acl::open()];
    assert_eq!(create("a", open(), PERSISTENT), Err(ErrorCode::BadArguments), "no slash");
    assert_eq!(create("", open(), PERSISTENT), Err(ErrorCode::BadArguments));
    assert_eq!(create("/a\0", vec![], PERSISTENT), Err(ErrorCode::BadArguments), "NUL before ACL");
    assert_eq!(create("/none/x", vec![], PERSISTENT), Err(ErrorCode::InvalidAcl), "ACL before parent");
    assert_eq!(create("/none/x", open(), PERSISTENT), Err(ErrorCode::NoNode));
    assert_eq!(
        create("/locked/.", open(), PERSISTENT),
        Err(ErrorCode::NoAuth),
        "parent's ACL before full path"
    );
    assert_eq!(create("/a/", open(), PERSISTENT), Err(ErrorCode::BadArguments));
    assert_eq!(create("/a/..", open(), PERSISTENT), Err(ErrorCode::BadArguments));
    assert_eq!(create("/", open(), PERSISTENT), Err(ErrorCode::NodeExists));
    assert_eq!(create("/a", open(), PERSISTENT), Err(ErrorCode::NodeExists));
    assert_eq!(create("/e/x", open(), PERSISTENT), Err(ErrorCode::NoChildrenForEphemerals));
    assert_eq!(create("/e/x", open(), EPHEMERAL), Err(ErrorCode::NoChildrenForEphemerals));
    assert_eq!(create("/a/", open(), SEQUENTIAL).as_deref(), Ok("/a/0000000000"), "legal when sequential");
}

#[test]
fn flags_and_ttl_come_before_the_session() {
    let mut bench = Bench::new();
    bench.session = 77;
    let request = |flags| CreateRequest { path: "/a".into(), data: None, acl: vec![Acl::open()], flags };
    assert_eq!(bench.op(OpCode::Create, &request(9)), Err(ErrorCode::BadArguments));
    assert_eq!(bench.op(OpCode::Create, &request(-1)), Err(ErrorCode::BadArguments));
    assert_eq!(bench.op(OpCode::Create, &request(5)), Err(ErrorCode::Unimplemented));
    assert_eq!(bench.op(OpCode::Create, &request(0)), Err(ErrorCode::SessionExpired));
}

// requirement: ND7, OP15
#[test]
fn ttl_nodes_need_the_setting_and_a_time_in_range() {
    let mut bench = Bench::new();
    assert_eq!(bench.create_ttl("/t", 5, 0), Err(ErrorCode::Unimplemented));
    bench.decide(Decision::Settings(Settings { extended_types: true, ..Settings::default() }));
    for ttl in [0, -1, Owner::TTL_MAX_MS + 1] {
        assert_eq!(bench.create_ttl("/t", 5, ttl), Err(ErrorCode::BadArguments), "{ttl}");
    }
    for ttl in [0, 10] {
        assert_eq!(bench.create_ttl("/t", 0, ttl), Err(ErrorCode::BadArguments), "a TTL on another mode");
    }
    assert!(bench.create_ttl("/plain", 0, -1).is_ok());
    assert_eq!(
        bench.create_ttl("/t", 5, Owner::TTL_MAX_MS).unwrap().ephemeral_owner,
        0,
        "hidden from clients"
    );
    assert!(bench.create_ttl("/t/s-", 6, 10).is_ok());
    let due = bench.stat("/t/s-0000000000").mtime + 11;
    assert!(bench.machine.reapable(due - 1).is_empty());
    assert_eq!(bench.machine.reapable(due), ["/t/s-0000000000"]);
}

// requirement: ND6
#[test]
fn containers_go_when_they_are_empty_again() {
    let mut bench = Bench::new();
    bench.create("/c", CONTAINER).unwrap();
    let reap = |path: &str| Decision::Reap { path: path.into() };
    assert_eq!(bench.stat("/c").ephemeral_owner, 0);
    assert!(bench.machine.reapable(i64::MAX).is_empty(), "never used");
    assert_eq!(bench.decide(reap("/c")), Outcome::Failed(ErrorCode::BadVersion));
    bench.make("/c/x");
    assert_eq!(bench.decide(reap("/c")), Outcome::Failed(ErrorCode::NotEmpty));
    bench.delete("/c/x", -1).unwrap();
    assert_eq!(bench.machine.reapable(0), ["/c"]);
    assert_eq!(bench.decide(reap("/c")), Outcome::Done(Reply::Empty));
    assert_eq!(bench.changes(), [(ChangeKind::Deleted, "/c".to_owned())]);
    assert_eq!(bench.decide(reap("/c")), Outcome::Failed(ErrorCode::NoNode));
    bench.make("/p");
    bench.create("/e", EPHEMERAL).unwrap();
    for other in ["/p", "/e"] {
        assert_eq!(bench.decide(reap(other)), Outcome::Failed(ErrorCode::BadVersion));
    }
}

// requirement: OP4, ND9
#[test]
fn delete_fails_in_order() {
    let mut bench = Bench::new();
    bench.make("/a");
    bench.make("/a/b");
    bench.set("/a", b"x", 0).unwrap();
    bench.create_with("/locked", None, locked(31), PERSISTENT).unwrap();
    for special in ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota", "none", "", "/a\0"] {
        assert_eq!(bench.delete(special, 9), Err(ErrorCode::BadArguments), "{special:?}");
    }
    assert_eq!(bench.delete("/none/x", -1), Err(ErrorCode::NoNode));
    assert_eq!(bench.delete("/locked/x", -1), Err(ErrorCode::NoAuth), "before the node itself");
    assert_eq!(bench.delete("/none", -1), Err(ErrorCode::NoNode));
    assert_eq!(bench.delete("/a", 0), Err(ErrorCode::BadVersion), "before children");
    assert_eq!(bench.delete("/a", 1), Err(ErrorCode::NotEmpty));
    assert_eq!(bench.delete("/a/b", 0), Ok(()));
    assert_eq!(bench.delete("/a", 1), Ok(()));
    bench.session = 9;
    assert_eq!(bench.delete("/", -1), Err(ErrorCode::SessionExpired), "session before path");
}

// requirement: OP6, OP7
#[test]
fn set_data_and_set_acl_fail_in_order() {
    let mut bench = Bench::new();
    bench.make("/a");
    bench.create_with("/locked", None, locked(31), PERSISTENT).unwrap();
    assert_eq!(bench.set("/a/", b"", -1), Err(ErrorCode::BadArguments));
    assert_eq!(bench.set("/none", b"", -1), Err(ErrorCode::NoNode));
    assert_eq!(bench.set("/locked", b"", 7), Err(ErrorCode::NoAuth));
    assert_eq!(bench.set("/a", b"", 1), Err(ErrorCode::BadVersion));
    assert_eq!(bench.set("/a", b"", 0).unwrap().version, 1);
    let open = || vec![Acl::open()];
    assert_eq!(bench.set_acl("/a//b", vec![], -1), Err(ErrorCode::BadArguments));
    assert_eq!(bench.set_acl("/none", vec![], -1), Err(ErrorCode::InvalidAcl), "before the node");
    assert_eq!(bench.set_acl("/none", open(), -1), Err(ErrorCode::NoNode));
    assert_eq!(bench.set_acl("/locked", open(), 7), Err(ErrorCode::NoAuth));
    assert_eq!(bench.set_acl("/a", open(), 1), Err(ErrorCode::BadVersion), "aversion, not version");
    assert_eq!(bench.set_acl("/a", open(), 0).unwrap().aversion, 1);
    bench.session = 9;
    assert_eq!(bench.set("", b"", -1), Err(ErrorCode::SessionExpired));
    assert_eq!(bench.set_acl("", open(), -1), Err(ErrorCode::SessionExpired));
}

// requirement: OP13, OP26
#[test]
fn what_is_not_a_clients_write_is_unimplemented() {
    let mut bench = Bench::new();
    bench.create("/c", CONTAINER).unwrap();
    for opcode in [-10, -1, 20, 13, 4, 9999, 0, i32::MIN] {
        let outcome = bench.op_bytes(opcode, JStr::from("/c").to_bytes());
        assert_eq!(outcome, Outcome::Failed(ErrorCode::Unimplemented), "{opcode}");
    }
    assert_eq!(bench.op_bytes(16, Bytes::new()), Outcome::Failed(ErrorCode::ReconfigDisabled));
    for opcode in [1, 2, 5, 7, 14, 15, 19, 21] {
        let outcome = bench.op_bytes(opcode, Bytes::from_static(&[0, 0, 0, 9]));
        assert_eq!(outcome, Outcome::Failed(ErrorCode::MarshallingError), "{opcode}");
    }
}

// requirement: ND10
#[test]
fn every_stat_field_has_its_rule() {
    let mut bench = Bench::new();
    bench.make("/p");
    let (z1, t1) = (bench.zxid(), bench.time_ms);
    let fresh = Stat {
        czxid: z1,
        mzxid: z1,
        ctime: t1,
        mtime: t1,
        version: 0,
        cversion: 0,
        aversion: 0,
        ephemeral_owner: 0,
        data_length: 4,
        num_children: 0,
        pzxid: z1,
    };
    assert_eq!(bench.stat("/p"), fresh);

    bench.create("/p/e", EPHEMERAL).unwrap();
    let (z2, t2) = (bench.zxid(), bench.time_ms);
    let after_create = Stat { cversion: 1, num_children: 1, pzxid: z2, ..fresh };
    assert_eq!(bench.stat("/p"), after_create, "create: parent's cversion and pzxid, nothing else");
    let child = Stat { czxid: z2, mzxid: z2, pzxid: z2, ctime: t2, mtime: t2, ephemeral_owner: 1, ..fresh };
    assert_eq!(bench.stat("/p/e"), child);

    let replied = bench.set("/p/e", b"longer data", 0).unwrap();
    let (z3, t3) = (bench.zxid(), bench.time_ms);
    assert_eq!(replied, Stat { mzxid: z3, mtime: t3, version: 1, data_length: 11, ..child });
    assert_eq!(bench.stat("/p/e"), replied);
    assert_eq!(bench.stat("/p"), after_create, "setData of a child does not touch the parent");

    let replied =
        bench.set_acl("/p", vec![acl(31, "world", "anyone"), acl(1, "ip", "10.0.0.0/8")], 0).unwrap();
    let after_acl = Stat { aversion: 1, ..after_create };
    assert_eq!(replied, after_acl, "setACL: aversion only");

    bench.delete("/p/e", 1).unwrap();
    let z5 = bench.zxid();
    assert_eq!(bench.stat("/p"), Stat { cversion: 2, num_children: 0, pzxid: z5, ..after_acl });
}

// requirement: ND11, ND4
#[test]
fn create_create_delete_reports_three_and_numbers_the_next_two() {
    let mut bench = Bench::new();
    bench.make("/q");
    bench.make("/q/a");
    bench.make("/q/b");
    bench.delete("/q/a", -1).unwrap();
    assert_eq!(bench.stat("/q").cversion, 3);
    assert_eq!(bench.create("/q/n-", SEQUENTIAL).as_deref(), Ok("/q/n-0000000002"));
    assert_eq!(bench.create("/q/n-", CreateMode::EphemeralSequential).as_deref(), Ok("/q/n-0000000003"));
    assert_eq!(bench.create("/q/a/x/", SEQUENTIAL), Err(ErrorCode::NoNode), "a failed create uses no number");
    assert_eq!(bench.create("/q/b", PERSISTENT), Err(ErrorCode::NodeExists));
    assert_eq!(bench.create("/q/", SEQUENTIAL).as_deref(), Ok("/q/0000000004"));
}

// requirement: ND12
#[test]
fn null_and_empty_data_are_distinct() {
    let mut bench = Bench::new();
    bench.create_with("/null", None, vec![Acl::open()], PERSISTENT).unwrap();
    bench.create_with("/empty", Some(b""), vec![Acl::open()], PERSISTENT).unwrap();
    let data = |path| bench.machine.data(path, &Identities::NONE).unwrap().0;
    assert_eq!(data("/null"), None);
    assert_eq!(data("/empty"), Some(&b""[..]));
    assert_eq!(bench.stat("/null").data_length, 0);
}

// requirement: TX1, TX2, TX4, TX5
#[test]
fn a_multi_sees_its_own_effects_and_takes_one_zxid() {
    let mut bench = Bench::new();
    bench.make("/old");
    let before = bench.zxid();
    let reply = bench.multi(&[
        op_create("/a", PERSISTENT),
        op_create("/a/s-", SEQUENTIAL),
        op_create("/a/s-", SEQUENTIAL),
        op_set("/a", b"12", 0),
        op_check("/a", 1),
        op_delete("/old", 0),
        op_create("/old", PERSISTENT),
    ]);
    let z = bench.zxid();
    assert_eq!(z, before + 1);
    let Ok(Reply::Multi(results)) = reply else { panic!("{reply:?}") };
    let created = |path: &str| OpReply::Created { path: path.into() };
    assert_eq!(results[..3], [created("/a"), created("/a/s-0000000000"), created("/a/s-0000000001")]);
    let OpReply::Stat(stat) = &results[3] else { panic!("{results:?}") };
    assert_eq!((stat.version, stat.num_children, stat.czxid, stat.mzxid), (1, 2, z, z));
    assert_eq!(results[4..], [OpReply::Checked, OpReply::Deleted, created("/old")]);
    use ChangeKind::{Created, DataChanged, Deleted};
    let expected = [
        (Created, "/a"),
        (Created, "/a/s-0000000000"),
        (Created, "/a/s-0000000001"),
        (DataChanged, "/a"),
        (Deleted, "/old"),
        (Created, "/old"),
    ];
    assert_eq!(bench.changes(), expected.map(|(kind, path)| (kind, path.to_owned())));
    assert_eq!(bench.stat("/old").czxid, z);
}

// requirement: TX3, TX6
#[test]
fn a_failed_multi_changes_nothing_but_the_zxid() {
    let mut bench = Bench::new();
    bench.make("/a");
    bench.create_with("/own", None, vec![acl(31, "ip", "127.0.0.1")], EPHEMERAL).unwrap();
    let whole = bench.clone();
    let ops = [
        op_set("/a", b"other", 0),
        op_create("/a/e", EPHEMERAL),
        op_set("/a/e", b"x", -1),
        op_delete("/own", -1),
        op_create("/own", PERSISTENT),
        op_delete("/a/e", -1),
        op_delete("/a", -1),
        op_create("/c", CONTAINER),
        op_check("/a", 0),
        op_create("/never", PERSISTENT),
    ];
    let reply = bench.multi(&ops);
    assert_eq!(reply, Ok(Reply::MultiFailed { count: 10, failed: 8, code: ErrorCode::NoNode }));
    assert!(bench.changes().is_empty());
    assert_eq!(bench.zxid(), whole.zxid() + 1);
    assert_eq!(bench.machine.tree_digest(), whole.machine.tree_digest());
    assert_eq!(bench.machine.counts(), whole.machine.counts());
    // The rest of the state as well: another failed command takes the same zxid.
    let mut other = whole;
    assert!(other.delete("/none", -1).is_err());
    assert_eq!(bench.snapshot(), other.snapshot());
    assert_eq!(bench.machine.ephemerals(1, "/").collect::<Vec<_>>(), ["/own"]);
}

#[test]
fn multi_bodies_encode_as_jute_says() {
    let mut bench = Bench::new();
    let encode = |reply: &Reply| {
        let mut out = Vec::new();
        reply.encode(&mut out);
        Bytes::from(out)
    };
    let failed = bench.multi(&[op_create("/a", PERSISTENT), op_delete("/x", -1), op_check("/a", 0)]).unwrap();
    let codes: Vec<_> = OpResult::decode_all(&mut Reader::new(&encode(&failed))).unwrap();
    assert_eq!(codes, OpResult::failed_multi(3, 1, ErrorCode::NoNode));
    let create2 = MultiOp::Create2(CreateRequest {
        path: "/a".into(),
        data: None,
        acl: vec![Acl::open()],
        flags: CONTAINER.code(),
    });
    let ops = [
        create2,
        op_set("/a", b"1", 0),
        op_check("/a", 1),
        op_create("/a/b", PERSISTENT),
        op_delete("/a/b", 0),
    ];
    let done = bench.multi(&ops).unwrap();
    let results = OpResult::decode_all(&mut Reader::new(&encode(&done))).unwrap();
    assert!(matches!(&results[0], OpResult::Create2(r) if r.path == *"/a" && r.stat.czxid == bench.zxid()));
    assert!(matches!(&results[1], OpResult::SetData(r) if r.stat.version == 1));
    assert!(
        matches!(&results[2..], [OpResult::Check, OpResult::Create(r), OpResult::Delete] if r.path == *"/a/b")
    );
    assert_eq!(encode(&bench.multi(&[]).unwrap()), [255, 255, 255, 255, 1, 255, 255, 255, 255][..]);
}

#[test]
fn an_undecodable_multi_is_a_marshalling_error() {
    let mut bench = Bench::new();
    let mut body = Vec::new();
    encode_multi(&[op_create("/a", PERSISTENT)], &mut body);
    let flags = body.len() - 9 - 4;
    body[flags + 3] = 77;
    let outcome = bench.op_bytes(OpCode::Multi.code(), body.into());
    assert_eq!(outcome, Outcome::Failed(ErrorCode::MarshallingError));
    bench.session = 5;
    let reply = bench.multi(&[op_create("/a", PERSISTENT), op_delete("/a", -1)]);
    assert_eq!(reply, Ok(Reply::MultiFailed { count: 2, failed: 0, code: ErrorCode::SessionExpired }));
}

// requirement: AC1, AC11
#[test]
fn each_permission_guards_its_operation() {
    const READ: i32 = 1;
    const WRITE: i32 = 2;
    const CREATE: i32 = 4;
    const DELETE: i32 = 8;
    const ADMIN: i32 = 16;
    for missing in [READ, WRITE, CREATE, DELETE, ADMIN] {
        let mut bench = Bench::new();
        bench.make("/n");
        bench.make("/n/child");
        bench.set_acl("/n", vec![acl(31 & !missing, "world", "anyone")], -1).unwrap();
        let refused = |perm, result: Result<(), ErrorCode>| {
            assert_eq!(
                result == Err(ErrorCode::NoAuth),
                missing == perm,
                "{perm} without {missing}: {result:?}"
            );
        };
        let who = bench.who.clone();
        refused(READ, bench.machine.data("/n", &who).map(drop));
        refused(READ, bench.machine.exists("/n", &who).map(drop));
        refused(READ, bench.machine.children("/n", &who).map(drop));
        refused(READ, bench.machine.all_children_number("/n", &who).map(drop));
        assert!(bench.machine.acl("/n", &who).is_ok(), "READ or ADMIN suffices");
        let check = bench.multi(&[op_check("/n", -1)]).unwrap();
        let code = if missing == READ { ErrorCode::NoAuth } else { ErrorCode::Ok };
        assert!(
            matches!(check, Reply::Multi(_)) || check == Reply::MultiFailed { count: 1, failed: 0, code }
        );
        refused(WRITE, bench.set("/n", b"", -1).map(drop));
        refused(CREATE, bench.create("/n/x", PERSISTENT).map(drop));
        refused(DELETE, bench.delete("/n/child", -1));
        refused(ADMIN, bench.set_acl("/n", vec![acl(31 & !missing, "world", "anyone")], -1).map(drop));
        bench.decide(Decision::Settings(Settings { skip_acl: true, ..Settings::default() }));
        assert!(bench.machine.data("/n", &who).is_ok() && bench.set("/n", b"", -1).is_ok());
    }
}

// requirement: AC2, AC3, AC4, AC5, AC8, AC19
#[test]
fn schemes() {
    let mut bench = Bench::new();
    bench.who = bench.who.with("digest", &digest_id("ann:pw")).with("digest", &digest_id("bob:pw"));
    bench.create_with("/auth", None, vec![acl(31, "auth", "ignored")], PERSISTENT).unwrap();
    let (entries, _) = bench.machine.acl("/auth", &bench.who).unwrap();
    assert_eq!(entries, [acl(31, "digest", &digest_id("ann:pw")), acl(31, "digest", &digest_id("bob:pw"))]);
    let ann = Identities::new([("digest", digest_id("ann:pw").as_str())]);
    assert!(bench.machine.data("/auth", &ann).is_ok());
    let nobody = Identities::new([("ip", "10.1.2.3")]);
    assert_eq!(bench.machine.data("/auth", &nobody), Err(ErrorCode::NoAuth));
    assert!(bench.machine.data("/auth", &nobody.with("super", "")).is_ok());
    bench
        .set_acl("/auth", vec![acl(1, "ip", "10.0.0.0/8"), acl(16, "digest", &digest_id("ann:pw"))], -1)
        .unwrap();
    assert!(bench.machine.data("/auth", &nobody).is_ok());
    let (masked, _) = bench.machine.acl("/auth", &nobody).unwrap();
    assert_eq!(masked, [acl(1, "ip", "10.0.0.0/8"), acl(16, "digest", "ann:x")]);
    let (shown, _) = bench.machine.acl("/auth", &ann).unwrap();
    assert_eq!(shown[1], acl(16, "digest", &digest_id("ann:pw")));
    bench.who = nobody;
    let refused = |bench: &mut Bench, scheme: &str, id: &str| {
        let result = bench.create_with("/x", None, vec![acl(31, scheme, id)], PERSISTENT);
        assert_eq!(result, Err(ErrorCode::InvalidAcl), "{scheme}:{id}");
    };
    refused(&mut bench, "auth", "");
    for (scheme, id) in
        [("world", "me"), ("digest", "a"), ("digest", "a:b:c"), ("ip", "x"), ("ip", "1.2.3.4/33"), ("", "")]
    {
        refused(&mut bench, scheme, id);
    }
    refused(&mut bench, "super", "x");
}

/// A valid body of each kind, to be damaged.
fn bodies() -> Vec<(i32, Vec<u8>)> {
    let create = CreateRequest {
        path: "/a/b".into(),
        data: None,
        acl: vec![Acl::open(), acl(1, "ip", "::/1")],
        flags: 3,
    };
    let mut multi = Vec::new();
    encode_multi(
        &[op_create("/m", PERSISTENT), op_set("/a", b"1", -1), op_check("/a", 1), op_delete("/m", 0)],
        &mut multi,
    );
    let set = jute::SetDataRequest { path: "/a".into(), data: Some(Bytes::from_static(b"x")), version: 0 };
    let set_acl = jute::SetAclRequest { path: "/a".into(), acl: vec![acl(31, "auth", "")], version: 0 };
    let delete = jute::DeleteRequest { path: "/a".into(), version: 0 };
    vec![
        (1, create.to_bytes().to_vec()),
        (15, create.to_bytes().to_vec()),
        (2, delete.to_bytes().to_vec()),
        (5, set.to_bytes().to_vec()),
        (7, set_acl.to_bytes().to_vec()),
        (14, multi),
    ]
}

proptest! {
    // Whatever a client sends: an outcome, no panic, and a failure leaves the tree as it was.
    #[test]
    fn damaged_requests_never_panic(
        kind in 0usize..6,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bench = Bench::new();
        bench.make("/a");
        let (opcode, mut body) = bodies().remove(kind);
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let before = bench.machine.tree_digest();
        let outcome = bench.op_bytes(opcode, body.into());
        if !matches!(outcome, Outcome::Done(_)) || matches!(outcome, Outcome::Done(Reply::MultiFailed { .. })) {
            prop_assert!(matches!(outcome, Outcome::Failed(_) | Outcome::Done(_)));
            prop_assert_eq!(bench.machine.tree_digest(), before);
            prop_assert!(bench.changes().is_empty());
        }
        let bytes = bench.snapshot();
        prop_assert_eq!(Machine::read_snapshot(&mut &bytes[..]).unwrap().digest(), bench.machine.digest());
    }
}
