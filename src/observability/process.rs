//! Metrics of the process, and its host name: what is not specific to one server. Most of it comes from /proc.
//!
//! The collector of prometheus contains a parser for all of /proc: 50 KB, a twentieth of the image.

use super::{logging, panics};
use std::fmt::Write;
use std::fs;

/// Clock ticks per second in /proc/<pid>/stat. They are part of Linux's ABI.
const TICKS: u64 = 100;

/// The metrics in the text format 0.0.4. Those that cannot be read are left out.
pub fn render() -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: &dyn std::fmt::Display| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    metric("mood_panics_total", "counter", "Panics caught.", &panics::caught());
    let dropped = logging::dropped();
    metric("mood_log_lines_dropped_total", "counter", "Log lines dropped because stdout was blocked.", &dropped);
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let Some(stat) = Stat::parse(&stat) else { return text };
    let (seconds, hundredths) = (stat.cpu_ticks / TICKS, stat.cpu_ticks % TICKS);
    let cpu = format!("{seconds}.{hundredths:02}");
    metric("process_cpu_seconds_total", "counter", "User and system CPU time spent, in seconds.", &cpu);
    metric("process_threads", "gauge", "Threads.", &stat.threads);
    metric("process_virtual_memory_bytes", "gauge", "Virtual memory size.", &stat.virtual_bytes);
    metric("process_resident_memory_bytes", "gauge", "Resident memory size.", &(stat.resident_pages * page_size()));
    let open_files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    metric("process_open_fds", "gauge", "Open file descriptors.", &open_files);
    metric("process_max_fds", "gauge", "The most file descriptors that may be open.", &open_files_limit().rlim_cur);
    if let Some(boot) = boot_time(&fs::read_to_string("/proc/stat").unwrap_or_default()) {
        metric(
            "process_start_time_seconds",
            "gauge",
            "Start time since the Unix epoch.",
            &(boot + stat.start_ticks / TICKS),
        );
    }
    text
}

/// The host name, reduced to characters that a header may contain.
pub fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

pub fn open_files_limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call gets a valid pointer to a limit.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit
}

/// In bytes.
fn page_size() -> u64 {
    // SAFETY: reads a constant of the system.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
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
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 9, "{text}");
    }
}
