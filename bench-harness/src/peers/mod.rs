//! Installed systems to compare with, configured as their own manuals recommend.

pub(crate) mod etcd;
pub(crate) mod zookeeper;
