//! What an organization holds in memory of the envelopes that wait.
//!
//! Every waiting envelope up to [`Organization::taken`] is known in one of these ways: with its payload, by its number, as
//! part of its lane's rest (a range of numbers), or because its lane is among those that were left behind. The last two
//! are found again by a *sweep*, which reads the numbers in the queue once more, in order, from the first that is missed.

use std::collections::{HashMap, VecDeque};

use super::endpoint::{Part, ReadyQueue, Status};
use super::lane::{LANE_STUBS, Lane, Next, Rest, Stub};
use super::organization::Organization;
use super::{Item, LaneKey, Limits, Number};
use crate::clock::UnixMillis;
use crate::queue::Seq;
use crate::wigzo::Endpoint;

/// Numbers that are held for each place in the window: the hard bound on what waits in memory without payload.
pub(super) const STUBS: usize = if cfg!(test) { 4 } else { 10 };

/// Envelopes that one read brings back by number, and of one lane at most.
pub(super) const LOAD: usize = 64;
const LOAD_OF_A_LANE: usize = 8;

/// Lanes that are read by number share one of so many parts of the window, so that there is room for others.
const PART_FOR_LOADS: usize = 8;

/// One lane holds at most one of so many places in the window.
const LANES_A_WINDOW: usize = 16;

/// Lanes that are looked at in one go for payloads to let go of.
const STRIPPED_AT_ONCE: usize = 4_096;

/// Numbers that the first read of a sweep brings, and any.
const SWEEP: usize = if cfg!(test) { 4 } else { 256 };
const LONGEST_SWEEP: usize = if cfg!(test) { 16 } else { 8_192 };

/// Lanes whose envelopes a read leaves out, at most: those with most numbers are worth it, all others are few.
const SKIPPED_LANES: usize = 64;

/// Reading numbers again, in order.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Counts sweeps.
    id: u64,
    /// Where this one began.
    start: Seq,
    /// Up to here it has come.
    upto: Seq,
    /// Whether one has begun and not ended.
    is_going_on: bool,
    /// Whether a read of it is under way.
    pub(super) is_under_way: bool,
    limit: usize,
    /// All numbers up to here were in the queue when the read under way was asked for, as far as they wait.
    known: Seq,
    /// The first of those that were left behind and for which there was no room.
    stopped: Option<Seq>,
}

impl Sweep {
    /// A rest that begins while a sweep goes on is none of its business: it may have passed it.
    fn id_of_new_rest(&self) -> u64 {
        if self.is_going_on { self.id } else { 0 }
    }
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
    pub(super) fn new() -> Self {
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
    LeftBehind,
}

/// How an envelope was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    AsHead,
    Behind,
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
    // === room ===

    pub(super) fn has_room(&self, limits: &Limits) -> bool {
        self.held == 0 || (self.held < limits.window && self.held_bytes < limits.window_bytes)
    }

    /// Whether more than half of the window is taken: from here on, payloads are held only of what may start now.
    fn is_pressed(&self, limits: &Limits) -> bool {
        self.held * 2 > limits.window || self.held_bytes * 2 > limits.window_bytes
    }

    fn has_room_for_numbers(&self, limits: &Limits) -> bool {
        self.stubs < limits.window.saturating_mul(STUBS)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.unread || self.latest > self.taken
    }

    /// Whether a read is worth its while: a quarter of the window at a time, or less when nothing that is held may
    /// start and others are kept waiting.
    pub(super) fn wants_more(&self, limits: &Limits) -> bool {
        let is_low = self.held * 4 <= limits.window && self.held_bytes * 4 <= limits.window_bytes;
        self.left_behind.has_room() && (is_low || (self.has_room(limits) && self.wants_others()))
    }

    /// Whether a lane waits to be read by number.
    pub(super) fn wants_to_load(&self) -> bool {
        !self.loading && !self.to_load.is_empty()
    }

    pub(super) fn wants_load(&self, limits: &Limits) -> bool {
        let is_open = || Endpoint::ALL.into_iter().any(|endpoint| self.allowed(endpoint) > 0);
        self.wants_to_load() && (self.has_room(limits) || (!self.has_startable() && is_open()))
    }

    /// Lets go of payloads for which no endpoint may be called, when they keep others from being read: among those may be
    /// one that shows that the trouble is over.
    pub(super) fn make_room(&mut self, limits: &Limits) {
        if self.has_room(limits) || !self.wants_others() {
            return;
        }
        for endpoint in Endpoint::ALL {
            for ready in [ReadyQueue::Fresh, ReadyQueue::Known, ReadyQueue::Retries] {
                self.strip_ready(endpoint, ready, limits);
            }
        }
    }

    /// Lets go of the payloads in a ready queue. Its lanes may change their order.
    fn strip_ready(&mut self, endpoint: Endpoint, ready: ReadyQueue, limits: &Limits) {
        for _ in 0..self.endpoints.of_mut(endpoint).ready(ready).len().min(STRIPPED_AT_ONCE) {
            if !self.is_pressed(limits) || !self.has_room_for_numbers(limits) {
                return;
            }
            let Some(key) = self.endpoints.of_mut(endpoint).pop(ready, Part::Oldest) else { return };
            let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.is_ready) else { continue };
            if lane.in_flight {
                // When its parked envelope ends, the lane is looked at again.
                lane.is_ready = false;
                continue;
            }
            if lane.needs.is_none() {
                (lane.needs, lane.is_guess) = (Some(endpoint), true);
            }
            self.strip(key);
            self.endpoints.of_mut(endpoint).ready(ready).push_back(key);
        }
    }

    /// Whether calls could be made for which nothing is held: nothing may start, or one endpoint has nothing to do while
    /// another holds up what is there.
    fn wants_others(&self) -> bool {
        let (mut is_idle, mut is_full) = (false, false);
        for (endpoint, state) in self.endpoints.iter() {
            let has_calls = self.permits.calling(endpoint) < self.allowed(endpoint);
            is_idle |= state.is_used && has_calls && state.waiting() == 0;
            is_full |= !has_calls && state.waiting() > 0;
        }
        (is_idle && is_full) || !self.has_startable()
    }

    /// Whether something that is held with its payload may start as far as its endpoint lets it.
    fn has_startable(&self) -> bool {
        let has_payload = |lane| self.lanes.get(&lane).is_some_and(|lane| !lane.items.is_empty());
        self.endpoints.iter().any(|(_, it)| {
            matches!(it.status(), Status::Active | Status::Probing { .. }) && it.fronts().any(has_payload)
        })
    }

    // === taking ===

    /// Lanes whose envelopes need not be read with their payload, since no more of them would be held, sorted.
    pub(super) fn skipped_lanes(&self) -> Vec<LaneKey> {
        if self.stubs < LANE_STUBS {
            return Vec::new();
        }
        let full = self.lanes.iter().filter(|(_, lane)| lane.rest.is_some());
        let mut skipped: Vec<LaneKey> = full.map(|(key, _)| *key).take(SKIPPED_LANES).collect();
        skipped.sort_unstable();
        skipped
    }

    /// How an envelope would be held; `None`: it must stay in the queue, and all that follow it.
    fn place(&self, item: &Item<T>, now: UnixMillis, limits: &Limits) -> Option<Place> {
        if self.left_behind.contains(item.lane) {
            return Some(Place::LeftBehind);
        }
        let lane = self.lanes.get(&item.lane);
        let waits = lane.is_some() || item.due.is_some_and(|due| due > now);
        let is_full = |lane: &Lane<T>| {
            !lane.stubs.is_empty() || lane.rest.is_some() || lane.items.len() * LANES_A_WINDOW > limits.window
        };
        if lane.is_some_and(is_full) || (waits && self.is_pressed(limits)) {
            return Some(match lane {
                // A lane that is known can take any number, as part of its rest.
                Some(_) => Place::ByNumber,
                None if self.has_room_for_numbers(limits) => Place::ByNumber,
                None => Place::LeftBehind,
            });
        }
        self.has_room(limits).then_some(Place::WithPayload)
    }

    /// Takes the next envelope in order, if it fits.
    pub(super) fn take(&mut self, item: Item<T>, now: UnixMillis, limits: &Limits) -> Option<Taken> {
        let place = self.place(&item, now, limits)?;
        self.note_taken(item.seq);
        if place == Place::LeftBehind {
            self.note_left_behind(item.lane, item.seq);
            return Some(Taken::Behind);
        }
        let key = item.lane;
        let lane = self.lanes.entry(key).or_insert_with(Lane::new);
        let taken = if lane.is_idle() { Taken::AsHead } else { Taken::Behind };
        let failing_since = item.failing_since;
        if place == Place::WithPayload {
            self.held += 1;
            self.held_bytes += item.size;
            lane.items.push_back(item);
        } else {
            self.hold_number(key, Stub { seq: item.seq, due: item.due }, limits);
        }
        if let (Taken::AsHead, Some(since)) = (taken, failing_since) {
            self.watch(key, since, limits);
        }
        Some(taken)
    }

    /// Takes the next number in order, of a lane that was left out of a read. `false`: its lane is not held any more, so
    /// that it must be read.
    pub(super) fn take_number(&mut self, number: Number, limits: &Limits) -> bool {
        let Number { seq, lane, due } = number;
        if self.left_behind.contains(lane) {
            self.note_left_behind(lane, seq);
        } else if self.lanes.contains_key(&lane) {
            self.hold_number(lane, Stub { seq, due }, limits);
        } else {
            return false;
        }
        self.note_taken(seq);
        true
    }

    /// A lane is left behind from this number on. A sweep that goes on may not see the number.
    fn note_left_behind(&mut self, lane: LaneKey, seq: Seq) {
        if self.sweep.is_going_on || !self.left_behind.contains(lane) {
            self.left_behind.add(lane, seq);
        }
    }

    fn note_taken(&mut self, seq: Seq) {
        self.taken = self.taken.max(seq);
        self.latest = self.latest.max(seq);
    }

    /// Holds a number at the end of its lane, or as part of its rest.
    fn hold_number(&mut self, key: LaneKey, stub: Stub, limits: &Limits) {
        let (has_room, full_in) = (self.has_room_for_numbers(limits), self.sweep.id_of_new_rest());
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if let Some(rest) = &mut lane.rest {
            rest.last = rest.last.max(stub.seq);
        } else if lane.stubs.len() >= LANE_STUBS || (!has_room && !lane.is_idle()) {
            lane.rest = Some(Rest { first: stub.seq, last: stub.seq, full_in });
        } else {
            lane.stubs.push_back(stub);
            self.stubs += 1;
        }
    }

    /// Puts a lane that nothing is done with where it belongs. `first`: at the front of its queue.
    pub(super) fn arm(&mut self, key: LaneKey, first: bool, now: UnixMillis) -> Armed {
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
                let expected = lane.items.front().map_or(Endpoint::Event, |item| item.endpoint);
                let kind = match (retry, lane.needs) {
                    (true, _) => ReadyQueue::Retries,
                    (false, Some(_)) if !lane.is_guess => ReadyQueue::Known,
                    (false, _) => ReadyQueue::Fresh,
                };
                let ready = self.endpoints.of_mut(lane.needs.unwrap_or(expected)).ready(kind);
                if first {
                    ready.push_front(key);
                } else {
                    ready.push_back(key);
                }
                Armed::Ready
            }
            Some(Next::Load) => {
                lane.is_loading = true;
                self.to_load.push_back(key);
                Armed::Asks
            }
            Some(Next::Refill) => {
                self.hungry.insert(key);
                Armed::Asks
            }
        }
    }

    // === reading by number ===

    /// The numbers that should be read back now.
    pub(super) fn load(&mut self, limits: &Limits) -> Vec<(LaneKey, Seq)> {
        let of_a_lane = limits.window / PART_FOR_LOADS / self.lanes.len().max(1);
        let of_a_lane = of_a_lane.clamp(1, LOAD_OF_A_LANE);
        let mut numbers = Vec::new();
        while numbers.len() < LOAD
            && let Some(key) = self.to_load.pop_front()
        {
            let Some(lane) = self.lanes.get(&key).filter(|lane| lane.is_loading) else { continue };
            numbers.extend(lane.stubs.iter().take(of_a_lane).map(|stub| (key, stub.seq)));
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
            let Some(stub) = lane.stubs.pop_front() else { continue };
            self.stubs -= 1;
            if let Some(mut item) = found.remove(seq) {
                // An operator may have ended its wait in the meantime, here or in the queue.
                item.due = item.due.min(stub.due.or(item.due));
                self.held += 1;
                self.held_bytes += item.size;
                lane.items.push_back(item);
            } else if lane.items.is_empty() {
                // The head has gone: nothing is known of the next one.
                lane.forget_head();
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

    // === sweeps ===

    pub(super) fn wants_sweep(&self, limits: &Limits) -> bool {
        !self.sweep.is_under_way
            && (self.sweep.is_going_on || !self.hungry.is_empty() || self.has_room_for_left_behind(limits))
    }

    /// Lanes that were left behind come back when half of the numbers have gone.
    fn has_room_for_left_behind(&self, limits: &Limits) -> bool {
        !self.left_behind.is_empty() && self.stubs * 2 <= limits.window.saturating_mul(STUBS)
    }

    /// Begins a sweep or goes on with it: after which number, and how many are to be read.
    pub(super) fn sweep(&mut self, limits: &Limits) -> Option<(Seq, usize)> {
        if !self.sweep.is_going_on {
            let hungry =
                self.hungry.iter().filter_map(|key| self.lanes.get(key)?.rest).map(|rest| rest.first);
            let left_behind = self.left_behind.first().filter(|_| self.has_room_for_left_behind(limits));
            let Some(start) = hungry.chain(left_behind).min() else {
                self.hungry.clear();
                return None;
            };
            self.left_behind.begin();
            self.sweep = Sweep {
                id: self.sweep.id + 1,
                start,
                upto: Seq(start.0.saturating_sub(1)),
                is_going_on: true,
                is_under_way: false,
                limit: SWEEP,
                known: Seq(0),
                stopped: None,
            };
        }
        self.sweep.is_under_way = true;
        self.sweep.known = self.taken;
        let limit = self.sweep.limit;
        self.sweep.limit = (limit * 2).min(LONGEST_SWEEP);
        Some((self.sweep.upto, limit))
    }

    /// Takes the numbers that a sweep has found. Returns the lanes to arm.
    pub(super) fn swept(&mut self, found: &[Number], is_end: bool, limits: &Limits) -> Vec<LaneKey> {
        self.sweep.is_under_way = false;
        let mut lanes = Vec::new();
        let taken = self.taken;
        for number in found.iter().take_while(|number| number.seq <= taken) {
            self.sweep.upto = number.seq;
            if self.take_swept(*number, limits) {
                lanes.push(number.lane);
            }
        }
        let is_end = is_end || found.last().is_some_and(|last| last.seq >= self.taken);
        let is_fed = self.hungry.is_empty() && !self.has_room_for_left_behind(limits);
        if is_end || is_fed {
            lanes.extend(self.end_sweep(is_end));
        }
        lanes
    }

    /// Takes one number into its lane, if it is the next that the lane misses.
    fn take_swept(&mut self, number: Number, limits: &Limits) -> bool {
        let Number { seq, lane: key, due } = number;
        let (id, start, has_room) = (self.sweep.id, self.sweep.start, self.has_room_for_numbers(limits));
        if let Some(lane) = self.lanes.get_mut(&key) {
            let Some(rest) = &mut lane.rest else { return false };
            if rest.full_in == id || start > rest.first || seq < rest.first || seq > rest.last {
                return false;
            }
            let is_hungry = lane.stubs.is_empty() && lane.items.is_empty();
            if lane.stubs.len() >= LANE_STUBS || !(has_room || is_hungry) {
                (rest.first, rest.full_in) = (seq, id);
                return false;
            }
            rest.first = Seq(seq.0 + 1);
            if rest.first > rest.last {
                lane.rest = None;
            }
            lane.stubs.push_back(Stub { seq, due });
            self.stubs += 1;
            self.hungry.remove(&key);
            return true;
        }
        if !self.left_behind.contains(key) || self.sweep.stopped.is_some() {
            return false;
        }
        if !has_room {
            self.sweep.stopped = Some(seq);
            return false;
        }
        if self.left_behind.first().is_none_or(|first| start > first) || !self.left_behind.take(key) {
            return false;
        }
        let mut lane = Lane::new();
        lane.stubs.push_back(Stub { seq, due });
        self.stubs += 1;
        lane.rest = (seq < self.taken).then(|| Rest { first: Seq(seq.0 + 1), last: self.taken, full_in: 0 });
        self.lanes.insert(key, lane);
        true
    }

    /// What a whole sweep was to find and did not is not there any more.
    fn end_sweep(&mut self, is_end: bool) -> Vec<LaneKey> {
        let Sweep { id, start, upto, known, stopped, .. } = self.sweep;
        self.sweep.is_going_on = false;
        let next = Seq(upto.0 + 1);
        let covers_left_behind = self.left_behind.first().is_some_and(|first| start <= first);
        if covers_left_behind {
            self.left_behind.end(stopped.or((!is_end).then_some(next)));
        }
        if !is_end {
            return Vec::new();
        }
        let mut gone = Vec::new();
        for (key, lane) in &mut self.lanes {
            let Some(rest) = lane.rest.as_mut().filter(|rest| rest.full_in != id && start <= rest.first)
            else {
                continue;
            };
            rest.first = rest.first.max(Seq(known.0 + 1));
            if rest.first > rest.last {
                lane.rest = None;
                gone.push(*key);
            }
        }
        for key in &gone {
            self.hungry.remove(key);
        }
        gone
    }

    /// A read of a sweep failed: it is made again.
    pub(super) fn sweep_failed(&mut self) {
        self.sweep.is_under_way = false;
    }

    // === letting go ===

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
        if gone > 0 && !lane.in_flight {
            lane.forget_head();
        }
        if gone > 0 && lane.is_ready {
            lane.is_ready = false;
            for endpoint in Endpoint::ALL {
                let state = self.endpoints.of_mut(endpoint);
                for ready in [ReadyQueue::Fresh, ReadyQueue::Known, ReadyQueue::Retries] {
                    state.ready(ready).retain(|ready| *ready != key);
                }
            }
        }
    }

    /// Lets nothing wait for its own time any more: the heads of all lanes, or of those whose head is named, may start as
    /// far as their endpoints let them. Returns the lanes to arm.
    pub(super) fn hasten(&mut self, named: Option<&[(LaneKey, Seq)]>, now: UnixMillis) -> Vec<LaneKey> {
        let mut hastened = Vec::new();
        let mut hasten = |key: LaneKey, lane: &mut Lane<T>, seq: Option<Seq>| {
            let head = lane.items.front_mut().map(|item| (item.seq, &mut item.due));
            let head = head.or_else(|| lane.stubs.front_mut().map(|stub| (stub.seq, &mut stub.due)));
            if let Some((head, due)) = head
                && seq.is_none_or(|seq| seq == head)
                && due.is_some_and(|due| due > now)
            {
                *due = Some(now);
                hastened.push(key);
            }
        };
        match named {
            None => self.lanes.iter_mut().for_each(|(key, lane)| hasten(*key, lane, None)),
            Some(named) => {
                for (key, seq) in named {
                    if let Some(lane) = self.lanes.get_mut(key) {
                        hasten(*key, lane, Some(*seq));
                    }
                }
            }
        }
        hastened
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
            self.strip(key);
        }
    }

    fn strip(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let stripped = lane.strip(self.sweep.id_of_new_rest());
        self.held -= stripped.items;
        self.held_bytes -= stripped.bytes;
        self.stubs = self.stubs + stripped.stubs_after - stripped.stubs_before;
    }

    /// Leaves a lane behind for which there is no room: what is held of it is in the queue.
    pub(super) fn leave_behind(&mut self, key: LaneKey, limits: &Limits) {
        if self.stubs <= limits.window.saturating_mul(STUBS) || !self.left_behind.has_room() {
            return;
        }
        let is_free = |lane: &&Lane<T>| lane.items.is_empty() && !lane.in_flight;
        let Some(lane) = self.lanes.get(&key).filter(is_free) else { return };
        let Some(first) = lane.first() else { return };
        self.stubs -= lane.stubs.len();
        self.lanes.remove(&key);
        self.hungry.remove(&key);
        self.left_behind.add(key, first);
    }
}
