//! The standard `process_*` metrics, read from /proc (so they work in an image without anything else).
//!
//! prometheus has a collector for them, which brings along a parser for all of /proc: 50 KB, a twentieth of the image.

use crate::os;
use std::fmt::Write;
use std::fs;

/// Clock ticks a second in /proc/<pid>/stat: part of Linux's ABI, whatever the kernel's own clock does.
const TICKS: u64 = 100;

/// All of them in the text format 0.0.4; those that cannot be read are left out.
pub fn render() -> String {
    let mut text = String::new();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let Some(stat) = Stat::parse(&stat) else { return text };
    let mut metric = |name: &str, kind: &str, help: &str, value: &dyn std::fmt::Display| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}");
    };
    let (seconds, hundredths) = (stat.cpu_ticks / TICKS, stat.cpu_ticks % TICKS);
    let cpu = format!("{seconds}.{hundredths:02}");
    metric("cpu_seconds_total", "counter", "User and system CPU time spent, in seconds.", &cpu);
    metric("threads", "gauge", "Threads.", &stat.threads);
    metric("virtual_memory_bytes", "gauge", "Virtual memory size.", &stat.virtual_bytes);
    metric("resident_memory_bytes", "gauge", "Resident memory size.", &(stat.resident_pages * os::page_size()));
    metric("open_fds", "gauge", "Open file descriptors.", &os::open_files());
    metric("max_fds", "gauge", "The most file descriptors that may be open.", &os::open_files_limit());
    if let Some(boot) = boot_time(&fs::read_to_string("/proc/stat").unwrap_or_default()) {
        metric("start_time_seconds", "gauge", "Start time since the Unix epoch.", &(boot + stat.start_ticks / TICKS));
    }
    text
}

/// Fields of /proc/<pid>/stat. Source: proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The second field is the command in brackets, and may itself hold brackets and spaces.
        let (_, rest) = text.rsplit_once(')')?;
        let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Seconds since the Unix epoch.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_does_not_shift_the_fields() {
        let text = "7 (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 9 0 1234 5000 60 70";
        let expected = Stat { cpu_ticks: 200, threads: 9, start_ticks: 1234, virtual_bytes: 5000, resident_pages: 60 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_all_of_them() {
        let text = render();
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 7, "{text}");
    }
}
