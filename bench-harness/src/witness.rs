//! A session that lives through a fault: opened with the client library, with an ephemeral node of its own.
//!
//! The load generator counts sessions that servers declare gone; the witness also checks what applications build locks
//! on: after the fault it is the same session, and its ephemeral node is still there and still its own.

use anyhow::{Context, Result};
use client::{Client, CreateMode, KeeperState, Options};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long it may take to be connected again after the cluster serves.
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// One session.
#[derive(Debug)]
pub(crate) struct Witness {
    runtime: Runtime,
    client: Client,
    session: i64,
    path: String,
}

impl Witness {
    /// Opens a session on `servers` and creates an ephemeral `/bench/<name>`.
    ///
    /// # Errors
    /// No session, no node.
    pub(crate) fn open(servers: &[SocketAddr], name: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let list: Vec<String> = servers.iter().map(SocketAddr::to_string).collect();
        let path = format!("/bench/{name}");
        let client = runtime.block_on(async {
            let client = Client::connect(&list.join(","), Options::default()).await?;
            client.create(&path, b"", CreateMode::Ephemeral).await?;
            client::Result::Ok(client)
        });
        let client = client.context("opening a session with an ephemeral node")?;
        let session = client.session();
        Ok(Self { runtime, client, session, path })
    }

    /// Whether session and node are what they were. Closes the session.
    pub(crate) fn survived(self) -> bool {
        let Self { runtime, client, session, path } = self;
        runtime.block_on(async {
            let connected =
                tokio::time::timeout(BACK_WITHIN, client.wait_state(KeeperState::SyncConnected)).await;
            if !matches!(connected, Ok(Ok(()))) {
                return false;
            }
            // The connection may be lost once more between the two: ask again then.
            for _ in 0..3 {
                match client.exists(&path, None).await {
                    Ok(stat) => {
                        let unharmed =
                            stat.is_some_and(|s| s.ephemeral_owner == session) && client.session() == session;
                        let _ = client.close().await;
                        return unharmed;
                    }
                    Err(client::Error::ConnectionLoss) => {
                        let _ =
                            tokio::time::timeout(BACK_WITHIN, client.wait_state(KeeperState::SyncConnected))
                                .await;
                    }
                    Err(_) => return false,
                }
            }
            false
        })
    }
}
