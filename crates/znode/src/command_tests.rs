//! The codec: round trips, golden bytes, no panic on anything.

use super::*;
use proptest::prelude::*;

fn encoded(command: &Command) -> Bytes {
    let mut out = Vec::new();
    command.encode(&mut out);
    out.into()
}

fn request(request: Request) -> Command {
    Command::Request { origin: Origin { server: 3, stream: 300, number: 129 }, request }
}

fn examples() -> Vec<Command> {
    let decision = |decision| Command::Decision { epoch: Epoch::new(7, 2), decision };
    vec![
        Command::OpenStream { server: 3, nonce: u64::MAX },
        request(Request::OpenSession { session: -5, timeout_ms: 4000, password: [9; PASSWORD_BYTES] }),
        request(Request::Attach { session: 1, password: [0; PASSWORD_BYTES] }),
        request(Request::CloseSession { session: 0x0100_0a1b_2c3d_0000, attachment: u64::MAX }),
        request(Request::Op {
            session: 1,
            attachment: 44,
            opcode: 14,
            identities: Identities::new([("ip", "127.0.0.1"), ("super", "")]),
            body: Bytes::from_static(b"body"),
        }),
        decision(Decision::Expire { session: 1 }),
        decision(Decision::Reap { path: "/ü".into() }),
        decision(Decision::Settings(Settings { level: 1000, extended_types: true, skip_acl: false })),
        decision(Decision::Members { text: Bytes::from_static(b"server.1=") }),
    ]
}

#[test]
fn every_command_survives_its_encoding() {
    for command in examples() {
        assert_eq!(Command::decode(&encoded(&command)), Ok(command));
    }
}

// A log outlives the version that wrote it: these bytes must be read for ever.
#[test]
fn golden_bytes() {
    let open = Command::OpenStream { server: 200, nonce: 1 };
    assert_eq!(&encoded(&open)[..], &[1, 0, 0xc8, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    let close = request(Request::CloseSession { session: 2, attachment: 5 });
    assert_eq!(&encoded(&close)[..], &[1, 1, 3, 0xac, 2, 0x81, 1, 2, 0, 0, 0, 0, 0, 0, 0, 2, 5]);
    let op = request(Request::Op {
        session: 2,
        attachment: 5,
        opcode: -11,
        identities: Identities::new([("a", "")]),
        body: Bytes::from_static(&[0xee]),
    });
    let tail = [3, 0, 0, 0, 0, 0, 0, 0, 2, 5, 0xff, 0xff, 0xff, 0xf5, 9, 0, 0, 0, 1, b'a', 0, 0, 0, 0, 0xee];
    assert_eq!(&encoded(&op)[7..], &tail);
}

#[test]
fn a_cut_command_is_refused() {
    for command in examples() {
        let whole = encoded(&command);
        for len in 0..whole.len() {
            let cut = Command::decode(&whole.slice(..len));
            assert_ne!(cut, Ok(command.clone()), "{len} bytes");
        }
    }
}

#[test]
fn other_versions_kinds_flags_and_tails_are_refused() {
    let decode = |bytes: &[u8]| Command::decode(&Bytes::copy_from_slice(bytes));
    assert_eq!(decode(&[2, 0]), Err(CommandError::Version(2)));
    assert_eq!(decode(&[1, 3]), Err(CommandError::Value("kind")));
    assert_eq!(decode(&[1, 2, 1, 0, 2, 0, 4]), Err(CommandError::Value("flag")));
    assert_eq!(decode(&[1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7]), Err(CommandError::Long));
    assert_eq!(decode(&[1, 0, 0x81, 0]), Err(CommandError::Value("number")), "not its shortest form");
    assert_eq!(decode(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f]), Err(CommandError::Value("server")));
    // A lying length of the identities.
    let op = [1, 1, 1, 1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(decode(&op), Err(CommandError::Short));
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_have_one_encoding(mut bytes in prop::collection::vec(any::<u8>(), 0..60), kind in 0u8..4) {
        if let Some(first) = bytes.first_mut() { *first = 1; }
        if let Some(second) = bytes.get_mut(1) { *second = kind; }
        let bytes = Bytes::from(bytes);
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert_eq!(encoded(&command), bytes);
        }
    }

    #[test]
    fn numbers_survive(server in any::<u32>(), stream in any::<u64>(), number in any::<u64>(), session in any::<i64>()) {
        let command = Command::Request {
            origin: Origin { server, stream, number },
            request: Request::CloseSession { session, attachment: stream },
        };
        prop_assert_eq!(Command::decode(&encoded(&command)), Ok(command));
    }
}
