//! The generator's own reading of ZooKeeper's client wire (`jute` is the product's): frames are templates whose
//! numbers are patched in place, replies are looked at no further than their header.
//!
//! ```text
//!  request  len:i32 | xid:i32 | opcode:i32 | record
//!  reply    len:i32 | xid:i32 | zxid:i64 | err:i32 | record
//!  connect  len:i32 | version:i32 | lastZxidSeen:i64 | timeOut:i32 | sessionId:i64 | passwd:buffer | readOnly:bool
//! ```
//!
//! Invariants: a template's frame length never changes; `xid` stands at bytes 4..8 of every request frame.
//! Two independent readings of one format check each other, and a patched template costs some 20 ns.

use super::wire::{Op, Parsed, ReplyKind};

/// `xid` of a ping.
const PING_XID: i32 = -2;
/// `xid` of a watch event.
const EVENT_XID: i32 = -1;
/// Largest frame taken from a server.
const MAX_FRAME: usize = 4 << 20;
/// Digits of the number that ends a path.
pub(crate) const DIGITS: usize = 10;

/// A request frame with a place for the xid and one for a ten-digit number at the end of its path.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    number_at: usize,
}

impl Template {
    /// A frame of `op` on `{prefix}{number:010}`.
    pub(crate) fn new(op: Op, prefix: &str, value: &[u8]) -> Self {
        let mut b = vec![0; 8];
        b.extend_from_slice(&opcode(op).to_be_bytes());
        let length = prefix.len() + DIGITS;
        b.extend_from_slice(&(length as i32).to_be_bytes());
        b.extend_from_slice(prefix.as_bytes());
        let number_at = b.len();
        b.extend_from_slice(&[b'0'; DIGITS]);
        match op {
            Op::Get => b.push(0),
            Op::Set => {
                put_buffer(&mut b, value);
                b.extend_from_slice(&(-1i32).to_be_bytes());
            }
            Op::Create => put_create_tail(&mut b, value),
        }
        seal(&mut b);
        Self { bytes: b, number_at }
    }

    /// Appends the frame for `xid` and `number` to `out`.
    pub(crate) fn write(&self, xid: i32, mut number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(place) = out.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&xid.to_be_bytes());
        }
        if let Some(digits) = out.get_mut(start + self.number_at..start + self.number_at + DIGITS) {
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
                if number == 0 {
                    break;
                }
            }
        }
    }
}

/// A create request of any path (used while preparing).
pub(crate) fn create_frame(xid: i32, path: &str, value: &[u8]) -> Vec<u8> {
    let mut b = vec![0; 4];
    b.extend_from_slice(&xid.to_be_bytes());
    b.extend_from_slice(&opcode(Op::Create).to_be_bytes());
    put_buffer(&mut b, path.as_bytes());
    put_create_tail(&mut b, value);
    seal(&mut b);
    b
}

/// A connect request: `session` 0 opens a new one.
pub(crate) fn connect_frame(session: i64, password: &[u8], last_zxid: i64, timeout_ms: i32) -> Vec<u8> {
    let mut b = vec![0; 8];
    b.extend_from_slice(&last_zxid.to_be_bytes());
    b.extend_from_slice(&timeout_ms.to_be_bytes());
    b.extend_from_slice(&session.to_be_bytes());
    put_buffer(&mut b, password);
    b.push(0);
    seal(&mut b);
    b
}

/// A ping.
pub(crate) fn ping_frame() -> Vec<u8> {
    header_only(PING_XID, 11)
}

/// A closeSession.
pub(crate) fn close_frame() -> Vec<u8> {
    header_only(i32::MAX, -11)
}

fn header_only(xid: i32, opcode: i32) -> Vec<u8> {
    let mut b = vec![0; 4];
    b.extend_from_slice(&xid.to_be_bytes());
    b.extend_from_slice(&opcode.to_be_bytes());
    seal(&mut b);
    b
}

fn opcode(op: Op) -> i32 {
    match op {
        Op::Get => 4,
        Op::Set => 5,
        Op::Create => 1,
    }
}

fn put_create_tail(b: &mut Vec<u8>, value: &[u8]) {
    put_buffer(b, value);
    b.extend_from_slice(&1i32.to_be_bytes());
    b.extend_from_slice(&31i32.to_be_bytes());
    put_buffer(b, b"world");
    put_buffer(b, b"anyone");
    b.extend_from_slice(&0i32.to_be_bytes());
}

fn put_buffer(b: &mut Vec<u8>, value: &[u8]) {
    b.extend_from_slice(&(value.len() as i32).to_be_bytes());
    b.extend_from_slice(value);
}

fn seal(b: &mut [u8]) {
    let length = b.len() as i32 - 4;
    if let Some(place) = b.get_mut(..4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Reads a big-endian i32 at `at`.
pub(crate) fn i32_at(b: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

/// Reads a big-endian i64 at `at`.
pub(crate) fn i64_at(b: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

/// The frame at the head of `input`, without its length; `None` until it is whole.
pub(crate) fn frame(input: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some(length) = i32_at(input, 0) else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|l| *l <= MAX_FRAME);
    let length = length.ok_or_else(|| format!("frame length {:?}", i32_at(input, 0)))?;
    Ok(input.get(4..4 + length))
}

/// The reply at the head of `input`.
pub(crate) fn parse_reply(input: &[u8]) -> Result<Parsed, String> {
    let Some(frame) = frame(input)? else { return Ok(Parsed::Incomplete) };
    let consumed = frame.len() + 4;
    let (Some(xid), Some(zxid), Some(err)) = (i32_at(frame, 0), i64_at(frame, 4), i32_at(frame, 12)) else {
        return Err(format!("reply of {} bytes", frame.len()));
    };
    let kind = match xid {
        PING_XID | EVENT_XID => ReplyKind::Other,
        xid => ReplyKind::Answer { xid, zxid, code: err },
    };
    Ok(Parsed::Reply { consumed, kind })
}

/// What a server said to a connect request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connected {
    /// Bytes taken.
    pub(crate) consumed: usize,
    /// Negotiated timeout; 0: the session is gone.
    pub(crate) timeout_ms: i32,
    /// Session id.
    pub(crate) session: i64,
    /// Its password.
    pub(crate) password: Vec<u8>,
}

/// The connect response at the head of `input`, `None` until it is whole.
pub(crate) fn parse_connected(input: &[u8]) -> Result<Option<Connected>, String> {
    let Some(frame) = frame(input)? else { return Ok(None) };
    let read = || {
        let length = usize::try_from(i32_at(frame, 16)?).ok()?;
        Some(Connected {
            consumed: frame.len() + 4,
            timeout_ms: i32_at(frame, 4)?,
            session: i64_at(frame, 8)?,
            password: frame.get(20..20 + length)?.to_vec(),
        })
    };
    read().map(Some).ok_or_else(|| format!("connect response of {} bytes", frame.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_patches_xid_and_number_and_nothing_else() {
        let template = Template::new(Op::Set, "/bench/s1/k", b"vv");
        let mut out = Vec::new();
        template.write(7, 42, &mut out);
        template.write(8, 9_876_543_210, &mut out);
        let first = frame(&out).unwrap().unwrap();
        assert_eq!(i32_at(first, 0), Some(7));
        assert_eq!(i32_at(first, 4), Some(5));
        assert_eq!(&first[12..33], b"/bench/s1/k0000000042");
        assert_eq!(&first[33..], [0, 0, 0, 2, b'v', b'v', 255, 255, 255, 255]);
        let second = frame(&out[first.len() + 4..]).unwrap().unwrap();
        assert_eq!(&second[12..33], b"/bench/s1/k9876543210");
    }

    #[test]
    fn a_connect_request_has_45_bytes() {
        assert_eq!(connect_frame(0, &[0; 16], 0, 30_000).len(), 49);
    }

    #[test]
    fn replies_are_read_once_whole_and_lying_lengths_are_refused() {
        let mut bytes = vec![0, 0, 0, 16];
        bytes.extend_from_slice(&5i32.to_be_bytes());
        bytes.extend_from_slice(&9i64.to_be_bytes());
        bytes.extend_from_slice(&(-101i32).to_be_bytes());
        assert_eq!(parse_reply(&bytes[..19]).unwrap(), Parsed::Incomplete);
        let kind = ReplyKind::Answer { xid: 5, zxid: 9, code: -101 };
        assert_eq!(parse_reply(&bytes).unwrap(), Parsed::Reply { consumed: 20, kind });
        assert!(parse_reply(&[255, 255, 255, 255]).is_err());
        assert!(parse_reply(&[0, 0, 0, 2, 1, 1]).is_err());
        assert!(parse_connected(&[0, 0, 0, 1, 0]).is_err());
    }
}
