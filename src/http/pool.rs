//! The threads that respond to tiny_http's requests.

use super::app::App;
use super::worker::{BATCH, Worker};
use crate::limits::Connections;
use std::io;
use std::mem::ManuallyDrop;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub struct Pool {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    app: Arc<App>,
    connections: &'static Connections,
}

/// The queue of parsed requests.
struct Queue {
    /// Never dropped: it would connect to its own port, and drop requests whose bodies cannot be allocated.
    http: ManuallyDrop<tiny_http::Server>,
    is_stopping: AtomicBool,
}

impl Pool {
    /// Starts accepting connections, reading requests and responding to them.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(
        listener: TcpListener,
        workers: usize,
        app: &Arc<App>,
        connections: &'static Connections,
    ) -> io::Result<Pool> {
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let queue = Arc::new(Queue { http: ManuallyDrop::new(http), is_stopping: AtomicBool::new(false) });
        let start = |number| {
            let (queue, app) = (Arc::clone(&queue), Arc::clone(app));
            let work = move || queue.work(&mut Worker::new(&app, connections));
            thread::Builder::new().name(format!("worker-{number}")).spawn(work)
        };
        let workers = (0..workers).map(start).collect::<io::Result<_>>()?;
        Ok(Pool { queue, workers, app: Arc::clone(app), connections })
    }

    /// Ends the workers after their batches, then responds to the requests that still wait. At the deadline this function
    /// returns; a request that takes longer delays only the thread that was started for this.
    pub fn end(self, deadline: Instant) {
        self.queue.is_stopping.store(true, SeqCst);
        let Ok(ending) = thread::Builder::new().spawn(move || self.finish()) else { return };
        while !ending.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(self) {
        let Pool { queue, workers, app, connections } = self;
        let unblocks = workers.len();
        workers.iter().for_each(|_| queue.http.unblock());
        for worker in workers {
            // A panic has been logged, and ends no other worker.
            let _ = worker.join();
        }
        let mut last = Worker::new(&app, connections);
        // An `unblock` that no worker took looks like the end of the queue.
        for _ in 0..=unblocks {
            while let Ok(Some(request)) = queue.http.try_recv() {
                last.answer_batch(vec![request]);
            }
        }
    }
}

impl Queue {
    fn work(&self, worker: &mut Worker) {
        while !self.is_stopping.load(SeqCst) {
            // An error is an `unblock`, or the end of accepting, which `Connections::sweep` reports.
            let Ok(first) = self.http.recv() else { continue };
            let mut batch = vec![first];
            // An `unblock` for a sleeping worker may end this loop. Then this worker ends in its place.
            while batch.len() < BATCH
                && let Ok(Some(request)) = self.http.try_recv()
            {
                batch.push(request);
            }
            worker.answer_batch(batch);
        }
    }
}
