//! `REDIS_URL` → address and credentials. No I/O.
//!
//! The parser of redis contains tables for all URLs of the web: a twentieth of the image. Tests compare this one with it.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use std::net::Ipv6Addr;

/// The accepted form, for messages.
pub const FORM: &str = "redis://[[user]:password@]host[:port][/db]";
const DEFAULT_PORT: u16 = 6379;

/// Reads `redis://[[user]:password@]host[:port][/db]`, or the same with `valkey://`. User and password may be
/// percent-encoded; an IPv6 address stands in brackets.
///
/// # Errors
/// One clause about the error, without any part of the URL.
pub fn parse(url: &str) -> Result<ConnectionInfo, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("it has no scheme")?;
    match scheme {
        "redis" | "valkey" => {}
        "rediss" | "valkeys" => return Err("TLS is not spoken here"),
        _ => return Err("its scheme is another one"),
    }
    // Browsers and redis drop a tab or a line end at any place.
    if rest.contains(['?', '#', '\t', '\r', '\n']) {
        return Err("it has a query, a fragment, a tab or a line end; in a password write ? and # as %3F and %23");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // The last one, because a password may contain others.
    let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));

    let mut settings = RedisConnectionInfo::default().set_db(database(path)?);
    if !user.is_empty() {
        settings = settings.set_username(percent_decode(user)?);
    }
    if !password.is_empty() {
        settings = settings.set_password(percent_decode(password)?);
    }
    let (host, port) = host_and_port(address)?;
    let info = ConnectionAddr::Tcp(host, port).into_connection_info().map_err(|_| "its address is not one")?;
    Ok(info.set_redis_settings(settings))
}

fn database(path: &str) -> Result<i64, &'static str> {
    match path.trim_matches('/') {
        "" => Ok(0),
        digits => number(digits).map(i64::from).ok_or("its database is not a number"),
    }
}

fn host_and_port(address: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("its IPv6 address has no closing bracket")?;
            let host = host.parse::<Ipv6Addr>().map_err(|_| "what stands in brackets is not an IPv6 address")?;
            (host.to_string(), port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => {
            let (host, port) = address.split_once(':').unwrap_or((address, ""));
            (host.to_owned(), Some(port))
        }
    };
    let is_host_name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    if host.is_empty() || !is_host_name(&host) {
        return Err("its host is not a name or an address");
    }
    if matches!(host.as_str(), "0.0.0.0" | "::") {
        return Err("its host stands for all addresses and is none");
    }
    let port = match port.ok_or("something other than a port follows its address")? {
        "" => DEFAULT_PORT,
        digits => number(digits)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0)
            .ok_or("its port is not a number from 1 to 65535")?,
    };
    Ok((host, port))
}

/// Only digits. Rust also accepts a plus sign.
fn number(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|_| !digits.starts_with('+'))
}

/// A percent sign without two hexadecimal digits stands for itself, as in browsers.
fn percent_decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|digit| (*digit as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| "its user or password is not UTF-8 once decoded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::damaged_text;
    use proptest::prelude::*;

    /// (host, port, user, password, database)
    type Parts = (String, u16, Option<String>, Option<String>, i64);

    fn parts(info: &ConnectionInfo) -> Parts {
        let ConnectionAddr::Tcp(host, port) = info.addr() else { panic!("not TCP") };
        let settings = info.redis_settings();
        let owned = |text: Option<&str>| text.map(str::to_owned);
        (host.clone(), *port, owned(settings.username()), owned(settings.password()), settings.db())
    }

    fn parsed(url: &str) -> Result<Parts, &'static str> {
        parse(url).map(|info| parts(&info))
    }

    /// As redis itself reads it.
    fn reference(url: &str) -> Option<Parts> {
        url.into_connection_info()
            .ok()
            .filter(|info| matches!(info.addr(), ConnectionAddr::Tcp(..)))
            .as_ref()
            .map(parts)
    }

    #[test]
    fn what_users_write_is_read() {
        let some = |text: &str| Some(text.to_owned());
        for (url, host, port, user, password, db) in [
            ("redis://redis", "redis", 6379, None, None, 0),
            ("redis://redis:7000/3", "redis", 7000, None, None, 3),
            ("valkey://10.0.0.7/", "10.0.0.7", 6379, None, None, 0),
            ("redis://:secret@h", "h", 6379, None, some("secret"), 0),
            ("redis://ann:p%40ss%2Fw%C3%B6rd%3A1@h:1/15", "h", 1, some("ann"), some("p@ss/wörd:1"), 15),
            ("redis://ann:a@b:c@h", "h", 6379, some("ann"), some("a@b:c"), 0),
            ("redis://:100%@h", "h", 6379, None, some("100%"), 0),
            ("redis://[::1]", "::1", 6379, None, None, 0),
            ("redis://u:p@[2001:db8::1]:6380/2", "2001:db8::1", 6380, some("u"), some("p"), 2),
        ] {
            let expected = (host.to_owned(), port, user, password, db);
            assert_eq!(parsed(url), Ok(expected.clone()), "{url}");
            assert_eq!(reference(url), Some(expected), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, clause) in [
            ("redis", "scheme"),
            ("http://h", "scheme"),
            ("rediss://h", "TLS"),
            ("redis://", "host"),
            ("redis://a b", "host"),
            ("redis://0.0.0.0", "all addresses"),
            ("redis://[::]:1", "all addresses"),
            ("redis://[::1", "bracket"),
            ("redis://[nonsense]", "IPv6"),
            ("redis://[::1]6379", "port"),
            ("redis://h:0", "port"),
            ("redis://h:65536", "port"),
            ("redis://h:+15", "port"),
            ("redis://::1", "host"),
            ("redis://h/x", "database"),
            ("redis://h/-1", "database"),
            ("redis://h/+3", "database"),
            ("redis://:%ff@h", "UTF-8"),
            ("redis://h?db=3", "query"),
            ("redis://\t%68:%00@h", "tab"),
            ("redis://:secret\r\n@h", "line end"),
        ] {
            let error = parsed(url).unwrap_err();
            assert!(error.contains(clause), "{url}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_url_is_read_as_redis_reads_it(
            user in "[a-z%.+~é]{0,4}(%[0-7][0-9A-Fa-f])?",
            password in "[ -\"$-.0->@-~é]{0,6}(%[0-7][0-9A-Fa-f])?",
            host in "[a-z0-9-]{1,8}|[a-z]{1,3}\\.[a-z]{1,3}|\\[::[1-9a-f]{1,4}\\]|\\[2001:db8::[1-9]\\]",
            port in "(:[1-9][0-9]{0,3})?",
            path in "(/[0-9]{0,4}/?)?",
        ) {
            let url = format!("redis://{user}:{password}@{host}{port}{path}");
            prop_assert_eq!(parsed(&url).ok(), reference(&url), "{}", url);
        }

        #[test]
        fn any_text_is_read_as_redis_reads_it_or_refused(random in "(redis://)?[:@/\\[\\]%a-f0-9.?#é ]{0,16}", near in damaged_text("redis_urls")) {
            for url in [random, near] {
                if let Ok(ours) = parsed(&url) {
                    prop_assert_eq!(Some(ours), reference(&url), "{}", url);
                }
            }
        }
    }
}
