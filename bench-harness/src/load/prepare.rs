//! Lays out what a load works on, over one blocking connection with requests in batches.
//!
//! ```text
//!  /bench/<tag>/s0000/k0000000000 … k0000000063    keys of session 0 (get, set)
//!  /bench/<tag>/f0000/n0000000001 …                what session 0 creates
//! ```

use super::frames;
use super::http::Http;
use super::wire::{Jute, Op, Opening, Parsed, ReplyKind, Wire};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Keys per session.
pub(crate) const KEYS: u64 = 64;
/// Session timeout that the generator asks for, ms.
pub(crate) const SESSION_MS: i32 = 30_000;
/// Requests per batch while preparing.
const BATCH: usize = 256;
/// `NodeExists`.
const NODE_EXISTS: i32 = -110;

/// A subtree that belongs to one load.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    root: String,
    value: Vec<u8>,
}

impl Space {
    /// `/bench/<tag>` with values of `value_bytes` bytes.
    pub(crate) fn new(tag: &str, value_bytes: usize) -> Self {
        Self { root: format!("/bench/{tag}"), value: vec![b'v'; value_bytes] }
    }

    /// The wire of session `i`.
    pub(crate) fn wire(&self, i: usize) -> Jute {
        let (keys, fresh) = (format!("{}/s{i:04}/k", self.root), format!("{}/f{i:04}/n", self.root));
        Jute::new(&keys, &fresh, &self.value, SESSION_MS)
    }

    /// The wire of connection `i` to etcd's gateway; connections beyond the sessions share their keys.
    pub(crate) fn http(&self, i: usize, sessions: usize) -> Http {
        let of = i % sessions.max(1);
        Http::new(&format!("{}/s{of:04}/k", self.root), &format!("{}/f{i:04}/n", self.root), &self.value)
    }

    /// Puts every key of `sessions` sessions into etcd.
    ///
    /// # Errors
    /// A server that cannot be reached, or refuses.
    pub(crate) fn prepare_etcd(&self, server: SocketAddr, sessions: usize) -> Result<()> {
        // One connection answers one at a time: as many as there are sessions, up to 16.
        let lanes = sessions.clamp(1, 16);
        std::thread::scope(|scope| {
            let fill = |lane| {
                move || (lane..sessions).step_by(lanes).try_for_each(|i| self.fill_etcd(server, i, sessions))
            };
            let threads: Vec<_> = (0..lanes).map(|lane| scope.spawn(fill(lane))).collect();
            threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow!("a thread panicked"))?)
        })
    }

    fn fill_etcd(&self, server: SocketAddr, session: usize, sessions: usize) -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let (mut wire, mut out, mut input) = (self.http(session, sessions), Vec::new(), Vec::new());
        (0..KEYS).for_each(|k| wire.request(Op::Set, 0, k, &mut out));
        stream.write_all(&out)?;
        let mut left = KEYS;
        while left > 0 {
            match wire.parse(&input).map_err(|e| anyhow!(e))? {
                Parsed::Incomplete => read_some(&mut stream, &mut input)?,
                Parsed::Reply { consumed, kind } => {
                    ensure!(matches!(kind, ReplyKind::Answer { code: 0, .. }), "etcd refused a put");
                    input.drain(..consumed);
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    /// Creates parents and keys for `sessions` sessions.
    ///
    /// # Errors
    /// A server that cannot be reached within `within`, or refuses.
    pub(crate) fn prepare(&self, server: SocketAddr, sessions: usize, within: Duration) -> Result<()> {
        let mut control = Control::open(server, within)?;
        let mut parents = vec!["/bench".to_owned(), self.root.clone()];
        for i in 0..sessions {
            parents.push(format!("{}/s{i:04}", self.root));
            parents.push(format!("{}/f{i:04}", self.root));
        }
        control.create_all(parents.iter(), b"")?;
        let keys: Vec<String> = (0..sessions)
            .flat_map(|i| (0..KEYS).map(move |k| (i, k)))
            .map(|(i, k)| format!("{}/s{i:04}/k{k:010}", self.root))
            .collect();
        control.create_all(keys.iter(), &self.value)?;
        control.close()
    }
}

/// A blocking session.
#[derive(Debug)]
pub(crate) struct Control {
    stream: TcpStream,
    input: Vec<u8>,
    wire: Jute,
    next_xid: i32,
}

impl Control {
    /// Opens a session with `server`, trying again until `within` has passed.
    ///
    /// # Errors
    /// No session within that time.
    pub(crate) fn open(server: SocketAddr, within: Duration) -> Result<Self> {
        let since = Instant::now();
        loop {
            match Self::try_open(server) {
                Ok(control) => return Ok(control),
                Err(e) if since.elapsed() > within => {
                    return Err(e).with_context(|| format!("no session with {server} within {within:?}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn try_open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, Duration::from_millis(500))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut control =
            Self { stream, input: Vec::new(), wire: Jute::new("", "", b"", SESSION_MS), next_xid: 1 };
        let mut hello = Vec::new();
        control.wire.hello(&mut hello);
        control.stream.write_all(&hello)?;
        loop {
            match control.wire.opened(&control.input).map_err(|e| anyhow!(e))? {
                Opening::Ready { consumed } => {
                    control.input.drain(..consumed);
                    return Ok(control);
                }
                Opening::Expired => bail!("the new session was refused"),
                Opening::Wait => control.read()?,
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        read_some(&mut self.stream, &mut self.input)
    }

    /// Creates every path; one that is there already is fine.
    ///
    /// # Errors
    /// Any other answer, or a lost connection.
    pub(crate) fn create_all<'a>(
        &mut self,
        paths: impl Iterator<Item = &'a String>,
        value: &[u8],
    ) -> Result<()> {
        let paths: Vec<_> = paths.collect();
        for batch in paths.chunks(BATCH) {
            let mut out = Vec::new();
            for path in batch {
                out.extend(frames::create_frame(self.next_xid, path, value));
                self.next_xid += 1;
            }
            self.stream.write_all(&out)?;
            for path in batch {
                let code = self.answer()?;
                ensure!(code == 0 || code == NODE_EXISTS, "creating {path} gave error {code}");
            }
        }
        Ok(())
    }

    /// Waits for the next answer and returns its code.
    fn answer(&mut self) -> Result<i32> {
        loop {
            match self.wire.parse(&self.input).map_err(|e| anyhow!(e))? {
                Parsed::Incomplete => self.read()?,
                Parsed::Reply { consumed, kind } => {
                    self.input.drain(..consumed);
                    if let ReplyKind::Answer { code, .. } = kind {
                        return Ok(code);
                    }
                }
            }
        }
    }

    /// Closes the session.
    ///
    /// # Errors
    /// A lost connection.
    pub(crate) fn close(mut self) -> Result<()> {
        let mut out = Vec::new();
        self.wire.close(&mut out);
        self.stream.write_all(&out)?;
        self.answer().map(|_| ())
    }
}

fn read_some(stream: &mut TcpStream, input: &mut Vec<u8>) -> Result<()> {
    let mut chunk = [0; 16 << 10];
    let n = stream.read(&mut chunk)?;
    ensure!(n > 0, "the server closed the connection");
    input.extend_from_slice(chunk.get(..n).unwrap_or_default());
    Ok(())
}
