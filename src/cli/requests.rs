//! `requests`: requests that a running service refused, for the person who sets up a sender.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::connection::{Listing, Service};
use super::table::Column;
use super::{Failure, in_runtime};

/// Requests that were refused before anything in them became an event
///
/// The commands talk to a running service through its admin API: the address and the token come from --url and
/// --token-file, from the variables `WIGZO_ADMIN_URL` and `WIGZO_ADMIN_TOKEN`, or from the configuration.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Requests {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  A new sender's events do not arrive: what does it show?
    wigzo-destination requests refused
  Those that name one organization:
    wigzo-destination requests refused --organization acme
  Is it this key? The fingerprint is the beginning of its SHA-256:
    printf %s \"$SOURCE_KEY\" | sha256sum | cut -c1-8

Exit codes: 0 done; 1 the service could not be reached or refused; 2 the command line or the configuration is wrong.";

#[derive(Debug, Subcommand)]
enum Command {
    /// List requests that could not be authenticated, newest first, with what is wrong and what to do
    ///
    /// The service keeps the newest 200 of each organization, and 200 whose organization is unknown, until it ends.
    /// Requests that are alike are one line. A key is never shown, only its fingerprint.
    Refused {
        #[command(flatten)]
        service: Service,
        /// Only requests that name this organization by their path or key
        #[arg(long, value_name = "NAME")]
        organization: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

impl Requests {
    /// Runs the command.
    pub(super) fn run(self) -> Result<(), Failure> {
        let Command::Refused { service, organization, limit, json } = self.command;
        in_runtime(async move {
            let query = organization.map_or_else(|| json!({}), |name| json!({ "organization": name }));
            LISTING.show(&service.connect()?, query, limit, json).await
        })
    }
}

const LISTING: Listing<Refused> = Listing {
    path: "/api/requests/refused",
    member: "refused",
    columns: &[
        Column::plain("AT", 24, |it| it.at.clone()),
        Column::plain("TIMES", 9, |it| it.times.to_string()),
        Column::plain("ORGANIZATION", 20, |it| {
            it.organization.clone().unwrap_or_else(|| "(unknown)".to_owned())
        }),
        Column::plain("REASON", 24, |it| it.reason.clone()),
        Column::plain("PEER", 39, |it| it.peer.clone().unwrap_or_default()),
        Column::plain("KEY", 8, |it| it.key_fingerprint.clone().unwrap_or_default()),
        Column::plain("PATH", 40, |it| it.path.clone()),
        Column::plain("USER AGENT", 0, |it| it.user_agent.clone().unwrap_or_default()),
    ],
    none: "no refused requests",
    legend: Some(legend),
};

/// A request as the service tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refused {
    at: String,
    times: u64,
    organization: Option<String>,
    reason: String,
    peer: Option<String>,
    path: String,
    user_agent: Option<String>,
    key_fingerprint: Option<String>,
    meaning: String,
    advice: String,
}

/// What the reasons in a list mean, each once.
fn legend(requests: &[Refused]) -> String {
    let mut out = String::new();
    let mut told: Vec<&str> = Vec::new();
    for Refused { reason, meaning, advice, .. } in requests {
        if !told.contains(&reason.as_str()) {
            told.push(reason);
            let _ = write!(out, "\n{reason}\n  meaning  {meaning}\n  to do    {advice}\n");
        }
    }
    out
}
