//! The command line: `mood`, `mood healthcheck`, `--help`, `--version`. The environment sets everything else.

use crate::build_info as build;
use crate::config::{self, VARIABLES, Variable};
use crate::daemon;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, PartialEq, Eq)]
enum Command {
    Serve,
    Healthcheck,
    /// Text for stdout.
    Print(String),
    /// The error in the arguments.
    UsageError(String),
}

pub fn run(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    match parse(arguments) {
        Command::Serve => daemon::run(),
        Command::Healthcheck => healthcheck(),
        Command::Print(text) => print(&text),
        Command::UsageError(text) => fail(2, &text),
    }
}

fn parse(arguments: impl IntoIterator<Item = String>) -> Command {
    let arguments: Vec<String> = arguments.into_iter().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Command::Serve,
        ["healthcheck"] => Command::Healthcheck,
        ["--help" | "-h" | "help"] => Command::Print(help()),
        ["--version" | "-V"] => Command::Print(version()),
        [first, ..] => Command::UsageError(format!("mood: unknown argument '{first}'; see mood --help")),
    }
}

fn version() -> String {
    let std = if build::STD.is_empty() { "" } else { ", with the prebuilt standard library" };
    format!("{} {} ({}, {}{std})\n", build::NAME, build::VERSION, build::COMMIT, build::TARGET)
}

fn help() -> String {
    let mut text = format!(
        "Mood of the Day {}: a tiny web service that tells the mood of the day.\n\n\
         Usage:\n  mood               serve until SIGTERM or SIGINT\n  \
         mood healthcheck   exit 0 if the service on LISTEN_ADDR's port is ready, else 1\n  \
         mood --version\n  mood --help\n\nEnvironment:\n",
        build::VERSION
    );
    for Variable { name, default, allowed, meaning } in &VARIABLES {
        let default = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        text.push_str(&format!("  {name:<20} {meaning} ({allowed}){default}\n"));
    }
    text
}

fn print(text: &str) -> ExitCode {
    // Fails only if the reader closed stdout.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

pub fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}

/// Probes /readyz on the configured port, for containers without a shell and curl.
fn healthcheck() -> ExitCode {
    let listen = std::env::var("LISTEN_ADDR").ok().filter(|listen| !listen.is_empty());
    let listen = listen.as_deref().unwrap_or(config::find("LISTEN_ADDR").default);
    let Ok(listen) = listen.parse::<SocketAddr>() else {
        return fail(1, "LISTEN_ADDR is not an address and a port");
    };
    match is_ready(listen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => fail(1, "not ready"),
        Err(error) => fail(1, &format!("no response from {listen}: {error}")),
    }
}

fn is_ready(listen: SocketAddr) -> io::Result<bool> {
    const TIMEOUT: Duration = Duration::from_secs(1);
    // On Linux, 0.0.0.0 and [::] lead to loopback.
    let mut stream = TcpStream::connect_timeout(&listen, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_arguments_are_named() {
        let parse = |arguments: &[&str]| parse(arguments.iter().map(|a| (*a).to_owned()));
        assert_eq!(parse(&[]), Command::Serve);
        assert_eq!(parse(&["healthcheck"]), Command::Healthcheck);
        assert!(matches!(parse(&["--help"]), Command::Print(text) if text.contains("REDIS_URL")));
        assert!(matches!(parse(&["--prot"]), Command::UsageError(text) if text.contains("--prot")));
        assert!(matches!(parse(&["healthcheck", "now"]), Command::UsageError(_)));
    }
}
