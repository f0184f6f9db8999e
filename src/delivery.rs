//! Delivery: from the queue to Wigzo, one person's events in order, until each has its outcome.
//!
//! One task owns the [`scheduler`] and starts the work on envelopes; each envelope is worked by a task of its own, which
//! reads and translates it and makes its calls through the [`client`] stack. The results of all that have ended go to the
//! queue together. A lane's next event starts only when the previous one's result is on disk, and at most
//! `delivery.max_in_flight` envelopes are started without that: so many calls a crash may repeat, and it reorders nothing.
//!
//! It must not know HTTP server types, nor who posted an event.

mod attempt;
mod because;
pub mod client;
mod config;
mod handle;
mod holds;
mod reload;
pub mod schedule;
pub mod scheduler;
mod settling;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::clock::{Clock, UnixMillis};
use crate::organization::{Organization, Organizations, Partner};
use crate::outcome::Owed;
use crate::queue::{
    Arrivals, Claim, Claimed, Envelope, Forgotten, Hastened, Number, Queue, QueueError, Selection, Seq,
    Settlement,
};
use crate::shutdown::Shutdown;
use crate::telemetry::{Metrics, OrganizationState, Traces};
use crate::wigzo::Endpoint;
pub use attempt::obeyed;
use attempt::{Round, Workshop};
use because::LastFailures;
use client::Client;
use handle::{Command, Desk};
use scheduler::{
    Answer as Said, Finish, Found, Item, LaneKey, Limits, News, Read, Scheduler, Share, Ticket, Waits, Which,
};
use settling::Settling;

pub use because::Because;
pub use config::{BadLaneHold, Breaker, Config, LaneHold, OnAmbiguous};
pub use handle::{BreakerState, EndpointStatus, Handle, Overview, State};
pub use holds::{Held, Hold, Holds, HoldsError};

/// Bytes of one organization's envelopes that are held in memory.
const WINDOW_BYTES: usize = 16 << 20;

/// How many requests to forget are remembered for reads that were under way when they came.
const REMEMBERED: usize = 256;

/// At so many partners the scheduler is told to let go of all of them; those that bring something again stay.
const MANY_PARTNERS: usize = 1_024;

/// Envelopes that are started in one go. Whatever an organization has ready, the next one's turn comes soon: the work of
/// more of them would stand before it in the runtime's queue.
const AT_ONCE: usize = 8;

/// Envelopes that are parked in one go without having been tried.
const PARKED_AT_ONCE: usize = 64;

/// How long a failed read of the queue waits before it is made again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How often it is shown how the organizations stand, at most.
const SHOW: Duration = Duration::from_millis(250);

/// The longest sleep when nothing is due: a safety net against a wall clock that jumps.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The delivery engine.
#[derive(Debug)]
pub struct Delivery {
    workshop: Arc<Workshop>,
    queue: Queue,
    organizations: Arc<Organizations>,
    scheduler: Scheduler<Envelope>,
    holds: Arc<Holds>,
    workers: JoinSet<Round>,
    tickets: HashMap<Id, Ticket>,
    /// Results that the queue has not been given yet, and what waits until they are on disk.
    results: Vec<Settlement>,
    settling: HashMap<Seq, Settling>,
    desk: Desk,
    /// Organizations that do not go on as they should, as they were last told.
    told: HashMap<Arc<str>, Overview>,
    /// Why they do not.
    last_failures: LastFailures,
    /// When it may be shown again how they stand, and whether that may have changed.
    shown_until: Instant,
    is_changed: bool,
    /// Partners that the scheduler knows and has not been told to let go.
    partners: HashSet<Arc<str>>,
    /// Names that are not configured, and whose events wait.
    unconfigured: BTreeSet<Arc<str>>,
    /// The newest people to forget.
    forgotten: VecDeque<Forgotten>,
    reads: JoinSet<(Read, Result<Vec<Claimed>, QueueError>)>,
    /// Organizations whose waiting events are being made due in the queue.
    hastening: JoinSet<(Arc<str>, Result<Hastened, QueueError>)>,
    clock: Clock,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

impl Delivery {
    /// An engine over a queue, and a handle to it.
    ///
    /// # Errors
    /// When no HTTP client can be built on this machine.
    #[expect(clippy::too_many_arguments, reason = "what other rooms hand in, once, in the composition root")]
    pub fn new(
        config: Config,
        queue: Queue,
        organizations: Arc<Organizations>,
        clock: Clock,
        metrics: Arc<Metrics>,
        traces: Traces,
        shutdown: Shutdown,
        holds: Holds,
    ) -> Result<(Self, Handle), reqwest::Error> {
        let options = client::Options {
            max_in_flight: config.max_in_flight,
            connect_timeout: config.connect_timeout.0,
            timeout: config.timeout.0,
            quick_retries: config.quick_retries,
        };
        let mut scheduler = Scheduler::new(limits(&config));
        for organization in organizations.iter().filter(|organization| !organization.disabled) {
            let name = Arc::from(organization.name.as_str());
            serve(&mut scheduler, &holds, &name, share_of(organization), clock.now());
        }
        let holds = Arc::new(holds);
        let (handle, desk) = handle::open(Arc::clone(&holds), Arc::clone(&queue), clock.clone());
        let workshop = Workshop {
            config,
            client: Client::new(options, clock.clone())?,
            queue: Arc::clone(&queue),
            organizations: Arc::clone(&organizations),
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            traces,
            stop: shutdown.stop.clone(),
        };
        let delivery = Self {
            workshop: Arc::new(workshop),
            queue,
            organizations,
            scheduler,
            holds,
            workers: JoinSet::new(),
            tickets: HashMap::new(),
            results: Vec::new(),
            settling: HashMap::new(),
            desk,
            told: HashMap::new(),
            last_failures: LastFailures::default(),
            shown_until: Instant::now(),
            is_changed: true,
            partners: HashSet::new(),
            unconfigured: BTreeSet::new(),
            forgotten: VecDeque::new(),
            reads: JoinSet::new(),
            hastening: JoinSet::new(),
            clock,
            metrics,
            shutdown,
        };
        Ok((delivery, handle))
    }

    /// Works until the drain begins and what is in flight has ended.
    pub async fn run(mut self) {
        while !self.shutdown.drain.is_cancelled() {
            self.arrivals();
            self.hand_in();
            let is_all = self.start_work();
            self.start_reads();
            if !is_all {
                // What was started goes first, and with it whatever else is ready to run.
                tokio::task::yield_now().await;
                self.ended_too();
                continue;
            }
            let sleep = self.show().min(self.until_next_tick());
            tokio::select! {
                Some(command) = self.desk.commands.recv() => self.obey(command),
                () = self.queue.fresh().arrived() => {}
                Some(ended) = self.workers.join_next_with_id() => self.ended(ended),
                Some(read) = self.reads.join_next() => {
                    self.has_read(read.expect("BUG: reads neither panic nor are aborted"));
                }
                Some(hastened) = self.hastening.join_next() => {
                    self.hastened(hastened.expect("BUG: the queue's answer neither panics nor is aborted"));
                }
                () = tokio::time::sleep(sleep) => {}
                () = self.shutdown.drain.cancelled() => {}
            }
            self.ended_too();
        }
        tracing::info!(
            in_flight = self.scheduler.in_flight(),
            "delivery drains: what is in flight may end, the rest stays in the queue"
        );
        loop {
            // Before each wait: the signal may have come with the word of something that ended, or is on disk.
            self.ended_too();
            self.arrivals();
            self.hand_in();
            if self.workers.is_empty() && self.settling.is_empty() {
                break;
            }
            tokio::select! {
                () = self.queue.fresh().arrived() => {}
                Some(ended) = self.workers.join_next_with_id() => self.ended(ended),
            }
        }
    }

    /// One wake-up takes everything that has ended.
    fn ended_too(&mut self) {
        while let Some(ended) = self.workers.try_join_next_with_id() {
            self.ended(ended);
        }
    }

    fn arrivals(&mut self) {
        let Arrivals { envelopes, forgotten, settled, unread, .. } = self.queue.fresh().take();
        let now = self.clock.now();
        self.settled(&settled);
        // Of an organization that has just gone, requests may still bring something.
        let mut is_unknown = false;
        for envelope in envelopes {
            let organization = Arc::clone(&envelope.content.organization);
            self.serve_partner(&organization);
            is_unknown |= !self.scheduler.offer(&organization, item(envelope), now);
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
            is_unknown |= !self.is_configured(&organization);
            self.scheduler.note(&organization, latest);
        }
        if is_unknown {
            self.look_for_unconfigured();
        }
    }

    fn obey(&mut self, command: Command) {
        let (is_known, reply) = match command {
            Command::Hold(organization, reply) => {
                tracing::info!(%organization, "an operator holds this organization; its events wait");
                (self.scheduler.pause(&organization, self.clock.now()), reply)
            }
            Command::Resume(organization, reply) => {
                tracing::info!(%organization, "an operator resumes this organization");
                (self.scheduler.resume(&organization, self.clock.now()), reply)
            }
            Command::Retry { organization, events, parked, reply } => {
                // An attempt whose result was on disk before may not have been taken from there yet.
                self.arrivals();
                self.scheduler.retry_now(&organization, events.as_deref(), parked, self.clock.now());
                (true, reply)
            }
            Command::Configure(configuration, reply) => {
                self.configure(*configuration);
                self.is_changed = true;
                let _gone = reply.send(true);
                return;
            }
        };
        // Whoever asked looks at the overview next.
        (self.is_changed, self.shown_until) = (true, Instant::now());
        self.show();
        // Whoever asked may have gone.
        let _gone = reply.send(is_known);
    }

    /// Makes an organization's waiting events due in the queue as well: those that are parked or not held in memory are read
    /// from there.
    fn hasten(&mut self, organization: &Arc<str>) {
        let (queue, organization, now) =
            (Arc::clone(&self.queue), Arc::clone(organization), self.clock.now());
        self.hastening.spawn(async move {
            let hastened = queue.hasten(Arc::clone(&organization), Selection::All, now).await;
            (organization, hastened)
        });
    }

    fn hastened(&mut self, (organization, hastened): (Arc<str>, Result<Hastened, QueueError>)) {
        match hastened {
            Ok(_) => drop(self.scheduler.retry_now(&organization, None, true, self.clock.now())),
            Err(error) => {
                tracing::error!(%error, %organization, "waiting events keep their times: the queue could not change them");
            }
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
                self.told.remove(&partner);
            }
        }
        self.partners.insert(Arc::clone(name));
        let share = share_of_partners(&self.organizations);
        serve(&mut self.scheduler, &self.holds, name, share, self.clock.now());
    }

    /// Starts what may start now, at most [`AT_ONCE`]; whether that was all.
    fn start_work(&mut self) -> bool {
        let now = self.clock.now();
        // A pause may end without anything being there to start.
        self.is_changed |= self.scheduler.next_tick().is_some_and(|due| due <= now);
        self.scheduler.tick(now);
        for _ in 0..PARKED_AT_ONCE {
            let Some((ticket, item)) = self.scheduler.next_to_park(now) else { break };
            self.is_changed = true;
            self.park(ticket, item, now);
        }
        for _ in 0..AT_ONCE {
            let Some((ticket, item, permit)) = self.scheduler.start(now) else {
                self.count_in_flight();
                return true;
            };
            self.is_changed = true;
            let envelope = item.load;
            let name = &envelope.content.organization;
            let configured = self.organizations.by_name(name).cloned();
            if configured.is_none() && !Partner::is_name(name) {
                // Only known organizations are served, and a reload dismisses those that have gone.
                drop(self.scheduler.finish(ticket, Finish::Ended, News::default(), now));
                continue;
            }
            let claim = Owed::new(Claim { envelope, queue: Arc::clone(&self.queue) });
            let workshop = Arc::clone(&self.workshop);
            let worker = self.workers.spawn(async move { workshop.work(claim, configured, permit).await });
            self.tickets.insert(worker.id(), ticket);
        }
        self.count_in_flight();
        false
    }

    fn count_in_flight(&self) {
        self.metrics.in_flight.set(i64::try_from(self.scheduler.in_flight()).unwrap_or(i64::MAX));
    }

    fn start_reads(&mut self) {
        for read in self.scheduler.reads(self.clock.now()) {
            let queue = Arc::clone(&self.queue);
            self.reads.spawn(async move {
                let organization = Arc::clone(&read.organization);
                let envelopes = |found: Vec<Envelope>| found.into_iter().map(Claimed::Envelope).collect();
                let found = match &read.which {
                    Which::After { after, limit, skip } => {
                        queue.claim(organization, *after, *limit, Arc::clone(skip)).await
                    }
                    Which::Sweep { after, limit } => {
                        let numbers = queue.numbers(organization, *after, *limit).await;
                        numbers.map(|numbers| numbers.into_iter().map(Claimed::Number).collect())
                    }
                    Which::Numbers(numbers) => {
                        let numbers = numbers.iter().map(|(_, seq)| *seq).collect();
                        queue.reread(organization, numbers).await.map(envelopes)
                    }
                    Which::Parked { limit } => queue.parked(organization, *limit).await.map(envelopes),
                };
                if let Err(error) = &found {
                    let organization = &read.organization;
                    tracing::error!(%error, %organization, "waiting events cannot be read; it is tried again");
                    tokio::time::sleep(READ_AGAIN).await;
                }
                (read, found)
            });
        }
    }

    /// The calls for an envelope are over.
    fn ended(&mut self, ended: Result<(Id, Round), tokio::task::JoinError>) {
        let (id, round) = match ended {
            Ok((id, round)) => (id, Some(round)),
            // The envelope's wrapper has made it a dead letter while the panic passed through.
            Err(error) => (error.id(), None),
        };
        let Some(mut ticket) = self.tickets.remove(&id) else { return };
        self.is_changed = true;
        let now = self.clock.now();
        let Some(Round { claim, settlement, needs, is_blocked, permit, news, began, span }) = round else {
            drop(self.scheduler.finish(ticket, Finish::Ended, News::default(), now));
            return;
        };
        if news.endpoints.iter().any(|(_, news)| news.answer == Said::Refused) {
            // Somebody has to act: that is said at once.
            self.shown_until = Instant::now();
        }
        self.scheduler.called(&mut ticket, Some(permit), &news, now);
        let mut envelope = claim.resolve().envelope;
        let Some(settlement) = settlement else {
            // Nothing has happened that must be on disk.
            let finish = if self.forgotten.iter().any(|it| it.covers(&envelope)) {
                Finish::Ended
            } else {
                Finish::Blocked(Item { endpoint: needs, ..item(envelope) })
            };
            drop(self.scheduler.finish(ticket, finish, News::default(), now));
            return;
        };
        let said = news.endpoints.of(needs);
        let has_failed = matches!(said.answer, Said::Failed | Said::Refused | Said::Unreachable);
        if has_failed || said.pause.is_some() {
            self.last_failures.note(&settlement, needs);
        }
        envelope.progress.clone_from(&settlement.progress);
        let resolution = settlement.resolution;
        self.settle(settlement, Settling { ticket, envelope, began, resolution, needs, is_blocked, span });
    }

    /// Shows how the organizations stand, if that may have changed and it is time; returns when it is time again.
    fn show(&mut self) -> Duration {
        let now = Instant::now();
        if !self.is_changed {
            return LONGEST_SLEEP;
        }
        if now < self.shown_until {
            return self.shown_until - now;
        }
        if !self.unconfigured.is_empty() {
            // They leave the list when nothing of theirs waits any more.
            self.look_for_unconfigured();
        }
        let failures = &self.last_failures;
        let served =
            self.scheduler.standings().map(|(name, standing)| Overview::new(name, standing, failures));
        let overview: Arc<[Overview]> = served.chain(self.unserved()).collect();
        for organization in overview.iter() {
            self.tell(organization);
        }
        if self.told.len().max(self.last_failures.len()) > overview.len() {
            // Partners that were let go.
            let known: HashSet<&str> = overview.iter().map(|it| &*it.organization).collect();
            self.told.retain(|name, _| known.contains(&**name));
            self.last_failures.retain(|name| known.contains(name));
        }
        let states = State::ALL.iter().map(|state| state.as_str());
        let statuses = EndpointStatus::ALL.iter().map(|status| status.as_str());
        // Partners are not named in metrics: anybody can make up as many as there are tokens.
        self.metrics.show_organizations(
            states,
            &statuses,
            overview.iter().filter(|it| !Partner::is_name(&it.organization)).map(|it| OrganizationState {
                organization: &it.organization,
                state: it.state.as_str(),
                is_well: it.state.is_well(),
                stopped_endpoints: it.stopped_endpoints().count(),
                in_flight: it.in_flight,
                concurrency_limit: it.concurrency_limit,
                endpoints: it.endpoints.iter().map(|it| (it.endpoint.as_str(), it.status.as_str())).collect(),
            }),
        );
        self.desk.overview.send_replace(overview);
        (self.is_changed, self.shown_until) = (false, now + SHOW);
        LONGEST_SLEEP
    }

    /// Says what has changed for the worse or the better: once for each probe that fails, not for each call.
    fn tell(&mut self, now: &Overview) {
        let organization = &now.organization;
        let before = self.told.get(organization);
        if before.is_some_and(|before| before.is_as_told(now)) || (before.is_none() && now.is_well()) {
            return;
        }
        now.log_change(before);
        if now.is_well() {
            self.told.remove(organization);
        } else {
            self.told.insert(Arc::clone(organization), now.clone());
        }
    }

    fn has_read(&mut self, (read, found): (Read, Result<Vec<Claimed>, QueueError>)) {
        match found {
            Ok(found) => {
                // A read that began before a request to forget may have found what it covers. Such an envelope is not
                // worked; the queue ends it.
                let kept = |found: &Claimed| match found {
                    Claimed::Envelope(envelope) => !self.forgotten.iter().any(|it| it.covers(envelope)),
                    Claimed::Number(_) => true,
                };
                let all_gone = !found.is_empty() && !found.iter().any(kept);
                let (retry, now) = (self.workshop.config.retry, self.clock.now());
                let counted = |due: Option<UnixMillis>| due.map(|due| retry.due(due, now));
                let counted = |found: Claimed| match found {
                    Claimed::Envelope(envelope) => {
                        let due = counted(envelope.due);
                        Found::Item(item(Envelope { due, ..envelope }))
                    }
                    Claimed::Number(number) => Found::Number(Number { due: counted(number.due), ..number }),
                };
                let found: Vec<_> = found.into_iter().filter(kept).map(counted).collect();
                if all_gone && matches!(read.which, Which::After { .. }) {
                    self.scheduler.read_failed(&read, now);
                } else {
                    self.scheduler.read(&read, found, self.clock.now());
                }
            }
            Err(_) => self.scheduler.read_failed(&read, self.clock.now()),
        }
    }

    fn until_next_tick(&self) -> Duration {
        let now: UnixMillis = self.clock.now();
        // A millisecond more: timers of the runtime are no finer, and waking too early spins.
        let next = self.scheduler.next_tick().map(|due| due.since(now) + Duration::from_millis(1));
        next.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
    }
}

/// Makes an organization known, or changes its share. An operator's hold is older than that.
fn serve(scheduler: &mut Scheduler<Envelope>, holds: &Holds, name: &Arc<str>, share: Share, now: UnixMillis) {
    scheduler.serve(name, share, now);
    if holds.all().contains_key(name) {
        scheduler.pause(name, now);
    }
}

/// What the scheduler must know of the configuration.
fn limits(config: &Config) -> Limits {
    Limits {
        in_flight: config.max_in_flight,
        window: config.window,
        window_bytes: WINDOW_BYTES,
        refused: Waits { base: config.probe_base.0, cap: config.probe_cap.0 },
        failing: Waits { base: config.breaker.base.0, cap: config.breaker.cap.0 },
        failing_lanes: config.breaker.lanes,
        lane_hold: config.lane_hold.longest(),
    }
}

fn share(weight: usize, max_in_flight: usize, rate_limit: u32) -> Share {
    Share { weight, max_in_flight, rate: (rate_limit > 0).then_some(rate_limit) }
}

fn share_of(organization: &Organization) -> Share {
    share(organization.weight, organization.max_in_flight, organization.rate_limit)
}

fn share_of_partners(organizations: &Organizations) -> Share {
    let defaults = organizations.partner_defaults();
    share(defaults.weight, defaults.max_in_flight, defaults.rate_limit)
}

fn item(envelope: Envelope) -> Item<Envelope> {
    Item {
        seq: envelope.seq,
        lane: LaneKey::of(&envelope.content.lane),
        due: envelope.due,
        failing_since: envelope.progress.first_failed_at,
        endpoint: expected_endpoint(&envelope),
        size: envelope.content.size(),
        load: envelope,
    }
}

/// The endpoint that an event's next call probably needs. Only its mapping tells: where the guess is wrong, the scheduler
/// learns it from the work on the event.
fn expected_endpoint(envelope: &Envelope) -> Endpoint {
    let is_identify = envelope.content.kind == "identify" && envelope.progress.done.is_empty();
    if is_identify { Endpoint::Identify } else { Endpoint::Event }
}
