//! Environment → `Config`. Every mistake is named, all of them at once.

use crate::json;
use crate::mood::zone::Zone;
use crate::store::redis_url;
use log::LevelFilter;
use redis::Client;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

#[derive(Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// `None`: the embedded store.
    pub redis: Option<Client>,
    pub redis_pool_size: u32,
    /// The longest any Redis call may take.
    pub redis_timeout: Duration,
    pub workers: usize,
    pub limits: Limits,
    /// How long a stopping replica goes on answering, so that balancers see it leave.
    pub drain: Duration,
    pub log_level: LevelFilter,
    /// Whether `POST /faults` is there.
    pub faults: bool,
    /// The zone whose midnight ends the day.
    pub zone: Zone,
}

/// What a connection may take.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: usize,
    /// Without a request, after one was answered.
    pub idle: Duration,
    /// From a request's first byte to its last; and from connecting to the first byte, twice as long.
    pub request: Duration,
    /// A connection that is older is to be left by its client; zero: it may grow as old as it likes.
    pub age: Duration,
}

/// The table that `--help` and the README show: name, default, meaning.
pub const VARIABLES: [(&str, &str, &str); 14] = [
    ("LISTEN_ADDR", "0.0.0.0:5000", "address and port to listen on"),
    ("REDIS_URL", "", "redis://[[user]:password@]host[:port][/db]; empty: the embedded store"),
    ("REDIS_URL_FILE", "", "a file that holds REDIS_URL, as secrets are mounted; takes its place"),
    ("REDIS_POOL_SIZE", "2", "connections to Redis, 1 to 64"),
    ("REDIS_TIMEOUT_MS", "30", "the longest a Redis call may take, 5 to 100 ms"),
    ("WORKERS", "1", "threads that answer requests, 1 to 64"),
    ("MAX_CONNECTIONS", "512", "open connections; at the limit the idlest are closed, 16 to 10000"),
    ("IDLE_TIMEOUT_S", "75", "seconds a connection may stay idle, 1 to 3600"),
    ("REQUEST_TIMEOUT_S", "5", "seconds a request may take to arrive, 1 to 60"),
    ("MAX_CONNECTION_AGE_S", "0", "seconds after which a connection is ended with an answer, 0 (never) to 86400"),
    ("DRAIN_MS", "1000", "milliseconds to go on answering after SIGTERM, 0 to 1500"),
    ("LOG_LEVEL", "info", "off, error, warn, info, debug or trace"),
    ("MOOD_FAULTS", "off", "on: POST /faults makes this replica fail on purpose"),
    ("TZ", "UTC", "the zone whose midnight ends the day: an IANA name or a POSIX string"),
];

impl Config {
    /// Reads the configuration through `get`, which gives a variable's value if it is set.
    ///
    /// # Errors
    /// One line for every value that is not allowed: its name, the value, and what is allowed.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Config, Vec<String>> {
        let mut reader = Reader { get, mistakes: Vec::new() };
        let config = Config {
            listen: reader.parse("LISTEN_ADDR", "an IP address and a port, such as 0.0.0.0:5000 or [::]:5000"),
            redis: reader.redis_client(),
            redis_pool_size: reader.number("REDIS_POOL_SIZE", 1..=64) as u32,
            redis_timeout: Duration::from_millis(reader.number("REDIS_TIMEOUT_MS", 5..=100)),
            workers: reader.number("WORKERS", 1..=64) as usize,
            limits: Limits {
                connections: reader.number("MAX_CONNECTIONS", 16..=10_000) as usize,
                idle: Duration::from_secs(reader.number("IDLE_TIMEOUT_S", 1..=3600)),
                request: Duration::from_secs(reader.number("REQUEST_TIMEOUT_S", 1..=60)),
                age: Duration::from_secs(reader.number("MAX_CONNECTION_AGE_S", 0..=86_400)),
            },
            drain: Duration::from_millis(reader.number("DRAIN_MS", 0..=1500)),
            log_level: reader.parse("LOG_LEVEL", "one of off, error, warn, info, debug, trace"),
            faults: reader.switch("MOOD_FAULTS"),
            zone: reader.zone(),
        };
        if reader.mistakes.is_empty() { Ok(config) } else { Err(reader.mistakes) }
    }
}

struct Reader<G> {
    get: G,
    mistakes: Vec<String>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    /// The value, or the default where it is not set or empty: an empty value is how Compose passes on a variable
    /// that nobody set.
    fn text(&self, name: &str) -> String {
        (self.get)(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default(name).to_owned())
    }

    fn parse<T: FromStr>(&mut self, name: &str, allowed: &str) -> T {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            self.mistakes.push(mistake(name, &text, allowed));
            fallback(name)
        })
    }

    fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> u64 {
        let text = self.text(name);
        text.parse().ok().filter(|number| range.contains(number)).unwrap_or_else(|| {
            let allowed = format!("a whole number from {} to {}", range.start(), range.end());
            self.mistakes.push(mistake(name, &text, &allowed));
            fallback(name)
        })
    }

    fn switch(&mut self, name: &str) -> bool {
        let text = self.text(name);
        if text != "on" && text != "off" {
            self.mistakes.push(mistake(name, &text, "on or off"));
        }
        text == "on"
    }

    fn redis_client(&mut self) -> Option<Client> {
        let file = self.text("REDIS_URL_FILE");
        let url = match std::fs::read_to_string(&file) {
            Ok(content) => content.trim_end().to_owned(),
            Err(_) if file.is_empty() => self.text("REDIS_URL"),
            Err(error) => {
                // The variable may contain the URL itself by mistake.
                let shown = if file.contains("://") { without_password(&file) } else { file };
                self.mistakes.push(mistake("REDIS_URL_FILE", &shown, &format!("a file that can be read ({error})")));
                return None;
            }
        };
        if url.is_empty() && file.is_empty() {
            return None;
        }
        let why = match redis_client(&url) {
            Ok(client) => return Some(client),
            // An empty file is more likely a missing secret than a choice of the embedded store.
            Err(_) if url.is_empty() => "the file is empty",
            Err(why) => why,
        };
        let form = redis_url::FORM;
        self.mistakes.push(match file.is_empty() {
            true => mistake(
                "REDIS_URL",
                &without_password(&url),
                &format!("{form}, or nothing for the embedded store ({why})"),
            ),
            false => mistake("REDIS_URL_FILE", &file, &format!("a file that contains {form} ({why})")),
        });
        None
    }

    fn zone(&mut self) -> Zone {
        let tz = self.text("TZ");
        Zone::parse(&tz).unwrap_or_else(|allowed| {
            self.mistakes.push(mistake("TZ", &tz, allowed));
            Zone::UTC
        })
    }
}

/// The part of a connection's set-up that Redis would have to answer is left out, so that a pool can be filled by a
/// Redis that hangs; the first command then meets its own time-out.
fn redis_client(url: &str) -> Result<Client, &'static str> {
    let info = redis_url::parse(url)?;
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    Client::open(info.set_redis_settings(settings)).map_err(|_| "redis refuses it")
}

/// Where this machine reaches a listener on `listen`: 0.0.0.0 and [::] stand for all addresses and are none.
pub fn own_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A variable's default, as text.
pub fn default(name: &str) -> &'static str {
    VARIABLES.iter().find(|(variable, ..)| *variable == name).map_or("", |(_, default, _)| default)
}

/// What stands in for a wrong value, so that the others are still read. Start-up stops all the same.
fn fallback<T: FromStr>(name: &str) -> T {
    let Ok(value) = default(name).parse() else { panic!("the default of {name} is not a valid one") };
    value
}

fn mistake(name: &str, value: &str, allowed: &str) -> String {
    // As a JSON string, so that no value can garble the terminal.
    format!("{name}={} is not allowed: it must be {allowed}", json::string(value))
}

/// Hides whatever may be a password: everything before the last `@`.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        (None, Some((_, host))) => format!("***@{host}"),
        // Without an `@`, what follows a colon is a port if it is a number, and else perhaps a password.
        (Some((scheme, rest)), None) if !rest.split_once(':').is_none_or(|(_, port)| is_port(port)) => {
            format!("{scheme}://***")
        }
        _ => url.to_owned(),
    }
}

fn is_port(text: &str) -> bool {
    let port = text.split('/').next().unwrap_or(text);
    port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        Config::read(|name| values.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_defaults_are_valid_and_listen_on_port_5000() {
        let config = read(&[]).unwrap();
        assert_eq!(config.listen.port(), 5000);
        assert!(config.redis.is_none());
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        for (listen, own) in [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.1:80", "10.0.0.1:80")] {
            assert_eq!(own_address(listen.parse().unwrap()), own.parse().unwrap());
        }
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let mistakes =
            read(&[("WORKERS", "0"), ("LOG_LEVEL", "loud"), ("LISTEN_ADDR", "5000"), ("REDIS_URL", "http://x")]);
        let mistakes = mistakes.unwrap_err();
        assert_eq!(mistakes.len(), 4);
        assert!(mistakes.iter().any(|m| m == r#"WORKERS="0" is not allowed: it must be a whole number from 1 to 64"#));
    }

    fn read_file(name: &str, content: &str) -> Result<Config, Vec<String>> {
        let file = std::env::temp_dir().join(format!("mood-{name}-{}", std::process::id()));
        std::fs::write(&file, content).unwrap();
        let config = read(&[("REDIS_URL", "redis://other"), ("REDIS_URL_FILE", file.to_str().unwrap())]);
        std::fs::remove_file(&file).unwrap();
        config
    }

    #[test]
    fn a_url_is_read_from_its_file_or_the_file_is_named() {
        let config = read_file("good-url", "redis://:secret@host:6379\n").unwrap();
        assert_eq!(config.redis.unwrap().get_connection_info().addr().to_string(), "host:6379");
        for (content, why) in [
            ("", "the file is empty"),
            (" \n\t\n", "the file is empty"),
            ("redis://:hunter2@host:port\n", "its port is not a number from 1 to 65535"),
            ("hunter2", "it has no scheme"),
            ("redis://hunter2\nredis://x", "line end"),
        ] {
            let mistakes = read_file("bad-url", content).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            let (start, end) = ("REDIS_URL_FILE=\"/", "it must be a file that contains redis://[[user]:password@]host");
            assert!(mistakes[0].starts_with(start) && mistakes[0].contains(end), "{mistakes:?}");
            assert!(mistakes[0].contains(why) && !mistakes[0].contains("hunter2"), "{mistakes:?}");
        }
        assert!(read(&[("REDIS_URL_FILE", ""), ("REDIS_URL", "")]).unwrap().redis.is_none());
        let mistakes = read(&[("REDIS_URL_FILE", "redis://:hunter2@host")]).unwrap_err();
        assert!(mistakes.len() == 1 && !mistakes[0].contains("hunter2"), "{mistakes:?}");
        let mistakes = read(&[("REDIS_URL_FILE", "/nothing/here")]).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].starts_with("REDIS_URL_FILE=\"/nothing/here\""), "{mistakes:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_value_is_read_or_named(place in 0..VARIABLES.len(), value in "\\PC{0,30}") {
            let name = VARIABLES[place].0;
            if let Err(mistakes) = read(&[(name, &value)]) {
                proptest::prop_assert!(mistakes.len() == 1 && mistakes[0].starts_with(name), "{:?}", mistakes);
            }
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "redis://:hunter2@host:notaport",
            "redis://u:hunter2@[",
            "x:hunter2@h",
            "http://a:hunter2@b@c",
            "redis://:hunter2",
        ] {
            let shown = read(&[("REDIS_URL", url)]).unwrap_err().join(" ");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
