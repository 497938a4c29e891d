use std::process::ExitCode;

fn main() -> ExitCode {
    mood::cli::run(std::env::args().skip(1))
}
