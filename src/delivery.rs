//! Delivery: from the queue to Wigzo, one person's events in order, until each has its outcome.
//!
//! One task owns the [`scheduler`] and starts the work on envelopes; each envelope is worked by a task of its own,
//! which reads and translates it, makes its calls through the [`client`] stack, and settles it in the queue before it
//! reports back. A lane's next event starts only when the previous one's result is on disk, so that a crash repeats
//! at most the calls that were in flight, and reorders nothing.
//!
//! It must not know HTTP server types, nor who posted an event.

mod attempt;
pub mod client;
pub mod schedule;
pub mod scheduler;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::{Id, JoinSet};

use crate::clock::{Clock, Span, UnixMillis};
use crate::organization::{Organizations, Partner};
use crate::outcome::Owed;
use crate::queue::{Arrivals, Claim, Envelope, Forgotten, Queue, QueueError};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;
pub use attempt::obeyed;
use attempt::{Round, Workshop};
use client::Client;
use schedule::Schedule;
use scheduler::{Finish, Gate, Health, Item, LaneKey, Limits, Read, Scheduler, Ticket};

/// `[delivery]`: how events go to Wigzo.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Events in flight to Wigzo at a time, over all organizations; each has a limit of its own besides. 1 to
    /// 100000.
    pub max_in_flight: usize,
    /// How long a connection to Wigzo may take to be made. Shorter than `timeout`.
    pub connect_timeout: Span,
    /// How long one try of one call may take, from connecting to the end of the answer.
    pub timeout: Span,
    /// Quick repeats of a call within one try of its event: after a refused or broken connection, 502, 503 or 504.
    /// A budget keeps them below a tenth of the load.
    #[schemars(range(min = 0, max = 5))]
    pub quick_retries: u32,
    /// What happens to a call that Wigzo may have carried out although no answer came (time-out, broken connection):
    /// `retry` may double it, `dead_letter` leaves the decision to a person.
    pub on_ambiguous: OnAmbiguous,
    /// Events that have waited for longer than this are not delivered any more but end as `expired`. Off when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["30d"]))]
    pub max_age: Option<Span>,
    /// Events of an unproven partner organization (`ingress.unproven_partners`) end as `expired` after this long: its
    /// token may be made up, and what waits for it must make room some day.
    pub unproven_partner_max_age: Span,
    /// When an organization's token or address is refused, its events wait, and after this long one of them probes
    /// whether that is still so. The wait doubles with each refusal.
    pub probe_base: Span,
    /// The longest wait between two probes.
    pub probe_cap: Span,
    /// Events of one organization that are held in memory; the rest waits on disk.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub window: usize,
    /// Waits between the tries of an event.
    pub retry: Schedule,
}

/// What to do when it is unknown whether Wigzo carried a call out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnAmbiguous {
    /// Make the call again: nothing is lost, an event may count twice.
    Retry,
    /// Keep the event as a dead letter: nothing counts twice, a person decides.
    DeadLetter,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_in_flight: 1_024,
            connect_timeout: Span::secs(3),
            timeout: Span::secs(10),
            quick_retries: 2,
            on_ambiguous: OnAmbiguous::Retry,
            max_age: None,
            unproven_partner_max_age: Span::secs(24 * 3_600),
            probe_base: Span::secs(30),
            probe_cap: Span::secs(600),
            window: 10_000,
            retry: Schedule::default(),
        }
    }
}

/// Bytes of one organization's envelopes that are held in memory.
const WINDOW_BYTES: usize = 16 << 20;

/// How many requests to forget are remembered for reads that were under way when they came.
const REMEMBERED: usize = 256;

/// At so many partners the scheduler is told to let go of all of them; those that bring something again stay.
const MANY_PARTNERS: usize = 1_024;

/// How long a failed read of the queue waits before it is made again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The longest sleep when nothing is due: a safety net against a wall clock that jumps.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The delivery engine.
#[derive(Debug)]
pub struct Delivery {
    workshop: Arc<Workshop>,
    queue: Queue,
    organizations: Arc<Organizations>,
    scheduler: Scheduler<Envelope>,
    workers: JoinSet<Round>,
    tickets: HashMap<Id, Ticket>,
    /// When each suspended organization is probed next, as it was last told.
    told_probes: HashMap<Arc<str>, UnixMillis>,
    /// Partners that the scheduler knows and has not been told to let go.
    partners: HashSet<Arc<str>>,
    /// The newest people to forget.
    forgotten: VecDeque<Forgotten>,
    reads: JoinSet<(Read, Result<Vec<Envelope>, QueueError>)>,
    clock: Clock,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

impl Delivery {
    /// An engine over a queue.
    ///
    /// # Errors
    /// When no HTTP client can be built on this machine.
    pub fn new(
        config: Config,
        queue: Queue,
        organizations: Arc<Organizations>,
        clock: Clock,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Result<Self, reqwest::Error> {
        let options = client::Options {
            max_in_flight: config.max_in_flight,
            connect_timeout: config.connect_timeout.0,
            timeout: config.timeout.0,
            quick_retries: config.quick_retries,
        };
        let mut scheduler = Scheduler::new(Limits {
            in_flight: config.max_in_flight,
            window: config.window,
            window_bytes: WINDOW_BYTES,
            probe_base: config.probe_base.0,
            probe_cap: config.probe_cap.0,
        });
        for organization in organizations.iter() {
            scheduler.serve(&Arc::from(organization.name.as_str()), organization.max_in_flight);
        }
        let workshop = Workshop {
            config,
            client: Client::new(options, clock.clone())?,
            queue: Arc::clone(&queue),
            organizations: Arc::clone(&organizations),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            stop: shutdown.stop.clone(),
        };
        Ok(Self {
            workshop: Arc::new(workshop),
            queue,
            organizations,
            scheduler,
            workers: JoinSet::new(),
            tickets: HashMap::new(),
            told_probes: HashMap::new(),
            partners: HashSet::new(),
            forgotten: VecDeque::new(),
            reads: JoinSet::new(),
            clock,
            metrics,
            shutdown,
        })
    }

    /// Works until the drain begins and what is in flight has ended.
    pub async fn run(mut self) {
        while !self.shutdown.drain.is_cancelled() {
            self.arrivals();
            self.start_work();
            self.start_reads();
            let sleep = self.until_next_tick();
            tokio::select! {
                () = self.queue.fresh().arrived() => {}
                Some(ended) = self.workers.join_next_with_id() => self.ended(ended),
                Some(read) = self.reads.join_next() => {
                    self.has_read(read.expect("BUG: reads neither panic nor are aborted"));
                }
                () = tokio::time::sleep(sleep) => {}
                () = self.shutdown.drain.cancelled() => {}
            }
            // One wake-up takes everything that is ready.
            while let Some(ended) = self.workers.try_join_next_with_id() {
                self.ended(ended);
            }
        }
        let waiting = self.workers.len();
        tracing::info!(
            in_flight = waiting,
            "delivery drains: what is in flight may end, the rest stays in the queue"
        );
        while let Some(ended) = self.workers.join_next_with_id().await {
            self.ended(ended);
        }
    }

    fn arrivals(&mut self) {
        let Arrivals { envelopes, forgotten, unread, .. } = self.queue.fresh().take();
        let now = self.clock.now();
        for envelope in envelopes {
            let organization = Arc::clone(&envelope.content.organization);
            self.serve_partner(&organization);
            self.scheduler.offer(&organization, item(envelope), now);
        }
        // After the envelopes: some of them may be older than the request.
        for forgotten in forgotten {
            self.scheduler.forget(&forgotten.organization, LaneKey::of(&forgotten.lane), now, |envelope| {
                forgotten.covers(envelope)
            });
            self.forgotten.truncate(REMEMBERED - 1);
            self.forgotten.push_front(forgotten);
        }
        for (organization, latest) in unread {
            self.serve_partner(&organization);
            if self.organizations.by_name(&organization).is_none() && !Partner::is_name(&organization) {
                tracing::warn!(%organization, "events wait for an organization that is not configured any more");
            }
            self.scheduler.note(&organization, latest);
        }
    }

    /// Makes a partner known that has brought something; its events are delivered whether or not partner mode is still
    /// on. Those that came before are let go now and then: each at once would cost a read of the queue when it came back.
    fn serve_partner(&mut self, name: &Arc<str>) {
        if !Partner::is_name(name) || self.partners.contains(name) {
            return;
        }
        if self.partners.len() >= MANY_PARTNERS {
            for partner in self.partners.drain() {
                self.scheduler.retire(&partner);
                self.told_probes.remove(&partner);
            }
        }
        self.partners.insert(Arc::clone(name));
        self.scheduler.serve(name, self.organizations.partner_max_in_flight());
    }

    fn start_work(&mut self) {
        self.scheduler.tick(self.clock.now());
        while let Some((ticket, item)) = self.scheduler.start() {
            let envelope = item.load;
            let name = &envelope.content.organization;
            let configured = self.organizations.by_name(name).cloned();
            if configured.is_none() && !Partner::is_name(name) {
                // Only known organizations are served, and the snapshot does not change under us.
                self.scheduler.finish(ticket, Finish::Ended, Health::Unknown, self.clock.now());
                continue;
            }
            let claim = Owed::new(Claim { envelope, queue: Arc::clone(&self.queue) });
            let workshop = Arc::clone(&self.workshop);
            let worker = self.workers.spawn(async move { workshop.work(claim, configured).await });
            self.tickets.insert(worker.id(), ticket);
        }
        self.metrics.in_flight.set(i64::try_from(self.scheduler.in_flight()).unwrap_or(i64::MAX));
    }

    fn start_reads(&mut self) {
        for read in self.scheduler.reads() {
            let queue = Arc::clone(&self.queue);
            self.reads.spawn(async move {
                let found = queue.claim(Arc::clone(&read.organization), read.after, read.limit).await;
                if let Err(error) = &found {
                    let organization = &read.organization;
                    tracing::error!(%error, %organization, "waiting events cannot be read; it is tried again");
                    tokio::time::sleep(READ_AGAIN).await;
                }
                (read, found)
            });
        }
    }

    fn ended(&mut self, ended: Result<(Id, Round), tokio::task::JoinError>) {
        let (id, round) = match ended {
            Ok((id, round)) => (id, round),
            // The envelope's wrapper has made it a dead letter while the panic passed through.
            Err(error) => (error.id(), Round { again: None, health: Health::Unknown }),
        };
        let Some(ticket) = self.tickets.remove(&id) else { return };
        let finish = match round.again {
            None => Finish::Ended,
            // The person was forgotten while it was in flight; the queue has ended it.
            Some((envelope, _)) if self.forgotten.iter().any(|it| it.covers(&envelope)) => Finish::Ended,
            Some((envelope, due)) => Finish::Again(Item { due: Some(due), ..item(envelope) }),
        };
        self.scheduler.finish(ticket, finish, round.health, self.clock.now());
        if matches!(round.health, Health::Suspend(_)) {
            self.tell_suspensions();
        }
    }

    /// Says once for each probe that fails, not for each call that was under way.
    fn tell_suspensions(&mut self) {
        for (organization, gate) in self.scheduler.closed_gates() {
            let Gate::Suspended { until, .. } = gate else { continue };
            if self.told_probes.insert(Arc::clone(organization), until) == Some(until) {
                continue;
            }
            if Partner::is_name(organization) {
                // Nobody here can correct it: it is the customer's own setting, or made up.
                tracing::warn!(%organization, probe_at = %until, "Wigzo refuses this partner's token; its events wait");
            } else {
                tracing::error!(
                    %organization,
                    probe_at = %until,
                    "Wigzo refuses this organization's token or address; its events wait until it is corrected"
                );
            }
        }
    }

    fn has_read(&mut self, (read, found): (Read, Result<Vec<Envelope>, QueueError>)) {
        match found {
            Ok(found) => {
                // A read that began before a request to forget may have found what it covers. Such an envelope is not
                // worked; the queue ends it.
                let kept = |envelope: &Envelope| !self.forgotten.iter().any(|it| it.covers(envelope));
                let all_gone = !found.is_empty() && !found.iter().any(kept);
                let (retry, now) = (self.workshop.config.retry, self.clock.now());
                let counted = |mut envelope: Envelope| {
                    envelope.due = envelope.due.map(|due| retry.due(due, now));
                    envelope
                };
                let found: Vec<_> = found.into_iter().filter(kept).map(counted).map(item).collect();
                if all_gone {
                    self.scheduler.read_failed(&read);
                } else {
                    self.scheduler.read(&read, found, self.clock.now());
                }
            }
            Err(_) => self.scheduler.read_failed(&read),
        }
    }

    fn until_next_tick(&self) -> Duration {
        let now: UnixMillis = self.clock.now();
        // A millisecond more: timers of the runtime are no finer, and waking too early spins.
        let next = self.scheduler.next_tick().map(|due| due.since(now) + Duration::from_millis(1));
        next.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
    }
}

fn item(envelope: Envelope) -> Item<Envelope> {
    Item {
        seq: envelope.seq,
        lane: LaneKey::of(&envelope.content.lane),
        due: envelope.due,
        size: envelope.content.size(),
        load: envelope,
    }
}
