//! The server as a library function in the process of the tests.

mod support;

use mood::config::Config;
use mood::http::server::{self, Failure};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use support::{Mood, read_whole_answer, wait_for};

struct Server {
    client: Mood,
    stop: Sender<()>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Server {
    /// On a free port, or on the one that `environment` gives.
    fn start(environment: &'static [(&str, &str)], address: &str) -> Server {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let config = Config::read(variable).unwrap();
        let listener = server::listen(address.parse().unwrap()).unwrap();
        let client = Mood::at(listener.local_addr().unwrap());
        let (stop, stopped) = mpsc::channel();
        let wait = move |time| stopped.recv_timeout(time) != Err(RecvTimeoutError::Timeout);
        let thread = thread::spawn(move || server::serve(listener, &config, wait));
        Server { client, stop, thread }
    }

    fn stop(self) -> Result<(), Failure> {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

#[test]
fn it_serves_on_a_free_port_until_it_is_stopped() {
    let server = Server::start(&[("DRAIN_MS", "0")], "127.0.0.1:0");
    let address = server.client.address;
    assert_eq!(server.client.get("/mood").status, 200);
    server.stop().unwrap();
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
}

#[test]
fn it_drains_before_it_ends() {
    let server = Server::start(&[("DRAIN_MS", "500")], "127.0.0.1:0");
    let mut kept = BufReader::new(server.client.connect());
    let mut ask = |path: &str| {
        write!(kept.get_mut(), "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        read_whole_answer(&mut kept).unwrap()
    };
    assert_eq!(ask("/readyz").0, 200);
    let began = Instant::now();
    server.stop.send(()).unwrap();
    wait_for("/readyz turns 503", || (server.client.get("/readyz").status == 503).then_some(()));
    let (status, headers, _) = ask("/mood");
    assert!(status == 200 && headers.contains(&"connection: close".to_owned()), "{headers:?}");
    server.thread.join().unwrap().unwrap();
    assert!((500..2000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[test]
fn a_second_stop_interrupts_the_drain() {
    let server = Server::start(&[("DRAIN_MS", "1500")], "127.0.0.1:0");
    let began = Instant::now();
    server.stop.send(()).unwrap();
    assert!(matches!(server.stop(), Err(Failure::Interrupted)));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn the_next_server_on_the_same_port_starts_from_zero() {
    let first = Server::start(&[("DRAIN_MS", "0")], "127.0.0.1:0");
    let address = first.client.address.to_string();
    let idle: Vec<_> = (0..20).map(|_| first.client.connect()).collect();
    assert_eq!(first.client.request("POST", "/refresh", &[]).json()["refreshed"], 1);
    first.stop().unwrap();
    idle.iter().for_each(|mut stream| assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the server closed it"));
    let second = Server::start(&[("DRAIN_MS", "0")], &address);
    assert_eq!(second.client.get("/mood").json()["refreshed"], 0);
    assert!(second.client.metric("http_connections_open") < 5.0);
    second.stop().unwrap();
}

#[test]
fn a_second_server_waits_for_the_end_of_the_first() {
    let first = Server::start(&[("DRAIN_MS", "0")], "127.0.0.1:0");
    assert_eq!(first.client.get("/livez").status, 200);
    let second = Server::start(&[("DRAIN_MS", "0")], "127.0.0.1:0");
    let mut early = BufReader::new(second.client.connect());
    early.get_mut().write_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(first.client.get("/livez").status, 200);
    first.stop().unwrap();
    assert_eq!(read_whole_answer(&mut early).unwrap().0, 200);
    second.stop().unwrap();
}
