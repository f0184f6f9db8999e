//! Puts npm packages where a test can run them: under `clients/` in the target directory, once per set of versions.
//!
//! A folder is complete when its marker says what was asked for; until then it is made anew. A lock beside it keeps
//! tests of one run, and runs of several checkouts, from installing the same thing at once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long one step may take before it counts as impossible.
const PATIENCE: Duration = Duration::from_mins(3);

/// What is wanted of npm.
#[derive(Debug, Clone, Copy)]
pub struct Packages {
    /// The folder's name.
    pub name: &'static str,
    /// `package.json`, installed with what it depends on.
    pub manifest: &'static str,
    /// A package that is only unpacked, into `package/`: without what it depends on.
    pub unpacked: &'static str,
}

impl Packages {
    /// Where the packages are, installed now if need be; or why they cannot be had here.
    pub async fn install(self) -> Result<PathBuf, String> {
        let clients = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients");
        let folder = clients.join(self.name);
        std::fs::create_dir_all(&clients).unwrap();
        let lock = File::create(folder.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let (complete, wanted) = (folder.join("complete"), format!("{}\n{}", self.manifest, self.unpacked));
        if std::fs::read_to_string(&complete).is_ok_and(|installed| installed == wanted) {
            return Ok(folder);
        }
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("package.json"), self.manifest).unwrap();
        run(&folder, "npm", &["install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"])
            .await?;
        run(&folder, "npm", &["pack", "--silent", self.unpacked]).await?;
        let packed = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let packed = packed.into_iter().find(|path| path.extension().is_some_and(|end| end == "tgz"));
        let packed = packed.ok_or("npm pack made no file")?;
        run(&folder, "tar", &["-xzf", packed.to_str().unwrap()]).await?;
        std::fs::write(complete, wanted).unwrap();
        Ok(folder)
    }
}

/// A script beside this file, run by Node in a folder of packages.
pub fn node(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(sources().join(script)).current_dir(folder).kill_on_drop(true);
    // A proxy of the machine is for the registries; the service is right here.
    for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env_remove(proxy);
    }
    command
}

/// Where this file and the scripts are.
pub fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/senders")
}

/// Runs a step to its end; an error says what it was and the last that it said.
async fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(PATIENCE, command.output()).await {
        Err(_) => return Err(format!("{program} was not done within {PATIENCE:?}")),
        Ok(Err(error)) => return Err(format!("{program} could not be run: {error}")),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last: Vec<_> = said.lines().rev().take(5).collect();
    Err(format!("{program}: {}: {}", output.status, last.into_iter().rev().collect::<Vec<_>>().join(" / ")))
}
