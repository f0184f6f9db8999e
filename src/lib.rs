//! The Wigzo destination: Segment in, Wigzo out, nothing lost.
//!
//! # The path of an event
//!
//! [`ingress`] takes a request from Segment, finds the [`organization`] it belongs to, and lets [`segment`]
//! decode and validate the events in it. The good ones go, as the bytes they arrived in, to the [`queue`];
//! only when they are on disk is the request answered with 200. [`delivery`] takes them from there, one
//! person's events strictly in order, lets [`translate`] turn each into the [`wigzo`] calls that the
//! organization's profile names, makes those calls, and settles the event with exactly one [`outcome`].
//! [`admin`] shows what happened; [`sandbox`] plays Wigzo when there is none.
//!
//! # What a reply promises
//!
//! 200 means *on disk*: every event the reply counts as accepted survives `kill -9` and a power cut, and ends
//! delivered, filtered, expired or dead. 429 and 503 mean that nothing of the request was kept; 500, that
//! this is unknown. Any other status says that sending the same bytes again cannot help.
//!
//! # Who may know whom
//!
//! `segment`, `wigzo`, `translate` and `outcome` are pure: no I/O, no clock, no async. The arrows between the
//! rooms are a table in `tests/architecture.rs`; any other arrow fails that test with the rule it breaks.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod ingress;

pub mod segment;

pub mod organization;

pub mod queue;

pub mod delivery;

pub mod translate;

pub mod wigzo;

pub mod outcome;

pub mod admin;

pub mod sandbox;

pub mod telemetry;

pub mod clock;
pub mod current;
pub mod secret;
pub mod shutdown;
pub mod supervisor;

pub mod app;
pub mod cli;
pub mod settings;
