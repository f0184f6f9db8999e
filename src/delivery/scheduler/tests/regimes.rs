//! Isolation within an organization, in virtual time: good events beside users, endpoints and answers that fail, and how
//! soon everything recovers. Each seed draws a regime and its numbers.
//!
//! What must hold in every seed:
//! * **Isolation.** An event whose user and endpoint Wigzo accepts is delivered within [`BOUND`] of its arrival, however
//!   many others fail, and all of them within [`USUAL`] of it on average.
//! * **Recovery.** When the faults end, everything is delivered within [`RECOVERY`].
//! * **Reasons.** Whatever waits has a reason that can be named: it is in flight, ready for an endpoint that is busy or
//!   closed, due later, behind another of its lane, or not read yet.
//! * Order in each lane, but for what was parked; nothing twice, nothing lost.
//!
//! `REGIME_SEEDS=17..18 cargo test --lib regimes` replays one;
//! `REGIME_SEEDS=0..1000000 cargo test --release --lib regimes` is the long run.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::*;

const SEEDS: Range<u64> = 0..2_000;

/// A step of virtual time.
const STEP: Duration = Duration::from_millis(20);

/// For how long events arrive and faults last.
const LENGTH: Duration = Duration::from_secs(12);

/// Good events are delivered within this time, whatever else fails: the evidence against an endpoint, one look after a
/// second, a hanging call's time-out, and some turns.
const BOUND: Duration = Duration::from_secs(8);

/// And this long on average.
const USUAL: Duration = Duration::from_secs(3);

/// When the faults have ended, everything is delivered within this time: the longest wait before probes or a retry, and
/// one user's backlog, one event after the other.
const RECOVERY: Duration = Duration::from_secs(90);

/// How long Wigzo takes for an answer, and how long a call may hang.
const LATENCY: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(3);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Regime {
    /// S1: some events are always refused.
    RefusedEvents,
    /// S1: every call to an endpoint is refused.
    RefusedEndpoint,
    /// S2: a refusal now and then.
    TransientRefusals,
    /// B1: one request with many users whose events always fail.
    Poison,
    /// B2: an endpoint fails.
    FailingEndpoint,
    /// B3: an endpoint hangs.
    HangingEndpoint,
    /// W1: one user with a large backlog.
    HotLane,
    /// W2: the same, and its first event fails.
    StuckHotLane,
    /// Many users with a backlog each.
    HotLanes,
    /// P1 and L: an endpoint asks for long pauses.
    ThrottledEndpoint,
    /// L: a `Retry-After` now and then.
    SingleThrottles,
}

const REGIMES: [Regime; 11] = [
    Regime::RefusedEvents,
    Regime::RefusedEndpoint,
    Regime::TransientRefusals,
    Regime::Poison,
    Regime::FailingEndpoint,
    Regime::HangingEndpoint,
    Regime::HotLane,
    Regime::StuckHotLane,
    Regime::HotLanes,
    Regime::ThrottledEndpoint,
    Regime::SingleThrottles,
];

#[derive(Debug, Clone)]
struct Event {
    lane: u64,
    needs: Endpoint,
    expected: Endpoint,
    arrived: UnixMillis,
    due: Option<UnixMillis>,
    failing_since: Option<UnixMillis>,
    tries: u32,
    parked: bool,
    /// Its call always fails while the faults last.
    is_bad: bool,
    /// Its user and its endpoint have no fault.
    is_good: bool,
}

#[derive(Debug)]
struct Call {
    ends: UnixMillis,
    seq: u64,
    ticket: Ticket,
    permit: Permit,
    news: News,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Delivered,
    Failed,
    Blocked,
}

struct World {
    seed: u64,
    regime: Regime,
    random: fastrand::Rng,
    now: UnixMillis,
    limits: Limits,
    scheduler: Scheduler<u64>,
    queue: BTreeMap<u64, Event>,
    last_seq: u64,
    calls: Vec<Call>,
    /// Reads that have been asked for, and when they have found.
    reads: Vec<(UnixMillis, Read)>,
    /// Times from arrival to delivery of good events.
    waits: Vec<Duration>,
    /// The last delivered of each lane.
    delivered: HashMap<u64, u64>,
    parked: HashSet<u64>,
    has_faults: bool,
    /// Good events for each step, in hundredths.
    pace: u64,
    /// How often a fault strikes among good ones, in thousandths.
    rate: u64,
    faulty: Endpoint,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let regime = REGIMES[random.usize(0..REGIMES.len())];
        let limits = Limits {
            in_flight: random.usize(40..=200),
            window: random.usize(300..=800),
            window_bytes: 1_000_000,
            refused: Waits { base: Duration::from_secs(30), cap: Duration::from_mins(10) },
            failing: Waits { base: Duration::from_secs(1), cap: Duration::from_secs(30) },
            failing_lanes: random.usize(3..=8),
            lane_hold: Some(Duration::from_secs(random.u64(2..=6))),
        };
        let mut scheduler = Scheduler::new(limits);
        let share = Share { weight: 1, max_in_flight: random.usize(8..=64), rate: None };
        scheduler.serve(&Arc::from("acme"), share, START);
        let mut world = Self {
            seed,
            regime,
            now: START,
            limits,
            scheduler,
            queue: BTreeMap::new(),
            last_seq: 0,
            calls: Vec::new(),
            reads: Vec::new(),
            waits: Vec::new(),
            delivered: HashMap::new(),
            parked: HashSet::new(),
            has_faults: true,
            pace: random.u64(20..=160),
            rate: random.u64(5..=60),
            faulty: if random.bool() { Endpoint::Identify } else { Endpoint::Event },
            random,
        };
        world.begin();
        world
    }

    fn fail(&self, what: &str) -> ! {
        let acme = self.scheduler.organizations.iter().flatten().next();
        let standing = acme.map(Organization::standing);
        panic!(
            "seed {}, {:?} at {} ms: {what}\n{} wait, {} in flight, pace {}, rate {}, {:?}\n{standing:#?}",
            self.seed,
            self.regime,
            self.now.since(START).as_millis(),
            self.queue.len(),
            self.calls.len(),
            self.pace,
            self.rate,
            self.limits,
        );
    }

    /// What is there before the good events come.
    fn begin(&mut self) {
        let (lanes, each) = match self.regime {
            Regime::Poison => (self.random.u64(50..=300), 1),
            Regime::HotLane | Regime::StuckHotLane => (1, self.random.u64(200..=600)),
            Regime::HotLanes => (self.random.u64(10..=30), self.random.u64(30..=60)),
            _ => (0, 0),
        };
        for lane in 0..lanes {
            for place in 0..each {
                let is_bad = match self.regime {
                    Regime::Poison => true,
                    Regime::StuckHotLane => place == 0,
                    _ => false,
                };
                self.arrive(1_000_000 + lane, Endpoint::Event, Endpoint::Event, is_bad, false);
            }
        }
    }

    fn arrive(&mut self, lane: u64, needs: Endpoint, expected: Endpoint, is_bad: bool, is_good: bool) {
        self.last_seq += 1;
        let event = Event {
            lane,
            needs,
            expected,
            arrived: self.now,
            due: None,
            failing_since: None,
            tries: 0,
            parked: false,
            is_bad,
            is_good,
        };
        self.queue.insert(self.last_seq, event.clone());
        // Some are only noted, as when the handoff is full.
        if self.random.u8(0..50) == 0 {
            self.scheduler.note("acme", Seq(self.last_seq));
        } else {
            self.scheduler.offer("acme", item_of(self.last_seq, &event), self.now);
        }
    }

    fn traffic(&mut self) {
        let mut count = self.pace / 100;
        count += u64::from(self.random.u64(0..100) < self.pace % 100);
        for _ in 0..count {
            let lane = self.last_seq;
            let (mut endpoint, mut is_bad) = (Endpoint::Event, false);
            let is_struck = self.random.u64(0..1_000) < self.rate;
            match self.regime {
                Regime::RefusedEvents => is_bad = is_struck,
                Regime::RefusedEndpoint
                | Regime::FailingEndpoint
                | Regime::HangingEndpoint
                | Regime::ThrottledEndpoint => {
                    let other =
                        if self.faulty == Endpoint::Event { Endpoint::Identify } else { Endpoint::Event };
                    is_bad = self.random.u64(0..1_000) < self.rate * 8;
                    endpoint = if is_bad { self.faulty } else { other };
                }
                _ => {}
            }
            // Which endpoint an event needs is guessed wrong now and then.
            let expected = if self.random.u8(0..20) == 0 { Endpoint::Identify } else { endpoint };
            self.arrive(lane, endpoint, expected, is_bad, !is_bad);
            if is_bad && self.random.bool() {
                // A later event of the same user: it waits for the first.
                self.arrive(lane, Endpoint::Event, Endpoint::Event, false, false);
            }
        }
    }

    /// What a call comes to, and how long it takes.
    fn answer(&mut self, event: &Event) -> (EndpointNews, Duration, bool) {
        let said =
            EndpointNews { attempts: 1, answered: true, latency: Some(LATENCY), ..EndpointNews::default() };
        let good = EndpointNews { answer: Answer::Good, ..said };
        let refused = EndpointNews { answer: Answer::Refused, ..said };
        let failed = EndpointNews { answer: Answer::Failed, ..said };
        let hangs =
            EndpointNews { answer: Answer::Failed, answered: false, overloaded: true, latency: None, ..said };
        let pause = |seconds| EndpointNews {
            pause: Some(self.now.plus(Duration::from_secs(seconds))),
            overloaded: true,
            ..said
        };
        let is_struck = self.random.u64(0..1_000) < self.rate / 5;
        let latency = LATENCY.mul_f64(0.5 + self.random.f64());
        if !self.has_faults {
            return (good, latency, true);
        }
        let (said, took) = match self.regime {
            Regime::RefusedEvents | Regime::RefusedEndpoint if event.is_bad => (refused, latency),
            Regime::TransientRefusals if is_struck => (refused, latency),
            Regime::Poison | Regime::FailingEndpoint | Regime::StuckHotLane if event.is_bad => {
                (failed, latency)
            }
            Regime::HangingEndpoint if event.is_bad => (hangs, TIMEOUT),
            Regime::ThrottledEndpoint if event.is_bad => (pause(600), latency),
            Regime::SingleThrottles if is_struck => (pause(1), latency),
            _ => (good, latency),
        };
        (said, took, said.answer == Answer::Good)
    }

    fn start(&mut self) {
        self.scheduler.tick(self.now);
        while let Some((ticket, item)) = self.scheduler.next_to_park(self.now) {
            self.park(ticket, item.seq.0, item.failing_since);
        }
        while let Some((ticket, item, mut permit)) = self.scheduler.start(self.now) {
            let seq = item.seq.0;
            let Some(event) = self.queue.get(&seq).cloned() else { self.fail("something starts twice") };
            let same = |it: &Call| self.queue.get(&it.seq).is_some_and(|other| other.lane == event.lane);
            if self.calls.iter().any(same) {
                self.fail("two of a lane at a time");
            }
            let (news, took, end) = if permit.change_to(event.needs, false).is_err() {
                (News::default(), Duration::ZERO, End::Blocked)
            } else {
                let (said, took, is_delivered) = self.answer(&event);
                let end = if is_delivered { End::Delivered } else { End::Failed };
                (News::at(event.needs, said), took, end)
            };
            self.calls.push(Call { ends: self.now.plus(took), seq, ticket, permit, news, end });
        }
    }

    fn park(&mut self, ticket: Ticket, seq: u64, since: Option<UnixMillis>) {
        let due = self.now.plus(Duration::from_secs(1));
        if let Some(event) = self.queue.get_mut(&seq) {
            event.parked = true;
            event.failing_since = event.failing_since.or(since);
            event.due = Some(due);
        }
        self.parked.insert(seq);
        drop(self.scheduler.finish(ticket, Finish::Parked(due), News::default(), self.now));
    }

    fn end_calls(&mut self) {
        let now = self.now;
        let (over, on): (Vec<Call>, Vec<Call>) =
            std::mem::take(&mut self.calls).into_iter().partition(|call| call.ends <= now);
        self.calls = on;
        for Call { seq, mut ticket, permit, news, end, .. } in over {
            self.scheduler.called(&mut ticket, Some(permit), &news, now);
            let Some(event) = self.queue.get_mut(&seq) else { self.fail("something ends twice") };
            let finish = match end {
                End::Delivered => {
                    let Some(event) = self.queue.remove(&seq) else { continue };
                    self.note_delivery(seq, &event);
                    Finish::Ended
                }
                End::Failed | End::Blocked if event.parked => {
                    let due = now.plus(Duration::from_secs(2));
                    event.due = Some(due);
                    Finish::Parked(due)
                }
                End::Blocked => Finish::Blocked(Item { endpoint: event.needs, ..item_of(seq, event) }),
                End::Failed => {
                    event.tries += 1;
                    event.failing_since.get_or_insert(now);
                    let longest = 1_000_u64 << event.tries.min(3);
                    let pause = news.endpoints.of(event.needs).pause;
                    let due = now.plus(Duration::from_millis(self.random.u64(0..longest)));
                    event.due = Some(pause.map_or(due, |pause| pause.max(due)));
                    Finish::Again(Item { endpoint: event.needs, ..item_of(seq, event) })
                }
            };
            if let Finished::Park(ticket, item) = self.scheduler.finish(ticket, finish, News::default(), now)
            {
                self.park(ticket, seq, item.failing_since);
            }
        }
    }

    fn note_delivery(&mut self, seq: u64, event: &Event) {
        if event.is_good {
            let wait = self.now.since(event.arrived);
            if wait > BOUND && self.has_faults {
                self.fail(&format!("a good event waited for {} ms", wait.as_millis()));
            }
            self.waits.push(wait);
        }
        if !self.parked.contains(&seq) {
            let before = self.delivered.insert(event.lane, seq);
            if before.is_some_and(|before| before > seq) {
                self.fail("a lane's order is lost");
            }
        }
    }

    fn read(&mut self) {
        let now = self.now;
        let latency = Duration::from_millis(self.random.u64(0..40));
        self.reads.extend(self.scheduler.reads(now).into_iter().map(|read| (now.plus(latency), read)));
        let (due, on): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.reads).into_iter().partition(|(at, _)| *at <= now);
        self.reads = on;
        for (_, read) in due {
            let waiting = self.queue.iter().map(|(seq, event)| (*seq, event));
            let found: Vec<(u64, &Event)> = match &read.which {
                Which::After { after, limit, .. } | Which::Sweep { after, limit } => {
                    waiting.filter(|(seq, it)| *seq > after.0 && !it.parked).take(*limit).collect()
                }
                Which::Numbers(numbers) => {
                    let numbers: HashSet<u64> = numbers.iter().map(|(_, seq)| seq.0).collect();
                    waiting.filter(|(seq, it)| numbers.contains(seq) && !it.parked).collect()
                }
                Which::Parked { limit } => {
                    let mut parked: Vec<_> = waiting.filter(|(_, it)| it.parked).collect();
                    parked.sort_by_key(|(seq, it)| (it.due, *seq));
                    parked.truncate(*limit);
                    parked
                }
            };
            let found = found
                .into_iter()
                .map(|(seq, event)| {
                    let item = item_of(seq, event);
                    let is_number = match &read.which {
                        Which::Sweep { .. } => true,
                        Which::After { skip, .. } => skip.contains(&item.lane),
                        Which::Numbers(_) | Which::Parked { .. } => false,
                    };
                    if is_number {
                        Found::Number(Number { seq: item.seq, lane: item.lane, due: item.due })
                    } else {
                        Found::Item(item)
                    }
                })
                .collect();
            self.scheduler.read(&read, found, now);
        }
    }

    fn step(&mut self) {
        self.now = self.now.plus(STEP);
        self.end_calls();
        self.read();
        // What is decided at once goes at once.
        for _ in 0..8 {
            self.start();
            self.end_calls();
        }
        self.good_ones_do_not_wait();
    }

    fn good_ones_do_not_wait(&self) {
        if !self.has_faults {
            return;
        }
        let waits = self.queue.iter().find(|(_, it)| it.is_good && self.now.since(it.arrived) > BOUND);
        if let Some((seq, event)) = waits {
            self.fail(&format!("{seq} still waits: {event:?}"));
        }
    }

    /// Nothing waits without a reason that can be named.
    fn everything_has_a_reason(&self) {
        let Some(org) = self.scheduler.organizations.iter().flatten().next() else { return };
        for (seq, event) in &self.queue {
            let lane = org.lanes.get(&LaneKey::of(&event.lane.to_string()));
            let has_reason = event.parked
                || Seq(*seq) > org.taken
                || org.left_behind.contains(LaneKey::of(&event.lane.to_string()))
                || lane.is_some_and(|lane| {
                    let is_behind = lane.first().is_some_and(|first| first < Seq(*seq));
                    let waits = event.due.is_some_and(|due| due > self.now);
                    lane.in_flight
                        || is_behind
                        || waits
                        || lane.is_ready
                        || lane.is_loading
                        || lane.rest.is_some()
                });
            if !has_reason {
                self.fail(&format!("{seq} waits without a reason: {event:?} {lane:?}"));
            }
        }
    }

    fn run(&mut self) {
        let end = START.plus(LENGTH);
        while self.now < end {
            self.traffic();
            self.step();
        }
        self.everything_has_a_reason();
        let good = self.waits.len().max(1);
        let usual = self.waits.iter().sum::<Duration>() / u32::try_from(good).unwrap_or(u32::MAX);
        if usual > USUAL {
            self.fail(&format!("good events waited for {} ms on average", usual.as_millis()));
        }
        self.has_faults = false;
        if self.regime == Regime::ThrottledEndpoint {
            // Wigzo asked for ten minutes: an operator ends that.
            for event in self.queue.values_mut() {
                event.due = event.due.map(|due| due.min(self.now));
            }
            self.scheduler.resume("acme", self.now);
            self.scheduler.retry_now("acme", None, true, self.now);
        }
        let end = self.now.plus(RECOVERY);
        while !self.queue.is_empty() {
            if self.now > end {
                self.fail("it does not recover");
            }
            self.step();
        }
    }
}

fn item_of(seq: u64, event: &Event) -> Item<u64> {
    Item {
        seq: Seq(seq),
        lane: LaneKey::of(&event.lane.to_string()),
        due: event.due,
        failing_since: event.failing_since,
        endpoint: if event.tries == 0 { event.expected } else { event.needs },
        size: 1,
        load: seq,
    }
}

#[test]
fn regimes() {
    let seeds = simulation::seeds("REGIME_SEEDS", SEEDS);
    let mut parked = 0;
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut world = World::new(seed);
        world.run();
        parked += world.parked.len();
    }
    assert!(count < 1_000 || parked > 1_000, "the regimes are too kind: {parked} parked");
}
