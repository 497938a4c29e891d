//! A worker takes requests in batches and sends a response to each of them.

use super::app::{App, BatchRead};
use super::head::{self, Head};
use super::request::{Request, method};
use super::response::{self, Context, HttpDate};
use super::routes::Route;
use crate::limits::{Connections, Gate};
use crate::observability::access_log::{self, Exchange};
use crate::observability::{logging, metrics::RequestSeries};
use chrono::Utc;
use log::Level;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

/// Requests that share one Redis read and one log write.
pub const BATCH: usize = 64;

/// Identifies the metrics of a request.
type SeriesKey = (&'static str, &'static str, u16);

/// A worker's own state: reused buffers, and a cache of metrics.
pub struct Worker<'a> {
    app: &'a App,
    gate: Gate<'a>,
    response: Vec<u8>,
    lines: Vec<u8>,
    /// A few dozen at most, so a list is as fast as a table.
    series: Vec<(SeriesKey, RequestSeries)>,
    date: HttpDate,
}

impl<'a> Worker<'a> {
    pub fn new(app: &'a App, connections: &'a Connections) -> Worker<'a> {
        Worker {
            app,
            gate: Gate::new(connections),
            response: Vec::with_capacity(2048),
            lines: Vec::with_capacity(4096),
            series: Vec::new(),
            date: HttpDate::default(),
        }
    }

    /// Responds in the order of arrival: the writer of a pipelined request waits for the writer of the previous one. In any
    /// other order, a worker would wait for itself.
    pub fn answer_batch(&mut self, batch: Vec<tiny_http::Request>) {
        let began = Instant::now();
        let app = self.app;
        app.metrics.in_flight.add(batch.len() as i64);
        self.gate.note(&batch, batch.len() == BATCH);
        let mut read = BatchRead::default();
        for request in batch {
            let whole_lines = self.lines.len();
            // After a panic, tiny_http sends a 500 when it drops the request. Other requests are not affected.
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
        let Some(request) = self.gate.admit(request) else { return };
        let (method, path) = (method(request.method()), head::path(request.url()));
        let (head, route) = (Head::of(&request), self.app.route(path));
        if method == "POST" && head.refusal.is_none() {
            // Without a body, tiny_http's reader could only send a 100.
            let has_body = !head.asks_for_upgrade && request.body_length().is_some_and(|length| length > 0);
            return self.answer_in_turn(request, route, has_body, read, began);
        }
        let (is_refused, unread) = (head.refusal.is_some(), head.unread_body);
        let peer = request.remote_addr().copied();
        let sent = self.prepare(route, &Request { method, path, head: &head, body: b"" }, peer, read);
        if is_refused {
            self.gate.refuse(request, &self.response, unread);
        } else {
            self.gate.send(request.into_writer(), &self.response, peer);
        }
        sent.finish(&mut self.lines, began);
    }

    /// Executes a POST after the responses to all earlier requests of its connection. Another worker may refuse one of them; then
    /// the bytes of this one may be part of a body.
    fn answer_in_turn(
        &mut self,
        mut request: tiny_http::Request,
        route: &'static Route,
        has_body: bool,
        read: &mut BatchRead,
        began: Instant,
    ) {
        let mut body = Vec::new();
        if has_body {
            // tiny_http has read the body already. It has 1 KiB at most.
            let _ = request.as_reader().read_to_end(&mut body);
        }
        let peer = request.remote_addr().copied();
        let (headers, version) = (request.headers().to_vec(), request.http_version().clone());
        let (method, target) = (method(request.method()), request.url().to_owned());
        let mut writer = request.into_writer();
        // Waits until the earlier responses are written. Without a connection, the request is not executed.
        if writer.flush().is_err() {
            return;
        }
        if peer.is_some_and(|peer| self.gate.is_refused(peer)) {
            return self.gate.close(peer, "refused");
        }
        let head = Head::read(&headers, &target, &version);
        let request = Request { method, path: head::path(&target), head: &head, body: &body };
        let sent = self.prepare(route, &request, peer, read);
        self.gate.send(writer, &self.response, peer);
        sent.finish(&mut self.lines, began);
    }

    /// Writes the response and the log line, without its duration, into their buffers.
    fn prepare(
        &mut self,
        route: &'static Route,
        request: &Request,
        peer: Option<SocketAddr>,
        read: &mut BatchRead,
    ) -> Prepared {
        let (app, head) = (self.app, request.head);
        let reply = app.reply(route, request, read);
        let now = Utc::now();
        let own_id;
        let id = match head.request_id.filter(|id| head::is_valid_id(id)) {
            Some(id) => id,
            None => {
                own_id = format!("{:032x}", fastrand::u128(..));
                &own_id
            }
        };
        let is_aged = peer.is_some_and(|peer| self.gate.is_aged(peer));
        let closes = head.refusal.is_some() || app.draining.load(SeqCst) || is_aged;
        let context = Context { request_id: id, host: &app.host, date: self.date.at(now), closes };
        response::write(&mut self.response, &reply, request, &context);
        let (level, label) = if route.is_probe() { (Level::Debug, "debug") } else { (Level::Info, "info") };
        let is_logged = logging::is_on(level);
        if is_logged {
            let exchange = Exchange { request, reply: &reply, id, peer };
            exchange.write_line(&mut self.lines, label, &app.host, now);
        }
        Prepared { series: self.series_of((request.method, route.pattern, reply.status)), is_logged }
    }

    fn series_of(&mut self, key: SeriesKey) -> RequestSeries {
        if let Some((_, series)) = self.series.iter().find(|(known, _)| *known == key) {
            return series.clone();
        }
        let (method, pattern, status) = key;
        let series = self.app.metrics.request_series(method, pattern, &status.to_string());
        self.series.push((key, series.clone()));
        series
    }
}

/// What is left to do after a response was sent.
struct Prepared {
    series: RequestSeries,
    is_logged: bool,
}

impl Prepared {
    /// Counts the response, and ends its log line in `lines`.
    fn finish(&self, lines: &mut Vec<u8>, began: Instant) {
        let duration = began.elapsed();
        self.series.total.inc();
        self.series.latency.observe(duration.as_secs_f64());
        if self.is_logged {
            access_log::end_line(lines, duration);
        }
    }
}
