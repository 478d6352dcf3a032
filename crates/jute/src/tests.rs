//! Golden bytes, round trips, and bytes that nobody should send.

use super::*;
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>().into()
}

// requirement: S4
#[test]
fn connect_request_with_and_without_the_read_only_byte() {
    let mut request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0x1_0000_0002,
        timeout_ms: 10_000,
        session: 0x0100_0a1b_2c3d_0000,
        password: Some(unhex("99540115b2ac339b9f3f41ba4b39270b")),
        read_only: None,
    };
    let golden =
        "00000000 0000000100000002 00002710 01000a1b2c3d0000 00000010 99540115b2ac339b9f3f41ba4b39270b";
    assert_eq!(request.to_bytes(), unhex(golden));
    assert_eq!(request.to_bytes().len(), 44);
    assert_eq!(ConnectRequest::from_bytes(&unhex(golden)), Ok(request.clone()));

    request.read_only = Some(true);
    let golden = format!("{golden} 01");
    assert_eq!(request.to_bytes().len(), 45);
    assert_eq!(ConnectRequest::from_bytes(&unhex(&golden)), Ok(request));
}

// requirement: S8
#[test]
fn refusal_has_36_or_37_bytes_and_no_timeout() {
    assert_eq!(
        hex(&ConnectResponse::refusal(None).to_bytes()),
        "00".repeat(16) + "00000010" + &"00".repeat(16)
    );
    assert_eq!(ConnectResponse::refusal(Some(true)).to_bytes().len(), 37);
    let response = ConnectResponse { timeout_ms: 4000, session: 7, password: [9; 16], ..Default::default() };
    assert_eq!(ConnectResponse::from_bytes(&response.to_bytes()), Ok(response));
}

#[test]
fn create_request_golden_bytes() {
    let request = Request::Create(CreateRequest {
        path: "/a".into(),
        data: Some(Bytes::from_static(b"xyz")),
        acl: vec![Acl::open()],
        flags: 3,
    });
    let mut out = Vec::new();
    RequestHeader { xid: 5, opcode: 1 }.encode(&mut out);
    request.encode(&mut out);
    let golden = "00000005 00000001 00000002 2f61 00000003 78797a 00000001 0000001f \
                  00000005 776f726c64 00000006 616e796f6e65 00000003";
    assert_eq!(Bytes::from(out), unhex(golden));
}

#[test]
fn stat_is_68_bytes_in_order() {
    let stat = Stat {
        czxid: 1,
        mzxid: 2,
        ctime: 3,
        mtime: 4,
        version: 5,
        cversion: 6,
        aversion: 7,
        ephemeral_owner: 8,
        data_length: 9,
        num_children: 10,
        pzxid: 11,
    };
    let golden = "0000000000000001 0000000000000002 0000000000000003 0000000000000004 00000005 00000006 00000007 \
                  0000000000000008 00000009 0000000a 000000000000000b";
    assert_eq!(stat.to_bytes(), unhex(golden));
    assert_eq!(stat.to_bytes().len(), Stat::BYTES);
    assert_eq!(Stat::from_bytes(&unhex(golden)), Ok(stat));
}

// requirement: S9
#[test]
fn event_golden_bytes() {
    let event = WatcherEvent { kind: EventType::NodeDeleted.code(), state: 3, path: "/q".into() };
    let mut out = BytesMut::new();
    let mark = begin_frame(&mut out);
    ReplyHeader { xid: xid::NOTIFICATION, zxid: 0x10, err: 0 }.encode(&mut out);
    event.encode(&mut out);
    end_frame(&mut out, mark);
    assert_eq!(
        out.freeze(),
        unhex("0000001e ffffffff 0000000000000010 00000000 00000002 00000003 00000002 2f71")
    );
}

#[test]
fn multi_golden_bytes() {
    let ops = vec![
        MultiOp::Check(CheckVersionRequest { path: "/a".into(), version: 1 }),
        MultiOp::Delete(DeleteRequest { path: "/b".into(), version: -1 }),
    ];
    let golden = "0000000d 00 ffffffff 00000002 2f61 00000001  00000002 00 ffffffff 00000002 2f62 ffffffff \
                  ffffffff 01 ffffffff";
    let mut out = Vec::new();
    encode_multi(&ops, &mut out);
    assert_eq!(Bytes::from(out), unhex(golden));
    assert_eq!(Request::decode(14, &unhex(golden)), Ok(Request::Multi(ops)));

    let results = OpResult::failed_multi(3, 1, ErrorCode::NoNode);
    let mut out = Vec::new();
    OpResult::encode_all(&results, &mut out);
    let golden = "ffffffff 00 00000000 00000000  ffffffff 00 ffffff9b ffffff9b  ffffffff 00 fffffffe fffffffe \
                  ffffffff 01 ffffffff";
    assert_eq!(Bytes::from(out), unhex(golden));
}

#[test]
fn multis_refuse_what_does_not_belong() {
    let with = |opcode: OpCode, body: &Request| {
        let mut out = Vec::new();
        MultiHeader { opcode: opcode.code(), done: false, err: -1 }.encode(&mut out);
        body.encode(&mut out);
        MultiHeader::END.encode(&mut out);
        Bytes::from(out)
    };
    let get = Request::GetData(GetDataRequest { path: "/a".into(), watch: false });
    assert!(Request::decode(22, &with(OpCode::GetData, &get)).is_ok());
    assert_eq!(
        Request::decode(14, &with(OpCode::GetData, &get)).map_err(RequestError::code),
        Err(ErrorCode::MarshallingError)
    );
    let create = Request::Create(CreateRequest { path: "/a".into(), data: None, acl: vec![], flags: 7 });
    assert!(Request::decode(14, &with(OpCode::Create, &create)).is_err(), "flags 7");
    assert!(
        Request::decode(
            1,
            &Bytes::from({
                let mut out = Vec::new();
                create.encode(&mut out);
                out
            })
        )
        .is_ok()
    );
    assert_eq!(Request::decode(14, &unhex("ffffffff 01 ffffffff")), Ok(Request::Multi(vec![])));
}

#[test]
fn internal_opcodes_are_not_for_clients() {
    for opcode in [0, 13, 20, -10, -1, 10, 999, i32::MIN] {
        assert_eq!(Request::decode(opcode, &Bytes::new()), Err(RequestError::Unimplemented(opcode)));
    }
}

#[test]
fn null_and_empty_data_differ() {
    let of = |data| SetDataRequest { path: "/a".into(), data, version: -1 };
    assert_ne!(of(None).to_bytes(), of(Some(Bytes::new())).to_bytes());
    assert_eq!(SetDataRequest::from_bytes(&of(None).to_bytes()), Ok(of(None)));
    assert_eq!(SetDataRequest::from_bytes(&of(Some(Bytes::new())).to_bytes()), Ok(of(Some(Bytes::new()))));
}

#[test]
fn lying_lengths_and_counts_are_refused_without_allocating() {
    assert_eq!(SyncRequest::from_bytes(&unhex("7fffffff 2f")), Err(DecodeError::Length(i32::MAX)));
    assert_eq!(SyncRequest::from_bytes(&unhex("fffffffe")), Err(DecodeError::Length(-2)));
    assert_eq!(SyncRequest::from_bytes(&unhex("00000001 ff")), Err(DecodeError::Utf8));
    let watches = |count: &str| {
        SetWatches::from_bytes(&unhex(&format!("{} {count} 00000000 00000000", "00".repeat(8))))
    };
    assert_eq!(watches("7fffffff").map(|_| ()), Err(DecodeError::Count(i32::MAX)));
    assert_eq!(watches("fffffffe").map(|_| ()), Err(DecodeError::Count(-2)));
    assert_eq!(watches("ffffffff").map(|w| w.data), Ok(vec![]), "a null vector is empty");
}

#[test]
fn frames_are_capped_before_anything_else() {
    let mut buffer = BytesMut::from(&unhex("00000002 aabb 00000000 00000003 cc")[..]);
    let frames: Vec<Bytes> = split_frames(&mut buffer, DEFAULT_MAX_FRAME).unwrap().collect();
    assert_eq!(frames, [unhex("aabb"), Bytes::new()]);
    assert_eq!(buffer.len(), 5, "the incomplete frame stays");

    for (claim, allowed) in
        [("000fffff", true), ("00100000", false), ("ffffffff", false), ("7fffffff", false)]
    {
        let mut buffer = BytesMut::from(&unhex(claim)[..]);
        assert_eq!(split_frames(&mut buffer, DEFAULT_MAX_FRAME).is_ok(), allowed, "{claim}");
    }
    // Whole frames before a bad one are delivered first.
    let mut buffer = BytesMut::from(&unhex("00000001 aa ffffffff")[..]);
    assert_eq!(split_frames(&mut buffer, DEFAULT_MAX_FRAME).unwrap().count(), 1);
    assert_eq!(split_frames(&mut buffer, DEFAULT_MAX_FRAME).map(|_| ()).unwrap_err().length, -1);
}

#[test]
fn numbers_map_both_ways() {
    for &code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_code(code.code()), Some(code));
    }
    for &op in OpCode::ALL {
        assert_eq!(OpCode::from_code(op.code()), Some(op));
    }
    assert_eq!(ErrorCode::from_code(-126), None);
    assert_eq!(CreateMode::from_flags(7), Err(ErrorCode::BadArguments));
    assert!(
        CreateMode::EphemeralSequential.is_ephemeral() && CreateMode::EphemeralSequential.is_sequential()
    );
}

fn text() -> impl Strategy<Value = JStr> {
    "[a-zé/ ]{0,12}".prop_map(JStr::from)
}
fn data() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(vec(any::<u8>(), 0..20).prop_map(Bytes::from))
}
fn acls() -> impl Strategy<Value = Vec<Acl>> {
    vec(
        (any::<i32>(), text(), text()).prop_map(|(perms, scheme, id)| Acl { perms, id: Id { scheme, id } }),
        0..3,
    )
}
fn creates() -> impl Strategy<Value = CreateRequest> {
    (text(), data(), acls(), 0..7).prop_map(|(path, data, acl, flags)| CreateRequest {
        path,
        data,
        acl,
        flags,
    })
}
fn stats() -> impl Strategy<Value = Stat> {
    (any::<(i64, i64, i64, i64)>(), any::<(i32, i32, i32, i64)>(), any::<(i32, i32, i64)>()).prop_map(
        |(a, b, c)| Stat {
            czxid: a.0,
            mzxid: a.1,
            ctime: a.2,
            mtime: a.3,
            version: b.0,
            cversion: b.1,
            aversion: b.2,
            ephemeral_owner: b.3,
            data_length: c.0,
            num_children: c.1,
            pzxid: c.2,
        },
    )
}
fn requests() -> impl Strategy<Value = Request> {
    let texts = || vec(text(), 0..4);
    prop_oneof![
        creates().prop_map(Request::Create),
        creates().prop_map(Request::CreateContainer),
        (creates(), any::<i64>()).prop_map(|(c, ttl_ms)| Request::CreateTtl(CreateTtlRequest {
            path: c.path,
            data: c.data,
            acl: c.acl,
            flags: c.flags,
            ttl_ms
        })),
        (text(), any::<i32>()).prop_map(|(path, version)| Request::Delete(DeleteRequest { path, version })),
        (text(), any::<bool>()).prop_map(|(path, watch)| Request::GetData(GetDataRequest { path, watch })),
        (text(), data(), any::<i32>()).prop_map(|(path, data, version)| Request::SetData(SetDataRequest {
            path,
            data,
            version
        })),
        (text(), acls(), any::<i32>()).prop_map(|(path, acl, version)| Request::SetAcl(SetAclRequest {
            path,
            acl,
            version
        })),
        (any::<i64>(), texts(), texts(), texts(), texts(), texts()).prop_map(|(z, a, b, c, d, e)| {
            Request::SetWatches2(SetWatches2 {
                relative_zxid: z,
                data: a,
                exists: b,
                child: c,
                persistent: d,
                recursive: e,
            })
        }),
        (text(), data()).prop_map(|(scheme, auth)| Request::Auth(AuthPacket { kind: 0, scheme, auth })),
        vec(creates(), 0..3).prop_map(|all| Request::Multi(all.into_iter().map(MultiOp::Create2).collect())),
        vec(text(), 0..3).prop_map(|all| {
            let read = |path| ReadOp::GetChildren(GetChildrenRequest { path, watch: false });
            Request::MultiRead(all.into_iter().map(read).collect())
        }),
        Just(Request::Ping),
        Just(Request::CloseSession),
    ]
}
fn results() -> impl Strategy<Value = OpResult> {
    prop_oneof![
        text().prop_map(|path| OpResult::Create(CreateResponse { path })),
        (text(), stats()).prop_map(|(path, stat)| OpResult::Create2(Create2Response { path, stat })),
        Just(OpResult::Delete),
        stats().prop_map(|stat| OpResult::SetData(SetDataResponse { stat })),
        (data(), stats()).prop_map(|(data, stat)| OpResult::GetData(GetDataResponse { data, stat })),
        any::<i32>().prop_map(OpResult::Error),
    ]
}

proptest! {
    #[test]
    fn requests_come_back_as_they_were(request in requests()) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        prop_assert_eq!(Request::decode(request.opcode().code(), &out.freeze()), Ok(request));
    }

    #[test]
    fn responses_come_back_as_they_were(results in vec(results(), 0..4), stat in stats(), data in data()) {
        for (opcode, response) in [
            (OpCode::Multi, Response::Multi(results)),
            (OpCode::GetData, Response::GetData(GetDataResponse { data, stat })),
            (OpCode::Delete, Response::Empty),
        ] {
            let mut out = Vec::new();
            response.encode(&mut out);
            prop_assert_eq!(Response::decode(opcode, &mut Reader::new(&out.into())), Ok(response));
        }
    }

    #[test]
    fn every_prefix_of_a_request_is_refused_or_another_request(request in requests(), cut in 0usize..64) {
        let mut out = BytesMut::new();
        request.encode(&mut out);
        let bytes = out.freeze();
        let cut = cut.min(bytes.len());
        if let Ok(found) = Request::decode(request.opcode().code(), &bytes.slice(..bytes.len() - cut)) {
            prop_assert!(cut == 0, "{found:?} from {cut} bytes less than {request:?}");
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..80), small in vec(0u8..4, 0..80)) {
        for bytes in [Bytes::from(bytes), Bytes::from(small)] {
            for &opcode in OpCode::ALL {
                let _ = Request::decode(opcode.code(), &bytes);
                let _ = Response::decode(opcode, &mut Reader::new(&bytes));
            }
            let _ = ConnectRequest::from_bytes(&bytes);
            let _ = ConnectResponse::from_bytes(&bytes);
            let _ = WatcherEvent::from_bytes(&bytes);
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(frames) = split_frames(&mut buffer, 64) {
                if frames.is_empty() {
                    break;
                }
                for frame in frames {
                    let _ = RequestHeader::from_bytes(&frame);
                }
            }
        }
    }
}
