//! The scheduler: which envelope may be worked next. A plain state machine without I/O, clock or randomness.
//!
//! Invariants:
//! * A lane has at most one envelope in flight, and starts them in the order they were offered. A lane whose head
//!   waits for a retry starts nothing; other lanes do not notice.
//! * Organizations take turns, one envelope a turn, and none exceeds its own in-flight limit; all together never
//!   exceed the global one.
//! * Memory is bounded by a window per organization. What does not fit stays in the queue and is read later, in order:
//!   an organization is either *up to date* (fresh envelopes are taken as they come) or *behind* (only what is read
//!   is taken), so no gap can arise between the two. It starts behind: nothing is known yet of what waits on disk.
//!   Retries come back into memory whatever the window, so up to the in-flight limit may be held above it.
//! * A paused organization starts nothing before its time, whatever its other calls say meanwhile. A suspended one lets
//!   a single envelope probe; only what was started after the suspension can end or prolong it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixMillis;
use crate::queue::Seq;

/// How much may be worked and held at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Envelopes in flight over all organizations.
    pub in_flight: usize,
    /// Envelopes of one organization that are held in memory.
    pub window: usize,
    /// Bytes of one organization's envelopes that are held in memory (one envelope always fits).
    pub window_bytes: usize,
    /// The first wait of a suspended organization before a probe; it doubles up to `probe_cap`.
    pub probe_base: Duration,
    /// The longest wait before a probe.
    pub probe_cap: Duration,
}

/// An envelope as the scheduler sees it.
#[derive(Debug)]
pub struct Item<T> {
    /// Its number.
    pub seq: Seq,
    /// The person it belongs to.
    pub lane: LaneKey,
    /// Not before this time.
    pub due: Option<UnixMillis>,
    /// What it counts against the window, in bytes.
    pub size: usize,
    /// The envelope itself.
    pub load: T,
}

/// A lane's name, hashed. Two people whose names collide share a lane: they wait for each other, in order, and
/// nothing worse happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey(u64);

impl LaneKey {
    /// The key of a lane's name.
    pub fn of(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What has been started, to be handed back to [`Scheduler::finish`], once.
#[derive(Debug)]
#[must_use = "what was started must be finished, else its lane stands still"]
pub struct Ticket {
    organization: usize,
    lane: LaneKey,
    /// How often the organization had been suspended when this was started.
    suspensions: u64,
}

/// How the work on a started envelope ended.
#[derive(Debug)]
pub enum Finish<T> {
    /// It has its outcome; the lane moves on.
    Ended,
    /// It goes back to the head of its lane.
    Again(Item<T>),
}

/// What the work said about the whole organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing.
    Unknown,
    /// A call was answered with success: a suspension is over. A pause is not: Wigzo named its end.
    Good,
    /// Wigzo asked for a pause until this time.
    Pause(UnixMillis),
    /// Wigzo refuses the organization's token or address: only probes go on, none before this time.
    Suspend(UnixMillis),
}

/// What an organization may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Everything.
    Open,
    /// Nothing before this time.
    Paused(UnixMillis),
    /// Nothing before this time, then one probe.
    Suspended {
        /// When the next probe may start.
        until: UnixMillis,
        /// How many probes have failed.
        failures: u32,
    },
    /// One probe is in flight.
    Probing {
        /// How many probes failed before.
        failures: u32,
    },
}

/// A request to read waiting envelopes from the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Of this organization.
    pub organization: Arc<str>,
    /// After this number.
    pub after: Seq,
    /// At most so many.
    pub limit: usize,
    /// The newest number known when the request was made.
    latest: Seq,
}

/// The state machine. `T` is what travels with an envelope; the scheduler never looks at it.
#[derive(Debug)]
pub struct Scheduler<T> {
    limits: Limits,
    organizations: Vec<Organization<T>>,
    names: HashMap<Arc<str>, usize>,
    /// Places of organizations that were let go, for the next ones.
    free: Vec<usize>,
    turns: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(UnixMillis, usize, Option<LaneKey>)>>,
    in_flight: usize,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and they occur in any combination"
)]
struct Organization<T> {
    name: Arc<str>,
    lanes: HashMap<LaneKey, Lane<T>>,
    /// Lanes whose head may start, in the order in which they became ready.
    ready: VecDeque<LaneKey>,
    has_turn: bool,
    in_flight: usize,
    max_in_flight: usize,
    held: usize,
    held_bytes: usize,
    /// Nothing starts before this time.
    paused: Option<UnixMillis>,
    suspension: Option<Suspension>,
    /// How often it has been suspended, failed probes included.
    suspensions: u64,
    /// The newest number that was taken into memory.
    taken: Seq,
    /// The newest number that is known; above `taken`: the organization is behind.
    latest: Seq,
    /// Whether it is still unknown what waited in the queue when the organization became known.
    unread: bool,
    reading: bool,
    /// Whether it is let go once it is idle.
    retiring: bool,
}

#[derive(Debug, Clone, Copy)]
struct Suspension {
    /// When the next probe may start; `None`: now.
    until: Option<UnixMillis>,
    /// How many probes have failed.
    failures: u32,
}

#[derive(Debug)]
struct Lane<T> {
    items: VecDeque<Item<T>>,
    in_flight: bool,
    /// Whether it stands among the organization's ready lanes.
    is_ready: bool,
}

// === impl Scheduler ===

impl<T> Scheduler<T> {
    /// An empty scheduler.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            organizations: Vec::new(),
            names: HashMap::new(),
            free: Vec::new(),
            turns: VecDeque::new(),
            timers: BinaryHeap::new(),
            in_flight: 0,
        }
    }

    /// Makes an organization known, or changes its in-flight limit.
    pub fn serve(&mut self, name: &Arc<str>, max_in_flight: usize) {
        if let Some(&id) = self.names.get(name) {
            if let Some(organization) = self.organizations.get_mut(id) {
                (organization.max_in_flight, organization.retiring) = (max_in_flight, false);
            }
            self.give_turn(id);
            return;
        }
        let organization = Organization {
            name: Arc::clone(name),
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            has_turn: false,
            in_flight: 0,
            max_in_flight,
            held: 0,
            held_bytes: 0,
            paused: None,
            suspension: None,
            suspensions: 0,
            taken: Seq(0),
            latest: Seq(0),
            unread: true,
            reading: false,
            retiring: false,
        };
        let free = self.free.pop().and_then(|id| Some((id, self.organizations.get_mut(id)?)));
        if let Some((id, place)) = free {
            // It may still stand among the turns.
            *place = Organization { has_turn: place.has_turn, ..organization };
            self.names.insert(Arc::clone(name), id);
        } else {
            self.names.insert(Arc::clone(name), self.organizations.len());
            self.organizations.push(organization);
        }
    }

    /// Lets go of an organization as soon as nothing of it is held, in flight or still to be read, and no pause is left: a
    /// pause ends at its time, not before. That it is suspended does not keep it, because nobody is left to probe. What is
    /// offered for it until then is worked; if it is served again, it stays.
    pub fn retire(&mut self, name: &str) {
        let Some(&id) = self.names.get(name) else { return };
        let Some(org) = self.organizations.get_mut(id) else { return };
        org.retiring = true;
        self.let_go(id);
    }

    fn let_go(&mut self, id: usize) {
        let Some(org) = self.organizations.get_mut(id) else { return };
        if !org.retiring || !org.is_idle() {
            return;
        }
        // What is left in its place asks for nothing: no lane, nothing to read, no gate to tell of. Timers that are still
        // to come find no lane, or wake an organization that has nothing to wake for.
        (org.retiring, org.suspension) = (false, None);
        self.names.remove(&org.name);
        self.free.push(id);
    }

    /// Offers a freshly committed envelope. It is taken if its organization is up to date and has room; otherwise only
    /// its number is noted. Envelopes of an unknown organization stay in the queue.
    pub fn offer(&mut self, organization: &str, item: Item<T>, now: UnixMillis) {
        let Some(&id) = self.names.get(organization) else { return };
        let limits = self.limits;
        let Some(org) = self.organizations.get_mut(id) else { return };
        if item.seq <= org.taken {
            return; // It has been read from the queue in the meantime.
        }
        let was_behind = org.is_behind();
        org.latest = org.latest.max(item.seq);
        if !was_behind && org.has_room(&limits) {
            self.take(id, item, now);
        }
    }

    /// Lets go of what a lane holds, where `matches` says so (lanes may be shared, see [`LaneKey`]). What is in flight
    /// is not touched.
    pub fn forget(
        &mut self,
        organization: &str,
        lane: LaneKey,
        now: UnixMillis,
        matches: impl Fn(&T) -> bool,
    ) {
        let Some(&id) = self.names.get(organization) else { return };
        let Some(org) = self.organizations.get_mut(id) else { return };
        let Some(held) = org.lanes.get_mut(&lane) else { return };
        let (gone, kept) = std::mem::take(&mut held.items).into_iter().partition(|item| matches(&item.load));
        let gone: VecDeque<Item<T>> = gone;
        held.items = kept;
        org.held -= gone.len();
        org.held_bytes -= gone.iter().map(|item| item.size).sum::<usize>();
        if held.in_flight || gone.is_empty() {
            return;
        }
        held.is_ready = false;
        org.ready.retain(|key| *key != lane);
        if held.items.is_empty() {
            org.lanes.remove(&lane);
            self.let_go(id);
        } else {
            self.arm(id, lane, now);
        }
    }

    /// Notes that an organization has envelopes in the queue up to `latest`.
    pub fn note(&mut self, organization: &str, latest: Seq) {
        if let Some(org) = self.names.get(organization).and_then(|&id| self.organizations.get_mut(id)) {
            org.latest = org.latest.max(latest);
        }
    }

    /// The reads that should be made now: organizations that are behind and have half a window of room, or any room
    /// when nothing that is held may start.
    pub fn reads(&mut self) -> Vec<Read> {
        let limits = self.limits;
        self.organizations
            .iter_mut()
            .filter(|org| org.is_behind() && !org.reading && org.wants_more(&limits))
            .map(|org| {
                org.reading = true;
                Read {
                    organization: Arc::clone(&org.name),
                    after: org.taken,
                    limit: (limits.window / 2).min(limits.window.saturating_sub(org.held)).max(1),
                    latest: org.latest,
                }
            })
            .collect()
    }

    /// Takes what a read has found: the oldest after [`Read::after`] without gaps, at least one if there is any. What
    /// exceeds the window is left for the next read.
    pub fn read(&mut self, read: &Read, found: Vec<Item<T>>, now: UnixMillis) {
        let Some(&id) = self.names.get(&read.organization) else { return };
        let limits = self.limits;
        let Some(org) = self.organizations.get_mut(id) else { return };
        org.reading = false;
        if found.is_empty() {
            // Everything that was committed when the read was asked for has been seen.
            org.taken = org.taken.max(read.latest);
        }
        if found.is_empty() || read.latest > read.after {
            // From now on `latest` tells whether something is left: what is newer has been offered or noted.
            org.unread = false;
        }
        for item in found {
            if !self.organizations.get(id).is_some_and(|org| org.has_room(&limits)) {
                return;
            }
            self.take(id, item, now);
        }
        self.let_go(id);
    }

    /// Notes that a read failed; it is asked for again.
    pub fn read_failed(&mut self, read: &Read) {
        if let Some(org) = self.names.get(&read.organization).and_then(|&id| self.organizations.get_mut(id)) {
            org.reading = false;
        }
    }

    fn take(&mut self, id: usize, item: Item<T>, now: UnixMillis) {
        let Some(org) = self.organizations.get_mut(id) else { return };
        org.taken = org.taken.max(item.seq);
        org.latest = org.latest.max(item.seq);
        org.held += 1;
        org.held_bytes += item.size;
        let key = item.lane;
        let lane = org.lanes.entry(key).or_insert_with(|| Lane {
            items: VecDeque::new(),
            in_flight: false,
            is_ready: false,
        });
        lane.items.push_back(item);
        if lane.items.len() == 1 && !lane.in_flight {
            self.arm(id, key, now);
        }
    }

    /// Puts a lane with a new head where it belongs: among the ready ones, or behind a timer.
    fn arm(&mut self, id: usize, key: LaneKey, now: UnixMillis) {
        let Some(org) = self.organizations.get_mut(id) else { return };
        // A timer of a head that was forgotten may come to a lane that is ready already.
        let idle = |lane: &&mut Lane<T>| !lane.in_flight && !lane.is_ready;
        let Some(lane) = org.lanes.get_mut(&key).filter(idle) else { return };
        let Some(head) = lane.items.front() else { return };
        match head.due {
            Some(due) if due > now => self.timers.push(Reverse((due, id, Some(key)))),
            _ => {
                lane.is_ready = true;
                org.ready.push_back(key);
                self.give_turn(id);
            }
        }
    }

    fn give_turn(&mut self, id: usize) {
        if let Some(org) = self.organizations.get_mut(id)
            && !org.has_turn
            && org.may_start()
        {
            org.has_turn = true;
            self.turns.push_back(id);
        }
    }

    /// Starts the next envelope, if one may start. Call [`Scheduler::tick`] first.
    pub fn start(&mut self) -> Option<(Ticket, Item<T>)> {
        while self.in_flight < self.limits.in_flight {
            let id = self.turns.pop_front()?;
            let Some(org) = self.organizations.get_mut(id) else { continue };
            org.has_turn = false;
            if !org.may_start() {
                continue;
            }
            let started = org.start();
            let suspensions = org.suspensions;
            self.give_turn(id);
            let Some((lane, item)) = started else { continue };
            self.in_flight += 1;
            return Some((Ticket { organization: id, lane, suspensions }, item));
        }
        None
    }

    /// Takes back what was started. A ticket of a lane that has nothing in flight changes nothing.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up: it cannot be handed back twice")]
    pub fn finish(&mut self, ticket: Ticket, finish: Finish<T>, health: Health, now: UnixMillis) {
        let Ticket { organization: id, lane: key, suspensions } = ticket;
        let limits = self.limits;
        let Some(org) = self.organizations.get_mut(id) else { return };
        let Some(lane) = org.lanes.get_mut(&key).filter(|lane| lane.in_flight) else { return };
        lane.in_flight = false;
        self.in_flight -= 1;
        org.in_flight -= 1;
        if let Finish::Again(item) = finish {
            org.held += 1;
            org.held_bytes += item.size;
            lane.items.push_front(item);
        }
        let is_empty = lane.items.is_empty();
        if is_empty {
            org.lanes.remove(&key);
        }
        let is_late = suspensions != org.suspensions;
        if let Some(wake) = org.hear(health, is_late, now, &limits) {
            self.timers.push(Reverse((wake, id, None)));
        }
        if !is_empty {
            self.arm(id, key, now);
        }
        self.give_turn(id);
        self.let_go(id);
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
            } else if let Some(org) = self.organizations.get_mut(id) {
                org.wake(now);
                self.give_turn(id);
                self.let_go(id);
            }
        }
    }

    /// When [`Scheduler::tick`] has something to do next.
    pub fn next_tick(&self) -> Option<UnixMillis> {
        self.timers.peek().map(|Reverse((due, ..))| *due)
    }

    /// Envelopes in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The organizations that are not open, with their gates.
    pub fn closed_gates(&self) -> impl Iterator<Item = (&Arc<str>, Gate)> {
        self.organizations.iter().map(|org| (&org.name, org.gate())).filter(|(_, gate)| *gate != Gate::Open)
    }
}

// === impl Organization ===

impl<T> Organization<T> {
    fn has_room(&self, limits: &Limits) -> bool {
        self.held == 0 || (self.held < limits.window && self.held_bytes < limits.window_bytes)
    }

    fn is_behind(&self) -> bool {
        self.unread || self.latest > self.taken
    }

    /// Whether nothing of it is left to do.
    fn is_idle(&self) -> bool {
        self.lanes.is_empty()
            && self.in_flight == 0
            && !self.reading
            && !self.is_behind()
            && self.paused.is_none()
    }

    /// Whether a read is worth its while: half a window at a time, unless what is held keeps all others waiting.
    fn wants_more(&self, limits: &Limits) -> bool {
        let half_empty = self.held * 2 <= limits.window && self.held_bytes * 2 <= limits.window_bytes;
        half_empty || (self.ready.is_empty() && self.has_room(limits))
    }

    fn gate(&self) -> Gate {
        match (self.suspension, self.paused) {
            (None, None) => Gate::Open,
            (None, Some(until)) => Gate::Paused(until),
            (Some(Suspension { until: None, failures }), None) => Gate::Probing { failures },
            (Some(Suspension { until: Some(until), failures }), None)
            | (Some(Suspension { until: None, failures }), Some(until)) => {
                Gate::Suspended { until, failures }
            }
            (Some(Suspension { until: Some(probe), failures }), Some(paused)) => {
                Gate::Suspended { until: probe.max(paused), failures }
            }
        }
    }

    fn may_start(&self) -> bool {
        let allowed = match self.gate() {
            Gate::Open => self.max_in_flight,
            Gate::Probing { .. } => 1,
            Gate::Paused(_) | Gate::Suspended { .. } => 0,
        };
        !self.ready.is_empty() && self.in_flight < allowed
    }

    fn start(&mut self) -> Option<(LaneKey, Item<T>)> {
        let key = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&key)?;
        let item = lane.items.pop_front()?;
        (lane.in_flight, lane.is_ready) = (true, false);
        self.in_flight += 1;
        self.held -= 1;
        self.held_bytes -= item.size;
        Some((key, item))
    }

    /// Moves the gate; returns when it should be looked at again. `late`: the news is older than the suspension.
    fn hear(&mut self, health: Health, late: bool, now: UnixMillis, limits: &Limits) -> Option<UnixMillis> {
        match health {
            // A probe that has learned nothing: the next one may go.
            Health::Unknown => None,
            Health::Good => {
                if !late {
                    self.suspension = None;
                }
                None
            }
            Health::Pause(until) => self.pause(until, now),
            Health::Suspend(earliest) => {
                let pause = self.pause(earliest, now);
                if late {
                    return pause;
                }
                let failures = self.suspension.map_or(0, |suspension| suspension.failures + 1);
                let wait = limits.probe_base.saturating_mul(1 << failures.min(20)).min(limits.probe_cap);
                // Not before the pause's end, so that one timer opens both.
                let until = now.plus(wait).max(earliest);
                self.suspension = Some(Suspension { until: Some(until), failures });
                self.suspensions += 1;
                Some(until)
            }
        }
    }

    /// A pause is only ever prolonged.
    fn pause(&mut self, until: UnixMillis, now: UnixMillis) -> Option<UnixMillis> {
        if until <= now || self.paused.is_some_and(|earlier| until <= earlier) {
            return None;
        }
        self.paused = Some(until);
        Some(until)
    }

    /// Opens what has been closed for long enough.
    fn wake(&mut self, now: UnixMillis) {
        self.paused = self.paused.filter(|&until| until > now);
        if let Some(suspension) = &mut self.suspension {
            suspension.until = suspension.until.filter(|&until| until > now);
        }
    }
}

#[cfg(test)]
mod tests;
