//! The command words.

use crate::hosts::Hosts;
use goldenscript::{Command, Context, Runner};
use replog::{Input, NodeId, Phase, ReadMode, ReplicatedLog, Role, Token};
use std::error::Error;

type Outcome = Result<(), Box<dyn Error>>;

/// Runs scripts on the cores of one protocol.
pub struct Script<P: ReplicatedLog> {
    hosts: Option<Hosts<P>>,
    tune: fn(&mut P::Options, &str, &str) -> Outcome,
    tokens: u64,
}

/// `1-2` names nodes 1 and 2.
fn group(nodes: &str) -> Result<Vec<NodeId>, Box<dyn Error>> {
    nodes.split('-').map(|n| Ok(NodeId(n.parse()?))).collect()
}

impl<P: ReplicatedLog> Script<P> {
    /// `tune` sets an option by name, for `cluster name=value`.
    #[must_use]
    pub fn new(tune: fn(&mut P::Options, &str, &str) -> Outcome) -> Self {
        Self { hosts: None, tune, tokens: 0 }
    }

    fn hosts(&mut self) -> Result<&mut Hosts<P>, Box<dyn Error>> {
        self.hosts.as_mut().ok_or_else(|| "start a cluster first".into())
    }

    fn cluster(&mut self, command: &Command) -> Outcome {
        let mut args = command.consume_args();
        let number = |v: Option<&str>, default: u32| v.map_or(Ok(default), str::parse);
        let nodes = number(args.take_key("nodes"), 3)?;
        let observers = number(args.take_key("observers"), 0)?;
        let mut options = P::Options::default();
        while let Some((key, value)) = args.next_key() {
            (self.tune)(&mut options, key, value)?;
        }
        args.reject_next()?;
        let mut hosts = Hosts::new(nodes, observers, options);
        for id in hosts.ids() {
            hosts.start(id);
        }
        self.hosts = Some(hosts);
        Ok(())
    }

    fn campaign(&mut self, id: NodeId) -> Outcome {
        let hosts = self.hosts()?;
        for _ in 0..20 {
            let before = hosts.out.len();
            if !hosts.tick(id) {
                return Err("no deadline".into());
            }
            let electing = hosts.hosts[&id].replica.as_ref().is_some_and(|r| {
                let s = r.status();
                s.role == Role::Electing || (s.role == Role::Leader && s.phase != Phase::Broadcast)
            });
            if electing && hosts.out.len() > before {
                return Ok(());
            }
        }
        Err("it does not look for a leader".into())
    }

    fn stabilize(&mut self) -> Outcome {
        let hosts = self.hosts()?;
        for _ in 0..200 {
            let mut moved = hosts.deliver(None, None, usize::MAX) > 0;
            for id in hosts.ids() {
                moved |= hosts.fsync(id);
            }
            if !moved {
                return Ok(());
            }
        }
        Err("never comes to rest".into())
    }

    /// Until somebody of `among` serves as leader of the newest epoch there: lets everything settle, then fires
    /// the earliest timer there.
    fn elect(&mut self, among: Option<Vec<NodeId>>) -> Outcome {
        for _ in 0..100 {
            self.stabilize()?;
            let hosts = self.hosts()?;
            let among = among.clone().unwrap_or_else(|| hosts.ids());
            let replicas = || among.iter().filter_map(|id| hosts.hosts[id].replica.as_ref());
            let newest = replicas().map(|r| r.status().epoch).max();
            let serves = |s: replog::Status| s.role == Role::Leader && s.phase == Phase::Broadcast;
            if replicas().any(|r| serves(r.status()) && Some(r.status().epoch) == newest) {
                return Ok(());
            }
            let due = |id: &NodeId| hosts.hosts[id].replica.as_ref().and_then(replog::Replica::deadline);
            let next =
                among.iter().filter(|id| due(id).is_some()).min_by_key(|id| due(id)).ok_or("nobody waits")?;
            hosts.tick(*next);
        }
        Err("nobody is elected".into())
    }

    fn status(&mut self) -> Outcome {
        let hosts = self.hosts()?;
        for id in hosts.ids() {
            let host = &hosts.hosts[&id];
            let line = match &host.replica {
                None => format!("{id} down"),
                Some(r) => {
                    let s = r.status();
                    let leader = s.leader.map_or_else(|| "?".to_owned(), |l| l.to_string());
                    format!(
                        "{id}@{} {:?} {:?} ⇨ {leader} last={} committed={} applied={}",
                        s.epoch, s.role, s.phase, s.last, s.committed, host.last
                    )
                }
            };
            hosts.say(&line);
        }
        Ok(())
    }

    fn log(&mut self) -> Outcome {
        let hosts = self.hosts()?;
        for id in hosts.ids() {
            let host = &hosts.hosts[&id];
            let image = host.disk.durable();
            let entries: Vec<String> = image
                .entries
                .values()
                .map(|e| {
                    let ballot =
                        if e.ballot == e.id.epoch { String::new() } else { format!("@{}", e.ballot) };
                    let body = match &e.body {
                        replog::Body::Command(b) => String::from_utf8_lossy(b).into_owned(),
                        other => format!("{other:?}").to_lowercase(),
                    };
                    format!("{}{ballot}={body}", e.id)
                })
                .collect();
            let line = format!("{id} base={} durable=[{}]", image.base, entries.join(" "));
            hosts.say(&line);
        }
        Ok(())
    }

    fn dispatch(&mut self, command: &Command) -> Outcome {
        let mut args = command.consume_args();
        let node = |v: Option<&str>| -> Result<Option<NodeId>, Box<dyn Error>> {
            Ok(v.map(|v| v.trim_start_matches('n').parse().map(NodeId)).transpose()?)
        };
        let need = |v: Option<NodeId>| v.ok_or("name a node");
        match command.name.as_str() {
            "cluster" => return self.cluster(command),
            "campaign" => self.campaign(need(node(args.next_pos())?)?)?,
            "tick" => {
                let id = need(node(args.next_pos())?)?;
                for _ in 0..args.take_key("times").map_or(Ok(1), str::parse::<u32>)? {
                    self.hosts()?.tick(id);
                }
            }
            "propose" => {
                let id = need(node(args.next_pos())?)?;
                let mut values = Vec::new();
                while let Some(v) = args.next_pos() {
                    values.push(v.to_owned());
                }
                self.hosts()?.propose(id, values);
            }
            "deliver" => {
                let (from, to) = (node(args.take_key("from"))?, node(args.take_key("to"))?);
                let n = args.take_key("n").map_or(Ok(usize::MAX), str::parse)?;
                self.hosts()?.deliver(from, to, n);
            }
            "drop" => {
                let (from, to) = (node(args.take_key("from"))?, node(args.take_key("to"))?);
                self.hosts()?.lose(from, to);
            }
            "partition" => {
                let mut groups = Vec::new();
                while let Some(nodes) = args.next_pos() {
                    groups.push(group(nodes)?);
                }
                self.hosts()?.partition(&groups);
            }
            "heal" => self.hosts()?.heal(),
            "cut" => {
                let (a, b) = (need(node(args.next_pos())?)?, need(node(args.next_pos())?)?);
                let hosts = self.hosts()?;
                hosts.disconnect(a, b);
                hosts.connect(a, b);
            }
            "crash" => {
                let keep = args.take_key("keep").map_or(Ok(0), str::parse)?;
                self.hosts()?.crash(need(node(args.next_pos())?)?, keep);
            }
            "restart" => self.hosts()?.start(need(node(args.next_pos())?)?),
            "fsync" => match node(args.next_pos())? {
                Some(id) => drop(self.hosts()?.fsync(id)),
                None => {
                    let hosts = self.hosts()?;
                    for id in hosts.ids() {
                        hosts.fsync(id);
                    }
                }
            },
            "stabilize" => self.stabilize()?,
            "elect" => {
                let among = args.next_pos().map(group).transpose()?;
                self.elect(among)?;
            }
            "snapshot" => self.hosts()?.snapshot(need(node(args.next_pos())?)?),
            "read" => {
                self.tokens += 1;
                let token = Token(self.tokens);
                let id = need(node(args.next_pos())?)?;
                self.hosts()?.input(id, Input::Read { token, mode: ReadMode::Quorum });
            }
            "transfer" => {
                self.tokens += 1;
                let token = Token(self.tokens);
                let to = node(args.take_key("to"))?;
                let id = need(node(args.next_pos())?)?;
                self.hosts()?.input(id, Input::Transfer { token, to });
            }
            "status" => self.status()?,
            "log" => self.log()?,
            other => return Err(format!("unknown command {other}").into()),
        }
        args.reject_next()
    }
}

impl<P: ReplicatedLog> Runner for Script<P> {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        self.dispatch(command)?;
        Ok(self.hosts.as_mut().map(|h| std::mem::take(&mut h.out)).unwrap_or_default())
    }
}
