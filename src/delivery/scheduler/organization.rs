//! One organization in the scheduler: its lanes, its window, and in which order its lanes start.
//!
//! Two shares: lanes whose head has never been tried, and lanes whose head is a retry (with the parked envelopes). Where
//! both wait, one start in four is a retry and retries hold at most half of what may be in flight; alone they leave an
//! eighth free. So neither can starve the other, and a fresh event never waits for a wall of retries.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::concurrency::{Concurrency, Load};
use super::gate::{Gate, Keeper};
use super::lane::{Lane, Next, Stub};
use super::pace::Bucket;
use super::parked::Parked;
use super::{Answer, Item, LaneKey, Limits, News, Share, Ticket};
use crate::clock::UnixMillis;
use crate::queue::Seq;

/// Numbers that are held for each place in the window: the hard bound on what waits in memory without payload.
pub(super) const STUBS: usize = 10;

/// Envelopes that one read brings back by number, and of one lane.
pub(super) const LOAD: usize = 64;
const LOAD_OF_A_LANE: usize = 8;

/// One start in so many is a retry where both shares wait.
const RETRY_TURN: u32 = 4;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(super) struct Organization<T> {
    pub(super) name: Arc<str>,
    pub(super) share: Share,
    pub(super) service: Service,
    /// Which reads are its own: those that were asked for before it was last dismissed are not.
    pub(super) epoch: u64,
    pub(super) lanes: HashMap<LaneKey, Lane<T>>,
    /// Lanes whose head may start, in the order in which they became ready: heads that were never tried, and retries.
    fresh: VecDeque<LaneKey>,
    retries: VecDeque<LaneKey>,
    pub(super) parked: Parked<T>,
    /// Counts starts, for the turns of the shares.
    starts: u32,
    /// Whether the last retry was a parked envelope.
    was_parked: bool,
    /// Envelopes that were started and are not finished.
    pub(super) in_flight: usize,
    /// Of those, the ones whose calls are being made, and how many of these are retries.
    pub(super) calling: usize,
    retries_calling: usize,
    pub(super) held: usize,
    pub(super) held_bytes: usize,
    /// Envelopes of lanes that are held by number.
    pub(super) stubs: usize,
    /// Lanes whose first stubs are to be read.
    to_load: VecDeque<LaneKey>,
    pub(super) loading: bool,
    /// The newest number that was taken into memory.
    pub(super) taken: Seq,
    /// The newest number that is known; above `taken`: the organization is behind.
    pub(super) latest: Seq,
    /// Whether it is still unknown what waited in the queue when the organization became known.
    pub(super) unread: bool,
    pub(super) reading: bool,
    /// What was offered while the read that is under way was made, unless some of it was not.
    pub(super) late: Late<T>,
    pub(super) keeper: Keeper,
    pub(super) bucket: Option<Bucket>,
    pub(super) concurrency: Concurrency,
    pub(super) has_turn: bool,
    /// When the bucket has a token again; until then it takes no turn.
    pub(super) paced: Option<UnixMillis>,
    /// Where it stands among those that are held back, see [`Turns`](super::turns::Turns).
    pub(super) held_back: Option<usize>,
    /// Whether it is among those that may want to read.
    pub(super) asks: bool,
}

/// How far an organization is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// In full.
    Served,
    /// In full, and it goes as soon as it is idle.
    Retiring,
    /// Nothing is taken, read or started. It goes as soon as what was in flight has ended.
    Dismissed,
    /// It was dismissed and is to be served again. What was in flight then still is, and waits on disk like all the
    /// rest: nothing is read before it has ended, or it would be worked twice.
    Returning,
}

/// Envelopes that were offered during a read. If they are all that came since the read was asked for, the organization
/// has caught up when the read has.
#[derive(Debug)]
pub(super) struct Late<T> {
    pub(super) items: VecDeque<Item<T>>,
    pub(super) bytes: usize,
    /// Whether something is missing.
    pub(super) gap: bool,
}

impl<T> Late<T> {
    fn new() -> Self {
        Self { items: VecDeque::new(), bytes: 0, gap: false }
    }

    /// Keeps an envelope, or gives up all of them when there are too many.
    pub(super) fn keep(&mut self, item: Item<T>, limits: &Limits) {
        let too_many = self.items.len() * 4 >= limits.window || self.bytes * 4 >= limits.window_bytes;
        if too_many || self.gap {
            return self.give_up();
        }
        self.bytes += item.size;
        self.items.push_back(item);
    }

    pub(super) fn give_up(&mut self) {
        *self = Self { gap: true, ..Self::new() };
    }

    /// Takes what there is, and begins anew; empty if something is missing.
    pub(super) fn take(&mut self) -> VecDeque<Item<T>> {
        std::mem::replace(self, Self::new()).items
    }
}

/// How an envelope is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    WithPayload,
    ByNumber,
}

/// How an envelope was taken into its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    AsHead,
    Behind,
}

/// What was taken out to be worked.
pub(super) struct Started<T> {
    pub(super) lane: LaneKey,
    pub(super) item: Item<T>,
    pub(super) retry: bool,
    pub(super) parked: bool,
}

/// What has to be done for a lane outside of its organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Armed {
    Nothing,
    Ready,
    Asks,
    Timer(UnixMillis),
}

impl<T> Organization<T> {
    pub(super) fn new(name: Arc<str>, share: Share, epoch: u64) -> Self {
        Self {
            name,
            share,
            service: Service::Served,
            epoch,
            lanes: HashMap::new(),
            fresh: VecDeque::new(),
            retries: VecDeque::new(),
            parked: Parked::unknown(),
            starts: 0,
            was_parked: false,
            in_flight: 0,
            calling: 0,
            retries_calling: 0,
            held: 0,
            held_bytes: 0,
            stubs: 0,
            to_load: VecDeque::new(),
            loading: false,
            taken: Seq(0),
            latest: Seq(0),
            unread: true,
            reading: false,
            late: Late::new(),
            keeper: Keeper::default(),
            bucket: None,
            concurrency: Concurrency::new(),
            has_turn: false,
            paced: None,
            held_back: None,
            asks: false,
        }
    }

    /// Whether it can go without anything being lost that is not in the queue, or forgotten that must be remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.is_empty()
            && self.in_flight == 0
            && self.parked.is_empty()
            && !self.is_behind()
            && !self.reading
            && !self.loading
            && self.keeper.is_forgettable()
            && !self.has_turn
            && !self.asks
    }

    // === coming and going ===

    /// Whether its envelopes may be taken, read and started.
    pub(super) fn is_served(&self) -> bool {
        matches!(self.service, Service::Served | Service::Retiring)
    }

    /// Whether it can be let go of now.
    pub(super) fn may_go(&self) -> bool {
        matches!(self.service, Service::Retiring | Service::Dismissed) && self.is_idle()
    }

    /// Lets go of everything that is not in flight; it is in the queue.
    pub(super) fn dismiss(&mut self, epoch: u64) {
        self.service = Service::Dismissed;
        self.epoch = epoch;
        self.lanes.retain(|_, lane| lane.in_flight);
        for lane in self.lanes.values_mut() {
            *lane = Lane { in_flight: true, ..Lane::new() };
        }
        self.fresh.clear();
        self.retries.clear();
        self.to_load.clear();
        self.parked.let_go();
        self.late = Late::new();
        (self.held, self.held_bytes, self.stubs) = (0, 0, 0);
        (self.taken, self.latest) = (Seq(0), Seq(0));
        (self.unread, self.reading, self.loading) = (false, false, false);
    }

    /// It is to be served, whatever it was before.
    pub(super) fn serve(&mut self) {
        match self.service {
            Service::Served | Service::Retiring => self.service = Service::Served,
            Service::Dismissed | Service::Returning => {
                self.service = Service::Returning;
                // Whatever comes meanwhile is only noted.
                self.unread = true;
                self.settle_in();
            }
        }
    }

    /// Begins anew, if it is to be served again and nothing is in flight any more.
    pub(super) fn settle_in(&mut self) {
        if self.service == Service::Returning && self.in_flight == 0 {
            self.service = Service::Served;
            self.parked.look();
        }
    }

    /// Lets nothing wait for its own time any more: the heads of all lanes may start, as far as the gate lets them.
    /// Returns the lanes to arm.
    pub(super) fn hasten(&mut self, now: UnixMillis) -> Vec<LaneKey> {
        let waits = |due: &Option<UnixMillis>| due.is_some_and(|due| due > now);
        let mut hastened = Vec::new();
        for (key, lane) in &mut self.lanes {
            let head = lane.items.front_mut().map(|item| &mut item.due);
            let head = head.or_else(|| lane.stubs.front_mut().map(|stub| &mut stub.due));
            if let Some(due) = head.filter(|due| waits(due)) {
                *due = Some(now);
                hastened.push(*key);
            }
        }
        hastened
    }

    // === the window ===

    pub(super) fn has_room(&self, limits: &Limits) -> bool {
        self.held == 0 || (self.held < limits.window && self.held_bytes < limits.window_bytes)
    }

    /// Whether more than half of the window is taken: from here on, payloads are held only of what may start now.
    fn is_pressed(&self, limits: &Limits) -> bool {
        self.held * 2 > limits.window || self.held_bytes * 2 > limits.window_bytes
    }

    pub(super) fn is_behind(&self) -> bool {
        self.unread || self.latest > self.taken
    }

    /// Whether a read is worth its while: a quarter of the window at a time, or less when nothing that is held may
    /// start and others are kept waiting.
    pub(super) fn wants_more(&self, limits: &Limits) -> bool {
        let is_low = self.held * 4 <= limits.window && self.held_bytes * 4 <= limits.window_bytes;
        self.stubs < limits.window.saturating_mul(STUBS)
            && (is_low || (!self.has_ready() && self.has_room(limits)))
    }

    /// Whether a lane waits to be read by number.
    pub(super) fn wants_to_load(&self) -> bool {
        !self.loading && !self.to_load.is_empty()
    }

    pub(super) fn wants_load(&self, limits: &Limits) -> bool {
        self.wants_to_load() && (self.has_room(limits) || !self.has_ready())
    }

    fn has_ready(&self) -> bool {
        !self.fresh.is_empty() || !self.retries.is_empty()
    }

    /// How an envelope would be held; `None`: it must stay in the queue, and all that follow it.
    fn place(&self, item: &Item<T>, now: UnixMillis, limits: &Limits) -> Option<Place> {
        let lane = self.lanes.get(&item.lane);
        let waits = lane.is_some() || item.due.is_some_and(|due| due > now);
        if lane.is_some_and(|lane| !lane.stubs.is_empty()) || (waits && self.is_pressed(limits)) {
            return (self.stubs < limits.window.saturating_mul(STUBS)).then_some(Place::ByNumber);
        }
        self.has_room(limits).then_some(Place::WithPayload)
    }

    /// Takes the next envelope in order, if it fits.
    pub(super) fn take(&mut self, item: Item<T>, now: UnixMillis, limits: &Limits) -> Option<Taken> {
        let place = self.place(&item, now, limits)?;
        self.taken = self.taken.max(item.seq);
        self.latest = self.latest.max(item.seq);
        let lane = self.lanes.entry(item.lane).or_insert_with(Lane::new);
        let taken = if lane.is_idle() { Taken::AsHead } else { Taken::Behind };
        match place {
            Place::WithPayload => {
                self.held += 1;
                self.held_bytes += item.size;
                lane.items.push_back(item);
            }
            Place::ByNumber => {
                self.stubs += 1;
                lane.stubs.push_back(Stub { seq: item.seq, due: item.due });
            }
        }
        Some(taken)
    }

    /// Puts a lane that nothing is done with where it belongs.
    pub(super) fn arm(&mut self, key: LaneKey, now: UnixMillis) -> Armed {
        let Some(lane) = self.lanes.get_mut(&key) else { return Armed::Nothing };
        match lane.next(now) {
            None => {
                if lane.is_idle() {
                    self.lanes.remove(&key);
                }
                Armed::Nothing
            }
            Some(Next::At(due)) => Armed::Timer(due),
            Some(Next::Start { retry }) => {
                lane.is_ready = true;
                if retry { &mut self.retries } else { &mut self.fresh }.push_back(key);
                Armed::Ready
            }
            Some(Next::Load) => {
                lane.is_loading = true;
                self.to_load.push_back(key);
                Armed::Asks
            }
        }
    }

    /// The numbers that should be read back now.
    pub(super) fn load(&mut self) -> Vec<(LaneKey, Seq)> {
        let mut numbers = Vec::new();
        while numbers.len() < LOAD
            && let Some(key) = self.to_load.pop_front()
        {
            let stubs = self.lanes.get(&key).map(|lane| lane.stubs.iter().take(LOAD_OF_A_LANE));
            numbers.extend(stubs.into_iter().flatten().map(|stub| (key, stub.seq)));
        }
        self.loading = !numbers.is_empty();
        numbers
    }

    /// Takes back what was read by number; what was asked for and is not there has ended. Returns the lanes to arm.
    pub(super) fn loaded(&mut self, asked: &[(LaneKey, Seq)], found: Vec<Item<T>>) -> Vec<LaneKey> {
        self.loading = false;
        // A read may be cut short: what lies behind the last that was found is not known to be gone.
        let known = found.last().map_or(Seq(u64::MAX), |item| item.seq);
        let mut found: HashMap<Seq, Item<T>> = found.into_iter().map(|item| (item.seq, item)).collect();
        let mut lanes = Vec::new();
        for (key, seq) in asked {
            let Some(lane) = self.lanes.get_mut(key) else { continue };
            if lane.is_loading {
                lane.is_loading = false;
                lanes.push(*key);
            }
            if *seq > known || lane.stubs.front().is_none_or(|stub| stub.seq != *seq) {
                continue;
            }
            lane.stubs.pop_front();
            self.stubs -= 1;
            if let Some(item) = found.remove(seq) {
                self.held += 1;
                self.held_bytes += item.size;
                lane.items.push_back(item);
            }
        }
        lanes
    }

    /// A read by number failed: its lanes ask again.
    pub(super) fn load_failed(&mut self, asked: &[(LaneKey, Seq)]) {
        self.loading = false;
        for (key, _) in asked {
            if self.to_load.back() != Some(key) {
                self.to_load.push_back(*key);
            }
        }
    }

    /// Lets go of what matches in a lane, see [`Scheduler::forget`](super::Scheduler::forget).
    pub(super) fn forget(&mut self, key: LaneKey, matches: &impl Fn(&T) -> bool) {
        let is_kept = |item: &Item<T>| item.lane != key || !matches(&item.load);
        self.parked.batch.retain(is_kept);
        self.late.items.retain(is_kept);
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let before = lane.items.len();
        let held_bytes = &mut self.held_bytes;
        lane.items.retain(|item| {
            let keep = is_kept(item);
            if !keep {
                *held_bytes -= item.size;
            }
            keep
        });
        let gone = before - lane.items.len();
        self.held -= gone;
        if gone > 0 && lane.is_ready {
            lane.is_ready = false;
            self.fresh.retain(|ready| *ready != key);
            self.retries.retain(|ready| *ready != key);
        }
    }

    // === starting ===

    /// How many may be calling now, by the gate and the organization's own limits.
    pub(super) fn allowed(&self) -> usize {
        match self.keeper.gate() {
            Gate::Open => self.concurrency.limit(self.share.max_in_flight),
            Gate::Probing { .. } => 1,
            Gate::Held | Gate::Paused(_) | Gate::Shut { .. } => 0,
        }
    }

    /// Opens what has been closed for long enough.
    pub(super) fn wake(&mut self, now: UnixMillis) {
        self.keeper.wake(now);
        self.parked.wake(now);
        self.paced = self.paced.filter(|&until| until > now);
    }

    pub(super) fn may_start(&self) -> bool {
        let allowed = self.allowed();
        self.calling < allowed && (!self.fresh.is_empty() || self.may_retry(allowed))
    }

    /// Whether a retry may start at all: alone they leave an eighth free.
    fn may_retry(&self, allowed: usize) -> bool {
        let reserve = if allowed > 1 { (allowed / 8).max(1) } else { 0 };
        let waits = !self.retries.is_empty() || !self.parked.batch.is_empty();
        waits && self.retries_calling < allowed - reserve
    }

    /// Takes out the next envelope.
    pub(super) fn start(&mut self) -> Option<Started<T>> {
        let allowed = self.allowed();
        let may_retry = self.may_retry(allowed);
        let is_turn = self.starts.is_multiple_of(RETRY_TURN) && self.retries_calling * 2 < allowed.max(2);
        let started = if matches!(self.keeper.gate(), Gate::Probing { .. }) {
            // Whatever has failed least is most likely to learn that the trouble is over.
            self.start_head(false).or_else(|| self.start_head(true)).or_else(|| self.start_parked())
        } else if may_retry && (is_turn || self.fresh.is_empty()) {
            self.start_retry().or_else(|| self.start_head(false))
        } else {
            let fresh = self.start_head(false);
            if fresh.is_none() && may_retry { self.start_retry() } else { fresh }
        }?;
        self.starts = self.starts.wrapping_add(1);
        self.in_flight += 1;
        self.calling += 1;
        self.retries_calling += usize::from(started.retry);
        Some(started)
    }

    /// Lanes and parked envelopes in turn, where both wait.
    fn start_retry(&mut self) -> Option<Started<T>> {
        let started = if self.was_parked {
            self.start_head(true).or_else(|| self.start_parked())
        } else {
            self.start_parked().or_else(|| self.start_head(true))
        }?;
        self.was_parked = started.parked;
        Some(started)
    }

    fn start_head(&mut self, retry: bool) -> Option<Started<T>> {
        loop {
            let key = if retry { &mut self.retries } else { &mut self.fresh }.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.is_ready = false;
            // A parked envelope of the lane is being worked; when it ends, the lane is looked at again.
            if lane.in_flight {
                continue;
            }
            let Some(item) = lane.items.pop_front() else { continue };
            lane.in_flight = true;
            self.held -= 1;
            self.held_bytes -= item.size;
            return Some(Started { lane: key, item, retry, parked: false });
        }
    }

    /// A parked envelope takes its lane for as long as it is worked: nobody's calls are ever made side by side.
    fn start_parked(&mut self) -> Option<Started<T>> {
        let lanes = &self.lanes;
        let is_free = |item: &Item<T>| !lanes.get(&item.lane).is_some_and(|lane| lane.in_flight);
        let free = self.parked.batch.iter().position(is_free)?;
        let item = self.parked.batch.remove(free)?;
        self.lanes.entry(item.lane).or_insert_with(Lane::new).in_flight = true;
        self.parked.started();
        Some(Started { lane: item.lane, item, retry: true, parked: true })
    }

    // === finishing ===

    /// Whether a ticket is of something that is in flight.
    pub(super) fn is_in_flight(&self, ticket: &Ticket) -> bool {
        self.lanes.get(&ticket.lane).is_some_and(|lane| lane.in_flight)
    }

    /// What the work said; returns when the gate should be looked at again.
    pub(super) fn hear(
        &mut self,
        ticket: &Ticket,
        news: &News,
        now: UnixMillis,
        limits: &Limits,
    ) -> Option<UnixMillis> {
        let load = match (news.overloaded, news.answer) {
            (true, _) => Load::TooMuch,
            (false, Answer::Good) => Load::Fine,
            (false, Answer::Unknown | Answer::Other | Answer::Failed | Answer::Refused) => Load::Unknown,
        };
        let max = self.share.max_in_flight;
        self.concurrency.hear(load, news.latency, ticket.cuts, self.calling, max);
        if let Some(bucket) = &mut self.bucket {
            bucket.settle(news.calls, now);
        }
        let is_late = ticket.shuts != self.keeper.shuts();
        // A parked envelope is known to fail alone: that says nothing about the others.
        let answer = match news.answer {
            Answer::Failed if ticket.parked => Answer::Unknown,
            answer => answer,
        };
        // The pause first, so that the gate does not open before its end.
        let pause = news.pause.and_then(|until| self.keeper.pause(until, now));
        let wake = self.keeper.hear((answer, ticket.lane), is_late, now, limits);
        pause.max(wake)
    }

    /// Takes an envelope back to the head of its lane; under pressure without its payload, and the lane's others too.
    pub(super) fn take_back(&mut self, item: Item<T>, limits: &Limits) {
        let key = item.lane;
        self.held += 1;
        self.held_bytes += item.size;
        let is_pressed = self.is_pressed(limits);
        let lane = self.lanes.entry(key).or_insert_with(Lane::new);
        lane.items.push_front(item);
        if is_pressed {
            let (count, bytes) = lane.strip();
            self.held -= count;
            self.held_bytes -= bytes;
            self.stubs += count;
        }
    }

    /// The calls of a ticket are over.
    pub(super) fn end_call(&mut self, ticket: &Ticket) {
        self.calling -= 1;
        self.retries_calling -= usize::from(ticket.retry);
    }

    /// Frees what a ticket held.
    pub(super) fn free(&mut self, ticket: &Ticket) {
        if let Some(lane) = self.lanes.get_mut(&ticket.lane) {
            lane.in_flight = false;
        }
        self.in_flight -= 1;
        if ticket.parked {
            self.parked.finished();
        }
    }
}
