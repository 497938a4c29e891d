//! A worker: takes requests in batches, has each answered, sends the answers, and ends connections that misbehave.

use crate::http::head::{self, Head};
use crate::http::response::{self, Context, HttpDate};
use crate::http::routes::{App, BatchRead, Method, Reply, Request, Route};
use crate::limits::flood::Flood;
use crate::limits::{self, Connections, Standing};
use crate::observability::access_log::{self, Exchange};
use crate::observability::logging;
use crate::observability::metrics::RequestSeries;
use chrono::Utc;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

/// Requests answered with one Redis read and one log write.
pub const BATCH: usize = 64;

/// What tells one series of requests from another.
type SeriesKey = (Method, Route, u16);

/// A worker's own state: buffers that are used again, and what is cached from the metrics.
pub struct Worker<'a> {
    app: &'a App,
    connections: &'a Connections,
    answer: Vec<u8>,
    lines: Vec<u8>,
    /// A few dozen at most: a list is searched as fast as a table.
    series: Vec<(SeriesKey, RequestSeries)>,
    date: HttpDate,
    flood: Flood,
}

impl<'a> Worker<'a> {
    pub fn new(app: &'a App, connections: &'a Connections) -> Worker<'a> {
        Worker {
            app,
            connections,
            answer: Vec::with_capacity(2048),
            lines: Vec::with_capacity(4096),
            series: Vec::new(),
            date: HttpDate::default(),
            flood: Flood::default(),
        }
    }

    /// Answers in the order of arrival: the writer of a pipelined connection's second request waits for the first
    /// one's, and in any other order a worker would wait for itself.
    pub fn answer_batch(&mut self, batch: Vec<tiny_http::Request>) {
        let began = Instant::now();
        let app = self.app;
        app.metrics.in_flight.add(batch.len() as i64);
        if batch.len() == BATCH {
            let peers: Vec<_> = batch.iter().filter_map(|request| request.remote_addr().copied()).collect();
            self.flood.note(&peers);
        } else {
            self.flood.clear();
        }
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

    fn answer(&mut self, request: tiny_http::Request, read: &mut BatchRead, began: Instant) {
        let peer = request.remote_addr().copied();
        if let Some(peer) = peer
            && let Some(reason) = self.rejection(peer)
        {
            // Also a connection that this peer opened later.
            self.end_connection(peer, reason);
            return self.drop_quietly(request);
        }
        let method = method(request.method());
        let head = Head::of(&request);
        if method == Method::Post && head.refusal.is_none() {
            let reads_body = !head.asks_for_upgrade && self.app.route_of(head::path(request.url())) == Route::Faults;
            return self.answer_in_turn(request, reads_body, peer, read, began);
        }
        let prepared = self.prepare(&head, method, request.url(), b"", peer, read);
        self.send(request, peer, prepared.after);
        prepared.finish(&mut self.lines, began);
    }

    /// Answers a request that changes something only after all earlier requests of its connection: one of them may
    /// be refused by another worker, and then this one is not what it seems to be.
    fn answer_in_turn(
        &mut self,
        mut request: tiny_http::Request,
        reads_body: bool,
        peer: Option<SocketAddr>,
        read: &mut BatchRead,
        began: Instant,
    ) {
        let mut body = Vec::new();
        if reads_body {
            // tiny_http has read it already: it is no longer than 1 KiB. What cannot be read is no JSON.
            let _ = request.as_reader().read_to_end(&mut body);
        }
        let (headers, version) = (request.headers().to_vec(), request.http_version().clone());
        let (method, target) = (method(request.method()), request.url().to_owned());
        let mut writer = request.into_writer();
        // Waits until the earlier answers are written. If the connection is gone, so is the wish.
        if writer.flush().is_err() {
            return;
        }
        if let Some(peer) = peer
            && self.connections.standing(peer) == Standing::Refused
        {
            return self.end_connection(peer, "refused");
        }
        let prepared = self.prepare(&Head::read(&headers, &target, &version), method, &target, &body, peer, read);
        self.write(writer, peer);
        prepared.finish(&mut self.lines, began);
    }

    /// Makes the answer and the log line, all but its duration, which comes last.
    fn prepare(
        &mut self,
        head: &Head,
        method: Method,
        target: &str,
        body: &[u8],
        peer: Option<SocketAddr>,
        read: &mut BatchRead,
    ) -> Prepared {
        let app = self.app;
        let path = head::path(target);
        let request = Request { method, path, accept: head.accept, if_none_match: head.if_none_match, body };
        let route = app.route_of(path);
        let reply = match head.refusal {
            Some(refusal) => Reply::error(refusal.status, refusal.error),
            None if app.fails(route) => Reply::error(500, "a fault on purpose (POST /faults)"),
            None => app.answer(&request, read),
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
        let is_aged = peer.is_some_and(|peer| self.connections.standing(peer) == Standing::Aged);
        let ends = app.draining.load(SeqCst) || is_aged;
        let context = Context { method, head, request_id: id, host: &app.host, ends };
        response::write(&mut self.answer, &reply, &context, self.date.at(now));
        let exchange =
            Exchange { request: &request, route, reply: &reply, id, forwarded_for: head.forwarded_for, peer };
        let is_logged = logging::is_on(exchange.level());
        if is_logged {
            exchange.write_line(&mut self.lines, &app.host, now);
        }
        let series = self.series_of((method, route, reply.status));
        let after = match (head.refusal, head.unread_body) {
            (None, _) => After::Next,
            (Some(_), None) => After::End,
            (Some(_), Some(length)) => After::EndUnread(length),
        };
        Prepared { series, is_logged, after }
    }

    fn series_of(&mut self, key: SeriesKey) -> RequestSeries {
        if let Some((_, series)) = self.series.iter().find(|(known, _)| *known == key) {
            return series.clone();
        }
        let (method, route, status) = key;
        let series = self.app.metrics.request_series(method.label(), route.pattern(), &status.to_string());
        self.series.push((key, series.clone()));
        series
    }

    fn send(&mut self, request: tiny_http::Request, peer: Option<SocketAddr>, after: After) {
        let sockets = match (after, peer) {
            (After::Next, _) | (_, None) => return self.write(request.into_writer(), peer),
            (_, Some(peer)) => self.connections.refuse(peer, "refused"),
        };
        match after {
            After::EndUnread(length) => {
                // tiny_http reads a body to its end before it hands out the writer, so this answer goes around it.
                for mut socket in sockets {
                    // The connection ends whether or not the client takes the answer.
                    let _ = socket.write_all(&self.answer);
                    limits::end(&socket);
                }
                self.drop_with_body(request, length);
            }
            _ => {
                self.write(request.into_writer(), None);
                for socket in sockets {
                    // Fails only where the connection is closed already.
                    let _ = socket.shutdown(Shutdown::Both);
                }
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
        for socket in self.connections.refuse(peer, reason) {
            limits::end(&socket);
        }
    }

    /// Why nothing that `peer` sends is carried out, if so.
    fn rejection(&self, peer: SocketAddr) -> Option<&'static str> {
        match self.connections.standing(peer) {
            Standing::Refused => Some("refused"),
            _ => self.flood.is_flooding(peer).then_some("flood"),
        }
    }

    /// Drops a request whose connection is closed: tiny_http's 500 reaches nobody.
    fn drop_quietly(&self, request: tiny_http::Request) {
        let unread = Head::of(&request).unread_body;
        match unread {
            Some(length) => self.drop_with_body(request, length),
            None => drop(request),
        }
    }

    /// Drops a request whose body has not been read and whose connection is ended.
    ///
    /// tiny_http first allocates the whole length, and a failed allocation aborts the process. A request that is too long
    /// for that is leaked instead; its connection counts as stuck.
    fn drop_with_body(&self, request: tiny_http::Request, length: u64) {
        let can_allocate =
            usize::try_from(length).is_ok_and(|length| Vec::<u8>::new().try_reserve_exact(length).is_ok());
        if can_allocate {
            return drop(request);
        }
        if let Some(peer) = request.remote_addr() {
            self.connections.forget_peer(*peer);
        }
        std::mem::forget(request);
    }
}

/// An answer that stands in the worker's buffer, and what is left to do once it is sent.
struct Prepared {
    series: RequestSeries,
    is_logged: bool,
    after: After,
}

/// The fate of the connection after a response.
#[derive(Clone, Copy)]
enum After {
    /// The next request, if the client may send one.
    Next,
    End,
    /// It ends, and tiny_http has not read a body of this length.
    EndUnread(u64),
}

impl Prepared {
    /// Counts what was sent, and ends its log line in `lines`.
    fn finish(&self, lines: &mut Vec<u8>, began: Instant) {
        let duration = began.elapsed();
        self.series.total.inc();
        self.series.latency.observe(duration.as_secs_f64());
        if self.is_logged {
            access_log::end_line(lines, duration);
        }
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
