//! Mood of the Day: a tiny web service that tells the mood of the day.
//!
//! `main.rs` is start-up and shut-down, in the order they happen; everything else is here, so that `bench/hot.rs` reaches it too.
//!
//! - `cli`            the command line: --help, --version, healthcheck
//! - `config`         environment → Config
//! - `http`           from the socket to a reply and back
//! - `limits`         the limits that tiny_http lacks
//! - `mood`           the catalogue, days and zones, and what is made from a mood
//! - `store`          the Redis store and the embedded one
//! - `observability`  metrics and logs
//! - `json`           the strings in JSON; `lock` locks that outlive a panic; `build_info` what this binary was built from
//! - `os`             the system calls that std does not have; all `unsafe` is there and in `limits`

pub mod build_info;
pub mod cli;
pub mod config;
#[cfg(test)]
#[path = "../tests/support/corpus.rs"]
mod corpus;
pub mod http;
pub mod json;
pub mod limits;
pub mod lock;
pub mod mood;
pub mod observability;
pub mod os;
pub mod store;
