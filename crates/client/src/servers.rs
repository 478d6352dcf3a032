//! The server list: shuffled once, then in turn (requirement S1). Duplicates are kept: a server that is named twice gets
//! twice the clients (S2).

use std::hash::{BuildHasher, RandomState};

/// The list and the place in it.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    names: Vec<String>,
    next: usize,
}

impl Servers {
    /// Reads `host:port,host:port…`; 2181 where no port is given.
    pub(crate) fn parse(text: &str) -> Self {
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(|name| if has_port(name) { name.to_owned() } else { format!("{name}:2181") })
            .collect();
        Self { names, next: 0 }
    }

    /// The same list in a random order.
    pub(crate) fn shuffled(mut self) -> Self {
        for i in (1..self.names.len()).rev() {
            self.names.swap(i, (random() % (i as u64 + 1)) as usize);
        }
        self
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The next one to try, and whether a whole round was tried before it.
    pub(crate) fn turn(&mut self) -> (Option<String>, bool) {
        let round = self.next > 0 && self.next.is_multiple_of(self.names.len().max(1));
        let name = self.names.get(self.next % self.names.len().max(1)).cloned();
        self.next += 1;
        (name, round)
    }
}

fn has_port(name: &str) -> bool {
    // `[::1]` has colons but no port.
    name.rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// A random number: the hasher's keys are drawn from the operating system.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: S1
    #[test]
    fn the_list_is_gone_through_in_turn() {
        let mut servers = Servers::parse("a:1, b ,[::1]");
        let turns: Vec<_> = (0..4).map(|_| servers.turn()).collect();
        let name = |s: &str| Some(s.to_owned());
        assert_eq!(turns[..2], [(name("a:1"), false), (name("b:2181"), false)]);
        assert_eq!(turns[2..], [(name("[::1]:2181"), false), (name("a:1"), true)]);
    }

    // requirement: S2
    #[test]
    fn a_server_named_twice_is_first_twice_as_often() {
        let first = |_| Servers::parse("a:1,a:1,b:1").shuffled().turn().0;
        let heavy = (0..3000).map(first).filter(|n| n.as_deref() == Some("a:1")).count();
        assert!((1800..2200).contains(&heavy), "{heavy} of 3000");
    }

    #[test]
    fn an_empty_list_has_no_turn() {
        assert_eq!(Servers::parse(" , ").turn().0, None);
    }
}
