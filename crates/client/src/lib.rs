//! Async Rust client for ZooKeeper's protocol.
