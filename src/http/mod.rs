//! From the socket to a reply and back: listener, workers, request head, routes, response.

pub mod faults;
pub mod head;
pub mod response;
pub mod routes;
pub mod server;
pub mod worker;
