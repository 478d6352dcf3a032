//! A server that parses requests and answers them without doing anything: what the generator can do at most.
//!
//! A rate is only believed when the generator reaches at least three times as much here (experiments.md section 3,
//! rule 3). One thread per connection would measure the scheduler; one thread serves all, like the generator itself.

use crate::load::frames::{frame, i32_at};
use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Runs until dropped.
#[derive(Debug)]
pub(crate) struct NullServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests want an outage"))]
    silent: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    greeted: bool,
}

impl NullServer {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// No socket.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let (address, stop, silent) = (listener.local_addr()?, Arc::default(), Arc::default());
        let (stopped, silenced) = (Arc::clone(&stop), Arc::clone(&silent));
        let thread = std::thread::spawn(move || serve(&listener, &stopped, &silenced));
        Ok(Self { address, stop, silent, thread: Some(thread) })
    }

    /// Answers nothing while `silent`: an outage that a test can have.
    #[cfg(test)]
    pub(crate) fn silence(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool, silent: &AtomicBool) {
    let mut peers: Vec<Peer> = Vec::new();
    let mut scratch = vec![0; 256 << 10];
    let timeout = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    while !stop.load(Ordering::Relaxed) {
        if silent.load(Ordering::Relaxed) {
            std::thread::yield_now();
            continue;
        }
        let ready: Vec<usize> = {
            let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
            fds.extend(peers.iter().map(|p| PollFd::new(&p.stream, PollFlags::IN)));
            if poll(&mut fds, Some(&timeout)).is_err() {
                continue;
            }
            fds.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(i, _)| i).collect()
        };
        let mut gone = Vec::new();
        for i in ready {
            match i.checked_sub(1) {
                None => accept(listener, &mut peers),
                Some(at) => {
                    if !peers.get_mut(at).is_some_and(|p| answer(p, &mut scratch)) {
                        gone.push(at);
                    }
                }
            }
        }
        for at in gone.into_iter().rev() {
            peers.swap_remove(at);
        }
    }
}

fn accept(listener: &TcpListener, peers: &mut Vec<Peer>) {
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nodelay(true).is_ok() && stream.set_nonblocking(true).is_ok() {
            peers.push(Peer { stream, input: Vec::new(), greeted: false });
        }
    }
}

/// Answers everything that is there; false when the connection is done.
fn answer(peer: &mut Peer, scratch: &mut [u8]) -> bool {
    match peer.stream.read(scratch) {
        Ok(0) => return false,
        Ok(n) => peer.input.extend_from_slice(scratch.get(..n).unwrap_or_default()),
        Err(e) => return e.kind() == ErrorKind::WouldBlock,
    }
    let (mut at, mut out, mut open) = (0, Vec::new(), true);
    while let Ok(Some(request)) = frame(peer.input.get(at..).unwrap_or_default()) {
        at += request.len() + 4;
        if !peer.greeted {
            peer.greeted = true;
            // Version 0, 30 s, session 1, 16 bytes of password, not read-only.
            out.extend_from_slice(&[
                0, 0, 0, 37, 0, 0, 0, 0, 0, 0, 117, 48, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 16,
            ]);
            out.extend_from_slice(&[1; 16]);
            out.push(0);
            continue;
        }
        let xid = i32_at(request, 0).unwrap_or(0);
        open &= i32_at(request, 4) != Some(-11);
        // A Stat's worth of body, as a setData is answered.
        out.extend_from_slice(&84i32.to_be_bytes());
        out.extend_from_slice(&xid.to_be_bytes());
        out.extend_from_slice(&1i64.to_be_bytes());
        out.extend_from_slice(&[0; 72]);
    }
    peer.input.drain(..at);
    peer.stream.write_all(&out).is_ok() && open
}
