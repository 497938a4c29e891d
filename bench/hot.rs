//! The pure parts that every request passes, and those that only some do. `cargo bench`.

use divan::{Bencher, black_box};
use mood::http::head::{self, Head};
use mood::http::response::{self, Context};
use mood::http::routes::{Body, Method, Reply, Request, Route};
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

fn request() -> Request<'static> {
    Request { method: Method::Get, path: "/mood", accept: None, if_none_match: None, body: b"" }
}

#[divan::bench]
fn read_a_stored_entry(bencher: Bencher) {
    let json = Entry::of_day(today()).json;
    bencher.bench(|| Entry::parse(black_box(json.as_bytes()), today()));
}

#[divan::bench]
fn find_a_route() -> Route {
    Route::of(black_box(head::path("/mood?again=1")))
}

#[divan::bench]
fn write_a_response(bencher: Bencher) {
    let (reply, head) = (reply(), Head::default());
    let context =
        Context { method: Method::Get, head: &head, request_id: "0123456789abcdef", host: "replica", ends: false };
    let mut out = Vec::with_capacity(2048);
    bencher.bench_local(|| response::write(&mut out, black_box(&reply), &context, "Sun, 06 Nov 1994 08:49:37 GMT"));
}

#[divan::bench]
fn write_a_log_line(bencher: Bencher) {
    let (reply, request) = (reply(), request());
    let exchange = Exchange {
        request: &request,
        route: Route::Mood,
        reply: &reply,
        id: "0123456789abcdef",
        forwarded_for: None,
        peer: None,
    };
    let (mut out, now) = (Vec::with_capacity(512), chrono::Utc::now());
    bencher.bench_local(|| {
        out.clear();
        exchange.write_line(&mut out, "replica", black_box(now));
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
