//! The store in Redis: an r2d2 pool whose every step has a deadline, behind a circuit breaker.
//!
//! Each operation has one deadline. Waiting for a connection, for the turn to update and for every byte of a reply
//! counts against it. When an operation fails, the breaker opens and further operations fail at once, so an outage
//! costs one timeout per worker and not one per request. A thread that lives only as long as the outage probes Redis
//! and closes the breaker.

use super::{Change, Store, StoreError, StoredValue};
use crate::lock::lock;
use crate::observability::logging::RareLog;
use crate::observability::metrics::Metrics;
use chrono::{DateTime, Utc};
use r2d2::{ManageConnection, Pool, PooledConnection};
use redis::{Client, Cmd, ConnectionAddr, Parser, RedisError, RedisResult, Value, cmd};
use scheduled_thread_pool::ScheduledThreadPool;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often an outage's thread probes Redis.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// For the pool's own thread: connecting to one address, and again for logging in. Half of it is r2d2's longest pause
/// between attempts. Both add up to how late a recovered Redis is noticed. Shorter than the time until a lost SYN is
/// sent again (1 s): another attempt is faster.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);
/// A refusal (such as OOM) or an exhausted pool may affect every request for hours, and is logged this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Until then a round of an update may begin: one of all contenders wins each round, and the others start again. A round
/// is two round trips, so an update takes two timeouts more at most. With the default of 30 ms that is below the 500 ms
/// that Nginx waits for a refresh.
const UPDATE_PATIENCE: Duration = Duration::from_millis(400);

pub struct RedisStore {
    shared: Arc<Shared>,
    /// Held by the one update of this process that is under way: contenders are the replicas, not all their workers.
    turn: Turn,
}

struct Shared {
    pool: Pool<Manager>,
    connect_failure: ConnectFailure,
    /// For an operation other than an update, and for each of an update's round trips.
    timeout: Duration,
    breaker: Breaker,
    refusals: RareLog,
    exhaustion: RareLog,
    metrics: Arc<Metrics>,
}

impl RedisStore {
    /// Returns at once. The pool connects in the background, and retries until Redis is reachable.
    pub fn new(client: Client, pool_size: u32, timeout: Duration, metrics: Arc<Metrics>) -> RedisStore {
        let connect_failure = ConnectFailure::default();
        let pool = Pool::builder()
            .max_size(pool_size)
            .test_on_check_out(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .connection_timeout(CONNECT_TIMEOUT)
            .thread_pool(Arc::new(
                ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("redis-pool").build(),
            ))
            // The breaker logs once per outage; r2d2 would log every attempt.
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(Manager { client, failure: Arc::clone(&connect_failure) });
        let shared = Shared {
            pool,
            connect_failure,
            timeout,
            breaker: Breaker::default(),
            refusals: RareLog::every(WARNING_INTERVAL),
            exhaustion: RareLog::every(WARNING_INTERVAL),
            metrics,
        };
        RedisStore { shared: Arc::new(shared), turn: Turn::default() }
    }

    /// Runs `operation` on a pooled connection within the timeout.
    ///
    /// A connection that Redis closed (it restarted, or `CLIENT KILL`) fails once; the operation is then repeated on
    /// another one. All operations here may be repeated safely.
    fn call<T>(&self, mut operation: impl FnMut(&mut Link) -> RedisResult<T>) -> Result<T, StoreError> {
        let mut value = None;
        self.attempt(&mut |link| {
            value = Some(operation(link)?);
            Ok(())
        })?;
        Ok(value.expect("an attempt that succeeded ran the operation"))
    }

    /// Not generic: there is one copy of it, however many operations there are.
    fn attempt(&self, operation: &mut dyn FnMut(&mut Link) -> RedisResult<()>) -> Result<(), StoreError> {
        let shared = &self.shared;
        shared.breaker.check()?;
        let deadline = Instant::now() + shared.timeout;
        loop {
            let mut link = self.connection(deadline)?;
            link.socket.deadline = deadline;
            match operation(&mut link) {
                Ok(()) => return Ok(()),
                Err(error) if is_reply(&error) => {
                    shared.metrics.redis_error("reply");
                    let refusal = StoreError { reason: format!("Redis refused: {}", describe(&error)) };
                    warn(&shared.refusals, &refusal);
                    return Err(refusal);
                }
                Err(error) => {
                    link.is_broken = true;
                    let kind = if error.is_timeout() { "timeout" } else { "io" };
                    if kind == "timeout" || Instant::now() >= deadline {
                        return Err(self.open_breaker(kind, &describe(&error)));
                    }
                    shared.metrics.redis_error(kind);
                }
            }
        }
    }

    /// A connection from the pool. While there are connections and all are in use, half of the time left is spent on
    /// waiting: a reply that does not come within the other half is Redis's fault and not the pool's.
    fn connection(&self, deadline: Instant) -> Result<PooledConnection<Manager>, StoreError> {
        let pool = &self.shared.pool;
        if let Some(link) = pool.try_get() {
            return Ok(link);
        }
        let exist = || pool.state().connections > 0;
        let (existed, left) = (exist(), time_left(deadline));
        let link = pool.get_timeout(if existed { left / 2 } else { left });
        link.map_err(|_| match existed || exist() {
            // Each of them is held by an operation that opens the breaker itself if Redis is unavailable.
            true => self.busy("all connections to Redis are in use"),
            false => self.open_breaker("connect", &self.shared.why_unconnected()),
        })
    }

    /// This operation fails, and the next one may succeed.
    fn busy(&self, reason: &str) -> StoreError {
        self.shared.metrics.redis_error("busy");
        let error = StoreError { reason: reason.to_owned() };
        warn(&self.shared.exhaustion, &error);
        error
    }

    fn open_breaker(&self, kind: &str, reason: &str) -> StoreError {
        self.shared.metrics.redis_error(kind);
        let error = unavailable(reason);
        if self.shared.breaker.open(&error) {
            let store = Arc::downgrade(&self.shared);
            let probe = thread::Builder::new().name("redis-probe".into()).spawn(move || await_recovery(&store));
            if probe.is_err() {
                // Without a thread to close it the breaker would stay open indefinitely; the next call may try again.
                self.shared.breaker.close();
            }
        }
        error
    }
}

/// Probes Redis until it is available, or until the store has been dropped.
fn await_recovery(store: &Weak<Shared>) {
    let began = Instant::now();
    loop {
        thread::sleep(PROBE_EVERY);
        let Some(shared) = store.upgrade() else { return };
        match shared.probe() {
            Ok(()) => {
                shared.breaker.close();
                return log::info!("Redis is back after {} ms", began.elapsed().as_millis());
            }
            Err(reason) => shared.breaker.set_cause(unavailable(&reason)),
        }
    }
}

impl Shared {
    fn probe(&self) -> Result<(), String> {
        let mut link = self.pool.get_timeout(CONNECT_TIMEOUT).map_err(|_| self.why_unconnected())?;
        link.socket.deadline = Instant::now() + self.timeout;
        let alive = link.check();
        link.is_broken = alive.is_err();
        alive.map_err(|error| describe(&error))
    }

    fn why_unconnected(&self) -> String {
        lock(&self.connect_failure).clone().unwrap_or_else(|| "no connection could be made in time".to_owned())
    }
}

impl Store for RedisStore {
    fn get(&self, key: &str) -> Result<Option<StoredValue>, StoreError> {
        self.call(|link| stored(link.query(&[get(key), expiry(key)])?))
    }

    fn put_if_absent(&self, key: &str, value: &[u8], ends_at: DateTime<Utc>) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(|link| {
            let mut set = set(key, value, ends_at);
            set.arg("NX").arg("GET");
            string(link.query(&[set])?.pop())
        })
    }

    fn update(&self, key: &str, ends_at: DateTime<Utc>, change: Change) -> Result<(), StoreError> {
        let timeout = self.shared.timeout;
        let last_start = Instant::now() + UPDATE_PATIENCE;
        let Some(_turn) = self.turn.take(last_start) else {
            return Err(self.busy("too many updates wait for their turn"));
        };
        loop {
            let is_written = self.call(|link| {
                // A round that fails or panics halfway would leave a WATCH or a MULTI to the next operation.
                link.is_broken = true;
                let written = replace(link, timeout, key, ends_at, change);
                link.is_broken = written.is_err();
                written
            })?;
            if is_written {
                return Ok(());
            }
            if Instant::now() >= last_start {
                return Err(self.busy("too many others wrote the same key"));
            }
        }
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.call(|link| link.query(&[cmd("PING")]).map(drop))
    }

    fn label(&self) -> &'static str {
        "ok"
    }

    fn pool_connections(&self) -> (u32, u32) {
        let state = self.shared.pool.state();
        (state.connections - state.idle_connections, state.idle_connections)
    }
}

/// One round of an update. False: another replica wrote in between, and nothing was changed.
///
/// MULTI comes before the decision: if Redis refused it, a SET behind it would be executed on its own.
fn replace(link: &mut Link, timeout: Duration, key: &str, ends_at: DateTime<Utc>, change: Change) -> RedisResult<bool> {
    let mut watch = cmd("WATCH");
    watch.arg(key);
    let mut replies = link.query(&[watch, get(key), expiry(key), cmd("MULTI")])?;
    replies.truncate(3);
    let bytes = change(stored(replies)?.as_ref());
    link.socket.deadline = Instant::now() + timeout;
    let Some(bytes) = bytes else {
        return link.query(&[cmd("DISCARD")]).map(|_| true);
    };
    match link.query(&[set(key, &bytes, ends_at), cmd("EXEC")])?.pop() {
        Some(Value::Nil) => Ok(false),
        Some(Value::Array(_)) => Ok(true),
        _ => Err(unexpected()),
    }
}

fn get(key: &str) -> Cmd {
    let mut get = cmd("GET");
    get.arg(key);
    get
}

fn expiry(key: &str) -> Cmd {
    let mut expiry = cmd("EXPIRETIME");
    expiry.arg(key);
    expiry
}

/// `SET … EXAT`: an absolute expiry does not drift, however late the command arrives.
fn set(key: &str, value: &[u8], ends_at: DateTime<Utc>) -> Cmd {
    let mut set = cmd("SET");
    set.arg(key).arg(value).arg("EXAT").arg(ends_at.timestamp());
    set
}

/// From replies that end with those of GET and EXPIRETIME.
fn stored(mut replies: Vec<Value>) -> RedisResult<Option<StoredValue>> {
    let expires = !matches!(replies.pop(), Some(Value::Int(-1)));
    Ok(string(replies.pop())?.map(|bytes| StoredValue { bytes, expires }))
}

/// The value of a key. Empty for a list, a hash, …: an invalid value.
fn string(reply: Option<Value>) -> RedisResult<Option<Vec<u8>>> {
    match reply {
        Some(Value::Nil) => Ok(None),
        Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
        Some(Value::ServerError(error)) if is_wrong_type(&error) => Ok(Some(Vec::new())),
        _ => Err(unexpected()),
    }
}

fn is_wrong_type(error: &redis::ServerError) -> bool {
    error.code() == "WRONGTYPE"
}

fn unexpected() -> RedisError {
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, "unexpected reply"))
}

/// Whether Redis answered, only not with what was asked for (OOM, READONLY, NOPERM, …).
fn is_reply(error: &RedisError) -> bool {
    matches!(error.kind(), redis::ErrorKind::Server(_) | redis::ErrorKind::Extension) && error.code() != Some("LOADING")
}

/// The message of Redis or the system, without the arguments of a command, which may be user and password.
fn describe(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => {
            let (detail, _arguments) = detail.split_once(", with args").unwrap_or((detail, ""));
            format!("{code} {detail}")
        }
        (Some(code), None) => code.to_owned(),
        _ if error.is_timeout() => "no reply in time".to_owned(),
        _ if error.is_io_error() => error.to_string(),
        _ => error.category().to_owned(),
    }
}

fn unavailable(reason: &str) -> StoreError {
    StoreError { reason: format!("Redis is away: {reason}") }
}

/// In whole milliseconds and at least one, which is what a socket's timeout takes.
fn time_left(deadline: Instant) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    Duration::from_millis((left.as_micros() as u64).div_ceil(1000).max(1))
}

/// Open during an outage of Redis. Logs once, when it opens.
#[derive(Default)]
struct Breaker {
    is_open: AtomicBool,
    /// Why it is open: the newest reason, which the log may not have.
    cause: Mutex<Option<StoreError>>,
}

impl Breaker {
    fn check(&self) -> Result<(), StoreError> {
        if !self.is_open.load(SeqCst) {
            return Ok(());
        }
        let cause = lock(&self.cause).clone();
        Err(cause.unwrap_or(StoreError { reason: "Redis is away".into() }))
    }

    /// Returns true to the one caller that opened it.
    fn open(&self, error: &StoreError) -> bool {
        let mut cause = lock(&self.cause);
        if self.is_open.swap(true, SeqCst) {
            return false;
        }
        log::warn!("{}; answering without it", error.reason);
        *cause = Some(error.clone());
        true
    }

    fn set_cause(&self, cause: StoreError) {
        *lock(&self.cause) = Some(cause);
    }

    fn close(&self) {
        self.is_open.store(false, SeqCst);
    }
}

fn warn(rare: &RareLog, error: &StoreError) {
    if rare.is_due() {
        log::warn!("{}; answering without Redis", error.reason);
    }
}

/// A lock that can be awaited until a deadline; std does not have one.
#[derive(Default)]
struct Turn {
    is_taken: Mutex<bool>,
    freed: Condvar,
}

impl Turn {
    /// The turn until the value is dropped, unless it was not free by the deadline.
    fn take(&self, deadline: Instant) -> Option<impl Drop> {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.freed.wait_timeout_while(lock(&self.is_taken), left, |is_taken| *is_taken);
        let (mut is_taken, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        let is_free = !std::mem::replace(&mut *is_taken, true);
        is_free.then(|| Held(self))
    }
}

struct Held<'a>(&'a Turn);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *lock(&self.0.is_taken) = false;
        self.0.freed.notify_one();
    }
}

/// Why the last attempt to connect failed, if it did.
type ConnectFailure = Arc<Mutex<Option<String>>>;

/// Makes connections with timeouts, and records the last failure. redis's own manager does neither: its error for a
/// refused AUTH lacks Redis's reply.
struct Manager {
    client: Client,
    failure: ConnectFailure,
}

impl Manager {
    fn open(&self) -> RedisResult<Link> {
        let info = self.client.get_connection_info();
        let ConnectionAddr::Tcp(host, port) = info.addr() else { return Err(unexpected()) };
        let mut link = Link { socket: Socket::connect(host, *port)?, parser: Parser::new(), is_broken: false };
        let settings = info.redis_settings();
        if let Some(password) = settings.password() {
            let mut auth = cmd("AUTH");
            auth.arg(settings.username()).arg(password);
            link.query(&[auth])?;
        }
        if settings.db() != 0 {
            let mut select = cmd("SELECT");
            select.arg(settings.db());
            link.query(&[select])?;
        }
        link.check()?;
        Ok(link)
    }
}

impl ManageConnection for Manager {
    type Connection = Link;
    type Error = RedisError;

    fn connect(&self) -> Result<Link, RedisError> {
        let opened = self.open();
        let failure = opened.as_ref().err().map(|error| format!("cannot connect: {}", describe(error)));
        *lock(&self.failure) = failure;
        opened
    }

    fn is_valid(&self, _: &mut Link) -> Result<(), RedisError> {
        Ok(())
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.is_broken
    }
}

/// A connection to Redis.
struct Link {
    socket: Socket,
    parser: Parser,
    is_broken: bool,
}

impl Link {
    /// Sends the commands in one round trip and returns their replies, or the first of them that is an error. Only
    /// WRONGTYPE is returned as a reply: it describes the stored value.
    fn query(&mut self, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
        let mut request = Vec::new();
        commands.iter().for_each(|command| command.write_packed_command(&mut request));
        self.socket.write_all(&request)?;
        let mut replies = Vec::with_capacity(commands.len());
        // All of them are read before one is judged, or the next query would read the rest.
        for _ in commands {
            replies.push(self.parser.parse_value(&mut self.socket)?);
        }
        let accept = |reply| match reply {
            Value::ServerError(error) if is_wrong_type(&error) => Ok(Value::ServerError(error)),
            reply => reply.extract_error(),
        };
        replies.into_iter().map(accept).collect()
    }

    /// Whether commands can be expected to work. PING itself may be refused by an ACL, or while Redis cannot save.
    fn check(&mut self) -> RedisResult<()> {
        match self.query(&[cmd("PING")]) {
            Err(error) if matches!(error.code(), Some("NOPERM" | "MISCONF")) => Ok(()),
            result => result.map(drop),
        }
    }
}

/// A socket with one deadline for all reads and writes.
struct Socket {
    stream: TcpStream,
    deadline: Instant,
    /// The stream's own timeout, which is set only if it differs: that saves two system calls per query.
    timeout: Duration,
}

impl Socket {
    fn connect(host: &str, port: u16) -> io::Result<Socket> {
        let mut failure = io::ErrorKind::AddrNotAvailable.into();
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Socket { stream, deadline: Instant::now() + CONNECT_TIMEOUT, timeout: Duration::ZERO });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn arm(&mut self) -> io::Result<()> {
        if Instant::now() >= self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = time_left(self.deadline);
        if left != self.timeout {
            self.stream.set_read_timeout(Some(left))?;
            self.stream.set_write_timeout(Some(left))?;
            self.timeout = left;
        }
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        self.stream.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.arm()?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
