//! The process around a server: signals, memory, log, panics, and the exit code.

use crate::cli;
use crate::config::Config;
use crate::http::server::{self, Failure};
use crate::observability::{logging, panics};
use crate::{limits, signals, tuning};
use std::process::ExitCode;
use std::time::Duration;

/// At the exit, the reader of the log may have stalled. This is the longest wait for it.
const FLUSH_WITHIN: Duration = Duration::from_millis(200);

/// Serves until SIGTERM or SIGINT.
pub fn run() -> ExitCode {
    // Before the first thread starts, because threads inherit these settings.
    signals::block();
    tuning::prepare_heap();
    tuning::yield_to_others();
    let mut config = match Config::read(|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(errors) => return cli::fail(2, &errors.join("\n")),
    };
    let result = serve(&mut config);
    logging::flush(FLUSH_WITHIN);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Start(reason)) => cli::fail(1, &reason),
        Err(Failure::Broken) => ExitCode::from(1),
        Err(Failure::Interrupted) => ExitCode::from(130),
    }
}

fn serve(config: &mut Config) -> Result<(), Failure> {
    logging::start(config.log_level)?;
    panics::log();
    limits::fit_open_files(config);
    let listener = server::listen(config.listen)
        .map_err(|error| Failure::Start(format!("cannot listen on {}: {error}", config.listen)))?;
    server::serve(listener, config, signals::wait_for_stop)
}
