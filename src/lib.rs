//! Mood of the Day: a tiny web service with one mood and one animated GIF per day.
//!
//! A request passes `http` → `mood` → `store`, and its response comes back the same way.
//!
//! - `cli`            the command line: --help, --version, healthcheck
//! - `daemon`         the process around a server: signals, memory, log, panics, and the exit code
//! - `config`         environment → Config
//! - `http`           the server: `http::server::serve` takes a listener, a configuration and a stop signal
//! - `limits`         the limits that tiny_http lacks
//! - `mood`           catalogue, day and zone, stored entry, GIF, page, and the service that combines them
//! - `store`          Redis (pool, circuit breaker) and the embedded store
//! - `observability`  metrics, process metrics, logging, access log
//! - `signals`        SIGTERM and SIGINT as events; `tuning` memory and scheduling
//! - `lock`           locks that outlive a panic
//! - `build_info`     version, commit and target of this binary
//!
//! All `unsafe` code is in `limits`, `observability::process`, `signals` and `tuning`.

pub mod build_info;
pub mod cli;
pub mod config;
#[cfg(test)]
#[path = "../tests/support/corpus.rs"]
mod corpus;
pub mod daemon;
pub mod http;
pub mod limits;
pub mod lock;
pub mod mood;
pub mod observability;
pub mod signals;
pub mod store;
pub mod tuning;
