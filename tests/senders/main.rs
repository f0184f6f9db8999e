//! Segment's own senders, run for real: the webhook actions of its platform, and its library in a browser's page.
//!
//! Each is installed once under the target directory ([`install`]) and run by a script beside this file. Where it
//! cannot be had, the check is skipped with the reason; in CI that is a failure.

#![expect(clippy::disallowed_methods, reason = "tests start tasks and build clients of their own")]
#![expect(unreachable_pub, reason = "`pub` is what the harness offers to the tests")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something missing fails at once, and says where"
)]

mod actions;
mod chromium;
mod install;
#[expect(dead_code, reason = "the harness of tests/it has more than is needed here")]
#[path = "../it/service.rs"]
mod service;
#[path = "../support/skipped.rs"]
mod skipped;
#[expect(dead_code, reason = "the stand-in as a process of its own is not needed here")]
#[path = "../it/stand_in.rs"]
mod stand_in;
#[expect(dead_code, reason = "senders write their own requests")]
#[path = "../it/wire.rs"]
mod wire;

/// A check that cannot run for want of its sender. CI has Node, npm and their registry.
fn unavailable(check: &str, reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{check}: {reason}");
    skipped::skipped(check, reason);
}
