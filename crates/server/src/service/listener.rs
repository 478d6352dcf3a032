//! The client port: accepts, limits, and spreads connections over the IO threads.
//!
//! Each IO thread runs a tokio runtime of its own with its own epoll: a connection stays on one thread, no task is
//! stolen, and on few cores few threads mean large batches.

use super::{Service, task};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// A running client port. Dropping it ends the IO threads; connections break.
#[derive(Debug)]
pub struct Listening {
    /// Where clients connect.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Listening {
    /// Closes the port and all connections, and waits for the threads.
    pub fn stop(mut self) {
        let _ = self.stop.send(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Starts to serve clients on `listener` with `threads` IO threads.
///
/// # Errors
/// A runtime or a thread cannot be made.
pub fn listen(service: &Arc<Service>, listener: TcpListener, threads: usize) -> io::Result<Listening> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let mut handles = Vec::new();
    let mut joins = Vec::new();
    for at in 0..threads.max(1) {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        handles.push(runtime.handle().clone());
        let mut stopped = stopped.clone();
        let join = thread::Builder::new().name(format!("client-io-{at}")).spawn(move || {
            let _ = runtime.block_on(stopped.wait_for(|stop| *stop));
            // Tasks are dropped where they stand: sockets close.
            runtime.shutdown_background();
        })?;
        joins.push(join);
    }
    if let Some(first) = handles.first() {
        first.spawn(service.clone().keep_up());
        let handles = handles.clone();
        let service = service.clone();
        first.spawn(async move {
            if let Err(error) = accept(&service, listener, &handles).await {
                tracing::error!(%error, "the client port is closed");
            }
        });
    }
    Ok(Listening { address, stop, threads: joins })
}

async fn accept(service: &Arc<Service>, listener: TcpListener, threads: &[Handle]) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    for thread in threads.iter().cycle() {
        let (stream, peer) = loop {
            match listener.accept().await {
                Ok(found) => break found,
                Err(error) => {
                    // Out of file descriptors, most likely: existing connections go on, new ones wait.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        };
        let config = &service.config;
        let admitted =
            service.registry.write().admit(peer.ip(), config.max_client_connections, config.max_connections);
        let Some(id) = admitted else {
            service.stats.refused_connections.fetch_add(1, Relaxed);
            tracing::warn!(%peer, "too many connections");
            continue;
        };
        let stream = stream.into_std()?;
        let service = service.clone();
        thread.spawn(async move {
            match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => task::serve(service, stream, peer, id).await,
                Err(_) => service.registry.write().release(peer.ip()),
            }
        });
    }
    Ok(())
}
