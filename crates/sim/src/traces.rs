//! `sim trace`: puts traces together and shows them; of the simulator and of live servers alike.
//!
//! ```text
//!  sim trace text     n1.jsonl n2.jsonl n3.jsonl          one line per event, as in the golden scripts
//!  sim trace merge    n1.jsonl n2.jsonl --out all.jsonl   one trace, receptions after their sendings
//!  sim trace shiviz   all.jsonl --out all.log             for bestchai.bitbucket.io/shiviz
//!  sim trace perfetto all.jsonl --out all.json            for ui.perfetto.dev
//! ```

use clap::{Args, Subcommand};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use trace::{Record, Trace, Writer, merge, perfetto, read, shiviz, timed_line, unmatched};

/// What to make of traces.
#[derive(Debug, Subcommand)]
pub enum TraceWords {
    /// One line per event, in the notation of the golden scripts.
    Text(What),
    /// One trace of several.
    Merge(What),
    /// A space-time diagram for ShiViz.
    Shiviz(What),
    /// Tracks, slices and flows for Perfetto.
    Perfetto(What),
}

/// Which traces, and which part of them.
#[derive(Debug, Args)]
pub struct What {
    /// Traces (`menagerie.trace/1`), one of a run or one per node.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Where to write; standard output if not given.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Only events from this second on.
    #[arg(long)]
    pub from: Option<f64>,
    /// Only events up to this second.
    #[arg(long)]
    pub to: Option<f64>,
    /// Only events of these nodes, and of the world.
    #[arg(long)]
    pub node: Vec<u32>,
}

/// Carries the words out.
///
/// # Errors
/// What is wrong with which file.
pub fn carry_out(words: &TraceWords) -> Result<(), String> {
    let (TraceWords::Text(what)
    | TraceWords::Merge(what)
    | TraceWords::Shiviz(what)
    | TraceWords::Perfetto(what)) = words;
    let whole = load(&what.files)?;
    let lonely = unmatched(&whole.records).received.len();
    if lonely > 0 {
        eprintln!("{lonely} receptions without their sending: a trace is missing, or was cut off");
    }
    if whole.torn {
        eprintln!("a trace ends in the middle of a line: its process was killed");
    }
    let trace = Trace { records: whole.records.into_iter().filter(|r| what.shows(r)).collect(), ..whole };
    let written = match &what.out {
        None => show(words, &trace, &mut BufWriter::new(io::stdout().lock())),
        Some(path) => File::create(path).and_then(|file| show(words, &trace, &mut BufWriter::new(file))),
    };
    match written {
        // `sim trace text … | head` is no failure.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => {
            let path = what.out.as_deref().unwrap_or(Path::new("standard output"));
            Err(format!("{}: {e}", path.display()))
        }
        Ok(()) => Ok(()),
    }
}

impl What {
    fn shows(&self, r: &Record) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "for a comparison with seconds that a person typed")]
        let second = r.t as f64 / 1e9;
        self.from.is_none_or(|from| second >= from)
            && self.to.is_none_or(|to| second <= to)
            && (self.node.is_empty() || r.node == 0 || self.node.contains(&r.node))
    }
}

fn load(files: &[PathBuf]) -> Result<Trace, String> {
    let one = |path: &PathBuf| {
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        read(BufReader::new(file)).map_err(|e| format!("{}: {e}", path.display()))
    };
    let traces = files.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    merge(traces).ok_or_else(|| "name a trace".to_owned())
}

fn show(words: &TraceWords, trace: &Trace, to: &mut impl Write) -> io::Result<()> {
    match words {
        TraceWords::Text(_) => {
            for record in &trace.records {
                writeln!(to, "{}", timed_line(record))?;
            }
        }
        TraceWords::Merge(_) => {
            let mut writer = Writer::new(&mut *to, &trace.header)?;
            for record in &trace.records {
                writer.write(record)?;
            }
        }
        TraceWords::Shiviz(_) => shiviz(&trace.records, to)?,
        TraceWords::Perfetto(_) => perfetto(&trace.header, &trace.records, to)?,
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace::{Clock, Header, Kind};

    fn written(folder: &Path, node: u32, began: u64, records: &[Record]) -> PathBuf {
        let path = folder.join(format!("{node}.jsonl"));
        let header = Header { node: Some(node), began: Some(began), ..Header::new("raft", Clock::Monotonic) };
        let mut writer = Writer::new(File::create(&path).unwrap(), &header).unwrap();
        records.iter().for_each(|r| writer.write(r).unwrap());
        path
    }

    #[test]
    fn traces_of_two_nodes_become_one() {
        let folder = std::env::temp_dir().join(format!("menagerie-traces-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let event = |t, node, kind, peer| Record {
            t,
            node,
            kind,
            id: Some(7),
            peer: Some(peer),
            name: Some("Vote".into()),
            ..Record::default()
        };
        let files = vec![
            written(&folder, 2, 2_000_000_000, &[event(500_000_000, 2, Kind::Recv, 1)]),
            written(&folder, 1, 1_000_000_000, &[event(0, 1, Kind::Send, 2)]),
        ];
        let made = |words: fn(What) -> TraceWords, node: Vec<u32>| {
            let out = folder.join("out");
            let what = What { files: files.clone(), out: Some(out.clone()), from: None, to: None, node };
            carry_out(&words(what)).unwrap();
            std::fs::read_to_string(out).unwrap()
        };
        let text = made(TraceWords::Text, vec![]);
        assert_eq!(text, "    0.000000  n1 → n2 Vote\n    1.500000  n2 ← n1 Vote\n");
        assert_eq!(made(TraceWords::Text, vec![2]).lines().count(), 1);
        let merged = made(TraceWords::Merge, vec![]);
        assert_eq!(read(merged.as_bytes()).unwrap().records.len(), 2);
        assert!(made(TraceWords::Shiviz, vec![]).contains(r#"n2 {"n1":1,"n2":1}"#));
        assert!(made(TraceWords::Perfetto, vec![]).contains("traceEvents"));
        let missing =
            What { files: vec![folder.join("none")], out: None, from: None, to: None, node: vec![] };
        assert!(carry_out(&TraceWords::Text(missing)).unwrap_err().contains("none: "));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
