//! What other rooms may see of delivery, and ask of it.

use std::sync::{Arc, PoisonError};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::Config;
use super::because::{Because, LastFailures};
use super::holds::{Held, Hold, Holds, HoldsError};
use super::scheduler::{EndpointStanding, Standing, Status, Why};
use crate::clock::{Clock, UnixMillis};
use crate::organization::{Organizations, Partner};
use crate::queue::{LaneKey, Queue, QueueError, Selection, Seq};
use crate::wigzo::Endpoint;

/// A door to the running delivery. Cheap to clone; looking never waits.
#[derive(Debug, Clone)]
pub struct Handle {
    retries: Retries,
    overview: watch::Receiver<Arc<[Overview]>>,
    holds: Arc<Holds>,
    /// Held from the file to the scheduler, so that both hear a hold and its end in the same order.
    in_turn: Arc<Mutex<()>>,
    /// Retries under way. They end with the last handle.
    background: Arc<std::sync::Mutex<JoinSet<()>>>,
}

/// How one organization's delivery stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Overview {
    /// The organization.
    pub organization: Arc<str>,
    /// What it may do now, as a whole: `open` although an endpoint is not active, if something else succeeds.
    pub state: State,
    /// Whether a circuit breaker keeps it from making calls, as a whole.
    pub breaker: BreakerState,
    /// When that may change by itself; absent if it is open, or waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
    /// Since when it has not been open; absent if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    /// The last failed call, if that is why it is not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
    /// Probes that have failed in a row.
    pub failed_probes: u32,
    /// Different people whose events have failed without one being delivered in between.
    pub failing_lanes: usize,
    /// Events in flight.
    pub in_flight: usize,
    /// How many may be: what Wigzo seems to stand, at most what is configured.
    pub concurrency_limit: usize,
    /// Waiting events in memory.
    pub held: usize,
    /// Waiting events that are held by number.
    pub held_by_number: usize,
    /// Users whose next event has failed, or waits for an endpoint that may not be called now; their later events wait for
    /// it.
    pub blocked_lanes: usize,
    /// Since when the first of them has been waiting for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_since: Option<UnixMillis>,
    /// Wigzo's endpoints, as far as this organization needs them.
    pub endpoints: Vec<EndpointOverview>,
}

/// The calls of one organization to one of Wigzo's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EndpointOverview {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What may be done with it now.
    pub status: EndpointStatus,
    /// When that may change by itself; absent if it is active or probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
    /// Since when it has not been active; absent if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    /// The last failed call there; absent if it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
    /// Probes that have failed in a row, in pairs.
    pub failed_probes: u32,
    /// Different users whose events have failed there without a success in between.
    pub failing_lanes: usize,
    /// Calls in flight.
    pub in_flight: usize,
    /// How many may be.
    pub concurrency_limit: usize,
    /// Users whose next event is ready for it.
    pub waiting_lanes: usize,
}

/// What may be done with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointStatus {
    /// Calls are made.
    Active,
    /// Wigzo asked for a pause (`Retry-After`).
    Throttled,
    /// Wigzo refuses the calls: 401, 403, 404, 405, 410 or a redirect.
    Suspended,
    /// Its circuit breaker is open.
    Tripped,
    /// A few events find out whether it goes again.
    Probing,
}

impl EndpointStatus {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Active, Self::Throttled, Self::Suspended, Self::Tripped, Self::Probing];

    /// The stable string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Throttled => "throttled",
            Self::Suspended => "suspended",
            Self::Tripped => "tripped",
            Self::Probing => "probing",
        }
    }
}

/// What an organization may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Standing")]
pub enum State {
    /// Everything goes.
    Open,
    /// An operator holds it.
    Held,
    /// Wigzo asked for a pause.
    Paused,
    /// Wigzo refuses its token or address.
    Suspended,
    /// A circuit breaker is open, and nothing else succeeds.
    Failing,
    /// A few events find out whether it goes again.
    Probing,
    /// It is switched off in the configuration; what waits goes on waiting.
    Disabled,
    /// Events wait for it, and there is no such organization in the configuration.
    Unconfigured,
}

impl State {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Open,
        Self::Held,
        Self::Paused,
        Self::Suspended,
        Self::Failing,
        Self::Probing,
        Self::Disabled,
        Self::Unconfigured,
    ];

    /// The stable string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Failing => "failing",
            Self::Probing => "probing",
            Self::Disabled => "disabled",
            Self::Unconfigured => "unconfigured",
        }
    }

    /// Whether that is as it should be.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Open | Self::Disabled)
    }
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// No calls are made.
    Open,
    /// A few calls find out whether it can close.
    HalfOpen,
}

impl Overview {
    pub(super) fn new(organization: &Arc<str>, standing: Standing, failures: &LastFailures) -> Self {
        let (state, failed_probes) = match standing.status {
            Status::Active => (State::Open, 0),
            Status::Paused => (State::Held, 0),
            Status::Throttled(_) => (State::Paused, 0),
            Status::Suspended { failures, .. } => (State::Suspended, failures),
            Status::Tripped { failures, .. } => (State::Failing, failures),
            Status::Probing { failures, .. } => (State::Probing, failures),
        };
        let breaker = match standing.status {
            Status::Tripped { .. } => BreakerState::Open,
            Status::Probing { why: Why::Failing, .. } => BreakerState::HalfOpen,
            _ => BreakerState::Closed,
        };
        let endpoint_of = |standing| {
            let mut endpoint = EndpointOverview::from(standing);
            if endpoint.status != EndpointStatus::Active {
                endpoint.because = failures.of(organization, endpoint.endpoint).cloned();
            }
            endpoint
        };
        let endpoints: Vec<_> = standing.endpoints.into_iter().map(endpoint_of).collect();
        let because = match state {
            State::Open | State::Held | State::Disabled | State::Unconfigured => None,
            // Where no connection can be made, the endpoints themselves may be active.
            State::Paused | State::Suspended | State::Failing | State::Probing => {
                let all = endpoints.iter().filter_map(|it| failures.of(organization, it.endpoint));
                let stopped = endpoints.iter().filter_map(|it| it.because.as_ref());
                stopped.max_by_key(|it| it.at).or_else(|| all.max_by_key(|it| it.at)).cloned()
            }
        };
        Self {
            organization: Arc::clone(organization),
            state,
            since: standing.stopped_at,
            because,
            breaker,
            until: standing.status.until(),
            failed_probes,
            failing_lanes: standing.failing_lanes,
            in_flight: standing.in_flight,
            concurrency_limit: standing.limit,
            held: standing.held,
            held_by_number: standing.held_by_number,
            blocked_lanes: standing.held_up_lanes,
            blocked_since: standing.held_up_since,
            endpoints,
        }
    }
}

impl From<EndpointStanding> for EndpointOverview {
    fn from(standing: EndpointStanding) -> Self {
        let (status, failed_probes) = match standing.status {
            Status::Active | Status::Paused => (EndpointStatus::Active, 0),
            Status::Throttled(_) => (EndpointStatus::Throttled, 0),
            Status::Suspended { failures, .. } => (EndpointStatus::Suspended, failures),
            Status::Tripped { failures, .. } => (EndpointStatus::Tripped, failures),
            Status::Probing { failures, .. } => (EndpointStatus::Probing, failures),
        };
        Self {
            endpoint: standing.endpoint,
            status,
            until: standing.status.until(),
            since: standing.stopped_at,
            because: None,
            failed_probes,
            failing_lanes: standing.failing_lanes,
            in_flight: standing.in_flight,
            concurrency_limit: standing.limit,
            waiting_lanes: standing.waiting_lanes,
        }
    }
}

impl Overview {
    /// One that is not served.
    pub(super) fn unserved(organization: Arc<str>, state: State) -> Self {
        Self {
            organization,
            state,
            breaker: BreakerState::Closed,
            until: None,
            since: None,
            because: None,
            failed_probes: 0,
            failing_lanes: 0,
            in_flight: 0,
            concurrency_limit: 0,
            held: 0,
            held_by_number: 0,
            blocked_lanes: 0,
            blocked_since: None,
            endpoints: Vec::new(),
        }
    }

    /// Whether nothing need be said of it.
    pub(super) fn is_well(&self) -> bool {
        self.state == State::Open && self.stopped_endpoints().next().is_none()
    }

    /// Endpoints that may not be called. Probes are no news: they have been announced.
    pub(super) fn stopped_endpoints(&self) -> impl Iterator<Item = &EndpointOverview> {
        self.endpoints.iter().filter(|it| it.status != EndpointStatus::Active)
    }

    /// Whether what was logged last of this organization is still true.
    pub(super) fn is_as_told(&self, now: &Self) -> bool {
        let endpoints = |overview: &Self| {
            let stopped = overview.stopped_endpoints();
            stopped.map(|it| (it.endpoint, it.status, it.until)).collect::<Vec<_>>()
        };
        (self.state, self.until) == (now.state, now.until) && endpoints(self) == endpoints(now)
    }

    /// Logs what has changed since it was logged last: of the organization as a whole, else of its endpoints.
    pub(super) fn log_change(&self, before: Option<&Self>) {
        let organization = &self.organization;
        let until = self.until.map(tracing::field::display);
        let Said { reason, http_status, answer } = Said::of(self.because.as_ref());
        let since = self.since.map(tracing::field::display);
        let is_new = before.is_none_or(|before| (before.state, before.until) != (self.state, self.until));
        match self.state {
            State::Open => {
                if before.is_some_and(|before| before.state != State::Open) {
                    tracing::info!(%organization, "this organization's events go to Wigzo again");
                }
                self.log_endpoints(before);
            }
            _ if !is_new => {}
            State::Suspended if Partner::is_name(organization) => {
                // Nobody here can correct it: it is the customer's own setting, or made up.
                tracing::warn!(
                    %organization, reason, http_status, answer, since, probe_at = until,
                    "Wigzo refuses this partner's token; its events wait"
                );
            }
            State::Suspended => tracing::error!(
                %organization, reason, http_status, answer, since, probe_at = until,
                "Wigzo refuses this organization's token or address; its events wait until it is corrected"
            ),
            State::Failing => tracing::warn!(
                %organization, reason, http_status, answer, since, probe_at = until,
                "this organization's calls fail one after the other; its events wait until a probe succeeds"
            ),
            State::Paused => {
                tracing::info!(%organization, reason, http_status, since, until, "Wigzo asks this organization to pause");
            }
            // Logged when it became so.
            State::Held | State::Probing | State::Disabled | State::Unconfigured => {}
        }
    }

    fn log_endpoints(&self, before: Option<&Self>) {
        let organization = &self.organization;
        for now in &self.endpoints {
            let before = before.and_then(|it| it.endpoints.iter().find(|it| it.endpoint == now.endpoint));
            let was = before.map_or(EndpointStatus::Active, |it| it.status);
            if was == now.status && before.is_none_or(|it| it.until == now.until) {
                continue;
            }
            let (endpoint, until) = (now.endpoint.as_str(), now.until.map(tracing::field::display));
            let waiting_lanes = now.waiting_lanes;
            let Said { reason, http_status, answer } = Said::of(now.because.as_ref());
            let since = now.since.map(tracing::field::display);
            match now.status {
                EndpointStatus::Active => {
                    tracing::info!(%organization, endpoint, "calls to this endpoint succeed again");
                }
                EndpointStatus::Throttled => tracing::info!(
                    %organization, endpoint, reason, http_status, since, until,
                    "Wigzo asks for a pause at this endpoint; other calls go on"
                ),
                EndpointStatus::Suspended => tracing::error!(
                    %organization, endpoint, reason, http_status, answer, since, probe_at = until, waiting_lanes,
                    "Wigzo refuses the calls to this endpoint; events that need it wait, others go on"
                ),
                EndpointStatus::Tripped => tracing::warn!(
                    %organization, endpoint, reason, http_status, answer, since, probe_at = until, waiting_lanes,
                    "calls to this endpoint fail; events that need it wait, others go on"
                ),
                EndpointStatus::Probing => {}
            }
        }
    }
}

/// A failed call, as fields of a log line.
struct Said {
    reason: Option<&'static str>,
    http_status: Option<u16>,
    answer: Option<String>,
}

impl Said {
    fn of(because: Option<&Because>) -> Self {
        Self {
            reason: because.map(|it| it.reason.as_str()),
            http_status: because.and_then(|it| it.status),
            answer: because.map(Because::answer_for_log),
        }
    }
}

/// What delivery may be asked for.
#[derive(Debug)]
pub(super) enum Command {
    Hold(Arc<str>, oneshot::Sender<bool>),
    Resume(Arc<str>, oneshot::Sender<bool>),
    /// The queue has made events due: these, or all; and whether parked ones are among them.
    Retry {
        organization: Arc<str>,
        events: Option<Vec<(LaneKey, Seq)>>,
        parked: bool,
        reply: oneshot::Sender<bool>,
    },
    Configure(Box<Configuration>, oneshot::Sender<bool>),
}

/// What a reload brings.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) config: Config,
    pub(super) organizations: Arc<Organizations>,
}

/// The side of delivery.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) overview: watch::Sender<Arc<[Overview]>>,
}

/// Commands that may wait to be heard.
const WAITING_COMMANDS: usize = 16;

pub(super) fn open(holds: Arc<Holds>, queue: Queue, clock: Clock) -> (Handle, Desk) {
    let (commands, heard) = mpsc::channel(WAITING_COMMANDS);
    let (shown, overview) = watch::channel(Arc::from([]));
    let retries = Retries { commands, queue, clock };
    let handle = Handle { retries, overview, holds, in_turn: Arc::default(), background: Arc::default() };
    (handle, Desk { commands: heard, overview: shown })
}

/// Ends the wait of events: in the queue, then in delivery.
#[derive(Debug, Clone)]
struct Retries {
    commands: mpsc::Sender<Command>,
    queue: Queue,
    /// Delivery's own: due times are given by it.
    clock: Clock,
}

impl Retries {
    async fn retry(&self, organization: Arc<str>, selection: Selection) -> Result<u64, QueueError> {
        let hastened = self.queue.hasten(Arc::clone(&organization), selection, self.clock.now()).await?;
        // When too many have a reason for all to be named, all are tried: better a few too early than one too late.
        let is_all = selection == Selection::All || !hastened.is_complete();
        let (count, parked) = (hastened.count, hastened.parked > 0);
        let events = (!is_all).then_some(hastened.events);
        self.ask(|reply| Command::Retry { organization, events, parked, reply }).await;
        Ok(count)
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<bool>) -> Command) -> bool {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.is_ok() && answer.await.unwrap_or(false)
    }
}

impl Handle {
    /// How every organization stands, as of a quarter of a second ago at most.
    pub fn overview(&self) -> Arc<[Overview]> {
        Arc::clone(&self.overview.borrow())
    }

    /// Who is held by an operator.
    pub fn held(&self) -> Arc<Held> {
        self.holds.all()
    }

    /// Holds an organization: what is in flight ends, nothing more starts until it is resumed, also after a restart. One
    /// that is not served (yet) is held as soon as it is. Returns when the hold is on disk and obeyed.
    ///
    /// # Errors
    /// When it cannot be written down; then nothing is held.
    pub async fn hold(&self, organization: &str, hold: Hold) -> Result<(), HoldsError> {
        let _turn = self.in_turn.lock().await;
        self.write_down(organization, Some(hold)).await?;
        self.retries.ask(|reply| Command::Hold(Arc::from(organization), reply)).await;
        Ok(())
    }

    /// Takes over another configuration: who is served, how, and with which tokens. What is in flight ends as it began.
    /// Whose token or address has changed is tried at once. Of `config`, the keys of the HTTP client and
    /// `max_in_flight` have no effect. `false`: delivery has ended.
    pub async fn configure(&self, config: Config, organizations: Arc<Organizations>) -> bool {
        let configuration = Box::new(Configuration { config, organizations });
        self.retries.ask(|reply| Command::Configure(configuration, reply)).await
    }

    /// Resumes an organization at once. It ends every pause, Retry-After included, a suspension and an open circuit breaker.
    /// Waiting events are tried at once; their wait ends in the background, after this has returned.
    ///
    /// # Errors
    /// When it cannot be written down; then it stays held.
    pub async fn resume(&self, organization: &str) -> Result<(), HoldsError> {
        let organization: Arc<str> = Arc::from(organization);
        let _turn = self.in_turn.lock().await;
        self.write_down(&organization, None).await?;
        self.retries.ask(|reply| Command::Resume(Arc::clone(&organization), reply)).await;
        drop(self.start_retry(organization, Selection::All));
        Ok(())
    }

    /// Ends the wait of events that wait for another attempt, parked ones included: they are tried at once, as far as
    /// their organization may send. A pause, a suspension and an open circuit breaker go on. Returns how many events
    /// are due now and were not before.
    ///
    /// # Errors
    /// When the queue cannot be read or written; some of the events may be due already.
    pub async fn retry(&self, organization: &str, selection: Selection) -> Result<u64, QueueError> {
        self.start_retry(Arc::from(organization), selection).await.unwrap_or(Err(QueueError::Closed))
    }

    /// Once begun, a retry goes on without whoever asked for it: what is due in the queue only would wait in delivery.
    fn start_retry(
        &self,
        organization: Arc<str>,
        selection: Selection,
    ) -> oneshot::Receiver<Result<u64, QueueError>> {
        let (reply, answer) = oneshot::channel();
        let retries = self.retries.clone();
        let mut background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
        while background.try_join_next().is_some() {}
        background.spawn(async move {
            let result = retries.retry(Arc::clone(&organization), selection).await;
            if let Err(error) = &result {
                tracing::error!(%error, %organization, "events could not be made due; they wait as before");
            }
            let _gone = reply.send(result);
        });
        answer
    }

    async fn write_down(&self, organization: &str, hold: Option<Hold>) -> Result<(), HoldsError> {
        let (holds, organization) = (Arc::clone(&self.holds), organization.to_owned());
        let written = tokio::task::spawn_blocking(move || holds.set(&organization, hold)).await;
        written.expect("BUG: writing holds down neither panics nor is aborted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::sqlite::Sqlite;

    #[tokio::test]
    async fn a_word_is_heard_and_answered() {
        let directory = tempfile::tempdir().unwrap();
        let config = crate::queue::Config { path: directory.path().join("queue"), ..Default::default() };
        let (queue, _writer) = Sqlite::open(&config, Clock::system()).unwrap();
        let holds = Arc::new(Holds::forgetful());
        let (handle, mut desk) = open(holds, Arc::new(queue), Clock::system());
        let hold = Hold { since: UnixMillis(7), by: "alice".to_owned(), why: None };
        let hear = async {
            let Some(Command::Hold(name, reply)) = desk.commands.recv().await else { panic!("a hold") };
            reply.send(&*name == "acme").unwrap();
            let Some(Command::Resume(name, reply)) = desk.commands.recv().await else { panic!("a resume") };
            reply.send(&*name == "acme").unwrap();
            let Some(Command::Retry { organization, events, parked, reply }) = desk.commands.recv().await
            else {
                panic!("a retry")
            };
            assert_eq!((&*organization, events, parked), ("acme", None, false), "a resume retries all");
            reply.send(true).unwrap();
        };
        let ask = async {
            handle.hold("acme", hold.clone()).await.unwrap();
            assert_eq!(handle.held().get("acme"), Some(&hold));
            handle.resume("acme").await.unwrap();
        };
        tokio::join!(ask, hear);
        drop(desk);
        handle.hold("acme", hold.clone()).await.unwrap();
        assert_eq!(handle.held().get("acme"), Some(&hold), "delivery has ended; the next one will know");
    }

    #[test]
    fn every_status_has_its_state_and_breaker() {
        let until = UnixMillis(7);
        let (refused, failing) = (Why::Refused, Why::Failing);
        for (status, state, breaker, at_endpoint) in [
            (Status::Active, State::Open, BreakerState::Closed, EndpointStatus::Active),
            (Status::Paused, State::Held, BreakerState::Closed, EndpointStatus::Active),
            (Status::Throttled(until), State::Paused, BreakerState::Closed, EndpointStatus::Throttled),
            (
                Status::Suspended { until, failures: 2 },
                State::Suspended,
                BreakerState::Closed,
                EndpointStatus::Suspended,
            ),
            (
                Status::Tripped { until, failures: 2 },
                State::Failing,
                BreakerState::Open,
                EndpointStatus::Tripped,
            ),
            (
                Status::Probing { why: refused, failures: 2 },
                State::Probing,
                BreakerState::Closed,
                EndpointStatus::Probing,
            ),
            (
                Status::Probing { why: failing, failures: 2 },
                State::Probing,
                BreakerState::HalfOpen,
                EndpointStatus::Probing,
            ),
        ] {
            let endpoint = EndpointStanding {
                endpoint: Endpoint::Identify,
                status,
                stopped_at: None,
                in_flight: 1,
                limit: 4,
                waiting_lanes: 5,
                failing_lanes: 1,
            };
            let standing = Standing {
                status,
                stopped_at: None,
                in_flight: 1,
                limit: 4,
                held: 2,
                held_by_number: 3,
                failing_lanes: 1,
                held_up_lanes: 0,
                held_up_since: None,
                endpoints: vec![endpoint],
            };
            let shown = Overview::new(&Arc::from("acme"), standing, &LastFailures::default());
            assert_eq!((shown.state, shown.breaker), (state, breaker), "{status:?}");
            let name = serde_json::to_value(state).unwrap();
            assert_eq!(name, state.as_str(), "the same word in metrics and answers");
            assert_eq!(shown.endpoints[0].status, at_endpoint, "{status:?}");
            assert_eq!(serde_json::to_value(at_endpoint).unwrap(), at_endpoint.as_str());
        }
    }
}
