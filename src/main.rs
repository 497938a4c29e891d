//! Start-up and shut-down, in the order they happen. The modules are listed in `lib.rs`.

use mood::config::Config;
use mood::http::app::App;
use mood::http::server::{self, Server};
use mood::http::worker::Worker;
use mood::limits::{self, Connections};
use mood::lock::lock;
use mood::observability::logging;
use mood::observability::metrics::Metrics;
use mood::os;
use mood::{build_info as build, cli as command};
use std::io;
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// From the first signal to the exit: the drain, the end of the workers, and the last text of the log.
const STOP_WITHIN: Duration = Duration::from_millis(1900);
/// Work that only later requests need is delayed by this time, so that the first request gets the CPU.
const FIRST_REQUEST: Duration = Duration::from_millis(5);
/// The longest wait for the reader of the log at the exit: it may have stalled.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Before that, the workers finish their batches.
const LAST_RESPONSES: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    match command::parse(std::env::args().skip(1)) {
        command::Command::Serve => serve(),
        command::Command::Healthcheck => command::healthcheck(),
        command::Command::Print(text) => command::print(text),
        command::Command::Mistake(text) => command::fail(2, &text),
    }
}

fn serve() -> ExitCode {
    // Before the first thread starts: threads inherit all of it.
    os::block_signals();
    os::prepare_heap();
    os::yield_to_others();
    let config = match Config::read(|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(mistakes) => return command::fail(2, &mistakes.join("\n")),
    };
    let host = os::hostname();
    let metrics = Arc::new(Metrics::new(&host));
    if let Err(error) = logging::start(config.log_level, metrics.log_lines_dropped.clone()) {
        return cannot_start(&error);
    }
    let others = config.redis_pool_size as usize + config.workers * limits::MOST_SOCKETS;
    let limits = limits::bounded_by_open_files(config.limits.clone(), others);
    watch_panics(Arc::clone(&metrics));

    let listener = match server::listen(config.listen) {
        Ok(listener) => listener,
        Err(error) => return fail(&format!("cannot listen on {}: {error}", config.listen)),
    };
    // Port 0 means any free port; the log has the assigned one.
    let address = listener.local_addr().unwrap_or(config.listen);
    let connections = limits::watch(&listener, limits, Arc::clone(&metrics));
    // Its threads start on another core while the rest is made ready here.
    let server = match Server::open(listener) {
        Ok(server) => server,
        Err(error) => return cannot_start(&error),
    };
    let app = Arc::new(App::new(&config, Arc::clone(&metrics), host));
    let workers = match server.start_workers(config.workers, &app, connections) {
        Ok(workers) => workers,
        Err(error) => return cannot_start(&error),
    };
    let store = if config.redis.is_some() { "redis" } else { "embedded" };
    log::info!("listening on {address}, store {store}, version {} ({})", build::VERSION, build::COMMIT);

    let is_over = os::wait_for_stop(FIRST_REQUEST);
    if let Err(error) = logging::start_writing() {
        return cannot_start(&error);
    }
    let failure = if is_over { None } else { watch(connections) };
    let exit_by = Instant::now() + STOP_WITHIN;
    if let Some(reason) = &failure {
        log::error!("{reason}; draining, then exiting to be restarted");
    }
    let stop_by = exit_by - LAST_WORDS;
    drain(&config, connections, &app, stop_by - LAST_RESPONSES);
    // On its own thread: a request that takes long delays only that thread. The server is not dropped, since then it would
    // connect to itself to end its accept thread; the process ends that one too.
    let stop = {
        let server = Arc::clone(&server);
        move || server.stop(workers, &mut Worker::new(&app, connections))
    };
    let stopping = thread::Builder::new().spawn(stop);
    while stopping.as_ref().is_ok_and(|thread| !thread.is_finished()) && Instant::now() < stop_by {
        thread::sleep(Duration::from_millis(1));
    }
    log::info!("stopped");
    logging::flush(exit_by.min(Instant::now() + LAST_WORDS));
    std::mem::forget(server);
    if failure.is_some() { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

fn cannot_start(error: &io::Error) -> ExitCode {
    fail(&format!("cannot start: {error}"))
}

fn fail(reason: &str) -> ExitCode {
    logging::flush(Instant::now() + LAST_WORDS);
    command::fail(1, reason)
}

/// Enforces the limits of connections until a signal arrives (`None`) or an unrecoverable fault occurs (its reason).
fn watch(connections: &Connections) -> Option<String> {
    while !os::wait_for_stop(limits::SWEEP_INTERVAL) {
        let reason = connections.sweep();
        if reason.is_some() {
            return reason;
        }
    }
    None
}

/// Goes on answering, with /readyz at 503 and every connection closing, until balancers had time to see it and all
/// that was received is answered. A second signal ends the process at once.
fn drain(config: &Config, connections: &Connections, app: &App, deadline: Instant) {
    log::info!("draining");
    app.draining.store(true, SeqCst);
    let began = Instant::now();
    loop {
        let elapsed = began.elapsed();
        let is_answered = || app.metrics.in_flight.get() == 0 && !connections.has_unseen();
        if Instant::now() >= deadline || (elapsed >= config.drain && is_answered()) {
            return;
        }
        let left = config.drain.saturating_sub(elapsed).clamp(Duration::from_millis(5), Duration::from_millis(100));
        if os::wait_for_stop(left) {
            log::warn!("stopped by a second signal");
            logging::flush(Instant::now() + LAST_WORDS);
            std::process::exit(130);
        }
    }
}

/// Has every panic counted, and logged as one line, at most once a second: a known fault of tiny_http lets any client
/// cause one by a reset at the right moment, and then only that client's connection ends.
fn watch_panics(metrics: Arc<Metrics>) {
    const PAUSE: Duration = Duration::from_secs(1);
    let last = Mutex::new(None::<Instant>);
    std::panic::set_hook(Box::new(move |panic| {
        metrics.panics.inc();
        let mut last = lock(&last);
        if last.is_none_or(|at| at.elapsed() >= PAUSE) {
            *last = Some(Instant::now());
            log::error!("caught a panic, {} so far: {panic}", metrics.panics.get());
        }
    }));
}
