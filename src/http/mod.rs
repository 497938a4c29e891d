//! HTTP, in the order in which a request passes the modules.
//!
//! - `server`       listens, serves, drains, ends
//! - `pool`         the threads that take requests from tiny_http's queue
//! - `worker`       takes a batch of requests, sends a response to each
//! - `head`         parses the head of a request and refuses bad ones; `request` is what handlers get
//! - `routes`       the route table
//! - `app`          the state that all handlers share
//! - `handlers`     request → `Reply`; `faults` the handler and the state of fault injection
//! - `negotiation`  Accept and If-None-Match
//! - `reply`        a handler's result
//! - `response`     `Reply` → bytes

pub mod app;
pub mod faults;
pub mod handlers;
pub mod head;
pub mod negotiation;
pub mod pool;
pub mod reply;
pub mod request;
pub mod response;
pub mod routes;
pub mod server;
pub mod worker;
