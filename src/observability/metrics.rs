//! The metrics of a server: names, labels and buckets in one table. `process` has those of the process.

use super::process;
use crate::limits::CLOSE_REASONS;
use crate::lock::lock;
use chrono::Utc;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::sync::Mutex;

/// Prometheus 3 rejects a scrape with an unknown type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// In seconds. From a response out of memory (50 µs) to a broken one (1 s). 25 ms is the service level.
const LATENCY_BUCKETS: [f64; 14] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    latency: HistogramVec,
    pub in_flight: IntGauge,
    cache_requests: IntCounterVec,
    pub refreshes: IntCounter,
    mood: IntGaugeVec,
    shown: Mutex<Option<(&'static str, String)>>,
    answered: Gauge,
    pool: IntGaugeVec,
    redis_errors: IntCounterVec,
    pub foreign_values: IntCounter,
    pub connections_open: IntGauge,
    pub connections_stuck: IntGauge,
    closed: IntCounterVec,
    pub faults_active: IntGauge,
}

/// The two series that every request with one method, path and status increments.
#[derive(Clone)]
pub struct RequestSeries {
    pub total: IntCounter,
    pub latency: Histogram,
}

impl Metrics {
    #[rustfmt::skip]
    /// `host` is this replica's name in log lines and `X-Served-By`.
    pub fn new(host: &str) -> Metrics {
        let registry = Registry::new();
        let metrics = Metrics {
            requests: counters(&registry, "http_requests_total", "Requests answered.", &["method", "path", "status"]),
            latency: register(&registry, HistogramVec::new(HistogramOpts::new("http_request_latency_seconds", "Time from taking a request to having written its answer.").buckets(LATENCY_BUCKETS.to_vec()), &["method", "path"])),
            in_flight: gauge(&registry, "http_requests_in_flight", "Requests taken by a worker and not answered yet."),
            cache_requests: counters(&registry, "mood_cache_requests_total", "Reads of the day's mood or GIF: hit, miss, or bypass (the store could not be used).", &["result"]),
            refreshes: counter(&registry, "mood_refreshes_total", "Moods replaced by POST /refresh."),
            mood: gauges(&registry, "mood_info", "The mood this replica answered last; always 1.", &["mood", "date"]),
            shown: Mutex::new(None),
            answered: register(&registry, Gauge::new("mood_answered_timestamp_seconds", "When this replica last answered a mood, in Unix time: of several replicas' mood_info the newest is the mood.")),
            pool: gauges(&registry, "redis_pool_connections", "Connections of the pool, by state.", &["state"]),
            redis_errors: counters(&registry, "redis_errors_total", "Failed Redis operations: connect, timeout, io, reply (Redis refused), or busy (no free connection, or too many updates).", &["kind"]),
            foreign_values: counter(&registry, "mood_foreign_values_total", "Values in the store that were not ours and were replaced."),
            connections_open: gauge(&registry, "http_connections_open", "Open connections, stuck ones included."),
            connections_stuck: gauge(&registry, "http_connections_stuck", "Connections whose thread hangs for good; past a limit the replica drains and exits."),
            closed: counters(&registry, "http_connections_closed_total", "Connections closed by this side: idle, slow, oversized, excess, unread, flood, or refused.", &["reason"]),
            faults_active: gauge(&registry, "mood_faults_active", "1 while this replica fails on purpose (POST /faults)."),
            registry,
        };
        let build = gauges(&metrics.registry, "mood_build_info", "The running build; always 1.", &["version", "commit"]);
        build.with_label_values(&[crate::build_info::VERSION, crate::build_info::COMMIT]).set(1);
        let start = gauges(&metrics.registry, "mood_start_time_seconds", "When the replica on this host started, in Unix time. Prometheus knows replicas by address; this names the host.", &["host"]);
        start.with_label_values(&[host]).set(Utc::now().timestamp());
        // These start at zero: a rate misses the first event of a series that appears with it.
        for result in ["hit", "miss", "bypass"] {
            metrics.cache_requests.with_label_values(&[result]);
        }
        for kind in ["connect", "timeout", "io", "reply", "busy"] {
            metrics.redis_errors.with_label_values(&[kind]);
        }
        for reason in CLOSE_REASONS {
            metrics.closed.with_label_values(&[reason]);
        }
        metrics
    }

    pub fn request_series(&self, method: &str, path: &str, status: &str) -> RequestSeries {
        RequestSeries {
            total: self.requests.with_label_values(&[method, path, status]),
            latency: self.latency.with_label_values(&[method, path]),
        }
    }

    pub fn cache_request(&self, result: &str) {
        self.cache_requests.with_label_values(&[result]).inc();
    }

    pub fn redis_error(&self, kind: &str) {
        self.redis_errors.with_label_values(&[kind]).inc();
    }

    pub fn connection_closed(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    /// Makes `mood_info` show this mood and no other.
    pub fn show_mood(&self, slug: &'static str, date: String) {
        let mut shown = lock(&self.shown);
        if let Some((slug, date)) = shown.take() {
            // Fails only if there is none.
            let _ = self.mood.remove_label_values(&[slug, &date]);
        }
        self.mood.with_label_values(&[slug, &date]).set(1);
        *shown = Some((slug, date));
    }

    /// A mood has been answered just now.
    pub fn answered(&self) {
        self.answered.set(Utc::now().timestamp_millis() as f64 / 1000.0);
    }

    /// All metrics in the text format 0.0.4. The argument is the number of pooled connections: (in use, idle).
    pub fn render(&self, (in_use, idle): (u32, u32)) -> Vec<u8> {
        self.pool.with_label_values(&["in_use"]).set(in_use.into());
        self.pool.with_label_values(&["idle"]).set(idle.into());
        let mut text = Vec::with_capacity(16 * 1024);
        // Writing into a Vec cannot fail, and the registry omits empty families.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!("metrics could not be written: {error}");
        }
        text.extend_from_slice(process::render().as_bytes());
        text
    }
}

fn register<M: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<M>) -> M {
    // The first test fails if a name or label in the table above is invalid or exists twice.
    let metric = metric.expect("a valid name");
    registry.register(Box::new(metric.clone())).expect("a new name");
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}
