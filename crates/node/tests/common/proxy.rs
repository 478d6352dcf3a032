//! A proxy between two nodes that can flip a bit, or fall silent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

#[derive(Default)]
pub struct Faults {
    /// Flip a bit of the next bytes that pass, once.
    pub corrupt: AtomicBool,
    /// Bytes that come are swallowed, connections stay.
    pub silent: AtomicBool,
    pub connections: AtomicU64,
    target: Mutex<Option<SocketAddr>>,
}

/// Where to connect to, and what can be done to the connections.
pub fn proxy() -> (SocketAddr, Arc<Faults>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let faults = Arc::new(Faults::default());
    let shared = Arc::clone(&faults);
    thread::spawn(move || {
        for client in listener.incoming() {
            let Some(target) = *shared.target.lock().unwrap() else { continue };
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else { continue };
            shared.connections.fetch_add(1, Ordering::SeqCst);
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let faults = Arc::clone(&shared);
                thread::spawn(move || pump(from, to, &faults));
            }
        }
    });
    (address, faults)
}

impl Faults {
    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = Some(target);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, faults: &Faults) {
    let mut buffer = [0; 4096];
    let _ = to.set_nodelay(true);
    let _ = to.set_write_timeout(Some(Duration::from_secs(5)));
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if faults.silent.load(Ordering::SeqCst) {
            continue;
        }
        if faults.corrupt.swap(false, Ordering::SeqCst) {
            buffer[n - 1] ^= 0x10;
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
