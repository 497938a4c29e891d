//! Start-up and shut-down, in the order they happen. The modules are listed in `lib.rs`.

use mood::config::{self, Config};
use mood::guard::{self, Aged, Guard, Refused};
use mood::lock::lock;
use mood::metrics::Metrics;
use mood::os::{self, Event};
use mood::routes::App;
use mood::server::{self, Server};
use mood::service::Service;
use mood::store::{Store, memory::MemoryStore, redis::RedisStore};
use mood::worker::Worker;
use mood::{build, command, faults, heap, logging};
use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[global_allocator]
static HEAP: heap::WatchedHeap = heap::WatchedHeap;

/// From the first signal to the exit, whatever happens.
const STOP_WITHIN: Duration = Duration::from_millis(1900);
/// Two descriptors a connection, and some for the rest.
const OPEN_FILES: u64 = 65_536;

fn main() -> ExitCode {
    match command::parse(std::env::args().skip(1)) {
        command::Command::Serve => serve(),
        command::Command::Healthcheck => command::healthcheck(),
        command::Command::Print(text) => command::print(text),
        command::Command::Mistake(text) => command::fail(2, &text),
    }
}

fn serve() -> ExitCode {
    // Before the first thread, which inherits it; and before chrono reads it, since its own default is the host's zone.
    os::block_signals();
    heap::use_one_arena();
    command::default_zone();
    let config = match Config::read(|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(mistakes) => return command::fail(2, &mistakes.join("\n")),
    };
    let Ok(_logger) = logging::start(config.log_level) else { return command::fail(1, "logging cannot be started") };
    let limits = bounded_by_open_files(config.limits.clone());
    let host = os::hostname();
    let metrics = Arc::new(Metrics::new(&host));
    watch_panics(Arc::clone(&metrics));

    let (watched, served) = match server::listen(config.listen) {
        Ok(listener) => listener,
        Err(error) => return command::fail(1, &format!("cannot listen on {}: {error}", config.listen)),
    };
    if let Err(error) = os::wake_on_connections(&watched) {
        log::warn!("new connections are looked at every other second only: {error}");
    }
    // Its threads start on another core while the rest is made ready here.
    let server = match Server::open(served) {
        Ok(server) => server,
        Err(error) => return cannot_start(&error),
    };
    let app = Arc::new(App {
        service: Service::new(store(&config, &metrics), Arc::clone(&metrics)),
        metrics: Arc::clone(&metrics),
        host,
        faults: config.faults.then(faults::Faults::default),
        draining: AtomicBool::new(false),
    });
    run(&config, server, watched, limits, &app)
}

fn run(config: &Config, server: Arc<Server>, watched: TcpListener, limits: config::Limits, app: &Arc<App>) -> ExitCode {
    // Port 0 means any free one: what counts is the one that was given.
    let address = watched.local_addr().unwrap_or(config.listen);
    let refused = Arc::new(Refused::new(address.port()));
    let aged = Arc::new(Aged::default());
    let workers = match server.start_workers(config.workers, app, &refused, &aged) {
        Ok(workers) => workers,
        Err(error) => return cannot_start(&error),
    };
    let store = if config.redis.is_some() { "redis" } else { "embedded" };
    log::info!("listening on {address}, store {store}, version {} ({})", build::VERSION, build::COMMIT);

    // The rest can wait: the first request may be on its way.
    let is_over = os::wait_for_stop(guard::PAUSE) == Event::Stop;
    if let Err(error) = logging::gather() {
        return cannot_start(&error);
    }
    let mut guard = Guard::new(
        watched,
        address,
        limits,
        Arc::clone(&refused),
        Arc::clone(&aged),
        Arc::clone(&app.metrics),
        settle_threads(),
    );
    let failure = if is_over { None } else { watch(&mut guard, &server) };
    if let Some(reason) = &failure {
        log::error!("{reason}; draining to be started anew");
    }
    guard.hold_arrivals(false);
    drain(config, &guard, app);
    server.stop(workers, Instant::now() + Duration::from_millis(200), &mut Worker::new(app, &refused, &aged));
    log::info!("stopped");
    logging::flush();
    // Dropped, it would connect to itself to end its accept thread; the process ends that one too.
    std::mem::forget(server);
    if failure.is_some() { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

/// Has every thread yield to what runs but this one, which is to see at once what the others leave unbounded. Gives the
/// one that accepts connections: the first that was started (`Server::open`).
fn settle_threads() -> u32 {
    let threads = os::threads();
    threads.iter().skip(1).for_each(|thread| os::make_yielding(*thread));
    threads.get(1).copied().unwrap_or(0)
}

fn cannot_start(error: &io::Error) -> ExitCode {
    command::fail(1, &format!("cannot start: {error}"))
}

/// Guards the connections until a signal comes (`None`) or something cannot be mended (the reason).
fn watch(guard: &mut Guard, server: &Server) -> Option<String> {
    loop {
        let looked_at = Instant::now();
        let look = guard.look();
        if let Some(reason) = server.fault().or(look.restart) {
            return Some(reason);
        }
        let event = match os::wait_event(look.next) {
            // More of the same may come in a moment: one look sees it all.
            Event::Wake => os::wait_for_stop(guard::PAUSE.saturating_sub(looked_at.elapsed())),
            event => event,
        };
        if event == Event::Stop {
            return None;
        }
    }
}

/// Goes on answering, with /readyz at 503 and every connection closing, until balancers had time to see it and all
/// that was received is answered. A second signal ends the process at once.
fn drain(config: &Config, guard: &Guard, app: &App) {
    log::info!("draining");
    app.draining.store(true, SeqCst);
    let began = Instant::now();
    loop {
        let elapsed = began.elapsed();
        let is_answered = || app.metrics.in_flight.get() == 0 && !guard.has_unread();
        if elapsed >= STOP_WITHIN || (elapsed >= config.drain && is_answered()) {
            return;
        }
        let left = config.drain.saturating_sub(elapsed).clamp(Duration::from_millis(5), Duration::from_millis(100));
        if os::wait_event(left) == Event::Stop {
            log::warn!("stopped by a second signal");
            logging::flush();
            std::process::exit(130);
        }
    }
}

fn store(config: &Config, metrics: &Arc<Metrics>) -> Box<dyn Store> {
    match &config.redis {
        None => Box::new(MemoryStore::default()),
        Some(client) => {
            Box::new(RedisStore::new(client.clone(), config.redis_pool_size, config.redis_timeout, Arc::clone(metrics)))
        }
    }
}

/// So few connections that there is always a descriptor left to accept the next one.
fn bounded_by_open_files(mut limits: config::Limits) -> config::Limits {
    os::raise_open_files_limit(OPEN_FILES);
    let files = os::open_files_limit() as usize;
    let bound = (files.saturating_sub(32) / 2).max(4);
    if bound < limits.connections {
        log::warn!("only {files} files may be open, so at most {bound} connections (see ulimit -n)");
        limits.connections = bound;
    }
    limits
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
