//! Every metric of the service, declared with its unit and meaning where it is registered.

mod groups;
mod labels;
mod reloads;
mod shown;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::declaration::{Declaration, Declared};
use super::exposition::{self, Format};
use super::organizations::ByOrganization;
pub use super::organizations::{OTHERS, PARTNERS};
use super::process::Process;
use super::traces::{SpanCounts, TraceId};
use crate::outcome::{Outcome, Reason};
pub use groups::GROUPS;
use groups::Groups;
use labels::{
    BuildLabels, CodeLabels, EndpointLabels, OrganizationLabels, OrganizationStateLabels, OutcomeLabels,
    ReasonLabels, RequestLabels, ResultLabels, StateLabels, TermLabels, TraceLabels,
};
use reloads::Reloads;
pub use shown::OrganizationState;
use shown::Stopped;

/// A histogram of times, whose buckets name a trace each, if there is one.
type Times = HistogramWithExemplars<TraceLabels>;

/// Every metric of the service.
#[derive(Debug)]
pub struct Metrics {
    registry: Declared,
    process: Process,
    process_registry: Declared,
    /// Organizations that are shown by name.
    most: usize,
    requests: Family<RequestLabels, Counter>,
    reply_seconds: Times,
    /// Events in authenticated requests, whatever became of them.
    pub received: Counter,
    /// Events left out because their message id was seen before.
    pub duplicates: Counter,
    rejected: Family<CodeLabels, Counter>,
    warned: Family<CodeLabels, Counter>,
    unauthenticated: Family<ReasonLabels, Counter>,
    outcomes: Family<OutcomeLabels, Counter>,
    by_organization: ByOrganization,
    retried: Family<ReasonLabels, Counter>,
    attempts: Family<ResultLabels, Counter>,
    call_seconds: Times,
    delivery_seconds: Times,
    /// Calls that were repeated, or given up, although Wigzo may have carried them out.
    pub possible_duplicates: Counter,
    /// Events in flight to Wigzo.
    pub in_flight: Gauge,
    ledger: Family<TermLabels, Gauge>,
    waiting: Family<OrganizationLabels, Gauge>,
    oldest: Family<OrganizationLabels, Gauge>,
    /// Events that were parked.
    pub parkings: Counter,
    organizations: Family<StateLabels, Gauge>,
    organization_state: Family<OrganizationStateLabels, Gauge>,
    concurrency_limit: Family<OrganizationLabels, Gauge>,
    endpoint_status: Family<EndpointLabels, Gauge>,
    blocked_lanes: Family<OrganizationLabels, Gauge>,
    oldest_blocked: Family<OrganizationLabels, Gauge>,
    stopped: Stopped,
    parked: Family<OrganizationLabels, Gauge>,
    dead_letters: Family<OrganizationLabels, Gauge>,
    /// Dead letters that `queue.max_dead_letters` has cost.
    pub dropped: Gauge,
    reloads: Reloads,
    /// `queue.max_disk`, in bytes.
    pub queue_limit: Gauge,
    /// Bytes of disk that the queue uses.
    pub queue_bytes: Gauge,
    /// Bytes of that which are records of ended events.
    pub history_bytes: Gauge,
    groups: Groups,
    log_lines_lost: Counter,
    /// What became of spans.
    pub spans: SpanCounts,
}

/// From half a millisecond to about 16 seconds, doubling.
fn seconds() -> Times {
    Times::new((0..16).map(|power| 0.0005 * f64::from(1_u32 << power)))
}

/// From five milliseconds to a week: an event may wait as long as Wigzo is away.
fn ages() -> Times {
    let bounds = [
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0,
        14_400.0, 86_400.0, 604_800.0,
    ];
    Times::new(bounds.into_iter())
}

fn observe(times: &Times, took: Duration, trace: Option<TraceId>) {
    times.observe(took.as_secs_f64(), trace.map(|trace_id| TraceLabels { trace_id }), None);
}

impl Metrics {
    /// All metrics at zero; so many organizations are shown by name at most.
    pub fn new(organizations: usize) -> Self {
        let mut metrics = Self {
            registry: Declared::with_prefix("wigzo_destination"),
            process: Process::default(),
            process_registry: Declared::with_prefix("process"),
            most: organizations,
            requests: Family::default(),
            reply_seconds: seconds(),
            received: Counter::default(),
            duplicates: Counter::default(),
            rejected: Family::default(),
            warned: Family::default(),
            unauthenticated: Family::default(),
            outcomes: Family::default(),
            by_organization: ByOrganization::new(organizations),
            retried: Family::default(),
            attempts: Family::default(),
            call_seconds: seconds(),
            delivery_seconds: ages(),
            possible_duplicates: Counter::default(),
            in_flight: Gauge::default(),
            ledger: Family::default(),
            waiting: Family::default(),
            oldest: Family::default(),
            parkings: Counter::default(),
            organizations: Family::default(),
            organization_state: Family::default(),
            concurrency_limit: Family::default(),
            endpoint_status: Family::default(),
            blocked_lanes: Family::default(),
            oldest_blocked: Family::default(),
            stopped: Stopped::default(),
            parked: Family::default(),
            dead_letters: Family::default(),
            dropped: Gauge::default(),
            reloads: Reloads::default(),
            queue_limit: Gauge::default(),
            queue_bytes: Gauge::default(),
            history_bytes: Gauge::default(),
            groups: Groups::default(),
            log_lines_lost: Counter::default(),
            spans: SpanCounts::default(),
        };
        let build = Info::new(BuildLabels { version: env!("CARGO_PKG_VERSION") });
        metrics.registry.register("build", "The program that runs", build);
        metrics.register_requests();
        metrics.register_deliveries();
        metrics.register_organizations();
        metrics.register_queue();
        metrics.register_telemetry();
        metrics.reloads.register(&mut metrics.registry);
        metrics.process.register(&mut metrics.process_registry);
        metrics
    }

    /// What comes in.
    fn register_requests(&mut self) {
        let registry = &mut self.registry;
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
    }

    /// What goes out.
    fn register_deliveries(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "outcomes",
            "Events that ended since the start, by outcome and reason",
            self.outcomes.clone(),
        );
        registry.register(
            "organization_outcomes",
            "The same by organization: the most active by name, decided anew every minute",
            self.by_organization.family.clone(),
        );
        registry.register(
            "retries",
            "Rounds of work after which an event waits for another one, by reason",
            self.retried.clone(),
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
            "events_parked",
            "Events that their lanes have gone on without",
            self.parkings.clone(),
        );
    }

    /// How each organization stands.
    fn register_organizations(&mut self) {
        let registry = &mut self.registry;
        registry.register("waiting_events", "Waiting events by organization", self.waiting.clone());
        registry.register_with_unit(
            "oldest_waiting",
            "How long the first of an organization's waiting events has been waiting; `_other`: the longest of the rest",
            Unit::Seconds,
            self.oldest.clone(),
        );
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
            "organizations",
            "Organizations by what their delivery may do: open, held, paused, suspended, failing, probing, disabled, unconfigured",
            self.organizations.clone(),
        );
        registry.register(
            "organization_state",
            "1 for what an organization's delivery may do; those that are not open, or have an endpoint that is not active, come first",
            self.organization_state.clone(),
        );
        registry.register(
            "concurrency_limit",
            "Events that may be in flight by what Wigzo seems to stand, by organization",
            self.concurrency_limit.clone(),
        );
        registry.register(
            "endpoint_status",
            "1 for the status of an endpoint that an organization uses, 0 for each other status; those of the organizations in `organization_state`",
            self.endpoint_status.clone(),
        );
        registry.register(
            "blocked_lanes",
            "Users whose next event has failed, or waits for an endpoint that may not be called now, by organization",
            self.blocked_lanes.clone(),
        );
        registry.register_with_unit(
            "oldest_blocked",
            "How long the first of those users has been blocked, 0 if there is none; `_other`: the longest of the rest",
            Unit::Seconds,
            self.oldest_blocked.clone(),
        );
    }

    /// What the queue holds.
    fn register_queue(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "ledger_events",
            "The conservation count since the queue was created: accepted = delivered + filtered + expired + dead + waiting",
            self.ledger.clone(),
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
        registry.register(
            "queue_group_commands",
            "Appends and settlements that one commit of the queue carried",
            self.groups.clone(),
        );
    }

    /// What becomes of what the service says about itself.
    fn register_telemetry(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "log_lines_lost",
            "Log lines for which there was no room, because whoever reads them was too slow",
            self.log_lines_lost.clone(),
        );
        registry.register(
            "spans_exported",
            "Spans that the collector has taken",
            self.spans.exported.clone(),
        );
        registry.register(
            "spans_lost",
            "Spans that the collector has not taken, or for which there was no room",
            self.spans.lost.clone(),
        );
    }

    /// Counts a reply.
    pub fn reply(&self, route: &'static str, status: u16, took: Duration, trace: Option<TraceId>) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
        observe(&self.reply_seconds, took, trace);
    }

    /// Counts a request that cannot be authenticated.
    pub fn unauthenticated(&self, reason: &'static str) {
        self.unauthenticated.get_or_create(&ReasonLabels { reason }).inc();
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
    pub fn attempt(&self, result: Reason, took: Duration, trace: Option<TraceId>) {
        self.attempts.get_or_create(&ResultLabels { result: result.as_str() }).inc();
        observe(&self.call_seconds, took, trace);
    }

    /// Counts an event that waits for another round.
    pub fn retried(&self, reason: Reason) {
        self.retried.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
    }

    /// Counts an outcome, with the event's age.
    pub fn outcome(
        &self,
        organization: &str,
        outcome: Outcome,
        reason: Reason,
        age: Duration,
        trace: Option<TraceId>,
    ) {
        let labels = OutcomeLabels { outcome: outcome.as_str(), reason: reason.as_str() };
        self.outcomes.get_or_create(&labels).inc();
        self.by_organization.count(organization, outcome);
        observe(&self.delivery_seconds, age, trace);
    }

    /// Decides anew which organizations have counters of their own, if it is time.
    pub fn elect(&self, now: Instant) {
        self.by_organization.elect_if_due(now);
    }

    /// Shows how many log lines have been lost.
    pub fn show_log_lines_lost(&self, lines: u64) {
        self.log_lines_lost.inner().store(lines, Ordering::Relaxed);
    }

    /// The metrics in a text format.
    pub fn print(&self, format: Format) -> String {
        let mut printed = String::new();
        let shown = [Some(&self.registry), self.process.refresh().then_some(&self.process_registry)];
        shown
            .into_iter()
            .flatten()
            .try_for_each(|declared| text::encode_registry(&mut printed, &declared.registry))
            .and_then(|()| text::encode_eof(&mut printed))
            .expect("BUG: writing to a String cannot fail");
        match format {
            Format::OpenMetrics => printed,
            Format::Plain => exposition::plain(&printed, self.declarations()),
        }
    }

    /// Every metric, in the order of their printing.
    pub fn declarations(&self) -> impl Iterator<Item = &Declaration> {
        self.registry.declarations.iter().chain(&self.process_registry.declarations)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(super::Config::default().metric_organizations)
    }
}

/// Gauges are signed; no count of ours comes near the limit.
pub fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
