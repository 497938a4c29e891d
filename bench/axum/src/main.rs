//! GET /mood as an axum service would have it: one Redis GET, JSON, metrics, a JSON log line. For comparison only.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::get};
use prometheus::{Encoder, HistogramVec, IntCounterVec, TextEncoder};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};
use std::time::Instant;

#[derive(Clone)]
struct App {
    redis: ConnectionManager,
    requests: IntCounterVec,
    latency: HistogramVec,
}

#[derive(Serialize, Deserialize)]
struct Mood {
    date: String,
    mood: String,
    emoji: String,
    message: String,
}

async fn mood(State(mut app): State<App>) -> Result<Json<Mood>, StatusCode> {
    let date = chrono::Utc::now().date_naive().to_string();
    let key = format!("mood:{date}");
    let stored: Option<String> = app.redis.get(&key).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    if let Some(mood) = stored.and_then(|text| serde_json::from_str(&text).ok()) {
        return Ok(Json(mood));
    }
    let mood = Mood {
        date,
        mood: "Calm".into(),
        emoji: "😌".into(),
        message: "Nothing is so urgent that it cannot wait for a breath.".into(),
    };
    let text = serde_json::to_string(&mood).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let _: () = app.redis.set_ex(&key, text, 86_400).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(mood))
}

async fn metrics() -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&prometheus::gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), began.elapsed().as_secs_f64());
    app.requests.with_label_values(&[method.as_str(), &path, &status.to_string()]).inc();
    app.latency.with_label_values(&[method.as_str(), &path]).observe(took);
    tracing::info!(method = method.as_str(), path, status, duration_ms = took * 1000.0, "request");
    response
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let listen = std::env::var("LISTEN_ADDR").unwrap_or_else(|_| "0.0.0.0:5000".into());
    let app = App {
        redis: redis::Client::open(redis)?.get_connection_manager().await?,
        requests: prometheus::register_int_counter_vec!("http_requests_total", "Requests.", &["method", "path", "status"])?,
        latency: prometheus::register_histogram_vec!("http_request_latency_seconds", "Latency.", &["method", "path"])?,
    };
    let router = Router::new()
        .route("/mood", get(mood))
        .route_layer(middleware::from_fn_with_state(app.clone(), observe))
        .route("/metrics", get(metrics))
        .with_state(app);
    let listener = tokio::net::TcpListener::bind(listen).await?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async {
            let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
            term.recv().await;
        })
        .await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().json().init();
    // The default runtime, unless the comparison asks for the one with a single thread.
    let mut builder = match std::env::var("RUNTIME").as_deref() {
        Ok("current_thread") => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()?.block_on(serve())
}
