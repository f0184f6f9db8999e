//! What the service says about itself: logs and metrics.
//!
//! Every metric is declared here once, with its unit and meaning; label sets are closed or bounded. Neither logs nor
//! metrics ever hold a token, a secret or anything about a person: events are named by their number.
//!
//! The list of declarations is `docs/metrics.md`: `UPDATE_GOLDEN=1 cargo test --test ops metrics` prints it anew.

mod declaration;
mod process;

use std::io::IsTerminal;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::outcome::{Outcome, Reason};
use declaration::Declared;
pub use declaration::{Declaration, Kind, LABELS};
use process::Process;

/// `[telemetry]`: logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Form of the log lines: `pretty` for people, `json` for machines, `auto` is pretty on a terminal.
    pub log_format: LogFormat,
    /// Which lines are logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels per target (`info,hyper=warn`).
    /// The target `audit` tells every change over the private side, at any level unless it is named (`warn,audit=off`).
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { log_format: LogFormat::Auto, log: "info".to_owned() }
    }
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// What `telemetry.log` should have looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a level or levels per target, such as \"info\" or \"info,hyper=warn\"")]
pub struct BadFilter;

impl Config {
    /// Which lines are logged, read: what the operator says, and always the audit lines, unless they are named.
    ///
    /// # Errors
    /// When `log` is not a filter.
    pub fn filter(&self) -> Result<EnvFilter, BadFilter> {
        EnvFilter::try_new(format!("audit=info,{}", self.log)).map_err(|_| BadFilter)
    }
}

/// Starts logging to standard error. Safe to call twice: the first call stands.
///
/// # Errors
/// When `log` is not a filter.
pub fn start_logging(config: &Config) -> Result<(), BadFilter> {
    let filter = config.filter()?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match config.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    // A second subscriber is refused: tests start several services in one process.
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else if terminal {
        // In colours, unless NO_COLOR is set.
        builder.with_target(false).try_init()
    } else {
        builder.with_target(false).with_ansi(false).try_init()
    };
    Ok(())
}

/// Every metric of the service.
#[derive(Debug)]
pub struct Metrics {
    registry: Declared,
    process: Process,
    process_registry: Declared,
    requests: Family<RequestLabels, Counter>,
    reply_seconds: Histogram,
    /// Events in authenticated requests, whatever became of them.
    pub received: Counter,
    /// Events left out because their message id was seen before.
    pub duplicates: Counter,
    rejected: Family<CodeLabels, Counter>,
    warned: Family<CodeLabels, Counter>,
    unauthenticated: Family<UnauthenticatedLabels, Counter>,
    outcomes: Family<OutcomeLabels, Counter>,
    attempts: Family<ReasonLabels, Counter>,
    call_seconds: Histogram,
    delivery_seconds: Histogram,
    /// Calls that were repeated, or given up, although Wigzo may have carried them out.
    pub possible_duplicates: Counter,
    /// Events in flight to Wigzo.
    pub in_flight: Gauge,
    ledger: Family<TermLabels, Gauge>,
    waiting: Family<OrganizationLabels, Gauge>,
    /// Events that were parked.
    pub parkings: Counter,
    organizations: Family<StateLabels, Gauge>,
    organization_state: Family<OrganizationStateLabels, Gauge>,
    concurrency_limit: Family<OrganizationLabels, Gauge>,
    parked: Family<OrganizationLabels, Gauge>,
    dead_letters: Family<OrganizationLabels, Gauge>,
    /// Dead letters that `queue.max_dead_letters` has cost.
    pub dropped: Gauge,
    reloads: Family<ReasonLabels, Counter>,
    reload_successful: Gauge,
    reload_success_at: Gauge,
    /// `queue.max_disk`, in bytes.
    pub queue_limit: Gauge,
    /// Bytes of disk that the queue uses.
    pub queue_bytes: Gauge,
    /// Bytes of that which are records of ended events.
    pub history_bytes: Gauge,
    /// Commits of the queue.
    pub commits: Gauge,
    /// Commands that those commits carried.
    pub commands: Gauge,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnauthenticatedLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    result: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TermLabels {
    term: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OrganizationLabels {
    organization: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OrganizationStateLabels {
    organization: String,
    state: &'static str,
}

/// How an organization's delivery stands, as metrics show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrganizationState<'a> {
    /// The organization.
    pub organization: &'a str,
    /// What it may do: one of a closed list.
    pub state: &'static str,
    /// Whether that is as it should be.
    pub is_well: bool,
    /// Events in flight.
    pub in_flight: usize,
    /// How many may be.
    pub concurrency_limit: usize,
}

/// Organizations that are shown by name; the rest is summed as `(other)`, so that the label set stays bounded.
const NAMED_ORGANIZATIONS: usize = 20;

/// From half a millisecond to about 16 seconds, doubling.
fn seconds() -> Histogram {
    Histogram::new((0..16).map(|power| 0.0005 * f64::from(1_u32 << power)))
}

/// From five milliseconds to a week: an event may wait as long as Wigzo is away.
fn ages() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0,
        14_400.0, 86_400.0, 604_800.0,
    ])
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Declared::with_prefix("wigzo_destination"),
            process: Process::default(),
            process_registry: Declared::with_prefix("process"),
            requests: Family::default(),
            reply_seconds: seconds(),
            received: Counter::default(),
            duplicates: Counter::default(),
            rejected: Family::default(),
            warned: Family::default(),
            unauthenticated: Family::default(),
            outcomes: Family::default(),
            attempts: Family::default(),
            call_seconds: seconds(),
            delivery_seconds: ages(),
            possible_duplicates: Counter::default(),
            in_flight: Gauge::default(),
            ledger: Family::default(),
            waiting: Family::default(),
            parkings: Counter::default(),
            organizations: Family::default(),
            organization_state: Family::default(),
            concurrency_limit: Family::default(),
            parked: Family::default(),
            dead_letters: Family::default(),
            dropped: Gauge::default(),
            reloads: Family::default(),
            reload_successful: Gauge::default(),
            reload_success_at: Gauge::default(),
            queue_limit: Gauge::default(),
            queue_bytes: Gauge::default(),
            history_bytes: Gauge::default(),
            commits: Gauge::default(),
            commands: Gauge::default(),
        };
        metrics.register();
        metrics.register_organizations();
        metrics.register_reloads();
        metrics
    }

    fn register(&mut self) {
        self.process.register(&mut self.process_registry);
        let registry = &mut self.registry;
        let build = Info::new(BuildLabels { version: env!("CARGO_PKG_VERSION") });
        registry.register("build", "The program that runs", build);
        registry.register("requests", "Requests by family of routes and status", self.requests.clone());
        registry.register_with_unit(
            "reply",
            "From the last byte of a request to its reply",
            Unit::Seconds,
            self.reply_seconds.clone(),
        );
        registry.register(
            "events_received",
            "Events in authenticated requests, whatever became of them",
            self.received.clone(),
        );
        registry.register("events_duplicate", "Events left out as already seen", self.duplicates.clone());
        registry.register("events_rejected", "Events refused, by code", self.rejected.clone());
        registry.register("events_warned", "Events taken although odd, by code", self.warned.clone());
        registry.register(
            "requests_unauthenticated",
            "Requests answered 401, or 429 after too many of them, by what was wrong",
            self.unauthenticated.clone(),
        );
        registry.register(
            "outcomes",
            "Events that ended since the start, by outcome and reason",
            self.outcomes.clone(),
        );
        registry.register("attempts", "Tries of calls to Wigzo, by what came of them", self.attempts.clone());
        registry.register_with_unit(
            "call",
            "One try of one call to Wigzo",
            Unit::Seconds,
            self.call_seconds.clone(),
        );
        registry.register_with_unit(
            "delivery",
            "From an event's arrival to its outcome",
            Unit::Seconds,
            self.delivery_seconds.clone(),
        );
        registry.register(
            "possible_duplicates",
            "Calls without an answer that Wigzo may have carried out",
            self.possible_duplicates.clone(),
        );
        registry.register("in_flight", "Events in flight to Wigzo", self.in_flight.clone());
        registry.register(
            "ledger_events",
            "The conservation count since the queue was created: accepted = delivered + filtered + expired + dead + waiting",
            self.ledger.clone(),
        );
        registry.register("waiting_events", "Waiting events by organization", self.waiting.clone());
        registry.register(
            "parked_events",
            "Waiting events that are tried by themselves, by organization",
            self.parked.clone(),
        );
        registry.register(
            "dead_letters",
            "Dead letters that nobody has decided about, by organization",
            self.dead_letters.clone(),
        );
        registry.register(
            "dead_letters_dropped",
            "Dead letters that `queue.max_dead_letters` has cost since the start",
            self.dropped.clone(),
        );
        registry.register_with_unit(
            "queue_disk",
            "Disk that the queue uses, without free pages",
            Unit::Bytes,
            self.queue_bytes.clone(),
        );
        registry.register_with_unit(
            "queue_disk_limit",
            "`queue.max_disk`: at it new requests are refused with 429",
            Unit::Bytes,
            self.queue_limit.clone(),
        );
        registry.register_with_unit(
            "history_disk",
            "Disk that records of ended events use",
            Unit::Bytes,
            self.history_bytes.clone(),
        );
        registry.register("queue_commits", "Commits of the queue since the start", self.commits.clone());
        registry.register(
            "queue_commands",
            "Appends and settlements that those commits carried",
            self.commands.clone(),
        );
    }

    /// How delivery treats each organization.
    fn register_organizations(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "events_parked",
            "Events that their lanes have gone on without",
            self.parkings.clone(),
        );
        registry.register(
            "organizations",
            "Organizations by what their delivery may do: open, held, paused, suspended, failing, probing, disabled, unconfigured",
            self.organizations.clone(),
        );
        registry.register(
            "organization_state",
            "1 for what an organization's delivery may do; those that are not open come first",
            self.organization_state.clone(),
        );
        registry.register(
            "concurrency_limit",
            "Events that may be in flight by what Wigzo seems to stand, by organization",
            self.concurrency_limit.clone(),
        );
    }

    /// How the configuration is followed. The start counts as a success, and as no reload.
    fn register_reloads(&mut self) {
        self.reload_successful.set(1);
        let registry = &mut self.registry;
        registry.register(
            "config_reloads",
            "Reloads of the configuration, by what came of them",
            self.reloads.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "1 if the configuration that was read last is in force, 0 if it was refused",
            self.reload_successful.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "When the configuration in force was taken over, in seconds since 1970",
            Unit::Seconds,
            self.reload_success_at.clone(),
        );
    }

    /// Notes when the configuration in force was taken over, in seconds since 1970.
    pub fn in_force_since(&self, seconds: u64) {
        self.reload_success_at.set(gauge(seconds));
    }

    /// Counts a reload: taken over at this time, or refused.
    pub fn reloaded(&self, taken_over: Option<u64>) {
        let result = if taken_over.is_some() { "applied" } else { "refused" };
        self.reloads.get_or_create(&ReasonLabels { result }).inc();
        self.reload_successful.set(i64::from(taken_over.is_some()));
        if let Some(seconds) = taken_over {
            self.in_force_since(seconds);
        }
    }

    /// Counts a reply.
    pub fn reply(&self, route: &'static str, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
        self.reply_seconds.observe(took.as_secs_f64());
    }

    /// Counts a request that cannot be authenticated.
    pub fn unauthenticated(&self, reason: &'static str) {
        self.unauthenticated.get_or_create(&UnauthenticatedLabels { reason }).inc();
    }

    /// Counts a refused event.
    pub fn rejected(&self, code: &'static str) {
        self.rejected.get_or_create(&CodeLabels { code }).inc();
    }

    /// Counts an event that is taken although something about it is odd.
    pub fn warned(&self, code: &'static str) {
        self.warned.get_or_create(&CodeLabels { code }).inc();
    }

    /// Counts one try of one call.
    pub fn attempt(&self, result: Reason, took: Duration) {
        self.attempts.get_or_create(&ReasonLabels { result: result.as_str() }).inc();
        self.call_seconds.observe(took.as_secs_f64());
    }

    /// Counts an outcome, with the event's age.
    pub fn outcome(&self, outcome: Outcome, reason: Reason, age: Duration) {
        let labels = OutcomeLabels { outcome: outcome.as_str(), reason: reason.as_str() };
        self.outcomes.get_or_create(&labels).inc();
        self.delivery_seconds.observe(age.as_secs_f64());
    }

    /// Shows the conservation count. All terms must belong to the same moment.
    pub fn show_ledger(&self, terms: [(&'static str, u64); 6]) {
        for (term, count) in terms {
            self.ledger.get_or_create(&TermLabels { term }).set(gauge(count));
        }
    }

    /// Shows the waiting events of the organizations with the most of them.
    pub fn show_waiting<'a>(&self, counts: impl Iterator<Item = (&'a str, u64)>) {
        show_by_organization(&self.waiting, counts);
    }

    /// The same of parked events.
    pub fn show_parked<'a>(&self, counts: impl Iterator<Item = (&'a str, u64)>) {
        show_by_organization(&self.parked, counts);
    }

    /// The same of dead letters.
    pub fn show_dead_letters<'a>(&self, counts: impl Iterator<Item = (&'a str, u64)>) {
        show_by_organization(&self.dead_letters, counts);
    }

    /// Shows how delivery stands: how many organizations are in each of `states`, and by name those that are not well,
    /// then the busiest.
    pub fn show_organizations<'a>(
        &self,
        states: impl Iterator<Item = &'static str>,
        organizations: impl Iterator<Item = OrganizationState<'a>>,
    ) {
        let mut organizations: Vec<_> = organizations.collect();
        for state in states {
            let count = organizations.iter().filter(|it| it.state == state).count();
            self.organizations.get_or_create(&StateLabels { state }).set(gauge(count as u64));
        }
        organizations.sort_by_key(|it| (it.is_well, std::cmp::Reverse(it.in_flight)));
        self.organization_state.clear();
        self.concurrency_limit.clear();
        for it in organizations.iter().take(NAMED_ORGANIZATIONS) {
            let organization = it.organization.to_owned();
            let labels = OrganizationStateLabels { organization: organization.clone(), state: it.state };
            self.organization_state.get_or_create(&labels).set(1);
            let labels = OrganizationLabels { organization };
            self.concurrency_limit.get_or_create(&labels).set(gauge(it.concurrency_limit as u64));
        }
    }

    /// The metrics in the `OpenMetrics` text format.
    pub fn print(&self) -> String {
        let mut printed = String::new();
        let shown = [Some(&self.registry), self.process.refresh().then_some(&self.process_registry)];
        shown
            .into_iter()
            .flatten()
            .try_for_each(|declared| text::encode_registry(&mut printed, &declared.registry))
            .and_then(|()| text::encode_eof(&mut printed))
            .expect("BUG: writing to a String cannot fail");
        printed
    }

    /// Every metric, in the order of their printing.
    pub fn declarations(&self) -> impl Iterator<Item = &Declaration> {
        self.registry.declarations.iter().chain(&self.process_registry.declarations)
    }
}

fn show_by_organization<'a>(
    family: &Family<OrganizationLabels, Gauge>,
    counts: impl Iterator<Item = (&'a str, u64)>,
) {
    let mut counts: Vec<(&str, u64)> = counts.collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let rest = counts.split_off(counts.len().min(NAMED_ORGANIZATIONS));
    counts.push(("(other)", rest.iter().map(|(_, count)| count).sum()));
    family.clear();
    for (organization, count) in counts {
        let labels = OrganizationLabels { organization: organization.to_owned() };
        family.get_or_create(&labels).set(gauge(count));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Gauges are signed; no count of ours comes near the limit.
pub fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
