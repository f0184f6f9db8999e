//! A random world around the scheduler: a queue, a handoff that drops, reads that come late, organizations whose
//! endpoints fail, refuse, throttle or cannot be reached, each for itself, events that always fail, events that need
//! another endpoint than expected or two of them, users who are forgotten, organizations that come and go, are dismissed
//! and corrected, operators who pause and resume, limits that change, and crashes between any two steps. Time is virtual;
//! a seed decides everything.
//!
//! The world keeps its own records and checks after each step: nothing is lost or worked twice; a lane's envelopes start in
//! order, parked ones excepted, and never side by side; retry times, pauses and probes are obeyed; a breaker opens only
//! on evidence; no limit is exceeded, in flight or per second; nothing is parked while its organization is in trouble;
//! no organization that waits for a turn sees another take more than two turns beyond its share; memory stays bounded.
//! Then the faults end, and everything must be delivered. `regimes.rs` has the isolation within an organization.
//!
//! A failing seed prints itself with its world:
//! * `SCHEDULER_SEEDS=17..18 cargo test --lib simulation` replays it,
//! * `SCHEDULER_SEEDS=0..1000000 cargo test --release --lib simulation` is the long run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::super::breaker::PROBES;
use super::*;

const SEEDS: Range<u64> = 0..2_000;
const STEPS: usize = 250;
const ORGANIZATIONS: [&str; 4] = ["acme", "birch", "cedar", "delta"];
const LANES: [&str; 12] =
    ["ann", "bob", "cid", "dee", "eve", "fay", "gus", "hal", "ida", "jon", "kim", "lou"];
/// The endpoints that events need.
const ENDPOINTS: [Endpoint; 2] = [Endpoint::Identify, Endpoint::Event];

/// An envelope that waits on disk.
#[derive(Debug, Clone)]
struct Row {
    organization: usize,
    lane: usize,
    due: Option<UnixMillis>,
    failing_since: Option<UnixMillis>,
    parked: bool,
    /// Whether it fails whatever the weather.
    poisoned: bool,
    /// Whether it need not wait for its time any more: its organization was corrected.
    hastened: bool,
    /// The endpoint that it is expected to need, those that it needs in turn, and how many of these calls have been made.
    expected: Endpoint,
    needs: Vec<Endpoint>,
    done: usize,
    size: usize,
}

/// An envelope in flight.
#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    seq: u64,
    organization: usize,
    lane: usize,
    parked: bool,
    permit: Option<Permit>,
    /// The endpoint whose permit it started with, and how often its organization had been reset.
    started_at: Option<Endpoint>,
    resets: u64,
    /// What the calls will say.
    news: News,
    end: End,
    heard: bool,
    stage: Stage,
}

/// How the work on an envelope will end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has its outcome.
    Ended,
    /// It failed at this endpoint.
    Again(Endpoint),
    /// This endpoint may not be called; whether calls were made before.
    Blocked(Endpoint, bool),
}

/// How far the work on an envelope is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Called,
    /// Its calls are over, and have been heard of.
    Answered,
    /// The result is on disk: it has ended, or is to be worked again.
    Settled {
        again: bool,
    },
    /// It was not called at all, and nothing of that goes to disk.
    Untried,
    /// It is being parked; then that is on disk.
    Parking(UnixMillis),
    Parked(UnixMillis),
}

/// A read that was asked for, with what it has found once it has looked.
type Reading = (Read, Option<Vec<(u64, Row)>>);

/// How Wigzo treats an organization for a while.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Weather {
    #[default]
    Fair,
    Outage,
    Throttling,
    BadToken,
    Unreachable,
}

/// What the world knows of an organization.
#[derive(Debug, Default, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
struct Books {
    served: bool,
    /// Nothing of it may start; it goes when what is in flight has ended.
    dismissed: bool,
    weather: PerEndpoint<Weather>,
    share: Option<Share>,
    is_paused: bool,
    /// How often what was learned was forgotten.
    resets: u64,
    at: PerEndpoint<EndpointBooks>,
    last_success: Option<UnixMillis>,
    /// Parked without a success that shows that it fails alone, since the last success.
    parked_on_credit: usize,
    /// Calls that fill the bucket of the rate limit, in thousandths, at a time.
    poured: i64,
    poured_at: UnixMillis,
    /// Starts of each organization since this one has had a place in the round.
    in_round: bool,
    starts: [usize; ORGANIZATIONS.len()],
}

/// What the world knows of an endpoint of an organization.
#[derive(Debug, Default, Clone)]
struct EndpointBooks {
    /// Wigzo asked for a pause to this time.
    throttled_until: UnixMillis,
    /// Its breaker is open to this time, unless a call that was under way succeeds.
    open_until: UnixMillis,
    /// Lanes that have failed, and refusals, since the last success.
    failing: BTreeSet<usize>,
    refusals: usize,
    was_active: bool,
}

#[derive(Debug)]
struct World {
    seed: u64,
    random: fastrand::Rng,
    now: UnixMillis,
    limits: Limits,
    scheduler: Scheduler<u64>,
    books: Vec<Books>,
    queue: BTreeMap<u64, Row>,
    last_seq: u64,
    /// The hand-over, as `queue::Fresh` does it: envelopes, and organizations with some that were only noted.
    handed: Vec<(u64, Row)>,
    noted: BTreeMap<usize, u64>,
    /// People to forget: organization, lane, and the number before which nothing of theirs is left.
    forgotten: Vec<(usize, usize, u64)>,
    reads: Vec<Reading>,
    flights: Vec<Flight>,
    /// How often something is committed, in percent of the steps: from an idle service to one that falls behind.
    load: u8,
    faults: bool,
    /// Whether the weather stays fair: only single events fail.
    is_fair: bool,
    parked: usize,
    blocked: usize,
    swept: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let roomy = random.bool();
        let limits = Limits {
            in_flight: random.usize(1..=12),
            window: random.usize(1..=if roomy { 40 } else { 8 }),
            window_bytes: random.usize(1..=if roomy { 400 } else { 40 }),
            refused: Waits { base: Duration::from_secs(5), cap: Duration::from_secs(40) },
            failing: Waits { base: Duration::from_secs(1), cap: Duration::from_secs(10) },
            failing_lanes: random.usize(1..=8),
            lane_hold: (random.u8(0..4) > 0).then(|| Duration::from_secs(random.u64(0..=20))),
        };
        let books = vec![Books::default(); ORGANIZATIONS.len()];
        let mut world = Self {
            seed,
            now: START,
            limits,
            scheduler: Scheduler::new(limits),
            books,
            queue: BTreeMap::new(),
            last_seq: 0,
            handed: Vec::new(),
            noted: BTreeMap::new(),
            forgotten: Vec::new(),
            reads: Vec::new(),
            flights: Vec::new(),
            load: random.u8(1..=60),
            faults: true,
            is_fair: random.bool(),
            parked: 0,
            blocked: 0,
            swept: 0,
            random,
        };
        for id in 0..ORGANIZATIONS.len() {
            if world.random.u8(0..4) > 0 {
                world.serve(id);
            }
        }
        world
    }

    fn fail(&self, what: &str) -> ! {
        panic!("seed {}: {what}\n{self:#?}", self.seed)
    }

    #[track_caller]
    fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.fail(what);
        }
    }

    fn serve(&mut self, id: usize) {
        let rate = (self.faults && self.random.u8(0..3) == 0).then(|| self.random.u32(1..=30));
        let share = Share { weight: self.random.usize(1..=3), max_in_flight: self.random.usize(1..=6), rate };
        let books = &mut self.books[id];
        let was_dismissed = books.dismissed;
        (books.served, books.dismissed) = (true, false);
        if books.share.is_none_or(|before| before.rate != rate) {
            // A bucket begins full, or keeps what is in it.
            (books.poured, books.poured_at) = (0, self.now);
        }
        books.share = Some(share);
        for books in &mut self.books {
            books.in_round = false;
        }
        self.scheduler.serve(&Arc::from(ORGANIZATIONS[id]), share, self.now);
        if was_dismissed {
            self.reset(id);
        }
        if !self.faults {
            self.resume(id);
        }
    }

    fn resume(&mut self, id: usize) {
        self.scheduler.resume(ORGANIZATIONS[id], self.now);
        self.books[id].is_paused = false;
        self.reset(id);
        self.hasten(id);
    }

    /// Its token or address is corrected.
    fn correct(&mut self, id: usize) {
        self.scheduler.correct(ORGANIZATIONS[id], self.now);
        self.reset(id);
        self.books[id].last_success = None;
        self.hasten(id);
    }

    /// What was learned of its endpoints does not count any more.
    fn reset(&mut self, id: usize) {
        let books = &mut self.books[id];
        books.resets += 1;
        books.at = PerEndpoint::default();
    }

    /// What waits for another attempt may go.
    fn hasten(&mut self, id: usize) {
        for (seq, row) in &mut self.queue {
            let in_flight = self.flights.iter().any(|flight| flight.seq == *seq);
            row.hastened |= row.organization == id && !row.parked && !in_flight;
        }
    }

    fn dismiss(&mut self, id: usize) {
        self.scheduler.dismiss(ORGANIZATIONS[id]);
        self.books[id].dismissed = true;
        self.notice_who_has_gone();
    }

    fn step(&mut self) {
        if self.random.u8(0..100) < self.load {
            self.commit();
        }
        match self.random.u8(0..100) {
            0..15 => self.arrivals(),
            15..33 => self.start(),
            33..41 => self.ask_reads(),
            41..49 => self.look(),
            49..57 => self.answer(),
            57..72 => {
                self.settle();
                self.settle();
            }
            72..87 => self.report(),
            87..94 => self.now = self.now.plus(Duration::from_millis(self.random.u64(0..20_000))),
            94..96 => self.change_weather(),
            96..98 => self.operate(),
            _ if self.random.u8(0..4) == 0 => self.crash(),
            _ => {}
        }
        self.look_after_step();
    }

    fn change_weather(&mut self) {
        if self.is_fair {
            return;
        }
        let weather = match self.random.u8(0..10) {
            0 => Weather::Outage,
            1 => Weather::Throttling,
            2 => Weather::BadToken,
            3 => Weather::Unreachable,
            _ => Weather::Fair,
        };
        let id = self.random.usize(0..ORGANIZATIONS.len());
        if self.random.bool() {
            // Both endpoints at once: the organization as a whole is in trouble.
            self.books[id].weather = PerEndpoint::new(|_| weather);
        } else {
            let endpoint = ENDPOINTS[self.random.usize(0..ENDPOINTS.len())];
            *self.books[id].weather.of_mut(endpoint) = weather;
        }
    }

    fn operate(&mut self) {
        let id = self.random.usize(0..ORGANIZATIONS.len());
        let name = ORGANIZATIONS[id];
        let is_known = self.scheduler.names.contains_key(name);
        match self.random.u8(0..8) {
            0..3 => self.serve(id),
            3 if is_known => {
                self.scheduler.pause(name, self.now);
                self.books[id].is_paused = true;
            }
            4 if is_known => self.resume(id),
            5 => {
                self.scheduler.retire(name);
                self.notice_who_has_gone();
            }
            6 if is_known => self.dismiss(id),
            7 if is_known => self.correct(id),
            _ => self.forget(id),
        }
    }

    /// An organization that was let go of leaves no books: whoever comes later begins anew.
    fn notice_who_has_gone(&mut self) {
        for (id, name) in ORGANIZATIONS.into_iter().enumerate() {
            if self.books[id].served && !self.scheduler.names.contains_key(name) {
                let books = &self.books[id];
                self.check(!books.is_paused, "an operator's pause is forgotten");
                let in_flight = self.flights.iter().any(|it| it.organization == id);
                self.check(!in_flight, "it goes with something in flight");
                self.books[id] = Books { weather: books.weather, ..Books::default() };
            }
        }
    }

    /// A person is forgotten: the queue ends what is theirs, and delivery is told.
    fn forget(&mut self, organization: usize) {
        let lane = self.random.usize(0..LANES.len());
        self.arrivals();
        let upto = self.last_seq + 1;
        self.queue.retain(|_, row| (row.organization, row.lane) != (organization, lane));
        self.forgotten.push((organization, lane, upto));
        let matches = |seq: &u64| *seq < upto;
        self.scheduler.forget(ORGANIZATIONS[organization], LaneKey::of(LANES[lane]), self.now, matches);
    }

    fn is_forgotten(&self, seq: u64, row: &Row) -> bool {
        self.forgotten.iter().any(|it| (it.0, it.1) == (row.organization, row.lane) && seq < it.2)
    }

    /// A request is committed; parts of it are handed over.
    fn commit(&mut self) {
        let organization = self.random.usize(0..ORGANIZATIONS.len());
        for _ in 0..self.random.usize(1..=4) {
            self.last_seq += 1;
            let expected = ENDPOINTS[self.random.usize(0..ENDPOINTS.len())];
            let needs = match self.random.u8(0..8) {
                0 => ENDPOINTS.to_vec(),
                1 => vec![ENDPOINTS[self.random.usize(0..ENDPOINTS.len())]],
                _ => vec![expected],
            };
            let row = Row {
                organization,
                expected,
                needs,
                done: 0,
                lane: self.random.usize(0..LANES.len()),
                due: None,
                failing_since: None,
                parked: false,
                poisoned: self.random.u8(0..16) == 0,
                hastened: false,
                size: self.random.usize(1..=12),
            };
            self.queue.insert(self.last_seq, row.clone());
            if self.noted.contains_key(&organization) || self.random.u8(0..10) == 0 {
                self.noted.insert(organization, self.last_seq);
            } else {
                self.handed.push((self.last_seq, row));
            }
        }
    }

    fn arrivals(&mut self) {
        for (seq, row) in std::mem::take(&mut self.handed) {
            self.scheduler.offer(ORGANIZATIONS[row.organization], item_of(seq, &row), self.now);
        }
        for (id, seq) in std::mem::take(&mut self.noted) {
            self.scheduler.note(ORGANIZATIONS[id], Seq(seq));
        }
    }

    // === reads ===

    fn ask_reads(&mut self) {
        let reads = self.scheduler.reads(self.now);
        self.reads.extend(reads.into_iter().map(|read| (read, None)));
        for (index, (read, _)) in self.reads.iter().enumerate() {
            let same = |other: &Read| {
                other.organization == read.organization
                    && other.epoch == read.epoch
                    && std::mem::discriminant(&other.which) == std::mem::discriminant(&read.which)
            };
            let twice = self.reads[..index].iter().any(|(other, _)| same(other));
            self.check(!twice, "an organization has one read of a kind under way");
        }
    }

    /// A read looks at the queue; its answer travels for a while.
    fn look(&mut self) {
        let Some(index) = self.pick(self.reads.len()) else { return };
        let read = &self.reads[index].0;
        let of_organization =
            self.queue.iter().filter(|(_, row)| ORGANIZATIONS[row.organization] == &*read.organization);
        let (mut found, limit): (Vec<(u64, Row)>, usize) = match &read.which {
            Which::After { after, limit, .. } | Which::Sweep { after, limit } => {
                let wanted = of_organization.filter(|(seq, row)| **seq > after.0 && !row.parked);
                (wanted.map(|(seq, row)| (*seq, row.clone())).collect(), *limit)
            }
            Which::Numbers(numbers) => {
                let asked = |seq: u64| numbers.iter().any(|(_, number)| number.0 == seq);
                let wanted = of_organization.filter(|(seq, row)| asked(**seq) && !row.parked);
                (wanted.map(|(seq, row)| (*seq, row.clone())).collect(), usize::MAX)
            }
            Which::Parked { limit } => {
                let wanted = of_organization.filter(|(_, row)| row.parked);
                let mut found: Vec<_> = wanted.map(|(seq, row)| (*seq, row.clone())).collect();
                found.sort_by_key(|(seq, row)| (row.due, *seq));
                (found, *limit)
            }
        };
        // The queue may bound what it brings, to at least one; numbers it brings as many as are asked for.
        let is_sweep = matches!(read.which, Which::Sweep { .. });
        self.swept += usize::from(is_sweep);
        found.truncate(if !is_sweep && self.random.u8(0..4) == 0 { 1 } else { limit });
        self.reads[index].1.get_or_insert(found);
    }

    fn answer(&mut self) {
        let Some(index) = self.pick(self.reads.len()) else { return };
        match self.reads.swap_remove(index) {
            (read, Some(found)) => {
                let is_after = matches!(read.which, Which::After { .. });
                let was_empty = found.is_empty();
                let number = |seq: u64, row: &Row| {
                    Found::Number(Number { seq: Seq(seq), lane: LaneKey::of(LANES[row.lane]), due: row.due })
                };
                let found_of = |seq: u64, row: &Row| match &read.which {
                    Which::Sweep { .. } => number(seq, row),
                    Which::After { skip, .. } if skip.contains(&LaneKey::of(LANES[row.lane])) => {
                        number(seq, row)
                    }
                    _ => Found::Item(item_of(seq, row)),
                };
                let is_sweep = matches!(read.which, Which::Sweep { .. });
                let found: Vec<_> = found
                    .iter()
                    .filter(|(seq, row)| is_sweep || !self.is_forgotten(*seq, row))
                    .map(|(seq, row)| found_of(*seq, row))
                    .collect();
                if is_after && found.is_empty() && !was_empty {
                    self.scheduler.read_failed(&read, self.now);
                } else {
                    self.scheduler.read(&read, found, self.now);
                }
            }
            (read, None) => self.scheduler.read_failed(&read, self.now),
        }
    }

    // === work ===

    fn start(&mut self) {
        self.scheduler.tick(self.now);
        while let Some((ticket, item)) = self.scheduler.next_to_park(self.now) {
            self.start_parking(ticket, &item);
        }
        let most = if self.faults { self.random.usize(1..=8) } else { usize::MAX };
        for _ in 0..most {
            let before: Vec<bool> = (0..ORGANIZATIONS.len()).map(|id| self.has_turn(id)).collect();
            let Some((ticket, item, mut permit)) = self.scheduler.start(self.now) else { break };
            let started_at = permit.endpoint();
            self.may_start(&item, started_at);
            let row = self.queue[&item.seq.0].clone();
            let Row { organization, lane, parked, .. } = row;
            self.count_turns(organization, &before);
            let (news, end) = self.work(item.seq.0, &row, &mut permit);
            let is_untried = matches!(end, End::Blocked(_, false)) && !parked;
            self.blocked += usize::from(matches!(end, End::Blocked(..)));
            self.flights.push(Flight {
                ticket,
                seq: item.seq.0,
                organization,
                lane,
                parked,
                permit: Some(permit),
                started_at,
                resets: self.books[organization].resets,
                news,
                end,
                heard: false,
                stage: if is_untried { Stage::Untried } else { Stage::Called },
            });
        }
        self.notice_who_left_the_round();
    }

    /// An envelope is to be parked without having been tried.
    fn start_parking(&mut self, ticket: Ticket, item: &Item<u64>) {
        let seq = item.seq.0;
        let Some(row) = self.queue.get(&seq).cloned() else {
            // It was forgotten while it was held by number.
            drop(self.scheduler.finish(ticket, Finish::Ended, News::default(), self.now));
            return;
        };
        let Row { organization, lane, .. } = row;
        self.check(!self.is_busy(organization, lane), "it is parked while its lane is busy");
        self.check(self.is_first(seq, &row), "it is parked out of order");
        self.may_park(organization, item);
        let due = self.now.plus(Duration::from_millis(self.random.u64(0..3_000)));
        if let Some(row) = self.queue.get_mut(&seq) {
            row.failing_since = item.failing_since;
            (row.due, row.hastened) = (Some(due), false);
        }
        self.flights.push(Flight {
            ticket,
            seq,
            organization,
            lane,
            parked: false,
            permit: None,
            started_at: None,
            resets: self.books[organization].resets,
            news: News::default(),
            end: End::Ended,
            heard: true,
            stage: Stage::Parking(due),
        });
    }

    fn is_busy(&self, organization: usize, lane: usize) -> bool {
        self.flights.iter().any(|it| (it.organization, it.lane) == (organization, lane))
    }

    fn is_first(&self, seq: u64, row: &Row) -> bool {
        let same = |it: &Row| (it.organization, it.lane) == (row.organization, row.lane) && !it.parked;
        self.queue.iter().find(|(_, it)| same(it)).is_some_and(|(first, _)| *first == seq)
    }

    fn notice_who_left_the_round(&mut self) {
        for id in 0..ORGANIZATIONS.len() {
            self.books[id].in_round &= self.has_turn(id);
        }
    }

    fn has_turn(&self, id: usize) -> bool {
        let place = self.scheduler.names.get(ORGANIZATIONS[id]);
        place.and_then(|id| self.scheduler.organizations[*id].as_ref()).is_some_and(|org| org.has_turn)
    }

    /// Nobody in the round sees another take more than two turns beyond its share.
    fn count_turns(&mut self, started: usize, before: &[bool]) {
        let weight = |books: &Books| books.share.map_or(1, |share| share.weight);
        for (id, had_turn) in before.iter().enumerate() {
            let has_turn = self.has_turn(id);
            let books = &mut self.books[id];
            if !books.in_round || !had_turn {
                books.starts = Default::default();
            }
            books.in_round = *had_turn && has_turn;
            if *had_turn {
                books.starts[started] += 1;
            }
            if !books.in_round {
                continue;
            }
            let books = &self.books[id];
            let turns = books.starts[id] / weight(books);
            for (other, starts) in books.starts.iter().enumerate().filter(|(other, _)| *other != id) {
                let most = weight(&self.books[other]) * (turns + 2);
                if *starts > most {
                    self.fail(&format!("{other} starts {starts}, {id} has had {turns} turns"));
                }
            }
        }
    }

    /// The promises of the scheduler about a start.
    fn may_start(&mut self, item: &Item<u64>, started_at: Option<Endpoint>) {
        let seq = item.seq.0;
        self.check(item.load == seq, "what travels with an envelope is its own");
        let Some(row) = self.queue.get(&seq) else { self.fail(&format!("{seq} has ended already")) };
        let organization = row.organization;
        let books = &self.books[organization];
        self.check(books.served && !books.dismissed, "its organization is served");
        self.check(!self.is_busy(organization, row.lane), "it starts while its lane is busy");
        self.check(row.parked || self.is_first(seq, row), "it starts out of order");
        let is_due = row.hastened || row.due.is_none_or(|due| due <= self.now);
        self.check(is_due, "it starts before it is due");
        self.check(!books.is_paused, "it starts while its organization is paused");
        let of_organization = |it: &&Flight| it.organization == organization && !it.heard;
        let calling = self.flights.iter().filter(of_organization).count();
        if let Some(endpoint) = started_at {
            let at = books.at.of(endpoint);
            self.check(at.throttled_until <= self.now, "it starts at a throttled endpoint");
            self.check(at.open_until <= self.now, "it starts at an endpoint whose breaker is open");
            let is_there = |it: &&Flight| it.permit.as_ref().and_then(Permit::endpoint) == Some(endpoint);
            let there = self.flights.iter().filter(of_organization).filter(is_there).count();
            let is_probed = matches!(self.status(organization, endpoint), Status::Probing { .. });
            self.check(!is_probed || there < PROBES, "more probes than there may be");
        }
        let Some(share) = books.share else { self.fail("it has a share") };
        self.check(calling < share.max_in_flight, "more calls than the organization's limit");
        self.check(self.flights.len() < self.limits.in_flight, "more than the global limit in flight");
        if let Some(rate) = share.rate {
            self.pour(organization, 1, rate);
            let capacity = (i64::from(rate) * 100).max(1_000);
            let fits = self.books[organization].poured <= capacity;
            self.check(fits, "more calls than the rate limit allows");
        }
    }

    /// Pours calls into a bucket that leaks at the rate. No start may make it overflow.
    fn pour(&mut self, organization: usize, calls: i64, rate: u32) {
        let now = self.now;
        let books = &mut self.books[organization];
        let leaked = i64::try_from(now.since(books.poured_at).as_millis()).unwrap() * i64::from(rate);
        books.poured = (books.poured - leaked).max(0) + calls * 1_000;
        books.poured_at = now;
    }

    /// The calls of a round of work are over.
    fn end_calls(&mut self, index: usize) {
        let now = self.now;
        let flight = &mut self.flights[index];
        self.scheduler.called(&mut flight.ticket, flight.permit.take(), &flight.news, now);
        flight.heard = true;
        if flight.stage == Stage::Called {
            flight.stage = Stage::Answered;
        }
        let (about, resets, news) =
            ((flight.organization, flight.lane, flight.parked), flight.resets, flight.news);
        self.hear(about, resets, news);
    }

    /// The calls of a round of work are over, or its result is on disk and not reported yet.
    fn settle(&mut self) {
        let Some(index) = self.pick(self.flights.len()) else { return };
        if self.flights[index].stage == Stage::Called && self.random.u8(0..8) > 0 {
            return self.end_calls(index);
        }
        let longest = if self.is_fair { 3_000 } else { 30_000 };
        let later = self.now.plus(Duration::from_millis(self.random.u64(0..longest)));
        let now = self.now;
        let flight = &mut self.flights[index];
        let row = self.queue.get_mut(&flight.seq);
        match flight.stage {
            Stage::Called | Stage::Answered => {
                let ends = flight.end == End::Ended;
                flight.stage = Stage::Settled { again: !ends };
                match row {
                    Some(_) if ends => drop(self.queue.remove(&flight.seq)),
                    Some(row) => {
                        row.hastened = false;
                        let pause =
                            ENDPOINTS.iter().filter_map(|it| flight.news.endpoints.of(*it).pause).max();
                        row.due = Some(pause.map_or(later, |pause| pause.max(later)));
                        match flight.end {
                            End::Blocked(..) if !row.parked => row.due = Some(now),
                            End::Again(_) => drop(row.failing_since.get_or_insert(now)),
                            End::Blocked(..) | End::Ended => {}
                        }
                    }
                    None => flight.stage = Stage::Settled { again: false },
                }
            }
            Stage::Parking(due) => {
                flight.stage = Stage::Parked(due);
                if let Some(row) = row {
                    row.parked = true;
                    self.parked += 1;
                }
            }
            Stage::Untried | Stage::Settled { .. } | Stage::Parked(_) => {}
        }
    }

    fn report(&mut self) {
        let Some(index) = self.pick(self.flights.len()) else { return };
        if matches!(self.flights[index].stage, Stage::Called | Stage::Answered | Stage::Parking(_)) {
            return;
        }
        if !self.flights[index].heard {
            self.end_calls(index);
        }
        let Flight { ticket, seq, organization, lane, parked, started_at, resets, news, end, stage, .. } =
            self.flights.swap_remove(index);
        if let Stage::Parked(due) = stage {
            drop(self.scheduler.finish(ticket, Finish::Parked(due), News::default(), self.now));
            return;
        }
        let row = self.queue.get(&seq);
        let finish = match (row, end) {
            (None, _) | (Some(_), End::Ended) => Finish::Ended,
            (Some(row), End::Blocked(endpoint, _)) if stage == Stage::Untried => {
                Finish::Blocked(Item { endpoint, ..item_of(seq, row) })
            }
            (Some(row), _) if row.parked => Finish::Parked(row.due.unwrap_or(self.now)),
            (Some(row), End::Blocked(endpoint, _)) => Finish::Blocked(Item { endpoint, ..item_of(seq, row) }),
            (Some(row), End::Again(endpoint)) => Finish::Again(Item { endpoint, ..item_of(seq, row) }),
        };
        match self.scheduler.finish(ticket, finish, news, self.now) {
            Finished::Done => {}
            Finished::Park(ticket, item) => {
                self.may_park(organization, &item);
                let stage = Stage::Parking(item.due.unwrap_or(self.now));
                self.flights.push(Flight {
                    ticket,
                    seq,
                    organization,
                    lane,
                    parked,
                    permit: None,
                    started_at,
                    resets,
                    news,
                    end,
                    heard: true,
                    stage,
                });
            }
        }
        self.check(self.scheduler.in_flight() == self.flights.len(), "what is in flight is counted");
    }

    /// Nothing is parked while its organization is in trouble, or before its time, or without a success of another one
    /// that shows that it fails alone; but for one, so that others get the chance to.
    fn may_park(&mut self, organization: usize, item: &Item<u64>) {
        let Some(hold) = self.limits.lane_hold else { self.fail("parked although order is absolute") };
        let since = item.failing_since.expect("it fails");
        self.check(item.load == item.seq.0, "what is parked is its own");
        let org = self.scheduler.names.get(ORGANIZATIONS[organization]).copied();
        let status = org.and_then(|id| self.scheduler.organizations[id].as_ref()).map(Organization::status);
        self.check(status == Some(Status::Active), "parked while its organization is in trouble");
        let books = &mut self.books[organization];
        let is_alone = books.last_success.is_some_and(|success| success >= since);
        books.parked_on_credit += usize::from(!is_alone);
        let on_credit = books.parked_on_credit;
        self.check(is_alone || on_credit <= 1, "more than one is parked although nothing else is delivered");
        self.check(since.plus(hold) <= self.now, "parked too early");
    }

    fn status(&self, organization: usize, endpoint: Endpoint) -> Status {
        let id = self.scheduler.names.get(ORGANIZATIONS[organization]).copied();
        let org = id.and_then(|id| self.scheduler.organizations[id].as_ref());
        org.map_or(Status::Active, |org| org.endpoints.of(endpoint).status())
    }

    /// What the calls of an envelope will say, as far as they may be made.
    fn work(&mut self, seq: u64, row: &Row, permit: &mut Permit) -> (News, End) {
        let mut news = News::default();
        if self.random.u8(0..12) == 0 {
            // Filtered.
            return (news, End::Ended);
        }
        let mut has_called = false;
        for (place, endpoint) in row.needs.iter().copied().enumerate().skip(row.done) {
            if permit.change_to(endpoint, has_called).is_err() {
                return (news, End::Blocked(endpoint, has_called));
            }
            has_called = true;
            let said = self.answer_of(row, endpoint);
            let before = *news.endpoints.of(endpoint);
            *news.endpoints.of_mut(endpoint) =
                EndpointNews { attempts: before.attempts + said.attempts, ..said };
            match said.answer {
                Answer::Good => {
                    if let Some(row) = self.queue.get_mut(&seq) {
                        row.done = place + 1;
                    }
                }
                Answer::Other => return (news, End::Ended),
                _ => return (news, End::Again(endpoint)),
            }
        }
        (news, End::Ended)
    }

    fn answer_of(&mut self, row: &Row, endpoint: Endpoint) -> EndpointNews {
        let weather =
            if self.faults { *self.books[row.organization].weather.of(endpoint) } else { Weather::Fair };
        let until = self.now.plus(Duration::from_millis(self.random.u64(1..90_000)));
        let attempts = self.random.u32(1..=3);
        let said = EndpointNews {
            attempts,
            answered: true,
            latency: Some(Duration::from_millis(50)),
            ..EndpointNews::default()
        };
        match weather {
            Weather::BadToken => {
                EndpointNews { answer: Answer::Refused, pause: self.random.bool().then_some(until), ..said }
            }
            Weather::Throttling if self.random.bool() => {
                EndpointNews { pause: Some(until), overloaded: true, ..said }
            }
            Weather::Outage => EndpointNews {
                answer: Answer::Failed,
                overloaded: true,
                answered: false,
                latency: None,
                ..said
            },
            Weather::Unreachable => {
                EndpointNews { answer: Answer::Unreachable, answered: false, latency: None, ..said }
            }
            _ if self.faults && (row.poisoned || (!self.is_fair && self.random.u8(0..20) == 0)) => {
                let answer = if row.size.is_multiple_of(2) { Answer::Failed } else { Answer::Refused };
                EndpointNews { answer, ..said }
            }
            Weather::Fair | Weather::Throttling => match self.random.u8(0..12) {
                0 => EndpointNews { answer: Answer::Other, ..said },
                _ => EndpointNews { answer: Answer::Good, ..said },
            },
        }
    }

    /// What the news mean for the world's own records.
    fn hear(&mut self, (organization, lane, _): (usize, usize, bool), resets: u64, news: News) {
        if let Some(rate) = self.books[organization].share.and_then(|share| share.rate) {
            self.pour(organization, i64::from(news.attempts()) - 1, rate);
        }
        let now = self.now;
        let books = &mut self.books[organization];
        if resets != books.resets {
            return;
        }
        for endpoint in ENDPOINTS {
            let said = news.endpoints.of(endpoint);
            let at = books.at.of_mut(endpoint);
            match said.answer {
                Answer::Good => {
                    (at.failing, at.refusals) = (BTreeSet::new(), 0);
                    at.open_until = now;
                    books.last_success = Some(now);
                    books.parked_on_credit = 0;
                }
                Answer::Other => (at.failing, at.refusals) = (BTreeSet::new(), 0),
                Answer::Failed => drop(at.failing.insert(lane)),
                Answer::Refused => at.refusals += 1,
                Answer::Unknown | Answer::Unreachable => {}
            }
        }
        self.look_at_endpoints();
    }

    /// Endpoints close on evidence only, and stay closed for as long as they say.
    fn look_at_endpoints(&mut self) {
        for (id, name) in ORGANIZATIONS.into_iter().enumerate() {
            let Some(&place) = self.scheduler.names.get(name) else { continue };
            let Some(org) = self.scheduler.organizations[place].as_ref() else { continue };
            for endpoint in ENDPOINTS {
                let status = org.endpoints.of(endpoint).status();
                let at = self.books[id].at.of(endpoint).clone();
                let failing = self.limits.failing_lanes;
                match status {
                    Status::Tripped { failures: 0, .. } if at.was_active => {
                        self.check(at.failing.len() >= failing, "a breaker opens without evidence");
                    }
                    Status::Suspended { failures: 0, .. } if at.was_active => {
                        self.check(at.refusals >= 3, "a suspension without evidence");
                    }
                    _ => {}
                }
                let at = self.books[id].at.of_mut(endpoint);
                at.was_active = status == Status::Active;
                match status {
                    Status::Throttled(until) => at.throttled_until = at.throttled_until.max(until),
                    Status::Tripped { until, .. } | Status::Suspended { until, .. } => {
                        at.open_until = at.open_until.max(until);
                    }
                    Status::Active | Status::Paused | Status::Probing { .. } => {}
                }
            }
        }
    }

    /// The process dies and starts again: memory is gone, the queue is not.
    fn crash(&mut self) {
        self.scheduler = Scheduler::new(self.limits);
        self.handed.clear();
        self.noted.clear();
        self.reads.clear();
        self.flights.clear();
        for row in self.queue.iter().map(|(seq, row)| (row.organization, *seq)).collect::<Vec<_>>() {
            self.noted.insert(row.0, row.1);
        }
        for id in 0..ORGANIZATIONS.len() {
            let Books { served, dismissed, weather, .. } = self.books[id];
            self.books[id] = Books { weather, ..Books::default() };
            if served && !dismissed {
                self.serve(id);
            }
        }
    }

    fn pick(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.random.usize(0..len))
    }

    // === what holds at any time ===

    fn look_after_step(&mut self) {
        self.notice_who_has_gone();
        self.notice_who_left_the_round();
        self.look_at_endpoints();
        self.memory_is_bounded();
    }

    fn memory_is_bounded(&self) {
        use super::super::lane::LANE_STUBS;
        use super::super::window::{LOAD, STUBS};
        let Limits { window, window_bytes, in_flight, .. } = self.limits;
        for org in self.scheduler.organizations.iter().flatten() {
            let items: Vec<_> = org.lanes.values().flat_map(|lane| &lane.items).collect();
            let stubs: usize = org.lanes.values().map(|lane| lane.stubs.len()).sum();
            self.check(items.len() == org.held, "what is held is counted");
            self.check(items.iter().map(|it| it.size).sum::<usize>() == org.held_bytes, "and its bytes");
            self.check(stubs == org.stubs, "and what is held by number");
            let above = in_flight + LOAD;
            self.check(org.held <= window + above, "more is held than the window, the retries and a read");
            self.check(org.held_bytes <= window_bytes + 12 * (above + 1), "too many bytes are held");
            self.check(stubs <= window * STUBS + LANES.len() + above, "too much is held by number");
            let of_a_lane = org.lanes.values().map(|lane| lane.stubs.len()).max().unwrap_or(0);
            self.check(of_a_lane <= LANE_STUBS, "too much of a lane is held by number");
            self.check(org.late.items.len() <= window / 4 + 1, "too much is kept aside");
            self.check(org.parked.batch.len() <= parked::BATCH, "too many parked ones are held");
            self.check(org.lanes.len() <= LANES.len(), "empty lanes are dropped");
            let calling = self.flights.iter().filter(|it| ORGANIZATIONS[it.organization] == &*org.name);
            let calling = calling.filter(|it| !it.heard).count();
            self.check(
                org.calling == calling || org.service != Service::Served,
                "what is calling is counted",
            );
        }
    }

    /// The faults end: everything must be settled, and the scheduler be empty.
    fn calm(&mut self) {
        self.faults = false;
        for id in 0..ORGANIZATIONS.len() {
            self.serve(id);
        }
        for _ in 0..10_000 {
            self.arrivals();
            self.start();
            let moved = !self.flights.is_empty() || !self.reads.is_empty();
            self.ask_reads();
            while !self.reads.is_empty() {
                self.look();
                if self.reads.iter().any(|(_, found)| found.is_some()) {
                    self.answer();
                }
            }
            while !self.flights.is_empty() {
                self.settle();
                self.report();
            }
            self.look_after_step();
            if self.queue.is_empty() {
                return self.is_idle();
            }
            if !moved && let Some(next) = self.scheduler.next_tick() {
                self.now = self.now.max(next);
            }
        }
        self.fail("events are left for ever");
    }

    /// Nothing is held or read when nothing waits, and whoever is retired goes.
    fn is_idle(&mut self) {
        for _ in 0..100 {
            self.scheduler.tick(self.now);
            let is_parking = self.scheduler.next_to_park(self.now).is_some();
            self.check(!is_parking, "something is parked when nothing waits");
            let started = self.scheduler.start(self.now);
            self.check(started.is_none(), "something starts when nothing waits");
            for read in self.scheduler.reads(self.now) {
                self.scheduler.read(&read, Vec::new(), self.now);
            }
            match self.scheduler.next_tick() {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
        }
        let held: usize = self.scheduler.organizations.iter().flatten().map(|org| org.held + org.stubs).sum();
        self.check(held == 0, "nothing is held when nothing waits");
        let wanted = self.scheduler.reads(self.now);
        self.check(wanted.is_empty(), "nothing is read when nothing waits");
        for name in ORGANIZATIONS {
            self.scheduler.retire(name);
        }
        self.check(self.scheduler.names.is_empty(), "whoever is idle and retired goes");
        self.check(self.scheduler.timers.is_empty(), "no timer is left");
    }
}

fn item_of(seq: u64, row: &Row) -> Item<u64> {
    Item {
        seq: Seq(seq),
        lane: LaneKey::of(LANES[row.lane]),
        due: row.due,
        failing_since: row.failing_since,
        endpoint: if row.done == 0 { row.expected } else { Endpoint::Event },
        size: row.size,
        load: seq,
    }
}

/// The seeds to run: all of the ordinary run, or those that the environment names.
pub(super) fn seeds(variable: &str, ordinary: Range<u64>) -> Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "which seeds to run is an argument of this test")]
    let Ok(text) = std::env::var(variable) else { return ordinary };
    let (first, end) = text.split_once("..").expect("seeds are FIRST..END");
    first.parse().expect("a seed")..end.parse().expect("a seed")
}

#[test]
fn simulation() {
    let (seeds, mut parked, mut blocked, mut swept) = (seeds("SCHEDULER_SEEDS", SEEDS), 0, 0, 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.calm();
        parked += world.parked;
        blocked += world.blocked;
        swept += world.swept;
    }
    assert!(
        count < 1_000 || (parked > 20 && blocked > 500 && swept > 100),
        "the world is too kind: {parked} parked, {blocked} blocked, {swept} sweeps"
    );
}
