//! Environment → `Config`. All errors are reported at once.

use crate::mood::zone::{self, Zone};
use crate::store::redis_url;
use log::LevelFilter;
use redis::Client;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
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
    /// How long a stopping replica keeps serving, so that load balancers see that it leaves.
    pub drain: Duration,
    pub log_level: LevelFilter,
    /// Whether `POST /faults` exists.
    pub faults: bool,
    /// The zone whose midnight ends the day.
    pub zone: Zone,
}

/// The limits of connections.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: usize,
    /// Without a request, after a response.
    pub idle: Duration,
    /// From a request's first byte to its last. From connecting to the first byte, it is twice as long.
    pub request: Duration,
    /// The response after this age closes the connection. Zero: no limit.
    pub age: Duration,
}

pub struct Variable {
    pub name: &'static str,
    /// As text. Empty: none.
    pub default: &'static str,
    pub allowed: Allowed,
    pub meaning: &'static str,
}

pub enum Allowed {
    Number(RangeInclusive<u64>),
    /// A description of the valid values.
    Text(&'static str),
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Allowed::Number(range) => write!(f, "{} to {}", range.start(), range.end()),
            Allowed::Text(text) => f.write_str(text),
        }
    }
}

use Allowed::{Number, Text};

/// The parser and `--help` use this table, and a test compares README with it.
#[rustfmt::skip]
pub static VARIABLES: [Variable; 14] = [
    variable("LISTEN_ADDR", "0.0.0.0:5000", Text("an IP address and a port, such as 0.0.0.0:5000 or [::]:5000"), "address and port to listen on"),
    variable("REDIS_URL", "", Text(redis_url::FORM), "Redis; without it, the embedded store is used"),
    variable("REDIS_URL_FILE", "", Text("a path"), "file that contains REDIS_URL, such as a mounted secret; overrides it"),
    variable("REDIS_POOL_SIZE", "2", Number(1..=64), "connections to Redis"),
    variable("REDIS_TIMEOUT_MS", "30", Number(5..=100), "longest duration of a Redis call in milliseconds"),
    variable("WORKERS", "1", Number(1..=64), "threads that respond to requests"),
    variable("MAX_CONNECTIONS", "512", Number(16..=10_000), "open connections; at the limit, the longest idle ones are closed"),
    variable("IDLE_TIMEOUT_S", "75", Number(1..=3600), "seconds that a connection may stay idle"),
    variable("REQUEST_TIMEOUT_S", "5", Number(1..=60), "seconds that a request may take to arrive"),
    variable("MAX_CONNECTION_AGE_S", "0", Number(0..=86_400), "age in seconds after which the next response closes a connection, 0 for never"),
    variable("DRAIN_MS", "1000", Number(0..=1500), "milliseconds to keep serving after SIGTERM"),
    variable("LOG_LEVEL", "info", Text("off, error, warn, info, debug or trace"), "lowest level that is logged"),
    variable("MOOD_FAULTS", "off", Text("on or off"), "whether POST /faults makes this replica fail on purpose"),
    variable("TZ", "UTC", Text(zone::FORMS), "zone whose midnight ends the day"),
];

const fn variable(name: &'static str, default: &'static str, allowed: Allowed, meaning: &'static str) -> Variable {
    Variable { name, default, allowed, meaning }
}

impl Config {
    /// Reads the configuration through `get`, which returns the value of a variable if it is set.
    ///
    /// # Errors
    /// One line per invalid value: its name, the value, and the allowed values.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Config, Vec<String>> {
        let mut reader = Reader { get, errors: Vec::new() };
        let config = Config {
            listen: reader.value("LISTEN_ADDR", |text| text.parse().ok()),
            redis: reader.redis_client(),
            redis_pool_size: reader.number("REDIS_POOL_SIZE") as u32,
            redis_timeout: Duration::from_millis(reader.number("REDIS_TIMEOUT_MS")),
            workers: reader.number("WORKERS") as usize,
            limits: Limits {
                connections: reader.number("MAX_CONNECTIONS") as usize,
                idle: Duration::from_secs(reader.number("IDLE_TIMEOUT_S")),
                request: Duration::from_secs(reader.number("REQUEST_TIMEOUT_S")),
                age: Duration::from_secs(reader.number("MAX_CONNECTION_AGE_S")),
            },
            drain: Duration::from_millis(reader.number("DRAIN_MS")),
            log_level: reader.value("LOG_LEVEL", |text| text.parse().ok()),
            faults: reader.value("MOOD_FAULTS", |text| match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            }),
            zone: reader.value("TZ", Zone::parse),
        };
        if reader.errors.is_empty() { Ok(config) } else { Err(reader.errors) }
    }
}

struct Reader<G> {
    get: G,
    errors: Vec<String>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    /// The value, or the default if the value is not set or empty: Compose passes unset variables on as empty ones.
    fn text(&self, name: &str) -> String {
        (self.get)(name).filter(|value| !value.is_empty()).unwrap_or_else(|| find(name).default.to_owned())
    }

    /// After an invalid value, reading continues with the default, to find all errors.
    fn value<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        let text = self.text(name);
        parse(&text).unwrap_or_else(|| {
            let allowed = &find(name).allowed;
            let kind = if matches!(allowed, Number(_)) { "a whole number from " } else { "" };
            self.errors.push(invalid(name, &text, &format!("{kind}{allowed}")));
            parse(find(name).default).unwrap_or_else(|| panic!("the default of {name} is invalid"))
        })
    }

    fn number(&mut self, name: &str) -> u64 {
        let Number(range) = &find(name).allowed else { panic!("{name} is not a number") };
        self.value(name, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    fn redis_client(&mut self) -> Option<Client> {
        let file = self.text("REDIS_URL_FILE");
        let url = match std::fs::read_to_string(&file) {
            Ok(content) => content.trim_end().to_owned(),
            Err(_) if file.is_empty() => self.text("REDIS_URL"),
            Err(error) => {
                // The user may have put the URL itself into the variable.
                let shown = if file.contains("://") { without_password(&file) } else { file };
                self.errors.push(invalid("REDIS_URL_FILE", &shown, &format!("a file that can be read ({error})")));
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
        self.errors.push(match file.is_empty() {
            true => invalid(
                "REDIS_URL",
                &without_password(&url),
                &format!("{form}, or nothing for the embedded store ({why})"),
            ),
            false => invalid("REDIS_URL_FILE", &file, &format!("a file that contains {form} ({why})")),
        });
        None
    }
}

/// Skips the part of the connection setup that needs a reply. A Redis that hangs can then fill the pool, and the timeout of the
/// first command applies.
fn redis_client(url: &str) -> Result<Client, &'static str> {
    let info = redis_url::parse(url)?;
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    Client::open(info.set_redis_settings(settings)).map_err(|_| "redis refuses it")
}

/// # Panics
/// If there is no such variable.
pub fn find(name: &str) -> &'static Variable {
    VARIABLES.iter().find(|variable| variable.name == name).expect("a variable in the table")
}

fn invalid(name: &str, value: &str, allowed: &str) -> String {
    // As a JSON string, so that no value can garble the terminal.
    let value = serde_json::to_string(value).unwrap_or_default();
    format!("{name}={value} is not allowed: it must be {allowed}")
}

/// Hides everything that may be a password: the text before the last `@`.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        (None, Some((_, host))) => format!("***@{host}"),
        // Without an `@`, the text after a colon may be a password unless it is a number.
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
    fn all_errors_are_reported_at_once() {
        let errors =
            read(&[("WORKERS", "0"), ("LOG_LEVEL", "loud"), ("LISTEN_ADDR", "5000"), ("REDIS_URL", "http://x")]);
        let errors = errors.unwrap_err();
        assert_eq!(errors.len(), 4);
        assert!(errors.iter().any(|m| m == r#"WORKERS="0" is not allowed: it must be a whole number from 1 to 64"#));
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
            let errors = read_file("bad-url", content).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:?}");
            let (start, end) = ("REDIS_URL_FILE=\"/", "it must be a file that contains redis://[[user]:password@]host");
            assert!(errors[0].starts_with(start) && errors[0].contains(end), "{errors:?}");
            assert!(errors[0].contains(why) && !errors[0].contains("hunter2"), "{errors:?}");
        }
        assert!(read(&[("REDIS_URL_FILE", ""), ("REDIS_URL", "")]).unwrap().redis.is_none());
        let errors = read(&[("REDIS_URL_FILE", "redis://:hunter2@host")]).unwrap_err();
        assert!(errors.len() == 1 && !errors[0].contains("hunter2"), "{errors:?}");
        let errors = read(&[("REDIS_URL_FILE", "/nothing/here")]).unwrap_err();
        assert!(errors.len() == 1 && errors[0].starts_with("REDIS_URL_FILE=\"/nothing/here\""), "{errors:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_value_is_read_or_reported(place in 0..VARIABLES.len(), value in "\\PC{0,30}") {
            let name = VARIABLES[place].name;
            if let Err(errors) = read(&[(name, &value)]) {
                proptest::prop_assert!(errors.len() == 1 && errors[0].starts_with(name), "{:?}", errors);
            }
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "redis://:hunter2@host:notaport", "redis://u:hunter2@[", "x:hunter2@h", "http://a:hunter2@b@c",
            "redis://:hunter2",
        ] {
            let shown = read(&[("REDIS_URL", url)]).unwrap_err().join(" ");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
