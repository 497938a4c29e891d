//! Metrics and logs.

pub mod access_log;
pub mod logging;
pub mod metrics;
pub mod panics;
pub mod process;
