//! A check that cannot run here says so, and why: it is never silently green.
//!
//! `tests/run` names a file in `SKIPPED_CHECKS`, collects what tests append to it and prints it at the end. The
//! variable does not begin with `WIGZO_`, because the service refuses variables of that name which it does not know,
//! and tests start the service.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Notes that `check` was left out because of `reason`. Returns, so that the test can end.
pub(crate) fn skipped(check: &str, reason: &str) {
    let line = format!("skipped: {check}: {reason}\n");
    #[expect(clippy::print_stderr, reason = "who runs one test by hand reads it here")]
    {
        eprint!("{line}");
    }
    #[expect(clippy::disallowed_methods, reason = "the test runner's variable, not configuration")]
    let Some(path) = std::env::var_os("SKIPPED_CHECKS") else { return };
    // One write of one short line: lines of several tests do not mix.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    assert!(written.is_ok(), "the skipped check could not be noted: {written:?}");
}
