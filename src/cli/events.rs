//! `events`: what became of events, from a terminal or a script. It asks a running service.

#![expect(clippy::indexing_slicing, reason = "of a field that is missing, `serde_json::Value` says null")]

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Connection, Listing, Service, parse, read_text};
use super::record::{EVENTS, Record, Summary};
use super::{Failure, delivery, in_runtime, say};
use crate::admin::WrittenFilter;

/// What became of events: look one up, read what came in, what went out and what Wigzo said, try it now
///
/// The commands talk to a running service through its admin API: the address and the token come from --url and
/// --token-file, from the variables `WIGZO_ADMIN_URL` and `WIGZO_ADMIN_TOKEN`, or from the configuration.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Events {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  By the messageId that the sender knows:
    wigzo-destination events list --message-id 0b1c2d3e
  What one person's events became today:
    wigzo-destination events list --person user-42 --since today
  What is being retried, and why:
    wigzo-destination events list --state retrying
  One of them with its payload, its calls and what Wigzo said:
    wigzo-destination events show 1234
  It waits for another attempt: try it now:
    wigzo-destination events retry 1234

Exit codes: 0 done; 1 the service could not be reached or refused, there is no such event, or it does not wait; 2 the
command line or the configuration is wrong.";

#[derive(Debug, Subcommand)]
enum Command {
    /// List events, newest first
    List {
        #[command(flatten)]
        service: Service,
        #[command(flatten)]
        filter: Box<WrittenFilter>,
        /// Only events in this state: waiting, retrying, parked, delivered, filtered, expired, dead, discarded
        #[arg(long)]
        state: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// One JSON object a line, with every field but payload and attempts
        #[arg(long)]
        json: bool,
    },
    /// Show one event in full: what its status and reason mean and what to do, what came in, each request, each answer
    Show {
        #[command(flatten)]
        service: Service,
        /// Its number
        number: u64,
        /// The JSON of the service, byte for byte
        #[arg(long)]
        json: bool,
    },
    /// Try an event at once that waits for another attempt
    Retry {
        #[command(flatten)]
        service: Service,
        /// Its number
        number: u64,
        /// How many as a line of JSON: 0 if it waits for nothing but its turn
        #[arg(long)]
        json: bool,
    },
}

impl Events {
    /// Runs the command.
    pub(super) fn run(self) -> Result<(), Failure> {
        in_runtime(async move {
            match self.command {
                Command::List { service, filter, state, limit, json } => {
                    let mut query = serde_json::to_value(filter).map_err(Failure::usage)?;
                    if let Some(state) = state {
                        query["state"] = json!(state);
                    }
                    LISTING.show(&service.connect()?, query, limit, json).await
                }
                Command::Show { service, number, json } => show(&service.connect()?, number, json).await,
                Command::Retry { service, number, json } => {
                    let path = format!("/api/events/{number}/retry");
                    delivery::retry(&service.connect()?, &path, &json!({}), json).await
                }
            }
        })
    }
}

const LISTING: Listing<Summary> =
    Listing { path: "/api/events", member: "events", columns: EVENTS, none: "no events", legend: None };

async fn show(service: &Connection, number: u64, json: bool) -> Result<(), Failure> {
    let answer = read_text(service.get(&format!("/api/events/{number}"), &Value::Null).await?).await?;
    say(&if json { answer + "\n" } else { parse::<Record>(&answer)?.shown() });
    Ok(())
}
