//! The ZooKeeper-compatible server and the menagerie binary.
