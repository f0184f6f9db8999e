//! The integration tests: one binary, a file per promise. Each test starts the real program on free ports and talks to
//! it over real sockets.

#![expect(clippy::print_stdout, reason = "what was measured, for whoever asks with --nocapture")]
#![expect(clippy::disallowed_methods, reason = "tests start tasks and build clients of their own")]
#![expect(unreachable_pub, reason = "`pub` is what the harness offers to the tests")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that finds something missing fails at once, and says where"
)]

mod access;
mod authentication;
mod bad_input;
mod books;
mod captures;
mod clock_jumps;
mod command_line;
mod configuration;
mod confirmation;
mod conservation;
mod cors;
mod crash;
mod dead_letters;
mod dedup;
mod deletion;
mod delivery;
mod disk;
mod disk_full;
mod displaced;
mod doctor;
mod failed_sync;
mod fairness;
mod file_modes;
mod first_event;
mod form;
mod guides;
mod isolation;
mod json_output;
mod limits;
mod logs;
mod manners;
mod metrics;
mod moving;
mod openapi;
mod opening;
mod organizations;
mod partner;
mod pause;
mod pixel;
mod private_document;
mod private_side;
mod probes;
mod profiles;
#[path = "../support/python.rs"]
mod python;
mod queue_directory;
mod records;
mod reload;
mod requests_as_sent;
mod retry_now;
mod secrets;
mod service;
#[path = "../support/skipped.rs"]
mod skipped;
mod stand_in;
mod supervisor;
mod suspension;
mod torn_log;
mod translate;
mod wire;
