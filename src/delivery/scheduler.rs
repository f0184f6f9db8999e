//! The scheduler: which envelope may be worked next. A plain state machine without I/O, clock or randomness.
//!
//! Invariants:
//! * A lane has at most one envelope in flight, and starts them in the order they were offered. A lane whose head
//!   waits for a retry or an endpoint starts nothing; other lanes do not notice. Only a *parked* envelope is left behind
//!   by its lane (`organization.rs`).
//! * Organizations take turns by weight, and none holds so much of the global limit that nothing is left for others
//!   (`turns.rs`). None exceeds its own limits: in flight as configured, and the rate (`pace.rs`).
//! * Within an organization, Wigzo's endpoints do not disturb each other: each has its own circuit breaker
//!   (`breaker.rs`), concurrency limit (`concurrency.rs`) and pauses (`throttle.rs`), and none takes all of the calls.
//! * Pauses are obeyed to their end, an open breaker but for probes, an operator's pause until the word.
//! * Memory is bounded by a window per organization, whatever waits. What does not fit stays in the queue and is read
//!   later, in order: an organization is either *up to date* (fresh envelopes are taken as they come) or *behind* (only
//!   what is read is taken), so no gap can arise between the two. It starts behind: nothing is known yet of what waits
//!   on disk. It is up to date again once a read has reached everything that was known when it was asked for, and
//!   everything that came since has been kept aside.
//! * Held-up lanes do not take the window from others, however many they are and however much waits in them
//!   (`window.rs`).
//! * Above the window there may be: what is in flight and comes back, one read by number, and one batch of parked ones.
//!
//! A start or finish costs the same however much waits; timers and held-back organizations are in ordered heaps.

mod breaker;
mod concurrency;
mod endpoint;
mod endpoints;
mod lane;
mod left_behind;
mod organization;
mod pace;
mod parked;
mod permits;
mod starts;
mod throttle;
mod turns;
mod window;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixMillis;
use crate::queue::{Number, Seq};
use crate::wigzo::Endpoint;
use concurrency::Concurrency;
use organization::{Organization, Service};
use pace::Bucket;
use starts::{Role, Started};
use turns::Turns;
use window::{Armed, Taken};

pub use crate::queue::LaneKey;
pub use breaker::{Breaking, Waits, Why};
pub use endpoint::Status;
pub use endpoints::PerEndpoint;
pub use permits::{Blocked, Permit, Permits};

/// How much may be worked and held at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Envelopes in flight over all organizations: started, and their results not yet on disk.
    pub in_flight: usize,
    /// Envelopes of one organization that are held in memory.
    pub window: usize,
    /// Bytes of one organization's envelopes that are held in memory (one envelope always fits).
    pub window_bytes: usize,
    /// Waits before probes when Wigzo refuses an organization's token or address.
    pub refused: Waits,
    /// Waits before probes when the circuit breaker is open.
    pub failing: Waits,
    /// So many different lanes that fail in a row open it; at least 1.
    pub failing_lanes: usize,
    /// How long an event that fails alone may hold its lane before it is parked; `None`: for ever.
    pub lane_hold: Option<Duration>,
}

/// What an organization may have of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Envelopes a turn; at least 1.
    pub weight: usize,
    /// Envelopes whose calls are being made at a time.
    pub max_in_flight: usize,
    /// Calls per second; `None` sets no limit.
    pub rate: Option<u32>,
}

/// An envelope as the scheduler sees it.
#[derive(Debug)]
pub struct Item<T> {
    /// Its number.
    pub seq: Seq,
    /// The person it belongs to.
    pub lane: LaneKey,
    /// Not before this time; an envelope with a time has been tried before.
    pub due: Option<UnixMillis>,
    /// Since when it has been failing.
    pub failing_since: Option<UnixMillis>,
    /// The endpoint that its next call is expected to need.
    pub endpoint: Endpoint,
    /// What it counts against the window, in bytes.
    pub size: usize,
    /// The envelope itself.
    pub load: T,
}

/// What has been started, to be handed back to [`Scheduler::finish`], once.
#[derive(Debug)]
#[must_use = "what was started must be finished, else its lane stands still"]
pub struct Ticket {
    organization: usize,
    lane: LaneKey,
    /// The endpoint that it has a permit for.
    endpoint: Option<Endpoint>,
    /// What breakers and limits had been through when this was started: changes and cuts of each endpoint, changes of
    /// the connections' breaker, and how often everything was forgotten.
    seen: PerEndpoint<(u64, u64)>,
    connections: u64,
    resets: u64,
    failing_since: Option<UnixMillis>,
    role: Role,
    /// Whether its calls are over and their news have been heard.
    heard: bool,
}

/// How the work on a started envelope ended.
#[derive(Debug)]
pub enum Finish<T> {
    /// It has its outcome; the lane moves on.
    Ended,
    /// It goes back to the head of its lane; a parked one back to the parked ones. Its [`Item::endpoint`] is the one that
    /// its next call needs.
    Again(Item<T>),
    /// The same of one that was not tried, because [`Item::endpoint`] may not be called now.
    Blocked(Item<T>),
    /// It is parked until this time; the lane moves on.
    Parked(UnixMillis),
}

/// What remains to be done for a finished envelope.
#[derive(Debug)]
#[must_use = "an envelope that is to be parked must be"]
pub enum Finished<T> {
    /// Nothing.
    Done,
    /// It has failed alone for long enough: it is to be parked on disk, and then finished once more, as
    /// [`Finish::Parked`]. Until then its lane waits.
    Park(Ticket, Item<T>),
}

/// What the work on an envelope said about its organization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// What the calls to each endpoint came to.
    pub endpoints: PerEndpoint<EndpointNews>,
}

impl News {
    /// How many attempts were made, over all endpoints.
    pub fn attempts(&self) -> u32 {
        self.endpoints.iter().map(|(_, news)| news.attempts).sum()
    }

    /// What the last call to an endpoint came to.
    pub fn at(endpoint: Endpoint, news: EndpointNews) -> Self {
        let mut all = Self::default();
        *all.endpoints.of_mut(endpoint) = news;
        all
    }
}

/// What the calls of an envelope to one endpoint came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointNews {
    /// What the last of them came to.
    pub answer: Answer,
    /// Wigzo asked for a pause until this time.
    pub pause: Option<UnixMillis>,
    /// Whether any attempt was refused for overload (429, 503, 504) or not answered in time.
    pub overloaded: bool,
    /// Whether the head of an answer has arrived.
    pub answered: bool,
    /// How long the slowest answered attempt took.
    pub latency: Option<Duration>,
    /// How many attempts were made.
    pub attempts: u32,
}

/// What a call came to, as far as its organization is concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    /// No call was made, or it was given up.
    #[default]
    Unknown,
    /// Success.
    Good,
    /// A refusal that concerns the event: Wigzo is at work.
    Other,
    /// No answer in time, or one that says that Wigzo cannot work now.
    Failed,
    /// No connection could be made.
    Unreachable,
    /// Wigzo refuses the organization's token or address.
    Refused,
}

/// A request to read waiting envelopes from the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Of this organization.
    pub organization: Arc<str>,
    /// Which.
    pub which: Which,
    /// The newest number known when the request was made.
    latest: Seq,
    /// For whom it was made, see [`Organization::epoch`].
    epoch: u64,
    /// How often waiting events had been retried on request.
    retry_calls: u64,
}

/// Which envelopes are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The oldest after a number.
    After {
        /// The number.
        after: Seq,
        /// At most so many.
        limit: usize,
        /// Of these lanes only the numbers; sorted.
        skip: Arc<[LaneKey]>,
    },
    /// The numbers of the oldest after a number.
    Sweep {
        /// The number.
        after: Seq,
        /// At most so many.
        limit: usize,
    },
    /// Those with these numbers, as far as they still wait.
    Numbers(Vec<(LaneKey, Seq)>),
    /// Parked ones, earliest due first.
    Parked {
        /// At most so many.
        limit: usize,
    },
}

/// What a read has found of an envelope.
#[derive(Debug)]
pub enum Found<T> {
    /// All of it.
    Item(Item<T>),
    /// Its number.
    Number(Number),
}

/// An organization's delivery at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it may do.
    pub status: Status,
    /// Envelopes whose calls are being made.
    pub in_flight: usize,
    /// How many may be, as far as its own limits go and Wigzo seems to bear it.
    pub limit: usize,
    /// Envelopes held in memory.
    pub held: usize,
    /// Envelopes held by number.
    pub held_by_number: usize,
    /// Since when it has not been active.
    pub stopped_at: Option<UnixMillis>,
    /// Lanes that have failed without a success in between.
    pub failing_lanes: usize,
    /// Lanes whose first event has failed, or waits for an endpoint that may not be called.
    pub held_up_lanes: usize,
    /// Since when the first of those has been held up.
    pub held_up_since: Option<UnixMillis>,
    /// The endpoints that have been called, or are waited for.
    pub endpoints: Vec<EndpointStanding>,
}

/// One endpoint of an organization at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointStanding {
    /// Which one.
    pub endpoint: Endpoint,
    /// What may be done with it.
    pub status: Status,
    /// Since when it has not been active.
    pub stopped_at: Option<UnixMillis>,
    /// Calls that are being made.
    pub in_flight: usize,
    /// How many may be.
    pub limit: usize,
    /// Lanes that are ready for it.
    pub waiting_lanes: usize,
    /// Lanes that have failed without a success in between.
    pub failing_lanes: usize,
}

/// The state machine. `T` is what travels with an envelope; the scheduler never looks at it.
#[derive(Debug)]
pub struct Scheduler<T> {
    limits: Limits,
    /// By id. Where one was retired, there is a gap until the next one comes.
    organizations: Vec<Option<Organization<T>>>,
    gaps: Vec<usize>,
    names: HashMap<Arc<str>, usize>,
    turns: Turns,
    /// Organizations that may want to read.
    asking: Vec<usize>,
    /// Ids may have been given to another organization since: whoever is woken looks for itself what there is to do.
    timers: BinaryHeap<Reverse<(UnixMillis, usize, Option<LaneKey>)>>,
    /// Organizations that may have something to park.
    parking: Vec<usize>,
    in_flight: usize,
    /// Organizations that have something in flight.
    busy: usize,
    /// Counts who has come, and who was dismissed.
    epochs: u64,
}

impl<T> Scheduler<T> {
    /// An empty scheduler.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            organizations: Vec::new(),
            gaps: Vec::new(),
            names: HashMap::new(),
            turns: Turns::default(),
            asking: Vec::new(),
            timers: BinaryHeap::new(),
            parking: Vec::new(),
            in_flight: 0,
            busy: 0,
            epochs: 0,
        }
    }

    /// Other limits from now on. What is held or in flight beyond them is worked off.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        for id in 0..self.organizations.len() {
            self.give_turn(id);
            self.ask(id);
        }
    }

    // === who is served ===

    /// Makes an organization known, or changes its share. One that was retired or dismissed is served again.
    pub fn serve(&mut self, name: &Arc<str>, share: Share, now: UnixMillis) {
        let id = self.names.get(name).copied().unwrap_or_else(|| {
            let id = self.gaps.pop().unwrap_or(self.organizations.len());
            if id == self.organizations.len() {
                self.organizations.push(None);
            }
            self.names.insert(Arc::clone(name), id);
            id
        });
        self.epochs += 1;
        let epoch = self.epochs;
        let Some(place) = self.organizations.get_mut(id) else { return };
        let org = place.get_or_insert_with(|| Organization::new(Arc::clone(name), share, epoch, now));
        org.serve(now);
        (org.share, org.paced) = (share, None);
        org.set_permits();
        match (share.rate, &mut org.bucket) {
            (Some(rate), Some(bucket)) => bucket.set_rate(rate),
            (rate, bucket) => *bucket = rate.map(|rate| Bucket::new(rate, now)),
        }
        self.give_turn(id);
        self.ask(id);
    }

    /// Lets go of an organization's memory as soon as nothing of it is in flight, held or waiting, and neither a pause nor
    /// an operator's hold is left. An open breaker does not keep it: nobody is left to probe. What is offered for
    /// it until then is worked; afterwards it is unknown.
    pub fn retire(&mut self, name: &str) {
        let Some(&id) = self.names.get(name) else { return };
        let Some(org) = self.get(id) else { return };
        org.service = if org.is_served() { Service::Retiring } else { Service::Dismissed };
        self.let_go(id);
    }

    /// Stops serving an organization: what is in flight ends, the rest waits in the queue and leaves the memory. It is
    /// remembered until that has ended, and for as long as a pause or an operator's hold lasts. [`Scheduler::serve`]
    /// takes it up again, from the oldest envelope on.
    pub fn dismiss(&mut self, name: &str) {
        let Some(&id) = self.names.get(name) else { return };
        self.epochs += 1;
        let epoch = self.epochs;
        if let Some(org) = self.get(id) {
            org.dismiss(epoch);
        }
        self.let_go(id);
    }

    fn let_go(&mut self, id: usize) {
        let Some(place) = self.organizations.get_mut(id) else { return };
        let Some(org) = place.take_if(|org| org.may_go()) else { return };
        self.names.remove(&org.name);
        if let Some(share) = org.held_back {
            self.turns.let_go(id, share);
        }
        self.gaps.push(id);
    }

    /// An operator pauses an organization: nothing of it starts until it is resumed. `false`: it is not known.
    pub fn pause(&mut self, name: &str, now: UnixMillis) -> bool {
        self.by_name(name).map(|org| org.pause(now)).is_some()
    }

    /// An organization's token or address was corrected: every pause that Wigzo asked for, every suspension and open breaker
    /// is over, and what waits for another try need not wait any longer. An operator's pause goes on.
    pub fn correct(&mut self, name: &str, now: UnixMillis) {
        let Some(&id) = self.names.get(name) else { return };
        let Some(org) = self.get(id) else { return };
        org.correct(now);
        self.retry_all(id, now);
    }

    /// An operator resumes an organization: every pause, suspension and open breaker is over, and what waits for another
    /// try need not wait any longer. `false`: it is not known.
    pub fn resume(&mut self, name: &str, now: UnixMillis) -> bool {
        let Some(&id) = self.names.get(name) else { return false };
        if let Some(org) = self.get(id) {
            org.resume(now);
        }
        self.retry_all(id, now);
        self.let_go(id);
        true
    }

    /// What waits for another try need not wait any longer: everything of an organization, or these events, and its
    /// parked ones if there are some of them among those. What is in the queue only must be changed there.
    pub fn retry_now(
        &mut self,
        name: &str,
        events: Option<&[(LaneKey, Seq)]>,
        has_parked: bool,
        now: UnixMillis,
    ) -> bool {
        let Some(&id) = self.names.get(name) else { return false };
        let Some(org) = self.get(id).filter(|org| org.is_served()) else { return false };
        org.retry_calls += 1;
        let lanes = org.hasten(events, now);
        if has_parked {
            org.parked.note(now);
        }
        self.arm_all(id, lanes, now);
        true
    }

    fn retry_all(&mut self, id: usize, now: UnixMillis) {
        let Some(org) = self.get(id) else { return };
        let lanes = org.hasten(None, now);
        self.arm_all(id, lanes, now);
    }

    fn arm_all(&mut self, id: usize, lanes: Vec<LaneKey>, now: UnixMillis) {
        for lane in lanes {
            self.arm(id, lane, now);
        }
        self.give_turn(id);
        self.ask(id);
    }

    fn get(&mut self, id: usize) -> Option<&mut Organization<T>> {
        self.organizations.get_mut(id)?.as_mut()
    }

    fn by_name(&mut self, name: &str) -> Option<&mut Organization<T>> {
        let id = *self.names.get(name)?;
        self.get(id)
    }

    // === what comes in ===

    /// Offers a freshly committed envelope. It is taken if its organization is up to date and has room; otherwise only
    /// its number is noted. Envelopes of an organization that is not served stay in the queue: `false`.
    pub fn offer(&mut self, organization: &str, item: Item<T>, now: UnixMillis) -> bool {
        let Some(&id) = self.names.get(organization) else { return false };
        let limits = self.limits;
        let Some(org) = self.get(id).filter(|org| org.service != Service::Dismissed) else { return false };
        if item.seq <= org.taken {
            return true; // It has been read from the queue in the meantime.
        }
        let was_behind = org.is_behind();
        org.latest = org.latest.max(item.seq);
        if was_behind {
            if org.reading {
                org.late.keep(item, &limits);
            }
        } else if self.take(id, item, now) {
            return true;
        }
        self.ask(id);
        true
    }

    /// Lets go of what a lane holds, where `matches` says so (lanes may be shared, see [`LaneKey`]). What is in flight
    /// is not touched; what is held by number is found to be gone when it is read.
    pub fn forget(
        &mut self,
        organization: &str,
        lane: LaneKey,
        now: UnixMillis,
        matches: impl Fn(&T) -> bool,
    ) {
        let Some(&id) = self.names.get(organization) else { return };
        let Some(org) = self.get(id) else { return };
        org.forget(lane, &matches);
        self.arm(id, lane, now);
        self.ask(id);
    }

    /// Notes that an organization has envelopes in the queue up to `latest`.
    pub fn note(&mut self, organization: &str, latest: Seq) {
        let Some(&id) = self.names.get(organization) else { return };
        if let Some(org) = self.get(id)
            && org.service != Service::Dismissed
            && latest > org.taken
        {
            org.latest = org.latest.max(latest);
            org.late.give_up();
        }
        self.ask(id);
    }

    /// Takes an envelope into memory if it fits.
    fn take(&mut self, id: usize, item: Item<T>, now: UnixMillis) -> bool {
        let (key, limits) = (item.lane, self.limits);
        match self.get(id).and_then(|org| org.take(item, now, &limits)) {
            None => false,
            Some(Taken::Behind) => true,
            Some(Taken::AsHead) => {
                self.arm(id, key, now);
                true
            }
        }
    }

    fn arm(&mut self, id: usize, key: LaneKey, now: UnixMillis) {
        self.arm_at(id, key, false, now);
    }

    fn arm_at(&mut self, id: usize, key: LaneKey, first: bool, now: UnixMillis) {
        let Some(org) = self.get(id) else { return };
        match org.arm(key, first, now) {
            Armed::Nothing => {}
            Armed::Ready => self.give_turn(id),
            Armed::Asks => self.ask(id),
            Armed::Timer(due) => self.timers.push(Reverse((due, id, Some(key)))),
        }
    }

    // === reads ===

    fn ask(&mut self, id: usize) {
        let limits = self.limits;
        let Some(org) = self.get(id) else { return };
        if !org.asks
            && org.is_served()
            && (org.is_behind()
                || org.parked.next().is_some()
                || org.wants_to_load()
                || org.wants_sweep(&limits))
        {
            org.asks = true;
            self.asking.push(id);
        }
    }

    /// The reads that should be made now. An organization has at most one of each kind under way.
    pub fn reads(&mut self, now: UnixMillis) -> Vec<Read> {
        let limits = self.limits;
        let mut reads = Vec::new();
        for id in std::mem::take(&mut self.asking) {
            let Some(org) = self.get(id) else { continue };
            org.asks = false;
            if !org.is_served() {
                self.let_go(id);
                continue;
            }
            let (organization, latest) = (Arc::clone(&org.name), org.latest);
            let (epoch, retry_calls) = (org.epoch, org.retry_calls);
            let mut read = |which| {
                let organization = Arc::clone(&organization);
                reads.push(Read { organization, which, latest, epoch, retry_calls });
            };
            if org.is_behind() && !org.reading {
                org.make_room(&limits);
            }
            if org.is_behind() && !org.reading && org.wants_more(&limits) {
                org.reading = true;
                drop(org.late.take());
                let limit = (limits.window / 4).min(limits.window.saturating_sub(org.held)).max(1);
                read(Which::After { after: org.taken, limit, skip: org.skipped_lanes().into() });
            }
            if org.wants_load(&limits) {
                let numbers = org.load(&limits);
                if !numbers.is_empty() {
                    read(Which::Numbers(numbers));
                }
            }
            if org.wants_sweep(&limits)
                && let Some((after, limit)) = org.sweep(&limits)
            {
                read(Which::Sweep { after, limit });
            }
            if org.parked.is_due(now) && matches!(org.status(), Status::Active | Status::Probing { .. }) {
                org.parked.starts_reading();
                read(Which::Parked { limit: parked::BATCH });
            }
            if let Some(due) = org.parked.timer(now) {
                self.timers.push(Reverse((due, id, None)));
            }
            self.let_go(id);
        }
        reads
    }

    /// Takes what a read has found: the first of what was asked for without gaps, at least one if there is any. What
    /// exceeds the window is left for the next read.
    pub fn read(&mut self, read: &Read, found: Vec<Found<T>>, now: UnixMillis) {
        let (Some(id), limits) = (self.whose(read), self.limits) else { return };
        if self.get(id).is_some_and(|org| org.retry_calls != read.retry_calls) {
            // It may have found events as they waited before the call, and would let them go on waiting.
            return self.read_failed(read, now);
        }
        let items = |found: Vec<Found<T>>| found.into_iter().filter_map(Found::item).collect();
        match &read.which {
            Which::After { after, .. } => self.read_after(id, *after, read.latest, found, now),
            Which::Numbers(numbers) => {
                let Some(org) = self.get(id) else { return };
                for lane in org.loaded(numbers, items(found)) {
                    self.arm_at(id, lane, true, now);
                }
            }
            Which::Sweep { limit, .. } => {
                let numbers: Vec<Number> = found.iter().filter_map(Found::number).collect();
                let Some(org) = self.get(id) else { return };
                for lane in org.swept(&numbers, numbers.len() < *limit, &limits) {
                    self.arm(id, lane, now);
                }
            }
            Which::Parked { .. } => {
                let Some(org) = self.get(id) else { return };
                org.parked.read(items(found), now);
                self.give_turn(id);
            }
        }
        self.find_parkable(id, now);
        self.ask(id);
        self.let_go(id);
    }

    fn read_after(&mut self, id: usize, after: Seq, latest: Seq, found: Vec<Found<T>>, now: UnixMillis) {
        let limits = self.limits;
        let Some(org) = self.get(id) else { return };
        org.reading = false;
        let late = org.late.take();
        if found.is_empty() {
            // Everything that was committed when the read was asked for has been seen.
            org.taken = org.taken.max(latest);
        }
        if found.is_empty() || latest > after {
            // From now on `latest` tells whether something is left: what is newer has been offered or noted.
            org.unread = false;
        }
        for found in found {
            let is_taken = match found {
                Found::Item(item) => self.take(id, item, now),
                Found::Number(number) => self.get(id).is_some_and(|org| org.take_number(number, &limits)),
            };
            if !is_taken {
                return;
            }
        }
        if !self.get(id).is_some_and(|org| !org.unread && org.taken >= latest) {
            return;
        }
        // The end: what came meanwhile follows without a gap.
        for item in late {
            let is_new = self.get(id).is_some_and(|org| item.seq > org.taken);
            if is_new && !self.take(id, item, now) {
                return;
            }
        }
    }

    /// Notes that a read failed; it is asked for again.
    pub fn read_failed(&mut self, read: &Read, now: UnixMillis) {
        let Some(id) = self.whose(read) else { return };
        let Some(org) = self.get(id) else { return };
        match &read.which {
            Which::After { .. } => org.reading = false,
            Which::Numbers(numbers) => org.load_failed(numbers),
            Which::Sweep { .. } => org.sweep_failed(),
            Which::Parked { .. } => org.parked.read_failed(now),
        }
        self.ask(id);
    }

    /// The organization that a read was made for; `None` if it has gone, or was dismissed since then.
    fn whose(&mut self, read: &Read) -> Option<usize> {
        let id = *self.names.get(&read.organization)?;
        self.get(id).filter(|org| org.epoch == read.epoch).map(|_| id)
    }

    // === start and finish ===

    fn give_turn(&mut self, id: usize) {
        let Some(org) = self.get(id) else { return };
        if org.has_turn || org.paced.is_some() || !org.may_start() {
            return;
        }
        org.has_turn = true;
        if let Some(share) = org.held_back.take() {
            self.turns.let_go(id, share);
        }
        self.turns.give(id);
    }

    /// Takes out an envelope that is to be parked on disk and then finished, as [`Finish::Parked`]: it has been held up for
    /// long enough. Without a permit: no call is to be made.
    pub fn next_to_park(&mut self, now: UnixMillis) -> Option<(Ticket, Item<T>)> {
        let limits = self.limits;
        while let Some(&id) = self.parking.last() {
            if self.in_flight >= limits.in_flight {
                return None;
            }
            let started =
                self.get(id).filter(|org| org.is_served()).and_then(|org| org.start_parking(now, &limits));
            if let Some(started) = started {
                let (ticket, item, _permit) = self.ticket(id, started)?;
                return Some((ticket, item));
            }
            self.parking.pop();
            if let Some(org) = self.get(id) {
                org.parks = false;
            }
            self.find_parkable(id, now);
            self.ask(id);
            self.let_go(id);
        }
        None
    }

    fn find_parkable(&mut self, id: usize, now: UnixMillis) {
        let limits = self.limits;
        let Some(org) = self.get(id) else { return };
        let again = org.find_parkable(now, &limits);
        if !org.to_park.is_empty() && !org.parks {
            org.parks = true;
            self.parking.push(id);
        }
        self.timers.extend(again.map(|due| Reverse((due, id, None))));
    }

    fn ticket(&mut self, id: usize, started: Started<T>) -> Option<(Ticket, Item<T>, Permit)> {
        self.in_flight += 1;
        let org = self.organizations.get_mut(id)?.as_mut()?;
        self.busy += usize::from(org.in_flight == 1);
        let Started { lane, item, permit, role } = started;
        let (seen, connections) = org.seen();
        let ticket = Ticket {
            organization: id,
            lane,
            endpoint: permit.endpoint(),
            seen,
            connections,
            resets: org.resets,
            failing_since: item.failing_since,
            role,
            heard: role == Role::Parking,
        };
        Some((ticket, item, permit))
    }

    /// Starts the next envelope, if one may start. Call [`Scheduler::tick`] first, and this until there is none.
    pub fn start(&mut self, now: UnixMillis) -> Option<(Ticket, Item<T>, Permit)> {
        loop {
            let free = self.limits.in_flight.checked_sub(self.in_flight).filter(|free| *free > 0)?;
            let leaves_one = self.limits.in_flight > 1 && self.busy < self.names.len();
            let Some(id) = self.turns.current() else {
                let id = self.turns.next_held_back(free, leaves_one)?;
                if let Some(org) = self.get(id) {
                    org.held_back = None;
                }
                self.give_turn(id);
                continue;
            };
            let Some(org) = self.organizations.get_mut(id).and_then(Option::as_mut) else {
                self.turns.leave();
                continue;
            };
            let weight = org.share.weight;
            if !org.may_start() {
                org.has_turn = false;
                self.turns.leave();
                self.let_go(id);
                continue;
            }
            // With nobody else there, nothing has to be left for anybody.
            if self.names.len() > 1 && !Turns::fits(org.in_flight, weight, free, leaves_one) {
                org.has_turn = false;
                self.turns.leave();
                org.held_back = Some(self.turns.hold_back(id, org.in_flight, weight));
                continue;
            }
            if let Some(Err(due)) = org.bucket.as_mut().map(|bucket| bucket.take(now)) {
                org.has_turn = false;
                org.paced = Some(due);
                self.turns.leave();
                self.timers.push(Reverse((due, id, None)));
                continue;
            }
            let Some(started) = org.start(now) else {
                // Everything that might start waits for a parked envelope of its lane, or is to be read first.
                if let Some(bucket) = &mut org.bucket {
                    bucket.settle(0, now);
                }
                org.has_turn = false;
                self.turns.leave();
                self.ask(id);
                continue;
            };
            self.turns.count(weight);
            self.ask(id);
            return self.ticket(id, started);
        }
    }

    /// The calls of what was started are over, and its permit is given back: others of its organization may be made, while
    /// its result is put on disk. Its lane waits until it is finished.
    pub fn called(&mut self, ticket: &mut Ticket, permit: Option<Permit>, news: &News, now: UnixMillis) {
        let (id, limits) = (ticket.organization, self.limits);
        let Some(org) = self.organizations.get_mut(id).and_then(Option::as_mut) else { return };
        if ticket.heard || !org.is_in_flight(ticket) {
            return;
        }
        ticket.heard = true;
        let mut wakes = Vec::new();
        org.hear(ticket, news, now, &limits, &mut wakes);
        self.timers.extend(wakes.into_iter().map(|wake| Reverse((wake, id, None))));
        org.end_call(ticket);
        drop(permit);
        self.give_turn(id);
    }

    /// Takes back what was started; `news` are passed over where [`Scheduler::called`] has heard them. A ticket of a lane
    /// that has nothing in flight changes nothing.
    pub fn finish(
        &mut self,
        mut ticket: Ticket,
        finish: Finish<T>,
        news: News,
        now: UnixMillis,
    ) -> Finished<T> {
        self.called(&mut ticket, None, &news, now);
        let (id, key, limits) = (ticket.organization, ticket.lane, self.limits);
        let Some(org) = self.organizations.get_mut(id).and_then(Option::as_mut) else {
            return Finished::Done;
        };
        if !org.is_in_flight(&ticket) {
            return Finished::Done;
        }
        let mut has_left = true;
        match finish {
            // Whatever it is, it waits in the queue.
            _ if !org.is_served() => {}
            Finish::Again(item) if !ticket.role.is_parked() => {
                if let Some(since) = item.failing_since {
                    let has_followers = org.lanes.get(&key).is_some_and(|lane| !lane.is_empty());
                    let at = org.parks_at(item.endpoint, since, has_followers, now, &limits);
                    if at.is_some_and(|at| at <= now) {
                        org.note_parking(since);
                        return Finished::Park(ticket, item);
                    }
                }
                has_left = false;
                let endpoint = item.endpoint;
                org.hold_up(item, endpoint, now, &limits);
            }
            Finish::Blocked(item) if !ticket.role.is_parked() => {
                has_left = false;
                let endpoint = item.endpoint;
                org.hold_up(item, endpoint, now, &limits);
            }
            Finish::Again(item) | Finish::Blocked(item) => org.parked.note(item.due.unwrap_or(now)),
            Finish::Parked(due) => org.parked.note(due),
            Finish::Ended => {}
        }
        org.free(&ticket, has_left);
        self.busy -= usize::from(org.in_flight == 0);
        org.leave_behind(key, &limits);
        org.settle_in();
        self.in_flight -= 1;
        self.arm(id, key, now);
        self.find_parkable(id, now);
        self.give_turn(id);
        self.ask(id);
        self.let_go(id);
        Finished::Done
    }

    /// Lets pass what has become due.
    pub fn tick(&mut self, now: UnixMillis) {
        while let Some(&Reverse((due, id, key))) = self.timers.peek() {
            if due > now {
                break;
            }
            self.timers.pop();
            if let Some(key) = key {
                self.arm(id, key, now);
            } else if let Some(org) = self.get(id) {
                org.wake(now);
                self.find_parkable(id, now);
                self.give_turn(id);
                self.ask(id);
                self.let_go(id);
            }
        }
    }

    /// When [`Scheduler::tick`] has something to do next.
    pub fn next_tick(&self) -> Option<UnixMillis> {
        self.timers.peek().map(|Reverse((due, ..))| *due)
    }

    // === how it stands ===

    /// Envelopes in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Every organization that is served, at this moment.
    pub fn standings(&self) -> impl Iterator<Item = (&Arc<str>, Standing)> {
        let served = |org: &&Organization<T>| org.service != Service::Dismissed;
        self.organizations.iter().flatten().filter(served).map(|org| (&org.name, org.standing()))
    }
}

impl<T> Found<T> {
    fn item(self) -> Option<Item<T>> {
        match self {
            Self::Item(item) => Some(item),
            Self::Number(_) => None,
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Item(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
