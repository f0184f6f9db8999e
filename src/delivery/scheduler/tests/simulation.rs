//! A random world around the scheduler: a queue, a hand-over that drops, reads that come late, an organization mix with
//! outages, pauses, refused tokens, slow answers and poisoned events, people who are forgotten, organizations that come
//! and go, are dismissed and corrected, operators who hold and resume, limits that change, and crashes between any two steps. Time is virtual; a seed
//! decides everything.
//!
//! The world keeps its own books and checks after each step: nothing is lost or worked twice; a lane's envelopes start in
//! order, parked ones excepted, and never side by side; retry times, pauses, probes and holds are obeyed; no limit is
//! exceeded, in flight or per second; nothing is parked while its organization is in trouble; nobody who waits for a
//! turn sees another take more than two turns beyond its share; memory stays bounded. Then the faults end, and
//! everything must be delivered.
//!
//! A failing seed prints itself with its world:
//! * `SCHEDULER_SEEDS=17..18 cargo test --lib simulation` replays it,
//! * `SCHEDULER_SEEDS=0..1000000 cargo test --release --lib simulation` is the long run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::*;

const SEEDS: Range<u64> = 0..2_000;
const STEPS: usize = 250;
const ORGANIZATIONS: [&str; 4] = ["acme", "birch", "cedar", "delta"];
const LANES: [&str; 6] = ["ann", "bob", "cid", "dee", "eve", "fay"];

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
    /// How often the gate had shut when it started.
    shuts: u64,
    /// What the call will say.
    news: News,
    heard: bool,
    stage: Stage,
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
}

/// What the world knows of an organization.
#[derive(Debug, Default, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
struct Books {
    served: bool,
    /// Nothing of it may start; it goes when what is in flight has ended.
    dismissed: bool,
    weather: Weather,
    share: Option<Share>,
    held: bool,
    paused: UnixMillis,
    /// When the next probe may start, how many have failed, and whether it was the token.
    shut: Option<(UnixMillis, u32, Why)>,
    shuts: u64,
    failing: BTreeSet<usize>,
    /// Since when all has been well: no gate shut, no long pause.
    well_since: Option<UnixMillis>,
    good_at: Option<UnixMillis>,
    /// Calls that fill the bucket of the rate limit, in thousandths, at a time.
    poured: i64,
    poured_at: UnixMillis,
    /// Starts of each organization since this one has had a place in the round.
    in_round: bool,
    starts: [usize; ORGANIZATIONS.len()],
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
        if !self.faults {
            self.resume(id);
        }
    }

    fn resume(&mut self, id: usize) {
        self.scheduler.resume(ORGANIZATIONS[id]);
        let books = &mut self.books[id];
        books.held = false;
        books.shuts += u64::from(books.shut.take().is_some());
        books.failing.clear();
    }

    /// Its token or address is corrected: whoever waits on disk for another try may go.
    fn correct(&mut self, id: usize) {
        self.scheduler.correct(ORGANIZATIONS[id], self.now);
        let books = &mut self.books[id];
        (books.shut, books.shuts) = (None, books.shuts + 1);
        books.failing.clear();
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
        let weather = match self.random.u8(0..8) {
            0 => Weather::Outage,
            1 => Weather::Throttling,
            2 => Weather::BadToken,
            _ => Weather::Fair,
        };
        let id = self.random.usize(0..ORGANIZATIONS.len());
        self.books[id].weather = weather;
    }

    fn operate(&mut self) {
        let id = self.random.usize(0..ORGANIZATIONS.len());
        let name = ORGANIZATIONS[id];
        let is_known = self.scheduler.names.contains_key(name);
        match self.random.u8(0..8) {
            0..3 => self.serve(id),
            3 if is_known => {
                self.scheduler.hold(name);
                self.books[id].held = true;
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
                self.check(books.paused <= self.now, "a pause is forgotten");
                self.check(!books.held, "a hold is forgotten");
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
            let row = Row {
                organization,
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
            Which::After { after, limit } => {
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
        // The queue may bound what it brings, to at least one.
        found.truncate(if self.random.u8(0..4) == 0 { 1 } else { limit });
        self.reads[index].1.get_or_insert(found);
    }

    fn answer(&mut self) {
        let Some(index) = self.pick(self.reads.len()) else { return };
        match self.reads.swap_remove(index) {
            (read, Some(found)) => {
                let is_after = matches!(read.which, Which::After { .. });
                let was_empty = found.is_empty();
                let found: Vec<_> = found
                    .iter()
                    .filter(|(seq, row)| !self.is_forgotten(*seq, row))
                    .map(|(seq, row)| item_of(*seq, row))
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
        let most = if self.faults { self.random.usize(1..=8) } else { usize::MAX };
        for _ in 0..most {
            let before: Vec<bool> = (0..ORGANIZATIONS.len()).map(|id| self.has_turn(id)).collect();
            let Some((ticket, item)) = self.scheduler.start(self.now) else { break };
            self.may_start(&item);
            let row = self.queue[&item.seq.0].clone();
            let Row { organization, lane, parked, .. } = row;
            self.count_turns(organization, &before);
            let news = self.news(&row);
            self.flights.push(Flight {
                ticket,
                seq: item.seq.0,
                organization,
                lane,
                parked,
                shuts: self.books[organization].shuts,
                news,
                heard: false,
                stage: Stage::Called,
            });
        }
        self.notice_who_left_the_round();
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
    fn may_start(&mut self, item: &Item<u64>) {
        let seq = item.seq.0;
        self.check(item.load == seq, "what travels with an envelope is its own");
        let Some(row) = self.queue.get(&seq) else { self.fail(&format!("{seq} has ended already")) };
        let organization = row.organization;
        let books = &self.books[organization];
        let same_lane = |organization, lane| (organization, lane) == (row.organization, row.lane);
        self.check(books.served && !books.dismissed, "its organization is served");
        self.check(
            !self.flights.iter().any(|it| same_lane(it.organization, it.lane)),
            "it starts while its lane is busy",
        );
        let first = self.queue.iter().find(|(_, it)| same_lane(it.organization, it.lane) && !it.parked);
        self.check(row.parked || first.is_some_and(|(first, _)| *first == seq), "it starts out of order");
        let is_due = row.hastened || row.due.is_none_or(|due| due <= self.now);
        self.check(is_due, "it starts before it is due");
        self.check(books.paused <= self.now, "it starts in a pause");
        self.check(!books.held, "it starts while its organization is held");
        let calling = self.flights.iter().filter(|it| it.organization == organization && !it.heard).count();
        if let Some((until, ..)) = books.shut {
            self.check(until <= self.now && calling == 0, "it starts while the gate is shut");
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
        self.scheduler.called(&mut flight.ticket, &flight.news, now);
        (flight.heard, flight.stage) = (true, Stage::Answered);
        let (about, shuts, news) =
            ((flight.organization, flight.lane, flight.parked), flight.shuts, flight.news);
        self.hear(about, shuts, news);
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
                let ends = matches!(flight.news.answer, Answer::Good | Answer::Other);
                // Work without a call ends as well: the event was filtered.
                let ends = ends || (flight.news == News::default());
                flight.stage = Stage::Settled { again: !ends };
                match row {
                    Some(_) if ends => drop(self.queue.remove(&flight.seq)),
                    Some(row) => {
                        row.hastened = false;
                        row.due = Some(flight.news.pause.map_or(later, |pause| pause.max(later)));
                        if flight.news.answer == Answer::Failed {
                            row.failing_since.get_or_insert(now);
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
            Stage::Settled { .. } | Stage::Parked(_) => {}
        }
    }

    fn report(&mut self) {
        let Some(index) = self.pick(self.flights.len()) else { return };
        if matches!(self.flights[index].stage, Stage::Called | Stage::Answered | Stage::Parking(_)) {
            return;
        }
        let Flight { ticket, seq, organization, lane, parked, shuts, news, heard, stage } =
            self.flights.swap_remove(index);
        if let Stage::Parked(due) = stage {
            drop(self.scheduler.finish(ticket, Finish::Parked(due), News::default(), self.now));
            return;
        }
        if !heard {
            self.hear((organization, lane, parked), shuts, news);
        }
        let row = self.queue.get(&seq).filter(|_| matches!(stage, Stage::Settled { again: true }));
        let finish = match row {
            None => Finish::Ended,
            Some(row) if row.parked => Finish::Parked(row.due.unwrap_or(self.now)),
            Some(row) => Finish::Again(item_of(seq, row)),
        };
        match self.scheduler.finish(ticket, finish, news, self.now) {
            Finished::Done => {}
            Finished::Park(ticket, item) => {
                self.may_park(organization, &item);
                let stage = Stage::Parking(item.due.unwrap_or(self.now));
                let heard = true;
                self.flights.push(Flight {
                    ticket,
                    seq,
                    organization,
                    lane,
                    parked,
                    shuts,
                    news,
                    heard,
                    stage,
                });
            }
        }
        self.check(self.scheduler.in_flight() == self.flights.len(), "what is in flight is counted");
    }

    /// Nothing is parked while its organization is in trouble.
    fn may_park(&self, organization: usize, item: &Item<u64>) {
        let books = &self.books[organization];
        let Some(hold) = self.limits.lane_hold else { self.fail("parked although order is absolute") };
        let since = item.failing_since.expect("it fails");
        self.check(item.load == item.seq.0, "what is parked is its own");
        self.check(books.paused <= self.now && !books.held, "parked in a pause");
        self.check(books.shut.is_none(), "parked while the gate is shut");
        self.check(books.failing.len() <= 1, "parked while others fail");
        self.check(
            books.good_at.is_some_and(|good| good >= since),
            "parked although nothing else is delivered",
        );
        let well = books.well_since.map(|well| well.max(since).plus(hold));
        self.check(well.is_some_and(|end| end <= self.now), "parked too early");
    }

    /// What a call will say about its organization.
    fn news(&mut self, row: &Row) -> News {
        let weather = if self.faults { self.books[row.organization].weather } else { Weather::Fair };
        let until = self.now.plus(Duration::from_millis(self.random.u64(1..90_000)));
        let calls = self.random.u32(1..=3);
        let news = News { calls, latency: Some(Duration::from_millis(50)), ..News::default() };
        match weather {
            Weather::BadToken => {
                News { answer: Answer::Refused, pause: self.random.bool().then_some(until), ..news }
            }
            Weather::Throttling if self.random.bool() => {
                News { pause: Some(until), overloaded: true, ..news }
            }
            Weather::Outage => News { answer: Answer::Failed, overloaded: true, latency: None, ..news },
            _ if self.faults && (row.poisoned || (!self.is_fair && self.random.u8(0..20) == 0)) => {
                News { answer: Answer::Failed, ..news }
            }
            Weather::Fair | Weather::Throttling => match self.random.u8(0..12) {
                0 => News { answer: Answer::Other, ..news },
                1 => News::default(),
                _ => News { answer: Answer::Good, ..news },
            },
        }
    }

    /// What the news means for the books.
    fn hear(&mut self, (organization, lane, parked): (usize, usize, bool), shuts: u64, news: News) {
        let (now, limits) = (self.now, self.limits);
        if let Some(rate) = self.books[organization].share.and_then(|share| share.rate) {
            self.pour(organization, i64::from(news.calls) - 1, rate);
        }
        let books = &mut self.books[organization];
        if let Some(until) = news.pause
            && until > now
            && until > books.paused
        {
            books.paused = until;
            if until.since(now) >= Duration::from_mins(1) {
                books.well_since = None;
            }
        }
        let is_late = shuts != books.shuts;
        let shut = |books: &mut Books, why, failures: u32| {
            let waits = if why == Why::Refused { limits.refused } else { limits.failing };
            let wait = waits.base.saturating_mul(1 << failures.min(10)).min(waits.cap);
            books.shut = Some((now.plus(wait).max(books.paused), failures, why));
            books.shuts += 1;
            books.failing.clear();
            books.well_since = None;
        };
        match news.answer {
            Answer::Good | Answer::Other => {
                books.failing.clear();
                let is_good = news.answer == Answer::Good;
                if !is_late && books.shut.is_some_and(|(.., why)| is_good || why == Why::Failing) {
                    books.shut = None;
                }
                if is_good {
                    books.good_at = Some(now);
                    if books.shut.is_none() && books.paused <= now && !books.held {
                        books.well_since.get_or_insert(now);
                    }
                }
            }
            Answer::Refused if !is_late => {
                let failures = books
                    .shut
                    .filter(|(.., why)| *why == Why::Refused)
                    .map_or(0, |(_, failures, _)| failures + 1);
                shut(books, Why::Refused, failures);
            }
            Answer::Failed if !is_late && !parked => {
                if let Some((_, failures, why)) = books.shut {
                    shut(books, why, failures + 1);
                } else {
                    books.failing.insert(lane);
                    if books.failing.len() >= limits.failing_lanes {
                        shut(books, Why::Failing, 0);
                    }
                }
            }
            Answer::Unknown | Answer::Failed | Answer::Refused => {}
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
        self.memory_is_bounded();
    }

    fn memory_is_bounded(&self) {
        use super::super::organization::{LOAD, STUBS};
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
            self.check(stubs <= window * (STUBS + 1) + above, "too much is held by number");
            self.check(org.late.items.len() <= window / 4 + 1, "too much is kept aside");
            self.check(org.parked.batch.len() <= parked::BATCH, "too many parked ones are held");
            self.check(org.lanes.len() <= LANES.len(), "empty lanes are dropped");
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
        size: row.size,
        load: seq,
    }
}

/// The seeds to run: all of the ordinary run, or those that the environment names.
fn seeds() -> Range<u64> {
    #[expect(clippy::disallowed_methods, reason = "which seeds to run is an argument of this test")]
    let Ok(text) = std::env::var("SCHEDULER_SEEDS") else { return SEEDS };
    let (first, end) = text.split_once("..").expect("SCHEDULER_SEEDS is FIRST..END");
    first.parse().expect("a seed")..end.parse().expect("a seed")
}

#[test]
fn simulation() {
    let (seeds, mut parked) = (seeds(), 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.calm();
        parked += world.parked;
    }
    assert!(count < 1_000 || parked > 20, "the world is too kind: {parked} parked");
}
