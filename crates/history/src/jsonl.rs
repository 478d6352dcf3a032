//! A history as text: the header's line, then one line per event. Files end in `.history.jsonl`.
//!
//! Whoever writes a file by hand, or with another recorder, gets told which line is wrong and why.

use crate::record::{Event, FORMAT, Header, History};
use std::io::{self, BufRead, Write};

/// Why a text is not a history.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read: not the recorder's fault.
    #[error("line {line}: {error}")]
    Io {
        /// Counted from 1.
        line: usize,
        /// What happened.
        error: io::Error,
    },
    /// The recorder's fault: not JSON, or not a record of this format.
    #[error("line {line}: not {what}: {error}")]
    Record {
        /// Counted from 1.
        line: usize,
        /// What was expected there.
        what: &'static str,
        /// What the parser says.
        error: serde_json::Error,
    },
    /// Another format, or another version of it.
    #[error("line 1: the format is {found:?}, expected {FORMAT:?}")]
    Format {
        /// What the header says.
        found: String,
    },
    /// Nothing at all.
    #[error("line 1: the file is empty, a header was expected")]
    Empty,
    /// Events must be in the order of their times.
    #[error("line {line}: at {at_us} µs, after an event at {before_us} µs")]
    Order {
        /// Counted from 1.
        line: usize,
        /// Its time.
        at_us: u64,
        /// Time of the event before.
        before_us: u64,
    },
}

/// Writes a history.
///
/// # Errors
/// As `to` has them.
pub fn write(history: &History, to: &mut dyn Write) -> io::Result<()> {
    let header = Header { format: FORMAT.into(), ..history.header.clone() };
    serde_json::to_writer(&mut *to, &header)?;
    to.write_all(b"\n")?;
    for event in &history.events {
        serde_json::to_writer(&mut *to, event)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads a history. Empty lines are skipped.
///
/// # Errors
/// The first line that is wrong.
pub fn read(from: &mut dyn BufRead) -> Result<History, ReadError> {
    let mut header: Option<Header> = None;
    let mut events: Vec<Event> = Vec::new();
    for (index, text) in from.lines().enumerate() {
        let line = index + 1;
        let text = text.map_err(|error| ReadError::Io { line, error })?;
        if text.trim().is_empty() {
            continue;
        }
        if header.is_none() {
            let found: Header = serde_json::from_str(&text).map_err(|error| ReadError::Record {
                line,
                what: "a header",
                error,
            })?;
            if found.format != FORMAT {
                return Err(ReadError::Format { found: found.format });
            }
            header = Some(found);
            continue;
        }
        let event: Event = serde_json::from_str(&text).map_err(|error| ReadError::Record {
            line,
            what: "an event",
            error,
        })?;
        if let Some(before) = events.last().filter(|before| before.at_us > event.at_us) {
            return Err(ReadError::Order { line, at_us: event.at_us, before_us: before.at_us });
        }
        events.push(event);
    }
    Ok(History { header: header.ok_or(ReadError::Empty)?, events })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{CreateMode, EventKind, Op, Outcome, Reply, Stat, What};

    fn sample() -> History {
        let op = Op::Multi {
            ops: vec![
                Op::Create { path: "/a".into(), data: "x".into(), mode: CreateMode::EphemeralSequential },
                Op::Check { path: "/b".into(), version: -1 },
            ],
        };
        let results = vec![
            Outcome::Ok(Reply::Created { path: "/a0000000001".into(), stat: Some(Stat::default()) }),
            Outcome::Error(-2),
        ];
        let events = [
            What::Connected { session: -5, server: 1, timeout_ms: 4000, resumed: false, seen: 0 },
            What::Invoke { call: 1, session: -5, op },
            What::Return { call: 1, zxid: 7, outcome: Outcome::Ok(Reply::Multi(results)) },
            What::Watch { session: -5, zxid: -1, kind: EventKind::ChildrenChanged, path: "/".into() },
            What::Disconnected,
            What::Healed,
        ];
        let events = events.into_iter().enumerate();
        let events = events.map(|(at, what)| Event { at_us: at as u64, client: 1, what }).collect();
        History {
            header: Header { format: FORMAT.into(), system: "test".into(), ..Header::default() },
            events,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let history = sample();
        let mut text = Vec::new();
        write(&history, &mut text).unwrap();
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1 + history.events.len());
        assert_eq!(read(&mut text.as_slice()).unwrap(), history);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let mut text = Vec::new();
        write(&sample(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let reading = |text: &str| read(&mut text.as_bytes()).unwrap_err().to_string();
        assert!(
            reading(&text.replacen("\"what\":\"healed\"", "\"what\":\"mended\"", 1)).starts_with("line 7: ")
        );
        assert!(reading(&text.replacen("/1\"", "/9\"", 1)).contains("menagerie.history/9"));
        assert!(reading(&text.replacen("\"at_us\":2", "\"at_us\":9", 1)).contains("line 5: at 3 µs, after"));
        assert!(reading("").contains("empty"));
        assert!(reading("[1").starts_with("line 1: not a header"));
    }
}
