//! Where a connection's bytes go: a socket, or the memory of a simulated client.

use parking_lot::Mutex;
use std::io;
use tokio::net::tcp::OwnedWriteHalf;

/// See the module.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// A client's socket.
    Socket(OwnedWriteHalf),
    /// Bytes on their way to a simulated client.
    Memory(Mutex<Memory>),
}

/// What a socket's send buffer would hold.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    /// Bytes that fit.
    capacity: usize,
}

impl Outlet {
    /// A memory of `capacity` bytes.
    pub(crate) fn memory(capacity: usize) -> Self {
        Self::Memory(Mutex::new(Memory { bytes: Vec::new(), capacity }))
    }

    /// Writes what fits at once.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing fits; otherwise what the socket fails with.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.try_write(bytes),
            Self::Memory(memory) => {
                let mut memory = memory.lock();
                let room = memory.capacity.saturating_sub(memory.bytes.len()).min(bytes.len());
                if room == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                memory.bytes.extend_from_slice(bytes.get(..room).unwrap_or_default());
                Ok(room)
            }
        }
    }

    /// Waits until more may fit.
    ///
    /// # Errors
    /// What the socket fails with.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Socket(socket) => socket.writable().await,
            // A simulated client says so itself, by taking bytes.
            Self::Memory(_) => std::future::pending().await,
        }
    }

    /// Takes at most `most` bytes out of a memory.
    pub(crate) fn take(&self, most: usize) -> Vec<u8> {
        match self {
            Self::Socket(_) => Vec::new(),
            Self::Memory(memory) => {
                let mut memory = memory.lock();
                let n = memory.bytes.len().min(most);
                let rest = memory.bytes.split_off(n);
                std::mem::replace(&mut memory.bytes, rest)
            }
        }
    }
}
