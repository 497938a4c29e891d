//! The store in Redis: an r2d2 pool with time-outs at every step, behind a breaker.
//!
//! No call takes longer than the configured time-out, whatever Redis does. When one fails, the breaker opens and
//! every further call fails at once, so an outage costs the workers one time-out and not one a request. A thread that
//! lives only as long as the outage asks Redis again and closes the breaker.

use super::{Change, Store, StoreError, StoredValue};
use crate::lock::lock;
use crate::metrics::Metrics;
use chrono::{DateTime, Utc};
use r2d2::{ManageConnection, Pool};
use redis::{Client, Cmd, Connection, ConnectionLike, Pipeline, RedisError, RedisResult, Value, cmd, pipe};
use scheduled_thread_pool::ScheduledThreadPool;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How often an outage's thread asks whether Redis is back.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// For the pool's own thread: one attempt to connect. Half of it is r2d2's longest pause between attempts. Both add up
/// to how late a Redis that is back is noticed. Sooner than a lost SYN is sent again (1 s): another attempt is faster.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);
/// How often an update starts again because somebody else wrote first. One of all contenders wins each round.
const UPDATE_ATTEMPTS: u32 = 50;

pub struct RedisStore {
    shared: Arc<Shared>,
    /// Held by the one update of this process that is under way: contenders are the replicas, not all their workers.
    updating: Mutex<()>,
}

struct Shared {
    pool: Pool<Manager>,
    /// The longest any call may take.
    timeout: Duration,
    breaker: Breaker,
    metrics: Arc<Metrics>,
}

impl RedisStore {
    /// Gives a store at once; the pool connects behind it, and goes on trying if Redis is not there yet.
    pub fn new(client: Client, pool_size: u32, timeout: Duration, metrics: Arc<Metrics>) -> RedisStore {
        let pool = Pool::builder()
            .max_size(pool_size)
            .test_on_check_out(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .connection_timeout(CONNECT_TIMEOUT)
            .thread_pool(Arc::new(
                ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("redis-pool").build(),
            ))
            // The breaker says it, once an outage; r2d2 would say it at every attempt.
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(Manager { client, timeout });
        let shared = Shared { pool, timeout, breaker: Breaker::default(), metrics };
        RedisStore { shared: Arc::new(shared), updating: Mutex::default() }
    }

    /// Runs `operation` on a pooled connection within the time-out.
    ///
    /// A connection that Redis closed (it restarted, or was told to) fails once; the operation is then repeated on
    /// another one. All operations here may be repeated safely.
    fn call<T>(&self, mut operation: impl FnMut(&mut Connection) -> RedisResult<T>) -> Result<T, StoreError> {
        let mut value = None;
        self.attempt(&mut |connection| {
            value = Some(operation(connection)?);
            Ok(())
        })?;
        Ok(value.expect("an attempt that succeeded ran the operation"))
    }

    /// Not generic: there is one of it, however many operations there are.
    fn attempt(&self, operation: &mut dyn FnMut(&mut Connection) -> RedisResult<()>) -> Result<(), StoreError> {
        let shared = &self.shared;
        shared.breaker.check()?;
        let deadline = Instant::now() + shared.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let Ok(mut link) = shared.pool.get_timeout(left) else {
                return Err(self.open_breaker("connect", "no connection could be made in time"));
            };
            match operation(&mut link.connection) {
                Ok(()) => return Ok(()),
                Err(error) if is_reply(&error) => {
                    shared.metrics.redis_error("reply");
                    let refusal = StoreError { reason: format!("Redis refused: {}", describe(&error)) };
                    shared.breaker.note_refusal(&refusal);
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

    fn open_breaker(&self, kind: &str, reason: &str) -> StoreError {
        self.shared.metrics.redis_error(kind);
        let error = StoreError { reason: format!("Redis is away: {reason}") };
        if self.shared.breaker.open(&error) {
            let shared = Arc::clone(&self.shared);
            let probe = thread::Builder::new().name("redis-probe".into()).spawn(move || shared.await_recovery());
            if probe.is_err() {
                // Without a thread to close it the breaker would stay open for ever; the next call may try again.
                self.shared.breaker.close();
            }
        }
        error
    }
}

impl Shared {
    fn await_recovery(&self) {
        let began = Instant::now();
        loop {
            thread::sleep(PROBE_EVERY);
            let Ok(mut link) = self.pool.get_timeout(CONNECT_TIMEOUT) else { continue };
            match cmd("PING").exec(&mut link.connection) {
                Ok(()) => break,
                Err(_) => link.is_broken = true,
            }
        }
        self.breaker.close();
        log::info!("Redis is back after {} ms", began.elapsed().as_millis());
    }
}

impl Store for RedisStore {
    fn get(&self, key: &str) -> Result<Option<StoredValue>, StoreError> {
        self.call(|connection| read(connection, pipe().add_command(get(key)).add_command(expiry(key))))
    }

    fn put_if_absent(&self, key: &str, value: &[u8], ends_at: DateTime<Utc>) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(|connection| set(key, value, ends_at).arg("NX").arg("GET").query(connection))
    }

    fn update(&self, key: &str, ends_at: DateTime<Utc>, change: Change) -> Result<(), StoreError> {
        let _turn = lock(&self.updating);
        for _ in 0..UPDATE_ATTEMPTS {
            let done = self.call(|connection| {
                let mut watch = cmd("WATCH");
                watch.arg(key);
                let found = read(connection, pipe().add_command(watch).add_command(get(key)).add_command(expiry(key)))?;
                let Some(bytes) = change(found.as_ref()) else {
                    return cmd("UNWATCH").query(connection).map(|()| true);
                };
                let written: Option<()> =
                    pipe().atomic().add_command(set(key, &bytes, ends_at)).ignore().query(connection)?;
                Ok(written.is_some())
            })?;
            if done {
                return Ok(());
            }
        }
        Err(StoreError { reason: "too many others wrote the same key".into() })
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.call(|connection| cmd("PING").exec(connection))
    }

    fn label(&self) -> &'static str {
        "ok"
    }

    fn connections(&self) -> (u32, u32) {
        let state = self.shared.pool.state();
        (state.connections - state.idle_connections, state.idle_connections)
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

/// Runs a pipeline that ends with GET and EXPIRETIME of one key, in one round trip.
fn read(connection: &mut Connection, pipeline: &Pipeline) -> RedisResult<Option<StoredValue>> {
    let commands = pipeline.cmd_iter().count();
    let mut replies = connection.req_packed_commands(&pipeline.get_packed_pipeline(), 0, commands)?.into_iter();
    let expiry = replies.next_back().unwrap_or_default();
    let bytes = match replies.next_back().unwrap_or_default() {
        Value::Nil => return Ok(None),
        Value::BulkString(bytes) => bytes,
        // A list, a hash, …: there is something, and it is not ours.
        Value::ServerError(error) if error.code() == "WRONGTYPE" => Vec::new(),
        other => return Err(other.extract_error().err().unwrap_or_else(|| unexpected("GET"))),
    };
    let expires = !matches!(expiry.extract_error()?, Value::Int(-1));
    Ok(Some(StoredValue { bytes, expires }))
}

fn unexpected(command: &'static str) -> RedisError {
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, "unexpected reply", command.into()))
}

/// Whether Redis answered, only not with what was asked for (OOM, READONLY, NOPERM, …).
fn is_reply(error: &RedisError) -> bool {
    matches!(error.kind(), redis::ErrorKind::Server(_) | redis::ErrorKind::Extension) && error.code() != Some("LOADING")
}

/// An error without the connection's address and password.
fn describe(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ if error.is_timeout() => "no answer in time".to_owned(),
        _ => error.category().to_owned(),
    }
}

/// Open while Redis is away. Says so once when it opens.
#[derive(Default)]
struct Breaker {
    is_open: AtomicBool,
    /// Why it is open.
    cause: Mutex<Option<StoreError>>,
    last_refusal: Mutex<Option<Instant>>,
}

impl Breaker {
    /// A refusal (say, OOM) may come with every write while reads go well: it is logged this often at most.
    const REFUSAL_PAUSE: Duration = Duration::from_secs(60);

    fn check(&self) -> Result<(), StoreError> {
        if !self.is_open.load(SeqCst) {
            return Ok(());
        }
        let cause = lock(&self.cause).clone();
        Err(cause.unwrap_or(StoreError { reason: "Redis is away".into() }))
    }

    /// Gives true to the one caller that opened it.
    fn open(&self, error: &StoreError) -> bool {
        let mut cause = lock(&self.cause);
        if self.is_open.swap(true, SeqCst) {
            return false;
        }
        log::warn!("{}; answering without it", error.reason);
        *cause = Some(error.clone());
        true
    }

    fn close(&self) {
        self.is_open.store(false, SeqCst);
    }

    fn note_refusal(&self, refusal: &StoreError) {
        let mut last = lock(&self.last_refusal);
        if last.is_none_or(|at| at.elapsed() > Self::REFUSAL_PAUSE) {
            *last = Some(Instant::now());
            log::warn!("{}; answering without it", refusal.reason);
        }
    }
}

/// Makes connections with time-outs. redis's own manager has none, and asks PING at every check-out.
struct Manager {
    client: Client,
    timeout: Duration,
}

struct Link {
    connection: Connection,
    is_broken: bool,
}

impl ManageConnection for Manager {
    type Connection = Link;
    type Error = RedisError;

    fn connect(&self) -> Result<Link, RedisError> {
        let connection = self.client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
        connection.set_read_timeout(Some(self.timeout))?;
        connection.set_write_timeout(Some(self.timeout))?;
        Ok(Link { connection, is_broken: false })
    }

    fn is_valid(&self, _: &mut Link) -> Result<(), RedisError> {
        Ok(())
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.is_broken || !link.connection.is_open()
    }
}
