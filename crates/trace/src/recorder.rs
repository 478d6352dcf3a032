//! Writes a live node's trace from a thread of its own.
//!
//! The node's threads hand records over and go on; a channel of fixed length lies between, so a slow disk slows a traced
//! node down rather than filling its memory. What was handed over is on its way to the file at every pause, so a killed
//! process loses little more than the line under its pen.

use crate::{Clock, Header, Record, Writer};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Records that may wait.
const WAITING: usize = 1 << 14;

/// A trace being written. Clones write to the same; the last one waits until everything is written.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    records: Option<SyncSender<Record>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Writes the header, with the node's name and this moment as t = 0, and starts the thread. `to` should be buffered.
    ///
    /// # Errors
    /// Of `to`, or if there is no thread to be had.
    pub fn start(to: impl Write + Send + 'static, backend: &str, node: u32) -> io::Result<Self> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = Instant::now();
        let header = Header {
            commit: Some(env!("CARGO_PKG_VERSION").to_owned()),
            node: Some(node),
            began: Some(u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)),
            ..Header::new(backend, Clock::Monotonic)
        };
        let mut writer = Writer::new(to, &header)?;
        writer.flush()?;
        let (records, receiver) = sync_channel(WAITING);
        let thread =
            thread::Builder::new().name("trace".into()).spawn(move || write(&mut writer, &receiver))?;
        Ok(Self(Arc::new(Inner { began, records: Some(records), thread: Some(thread) })))
    }

    /// Hands `record` over; its `t` is set from `at`. After an error of the file records are dropped.
    pub fn record(&self, at: Instant, mut record: Record) {
        let t = at.saturating_duration_since(self.0.began).as_nanos();
        record.t = u64::try_from(t).unwrap_or(u64::MAX);
        if let Some(records) = &self.0.records {
            let _ = records.send(record);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.records = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write<W: Write>(writer: &mut Writer<W>, records: &Receiver<Record>) {
    loop {
        let next = match records.try_recv() {
            Ok(record) => Ok(record),
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                if writer.flush().is_err() {
                    return;
                }
                records.recv()
            }
        };
        let Ok(record) = next else { break };
        // A full disk ends the trace, not the node.
        if writer.write(&record).is_err() {
            return;
        }
    }
    let _ = writer.flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, read};
    use std::fs::File;
    use std::io::{BufReader, BufWriter};
    use std::time::Duration;

    #[test]
    fn everything_is_written_when_the_last_clone_goes() {
        let path = std::env::temp_dir().join(format!("menagerie-recorder-{}.jsonl", std::process::id()));
        let recorder = Recorder::start(BufWriter::new(File::create(&path).unwrap()), "zab", 3).unwrap();
        let other = recorder.clone();
        let begin = Instant::now();
        for n in 0..1000 {
            let record = Record { node: 3, kind: Kind::Durable, ticket: Some(n), ..Record::default() };
            recorder.record(begin + Duration::from_millis(n), record);
        }
        drop(recorder);
        drop(other);
        let trace = read(BufReader::new(File::open(&path).unwrap())).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((trace.header.node, trace.header.clock), (Some(3), Clock::Monotonic));
        assert!(trace.header.began.is_some_and(|ns| ns > 1_600_000_000_000_000_000));
        let times: Vec<u64> = trace.records.iter().map(|r| r.t).collect();
        assert!(times.len() == 1000 && times.is_sorted() && times[999] - times[0] == 999_000_000);
    }

    #[test]
    fn a_full_disk_ends_the_trace_only() {
        struct Full(u32);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("full"))?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let recorder = Recorder::start(Full(3), "raft", 1).unwrap();
        for _ in 0..3 * WAITING {
            recorder.record(Instant::now(), Record::default());
        }
    }
}
