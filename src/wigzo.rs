//! The Wigzo side: the calls its REST API takes, and how to read its answers.
//!
//! Pure: builds paths and bodies, judges responses; never opens a socket, reads a clock or knows Segment.
//!
//! Invariants:
//! * A [`Call`] holds no token. Tokens travel in Wigzo's query string, so they meet the path only in
//!   [`Address::url`], which always makes the redacted form beside the real one.
//! * A body is written once, by [`Json`]'s writers: values that are only carried are copied as raw slices, so a
//!   number leaves with the digits it came with.
//! * Classification is one exhaustive function ([`verdict`]) over typed input, never over an error's text.

mod address;
mod call;
mod json;
mod learner;
mod verdict;

pub use address::{Address, CallUrl};
pub use call::{Call, Endpoint, Person, PersonField, Source};
pub use json::{Json, JsonArray, JsonObject};
pub use learner::LearnerId;
pub use verdict::{Misfit, Reply, SoftFailure, Verdict, verdict};
