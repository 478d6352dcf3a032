//! ZooKeeper's client wire protocol: records, framing, error codes.
