//! What an organization starts next, and what becomes of it.
//!
//! An endpoint's lanes stand in ready queues: those whose head has never been tried, and those whose head is a retry (with
//! the parked envelopes). Where both wait, one start in four is a retry and retries hold at most half of what the endpoint
//! may have in flight; alone they leave an eighth free. So neither can starve the other, and a fresh event never waits
//! for a wall of retries.

use std::cmp::Reverse;
use std::time::Duration;

use super::breaker::{Breaking, PROBES};
use super::endpoint::{Part, ReadyQueue, Status};
use super::lane::Lane;
use super::organization::Organization;
use super::permits::Permit;
use super::window::LOAD;
use super::{Item, LaneKey, Limits, Ticket};
use crate::clock::UnixMillis;
use crate::wigzo::Endpoint;

/// One start in so many is a retry where both wait.
const RETRY_TURN: u32 = 4;

/// One start in so many checks which endpoint a lane needs, where others may start.
const CHECK_TURN: u32 = 4;

/// Envelopes that are checked at a time.
const CHECKS: usize = 8;

/// How soon it is looked again whether an event is to be parked, when it could not be for the organization's sake.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What was taken out to be worked.
pub(super) struct Started<T> {
    pub(super) lane: LaneKey,
    pub(super) item: Item<T>,
    pub(super) permit: Permit,
    pub(super) role: Role,
}

/// Why something was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    First,
    Retry,
    Parked,
    /// To learn which endpoint it needs, while the one that is expected may not be called.
    Check,
    /// The same of a parked one.
    ParkedCheck,
    /// To be parked, without a call.
    Parking,
}

impl Role {
    pub(super) fn is_parked(self) -> bool {
        matches!(self, Self::Parked | Self::ParkedCheck)
    }

    fn is_check(self) -> bool {
        matches!(self, Self::Check | Self::ParkedCheck)
    }

    fn is_retry(self) -> bool {
        matches!(self, Self::Retry | Self::Parked)
    }
}

impl<T> Organization<T> {
    pub(super) fn may_start(&self) -> bool {
        let waits = || self.endpoints.iter().any(|(_, it)| it.waiting() > 0) || !self.parked.batch.is_empty();
        waits()
            && self.calling < self.allowed_in_all()
            && (Endpoint::ALL.into_iter().any(|endpoint| self.may_start_at(endpoint)) || self.may_check())
    }

    fn may_start_at(&self, endpoint: Endpoint) -> bool {
        let state = self.endpoints.of(endpoint);
        if !state.has_untried() && !state.has_retries() && self.parked.batch.is_empty() {
            return false;
        }
        let allowed = self.allowed(endpoint);
        self.permits.calling(endpoint) < allowed && (state.has_untried() || self.may_retry(endpoint, allowed))
    }

    /// Whether a retry may start at all: alone they leave an eighth free, but for probes.
    fn may_retry(&self, endpoint: Endpoint, allowed: usize) -> bool {
        let state = self.endpoints.of(endpoint);
        let is_probed = state.breaker.state() != Breaking::Closed;
        let reserve = if allowed > 1 && !is_probed { (allowed / 8).max(1) } else { 0 };
        let waits = state.has_retries() || self.parked.batch.iter().any(|item| item.endpoint == endpoint);
        waits && state.retries_calling < allowed - reserve
    }

    /// Whether envelopes are to be looked at whose endpoint may not be called, because they may need another one. That
    /// is worth it only where another one is at work.
    fn may_check(&self) -> bool {
        self.checking < CHECKS && self.closed_with_lanes().is_some() && {
            let at_work =
                |(_, it): (_, &super::endpoint::EndpointState)| it.is_used && it.status() == Status::Active;
            self.endpoints.iter().any(at_work)
        }
    }

    /// An endpoint in trouble that may not be called now and has lanes that are only expected to need it.
    fn closed_with_lanes(&self) -> Option<Endpoint> {
        let is_closed = |endpoint: &Endpoint| {
            let state = self.endpoints.of(*endpoint);
            let waits = state.has_fresh() || self.parked.batch.iter().any(|item| item.endpoint == *endpoint);
            let in_trouble = || state.status() != Status::Active || state.breaker.failing_lanes() > 0;
            waits && self.permits.calling(*endpoint) >= self.allowed(*endpoint) && in_trouble()
        };
        Endpoint::ALL.into_iter().find(is_closed)
    }

    /// Takes out the next envelope.
    pub(super) fn start(&mut self, now: UnixMillis) -> Option<Started<T>> {
        self.starts = self.starts.wrapping_add(1);
        let checks_first = self.starts.is_multiple_of(CHECK_TURN);
        let mut started = if checks_first { self.start_check() } else { None };
        for step in 0..Endpoint::ALL.len() {
            if started.is_some() {
                break;
            }
            let turn = (self.starts as usize + step) % Endpoint::ALL.len();
            let endpoint = Endpoint::ALL.into_iter().nth(turn)?;
            if self.may_start_at(endpoint) {
                started = self.start_at(endpoint, now);
            }
        }
        let started = started.or_else(|| self.start_check())?;
        self.in_flight += 1;
        self.calling += 1;
        self.checking += usize::from(started.role.is_check());
        if let Some(endpoint) = started.permit.endpoint().filter(|_| started.role.is_retry()) {
            self.endpoints.of_mut(endpoint).retries_calling += 1;
        }
        Some(started)
    }

    fn start_at(&mut self, endpoint: Endpoint, now: UnixMillis) -> Option<Started<T>> {
        let permit = self.permits.acquire(endpoint)?;
        let allowed = self.allowed(endpoint);
        let may_retry = self.may_retry(endpoint, allowed);
        let state = self.endpoints.of_mut(endpoint);
        let part = state.next_part(now);
        state.starts = state.starts.wrapping_add(1);
        let is_turn = state.starts.is_multiple_of(RETRY_TURN) && state.retries_calling * 2 < allowed.max(2);
        let is_probe = matches!(state.breaker.state(), Breaking::HalfOpen { .. });
        let has_untried = state.has_untried();
        let (lane, item, role) = if is_probe {
            // Whatever has failed least is most likely to learn that the trouble is over.
            self.untried(endpoint, part)
                .or_else(|| self.head(endpoint, ReadyQueue::Retries, part))
                .or_else(|| self.take_parked(endpoint))
        } else if may_retry && (is_turn || !has_untried) {
            self.retry(endpoint, part).or_else(|| self.untried(endpoint, part))
        } else {
            let untried = self.untried(endpoint, part);
            if untried.is_none() && may_retry { self.retry(endpoint, part) } else { untried }
        }?;
        Some(Started { lane, item, permit, role })
    }

    /// Those that are known to need the endpoint have waited for it; they and the others take turns.
    fn untried(&mut self, endpoint: Endpoint, part: Part) -> Option<(LaneKey, Item<T>, Role)> {
        let known_first = self.endpoints.of(endpoint).starts.is_multiple_of(2);
        let queues = if known_first {
            [ReadyQueue::Known, ReadyQueue::Fresh]
        } else {
            [ReadyQueue::Fresh, ReadyQueue::Known]
        };
        queues.into_iter().find_map(|ready| self.head(endpoint, ready, part))
    }

    /// Lanes and parked envelopes in turn, where both wait.
    fn retry(&mut self, endpoint: Endpoint, part: Part) -> Option<(LaneKey, Item<T>, Role)> {
        let started = if self.was_parked {
            self.head(endpoint, ReadyQueue::Retries, part).or_else(|| self.take_parked(endpoint))
        } else {
            self.take_parked(endpoint).or_else(|| self.head(endpoint, ReadyQueue::Retries, part))
        }?;
        self.was_parked = started.2.is_parked();
        Some(started)
    }

    /// Takes the head of a lane in a ready queue. Lanes that are held by number are read first.
    fn head(
        &mut self,
        endpoint: Endpoint,
        ready: ReadyQueue,
        part: Part,
    ) -> Option<(LaneKey, Item<T>, Role)> {
        loop {
            let key = self.endpoints.of_mut(endpoint).pop(ready, part)?;
            // A lane may have been left behind or emptied since then; it is in a queue again if it may start.
            let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.is_ready) else { continue };
            // A parked envelope of the lane is being worked; when it ends, the lane is looked at again.
            if lane.in_flight {
                lane.is_ready = false;
                continue;
            }
            let Some(item) = lane.items.pop_front() else {
                // Probes need a few, and those that are read take room.
                let most = if self.endpoints.of(endpoint).breaker.state() == Breaking::Closed {
                    LOAD
                } else {
                    PROBES
                };
                if self.to_load.len() >= most {
                    self.endpoints.of_mut(endpoint).ready(ready).push_front(key);
                    return None;
                }
                lane.is_ready = false;
                if !lane.stubs.is_empty() {
                    lane.is_loading = true;
                    self.to_load.push_back(key);
                }
                continue;
            };
            lane.is_ready = false;
            lane.in_flight = true;
            self.held -= 1;
            self.held_bytes -= item.size;
            let role = if ready == ReadyQueue::Retries { Role::Retry } else { Role::First };
            return Some((key, item, role));
        }
    }

    /// A parked envelope takes its lane for as long as it is worked: no user's calls are ever made side by side.
    fn take_parked(&mut self, endpoint: Endpoint) -> Option<(LaneKey, Item<T>, Role)> {
        let lanes = &self.lanes;
        let is_free = |item: &Item<T>| {
            item.endpoint == endpoint && !lanes.get(&item.lane).is_some_and(|lane| lane.in_flight)
        };
        let free = self.parked.batch.iter().position(is_free)?;
        let item = self.parked.batch.remove(free)?;
        self.lanes.entry(item.lane).or_insert_with(Lane::new).in_flight = true;
        self.parked.started();
        Some((item.lane, item, Role::Parked))
    }

    fn start_check(&mut self) -> Option<Started<T>> {
        if !self.may_check() {
            return None;
        }
        let endpoint = self.closed_with_lanes()?;
        let (lane, item, role) =
            self.head(endpoint, ReadyQueue::Fresh, Part::Oldest).or_else(|| self.take_parked(endpoint))?;
        let role = if role.is_parked() { Role::ParkedCheck } else { Role::Check };
        Some(Started { lane, item, permit: self.permits.none(), role })
    }

    // === parking without a try ===

    /// Watches a lane whose head is held up since then.
    pub(super) fn watch(&mut self, key: LaneKey, since: UnixMillis, limits: &Limits) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.held_up_since.is_none() {
            lane.held_up_since = Some(since);
            if let Some(hold) = limits.lane_hold {
                self.watched.push(Reverse((since.plus(hold), since, key)));
            }
        }
    }

    /// Finds the lanes whose head has been held up for long enough. Returns when to look again, if a timer is needed.
    pub(super) fn find_parkable(&mut self, now: UnixMillis, limits: &Limits) -> Option<UnixMillis> {
        let mut again = None;
        while let Some(&Reverse((due, since, key))) = self.watched.peek() {
            if due > now {
                again = Some(due);
                break;
            }
            let is_held_up = |lane: &&Lane<T>| lane.held_up_since == Some(since);
            let Some(lane) = self.lanes.get(&key).filter(is_held_up) else {
                self.watched.pop();
                continue;
            };
            let expected = lane.items.front().map_or(Endpoint::Event, |item| item.endpoint);
            let endpoint = lane.needs.unwrap_or(expected);
            let head = lane.items.front().map(|item| item.due);
            let was_tried = head.or(lane.stubs.front().map(|stub| stub.due)).flatten().is_some();
            if !was_tried && !lane.in_flight && self.endpoints.of(endpoint).status() == Status::Active {
                // It waits for its turn only.
                self.watched.pop();
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.held_up_since = None;
                }
                continue;
            }
            match self.parks_at(endpoint, since, lane.has_followers(), now, limits) {
                None => {
                    again = Some(now.plus(LOOK_AGAIN));
                    break;
                }
                Some(at) if at > now => {
                    self.watched.pop();
                    self.watched.push(Reverse((at, since, key)));
                }
                Some(_) => {
                    self.watched.pop();
                    self.to_park.push_back(key);
                }
            }
        }
        let again = again.filter(|&at| self.park_timer.is_none_or(|timer| at < timer))?;
        self.park_timer = Some(again);
        Some(again)
    }

    /// Takes out an envelope that is to be parked.
    pub(super) fn start_parking(&mut self, now: UnixMillis, limits: &Limits) -> Option<Started<T>> {
        while let Some(key) = self.to_park.pop_front() {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let Some(since) = lane.held_up_since else { continue };
            if lane.in_flight {
                self.watched.push(Reverse((now.plus(LOOK_AGAIN), since, key)));
                continue;
            }
            if lane.items.is_empty() {
                if !lane.is_loading && !lane.stubs.is_empty() {
                    (lane.is_ready, lane.is_loading) = (false, true);
                    self.to_load.push_back(key);
                }
                self.watched.push(Reverse((now.plus(LOOK_AGAIN), since, key)));
                continue;
            }
            let expected = lane.items.front().map_or(Endpoint::Event, |item| item.endpoint);
            let (endpoint, has_followers) = (lane.needs.unwrap_or(expected), lane.has_followers());
            if self.parks_at(endpoint, since, has_followers, now, limits).is_none_or(|at| at > now) {
                self.watched.push(Reverse((now.plus(LOOK_AGAIN), since, key)));
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let Some(mut item) = lane.items.pop_front() else { continue };
            (lane.is_ready, lane.in_flight) = (false, true);
            item.failing_since = Some(item.failing_since.map_or(since, |at| at.min(since)));
            self.held -= 1;
            self.held_bytes -= item.size;
            self.in_flight += 1;
            self.note_parking(since);
            let permit = self.permits.none();
            return Some(Started { lane: key, item, permit, role: Role::Parking });
        }
        None
    }

    // === finishing ===

    /// Whether a ticket is of something that is in flight.
    pub(super) fn is_in_flight(&self, ticket: &Ticket) -> bool {
        self.lanes.get(&ticket.lane).is_some_and(|lane| lane.in_flight)
    }

    /// The calls of a ticket are over.
    pub(super) fn end_call(&mut self, ticket: &Ticket) {
        self.calling -= 1;
        self.checking -= usize::from(ticket.role.is_check());
        if let Some(endpoint) = ticket.endpoint.filter(|_| ticket.role.is_retry()) {
            self.endpoints.of_mut(endpoint).retries_calling -= 1;
        }
    }

    /// The head of a lane goes back to it, and is known to need this endpoint.
    pub(super) fn hold_up(&mut self, item: Item<T>, endpoint: Endpoint, now: UnixMillis, limits: &Limits) {
        let (key, since) = (item.lane, item.failing_since.unwrap_or(now));
        self.take_back(item, limits);
        if let Some(lane) = self.lanes.get_mut(&key) {
            (lane.needs, lane.is_guess) = (Some(endpoint), false);
        }
        self.watch(key, since, limits);
    }

    /// Frees what a ticket held. `has_left`: its envelope is not in its lane any more.
    pub(super) fn free(&mut self, ticket: &Ticket, has_left: bool) {
        if let Some(lane) = self.lanes.get_mut(&ticket.lane) {
            lane.in_flight = false;
            if has_left && !ticket.role.is_parked() {
                lane.forget_head();
            }
        }
        self.in_flight -= 1;
        if ticket.role.is_parked() {
            self.parked.finished();
        }
    }
}
