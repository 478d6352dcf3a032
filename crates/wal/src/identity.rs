//! Whose data this is: stamped on every segment and snapshot, and part of every checksum.

use crate::WalError;
use replog::NodeId;
use std::path::Path;

/// The stamp of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `ReplicatedLog::NAME`; the first 16 ASCII characters count.
    pub protocol: String,
    /// The cluster: any number that other clusters do not have.
    pub cluster: u64,
    /// The server.
    pub node: NodeId,
}

impl Identity {
    /// Refuses what another protocol, cluster or server wrote.
    pub(crate) fn check(&self, found: &Self, path: &Path) -> Result<(), WalError> {
        self.check_cluster(found, path)?;
        if found.node != self.node {
            return Err(WalError::ForeignNode {
                path: path.to_owned(),
                found: found.node,
                expected: self.node,
            });
        }
        Ok(())
    }

    /// The same for what peers may send: any server's.
    pub(crate) fn check_cluster(&self, found: &Self, path: &Path) -> Result<(), WalError> {
        let path = path.to_owned();
        if found.protocol != self.protocol {
            let (found, expected) = (found.protocol.clone(), self.protocol.clone());
            return Err(WalError::ForeignProtocol { path, found, expected });
        }
        if found.cluster != self.cluster {
            return Err(WalError::ForeignCluster { path, found: found.cluster, expected: self.cluster });
        }
        Ok(())
    }

    /// The identity's part in the checksums.
    pub(crate) fn checksum(&self) -> u32 {
        let of_cluster = crc32c::crc32c_append(self.node.0, &self.cluster.to_le_bytes());
        crc32c::crc32c_append(of_cluster, self.protocol.as_bytes())
    }
}
