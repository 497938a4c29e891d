//! JSON lines on stdout, one object per line.
//!
//! Only the thread "log" writes to stdout. All other threads append to a bounded buffer, so a reader that stalls does not
//! stop the service: lines are dropped and counted. Messages are written immediately. Request lines are written in groups,
//! at most 100 ms or 16 KiB late, because a write costs about as much CPU as a request.

use crate::lock::lock;
use flexi_logger::LogSpecification;
use log::{Level, LevelFilter, Metadata, Record};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{mem, thread};

/// The longest delay of a request's line.
const LATEST: Duration = Duration::from_millis(100);
/// Lines of requests are written as soon as there is this much text.
const TOGETHER: usize = 16 * 1024;
/// Text that waits while stdout is blocked: more lines are dropped.
const LIMIT: usize = 128 * 1024;
/// The longest that a full buffer delays a worker: a reader that only waits for a core loses no line.
const PATIENCE: Duration = Duration::from_millis(50);
/// Messages may use this much more, so that lines of requests do not displace them.
const LIMIT_OF_MESSAGES: usize = LIMIT + 16 * 1024;

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    filter: LogSpecification,
    dropped: AtomicU64,
    /// Not std's handle, which may keep the end of a text in a buffer of its own.
    stdout: File,
    pending: Mutex<Pending>,
    /// Wakes the writer: the first text was appended, or the text became due.
    wake: Condvar,
    /// Wakes the workers: the writer took the text.
    taken: Condvar,
}

/// What the writer has not written yet.
#[derive(Default)]
struct Pending {
    /// Complete lines.
    text: Vec<u8>,
    /// The text is to be written immediately.
    is_due: bool,
    /// The writer took text and has not finished writing it.
    is_writing: bool,
    /// A worker timed out: no worker waits again until the writer takes the text.
    is_stalled: bool,
    /// Dropped lines that were reported in a message.
    reported: u64,
}

/// Starts the logger and its thread.
///
/// # Errors
/// No descriptor or thread is left, or a logger was started before.
pub fn start(level: LevelFilter) -> io::Result<()> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // Libraries log nothing below a warning that helps an operator. tiny_http only logs what `limits` reports as well.
    let filter = LogSpecification::builder()
        .default(level.min(LevelFilter::Warn))
        .module("tiny_http", LevelFilter::Off)
        .module("mood", level)
        .build();
    let log = Log {
        filter,
        dropped: AtomicU64::new(0),
        stdout,
        pending: Mutex::default(),
        wake: Condvar::new(),
        taken: Condvar::new(),
    };
    let log = LOG.get_or_init(|| log);
    log::set_logger(log).map_err(|_| ErrorKind::AlreadyExists)?;
    log::set_max_level(level);
    thread::Builder::new().name("log".into()).spawn(|| log.write()).map(drop)
}

/// Lines that were dropped so far.
pub fn dropped() -> u64 {
    LOG.get().map_or(0, |log| log.dropped.load(SeqCst))
}

/// Whether a record of this level is written. Other lines need not be formatted.
pub fn is_on(level: Level) -> bool {
    level <= log::max_level()
}

/// Appends the lines of requests, each complete.
pub fn write_lines(lines: &[u8]) {
    if let Some(log) = LOG.get() {
        log.append(log.with_space(lines.len()), lines, LIMIT, TOGETHER);
    }
}

/// Waits until all text is written, or for `within` if stdout is blocked.
pub fn flush(within: Duration) {
    let Some(log) = LOG.get() else { return };
    let deadline = Instant::now() + within;
    log.append(lock(&log.pending), b"", LIMIT_OF_MESSAGES, 0);
    while log.has_text() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

impl Log {
    /// Locks the buffer when it has space, or after the longest delay.
    fn with_space(&self, length: usize) -> MutexGuard<'_, Pending> {
        let is_full = |pending: &mut Pending| !pending.is_stalled && pending.text.len() + length > LIMIT;
        let waited = self.taken.wait_timeout_while(lock(&self.pending), PATIENCE, is_full);
        let (mut pending, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        pending.is_stalled |= waited.timed_out();
        pending
    }

    /// Appends lines unless the text would become longer than `limit`. The text is due from the length `due` on.
    fn append(&self, mut pending: MutexGuard<Pending>, lines: &[u8], limit: usize, due: usize) {
        let length = pending.text.len() + lines.len();
        if length > limit {
            self.dropped.fetch_add(lines.iter().filter(|byte| **byte == b'\n').count() as u64, SeqCst);
            return;
        }
        let (is_first, was_due) = (pending.text.is_empty(), pending.is_due);
        pending.text.extend_from_slice(lines);
        pending.is_due |= length >= due;
        // Other appends skip the wake-up, because the writer is awake or the text is not due.
        if is_first || pending.is_due != was_due {
            self.wake.notify_one();
        }
    }

    fn has_text(&self) -> bool {
        let pending = lock(&self.pending);
        pending.is_writing || !pending.text.is_empty()
    }

    /// The writer's thread. While there is no text it sleeps without a timeout.
    fn write(&self) {
        let mut text = Vec::new();
        loop {
            let pending = self.wake.wait_while(lock(&self.pending), |pending| pending.text.is_empty());
            let pending = pending.unwrap_or_else(PoisonError::into_inner);
            let pending = self.wake.wait_timeout_while(pending, LATEST, |pending| !pending.is_due);
            let (mut pending, _) = pending.unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut text, &mut pending.text);
            pending.is_due = false;
            pending.is_writing = true;
            pending.is_stalled = false;
            let dropped = self.dropped.load(SeqCst);
            let unreported = dropped - mem::replace(&mut pending.reported, dropped);
            drop(pending);
            self.taken.notify_all();
            if unreported > 0 {
                // The buffer is empty now, so this message is not dropped. It follows the text that was kept.
                log::warn!("{unreported} log lines dropped while stdout was blocked");
            }
            write_all(&self.stdout, &text);
            text.clear();
            lock(&self.pending).is_writing = false;
        }
    }
}

impl log::Log for Log {
    fn enabled(&self, metadata: &Metadata) -> bool {
        self.filter.enabled(metadata.level(), metadata.target())
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let mut line = Vec::new();
            // Writing into a Vec cannot fail.
            let _ = write_record(&mut line, record);
            self.append(lock(&self.pending), &line, LIMIT_OF_MESSAGES, 0);
        }
    }

    fn flush(&self) {}
}

/// For messages that could be repeated with every request: is due once per interval.
pub struct RareLog {
    interval: Duration,
    last: Mutex<Option<Instant>>,
}

impl RareLog {
    pub fn every(interval: Duration) -> RareLog {
        RareLog { interval, last: Mutex::new(None) }
    }

    pub fn is_due(&self) -> bool {
        let mut last = lock(&self.last);
        let is_due = last.is_none_or(|at| at.elapsed() >= self.interval);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Writes all of the text, so that no line is cut. After an error the rest is discarded.
fn write_all(mut stdout: &File, mut text: &[u8]) {
    while !text.is_empty() {
        match stdout.write(text) {
            Ok(written @ 1..) => text = &text[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that shares this pipe made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
            Ok(0) | Err(_) => return,
        }
    }
}

fn write_record(out: &mut Vec<u8>, record: &Record) -> io::Result<()> {
    let ts = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    write!(out, r#"{{"ts":"{ts}","level":"{}","msg":"#, record.level().as_str().to_ascii_lowercase())?;
    serde_json::to_writer(&mut *out, &record.args().to_string())?;
    out.write_all(b"}\n")
}
