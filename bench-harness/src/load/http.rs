//! etcd's v3 HTTP/JSON gateway, spoken by the same generator.
//!
//! The gateway turns JSON into gRPC inside the server, so figures of this wire hold a cost that etcd's own clients do
//! not pay; they are labelled wherever they stand. HTTP/1.1 answers in order and one at a time, so a session with d
//! requests under way becomes d connections. Gets are `serializable`: answered from the server's own state, as
//! ZooKeeper's are. A create is a transaction that puts a key which has no revision yet.

use super::wire::{Op, Opening, Parsed, ReplyKind, Wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// Largest head of a reply.
const MAX_HEAD: usize = 8 << 10;

/// One connection to the gateway.
#[derive(Debug)]
pub(crate) struct Http {
    keys: String,
    fresh: String,
    value: String,
    body: String,
    under_way: i32,
}

impl Http {
    /// Reads and writes `{keys}{number}`, creates `{fresh}{number}`.
    pub(crate) fn new(keys: &str, fresh: &str, value: &[u8]) -> Self {
        let value = STANDARD.encode(value);
        Self { keys: keys.into(), fresh: fresh.into(), value, body: String::new(), under_way: 0 }
    }
}

impl Wire for Http {
    fn hello(&mut self, _out: &mut Vec<u8>) {}

    fn opened(&mut self, _input: &[u8]) -> Result<Opening, String> {
        Ok(Opening::Ready { consumed: 0 })
    }

    fn speaks_first(&self) -> bool {
        false
    }

    fn request(&mut self, op: Op, xid: i32, number: u64, out: &mut Vec<u8>) {
        self.under_way = xid;
        let prefix = if op == Op::Create { &self.fresh } else { &self.keys };
        let key = STANDARD.encode(format!("{prefix}{number:010}"));
        let (body, value) = (&mut self.body, &self.value);
        body.clear();
        // Writing to a String cannot fail.
        let path = match op {
            Op::Get => {
                let _ = write!(body, r#"{{"key":"{key}","serializable":true}}"#);
                "range"
            }
            Op::Set => {
                let _ = write!(body, r#"{{"key":"{key}","value":"{value}"}}"#);
                "put"
            }
            Op::Create => {
                let _ = write!(
                    body,
                    r#"{{"compare":[{{"key":"{key}","target":"CREATE","create_revision":"0"}}],"success":[{{"request_put":{{"key":"{key}","value":"{value}"}}}}]}}"#
                );
                "txn"
            }
        };
        let head =
            format!("POST /v3/kv/{path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n", body.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body.as_bytes());
    }

    fn parse(&mut self, input: &[u8]) -> Result<Parsed, String> {
        let Some(end) = input.windows(4).position(|w| w == b"\r\n\r\n") else {
            return if input.len() > MAX_HEAD { Err("endless head".into()) } else { Ok(Parsed::Incomplete) };
        };
        let head = String::from_utf8_lossy(input.get(..end).unwrap_or_default()).into_owned();
        let status: i32 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("no status line")?;
        let length = head
            .lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, v)| v.trim().parse::<usize>().ok())
            .ok_or("a reply without Content-Length")?;
        let consumed = end + 4 + length;
        let Some(body) = input.get(end + 4..consumed) else { return Ok(Parsed::Incomplete) };
        // A transaction whose comparison failed says so by leaving "succeeded" out.
        let refused =
            head.contains("200") && self.body.starts_with("{\"compare\"") && !contains(body, b"succeeded");
        let code = match status {
            200 if refused => -110,
            200 => 0,
            other => other,
        };
        let kind = ReplyKind::Answer { xid: self.under_way, zxid: 0, code };
        Ok(Parsed::Reply { consumed, kind })
    }

    fn ping(&mut self, _out: &mut Vec<u8>) {}

    fn close(&mut self, _out: &mut Vec<u8>) {}
}

fn contains(body: &[u8], word: &[u8]) -> bool {
    body.windows(word.len()).any(|w| w == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_taken_once_its_body_is_whole() {
        let mut wire = Http::new("k", "f", b"v");
        let mut out = Vec::new();
        wire.request(Op::Set, 3, 1, &mut out);
        assert!(String::from_utf8(out).unwrap().ends_with(r#"{"key":"azAwMDAwMDAwMDE=","value":"dg=="}"#));
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP";
        assert_eq!(wire.parse(&reply[..39]).unwrap(), Parsed::Incomplete);
        let kind = ReplyKind::Answer { xid: 3, zxid: 0, code: 0 };
        assert_eq!(wire.parse(reply).unwrap(), Parsed::Reply { consumed: 40, kind });
    }

    #[test]
    fn a_create_that_found_the_key_is_an_error() {
        let mut wire = Http::new("k", "f", b"v");
        wire.request(Op::Create, 1, 1, &mut Vec::new());
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let kind = ReplyKind::Answer { xid: 1, zxid: 0, code: -110 };
        assert_eq!(wire.parse(reply).unwrap(), Parsed::Reply { consumed: 40, kind });
    }
}
