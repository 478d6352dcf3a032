//! Files of the format: written line by line, read whole.
//!
//! A process that is killed leaves half a line at the end: that is how traces end, not damage, so the reader drops an
//! unfinished last line and says so. Anything else that is not a record is an error that names its line.

use crate::{FORMAT, Header, Record};
use std::fmt;
use std::io::{self, BufRead, Write};

/// Writes a trace.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the header line. `to` should be buffered.
    ///
    /// # Errors
    /// Of `to`.
    pub fn new(to: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self { to, line: Vec::with_capacity(256) };
        writer.put(header)?;
        Ok(writer)
    }

    /// Writes one event.
    ///
    /// # Errors
    /// Of the file below.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        self.put(record)
    }

    /// Hands everything written so far to the operating system.
    ///
    /// # Errors
    /// Of the file below.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// What it wrote to, flushed.
    ///
    /// # Errors
    /// Of the file below.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }

    fn put(&mut self, what: &impl serde::Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, what)?;
        self.line.push(b'\n');
        self.to.write_all(&self.line)
    }
}

/// A whole trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its first line.
    pub header: Header,
    /// The events, as written: of one node, or of the simulator, that is by time.
    pub records: Vec<Record>,
    /// Whether an unfinished last line was dropped.
    pub torn: bool,
}

/// Why a file cannot be read as a trace.
#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be read.
    Io(io::Error),
    /// It is empty.
    Empty,
    /// The first line is not a header.
    NoHeader(String),
    /// It is of another format or version.
    Format(String),
    /// A line is not a record.
    Line {
        /// Its number, from 1.
        number: u64,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::Empty => write!(f, "the file is empty: not even a header line"),
            Self::NoHeader(why) => write!(f, "line 1 is not the header of a trace: {why}"),
            Self::Format(found) => write!(f, "the format is '{found}', this build reads '{FORMAT}'"),
            Self::Line { number, why } => write!(f, "line {number} is not a record: {why}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Reads a trace.
///
/// # Errors
/// See [`ReadError`].
pub fn read(mut from: impl BufRead) -> Result<Trace, ReadError> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Err(ReadError::Empty);
    }
    let header = header(&line)?;
    let mut trace = Trace { header, records: Vec::new(), torn: false };
    for number in 2.. {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(record) => trace.records.push(record),
            Err(_) if !line.ends_with(b"\n") => trace.torn = true,
            Err(e) => return Err(ReadError::Line { number, why: e.to_string() }),
        }
    }
    Ok(trace)
}

fn header(line: &[u8]) -> Result<Header, ReadError> {
    let value: serde_json::Value =
        serde_json::from_slice(line).map_err(|e| ReadError::NoHeader(e.to_string()))?;
    let format = value.get("format").and_then(|f| f.as_str());
    match format {
        None => Err(ReadError::NoHeader("it names no format".to_owned())),
        Some(FORMAT) => serde_json::from_value(value).map_err(|e| ReadError::NoHeader(e.to_string())),
        Some(other) => Err(ReadError::Format(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, Kind};

    fn written(records: &[Record]) -> Vec<u8> {
        let mut header = Header::new("raft", Clock::Virtual);
        header.seed = Some(7);
        let mut writer = Writer::new(Vec::new(), &header).unwrap();
        for r in records {
            writer.write(r).unwrap();
        }
        writer.finish().unwrap()
    }

    fn sample() -> Vec<Record> {
        let full = Record {
            t: 1,
            node: 2,
            kind: Kind::Send,
            id: Some(3),
            peer: Some(4),
            name: Some("ACK".into()),
            epoch: Some("5.2".into()),
            index: Some(6),
            bytes: Some(7),
            cause: Some("a \"quoted\" cause\nover two lines".into()),
            role: Some("Leader".into()),
            commit: Some(8),
            ticket: Some(9),
            text: Some("→ ⇨".into()),
        };
        vec![full, Record { t: 2, node: 1, kind: Kind::LinkDown, ..Record::default() }]
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = written(&sample());
        let trace = read(bytes.as_slice()).unwrap();
        assert_eq!(trace.header.seed, Some(7));
        assert_eq!((trace.records, trace.torn), (sample(), false));
        let lines = bytes.split(|b| *b == b'\n').count();
        assert_eq!(lines, 4, "one line each, and the empty one behind the last");
    }

    #[test]
    fn fields_that_do_not_apply_are_left_out() {
        let bytes = written(&sample()[1..]);
        let last = String::from_utf8(bytes).unwrap().lines().last().unwrap().to_owned();
        assert_eq!(last, r#"{"t":2,"node":1,"kind":"link_down"}"#);
    }

    #[test]
    fn a_killed_writer_leaves_half_a_line() {
        let bytes = written(&sample());
        for cut in 1..20 {
            let trace = read(&bytes[..bytes.len() - cut - 1]).unwrap();
            assert_eq!((trace.records.len(), trace.torn), (1, true), "cut by {cut}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        let mut bytes = written(&sample());
        bytes.extend_from_slice(b"{\"t\":1}\n");
        let why = read(bytes.as_slice()).unwrap_err().to_string();
        assert!(why.starts_with("line 4 is not a record: missing field `node`"), "{why}");
        assert!(matches!(read(&b""[..]), Err(ReadError::Empty)));
        assert!(matches!(read(&b"hello\n"[..]), Err(ReadError::NoHeader(_))));
        assert!(matches!(read(&b"{}\n"[..]), Err(ReadError::NoHeader(_))));
        let why = read(&br#"{"format":"menagerie.trace/2"}"#[..]).unwrap_err().to_string();
        assert!(why.contains("menagerie.trace/2") && why.contains(FORMAT), "{why}");
    }

    #[test]
    fn fields_may_be_added() {
        let mut bytes = written(&[]);
        bytes.extend_from_slice(b"{\"t\":1,\"node\":2,\"kind\":\"apply\",\"colour\":\"blue\"}\n");
        assert_eq!(read(bytes.as_slice()).unwrap().records[0].kind, Kind::Apply);
    }
}
