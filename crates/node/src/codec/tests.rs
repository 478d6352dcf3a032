//! Golden bytes, round trips, and everything that a peer could do wrong.

use super::*;
use proptest::prelude::*;
use replog::{NodeId, Phase};
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Word {
    Ask { epoch: Epoch, last: LogId },
    Tell(u8, Vec<u16>, Option<NodeId>),
}

impl Message for Word {
    fn kind(&self) -> &'static str {
        "Word"
    }
    fn phase(&self) -> Phase {
        Phase::Broadcast
    }
    fn epoch(&self) -> Epoch {
        Epoch::ZERO
    }
}

const LIMIT: u32 = 1 << 20;
const ENCODER: Encoder = Encoder { limit: LIMIT };
const DECODER: Decoder = Decoder { limit: LIMIT };

fn entry(index: u64, body: Body) -> Entry {
    let epoch = Epoch { round: 7, proposer: 2 };
    Entry { id: LogId::new(epoch, Index(index)), ballot: Epoch::of(9), stamp: Stamp(0x0102_0304), body }
}

fn ask() -> Word {
    Word::Ask { epoch: Epoch { round: 5, proposer: 1 }, last: LogId::new(Epoch::of(4), Index(258)) }
}

fn encoded(message: &Word, entries: &[Entry]) -> BytesMut {
    let mut out = BytesMut::new();
    ENCODER.core(message, entries, &mut out).unwrap();
    out
}

fn decoded(bytes: &[u8]) -> Result<Option<Incoming<Word>>, FrameError> {
    DECODER.next(&mut BytesMut::from(bytes))
}

/// Puts the right length and checksum on a payload of our making.
fn framed(lane: u8, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let at = begin(lane, &mut out);
    out.extend_from_slice(payload);
    ENCODER.finish(at, &mut out).unwrap();
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn golden_message() {
    let expected = concat!(
        "20000000",
        "01",
        "08ba1d13",
        "4b21af0e", // length, lane, checksums
        "1c000000",
        "00000000", // size of the message; variant
        "05000000",
        "01000000", // epoch
        "04000000",
        "00000000",
        "0201000000000000", // last
    );
    assert_eq!(hex(&encoded(&ask(), &[])), expected);
    let expected = concat!(
        "1a000000",
        "01",
        "0000000000000000",
        "16000000",
        "01000000", // Tell
        "ff",
        "0200000000000000",
        "0100",
        "0200",
        "01",
        "03000000",
    );
    let told = hex(&encoded(&Word::Tell(255, vec![1, 2], Some(NodeId(3))), &[]));
    assert_eq!((&told[..10], &told[26..]), (&expected[..10], &expected[26..]));
}

#[test]
fn golden_entries() {
    let configuration = Configuration::of_voters([NodeId(1)]);
    let entries = [
        entry(1, Body::Noop),
        entry(2, Body::Command(Bytes::from_static(b"abc"))),
        entry(3, Body::Config(Box::new(configuration), Bytes::from_static(b"x"))),
    ];
    let bytes = encoded(&ask(), &entries);
    let head = "0700000002000000";
    let ballot = "0900000000000000";
    let stamp = "0403020100000000";
    let config = concat!(
        "2c000000", // size of the configuration
        "0100000000000000",
        "01000000",
        "01000000", // voters
        "0000000000000000",
        "0000000000000000",
        "0000000000000000", // outgoing, learners, observers
        "00000000",         // majority
        "78",
    );
    let expected = [
        format!("{head}0100000000000000{ballot}{stamp}0000000000"),
        format!("{head}0200000000000000{ballot}{stamp}0103000000616263"),
        format!("{head}0300000000000000{ballot}{stamp}0231000000{config}"),
    ]
    .concat();
    assert_eq!(hex(&bytes[HEADER_BYTES + 32..]), expected);
    let Some(Incoming::Core { message, entries: found, bytes: size }) = decoded(&bytes).unwrap() else {
        panic!("no message")
    };
    assert_eq!((message, &found[..], size), (ask(), &entries[..], bytes.len()));
}

#[test]
fn frames_follow_one_another_and_may_arrive_in_any_pieces() {
    let mut wire = encoded(&ask(), &[entry(4, Body::Command(Bytes::from(vec![1; 300])))]);
    ENCODER.app(b"hello", &mut wire).unwrap();
    ENCODER.ping(&mut wire).unwrap();
    let mut buffer = BytesMut::new();
    let mut seen = Vec::new();
    for byte in &wire {
        buffer.put_u8(*byte);
        while let Some(frame) = DECODER.next::<Word>(&mut buffer).unwrap() {
            seen.push(frame);
        }
    }
    assert!(matches!(&seen[0], Incoming::Core { entries, .. } if entries.len() == 1));
    assert_eq!(seen[1], Incoming::App { message: Bytes::from_static(b"hello"), bytes: 18 });
    assert_eq!(seen[2], Incoming::Ping);
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_body_is_a_slice_of_the_receive_buffer() {
    let wire = encoded(&ask(), &[entry(4, Body::Command(Bytes::from(vec![1; 300])))]);
    let mut buffer = wire.clone();
    let range = buffer.as_ptr_range();
    let Some(Incoming::Core { entries, .. }) = DECODER.next::<Word>(&mut buffer).unwrap() else { panic!() };
    let Body::Command(body) = &entries[0].body else { panic!() };
    assert!(range.contains(&body.as_ptr()), "the body was copied");
}

// requirement: fault row 42, a corrupt frame on a peer link
#[test]
fn any_flipped_bit_is_noticed() {
    let wire = encoded(&ask(), &[entry(4, Body::Command(Bytes::from_static(b"payload")))]);
    for at in 0..wire.len() * 8 {
        let mut bad = wire.to_vec();
        bad[at / 8] ^= 1 << (at % 8);
        assert_eq!(decoded(&bad), Err(FrameError::Checksum), "bit {at}");
    }
}

// requirement: no allocation before a length is checked
#[test]
fn lying_lengths_are_refused_before_anything_is_reserved() {
    let mut lie = u32::MAX.to_le_bytes().to_vec();
    lie.extend_from_slice(&[LANE_APP, 0, 0, 0, 0]);
    lie.extend_from_slice(&crc32c(&lie).to_le_bytes());
    let mut buffer = BytesMut::from(&lie[..]);
    let before = buffer.capacity();
    let expected = FrameError::TooLong { bytes: u32::MAX as usize, limit: LIMIT };
    assert_eq!(DECODER.next::<Word>(&mut buffer), Err(expected));
    assert_eq!(buffer.capacity(), before);
    let inner_lengths: [&[u8]; 4] = [
        b"",
        b"\xff\xff\xff\xff",
        // Tell with a vector that claims 2^40 elements.
        b"\x0d\0\0\0\x01\0\0\0\xff\0\0\0\0\0\x01\0\0",
        // A message with bytes behind its end.
        b"\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ];
    for payload in inner_lengths {
        let result = decoded(&framed(LANE_CORE, payload));
        assert!(matches!(result, Err(FrameError::Malformed(_))), "{payload:?}: {result:?}");
    }
    assert!(matches!(decoded(&framed(9, b"")), Err(FrameError::Malformed(_))));
    assert!(matches!(decoded(&framed(LANE_PING, b"x")), Err(FrameError::Malformed(_))));
}

#[test]
fn entries_must_ascend_and_fit() {
    let wire = encoded(&ask(), &[entry(5, Body::Noop), entry(5, Body::Noop)]);
    assert_eq!(decoded(&wire), Err(FrameError::Malformed("entries do not ascend")));
    let body = Bytes::from(vec![0; LIMIT as usize]);
    let mut out = BytesMut::new();
    let refused = ENCODER.core(&ask(), &[entry(5, Body::Command(body))], &mut out);
    assert!(matches!(refused, Err(FrameError::TooLong { .. })));
}

fn any_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::Noop),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|b| Body::Command(b.into())),
        (proptest::collection::vec(any::<u32>(), 0..5), any::<u8>()).prop_map(|(ids, b)| {
            let configuration = Configuration::of_voters(ids.into_iter().map(NodeId));
            Body::Config(Box::new(configuration), Bytes::from(vec![b]))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_goes_in_comes_out(bodies in proptest::collection::vec(any_body(), 0..6), first in 1..1000u64) {
        let entries: Vec<Entry> = (first..).zip(bodies).map(|(i, b)| entry(i, b)).collect();
        let wire = encoded(&ask(), &entries);
        let bytes = wire.len();
        prop_assert_eq!(decoded(&wire), Ok(Some(Incoming::Core { message: ask(), entries, bytes })));
    }

    /// A payload of arbitrary bytes under a right checksum (a peer that lies) never panics.
    #[test]
    fn nonsense_never_panics(lane in 0..5u8, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decoded(&framed(lane, &payload));
    }
}
