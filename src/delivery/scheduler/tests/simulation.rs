//! A random world around the scheduler: a queue, a hand-over that drops, reads that come late, calls that fail in every
//! way, limits that change, and crashes between any two steps. Time is virtual; a seed decides everything.
//!
//! The world keeps its own books about what may start, and checks them at each start. A failing seed prints itself;
//! `SCHEDULER_SEEDS=17..18 cargo test --lib simulation` replays it, `SCHEDULER_SEEDS=0..1000000` is the long run.

use std::collections::BTreeMap;
use std::ops::Range;

use super::*;

const SEEDS: Range<u64> = 0..1_500;
const STEPS: usize = 200;
const ORGANIZATIONS: [&str; 4] = ["acme", "birch", "cedar", "delta"];
const LANES: [&str; 5] = ["ann", "bob", "cid", "dee", "eve"];

/// An envelope that waits on disk.
#[derive(Debug, Clone)]
struct Row {
    organization: usize,
    lane: usize,
    due: Option<UnixMillis>,
    size: usize,
}

/// An envelope in flight.
#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    seq: u64,
    organization: usize,
    lane: usize,
    /// How often the organization had been suspended when it started.
    suspensions: u64,
    /// What is on disk already but not reported yet.
    settled: Option<Settled>,
}

#[derive(Debug, Clone, Copy)]
enum Settled {
    Ended,
    Again,
}

/// A read that was asked for, with what it has found once it has looked.
type Reading = (Read, Option<Vec<(u64, Row)>>);

/// What the world knows of an organization.
#[derive(Debug, Default, Clone)]
struct Books {
    served: bool,
    max_in_flight: usize,
    paused: UnixMillis,
    /// When the next probe may start, and how many have failed.
    suspended: Option<(UnixMillis, u32)>,
    suspensions: u64,
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
    reads: Vec<Reading>,
    flights: Vec<Flight>,
    /// How often something is committed, in percent of the steps: from an idle service to one that falls behind.
    load: u8,
    faults: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let roomy = random.bool();
        let limits = Limits {
            in_flight: random.usize(1..=8),
            window: random.usize(1..=if roomy { 40 } else { 8 }),
            window_bytes: random.usize(1..=if roomy { 400 } else { 40 }),
            probe_base: Duration::from_secs(5),
            probe_cap: Duration::from_secs(40),
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
            reads: Vec::new(),
            flights: Vec::new(),
            load: random.u8(1..=60),
            faults: true,
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

    fn check(&self, holds: bool, what: &str) {
        if !holds {
            self.fail(what);
        }
    }

    fn serve(&mut self, id: usize) {
        let max_in_flight = self.random.usize(1..=4);
        let books = &mut self.books[id];
        (books.served, books.max_in_flight) = (true, max_in_flight);
        self.scheduler.serve(&Arc::from(ORGANIZATIONS[id]), max_in_flight);
    }

    fn step(&mut self) {
        if self.random.u8(0..100) < self.load {
            self.commit();
        }
        match self.random.u8(0..100) {
            0..15 => self.arrivals(),
            15..35 => self.start(),
            35..43 => self.ask_reads(),
            43..51 => self.look(),
            51..59 => self.answer(),
            59..74 => self.settle(),
            74..89 => self.report(),
            89..97 => self.now = self.now.plus(Duration::from_millis(self.random.u64(0..20_000))),
            97..98 => {
                let id = self.random.usize(0..ORGANIZATIONS.len());
                self.serve(id);
            }
            _ if self.random.u8(0..4) == 0 => self.crash(),
            _ => {}
        }
        self.memory_is_bounded();
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

    fn ask_reads(&mut self) {
        self.reads.extend(self.scheduler.reads().into_iter().map(|read| (read, None)));
        for name in ORGANIZATIONS {
            let reads = self.reads.iter().filter(|(read, _)| &*read.organization == name).count();
            self.check(reads <= 1, "an organization is read by one read at a time");
        }
    }

    /// A read looks at the queue; its answer travels for a while.
    fn look(&mut self) {
        let Some(index) = self.pick(self.reads.len()) else { return };
        let read = &self.reads[index].0;
        // The queue may bound what it brings, to at least one.
        let most = if self.random.u8(0..4) == 0 { 1 } else { read.limit };
        let found = self
            .queue
            .range(read.after.0 + 1..)
            .filter(|(_, row)| ORGANIZATIONS[row.organization] == &*read.organization)
            .take(read.limit.min(most))
            .map(|(seq, row)| (*seq, row.clone()))
            .collect();
        self.reads[index].1.get_or_insert(found);
    }

    fn answer(&mut self) {
        let Some(index) = self.pick(self.reads.len()) else { return };
        match self.reads.swap_remove(index) {
            (read, Some(found)) => {
                let found = found.iter().map(|(seq, row)| item_of(*seq, row)).collect();
                self.scheduler.read(&read, found, self.now);
            }
            (read, None) => self.scheduler.read_failed(&read),
        }
    }

    fn start(&mut self) {
        self.scheduler.tick(self.now);
        let most = if self.faults { self.random.usize(1..=6) } else { usize::MAX };
        for _ in 0..most {
            let Some((ticket, item)) = self.scheduler.start() else { break };
            self.may_start(&item);
            let Row { organization, lane, .. } = self.queue[&item.seq.0];
            let suspensions = self.books[organization].suspensions;
            self.flights.push(Flight {
                ticket,
                seq: item.seq.0,
                organization,
                lane,
                suspensions,
                settled: None,
            });
        }
    }

    /// The promises of the scheduler about a start.
    fn may_start(&self, item: &Item<u64>) {
        let seq = item.seq.0;
        self.check(item.load == seq, "what travels with an envelope is its own");
        let Some(row) = self.queue.get(&seq) else { self.fail(&format!("{seq} has ended already")) };
        let books = &self.books[row.organization];
        let same_lane = |organization, lane| (organization, lane) == (row.organization, row.lane);
        self.check(books.served, "its organization is served");
        self.check(
            !self.flights.iter().any(|it| same_lane(it.organization, it.lane)),
            &format!("{seq} starts while its lane is busy"),
        );
        let first = self.queue.iter().find(|(_, it)| same_lane(it.organization, it.lane));
        self.check(first.is_some_and(|(first, _)| *first == seq), &format!("{seq} starts out of order"));
        self.check(row.due.is_none_or(|due| due <= self.now), &format!("{seq} starts before it is due"));
        self.check(books.paused <= self.now, &format!("{seq} starts in a pause"));
        let in_flight = self.flights.iter().filter(|it| it.organization == row.organization).count();
        if let Some((until, _)) = books.suspended {
            self.check(until <= self.now && in_flight == 0, &format!("{seq} starts in a suspension"));
        }
        self.check(in_flight < books.max_in_flight, "more than the organization's limit in flight");
        self.check(self.flights.len() < self.limits.in_flight, "more than the global limit in flight");
    }

    /// The result of a round of work is on disk, and not reported yet.
    fn settle(&mut self) {
        let Some(index) = self.pick(self.flights.len()) else { return };
        let later = self.now.plus(Duration::from_millis(self.random.u64(0..30_000)));
        let again = (self.faults && self.random.bool()).then_some(later);
        let flight = &mut self.flights[index];
        if flight.settled.is_some() {
            return;
        }
        if let Some(due) = again {
            flight.settled = Some(Settled::Again);
            self.queue.get_mut(&flight.seq).expect("it waits").due = Some(due);
        } else {
            flight.settled = Some(Settled::Ended);
            self.queue.remove(&flight.seq);
        }
    }

    fn report(&mut self) {
        let Some(index) = self.pick(self.flights.len()) else { return };
        let Some(settled) = self.flights[index].settled else { return };
        let Flight { ticket, seq, organization, suspensions, .. } = self.flights.swap_remove(index);
        let health = self.health();
        self.hear(organization, suspensions, health);
        let finish = match settled {
            Settled::Ended => Finish::Ended,
            Settled::Again => Finish::Again(item_of(seq, &self.queue[&seq])),
        };
        self.scheduler.finish(ticket, finish, health, self.now);
        self.check(self.scheduler.in_flight() == self.flights.len(), "what is in flight is counted");
    }

    fn health(&mut self) -> Health {
        let until = self.now.plus(Duration::from_millis(self.random.u64(0..30_000)));
        match self.random.u8(0..10) {
            _ if !self.faults => Health::Good,
            0..6 => Health::Good,
            6 | 7 => Health::Unknown,
            8 => Health::Pause(until),
            _ => Health::Suspend(if self.random.bool() { self.now } else { until }),
        }
    }

    /// What the news means for the books.
    fn hear(&mut self, organization: usize, suspensions: u64, health: Health) {
        let (now, limits) = (self.now, self.limits);
        let books = &mut self.books[organization];
        let late = suspensions != books.suspensions;
        match health {
            Health::Good if !late => books.suspended = None,
            Health::Good | Health::Unknown => {}
            Health::Pause(until) => books.paused = books.paused.max(until),
            Health::Suspend(earliest) => {
                books.paused = books.paused.max(earliest);
                if !late {
                    let failures = books.suspended.map_or(0, |(_, failures)| failures + 1);
                    let wait = limits.probe_base.saturating_mul(1 << failures.min(10)).min(limits.probe_cap);
                    books.suspended = Some((now.plus(wait), failures));
                    books.suspensions += 1;
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
            let served = self.books[id].served;
            self.books[id] = Books::default();
            if served {
                self.serve(id);
            }
        }
    }

    fn pick(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.random.usize(0..len))
    }

    fn memory_is_bounded(&self) {
        let Limits { window, window_bytes, in_flight, .. } = self.limits;
        for org in &self.scheduler.organizations {
            let items: Vec<_> = org.lanes.values().flat_map(|lane| &lane.items).collect();
            self.check(items.len() == org.held, "what is held is counted");
            self.check(items.iter().map(|it| it.size).sum::<usize>() == org.held_bytes, "and its bytes");
            self.check(org.held <= window.max(1) + in_flight, "more is held than the window and the retries");
            self.check(org.held_bytes <= window_bytes + 12 * (in_flight + 1), "too many bytes are held");
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
            self.memory_is_bounded();
            if self.queue.is_empty() {
                let held: usize = self.scheduler.organizations.iter().map(|org| org.held).sum();
                self.check(held == 0, "nothing is held when nothing waits");
                for read in self.scheduler.reads() {
                    self.scheduler.read(&read, Vec::new(), self.now);
                }
                let wanted = self.scheduler.reads();
                self.check(wanted.is_empty(), "nothing is read when nothing waits");
                return;
            }
            if !moved && let Some(next) = self.scheduler.next_tick() {
                self.now = self.now.max(next);
            }
        }
        self.fail("events are left for ever");
    }
}

fn item_of(seq: u64, row: &Row) -> Item<u64> {
    Item { seq: Seq(seq), lane: LaneKey::of(LANES[row.lane]), due: row.due, size: row.size, load: seq }
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
    for seed in seeds() {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.calm();
    }
}
