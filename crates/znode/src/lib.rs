//! The deterministic ZooKeeper state machine: tree, ACLs, sessions, streams, zxids, watch tables.
