//! Which connections there are: by id (for events), by session (to close what moved or expired), by address (limits).

use super::connection::Connection;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use znode::ConnectionId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry {
    next: ConnectionId,
    by_id: HashMap<ConnectionId, Arc<Connection>>,
    by_session: HashMap<i64, ConnectionId>,
    by_address: HashMap<IpAddr, u32>,
    /// Connections that were accepted and are not yet, or no longer, in `by_id` are counted here as well.
    total: u32,
}

impl Registry {
    /// Counts a new connection from `address` and names it, unless that would exceed a limit (0: none).
    pub(super) fn admit(&mut self, address: IpAddr, per_address: u32, total: u32) -> Option<ConnectionId> {
        let of_address = self.by_address.entry(address).or_insert(0);
        if (per_address != 0 && *of_address >= per_address) || (total != 0 && self.total >= total) {
            if *of_address == 0 {
                self.by_address.remove(&address);
            }
            return None;
        }
        *of_address += 1;
        self.total += 1;
        self.next += 1;
        Some(self.next)
    }

    /// Takes back an admission.
    pub(super) fn release(&mut self, address: IpAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(of_address) = self.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    pub(super) fn insert(&mut self, connection: Arc<Connection>) {
        self.by_id.insert(connection.id, connection);
    }

    pub(super) fn remove(&mut self, connection: &Connection) {
        self.by_id.remove(&connection.id);
        if let Some(session) = connection.session()
            && self.by_session.get(&session) == Some(&connection.id)
        {
            self.by_session.remove(&session);
        }
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Arc<Connection>> {
        self.by_id.get(&id)
    }

    /// The connection to which a session is attached here.
    pub(super) fn of_session(&self, session: i64) -> Option<&Arc<Connection>> {
        self.by_id.get(self.by_session.get(&session)?)
    }

    /// Attaches a session to a connection; gives back the one that it was attached to here.
    pub(super) fn attach(&mut self, session: i64, id: ConnectionId) -> Option<Arc<Connection>> {
        let before = self.by_session.insert(session, id).filter(|before| *before != id)?;
        self.by_id.get(&before).cloned()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.by_id.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_count_per_address_and_in_total() {
        let mut registry = Registry::default();
        let [a, b, c] = [1, 2, 3].map(|n| IpAddr::from([127, 0, 0, n]));
        assert!(registry.admit(a, 2, 3).is_some());
        assert!(registry.admit(a, 2, 3).is_some());
        assert!(registry.admit(a, 2, 3).is_none(), "two per address");
        assert!(registry.admit(b, 2, 3).is_some());
        assert!(registry.admit(c, 2, 3).is_none(), "three in total");
        registry.release(a);
        assert!(registry.admit(c, 2, 3).is_some());
        assert!(registry.admit(b, 0, 0).is_some(), "0 is no limit");
    }
}
