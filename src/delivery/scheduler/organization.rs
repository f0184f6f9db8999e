//! One organization in the scheduler: what it may do, what it has learned from answers, and what it holds.
//!
//! Lanes, memory and reads are in `window.rs`, the choice of what starts is in `starts.rs`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::breaker::{Breaker, Breaking, Circumstances, PROBES};
use super::concurrency::Load;
use super::endpoint::{EndpointState, Status};
use super::lane::Lane;
use super::left_behind::LeftBehind;
use super::pace::Bucket;
use super::parked::Parked;
use super::permits::Permits;
use super::window::{Late, Sweep};
use super::{
    Answer, EndpointNews, EndpointStanding, LaneKey, Limits, News, PerEndpoint, Share, Standing, Ticket,
};
use crate::clock::UnixMillis;
use crate::queue::Seq;
use crate::wigzo::Endpoint;

/// Where several endpoints are called, one of so many calls is kept for the others.
const RESERVE: usize = 8;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(super) struct Organization<T> {
    pub(super) name: Arc<str>,
    pub(super) share: Share,
    pub(super) service: Service,
    /// Which reads are its own: those that were asked for before it was last dismissed are not.
    pub(super) epoch: u64,
    pub(super) lanes: HashMap<LaneKey, Lane<T>>,
    pub(super) endpoints: PerEndpoint<EndpointState>,
    pub(super) permits: Arc<Permits>,
    /// Whether connections can be made at all.
    connections: Breaker,
    /// An operator has paused it.
    is_paused: bool,
    /// How often what was learned was forgotten: an answer to a call from before says nothing.
    pub(super) resets: u64,
    /// How often waiting events were retried on request.
    pub(super) retry_calls: u64,
    pub(super) parked: Parked<T>,
    /// Counts starts, for the turns of the endpoints.
    pub(super) starts: u32,
    /// Whether the last retry was a parked envelope.
    pub(super) was_parked: bool,
    /// Envelopes that were started and are not finished.
    pub(super) in_flight: usize,
    /// Of those, the ones whose calls are being made.
    pub(super) calling: usize,
    /// Of those, the ones that were started to learn which endpoint they need.
    pub(super) checking: usize,
    pub(super) held: usize,
    pub(super) held_bytes: usize,
    /// Envelopes of lanes that are held by number.
    pub(super) stubs: usize,
    /// Lanes whose first stubs are to be read.
    pub(super) to_load: VecDeque<LaneKey>,
    pub(super) loading: bool,
    /// Lanes of which only a range is known.
    pub(super) hungry: HashSet<LaneKey>,
    pub(super) left_behind: LeftBehind,
    pub(super) sweep: Sweep,
    /// Lanes whose head has been held up: when to look whether it is to be parked, since when it is held up, which.
    pub(super) watched: BinaryHeap<Reverse<(UnixMillis, UnixMillis, LaneKey)>>,
    /// Lanes whose head is to be parked.
    pub(super) to_park: VecDeque<LaneKey>,
    /// The timer that will wake for `watched`.
    pub(super) park_timer: Option<UnixMillis>,
    /// The last success at any endpoint.
    last_success: Option<UnixMillis>,
    /// Since when nothing has succeeded although calls were to be made.
    troubled_since: Option<UnixMillis>,
    /// The last time of that kind: from, to.
    last_trouble: Option<(UnixMillis, UnixMillis)>,
    /// Since when it has been served: before that, nothing is known.
    pub(super) served_at: UnixMillis,
    /// Whether one event may be parked without a success that shows that it fails alone.
    pub(super) has_credit: bool,
    /// The newest number that was taken into memory.
    pub(super) taken: Seq,
    /// The newest number that is known; above `taken`: the organization is behind.
    pub(super) latest: Seq,
    /// Whether it is still unknown what waited in the queue when the organization became known.
    pub(super) unread: bool,
    pub(super) reading: bool,
    /// What was offered while the read that is under way was made, unless some of it was not.
    pub(super) late: Late<T>,
    pub(super) bucket: Option<Bucket>,
    pub(super) has_turn: bool,
    /// When the bucket has a token again; until then it takes no turn.
    pub(super) paced: Option<UnixMillis>,
    /// Where it stands among those that are held back, see [`Turns`](super::turns::Turns).
    pub(super) held_back: Option<usize>,
    /// Whether it is among those that may want to read, and among those that may have something to park.
    pub(super) asks: bool,
    pub(super) parks: bool,
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

impl<T> Organization<T> {
    pub(super) fn new(name: Arc<str>, share: Share, epoch: u64, now: UnixMillis) -> Self {
        let organization = Self {
            name,
            share,
            service: Service::Served,
            epoch,
            lanes: HashMap::new(),
            endpoints: PerEndpoint::new(|_| EndpointState::new()),
            permits: Arc::default(),
            connections: Breaker::default(),
            is_paused: false,
            resets: 0,
            retry_calls: 0,
            parked: Parked::unknown(),
            starts: 0,
            was_parked: false,
            in_flight: 0,
            calling: 0,
            checking: 0,
            held: 0,
            held_bytes: 0,
            stubs: 0,
            to_load: VecDeque::new(),
            loading: false,
            hungry: HashSet::new(),
            left_behind: LeftBehind::new(),
            sweep: Sweep::default(),
            watched: BinaryHeap::new(),
            to_park: VecDeque::new(),
            park_timer: None,
            last_success: None,
            troubled_since: None,
            last_trouble: None,
            served_at: now,
            has_credit: true,
            taken: Seq(0),
            latest: Seq(0),
            unread: true,
            reading: false,
            late: Late::new(),
            bucket: None,
            has_turn: false,
            paced: None,
            held_back: None,
            asks: false,
            parks: false,
        };
        organization.set_permits();
        organization
    }

    /// Whether it can go without anything being lost that is not in the queue, or forgotten that must be remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.is_empty()
            && self.left_behind.is_empty()
            && self.in_flight == 0
            && self.parked.is_empty()
            && !self.is_behind()
            && !self.reading
            && !self.loading
            && !self.sweep.is_under_way
            && !self.is_paused
            && self.endpoints.iter().all(|(_, it)| it.throttle.until().is_none())
            && !self.has_turn
            && !self.asks
            && !self.parks
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
        for endpoint in Endpoint::ALL {
            self.endpoints.of_mut(endpoint).clear_ready();
        }
        self.to_load.clear();
        self.to_park.clear();
        self.watched.clear();
        self.hungry.clear();
        self.left_behind = LeftBehind::new();
        self.sweep = Sweep::default();
        self.parked.let_go();
        self.late = Late::new();
        (self.held, self.held_bytes, self.stubs) = (0, 0, 0);
        (self.taken, self.latest) = (Seq(0), Seq(0));
        (self.unread, self.reading, self.loading) = (false, false, false);
    }

    /// It is to be served, whatever it was before. What was switched off begins without what was learned before.
    pub(super) fn serve(&mut self, now: UnixMillis) {
        match self.service {
            Service::Served | Service::Retiring => self.service = Service::Served,
            Service::Dismissed | Service::Returning => {
                if self.service == Service::Dismissed {
                    // What came in the meantime was not noted: only a read tells.
                    self.latest = self.taken;
                }
                self.service = Service::Returning;
                // Whatever comes meanwhile is only noted.
                self.unread = true;
                self.reset(now);
                self.served_at = now;
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

    // === operators ===

    /// An operator pauses it.
    pub(super) fn pause(&mut self, now: UnixMillis) {
        self.is_paused = true;
        self.note_status(now);
    }

    /// An operator resumes it: every pause is over.
    pub(super) fn resume(&mut self, now: UnixMillis) {
        self.is_paused = false;
        self.reset(now);
    }

    /// Its token or address was corrected: what was learned of the old one does not count. An operator's pause goes on.
    pub(super) fn correct(&mut self, now: UnixMillis) {
        self.reset(now);
        self.last_success = None;
        self.permits.forget_success();
        for endpoint in Endpoint::ALL {
            let state = self.endpoints.of_mut(endpoint);
            state.last_success = None;
            state.concurrency = super::Concurrency::new();
        }
    }

    /// Ends every pause, suspension and open breaker. What is still under way must not bring them back.
    fn reset(&mut self, now: UnixMillis) {
        self.resets += 1;
        self.connections.reset();
        for endpoint in Endpoint::ALL {
            self.endpoints.of_mut(endpoint).reset();
        }
        self.note_status(now);
    }

    // === what it may do ===

    /// What it may do as a whole. It is active although an endpoint is not, if something has succeeded since that stopped.
    pub(super) fn status(&self) -> Status {
        if self.is_paused {
            return Status::Paused;
        }
        if self.connections.state() != Breaking::Closed {
            return self.connections.state().into();
        }
        let stopped = self.endpoints.iter().filter(|(_, it)| self.is_stopped(it));
        let rank = |status: &Status| match status {
            Status::Active | Status::Paused => 0,
            Status::Throttled(_) => 1,
            Status::Tripped { .. } => 2,
            Status::Suspended { .. } => 3,
            Status::Probing { .. } => 4,
        };
        stopped.map(|(_, it)| it.status()).max_by_key(rank).unwrap_or(Status::Active)
    }

    fn is_stopped(&self, endpoint: &EndpointState) -> bool {
        endpoint.stopped_at.is_some_and(|since| self.last_success.is_none_or(|success| success <= since))
    }

    /// Whether nothing of it succeeds: its events' failures are not their own then.
    pub(super) fn is_troubled(&self) -> bool {
        self.status() != Status::Active
    }

    /// Notes since when what has not been active, and passes it on to those who make calls.
    pub(super) fn note_status(&mut self, now: UnixMillis) {
        for endpoint in Endpoint::ALL {
            self.endpoints.of_mut(endpoint).note_status(now);
        }
        if self.is_troubled() {
            self.troubled_since.get_or_insert(now);
        } else if let Some(since) = self.troubled_since.take() {
            self.last_trouble = Some((since, now));
        }
        self.set_permits();
    }

    /// Works out how many calls may be made.
    pub(super) fn set_permits(&self) {
        for endpoint in Endpoint::ALL {
            self.set_permit(endpoint);
        }
    }

    fn set_permit(&self, endpoint: Endpoint) {
        let state = self.endpoints.of(endpoint);
        let has_others = self.endpoints.iter().any(|(other, it)| other != endpoint && it.is_used);
        let status = state.status();
        let allowed = self.find_allowed(state, status, has_others);
        self.permits.set(endpoint, allowed, allowed > 0 && status == Status::Active);
    }

    /// How many envelopes may be calling now, over all endpoints.
    pub(super) fn allowed_in_all(&self) -> usize {
        if self.is_paused {
            return 0;
        }
        let most = self.share.max_in_flight.max(1);
        match self.connections.state() {
            Breaking::Closed => most,
            Breaking::HalfOpen { .. } => most.min(PROBES),
            Breaking::Open { .. } => 0,
        }
    }

    /// How many calls to an endpoint may be made at a time.
    pub(super) fn allowed(&self, endpoint: Endpoint) -> usize {
        self.permits.limit(endpoint)
    }

    fn find_allowed(&self, state: &EndpointState, status: Status, has_others: bool) -> usize {
        let most = self.allowed_in_all();
        match status {
            Status::Active => {
                // Never all of the organization's calls, where other endpoints are called as well.
                let reserve = if has_others && most > 1 { (most / RESERVE).max(1) } else { 0 };
                state.concurrency.limit(self.share.max_in_flight).min(most - reserve)
            }
            Status::Probing { .. } => most.min(PROBES),
            Status::Paused | Status::Throttled(_) | Status::Suspended { .. } | Status::Tripped { .. } => 0,
        }
    }

    /// Calls that may be made at a time, as far as Wigzo seems to bear it.
    pub(super) fn limit(&self) -> usize {
        let limit = |state: &EndpointState| state.concurrency.limit(self.share.max_in_flight);
        let used: usize = self.endpoints.iter().filter(|(_, it)| it.is_used).map(|(_, it)| limit(it)).sum();
        let first = limit(self.endpoints.of(Endpoint::Event));
        if used == 0 { first } else { used.min(self.share.max_in_flight) }
    }

    /// Lanes that have failed, at one endpoint, since its last success.
    pub(super) fn failing_lanes(&self) -> usize {
        let at_endpoints = self.endpoints.iter().map(|(_, it)| it.breaker.failing_lanes());
        at_endpoints.sum::<usize>().max(self.connections.failing_lanes())
    }

    /// How it is at this moment.
    pub(super) fn standing(&self) -> Standing {
        let endpoints = self.endpoints.iter().filter(|(_, it)| it.is_used || it.waiting() > 0);
        let held_up = self.lanes.values().filter_map(|lane| lane.held_up_since);
        Standing {
            status: self.status(),
            in_flight: self.calling,
            limit: self.limit(),
            held: self.held,
            held_by_number: self.stubs,
            stopped_at: self.troubled_since,
            failing_lanes: self.failing_lanes(),
            held_up_lanes: held_up.clone().count() + self.left_behind.len(),
            held_up_since: held_up.min(),
            endpoints: endpoints
                .map(|(endpoint, state)| EndpointStanding {
                    endpoint,
                    status: state.status(),
                    stopped_at: state.stopped_at,
                    in_flight: self.permits.calling(endpoint),
                    limit: self.allowed(endpoint),
                    waiting_lanes: state.waiting(),
                    failing_lanes: state.breaker.failing_lanes(),
                })
                .collect(),
        }
    }

    // === what it learns ===

    /// What a start hands back with its answer.
    pub(super) fn seen(&self) -> (PerEndpoint<(u64, u64)>, u64) {
        let of = |endpoint| {
            let state = self.endpoints.of(endpoint);
            (state.breaker.changes(), state.concurrency.cuts())
        };
        (PerEndpoint::new(of), self.connections.changes())
    }

    /// Takes what the calls of an envelope came to; adds to `wakes` when it should be looked at again.
    pub(super) fn hear(
        &mut self,
        ticket: &Ticket,
        news: &News,
        now: UnixMillis,
        limits: &Limits,
        wakes: &mut Vec<UnixMillis>,
    ) {
        if let Some(bucket) = &mut self.bucket {
            bucket.settle(news.attempts(), now);
        }
        if ticket.resets != self.resets {
            return;
        }
        let mut is_plain = true;
        for endpoint in Endpoint::ALL {
            let said = news.endpoints.of(endpoint);
            if *said != EndpointNews::default() {
                let was_used = self.endpoints.of(endpoint).is_used;
                self.hear_of(endpoint, ticket, said, now, limits, wakes);
                is_plain &= was_used;
                if is_plain {
                    self.set_permit(endpoint);
                }
            }
        }
        if !is_plain || !self.is_calm() {
            self.note_status(now);
        }
    }

    /// Whether everything is active and was so before.
    fn is_calm(&self) -> bool {
        !self.is_paused
            && self.troubled_since.is_none()
            && self.connections.is_closed()
            && self.endpoints.iter().all(|(_, it)| it.is_calm())
    }

    fn hear_of(
        &mut self,
        endpoint: Endpoint,
        ticket: &Ticket,
        said: &EndpointNews,
        now: UnixMillis,
        limits: &Limits,
        wakes: &mut Vec<UnixMillis>,
    ) {
        let load = match (said.overloaded, said.answer) {
            (true, _) => Load::TooMuch,
            (false, Answer::Good) => Load::Fine,
            (false, _) => Load::Unknown,
        };
        let calling = self.permits.calling(endpoint).max(1);
        let max = self.share.max_in_flight;
        let others_anywhere = self.calling > 1 || self.endpoints.iter().any(|(_, it)| it.waiting() > 0);
        let since = ticket.failing_since.filter(|_| !ticket.role.is_parked());
        let is_alone = |success: Option<UnixMillis>| {
            ticket.role.is_parked() || since.zip(success).is_some_and(|(since, success)| success >= since)
        };
        let (changes, cuts) = *ticket.seen.of(endpoint);
        let state = self.endpoints.of_mut(endpoint);
        state.is_used |= said.attempts > 0;
        state.concurrency.hear(load, said.latency, cuts, calling, max);
        match said.pause {
            Some(until) => wakes.extend(state.throttle.ask(until, now)),
            None if said.answer == Answer::Good => state.throttle.note_success(),
            None => {}
        }
        let success = if said.answer == Answer::Refused { self.last_success } else { state.last_success };
        let circumstances = Circumstances {
            lane: ticket.lane,
            changes,
            is_alone: is_alone(success),
            others_wait: calling > 1 || state.waiting() > 0,
            last_success: success,
        };
        wakes.extend(state.breaker.hear(said.answer, circumstances, now, limits));
        if said.answer == Answer::Good {
            state.last_success = Some(now);
            self.last_success = Some(now);
            self.permits.note_success(now);
            self.has_credit = true;
        }
        // Any answer at all shows that connections can be made.
        let reached = match said.answer {
            Answer::Unreachable => Answer::Failed,
            _ if said.answered => Answer::Good,
            _ => Answer::Unknown,
        };
        let circumstances = Circumstances {
            changes: ticket.connections,
            is_alone: ticket.role.is_parked(),
            others_wait: others_anywhere,
            ..circumstances
        };
        wakes.extend(self.connections.hear(reached, circumstances, now, limits));
    }

    /// Opens what has been closed for long enough.
    pub(super) fn wake(&mut self, now: UnixMillis) {
        self.connections.wake(now);
        for endpoint in Endpoint::ALL {
            self.endpoints.of_mut(endpoint).wake(now);
        }
        self.parked.wake(now);
        self.paced = self.paced.filter(|&until| until > now);
        self.park_timer = self.park_timer.filter(|&timer| timer > now);
        self.note_status(now);
    }

    // === parking ===

    /// Whether an event that has been held up since then is to be parked: its lane may go on without it. `None`: not now;
    /// else when to look again, if not at once.
    pub(super) fn parks_at(
        &self,
        endpoint: Endpoint,
        since: UnixMillis,
        has_followers: bool,
        now: UnixMillis,
        limits: &Limits,
    ) -> Option<UnixMillis> {
        let hold = limits.lane_hold?;
        if self.is_troubled() {
            return None;
        }
        let state = self.endpoints.of(endpoint);
        // What was short beside the hold cannot be the cause of failing all the time.
        let outage = |stop: Option<(UnixMillis, UnixMillis)>| {
            stop.filter(|(from, to)| to.since(*from) >= hold / 4).map(|(_, to)| to)
        };
        let is_active = state.status() == Status::Active;
        let recovered = if is_active { outage(state.last_stop) } else { None };
        let start = [Some(since), outage(self.last_trouble), recovered].into_iter().flatten().max()?;
        if self.last_success.is_some_and(|success| success >= since) {
            return Some(start.plus(hold));
        }
        // Nothing shows that it fails alone. One may be left behind all the same, so that another can show it.
        let on_credit = is_active && has_followers && self.has_credit;
        on_credit.then(|| start.max(self.served_at).plus(hold)).filter(|&at| at <= now)
    }

    /// Uses up the credit, if nothing shows that an event that is to be parked fails alone.
    pub(super) fn note_parking(&mut self, since: UnixMillis) {
        if self.last_success.is_none_or(|success| success < since) {
            self.has_credit = false;
        }
    }
}
