//! Segmented, checksummed durable log and snapshot store.
