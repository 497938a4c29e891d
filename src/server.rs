//! tiny_http: worker threads that answer in batches; turns a Reply into bytes, a log line and a metric.

use crate::guard::Refused;
use crate::head::{self, Connection, Head};
use crate::lock::lock;
use crate::logging;
use crate::metrics::RequestSeries;
use crate::os;
use crate::routes::{App, Asked, BatchRead, Body, Method, Reply, Route};
use chrono::{DateTime, Utc};
use log::Level;
use socket2::SockRef;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tiny_http::Request;

/// Requests answered with one Redis read and one log write.
const BATCH: usize = 64;
/// A connection that sent this many requests in advance while the queue never ran empty floods it: tiny_http's queue
/// has no bound, and parsing is faster than answering.
const FLOOD: usize = 1024;
/// Holds any answer whole, so that writing waits only for a client that left earlier answers unread.
const SEND_BUFFER: usize = 128 * 1024;
/// More than any request that is not refused.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// The longest that such a client may hold up a worker.
const SEND_TIMEOUT: Duration = Duration::from_millis(50);
/// A peer that is gone without a word (a host that lost power) is noticed after this time.
const PEER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that wait to be accepted. What waits when the guard begins to hold arrivals back still comes through, so
/// this is also how far the limit of connections may be passed.
const BACKLOG: i32 = 128;

pub struct Server {
    http: tiny_http::Server,
    app: Arc<App>,
    refused: Arc<Refused>,
    is_stopping: AtomicBool,
    /// Why no further request can be received.
    fault: Mutex<Option<String>>,
}

/// A listening socket whose options every connection inherits.
///
/// # Errors
/// The address is in use, or not one of this machine, or the port is reserved.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    os::set_backlog(&listener, BACKLOG)?;
    let socket = SockRef::from(&listener);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))?;
    socket.set_keepalive(true)?;
    Ok(listener)
}

impl Server {
    /// Starts answering on `listener` with `workers` threads. Gives the server, its workers, and the thread that
    /// accepts connections.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(
        listener: TcpListener,
        workers: usize,
        app: Arc<App>,
        refused: Arc<Refused>,
    ) -> io::Result<(Arc<Server>, Vec<JoinHandle<()>>, u32)> {
        let before = os::threads();
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        // tiny_http starts this one first; it then starts others.
        let accept_thread = os::threads().into_iter().find(|thread| !before.contains(thread)).unwrap_or(0);
        let server =
            Arc::new(Server { http, app, refused, is_stopping: AtomicBool::new(false), fault: Mutex::default() });
        let workers = (0..workers).map(|n| {
            let server = Arc::clone(&server);
            thread::Builder::new().name(format!("worker-{n}")).spawn(move || server.work())
        });
        let workers = workers.collect::<io::Result<Vec<_>>>()?;
        Ok((server, workers, accept_thread))
    }

    /// Why requests are no longer received, if so.
    pub fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    /// Lets every worker end after its batch, then answers here what still waits.
    pub fn stop(&self, workers: Vec<JoinHandle<()>>, deadline: Instant) {
        self.is_stopping.store(true, SeqCst);
        workers.iter().for_each(|_| self.http.unblock());
        while workers.iter().any(|worker| !worker.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let mut worker = Worker::new(self);
        while let Ok(Some(request)) = self.http.try_recv() {
            worker.answer_batch(vec![request]);
        }
    }

    fn work(&self) {
        let mut worker = Worker::new(self);
        while !self.is_stopping.load(SeqCst) {
            match self.http.recv() {
                Ok(first) => {
                    let mut batch = vec![first];
                    // An `unblock` that is meant for a sleeping worker may end this loop; then this worker takes its
                    // place and sees the flag.
                    while batch.len() < BATCH
                        && let Ok(Some(request)) = self.http.try_recv()
                    {
                        batch.push(request);
                    }
                    worker.answer_batch(batch);
                }
                Err(_) if self.is_stopping.load(SeqCst) => {}
                // tiny_http's accept thread has ended, and with it every new connection.
                Err(error) => {
                    *lock(&self.fault) = Some(format!("connections can no longer be accepted: {error}"));
                    os::wake();
                }
            }
        }
    }
}

/// A worker's own state: buffers that are used again, and what is cached from the metrics.
struct Worker<'a> {
    server: &'a Server,
    answer: Vec<u8>,
    lines: Vec<u8>,
    series: HashMap<(Method, Route, u16), RequestSeries>,
    date: HttpDate,
    flood: Flood,
}

impl<'a> Worker<'a> {
    fn new(server: &'a Server) -> Worker<'a> {
        Worker {
            server,
            answer: Vec::with_capacity(2048),
            lines: Vec::with_capacity(4096),
            series: HashMap::new(),
            date: HttpDate::default(),
            flood: Flood::default(),
        }
    }

    /// Answers in the order of arrival: the writer of a pipelined connection's second request waits for the first
    /// one's, and in any other order a worker would wait for itself.
    fn answer_batch(&mut self, batch: Vec<Request>) {
        let began = Instant::now();
        let app = &self.server.app;
        app.metrics.in_flight.add(batch.len() as i64);
        self.flood.note(&batch);
        let mut read = BatchRead::default();
        for request in batch {
            let whole_lines = self.lines.len();
            // A panic answers 500 (tiny_http does, when it drops the request) and harms nobody else.
            if catch_unwind(AssertUnwindSafe(|| self.answer(request, &mut read, began))).is_err() {
                self.lines.truncate(whole_lines);
            }
            app.metrics.in_flight.dec();
        }
        if !self.lines.is_empty() {
            logging::write_lines(&self.lines);
            self.lines.clear();
        }
    }

    fn answer(&mut self, request: Request, read: &mut BatchRead, began: Instant) {
        let peer = request.remote_addr().copied();
        if peer.is_some_and(|peer| self.server.refused.contains(peer)) {
            return drop_quietly(request);
        }
        if let Some(peer) = peer
            && self.flood.is_flooding(peer)
        {
            self.end_connection(peer, "flood");
            return drop_quietly(request);
        }
        let method = method(request.method());
        let head = Head::of(&request);
        if method == Method::Post && head.refusal.is_none() {
            return self.answer_in_turn(request, peer, read, began);
        }
        let prepared = self.prepare(&head, method, request.url(), peer, read);
        self.send(request, peer, prepared.refusal);
        self.finish(prepared, began);
    }

    /// Answers a request that changes something only after all earlier requests of its connection: one of them may
    /// be refused by another worker, and then this one is not what it seems to be.
    fn answer_in_turn(&mut self, request: Request, peer: Option<SocketAddr>, read: &mut BatchRead, began: Instant) {
        let (headers, version) = (request.headers().to_vec(), request.http_version().clone());
        let (method, target) = (method(request.method()), request.url().to_owned());
        let mut writer = request.into_writer();
        // Waits until the earlier answers are written. If the connection is gone, so is the wish.
        if writer.flush().is_err() || peer.is_some_and(|peer| self.server.refused.contains(peer)) {
            return;
        }
        let prepared = self.prepare(&Head::read(&headers, &target, &version), method, &target, peer, read);
        self.write(writer, peer);
        self.finish(prepared, began);
    }

    /// Makes the answer and the log line, all but its duration, which comes last.
    fn prepare(
        &mut self,
        head: &Head,
        method: Method,
        target: &str,
        peer: Option<SocketAddr>,
        read: &mut BatchRead,
    ) -> Prepared {
        let app = &self.server.app;
        let asked = Asked { method, path: head::path(target), accept: head.accept, if_none_match: head.if_none_match };
        let reply = match head.refusal {
            Some(refusal) => Reply::error(refusal.status, refusal.error),
            None => app.answer(&asked, read),
        };
        let now = Utc::now();
        let own_id;
        let id = match head.request_id.filter(|id| head::is_sane_id(id)) {
            Some(id) => id,
            None => {
                own_id = format!("{:032x}", fastrand::u128(..));
                &own_id
            }
        };
        self.write_answer(&asked, head, &reply, id, now);
        let route = Route::of(asked.path);
        let exchange = Exchange { asked: &asked, route, reply: &reply, id, forwarded_for: head.forwarded_for, peer };
        let is_logged = logging::is_on(exchange.level());
        if is_logged {
            exchange.write_line(&mut self.lines, &app.host, now);
        }
        let series = self
            .series
            .entry((method, route, reply.status))
            .or_insert_with(|| app.metrics.request_series(method.label(), route.pattern(), &reply.status.to_string()));
        Prepared { series: series.clone(), is_logged, refusal: head.refusal.map(|_| head.unread_body) }
    }

    fn finish(&mut self, prepared: Prepared, began: Instant) {
        let duration = began.elapsed();
        prepared.series.total.inc();
        prepared.series.latency.observe(duration.as_secs_f64());
        if prepared.is_logged {
            let (millis, micros) = (duration.as_millis(), duration.as_micros() % 1000);
            // Writing into a Vec cannot fail.
            let _ = writeln!(self.lines, r#","duration_ms":{millis}.{micros:03}}}"#);
        }
    }

    /// Writes head and body of the answer into `self.answer`.
    fn write_answer(&mut self, asked: &Asked, head: &Head, reply: &Reply, id: &str, now: DateTime<Utc>) {
        let app = &self.server.app;
        let body = reply.body.as_bytes();
        let out = &mut self.answer;
        out.clear();
        // Writing into a Vec cannot fail.
        let _ = write!(out, "HTTP/1.1 {} {}\r\nDate: {}\r\n", reply.status, reason(reply.status), self.date.at(now));
        if !matches!(reply.body, Body::Empty) {
            let _ = write!(out, "Content-Type: {}\r\n", reply.content_type);
        }
        if reply.status != 304 {
            let _ = write!(out, "Content-Length: {}\r\n", body.len());
        }
        if let Some(etag) = &reply.etag {
            let _ = write!(out, "ETag: {etag}\r\n");
        }
        if let Some(cache) = reply.cache {
            let _ = write!(out, "X-Cache: {}\r\n", cache.header());
        }
        let is_draining = app.draining.load(SeqCst);
        out.extend_from_slice(match head.connection {
            _ if head.refusal.is_some() || is_draining => b"Connection: close\r\n",
            Connection::Closes => b"Connection: close\r\n",
            Connection::StaysByRequest => b"Connection: keep-alive\r\n",
            Connection::Stays => b"",
        });
        out.extend_from_slice(reply.headers.as_bytes());
        let _ =
            write!(out, "X-Served-By: {}\r\nX-Request-Id: {id}\r\nX-Content-Type-Options: nosniff\r\n\r\n", app.host);
        if asked.method != Method::Head {
            out.extend_from_slice(body);
        }
    }

    /// Sends the answer; see `Prepared` for `refusal`.
    fn send(&mut self, request: Request, peer: Option<SocketAddr>, refusal: Option<Option<u64>>) {
        match (refusal, peer) {
            (None, _) | (Some(_), None) => self.write(request.into_writer(), peer),
            (Some(None), Some(peer)) => {
                let socket = self.refuse(peer, "refused");
                self.write(request.into_writer(), None);
                if let Some(socket) = socket {
                    // Fails only where the connection is closed already.
                    let _ = socket.shutdown(Shutdown::Both);
                }
            }
            (Some(Some(length)), Some(peer)) => {
                // tiny_http reads a body to its end before it hands out the writer, so this answer goes around it.
                if let Some(mut socket) = self.refuse(peer, "refused") {
                    // The connection ends whether or not the client takes the answer.
                    let _ = socket.write_all(&self.answer);
                    os::end(&socket);
                }
                drop_with_body(request, length);
            }
        }
    }

    fn write(&self, mut writer: Box<dyn Write + Send>, peer: Option<SocketAddr>) {
        let written = writer.write_all(&self.answer).and_then(|()| writer.flush());
        drop(writer);
        // The client has not read what it asked for before: it is slow on purpose, or gone.
        if let (Err(error), Some(peer)) = (written, peer)
            && matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
        {
            self.end_connection(peer, "unread");
        }
    }

    fn end_connection(&self, peer: SocketAddr, reason: &str) {
        if let Some(socket) = self.refuse(peer, reason) {
            os::end(&socket);
        }
    }

    /// From now on nothing of this peer is carried out. Gives its socket, if it still exists.
    fn refuse(&self, peer: SocketAddr, reason: &str) -> Option<TcpStream> {
        self.server.app.metrics.connection_closed(reason);
        self.server.refused.add(peer).map(TcpStream::from)
    }
}

/// An answer that stands in the worker's buffer, and what is left to do once it is sent.
struct Prepared {
    series: RequestSeries,
    is_logged: bool,
    /// Set if the connection ends: how long a body tiny_http has not read, if any.
    refusal: Option<Option<u64>>,
}

/// Drops a request whose connection is ended: tiny_http's 500 goes nowhere.
fn drop_quietly(request: Request) {
    let unread = Head::of(&request).unread_body;
    match unread {
        Some(length) => drop_with_body(request, length),
        None => drop(request),
    }
}

/// Drops a request whose body has not been read and whose connection is ended.
///
/// tiny_http first allocates the whole length, and a failed allocation aborts the process. A request that is too long
/// for that is kept for ever instead; the guard counts its connection as stuck.
fn drop_with_body(request: Request, length: u64) {
    let can_allocate = usize::try_from(length).is_ok_and(|length| Vec::<u8>::new().try_reserve_exact(length).is_ok());
    if can_allocate {
        drop(request);
    } else {
        std::mem::forget(request);
    }
}

/// One record of a request, for the log.
struct Exchange<'a> {
    asked: &'a Asked<'a>,
    route: Route,
    reply: &'a Reply,
    id: &'a str,
    forwarded_for: Option<&'a str>,
    peer: Option<SocketAddr>,
}

impl Exchange<'_> {
    fn level(&self) -> Level {
        if self.route.is_probe() { Level::Debug } else { Level::Info }
    }

    /// All of the line but its end.
    fn write_line(&self, out: &mut Vec<u8>, host: &str, now: DateTime<Utc>) {
        /// What is kept of a path; the rest would only fill the disk.
        const PATH: usize = 256;
        let Asked { method, path, .. } = self.asked;
        let path = path.get(..PATH).unwrap_or(path);
        let ts = now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let level = logging::level_name(self.level());
        // Writing into a Vec cannot fail, and all these are strings.
        let _ = write!(out, r#"{{"ts":"{ts}","level":"{level}","msg":"request","method":"{}","path":"#, method.label());
        let _ = logging::write_string(out, path);
        let body = if *method == Method::Head { 0 } else { self.reply.body.as_bytes().len() };
        let _ = write!(out, r#","status":{},"bytes":{body},"#, self.reply.status);
        match self.reply.cache {
            Some(cache) => drop(write!(out, r#""cache":"{}","#, cache.label())),
            None => out.extend_from_slice(br#""cache":null,"#),
        }
        let _ = write!(out, r#""host":"{host}","request_id":"{}","remote":"#, self.id);
        match self.remote() {
            Some(remote) => drop(write!(out, r#""{remote}""#)),
            None => out.extend_from_slice(b"null"),
        }
    }

    /// The client: as the proxy names it, else whoever connected. What is not an address is not believed.
    fn remote(&self) -> Option<std::net::IpAddr> {
        let first = self.forwarded_for.and_then(|list| list.split(',').next());
        first.and_then(|address| address.trim().parse().ok()).or(self.peer.map(|peer| peer.ip()))
    }
}

/// `Date`, formatted once a second.
#[derive(Default)]
struct HttpDate {
    second: i64,
    text: String,
}

impl HttpDate {
    /// IMF-fixdate (RFC 9110, section 5.6.7).
    fn at(&mut self, now: DateTime<Utc>) -> &str {
        if self.second != now.timestamp() || self.text.is_empty() {
            self.second = now.timestamp();
            self.text = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        }
        &self.text
    }
}

/// Counts how far connections are ahead of their answers while the queue is never empty.
///
/// A client that waits for its answers has one request in a batch at most; every further one is sent in advance.
#[derive(Default)]
struct Flood {
    ahead: HashMap<SocketAddr, usize>,
}

impl Flood {
    fn note(&mut self, batch: &[Request]) {
        if batch.len() < BATCH {
            self.ahead.clear();
            return;
        }
        let mut seen = HashSet::with_capacity(BATCH);
        for peer in batch.iter().filter_map(|request| request.remote_addr()) {
            if !seen.insert(peer) {
                *self.ahead.entry(*peer).or_default() += 1;
            }
        }
    }

    fn is_flooding(&self, peer: SocketAddr) -> bool {
        self.ahead.get(&peer).is_some_and(|ahead| *ahead > FLOOD)
    }
}

fn method(method: &tiny_http::Method) -> Method {
    match method {
        tiny_http::Method::Get => Method::Get,
        tiny_http::Method::Head => Method::Head,
        tiny_http::Method::Post => Method::Post,
        tiny_http::Method::Put => Method::Put,
        tiny_http::Method::Delete => Method::Delete,
        tiny_http::Method::Options => Method::Options,
        tiny_http::Method::Patch => Method::Patch,
        _ => Method::Other,
    }
}

/// Source: RFC 9110, section 15.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}
