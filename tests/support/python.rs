//! Programs from `PyPI` that judge what we ship: installed once for a target directory, as exact versions.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the programs that this list of versions brings; or why they cannot be had. `name` is that of the list:
/// `tests/support/NAME.txt`.
pub(crate) fn programs(name: &str) -> Result<PathBuf, String> {
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(name).with_extension("txt");
    let wanted = fs::read_to_string(&pins).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    // Held until the end: another test run may be installing.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (venv, done) = (folder.join("venv"), folder.join("installed"));
    let programs = venv.join("bin");
    if fs::read_to_string(&done).is_ok_and(|done| done == wanted) && programs.join("python").exists() {
        return Ok(programs);
    }
    let _ = fs::remove_file(&done);
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(programs.join("python")).args(pip).arg(&pins))?;
    fs::write(&done, wanted).unwrap();
    Ok(programs)
}

/// Runs a command; what it said last, if it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
    Err(format!("it could not be installed: {last}"))
}
