//! Mood of the Day: a tiny web service that tells the mood of the day.
//!
//! `main.rs` is start-up and shut-down, in the order they happen; everything else is here, so that `bench/hot.rs` reaches it too.
//!
//! - `config`    environment → Config
//! - `server`    tiny_http: the listener, the workers that answer its requests, and their end
//! - `worker`    takes requests in batches, has each answered, sends the answers
//! - `limits`    the limits that tiny_http lacks: idle, slow, oversized, excess, flooding and stuck connections
//! - `head`      what is read out of a request's head, and which requests are refused
//! - `faults`    failing on purpose, for those who asked for it
//! - `routes`    request → Reply
//! - `service`   the mood of today: clock, store and catalogue
//! - `store`     the Redis store and the embedded one
//! - `entry`     the day's mood as it is stored and answered
//! - `mood`      the catalogue; date → mood
//! - `gif`       mood → animated GIF
//! - `page`      mood → HTML
//! - `day`       today and its end; `zone` IANA names and POSIX rules of time zones
//! - `metrics`   every metric; `process` those of the process
//! - `response`  Reply → bytes; `access_log` Reply → log line
//! - `logging`   JSON lines; `json` the strings in them
//! - `command`   the command line: --help, --version, healthcheck
//! - `lock`      locks that outlive a panic
//! - `os`        the system calls that std does not have; all `unsafe` is there and in `limits`

pub mod access_log;
pub mod build;
pub mod command;
pub mod config;
#[cfg(test)]
#[path = "../tests/support/corpus.rs"]
mod corpus;
pub mod day;
pub mod entry;
pub mod faults;
pub mod gif;
pub mod hash;
pub mod head;
pub mod json;
pub mod limits;
pub mod lock;
pub mod logging;
pub mod metrics;
pub mod mood;
pub mod os;
pub mod page;
pub mod process;
pub mod response;
pub mod routes;
pub mod server;
pub mod service;
pub mod store;
pub mod worker;
pub mod zone;
