//! The scheduler: which envelope may be worked next. A plain state machine without I/O, clock or randomness.
//!
//! Invariants:
//! * A lane has at most one envelope in flight, and starts them in the order they were offered. A lane whose head
//!   waits for a retry starts nothing; other lanes do not notice. Only a *parked* envelope is left behind by its lane,
//!   and only while its organization is well (`gate.rs`).
//! * Organizations take turns by weight, and none holds so much of the global limit that nothing is left for others
//!   (`turns.rs`). None exceeds its own limits: in flight as configured and as Wigzo stands it (`concurrency.rs`), and
//!   the rate (`pace.rs`).
//! * A closed gate is obeyed: pauses to their end, a shut one but for probes, an operator's hold until the word.
//! * Memory is bounded by a window per organization, whatever waits. What does not fit stays in the queue and is read
//!   later, in order: an organization is either *up to date* (fresh envelopes are taken as they come) or *behind* (only
//!   what is read is taken), so no gap can arise between the two. It starts behind: nothing is known yet of what waits
//!   on disk. It is up to date again once a read has reached everything that was known when it was asked for, and
//!   everything that came since has been kept aside.
//! * Blocked lanes do not take the window from others. Above half of it, payloads are held only of envelopes that may
//!   start: what waits in its lane behind another, or for its time, is held by number (about 30 bytes) and read again
//!   when its turn comes. The hard bound is ten such numbers for each place in the window: an organization with more
//!   than that in blocked lanes is not read further until some of them have gone.
//! * Above the window there may be: what is in flight and comes back, one read by number, and one batch of parked ones.
//!
//! A start or finish costs the same however much waits; timers and held-back organizations are in ordered heaps.

mod concurrency;
mod gate;
mod lane;
mod organization;
mod pace;
mod parked;
mod turns;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixMillis;
use crate::queue::Seq;
use organization::{Armed, Organization, Service, Taken};
use pace::Bucket;
use turns::Turns;

pub use crate::queue::LaneKey;
pub use gate::{Gate, Waits, Why};

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
    /// What the gate and the limit had been through when this was started.
    shuts: u64,
    cuts: u64,
    retry: bool,
    parked: bool,
    /// Whether its calls are over and their news have been heard.
    heard: bool,
}

/// How the work on a started envelope ended.
#[derive(Debug)]
pub enum Finish<T> {
    /// It has its outcome; the lane moves on.
    Ended,
    /// It goes back to the head of its lane; a parked one back to the parked ones.
    Again(Item<T>),
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

/// What the work said about the whole organization.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// What the last call came to.
    pub answer: Answer,
    /// Wigzo asked for a pause until this time.
    pub pause: Option<UnixMillis>,
    /// Whether any try was refused for overload (429, 503, 504) or not answered in time.
    pub overloaded: bool,
    /// How long the slowest answered try took.
    pub latency: Option<Duration>,
    /// How many tries of calls were made.
    pub calls: u32,
}

/// What a call came to, as far as its organization is concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    /// No call was made, or it was given up.
    #[default]
    Unknown,
    /// Success: a shut gate opens.
    Good,
    /// A refusal that concerns the event: Wigzo is at work.
    Other,
    /// No answer, or one that says that Wigzo cannot work now.
    Failed,
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
    },
    /// Those with these numbers, as far as they still wait.
    Numbers(Vec<(LaneKey, Seq)>),
    /// Parked ones, earliest due first.
    Parked {
        /// At most so many.
        limit: usize,
    },
}

/// How an organization stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What it may do.
    pub gate: Gate,
    /// Envelopes whose calls are being made.
    pub in_flight: usize,
    /// How many may be, as far as its own limits go and Wigzo seems to stand it.
    pub limit: usize,
    /// Envelopes held in memory.
    pub held: usize,
    /// Envelopes held by number.
    pub held_by_number: usize,
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
    in_flight: usize,
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
            in_flight: 0,
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
        let org = place.get_or_insert_with(|| Organization::new(Arc::clone(name), share, epoch));
        org.serve();
        (org.share, org.paced) = (share, None);
        match (share.rate, &mut org.bucket) {
            (Some(rate), Some(bucket)) => bucket.set_rate(rate),
            (rate, bucket) => *bucket = rate.map(|rate| Bucket::new(rate, now)),
        }
        self.give_turn(id);
        self.ask(id);
    }

    /// Lets go of an organization's memory as soon as nothing of it is in flight, held or waiting, and neither a pause nor
    /// an operator's hold is left. That its gate is shut does not keep it: nobody is left to probe. What is offered for
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

    /// An operator holds an organization: nothing of it starts until it is resumed. `false`: it is not known.
    pub fn hold(&mut self, name: &str) -> bool {
        self.by_name(name).map(|org| org.keeper.hold()).is_some()
    }

    /// An organization's token or address was corrected: a suspension and an open breaker are over, and what waits for
    /// another try need not wait any longer. A pause that Wigzo asked for and an operator's hold go on.
    pub fn correct(&mut self, name: &str, now: UnixMillis) {
        let Some(&id) = self.names.get(name) else { return };
        let Some(org) = self.get(id) else { return };
        org.keeper.correct();
        for lane in org.hasten(now) {
            self.arm(id, lane, now);
        }
        self.give_turn(id);
        self.ask(id);
    }

    /// An operator resumes an organization: a hold, a suspension and an open breaker are over. A pause that Wigzo asked
    /// for goes on. `false`: it is not known.
    pub fn resume(&mut self, name: &str) -> bool {
        let Some(&id) = self.names.get(name) else { return false };
        if let Some(org) = self.get(id) {
            org.keeper.resume();
        }
        self.give_turn(id);
        self.ask(id);
        self.let_go(id);
        true
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
        let Some(org) = self.get(id) else { return };
        match org.arm(key, now) {
            Armed::Nothing => {}
            Armed::Ready => self.give_turn(id),
            Armed::Asks => self.ask(id),
            Armed::Timer(due) => self.timers.push(Reverse((due, id, Some(key)))),
        }
    }

    // === reads ===

    fn ask(&mut self, id: usize) {
        let Some(org) = self.get(id) else { return };
        if !org.asks
            && org.is_served()
            && (org.is_behind() || org.parked.next().is_some() || org.wants_to_load())
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
            let (organization, latest, epoch) = (Arc::clone(&org.name), org.latest, org.epoch);
            let mut read =
                |which| reads.push(Read { organization: Arc::clone(&organization), which, latest, epoch });
            if org.is_behind() && !org.reading && org.wants_more(&limits) {
                org.reading = true;
                drop(org.late.take());
                let limit = (limits.window / 4).min(limits.window.saturating_sub(org.held)).max(1);
                read(Which::After { after: org.taken, limit });
            }
            if org.wants_load(&limits) {
                let numbers = org.load();
                if !numbers.is_empty() {
                    read(Which::Numbers(numbers));
                }
            }
            if org.parked.is_due(now) && matches!(org.keeper.gate(), Gate::Open | Gate::Probing { .. }) {
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
    pub fn read(&mut self, read: &Read, found: Vec<Item<T>>, now: UnixMillis) {
        let Some(id) = self.whose(read) else { return };
        match &read.which {
            Which::After { after, .. } => self.read_after(id, *after, read.latest, found, now),
            Which::Numbers(numbers) => {
                let Some(org) = self.get(id) else { return };
                for lane in org.loaded(numbers, found) {
                    self.arm(id, lane, now);
                }
            }
            Which::Parked { .. } => {
                let Some(org) = self.get(id) else { return };
                org.parked.read(found, now);
                self.give_turn(id);
            }
        }
        self.ask(id);
        self.let_go(id);
    }

    fn read_after(&mut self, id: usize, after: Seq, latest: Seq, found: Vec<Item<T>>, now: UnixMillis) {
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
        for item in found {
            if !self.take(id, item, now) {
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

    /// Starts the next envelope, if one may start. Call [`Scheduler::tick`] first, and this until there is none.
    pub fn start(&mut self, now: UnixMillis) -> Option<(Ticket, Item<T>)> {
        loop {
            let free = self.limits.in_flight.checked_sub(self.in_flight).filter(|free| *free > 0)?;
            let Some(id) = self.turns.current() else {
                let id = self.turns.next_held_back(free)?;
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
            if self.names.len() > 1 && !Turns::fits(org.in_flight, weight, free) {
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
            let Some(started) = org.start() else {
                // Everything that might start waits for a parked envelope of its lane.
                if let Some(bucket) = &mut org.bucket {
                    bucket.settle(0, now);
                }
                org.has_turn = false;
                self.turns.leave();
                continue;
            };
            let ticket = Ticket {
                organization: id,
                lane: started.lane,
                shuts: org.keeper.shuts(),
                cuts: org.concurrency.cuts(),
                retry: started.retry,
                parked: started.parked,
                heard: false,
            };
            self.turns.count(weight);
            self.in_flight += 1;
            self.ask(id);
            return Some((ticket, started.item));
        }
    }

    /// The calls of what was started are over: others of its organization may be made, while its result is put on disk.
    /// Its lane waits until it is finished.
    pub fn called(&mut self, ticket: &mut Ticket, news: &News, now: UnixMillis) {
        let (id, limits) = (ticket.organization, self.limits);
        let Some(org) = self.organizations.get_mut(id).and_then(Option::as_mut) else { return };
        if ticket.heard || !org.is_in_flight(ticket) {
            return;
        }
        ticket.heard = true;
        if let Some(wake) = org.hear(ticket, news, now, &limits) {
            self.timers.push(Reverse((wake, id, None)));
        }
        org.end_call(ticket);
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
        self.called(&mut ticket, &news, now);
        let (id, key, limits) = (ticket.organization, ticket.lane, self.limits);
        let Some(org) = self.organizations.get_mut(id).and_then(Option::as_mut) else {
            return Finished::Done;
        };
        if !org.is_in_flight(&ticket) {
            return Finished::Done;
        }
        match finish {
            // Whatever it is, it waits in the queue.
            _ if !org.is_served() => {}
            Finish::Again(item) if !ticket.parked => {
                let alone = item.failing_since.zip(limits.lane_hold);
                if alone.is_some_and(|(since, hold)| org.keeper.may_park(since, hold, now)) {
                    return Finished::Park(ticket, item);
                }
                org.take_back(item, &limits);
            }
            Finish::Again(item) => org.parked.note(item.due.unwrap_or(now)),
            Finish::Parked(due) => org.parked.note(due),
            Finish::Ended => {}
        }
        org.free(&ticket);
        org.settle_in();
        self.in_flight -= 1;
        self.arm(id, key, now);
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

    /// Every organization that is served, and how it stands.
    pub fn standings(&self) -> impl Iterator<Item = (&Arc<str>, Standing)> {
        let served = |org: &&Organization<T>| org.service != Service::Dismissed;
        self.organizations.iter().flatten().filter(served).map(|org| {
            let standing = Standing {
                gate: org.keeper.gate(),
                in_flight: org.calling,
                limit: org.concurrency.limit(org.share.max_in_flight),
                held: org.held,
                held_by_number: org.stubs,
                failing_lanes: org.keeper.failing_lanes(),
            };
            (&org.name, standing)
        })
    }
}

#[cfg(test)]
mod tests;
