//! The members' lines: `server.N=host:quorumPort:electionPort[:role][;[clientHost:]clientPort]`, several addresses
//! separated by `|`, IPv6 in brackets.

/// Whether a member votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// Votes.
    Participant,
    /// Replicates and never votes.
    Observer,
}

impl MemberRole {
    /// Parses `participant` or `observer`.
    ///
    /// # Errors
    /// What it should be.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "participant" => Ok(Self::Participant),
            "observer" => Ok(Self::Observer),
            _ => Err(format!("'{text}' is neither participant nor observer")),
        }
    }

    /// Its name in `zoo.cfg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Participant => "participant",
            Self::Observer => "observer",
        }
    }
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Host and quorum port of each of its addresses; at least one.
    pub addresses: Vec<(String, u16)>,
    /// Election port of the first address; read and not used.
    pub election_port: u16,
    /// Whether it votes.
    pub role: MemberRole,
    /// Host (empty: all addresses) and port for clients.
    pub client: Option<(String, u16)>,
}

impl Member {
    /// Parses the value of a `server.N` line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (servers, client) = match text.split_once(';') {
            Some((servers, client)) => (servers, Some(parse_client(client.trim())?)),
            None => (text, None),
        };
        let mut addresses = Vec::new();
        let mut election_port = 0;
        let mut role = MemberRole::Participant;
        for (at, one) in servers.split('|').enumerate() {
            let (host, rest) = split_host(one.trim())?;
            let mut parts = rest.split(':');
            let quorum = parse_port(parts.next().unwrap_or_default())?;
            // Observers of an old file may name no election port.
            let election = parts.next().map(parse_port).transpose()?.unwrap_or(0);
            if let Some(word) = parts.next() {
                role = MemberRole::parse(word)?;
            }
            if parts.next().is_some() {
                return Err(format!("'{one}' has too many parts"));
            }
            if at == 0 {
                election_port = election;
            }
            addresses.push((host.to_owned(), quorum));
        }
        Ok(Self { addresses, election_port, role, client })
    }

    /// `host:port` of its addresses, IPv6 in brackets.
    pub fn endpoints(&self) -> impl Iterator<Item = String> {
        self.addresses.iter().map(|(host, port)| endpoint(host, *port))
    }

    /// Its line in the text of `/zookeeper/config` and of `conf`.
    #[must_use]
    pub fn line(&self, id: u32) -> String {
        let all: Vec<String> =
            self.endpoints().map(|endpoint| format!("{endpoint}:{}", self.election_port)).collect();
        let client = match &self.client {
            Some((host, port)) if host.is_empty() => format!(";0.0.0.0:{port}"),
            Some((host, port)) => format!(";{}", endpoint(host, *port)),
            None => String::new(),
        };
        format!("server.{id}={}:{}{client}", all.join("|"), self.role.name())
    }
}

/// `host:port`, IPv6 in brackets.
#[must_use]
pub(super) fn endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Splits `host:rest` or `[v6]:rest`.
fn split_host(text: &str) -> Result<(&str, &str), String> {
    let split = match text.strip_prefix('[') {
        Some(inner) => inner.split_once("]:"),
        None => text.split_once(':'),
    };
    match split {
        Some((host, rest)) if !host.is_empty() => Ok((host, rest)),
        _ => Err(format!("'{text}' is not host:quorumPort:electionPort")),
    }
}

fn parse_client(text: &str) -> Result<(String, u16), String> {
    if let Ok(port) = text.parse() {
        return Ok((String::new(), port));
    }
    let (host, rest) = split_host(text).map_err(|_| format!("'{text}' is not [host:]clientPort"))?;
    Ok((host.to_owned(), parse_port(rest)?))
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("'{text}' is not a port"))
}
