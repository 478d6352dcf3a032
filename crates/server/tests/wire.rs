//! What clients see on the wire, against a real process. `cargo test -p server --test wire`

#![allow(clippy::unwrap_used)] // test support: panics are verdicts

mod common;

use bytes::Bytes;
use common::*;
use jute::{
    AddWatchRequest, ConnectRequest, ErrorCode, EventType, ExistsRequest, GetChildrenRequest,
    GetEphemeralsRequest, Jute as _, OpCode, RemoveWatchesRequest, Request, Response, SetWatches,
    SyncRequest, WatcherEvent, xid,
};
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

fn sync() -> Request {
    Request::Sync(SyncRequest { path: "/x".into() })
}

#[test]
fn replies_come_in_order_and_reads_see_their_own_sessions_earlier_writes_only() {
    let ensemble = Ensemble::new(1, "");
    let mut client = ensemble.client();
    client.call(create("/x", 0));
    for round in 0..50u8 {
        let [a, b] = [[round, 1], [round, 2]];
        client.send(&[
            set("/x", &a),
            get("/x", false),
            sync(),
            get("/x", false),
            Request::Ping,
            set("/x", &b),
            get("/x", false),
        ]);
        let answers: Vec<_> = (0..7).map(|_| client.receive().unwrap()).collect();
        let first = answers[0].header.xid;
        for (at, answer) in answers.iter().enumerate() {
            assert_eq!((answer.header.xid, answer.header.err), (first + at as i32, 0));
        }
        let zxids: Vec<_> = answers.iter().map(|a| a.header.zxid).collect();
        assert!(zxids.is_sorted(), "{zxids:?}");
        assert_eq!([&answers[1], &answers[3], &answers[6]].map(|a| a.data()), [a, a, b]);
    }
}

#[test]
fn random_pipelines_of_large_values_keep_their_order() {
    let ensemble = Ensemble::new(1, "");
    for seed in 0..4 {
        let mut client = ensemble.client();
        let path = format!("/{seed}");
        client.call(create(&path, 0));
        let mut rng = replog::Rng::new(seed);
        let mut value = b'0';
        let mut expected = vec![];
        let mut requests = vec![];
        for _ in 0..300 {
            match rng.below(10) {
                0..=2 => {
                    value = value.wrapping_add(1);
                    requests.push(set(&path, &vec![value; 60_000]));
                    expected.push(None);
                }
                3 => {
                    requests.push(sync());
                    expected.push(None);
                }
                _ => {
                    requests.push(get(&path, false));
                    expected.push(Some(value));
                }
            }
        }
        let mut sender = client.sender();
        let sending = std::thread::spawn(move || sender.send(&requests));
        // Until the server cannot get rid of more.
        std::thread::yield_now();
        for (at, expected) in (2..).zip(expected) {
            let answer = client.receive().unwrap();
            assert_eq!((answer.header.xid, answer.header.err), (at, 0), "seed {seed}");
            if let Some(value) = expected {
                assert_eq!(answer.data()[0], value, "seed {seed}, reply {at}");
            }
        }
        sending.join().unwrap();
    }
}

// requirement: S12, S13, S14
#[test]
fn an_event_comes_once_and_before_the_reply_that_shows_the_change() {
    let ensemble = Ensemble::new(1, "");
    let mut client = ensemble.client();
    client.call(create("/x", 0));
    client.call(get("/x", true));
    client.call(get("/x", true));
    client.send(&[set("/x", b"1"), set("/x", b"2")]);
    let event = client.receive().unwrap();
    assert_eq!(event.header.xid, xid::NOTIFICATION);
    let found = WatcherEvent::from_bytes(&event.body).unwrap();
    assert_eq!((found.kind, found.state, &*found.path), (EventType::NodeDataChanged.code(), 3, "/x"));
    let reply = client.receive().unwrap();
    assert_eq!(reply.header.zxid, event.header.zxid, "the zxid of the change");
    assert_eq!(client.receive().unwrap().header.err, 0, "no second event");
}

// requirement: S9, S11, S18
#[test]
fn persistent_watches_removal_and_set_watches() {
    let ensemble = Ensemble::new(1, "");
    let mut client = ensemble.client();
    let added = client.call(Request::AddWatch(AddWatchRequest { path: "/".into(), mode: 1 }));
    assert_eq!(&added.body[..], [0; 4], "the Java client needs these four bytes");
    let wrong = client.call(Request::AddWatch(AddWatchRequest { path: "/".into(), mode: 7 }));
    assert_eq!(wrong.header.err, ErrorCode::MarshallingError.code());
    client.send(&[create("/x", 0), create("/x/y", 0)]);
    let kinds: Vec<_> = (0..4).map(|_| client.receive().unwrap().header.xid).collect();
    assert_eq!(kinds, [-1, 3, -1, 4]);
    let remove = || Request::RemoveWatches(RemoveWatchesRequest { path: "/".into(), kind: 5 });
    assert_eq!(client.call(remove()).header.err, 0);
    assert_eq!(client.call(remove()).header.err, ErrorCode::NoWatcher.code());

    let watches = SetWatches {
        relative_zxid: 0,
        data: vec!["/x".into(), "/gone".into()],
        exists: vec!["/later".into()],
        child: vec!["/x".into()],
    };
    client.send(&[Request::SetWatches(watches), create("/later", 0)]);
    let mut seen = vec![];
    for _ in 0..6 {
        let answer = client.receive().unwrap();
        if answer.header.xid == xid::NOTIFICATION {
            let event = WatcherEvent::from_bytes(&answer.body).unwrap();
            seen.push((event.kind, event.path.to_string(), answer.header.zxid == -1));
        } else {
            seen.push((0, String::new(), false));
        }
    }
    let event = |kind: EventType, path: &str, made_up| (kind.code(), path.to_owned(), made_up);
    let reply = || (0, String::new(), false);
    assert_eq!(
        seen,
        [
            event(EventType::NodeDataChanged, "/x", true),
            event(EventType::NodeDeleted, "/gone", true),
            event(EventType::NodeChildrenChanged, "/x", true),
            reply(),
            event(EventType::NodeCreated, "/later", false),
            reply()
        ]
    );
}

#[test]
fn what_cannot_be_carried_out_is_answered_and_unknown_opcodes_end_the_connection() {
    let ensemble = Ensemble::new(1, "");
    let mut client = ensemble.client();
    client.send_raw(OpCode::SetData.code(), b"\0\0\0\xff");
    assert_eq!(client.receive().unwrap().header.err, ErrorCode::MarshallingError.code());
    client.send_raw(OpCode::Multi.code(), b"junk");
    assert_eq!(client.receive().unwrap().header.err, ErrorCode::MarshallingError.code());
    assert_eq!(client.call(Request::Ping).header.err, 0, "the connection goes on");
    for opcode in [999, OpCode::Check.code(), OpCode::CreateSession.code(), OpCode::DeleteContainer.code()] {
        let mut client = ensemble.client();
        client.send(&[create("/x", 0)]);
        client.send_raw(opcode, b"\0\0\0\x02/x\0\0\0\0");
        assert_eq!(client.receive().unwrap().header.xid, 1, "what came before is answered first");
        let refusal = client.receive().unwrap().header;
        assert_eq!((refusal.zxid, refusal.err), (-1, ErrorCode::Unimplemented.code()), "opcode {opcode}");
        assert!(client.receive().is_none(), "closed");
    }
}

// requirement: S4
#[test]
fn a_client_that_has_seen_a_later_zxid_is_refused_without_an_answer() {
    let ensemble = Ensemble::new(1, "");
    let port = ensemble.servers[0].port;
    let seen = ensemble.client().call(create("/x", 0)).header.zxid;
    let at = |last_zxid_seen| ConnectRequest { last_zxid_seen, timeout_ms: 4000, ..Default::default() };
    assert!(Client::connect(port, &at(seen)).is_some());
    assert!(Client::connect(port, &at(seen + 1000)).is_none());
}

// requirement: S8
#[test]
fn a_session_continues_with_its_password_and_is_refused_without() {
    let ensemble = Ensemble::new(1, "");
    let port = ensemble.servers[0].port;
    let mut first = ensemble.client();
    first.call(create("/e", 1));
    let mut second = Client::connect(port, &first.again()).unwrap();
    assert_eq!(second.session.session, first.session.session);
    assert_eq!(second.session.password, first.session.password);
    assert_eq!(second.session.read_only, Some(false), "asked with the byte, answered with it");
    assert!(first.receive().is_none(), "the older connection of the session is closed");
    let owned = second.call(Request::GetEphemerals(GetEphemeralsRequest { prefix: "".into() }));
    let Response::GetEphemerals(owned) = owned.response(OpCode::GetEphemerals) else { panic!() };
    assert_eq!(owned.paths, ["/e"]);

    for (session, password) in [
        (first.session.session, Bytes::from_static(&[0; 16])),
        (first.session.session, Bytes::new()),
        (0x1234, Bytes::from_static(&[0; 16])),
    ] {
        let request = ConnectRequest { session, password: Some(password), ..second.again() };
        let mut refused = Client::connect(port, &request).unwrap();
        assert_eq!((refused.session.timeout_ms, refused.session.session), (0, 0));
        assert_eq!(refused.session.password, [0; 16]);
        assert!(refused.receive().is_none(), "closed");
    }
    assert_eq!(second.call(Request::Ping).header.err, 0);

    second.send(&[Request::CloseSession]);
    assert_eq!(second.receive().unwrap().header.err, 0);
    assert!(second.receive().is_none());
    assert_eq!(Client::connect(port, &second.again()).unwrap().session.timeout_ms, 0);
    let gone = ensemble.client().call(Request::Exists(ExistsRequest { path: "/e".into(), watch: false }));
    assert_eq!(gone.header.err, ErrorCode::NoNode.code());
}

// requirement: S6, S7
#[test]
fn a_silent_session_expires_and_a_pinging_one_lives() {
    let ensemble = Ensemble::new(1, "");
    let port = ensemble.servers[0].port;
    let mut silent = Client::open(port, 400);
    assert_eq!(silent.session.timeout_ms, 400);
    silent.call(create("/silent", 1));
    let mut lively = Client::open(port, 400);
    lively.call(create("/lively", 1));
    let start = Instant::now();
    wait_for("the silent one is gone", || {
        let children =
            lively.call(Request::GetChildren(GetChildrenRequest { path: "/".into(), watch: false }));
        let Response::GetChildren(r) = children.response(OpCode::GetChildren) else { panic!() };
        assert!(r.children.iter().any(|c| *c == "lively"));
        r.children.iter().all(|c| *c != "silent").then_some(())
    });
    assert!(start.elapsed() >= Duration::from_millis(390), "{:?}", start.elapsed());
    assert!(silent.receive().is_none(), "its connection is closed");
    assert_eq!(Client::connect(port, &silent.again()).unwrap().session.timeout_ms, 0);
}

#[test]
fn words_are_answered_to_half_closed_sockets_and_only_if_listed() {
    let ensemble = Ensemble::new(1, "");
    let port = ensemble.servers[0].port;
    assert_eq!(word(port, "ruok").unwrap(), "imok");
    assert_eq!(word(port, "conf").unwrap(), "conf is not executed because it is not in the whitelist.\n");
    let _client = ensemble.client();
    let text = word(port, "srvr").unwrap();
    assert!(text.contains("\nMode: standalone\nNode count: 5\n"), "{text}");
    let text = word(port, "mntr").unwrap();
    assert!(
        text.contains("zk_server_state\tstandalone\n") && text.contains("zk_num_alive_connections\t1\n"),
        "{text}"
    );
    assert!(word(port, "stat").unwrap().contains("Clients:\n /127.0.0.1:"));
}

#[test]
fn limits_and_broken_frames_close_the_connection() {
    let ensemble = Ensemble::new(1, "maxClientCnxns=2\n");
    let port = ensemble.servers[0].port;
    wait_for("the probes of the start are gone", || word(port, "cons").filter(|text| text.trim().is_empty()));
    let (_one, mut two) = (ensemble.client(), ensemble.client());
    assert!(read_frame(&mut dial(port)).is_none(), "a third connection");
    two.stream.write_all(&0x0010_0000u32.to_be_bytes()).unwrap();
    assert!(two.receive().is_none(), "a frame of 1 MiB");
    let mut three = wait_for("there is room again", || Client::connect(port, &ConnectRequest::default()));
    three.stream.write_all(&[0xff; 4]).unwrap();
    assert!(three.receive().is_none(), "a negative length");
    let mut hello = wait_for("there is room again", || {
        let mut stream = dial(port);
        stream.write_all(&0x7fff_ffffu32.to_be_bytes()).ok()?;
        Some(stream)
    });
    assert_eq!(hello.read(&mut [0; 8]).unwrap_or(0), 0, "2 GiB before there is a session");
}

#[test]
fn a_slow_reader_gets_all_its_replies_and_costs_little_memory() {
    let ensemble = Ensemble::new(1, "");
    let mut client = ensemble.client();
    client.call(create("/x", 0));
    client.call(set("/x", &vec![7; 500_000]));
    let resident = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", ensemble.servers[0].process.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let mut requests: Vec<_> = (0..100).map(|_| get("/x", false)).collect();
    requests.insert(50, set("/x", &vec![8; 400_000]));
    client.send(&requests);
    for at in 0..101 {
        let answer = client.receive().unwrap();
        assert_eq!((answer.header.xid, answer.header.err), (3 + at, 0));
        let expected = [500_076, 68, 400_072][usize::try_from(1 + (at - 50).signum()).unwrap()];
        assert_eq!(answer.body.len() / 100, expected / 100, "reply {at}");
    }
    assert_eq!(client.call(Request::Ping).header.err, 0);
    assert!(resident() < before + 20_000, "50 MB of replies: {before} kB became {}", resident());
}

#[test]
fn a_client_that_does_not_read_its_events_is_cut_off() {
    let ensemble = Ensemble::new(1, "maxSessionTimeout=60000\n");
    let port = ensemble.servers[0].port;
    let mut deaf = Client::open(port, 60_000);
    deaf.call(Request::AddWatch(AddWatchRequest { path: "/".into(), mode: 1 }));
    let mut busy = Client::open(port, 60_000);
    let path = format!("/{}", "x".repeat(500_000));
    busy.call(create(&path, 0));
    for _ in 0..60 {
        assert_eq!(busy.call(set(&path, b"1")).header.err, 0);
    }
    wait_for("the deaf one is gone", || {
        word(port, "mntr").filter(|t| t.contains("zk_num_alive_connections\t1\n"))
    });
    assert_eq!(busy.call(Request::Ping).header.err, 0);
}
