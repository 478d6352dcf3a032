//! Four-letter words: gathers what [`crate::fourletter`] prints.

use super::Service;
use super::connection::Connection;
use crate::fourletter::{self, Facts, Learners};
use jute::OpCode;
use replog::{NodeId, Role};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::UNIX_EPOCH;

impl Service {
    /// The text that answers `word`.
    pub(super) fn answer_word(&self, word: &str) -> String {
        if !fourletter::is_allowed(word, &self.config.four_letter_words) {
            return fourletter::refusal(word);
        }
        match word {
            "ruok" => "imok".to_owned(),
            "envi" => fourletter::envi(),
            "isro" => if self.is_serving() { "rw" } else { "null" }.to_owned(),
            _ if !self.is_serving() => fourletter::NOT_SERVING.to_owned(),
            "srvr" => fourletter::srvr(&self.facts(), None),
            "stat" => fourletter::srvr(&self.facts(), Some(&self.lines(short_line))),
            "mntr" => fourletter::mntr(&self.facts()),
            "cons" => self.lines(long_line).iter().map(|l| format!("{l}\n")).collect::<String>() + "\n",
            "conf" => self.conf(),
            "dirs" => {
                let log = self.config.log_dir.as_deref().unwrap_or(&self.config.data_dir);
                format!("datadir_size: {}\nlogdir_size: {}\n", size(&self.config.data_dir), size(log))
            }
            "dump" => self.dump(),
            "srst" => {
                self.stats.reset();
                "Server stats reset.\n".to_owned()
            }
            "crst" => {
                for connection in self.registry.read().iter() {
                    let mut state = connection.lock();
                    state.figures.received = 0;
                    state.figures.sent = 0;
                    state.figures.latency_ms = super::connection::Latency::default();
                }
                "Connection stats reset.\n".to_owned()
            }
            "wchs" => {
                let counts = self.watches.lock().counts();
                format!(
                    "{} connections watching {} paths\nTotal watches:{}\n",
                    counts.data_connections, counts.data_paths, counts.data
                )
            }
            _ => self.watches_text(word == "wchp"),
        }
    }

    fn facts(&self) -> Facts {
        let (zxid, counts, digest) = {
            let machine = self.state.read();
            (machine.last_zxid(), machine.counts(), machine.digest())
        };
        let view = self.handle.get().map(node::NodeHandle::view);
        let (role, leading) = view.map_or((Role::Electing, false), |v| (v.role, v.is_leading()));
        let latency = self.stats.latency();
        let alone = self.config.members.len() <= 1;
        let (mode, peer_state) = match role {
            _ if alone => ("standalone", "leading - broadcast"),
            Role::Leader => ("leader", "leading - broadcast"),
            Role::Observer => ("observer", "observing - broadcast"),
            _ => ("follower", "following - broadcast"),
        };
        let learners = leading.then(|| {
            let links = self.links.lock();
            let linked =
                |ids: &mut dyn Iterator<Item = u32>| ids.filter(|id| links.contains(&NodeId(*id))).count();
            Learners {
                followers: linked(&mut self.config.voters()),
                observers: linked(&mut self.config.observers()),
            }
        });
        Facts {
            min_latency: latency.min,
            mean_latency: latency.mean,
            max_latency: latency.max,
            received: self.stats.received.load(Relaxed),
            sent: self.stats.sent.load(Relaxed),
            connections: self.registry.read().len(),
            outstanding: self.forwarder.lock().outstanding(),
            zxid,
            mode,
            peer_state,
            nodes: counts.nodes as u64,
            watches: self.watches.lock().counts().total,
            ephemerals: counts.ephemerals as u64,
            data_bytes: counts.bytes,
            sessions: counts.sessions,
            uptime_ms: self.environment.since(self.started).as_millis(),
            quorum_size: self.config.voters().count().max(1),
            auth_failed: self.stats.auth_failed.load(Relaxed),
            protocol: self.config.consensus.name(),
            digest,
            learners,
            counters: self.handle.get().map(node::NodeHandle::counters).unwrap_or_default(),
        }
    }

    fn lines(&self, line: impl Fn(&Connection) -> String) -> Vec<String> {
        self.registry.read().iter().map(|connection| line(connection)).collect()
    }

    fn conf(&self) -> String {
        let c = &self.config;
        let log = c.log_dir.as_deref().unwrap_or(&c.data_dir);
        let mut out = format!(
            "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\ntickTime={}\n\
             maxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog=-1\nserverId={}\n",
            c.client_port,
            c.data_dir.display(),
            size(&c.data_dir),
            log.display(),
            size(log),
            c.tick_ms,
            c.max_client_connections,
            c.min_session_ms,
            c.max_session_ms,
            c.id,
        );
        if let Some(own) = c.members.get(&c.id) {
            let peer_type = i32::from(own.role == crate::config::MemberRole::Observer);
            let quorum_port = own.addresses.first().map_or(0, |(_, port)| *port);
            let _ = write!(
                out,
                "initLimit={}\nsyncLimit={}\nelectionAlg=3\nelectionPort={}\nquorumPort={quorum_port}\npeerType={peer_type}\nmembership: \n",
                c.init_limit, c.sync_limit, own.election_port
            );
            for (id, member) in &c.members {
                let _ = writeln!(out, "{}", member.line(*id));
            }
        }
        out
    }

    fn dump(&self) -> String {
        let machine = self.state.read();
        let mut sessions: Vec<_> = machine.sessions().map(|(id, s)| (id, s.timeout_ms)).collect();
        sessions.sort_unstable();
        let mut out = format!("SessionTracker dump:\nGlobal Sessions({}):\n", sessions.len());
        for (id, timeout_ms) in sessions {
            let _ = writeln!(out, "{id:#x}\t{timeout_ms}ms");
        }
        let mut owners: Vec<_> = machine.owners().collect();
        owners.sort_unstable();
        let _ = write!(out, "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", owners.len());
        for (id, _) in owners {
            let _ = writeln!(out, "{id:#x}:");
            for path in machine.ephemerals(id, "") {
                let _ = writeln!(out, "\t{path}");
            }
        }
        drop(machine);
        let ids: Vec<_> = self.registry.read().iter().filter_map(|c| c.session()).collect();
        let _ = write!(out, "Connections dump:\nConnections Sets (1)/({}):\n", ids.len());
        for id in ids {
            let _ = writeln!(out, "\t{id:#x}");
        }
        out
    }

    /// `wchp` (by path) or `wchc` (by session): the data table.
    fn watches_text(&self, by_path: bool) -> String {
        let mut pairs: Vec<(String, String)> = Vec::new();
        {
            let watches = self.watches.lock();
            let registry = self.registry.read();
            for (path, connections) in watches.data_watches() {
                for session in connections.iter().filter_map(|id| registry.get(*id)?.session()) {
                    let session = format!("{session:#x}");
                    let path = path.to_owned();
                    pairs.push(if by_path { (path, session) } else { (session, path) });
                }
            }
        }
        pairs.sort_unstable();
        let mut out = String::new();
        let mut last = None;
        for (head, item) in &pairs {
            if last != Some(head) {
                let _ = writeln!(out, "{head}");
                last = Some(head);
            }
            let _ = writeln!(out, "\t{item}");
        }
        out.push('\n');
        out
    }
}

/// A connection as `stat` shows it.
fn short_line(connection: &Connection) -> String {
    let state = connection.lock();
    let f = &state.figures;
    format!(" /{}[1](queued={},recved={},sent={})", connection.peer, state.queue().len(), f.received, f.sent)
}

/// A connection as `cons` shows it.
fn long_line(connection: &Connection) -> String {
    let session = connection.session().unwrap_or_default();
    let timeout = connection.timeout_ms.load(Relaxed);
    let state = connection.lock();
    let f = &state.figures;
    let established = f.established.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let answered = f.last_response.map_or(0, |at| at.elapsed().as_millis());
    format!(
        " /{}[1](queued={},recved={},sent={},sid={session:#x},lop={},est={established},to={timeout},lcxid={:#x},lzxid={:#x},lresp={answered},llat={},minlat={},avglat={},maxlat={})",
        connection.peer,
        state.queue().len(),
        f.received,
        f.sent,
        op_name(f.last_op),
        f.last_xid,
        f.last_zxid,
        f.last_latency_ms,
        f.latency_ms.min,
        f.latency_ms.mean(),
        f.latency_ms.max,
    )
}

/// ZooKeeper's four letters for an operation.
const fn op_name(op: Option<OpCode>) -> &'static str {
    match op {
        None => "SESS",
        Some(op) => match op {
            OpCode::Ping => "PING",
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => "CREA",
            OpCode::Delete | OpCode::DeleteContainer => "DELE",
            OpCode::SetData => "SETD",
            OpCode::GetData => "GETD",
            OpCode::Exists => "EXIS",
            OpCode::GetChildren | OpCode::GetChildren2 => "GETC",
            OpCode::SetAcl => "SETA",
            OpCode::GetAcl => "GETA",
            OpCode::Sync => "SYNC",
            OpCode::Multi => "MULT",
            OpCode::MultiRead => "MLTR",
            OpCode::SetWatches => "SETW",
            OpCode::SetWatches2 => "STW2",
            OpCode::AddWatch => "ADDW",
            OpCode::CheckWatches => "CHKW",
            OpCode::RemoveWatches => "REMW",
            OpCode::CloseSession => "CLOS",
            OpCode::CreateSession => "SESS",
            OpCode::Reconfig => "RECO",
            OpCode::Check => "CHEC",
            OpCode::GetEphemerals => "GETE",
            OpCode::GetAllChildrenNumber => "GETACN",
            OpCode::WhoAmI => "HOMI",
            OpCode::Auth | OpCode::Sasl | OpCode::Error => "NA",
        },
    }
}

/// Bytes of the files in and under a directory.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
