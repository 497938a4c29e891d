//! The state that all handlers share.

use super::faults::Faults;
use super::reply::Reply;
use super::request::Request;
use super::routes::{self, Route};
use crate::config::Config;
use crate::mood::entry::Entry;
use crate::mood::service::{Cache, Service};
use crate::observability::metrics::Metrics;
use crate::store::{Store, memory::MemoryStore, redis::RedisStore};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub struct App {
    pub service: Service,
    pub metrics: Arc<Metrics>,
    pub host: String,
    pub draining: AtomicBool,
    /// `None`: fault injection is off, and its path does not exist.
    pub faults: Option<Faults>,
}

/// The day's mood for one batch of requests. It is read once, after the last of them arrived.
#[derive(Default)]
pub struct BatchRead(Option<(Arc<Entry>, Cache)>);

impl App {
    pub fn new(config: &Config, metrics: Arc<Metrics>, host: String) -> App {
        let store: Box<dyn Store> = match config.redis.clone() {
            None => Box::new(MemoryStore::default()),
            Some(client) => {
                let metrics = Arc::clone(&metrics);
                Box::new(RedisStore::new(client, config.redis_pool_size, config.redis_timeout, metrics))
            }
        };
        App {
            service: Service::new(store, Arc::clone(&metrics), config.zone),
            metrics,
            host,
            draining: AtomicBool::new(false),
            faults: config.faults.then(Faults::default),
        }
    }

    pub fn route(&self, path: &str) -> &'static Route {
        routes::find(path, self.faults.is_some())
    }

    pub fn reply(&self, route: &Route, request: &Request, batch: &mut BatchRead) -> Reply {
        match (&self.faults, request.head.refusal) {
            (_, Some(refusal)) => Reply::error(refusal.status, refusal.error),
            (Some(faults), None) if route.may_fail() && faults.draw() => {
                Reply::error(500, "a fault on purpose (POST /faults)")
            }
            (_, None) if !route.methods.contains(request.method) => route.methods.not_allowed(),
            (_, None) => (route.handler)(self, request, batch),
        }
    }

    pub fn today(&self, batch: &mut BatchRead) -> (Arc<Entry>, Cache) {
        let (entry, cache) = batch.0.get_or_insert_with(|| self.service.today()).clone();
        self.metrics.cache_request(cache.label());
        (entry, cache)
    }
}

impl BatchRead {
    /// Later requests of the batch must see a change that this one makes.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}
