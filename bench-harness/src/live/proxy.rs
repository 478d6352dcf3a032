//! The network between the servers: a TCP proxy that knows where frames begin and end.
//!
//! ```text
//!  server i ── dials its address for j ──► listener (i, j) ──► connection k ──► server j's peer port
//!               reader ─► pieces (a handshake message, a frame, raw bytes) ─► queue ─► writer     one pair per way
//! ```
//!
//! Every server is told this proxy's addresses for its peers, one listener per ordered pair, so that whatever goes from
//! i to j passes here. A direction's [`Weather`] decides about each piece: wait, be late, be damaged, or end the
//! connection. TCP promises order, and the protocols rely on it: within a connection nothing is dropped, doubled or
//! overtaken; between connections everything may be.
//!
//! * The end of a connection is a piece like any other: while a direction is held, nobody learns of it.
//! * The queue is bounded; a sender that goes on is stopped by its own socket, as by a lost peer.
//! * The peers' handshake and frame layouts are known here by their sizes only (`node`'s handshake.rs, codec.rs).

use super::chance::Chance;
use super::weather::{Direction, Sky, Way, Weather};
use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// Handshake of the dialler: hello, proof.
const GREETING: [usize; 2] = [61, 32];
/// Handshake of the one who is dialled: answer, verdict.
const ANSWER: [usize; 2] = [59, 1];
/// Byte of the hello that says what the connection is for, and its value for frames.
const KIND: (usize, u8) = (8, 1);
/// Bytes before a frame's payload; the payload's length, little-endian, comes first.
const HEADER: usize = 13;
/// Longer frames than the servers take are passed on unparsed.
const MAX_FRAME: usize = 64 << 20;
/// Pieces that may wait in one direction of a connection.
const QUEUE: usize = 512;

/// One connection.
#[derive(Debug, Default)]
struct Connection {
    number: u64,
    /// Whether it carries frames, as its hello says.
    framed: AtomicBool,
}

/// Cuts a byte stream into pieces.
#[derive(Debug)]
struct Splitter {
    handshake: std::array::IntoIter<usize, 2>,
    expected: Option<usize>,
    is_dialler: bool,
}

/// What a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Handshake, or bytes of a snapshot.
    Raw(Bytes),
    /// A whole frame.
    Frame(Bytes),
}

impl Splitter {
    fn new(is_dialler: bool) -> Self {
        let mut handshake = if is_dialler { GREETING } else { ANSWER }.into_iter();
        let expected = handshake.next();
        Self { handshake, expected, is_dialler }
    }

    /// The next whole piece, if it is there.
    fn next(&mut self, input: &mut BytesMut, connection: &Connection) -> Option<Piece> {
        if let Some(bytes) = self.expected {
            if input.len() < bytes {
                return None;
            }
            let first = self.is_dialler && bytes == GREETING.first().copied().unwrap_or_default();
            if first && input.get(KIND.0) == Some(&KIND.1) {
                connection.framed.store(true, Ordering::Release);
            }
            self.expected = self.handshake.next();
            return Some(Piece::Raw(input.split_to(bytes).freeze()));
        }
        if !connection.framed.load(Ordering::Acquire) {
            return (!input.is_empty()).then(|| Piece::Raw(input.split().freeze()));
        }
        let length = u32::from_le_bytes(*input.first_chunk::<4>()?) as usize;
        if length > MAX_FRAME {
            return Some(Piece::Raw(input.split().freeze()));
        }
        (input.len() >= HEADER + length).then(|| Piece::Frame(input.split_to(HEADER + length).freeze()))
    }
}

/// The proxy of one ensemble.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// The weather.
    pub(crate) sky: Sky,
    addresses: BTreeMap<Way, SocketAddr>,
    serial: AtomicU64,
    seed: u64,
}

impl Proxy {
    /// Listens for every ordered pair of servers; `real` are their own peer addresses, from server 1 on.
    ///
    /// # Errors
    /// No ports left.
    pub(crate) async fn start(real: &[SocketAddr], seed: u64) -> Result<Arc<Self>> {
        let sky = Sky::clear(real.len() as u32);
        let (mut addresses, mut listeners) = (BTreeMap::new(), Vec::new());
        for way in sky.ways() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            addresses.insert(way, listener.local_addr()?);
            let target = real.get(way.1 as usize - 1).copied().context("an address for each server")?;
            listeners.push((way, listener, target));
        }
        let proxy = Arc::new(Self { sky, addresses, serial: AtomicU64::new(1), seed });
        for (way, listener, target) in listeners {
            tokio::spawn(Arc::clone(&proxy).listen(way, listener, target));
        }
        Ok(proxy)
    }

    /// Where server `way.0` finds server `way.1`.
    pub(crate) fn address(&self, way: Way) -> Option<SocketAddr> {
        self.addresses.get(&way).copied()
    }

    /// Connections so far: the next one has this number.
    pub(crate) fn connections(&self) -> u64 {
        self.serial.load(Ordering::Acquire)
    }

    /// Frames carried, frames damaged, connections broken at a frame.
    pub(crate) fn totals(&self) -> [u64; 3] {
        let mut totals = [0; 3];
        for direction in self.sky.ways().filter_map(|way| self.sky.direction(way)) {
            let counts = [&direction.frames, &direction.damaged, &direction.breaks];
            for (total, count) in totals.iter_mut().zip(counts) {
                *total += count.load(Ordering::Relaxed);
            }
        }
        totals
    }

    async fn listen(self: Arc<Self>, way: Way, listener: TcpListener, target: SocketAddr) {
        while let Ok((stream, _)) = listener.accept().await {
            let proxy = Arc::clone(&self);
            tokio::spawn(async move { proxy.carry(way, stream, target).await });
        }
    }

    /// One connection, from its dialling to its end.
    async fn carry(&self, (from, to): Way, dialler: TcpStream, target: SocketAddr) -> Option<()> {
        let number = self.serial.fetch_add(1, Ordering::AcqRel);
        let there = Arc::clone(self.sky.direction((from, to))?);
        let back = Arc::clone(self.sky.direction((to, from))?);
        // While the way is cut, a dial is neither taken nor refused.
        let mut now = there.now.subscribe();
        timeout(Duration::from_secs(20), now.wait_for(|w| w.passes(number))).await.ok()?.ok()?;
        let dialled = TcpStream::connect(target).await.ok()?;
        dialler.set_nodelay(true).ok()?;
        dialled.set_nodelay(true).ok()?;
        let connection = Connection { number, framed: AtomicBool::new(false) };
        let ((from_dialler, to_dialler), (from_dialled, to_dialled)) =
            (dialler.into_split(), dialled.into_split());
        let (mut broken_there, mut broken_back) = (there.broken.subscribe(), back.broken.subscribe());
        let chance = |salt| Chance::new(self.seed, number * 2 + salt);
        tokio::select! {
            // Whichever way is done first, the other may still have something to say: join, do not race.
            _ = async { tokio::join!(
                pump(from_dialler, to_dialled, &there, &connection, true, chance(0)),
                pump(from_dialled, to_dialler, &back, &connection, false, chance(1)),
            ) } => {}
            _ = broken_there.changed() => {}
            _ = broken_back.changed() => {}
        }
        Some(())
    }
}

/// Carries one direction of a connection until its end.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: &Direction,
    connection: &Connection,
    is_dialler: bool,
    chance: Chance,
) {
    let (queue, mut pieces) = mpsc::channel(QUEUE);
    let read = async move {
        let (mut input, mut splitter) = (BytesMut::with_capacity(64 << 10), Splitter::new(is_dialler));
        while matches!(from.read_buf(&mut input).await, Ok(n) if n > 0) {
            let arrived = Instant::now();
            while let Some(piece) = splitter.next(&mut input, connection) {
                if queue.send((arrived, piece)).await.is_err() {
                    return;
                }
            }
        }
        // A frame that was cut short by the sender's death travels as it is.
        let rest = Piece::Raw(input.freeze());
        drop(queue.send((Instant::now(), rest)).await);
    };
    let write = async move {
        let mut passage = Passage { direction, number: connection.number, free_at: Instant::now(), chance };
        while let Some((arrived, piece)) = pieces.recv().await {
            let Some(bytes) = passage.pass(arrived, piece).await else {
                direction.broken.send_modify(|n| *n += 1);
                return;
            };
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    };
    // A reader that waits for a writer that is gone ends when its queue is closed.
    tokio::join!(read, write);
}

/// The way of one direction of one connection through the weather.
struct Passage<'a> {
    direction: &'a Direction,
    number: u64,
    /// When the line is free again (bandwidth, order).
    free_at: Instant,
    chance: Chance,
}

impl Passage<'_> {
    /// Waits as long as the weather says; what comes out, `None` for the end of the connection.
    async fn pass(&mut self, arrived: Instant, piece: Piece) -> Option<Bytes> {
        let mut now = self.direction.now.subscribe();
        let weather = *now.borrow_and_update();
        let due = self.due(arrived, &weather, &piece);
        sleep_until(due).await;
        now.wait_for(|w| w.passes(self.number)).await.ok()?;
        match piece {
            Piece::Raw(bytes) => Some(bytes),
            Piece::Frame(frame) => {
                self.direction.frames.fetch_add(1, Ordering::Relaxed);
                if self.chance.below(1_000_000) < weather.breaks_per_million {
                    self.direction.breaks.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                Some(if self.direction.takes_damage() { self.damage(&frame) } else { frame })
            }
        }
    }

    fn due(&mut self, arrived: Instant, weather: &Weather, piece: &Piece) -> Instant {
        let (Piece::Raw(bytes) | Piece::Frame(bytes)) = piece;
        let jitter = Duration::from_micros(self.chance.below(weather.jitter.as_micros() as u64 + 1));
        let line = match weather.bytes_per_s {
            0 => Duration::ZERO,
            rate => Duration::from_micros(bytes.remaining() as u64 * 1_000_000 / rate),
        };
        self.free_at = (self.free_at + line).max(arrived + line + weather.latency + jitter);
        self.free_at
    }

    fn damage(&mut self, frame: &Bytes) -> Bytes {
        self.direction.damaged.fetch_add(1, Ordering::Relaxed);
        let mut bytes = BytesMut::from(&frame[..]);
        let (at, bit) = (self.chance.below(bytes.len() as u64) as usize, self.chance.below(8));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::super::weather::both;
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Server 2 dials server 1 and both shake hands as links do.
    async fn link(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let mut out = TcpStream::connect(proxy.address((2, 1)).unwrap()).await.unwrap();
        let mut hello = [0; 61];
        hello[8] = 1;
        out.write_all(&hello).await.unwrap();
        let (mut inbound, _) = listener.accept().await.unwrap();
        inbound.read_exact(&mut hello).await.unwrap();
        inbound.write_all(&[0; 60]).await.unwrap();
        out.read_exact(&mut [0; 60]).await.unwrap();
        out.write_all(&[0; 32]).await.unwrap();
        inbound.read_exact(&mut [0; 32]).await.unwrap();
        (out, inbound)
    }

    async fn two() -> (Arc<Proxy>, TcpListener, TcpListener) {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (one, two) = (listen().await.unwrap(), listen().await.unwrap());
        let real = [one.local_addr().unwrap(), two.local_addr().unwrap()];
        (Proxy::start(&real, 1).await.unwrap(), one, two)
    }

    async fn nothing_comes(stream: &mut TcpStream) -> bool {
        timeout(Duration::from_millis(50), stream.read_u8()).await.is_err()
    }

    #[tokio::test]
    async fn what_is_held_waits_and_its_end_waits_behind_it() {
        let (proxy, one, _two) = two().await;
        let (mut a, mut b) = link(&proxy, &one).await;
        proxy.sky.lay(1, both(2, 1).to_vec(), Weather::CUT);
        a.write_all(&frame(b"late")).await.unwrap();
        drop(a);
        assert!(nothing_comes(&mut b).await);
        proxy.sky.lift(1);
        let mut all = Vec::new();
        b.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, frame(b"late"));
    }

    // requirement: fault row 14
    #[tokio::test]
    async fn an_old_connection_may_be_late_while_a_new_one_is_not() {
        let (proxy, one, _two) = two().await;
        let (mut old, mut old_end) = link(&proxy, &one).await;
        let late = Weather { held_before: proxy.connections(), ..Weather::default() };
        proxy.sky.lay(1, both(1, 2).to_vec(), late);
        old.write_all(&frame(b"old")).await.unwrap();
        let (mut new, mut new_end) = link(&proxy, &one).await;
        new.write_all(&frame(b"new")).await.unwrap();
        let mut got = vec![0; HEADER + 3];
        new_end.read_exact(&mut got).await.unwrap();
        assert_eq!(got, frame(b"new"));
        assert!(nothing_comes(&mut old_end).await);
        proxy.sky.lift(1);
        old_end.read_exact(&mut got).await.unwrap();
        assert_eq!(got, frame(b"old"));
    }

    // requirement: fault rows 13, 42
    #[tokio::test]
    async fn frames_are_damaged_in_one_bit_or_end_their_connection() {
        let (proxy, one, _two) = two().await;
        let (mut a, mut b) = link(&proxy, &one).await;
        proxy.sky.damage((2, 1), 1);
        let sent = frame(b"payload");
        a.write_all(&[sent.clone(), sent.clone()].concat()).await.unwrap();
        let mut got = vec![0; sent.len()];
        b.read_exact(&mut got).await.unwrap();
        let bits: u32 = sent.iter().zip(&got).map(|(x, y)| (x ^ y).count_ones()).sum();
        b.read_exact(&mut got).await.unwrap();
        assert_eq!((bits, got == sent), (1, true));
        proxy.sky.lay(1, vec![(2, 1)], Weather { breaks_per_million: 1_000_000, ..Weather::default() });
        a.write_all(&sent).await.unwrap();
        assert_eq!(b.read(&mut got).await.unwrap_or(0), 0, "the connection is gone, and the frame with it");
        assert_eq!(a.read(&mut got).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_dial_over_a_cut_is_neither_taken_nor_refused() {
        let (proxy, one, _two) = two().await;
        proxy.sky.lay(1, vec![(2, 1)], Weather::CUT);
        let mut out = TcpStream::connect(proxy.address((2, 1)).unwrap()).await.unwrap();
        assert!(nothing_comes(&mut out).await);
        assert!(timeout(Duration::from_millis(20), one.accept()).await.is_err());
        proxy.sky.lift(1);
        assert!(timeout(Duration::from_secs(5), one.accept()).await.is_ok());
    }
}
