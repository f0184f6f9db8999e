//! Tells the program which commit it is built from, when, and with which features: for `--version`.
//!
//! Nothing here may fail a build: a source archive and a container have no history, and say `unknown`.

#![expect(clippy::disallowed_methods, reason = "a build script has no `settings` and no `clock` to ask")]

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the program is made of. A change elsewhere, such as in a test, runs this script no second time.
const SOURCES: [&str; 5] = ["build.rs", "src", "config", "Cargo.toml", "Cargo.lock"];

fn main() {
    for source in SOURCES {
        watch(source);
    }
    let commit = variable("BUILD_COMMIT").or_else(commit);
    let built = match variable("SOURCE_DATE_EPOCH") {
        Some(seconds) => seconds.parse().ok(),
        None => SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs()),
    };
    let built = built.map(|seconds: u64| seconds.to_string());
    let mut features: Vec<_> = env::vars_os()
        .filter_map(|(name, _)| {
            Some(name.to_str()?.strip_prefix("CARGO_FEATURE_")?.to_lowercase().replace('_', "-"))
        })
        .filter(|feature| feature != "default")
        .collect();
    features.sort_unstable();
    println!("cargo:rustc-env=BUILD_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo:rustc-env=BUILD_EPOCH={}", built.as_deref().unwrap_or("unknown"));
    println!("cargo:rustc-env=BUILD_FEATURES={}", features.join(" "));
}

/// A variable that is set and not empty. Cargo runs this script again when it changes.
fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    let value = env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty() && !value.contains(char::is_whitespace)).then(|| value.to_owned())
}

/// Cargo would run this script at every build for a file that does not exist.
fn watch(path: &str) {
    if Path::new(path).exists() {
        println!("cargo:rerun-if-changed={path}");
    }
}

/// The commit that is checked out; marked if the sources differ from it.
fn commit() -> Option<String> {
    let root = env::var_os("CARGO_MANIFEST_DIR")?;
    // A source archive that was unpacked within another repository has no commit of its own.
    if fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()? != fs::canonicalize(root).ok()? {
        return None;
    }
    for file in ["HEAD", "logs/HEAD"] {
        watch(&git(&["rev-parse", "--git-path", file])?);
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let status = ["--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--"];
    let changed = git(&[&status[..], &SOURCES].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-modified") })
}

/// What git says, if there is one and it is content.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
