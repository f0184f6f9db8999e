//! `events`: what became of events, from a terminal or a script. It asks a running service.

#![expect(clippy::indexing_slicing, reason = "of a field that is missing, `serde_json::Value` says null")]

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Connection, Listing, Service, plain, read_json};
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
    wigzo-destination events list --organization acme --message-id 0b1c2d3e
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
    /// Show one event in full: what came in, each request, each answer, and when it is tried next
    Show {
        #[command(flatten)]
        service: Service,
        /// Its number
        number: u64,
        /// One line of JSON
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

const LISTING: Listing = Listing {
    path: "/api/events",
    member: "events",
    heading: || row(["NUMBER", "ORGANIZATION", "RECEIVED", "STATE", "REASON", "EVENT"]),
    line: line_of,
    none: "no events",
};

fn line_of(event: &Value) -> String {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let name = [text("kind"), text("title")].join(" ");
    row([
        &event["number"].to_string(),
        text("organization"),
        text("received_at"),
        text("state"),
        text("reason"),
        name.trim_end(),
    ])
}

fn row([number, organization, received, state, reason, event]: [&str; 6]) -> String {
    let event = plain(event);
    format!("{number:>9}  {organization:<20}  {received:<24}  {state:<9}  {reason:<22}  {event}\n")
}

async fn show(service: &Connection, number: u64, json: bool) -> Result<(), Failure> {
    let event = read_json(service.get(&format!("/api/events/{number}"), &Value::Null).await?).await?;
    say(&if json { format!("{event}\n") } else { told(&event) });
    Ok(())
}

/// An event for people: first how it stands, then what came in, then each try.
fn told(event: &Value) -> String {
    let mut out = String::new();
    let text = |value: &Value| plain(value.as_str().unwrap_or_default());
    let mut line = |word: &str, text: &str| {
        if !text.is_empty() {
            // A String takes any text.
            let _ = writeln!(out, "{word:<13} {text}");
        }
    };
    line("number", &event["number"].to_string());
    let state = [text(&event["state"]), text(&event["reason"]), text(&event["detail"])];
    line("state", state.join("  ").trim_end());
    for (word, field) in [
        ("organization", "organization"),
        ("person", "person"),
        ("message id", "message_id"),
        ("route", "route"),
    ] {
        line(word, &text(&event[field]));
    }
    line("event", [text(&event["kind"]), text(&event["title"])].join(" ").trim_end());
    line("received", &text(&event["received_at"]));
    line("ended", &text(&event["ended_at"]));
    line("calls done", &text(&event["calls_done"]));
    if event["replays"].as_u64() > Some(0) {
        line("replays", &event["replays"].to_string());
    }
    let next = &event["next_attempt"];
    if next.is_object() {
        let at = next["at"].as_str().unwrap_or("nobody knows when");
        line("next attempt", &format!("{at}: {}", text(&next["message"])));
    }
    if event["payload"].is_null() {
        line("payload", "not kept: this record is one line");
    } else {
        line("payload", "");
        let _ = write!(out, "\nreceived\n{:#}\n", event["payload"]);
    }
    for attempt in event["attempts"].as_array().into_iter().flatten() {
        let status = attempt["status"].as_u64().map_or_else(|| "no answer".to_owned(), |it| it.to_string());
        let (at, call, reason) = (text(&attempt["at"]), text(&attempt["call"]), text(&attempt["reason"]));
        let _ = write!(out, "\n{call}  {at}  {status}  {} ms  {reason}\n", attempt["duration_ms"]);
        for (word, field) in [("request", "request"), ("answer", "response")] {
            for text in attempt[field].as_str().unwrap_or_default().lines() {
                let _ = writeln!(out, "  {word:<8} {}", plain(text));
            }
        }
    }
    out
}
