//! Puts real clients where a test can run them: under `clients/` in the target directory, once per set of versions.
//!
//! A folder is complete when its marker holds what was asked for; until then it is made anew. A lock beside it keeps
//! tests of one run, and runs of several checkouts, from installing the same thing at once. What a client depends on is
//! not pinned, as it would not be in a shop.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long an installation may take before it counts as impossible.
const PATIENCE: Duration = Duration::from_mins(3);

/// What the project of the Rust crate's driver is made of.
const RUST_PROJECT: [&str; 2] = ["Cargo.toml", "src/main.rs"];

/// A client's packages, with the tool that installs them.
#[derive(Debug, Clone, Copy)]
pub enum Packages {
    /// `npm install`, run by Node.
    Npm(&'static [&'static str]),
    /// `pip install`, run by Python.
    Pip(&'static [&'static str]),
    /// The small project beside this file, built by cargo.
    Cargo(&'static str),
}

impl Packages {
    fn pins(self) -> String {
        match self {
            Self::Npm(packages) | Self::Pip(packages) => packages.join(" "),
            Self::Cargo(package) => package.to_owned(),
        }
    }

    /// Where the packages are, installed now if need be; or why they cannot be had here.
    pub async fn install(self) -> Result<PathBuf, String> {
        let (pins, clients) = (self.pins(), clients());
        let name: String = pins.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let folder = clients.join(name.trim_matches('-'));
        std::fs::create_dir_all(&clients).unwrap();
        let lock = File::create(folder.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let complete = folder.join("complete");
        let wanted = match self {
            Self::Npm(_) | Self::Pip(_) => pins,
            Self::Cargo(_) => RUST_PROJECT.map(|file| std::fs::read_to_string(rust(file)).unwrap()).concat(),
        };
        if std::fs::read_to_string(&complete).is_ok_and(|installed| installed == wanted) {
            return Ok(folder);
        }
        match self {
            // What a build that was too slow has done is a start for the next one.
            Self::Cargo(_) => {}
            Self::Npm(_) | Self::Pip(_) => drop(std::fs::remove_dir_all(&folder)),
        }
        std::fs::create_dir_all(&folder).unwrap();
        self.run(&folder).await?;
        std::fs::write(complete, wanted).unwrap();
        Ok(folder)
    }

    async fn run(self, folder: &Path) -> Result<(), String> {
        match self {
            Self::Npm(packages) => {
                std::fs::write(folder.join("package.json"), r#"{"private": true}"#).unwrap();
                let quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--no-save", "--ignore-scripts"];
                finish(Command::new("npm").arg("install").args(quiet).args(packages), folder).await
            }
            Self::Pip(packages) => {
                let mut pip = Command::new("python3");
                pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", "."]);
                finish(pip.args(packages), folder).await
            }
            Self::Cargo(_) => {
                std::fs::create_dir_all(folder.join("src")).unwrap();
                for file in RUST_PROJECT {
                    std::fs::copy(rust(file), folder.join(file)).unwrap();
                }
                let mut cargo = Command::new(env!("CARGO"));
                cargo.args(["build", "--quiet"]).env("CARGO_TARGET_DIR", folder.join("target"));
                finish(&mut cargo, folder).await
            }
        }
    }

    /// The command that runs a driver with these packages, up to its arguments.
    pub fn driver(self, folder: &Path) -> Command {
        let with = |interpreter: &str, script: &str| {
            let mut command = Command::new(interpreter);
            command.arg(sources().join(script));
            command
        };
        let mut command = match self {
            Self::Npm(packages) if packages.iter().any(|package| package.starts_with("jsdom")) => {
                with("node", "browser.mjs")
            }
            Self::Npm(_) => with("node", "node.mjs"),
            Self::Pip(_) => with("python3", "python.py"),
            Self::Cargo(_) => Command::new(folder.join("target/debug/six-calls")),
        };
        // A proxy of the machine is for the registries; the service is right here.
        for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(proxy);
        }
        command.current_dir(folder).env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// Where this file and the drivers are.
pub fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn rust(file: &str) -> PathBuf {
    sources().join("rust").join(file)
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients")
}

/// Runs a command to its end; an error says what it was and the last that it said.
async fn finish(command: &mut Command, folder: &Path) -> Result<(), String> {
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = match tokio::time::timeout(PATIENCE, command.output()).await {
        Err(_) => return Err(format!("{name} was not done within {PATIENCE:?}")),
        Ok(Err(error)) => return Err(format!("{name} could not be run: {error}")),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last: Vec<_> = said.lines().rev().take(5).collect();
    Err(format!("{name}: {}: {}", output.status, last.into_iter().rev().collect::<Vec<_>>().join(" / ")))
}
