//! `delivery`: how organizations' deliveries stand, and an operator's word about them. It talks to a running service.

#![expect(clippy::indexing_slicing, reason = "of a field that is missing, `serde_json::Value` says null")]

use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::connection::{Connection, Service, read_json};
use super::plural::{count, count_that};
use super::table::plain;
use super::{Failure, complain, in_runtime, say};

/// Organizations in one step of a list.
const STEP: usize = 1_000;

/// How organizations' deliveries stand: pause one, resume it, retry its events, send a test event, take the service out
/// of rotation
///
/// The commands talk to a running service through its admin API: the address and the token come from --url and
/// --token-file, from the variables `WIGZO_ADMIN_URL` and `WIGZO_ADMIN_TOKEN`, or from the configuration.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Delivery {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  Who does not get events, and until when:
    wigzo-destination delivery list
  Nothing more to Wigzo for a shop, until somebody says so (a restart does not):
    wigzo-destination delivery pause acme --why \"stock-taking until Monday\"
    wigzo-destination delivery resume acme
  Wigzo was repaired: its events are tried now, not when their backoff ends:
    wigzo-destination delivery retry --organization acme --reason wigzo_500
  Does it work, all the way to Wigzo?
    wigzo-destination delivery test acme
  Before this machine is stopped: senders elsewhere, then wait until nothing waits:
    wigzo-destination delivery drain
    wigzo-destination delivery drain --back

Exit codes: 0 done; 1 the service could not be reached or refused, there is no such organization, or a test event was not
delivered; 2 the command line, a reason or the configuration is wrong.";

#[derive(Debug, Subcommand)]
enum Command {
    /// List organizations with how their delivery stands, by name
    List {
        #[command(flatten)]
        service: Service,
        /// Only those that stand so: open, held, paused, suspended, failing, probing, disabled, unconfigured
        #[arg(long)]
        standing: Option<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Send nothing more of an organization until it is resumed, also after a restart; its events wait
    Pause {
        #[command(flatten)]
        service: Service,
        /// The organization
        name: String,
        /// Why; it is shown with the pause
        #[arg(long)]
        why: Option<String>,
        /// The organization as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Send an organization's events again, at once
    ///
    /// It ends every pause, Retry-After included, a suspension and an open circuit breaker. Waiting events are tried at once.
    Resume {
        #[command(flatten)]
        service: Service,
        /// The organization
        name: String,
        /// The organization as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Try events at once that wait for another attempt
    ///
    /// They need not wait until their backoff ends. Parked events are retried too. A pause, a suspension and an open circuit
    /// breaker go on: `resume` ends them.
    Retry {
        #[command(flatten)]
        service: Service,
        /// The organization
        #[arg(long, value_name = "NAME")]
        organization: String,
        /// Only events whose last attempt failed for this reason, such as `wigzo_500`
        #[arg(long)]
        reason: Option<String>,
        /// How many as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Send a made-up event the real way to Wigzo, and wait for the answer; it is marked as a test
    ///
    /// Ends with 0 only if Wigzo has taken the event. If it was not delivered within --wait, it stays in the queue.
    Test {
        #[command(flatten)]
        service: Service,
        /// The organization
        name: String,
        /// The type of the event
        #[arg(long = "type", value_enum, default_value = "track")]
        kind: TestType,
        /// How many seconds to wait for the answer
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        wait: u64,
        /// The event as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Take the service out of rotation: /readyz turns 503, and it goes on delivering
    Drain {
        #[command(flatten)]
        service: Service,
        /// Bring it back
        #[arg(long)]
        back: bool,
        /// What still waits as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TestType {
    /// Something that was done
    Track,
    /// A page that was viewed
    Page,
    /// A person with an e-mail address
    Identify,
}

impl TestType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Page => "page",
            Self::Identify => "identify",
        }
    }
}

impl Delivery {
    /// Runs the command.
    pub(super) fn run(self) -> Result<(), Failure> {
        in_runtime(async move {
            match self.command {
                Command::List { service, standing, json } => {
                    list(&service.connect()?, standing.as_deref(), json).await
                }
                Command::Pause { service, name, why, json } => {
                    let wish = why.map_or_else(|| json!({}), |why| json!({ "why": why }));
                    let said = format!("{name} is paused; its events wait until it is resumed.");
                    change(&service.connect()?, &organization(&name, "pause"), wish, (&said, json)).await
                }
                Command::Resume { service, name, json } => {
                    let said = format!("{name} is resumed.");
                    change(&service.connect()?, &organization(&name, "resume"), json!({}), (&said, json))
                        .await
                }
                Command::Retry { service, organization: name, reason, json } => {
                    let wish = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
                    retry(&service.connect()?, &organization(&name, "retry"), &wish, json).await
                }
                Command::Test { service, name, kind, wait, json } => {
                    let wait = Duration::from_secs(wait);
                    test(&service.connect()?, &name, kind, wait, json).await
                }
                Command::Drain { service, back, json } => drain(&service.connect()?, back, json).await,
            }
        })
    }
}

fn organization(name: &str, action: &str) -> String {
    format!("{}/{action}", path_of(name))
}

fn path_of(name: &str) -> String {
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/api/organizations/{}", name.replace('+', "%20"))
}

async fn post(service: &Connection, path: &str, wish: &Value) -> Result<Value, Failure> {
    service.post(path, wish.to_string().into_bytes()).await
}

async fn change(
    service: &Connection,
    path: &str,
    wish: Value,
    (said, json): (&str, bool),
) -> Result<(), Failure> {
    let answer = post(service, path, &wish).await?;
    say(&if json { format!("{answer}\n") } else { format!("{said}\n") });
    Ok(())
}

/// Retries events, by the path of an organization or an event.
pub(super) async fn retry(service: &Connection, path: &str, wish: &Value, json: bool) -> Result<(), Failure> {
    let answer = post(service, path, wish).await?;
    say(&if json {
        format!("{answer}\n")
    } else {
        let retried = answer["retried"].as_u64().unwrap_or_default();
        let are = if retried == 1 { "is" } else { "are" };
        format!("{} {are} tried now.\n", count(retried, "event"))
    });
    Ok(())
}

/// Between two looks at a test event.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Sends a test event and waits until it has ended, was tried, or cannot be tried now.
async fn test(
    service: &Connection,
    name: &str,
    kind: TestType,
    wait: Duration,
    json: bool,
) -> Result<(), Failure> {
    let sent = post(service, &organization(name, "test-event"), &json!({ "type": kind.as_str() })).await?;
    let number = sent["number"].clone();
    let deadline = Instant::now() + wait;
    let (event, stopped) = loop {
        let event = read_json(service.get(&format!("/api/events/{number}"), &json!({})).await?).await?;
        if event["state"] != "waiting" {
            break (event, None);
        }
        let organization = read_json(service.get(&path_of(name), &json!({})).await?).await?;
        let delivery = &organization["delivery"];
        let is_going = matches!(delivery["state"].as_str(), Some("open" | "probing"));
        if !is_going || Instant::now() >= deadline {
            break (event, (!is_going).then(|| why_stopped(delivery)));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    if json {
        say(&format!("{event}\n"));
    }
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    if text("state") == "delivered" {
        if !json {
            say(&format!("Event {number} was delivered: Wigzo has taken it.\n"));
        }
        return Ok(());
    }
    let why = match (stopped, text("state")) {
        (Some(why), _) => format!("it waits, and nothing is sent for {name}: {why}"),
        (None, "waiting") => format!("it still waits after {} s", wait.as_secs()),
        (None, state) => {
            let attempt = event["attempts"].as_array().and_then(|attempts| attempts.last());
            let said = attempt.map(said).unwrap_or_default();
            format!("it is {state}, {}{said}", text("reason"))
        }
    };
    Err(Failure::running(format!(
        "Event {number} was not delivered: {why}. More: wigzo-destination events show {number}"
    )))
}

/// Why an organization's events wait, from its delivery.
pub(super) fn why_stopped(delivery: &Value) -> String {
    let text = |key: &str| delivery[key].as_str().unwrap_or_default();
    let state = delivery["state"].as_str().unwrap_or("not served");
    let since = if text("since").is_empty() { String::new() } else { format!(" since {}", text("since")) };
    let because = &delivery["because"];
    match because["reason"].as_str() {
        Some(reason) => format!("it is {state}{since}, {reason}{}", said(because)),
        None => format!("it is {state}{since}"),
    }
}

/// The status and the answer of an attempt, or of why something waits.
fn said(attempt: &Value) -> String {
    let status = attempt["status"].as_u64().map(|status| format!(", HTTP {status}")).unwrap_or_default();
    let answer = attempt["answer"].as_str().or(attempt["response"].as_str()).unwrap_or_default();
    let answer: String = plain(answer).chars().take(SHOWN_ANSWER_CHARS).collect();
    let answer = if answer.trim().is_empty() { String::new() } else { format!(": {}", answer.trim()) };
    format!("{status}{answer}")
}

/// Characters of an answer that a line shows.
const SHOWN_ANSWER_CHARS: usize = 160;

async fn drain(service: &Connection, back: bool, json: bool) -> Result<(), Failure> {
    let answer = post(service, "/api/drain", &json!({ "out_of_rotation": !back })).await?;
    if json {
        say(&format!("{answer}\n"));
    } else if back {
        say("The service is in rotation again.\n");
    } else {
        let (waiting, in_flight) = (&answer["waiting"], &answer["in_flight"]);
        say(&format!(
            "The service is out of rotation and goes on; {}, {in_flight} in flight.\n",
            count_that(waiting, "event", "wait")
        ));
    }
    Ok(())
}

async fn list(service: &Connection, standing: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut query = json!({ "limit": STEP });
    if let Some(standing) = standing {
        query["standing"] = json!(standing);
    }
    let mut shown = 0_usize;
    loop {
        let page = read_json(service.get("/api/organizations", &query).await?).await?;
        let organizations = page["organizations"].as_array().cloned().unwrap_or_default();
        if !json && shown == 0 && !organizations.is_empty() {
            say(&row(["ORGANIZATION", "STANDS", "UNTIL", "WAITING", "DEAD", "IN FLIGHT", "PAUSED BY"]));
        }
        for organization in &organizations {
            say(&if json { format!("{organization}\n") } else { line_of(organization) });
        }
        shown += organizations.len();
        query["cursor"] = page["cursor"].clone();
        if query["cursor"].is_null() {
            break;
        }
    }
    if !json && shown == 0 {
        complain("no organizations");
    }
    Ok(())
}

fn line_of(organization: &Value) -> String {
    let delivery = &organization["delivery"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let paused = &organization["paused"];
    let by = if paused.is_null() {
        String::new()
    } else {
        format!("{} {}", text(&paused["by"]), text(&paused["why"])).trim_end().to_owned()
    };
    let line = row([
        &text(&organization["name"]),
        delivery["state"].as_str().unwrap_or("not served"),
        &text(&delivery["until"]),
        &organization["waiting"].to_string(),
        &organization["dead_letters"].to_string(),
        &delivery["in_flight"].as_u64().unwrap_or_default().to_string(),
        &by,
    ]);
    line + &because(delivery, "  because") + &stopped_endpoints(delivery)
}

/// Why it is not active, as a line.
fn because(delivery: &Value, begin: &str) -> String {
    let because = &delivery["because"];
    let Some(reason) = because["reason"].as_str() else { return String::new() };
    let since = delivery["since"].as_str().map(|since| format!(" since {since}")).unwrap_or_default();
    format!("{begin}{since}: {reason}{}\n", said(because))
}

/// The endpoints of an organization that are not active, a line each.
fn stopped_endpoints(delivery: &Value) -> String {
    let endpoints = delivery["endpoints"].as_array().into_iter().flatten();
    let stopped = endpoints.filter(|it| it["status"] != "active");
    let line = |it: &Value| {
        let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        let name = format!("  endpoint {}", text("endpoint"));
        let users = format!("{} for it", count_that(&it["waiting_lanes"], "user", "wait"));
        let line = format!("{name:<24}  {:<10}  {:<24}  {users}\n", text("status"), text("until"));
        line + &because(it, "    because")
    };
    stopped.map(line).collect()
}

fn row([name, stands, until, waiting, dead, in_flight, by]: [&str; 7]) -> String {
    let by = plain(by);
    let line =
        format!("{name:<24}  {stands:<10}  {until:<24}  {waiting:>9}  {dead:>7}  {in_flight:>9}  {by}");
    format!("{}\n", line.trim_end())
}
