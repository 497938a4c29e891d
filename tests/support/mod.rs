//! Starts the real binary and a real Redis on free ports, and talks to them. Everything ends with its fixture.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod corpus;

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What a test waits for at most, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Calls `probe` until it gives something.
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

pub fn within<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The binary under test: the release build that `scripts/test.sh` names, or the one that cargo just made.
pub fn binary() -> PathBuf {
    std::env::var_os("MOOD_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_mood").into(), PathBuf::from)
}

/// A running service.
pub struct Mood {
    /// `None`: it runs on another machine (tests/stack/test_arm64.py).
    child: Option<Child>,
    pub address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Mood {
    /// With the embedded store.
    pub fn start() -> Mood {
        match std::env::var("MOOD_MACHINE") {
            Ok(address) => Mood::started_anew(address.parse().expect("an address and a port")),
            Err(_) => Mood::with(&[]),
        }
    }

    /// On another machine, which starts it anew when it is asked at a port for that.
    fn started_anew(address: SocketAddr) -> Mood {
        let restart = std::env::var("MOOD_MACHINE_RESTART").expect("where to ask for a new start");
        let mut stream = TcpStream::connect(restart).expect("the machine answers");
        assert_eq!(read_all(&mut stream), "ready\n");
        Mood::at(address)
    }

    /// One that other means start and end.
    pub fn at(address: SocketAddr) -> Mood {
        Mood { child: None, address, lines: Arc::default() }
    }

    pub fn with_redis(redis: &Redis) -> Mood {
        Mood::with(&[("REDIS_URL", &redis.url())])
    }

    pub fn with(environment: &[(&str, &str)]) -> Mood {
        Mood::of(Mood::command().envs(environment.iter().copied()))
    }

    /// Its process may open only so many files, whatever the machine allows.
    pub fn with_open_files(files: u64, environment: &[(&str, &str)]) -> Mood {
        let mut command = Mood::command();
        command.envs(environment.iter().copied());
        // SAFETY: setrlimit may be called between fork and exec.
        unsafe { command.pre_exec(move || set_open_files(files, files)) };
        Mood::of(&mut command)
    }

    fn of(command: &mut Command) -> Mood {
        let (reader, writer) = std::io::pipe().unwrap();
        let mood = Mood::silent(command, writer);
        mood.read_log(reader);
        mood
    }

    /// Its log is not read until `read_log`.
    pub fn with_stdout(environment: &[(&str, &str)], stdout: PipeWriter) -> Mood {
        Mood::silent(Mood::command().envs(environment.iter().copied()), stdout)
    }

    fn silent(command: &mut Command, stdout: PipeWriter) -> Mood {
        let child = command.stdout(stdout).spawn();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut mood = Mood { child: Some(child.expect("the binary starts")), address, lines: Arc::default() };
        mood.address = wait_for("the service listens", || mood.listening_address());
        mood
    }

    /// Keeps the lines of the log from now on.
    pub fn read_log(&self, reader: PipeReader) {
        let lines = Arc::clone(&self.lines);
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
    }

    /// The address it listens on, from the kernel: its log may be silent.
    fn listening_address(&self) -> Option<SocketAddr> {
        let inodes: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .ok()?
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let listening = |table: &str, loopback: IpAddr| {
            let table = std::fs::read_to_string(table).ok()?;
            table.lines().skip(1).find_map(|line| {
                let fields: Vec<_> = line.split_whitespace().collect();
                const LISTEN: &str = "0A";
                let is_ours = fields[3] == LISTEN && inodes.iter().any(|inode| *inode == fields[9]);
                let port = u16::from_str_radix(fields[1].rsplit_once(':')?.1, 16).ok()?;
                is_ours.then(|| SocketAddr::new(loopback, port))
            })
        };
        listening("/proc/net/tcp", IpAddr::V4(Ipv4Addr::LOCALHOST))
            .or_else(|| listening("/proc/net/tcp6", IpAddr::V6(Ipv6Addr::LOCALHOST)))
    }

    /// The binary in an environment where nothing is set but a free port.
    pub fn command() -> Command {
        let mut command = Command::new(binary());
        command.env_clear().env("LISTEN_ADDR", "127.0.0.1:0").env("DRAIN_MS", "200");
        command
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("it runs on this machine").id() as i32
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: sends a signal to a child that has not been waited for.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("the child can be waited for")
    }

    /// Sends a signal, and gives the exit code of the process, which must end within `limit`.
    pub fn ends_within(&mut self, limit: Duration, signal: i32) -> Option<i32> {
        let began = Instant::now();
        self.signal(signal);
        let status = self.wait();
        assert!(began.elapsed() < limit, "{:?}, {status:?}", began.elapsed());
        status.code()
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the service ends", || self.ended())
    }

    pub fn log(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn log_has(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[])
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if method == "POST" {
            request = request.header("Content-Length", "0");
        }
        let response = agent.run(request.body(()).expect("a valid request")).expect("an answer");
        let (parts, mut body) = response.into_parts();
        let body = body.read_to_vec().expect("a body");
        let headers = parts.headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        Answer { status: parts.status.as_u16(), headers, body }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes as they are, ends the sending side, and gives all that comes back.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The service may close before it has read everything: that is an answer too.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        read_all(&mut stream)
    }

    /// Whether a good client is served, and how fast.
    pub fn serves(&self) -> Duration {
        let began = Instant::now();
        assert_eq!(self.get("/mood").status, 200);
        began.elapsed()
    }

    pub fn serves_within(&self, millis: u64) {
        let took = self.serves();
        assert!(took <= Duration::from_millis(millis), "a good client waited {took:?}");
    }

    /// A field of /proc/<pid>/status, in KiB for the Vm ones.
    pub fn status(&self, field: &str) -> u64 {
        self.status_if_running(field).expect("it runs, and there is such a field")
    }

    fn status_if_running(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with(&format!("{field}:")))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// The CPU time of the threads that run now.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it runs");
        let times = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
        times.map(|time| Duration::from_nanos(time.split(' ').next().unwrap().parse().unwrap())).sum()
    }

    /// The share of one core that the service uses during `time`, in per cent.
    pub fn cpu_during(&self, time: Duration) -> f64 {
        let before = self.cpu();
        thread::sleep(time);
        self.cpu().saturating_sub(before).as_secs_f64() / time.as_secs_f64() * 100.0
    }

    /// A field of /proc/<pid>/stat by its number in proc(5).
    pub fn stat(&self, field: usize) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let (_, rest) = stat.rsplit_once(')').expect("the command is in brackets");
        rest.split_whitespace().nth(field - 3).expect("there is such a field").parse().expect("a number")
    }

    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// At its highest moment the service never took more than 16 MB.
    pub fn assert_small(&self) {
        assert!(self.ended_or_small(self.status("VmHWM")));
    }

    pub fn assert_small_if_running(&self) {
        assert!(self.ended_or_small(self.status_if_running("VmHWM").unwrap_or(0)));
    }

    fn ended_or_small(&self, peak: u64) -> bool {
        // The limit is that of the static binary in the image. glibc keeps caches for each thread that musl has not.
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid())).unwrap_or_default();
        let limit = if maps.contains("/libc.so") { 32 } else { 16 } * 1024;
        if peak > limit {
            eprintln!("{peak} KiB resident at the peak, of {limit}");
        }
        peak <= limit
    }
}

impl Drop for Mood {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            eprintln!("--- the last lines of the service's log\n{}", log[log.len().saturating_sub(20)..].join("\n"));
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// Lets this test open so many files, if the machine does.
pub fn allow_open_files(files: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call gets a valid pointer to a limit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    set_open_files(files.min(limit.rlim_max), limit.rlim_max).expect("below the hard limit");
}

fn set_open_files(soft: u64, hard: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the call gets a valid pointer to a limit.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// All bytes until the other side closes; a reset counts as closed.
pub fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("neither an answer nor an end after {PATIENCE:?}; so far {:?}", String::from_utf8_lossy(&bytes))
            }
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one answer of a kept connection: (status, body).
pub fn read_answer(stream: &mut impl BufRead) -> std::io::Result<(u16, Vec<u8>)> {
    read_whole_answer(stream).map(|(status, _, body)| (status, body))
}

/// Likewise: (status, header lines in small letters, body).
pub fn read_whole_answer(stream: &mut impl BufRead) -> std::io::Result<(u16, Vec<String>, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not a status line: {line:?}")))?;
    let (mut length, mut headers) = (0, Vec::new());
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        if line == "\r\n" || line.is_empty() {
            break;
        }
        let header = line.trim_end().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        headers.push(header);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((status, headers, body))
}

/// A running Redis without persistence.
pub struct Redis {
    child: Option<Child>,
    pub port: u16,
    arguments: Vec<String>,
}

impl Redis {
    pub fn start() -> Redis {
        Redis::with(&[])
    }

    pub fn with(arguments: &[&str]) -> Redis {
        let mut redis = Redis::reserved();
        redis.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        redis.run();
        redis
    }

    /// Not started: only a port on which nothing listens.
    pub fn reserved() -> Redis {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Redis { child: None, port, arguments: Vec::new() }
    }

    pub fn run(&mut self) {
        // Another version of it, or what takes its place.
        let program = std::env::var("MOOD_REDIS").unwrap_or("redis-server".to_owned());
        let child = Command::new(program)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (apt-get install redis-server)");
        self.child = Some(child);
        wait_for("redis-server listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let pid = self.child.as_ref().expect("it runs").id() as i32;
        // SAFETY: sends a signal to a child that has not been waited for.
        unsafe { libc::kill(pid, signal) };
    }

    pub fn query<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection_with_timeout(PATIENCE).unwrap();
        let mut query = redis::cmd(command[0]);
        query.arg(&command[1..]);
        query.query(&mut connection).unwrap()
    }

    /// The one key that begins with this.
    pub fn key(&self, prefix: &str) -> String {
        let mut keys: Vec<String> = self.query(&["KEYS", &format!("{prefix}*")]);
        assert_eq!(keys.len(), 1, "{keys:?}");
        keys.remove(0)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
