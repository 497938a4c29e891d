//! The parts of a request without I/O. `cargo bench`.

use divan::{Bencher, black_box};
use mood::http::head::{self, Head};
use mood::http::reply::{Body, Reply};
use mood::http::request::Request;
use mood::http::response::{self, Context};
use mood::http::routes;
use mood::mood::entry::Entry;
use mood::mood::gif;
use mood::mood::page;
use mood::mood::service::Cache;
use mood::observability::access_log::{self, Exchange};
use std::sync::Arc;
use std::time::Duration;

fn main() {
    divan::main();
}

fn today() -> chrono::NaiveDate {
    chrono::Utc::now().date_naive()
}

/// An answer of `GET /mood`.
fn reply() -> Reply {
    Reply {
        status: 200,
        content_type: "application/json",
        body: Body::Entry(Arc::new(Entry::of_day(today()))),
        etag: Some("\"0123456789abcdef\"".into()),
        cache: Some(Cache::Hit),
        headers: "",
    }
}

fn request<'a>(head: &'a Head) -> Request<'a> {
    Request { method: "GET", path: "/mood", head, body: b"" }
}

#[divan::bench]
fn read_a_stored_entry(bencher: Bencher) {
    let json = Entry::of_day(today()).json;
    bencher.bench(|| Entry::parse(black_box(json.as_bytes()), today()));
}

#[divan::bench]
fn find_a_route() -> &'static str {
    routes::find(head::path(black_box("/mood?again=1")), false).pattern
}

#[divan::bench]
fn write_a_response(bencher: Bencher) {
    let (reply, head) = (reply(), Head::default());
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let context = Context { request_id: "0123456789abcdef", host: "replica", date, closes: false };
    let mut out = Vec::with_capacity(2048);
    bencher.bench_local(|| response::write(&mut out, black_box(&reply), &request(&head), &context));
}

#[divan::bench]
fn write_a_log_line(bencher: Bencher) {
    let (reply, head) = (reply(), Head::default());
    let request = request(&head);
    let exchange = Exchange { request: &request, reply: &reply, id: "0123456789abcdef", peer: None };
    let (mut out, now) = (Vec::with_capacity(512), chrono::Utc::now());
    bencher.bench_local(|| {
        out.clear();
        exchange.write_line(&mut out, "info", "replica", black_box(now));
        access_log::end_line(&mut out, Duration::from_micros(123));
    });
}

#[divan::bench]
fn render_the_page(bencher: Bencher) {
    let entry = Entry::of_day(today());
    bencher.bench(|| page::render(black_box(&entry), "replica", Cache::Hit));
}

#[divan::bench]
fn draw_a_gif() -> Vec<u8> {
    gif::animated(black_box(Entry::of_day(today()).mood))
}
