//! Passes the commit and the target to src/build_info.rs.

use std::process::Command;

fn main() {
    // An image build has no git, so the commit is an argument.
    println!("cargo:rerun-if-env-changed=GIT_COMMIT");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
    println!("cargo:rerun-if-changed=build.rs");
    let given = std::env::var("GIT_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(head_commit).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=MOOD_COMMIT={commit}");
    println!("cargo:rerun-if-env-changed=MOOD_STD");
    println!("cargo:rustc-env=MOOD_STD={}", std::env::var("MOOD_STD").unwrap_or_default());
    println!("cargo:rustc-env=MOOD_TARGET={}", std::env::var("TARGET").expect("cargo sets TARGET"));
}

fn head_commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
