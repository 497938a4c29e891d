//! JSON lines on stdout, one object a line, and nothing else there.
//!
//! Messages are written at once. Lines of requests are gathered and written together, at most 100 ms or 16 KB late: a
//! write costs the replica, and whoever reads its stdout, about as much as a request.

use crate::json;
use crate::lock::lock;
use flexi_logger::{DeferredNow, LogSpecification, Logger, LoggerHandle, WriteMode};
use log::{Level, LevelFilter, Record};
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How late a request's line may be written.
const LATEST: Duration = Duration::from_millis(100);
/// As much as is gathered at most.
const TOGETHER: usize = 16 * 1024;

/// Complete lines that are not written yet.
static GATHERED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// The first of them has come.
static FIRST_CAME: Condvar = Condvar::new();

/// Starts logging to stdout. Keep what it gives until the process ends.
///
/// # Errors
/// A logger was started before.
pub fn start(level: LevelFilter) -> Result<LoggerHandle, flexi_logger::FlexiLoggerError> {
    // tiny_http and r2d2 have nothing to say to an operator below a warning that the metrics do not say better.
    let spec = LogSpecification::builder().default(level.min(LevelFilter::Warn)).module("mood", level).build();
    Logger::with(spec).log_to_stdout().write_mode(WriteMode::Direct).format(write_record).start()
}

/// Starts the thread that writes what was gathered, in time.
///
/// # Errors
/// The thread could not be started.
pub fn gather() -> io::Result<()> {
    thread::Builder::new().name("log".into()).spawn(write_in_time).map(drop)
}

fn write_in_time() {
    loop {
        let gathered = lock(&GATHERED);
        // Idle, it sleeps for as long as nobody asks for anything.
        drop(FIRST_CAME.wait_while(gathered, |lines| lines.is_empty()));
        thread::sleep(LATEST);
        flush();
    }
}

/// Whether a record of this level would be written; a line nobody reads need not be made.
pub fn is_on(level: Level) -> bool {
    level <= log::max_level()
}

/// Takes lines, each complete, to be written with others.
pub fn write_lines(lines: &[u8]) {
    let mut gathered = lock(&GATHERED);
    if gathered.is_empty() {
        FIRST_CAME.notify_one();
    }
    gathered.extend_from_slice(lines);
    if gathered.len() >= TOGETHER {
        write_gathered(gathered);
    }
}

/// Writes what was gathered: before any message, so that all stands in its order, and before the process ends.
pub fn flush() {
    write_gathered(lock(&GATHERED));
}

/// Nobody can gather more before these are written.
fn write_gathered(mut gathered: MutexGuard<Vec<u8>>) {
    // Nobody could be told that stdout is closed.
    let _ = io::stdout().write_all(&gathered);
    gathered.clear();
}

fn write_record(out: &mut dyn Write, now: &mut DeferredNow, record: &Record) -> io::Result<()> {
    flush();
    let ts = now.now_utc_owned().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    write!(out, r#"{{"ts":"{ts}","level":"{}","msg":"#, level_name(record.level()))?;
    json::write_string(out, &record.args().to_string())?;
    out.write_all(b"}")
}

pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}
