//! JSON lines on stdout, one object a line, and nothing else there.

use crate::json;
use flexi_logger::{DeferredNow, LogSpecification, Logger, LoggerHandle, WriteMode};
use log::{Level, LevelFilter, Record};
use std::io::{self, Write};

/// The target of records whose text is complete lines already.
const LINES: &str = "lines";

/// Starts logging to stdout. Keep what it gives until the process ends.
///
/// # Errors
/// A logger was started before.
pub fn start(level: LevelFilter) -> Result<LoggerHandle, flexi_logger::FlexiLoggerError> {
    // tiny_http and r2d2 have nothing to say to an operator below a warning that the metrics do not say better.
    let spec = LogSpecification::builder()
        .default(level.min(LevelFilter::Warn))
        .module("mood", level)
        .module(LINES, level)
        .build();
    Logger::with(spec).log_to_stdout().write_mode(WriteMode::Direct).format(write_record).start()
}

/// Whether a record of this level would be written; a line nobody reads need not be made.
pub fn is_on(level: Level) -> bool {
    level <= log::max_level()
}

/// Writes many lines, each complete, with one call.
pub fn write_lines(lines: &[u8]) {
    // The final line's end is written by the logger.
    if let Ok(lines) = std::str::from_utf8(lines.strip_suffix(b"\n").unwrap_or(lines)) {
        log::log!(target: LINES, Level::Error, "{lines}");
    }
}

fn write_record(out: &mut dyn Write, now: &mut DeferredNow, record: &Record) -> io::Result<()> {
    if record.target() == LINES {
        return out.write_fmt(*record.args());
    }
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
