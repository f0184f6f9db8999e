//! The integration tests: one binary, a file per promise. Each test starts the real program on free ports and talks to
//! it over real sockets.

#![expect(clippy::disallowed_methods, reason = "tests start tasks and build clients of their own")]
#![expect(unreachable_pub, reason = "`pub` is what the harness offers to the tests")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that trips over its own words fails, as it should"
)]

mod authentication;
mod bad_input;
mod captures;
mod configuration;
mod first_event;
mod probes;
mod service;
mod wire;
