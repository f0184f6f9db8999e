//! The promises of the scheduler, one by one; all at once under a random world in [`simulation`]; isolation within an
//! organization in [`regimes`].

mod regimes;
mod servers;
mod simulation;

use super::concurrency::Concurrency;
use super::*;

const NOTHING: [u64; 0] = [];
const START: UnixMillis = UnixMillis(1_800_000_000_000);
const LIMITS: Limits = Limits {
    in_flight: 100,
    window: 100,
    window_bytes: 1_000_000,
    refused: Waits { base: Duration::from_secs(30), cap: Duration::from_mins(10) },
    failing: Waits { base: Duration::from_secs(1), cap: Duration::from_secs(30) },
    failing_lanes: 5,
    lane_hold: Some(Duration::from_mins(15)),
};

const UNKNOWN: EndpointNews = EndpointNews {
    answer: Answer::Unknown,
    pause: None,
    overloaded: false,
    answered: true,
    latency: None,
    attempts: 1,
};
const GOOD: EndpointNews = EndpointNews { answer: Answer::Good, ..UNKNOWN };
const OTHER: EndpointNews = EndpointNews { answer: Answer::Other, ..UNKNOWN };
const FAILED: EndpointNews = EndpointNews { answer: Answer::Failed, ..UNKNOWN };
const REFUSED: EndpointNews = EndpointNews { answer: Answer::Refused, ..UNKNOWN };
const UNREACHABLE: EndpointNews = EndpointNews { answer: Answer::Unreachable, answered: false, ..UNKNOWN };

fn pause(until: UnixMillis) -> EndpointNews {
    EndpointNews { pause: Some(until), ..UNKNOWN }
}

fn refused(until: UnixMillis) -> EndpointNews {
    EndpointNews { pause: Some(until), ..REFUSED }
}

fn said(news: EndpointNews) -> News {
    News::at(Endpoint::Event, news)
}

fn share(max_in_flight: usize) -> Share {
    Share { weight: 1, max_in_flight, rate: None }
}

fn after(after: u64, limit: usize) -> Which {
    Which::After { after: Seq(after), limit, skip: Arc::default() }
}

fn at(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

fn item(seq: u64, lane: &str) -> Item<()> {
    Item {
        seq: Seq(seq),
        lane: LaneKey::of(lane),
        due: None,
        failing_since: None,
        endpoint: Endpoint::Event,
        size: 1,
        load: (),
    }
}

/// A scheduler at a time, with what is in flight by its number.
struct Desk {
    scheduler: Scheduler<()>,
    in_flight: HashMap<u64, (Ticket, Permit)>,
    now: UnixMillis,
}

impl Desk {
    /// Serves organizations that have nothing waiting in the queue.
    fn new(limits: Limits, organizations: &[(&str, usize)]) -> Self {
        let mut desk = Self::unread(limits, organizations);
        desk.nothing_waits();
        desk
    }

    /// Serves organizations of which it is not known yet what waits in the queue.
    fn unread(limits: Limits, organizations: &[(&str, usize)]) -> Self {
        let mut scheduler = Scheduler::new(limits);
        for (name, max_in_flight) in organizations {
            scheduler.serve(&Arc::from(*name), share(*max_in_flight), START);
        }
        let mut desk = Self { scheduler, in_flight: HashMap::new(), now: START };
        for (name, max_in_flight) in organizations {
            let org = desk.org(name);
            org.endpoints.of_mut(Endpoint::Event).concurrency = Concurrency::found(*max_in_flight);
            org.set_permits();
            // Nothing is parked.
            org.parked.starts_reading();
            org.parked.read(Vec::new(), START);
        }
        desk
    }

    fn nothing_waits(&mut self) {
        for read in self.reads() {
            self.scheduler.read(&read, Vec::new(), self.now);
        }
    }

    fn reads(&mut self) -> Vec<Read> {
        self.scheduler.reads(self.now)
    }

    fn org(&mut self, name: &str) -> &mut Organization<()> {
        self.scheduler.by_name(name).expect("it is served")
    }

    fn offer(&mut self, organization: &str, seq: u64, lane: &str) {
        self.scheduler.offer(organization, item(seq, lane), self.now);
    }

    /// Starts everything that may start; the numbers in the order of their starts.
    fn start(&mut self) -> Vec<u64> {
        self.scheduler.tick(self.now);
        let mut started = Vec::new();
        while let Some((ticket, item, permit)) = self.scheduler.start(self.now) {
            self.in_flight.insert(item.seq.0, (ticket, permit));
            started.push(item.seq.0);
        }
        started
    }

    fn end(&mut self, seq: u64, news: EndpointNews) {
        let ticket = self.called(seq, news);
        let finished = self.scheduler.finish(ticket, Finish::Ended, News::default(), self.now);
        assert!(matches!(finished, Finished::Done));
    }

    /// The calls of an envelope are over.
    fn called(&mut self, seq: u64, news: EndpointNews) -> Ticket {
        let (mut ticket, permit) = self.in_flight.remove(&seq).expect("it is in flight");
        let endpoint = permit.endpoint().unwrap_or(Endpoint::Event);
        self.scheduler.called(&mut ticket, Some(permit), &News::at(endpoint, news), self.now);
        ticket
    }

    fn again(&mut self, seq: u64, lane: &str, due: UnixMillis, news: EndpointNews) {
        assert!(!self.fails(seq, lane, due, None, news), "it is not parked");
    }

    /// The work on an envelope failed; whether it is to be parked. If so, it is.
    fn fails(
        &mut self,
        seq: u64,
        lane: &str,
        due: UnixMillis,
        failing_since: Option<UnixMillis>,
        news: EndpointNews,
    ) -> bool {
        let ticket = self.called(seq, news);
        let item = Item { due: Some(due), failing_since, ..item(seq, lane) };
        match self.scheduler.finish(ticket, Finish::Again(item), News::default(), self.now) {
            Finished::Done => false,
            Finished::Park(ticket, _) => {
                assert_eq!(self.start(), NOTHING, "until it is on disk the lane waits");
                let parked = Finish::Parked(due);
                assert!(matches!(
                    self.scheduler.finish(ticket, parked, News::default(), self.now),
                    Finished::Done
                ));
                true
            }
        }
    }

    /// What the first endpoint may do that is not active, if no operator has paused its organization.
    fn status(&self) -> Status {
        if self.scheduler.standings().any(|(_, standing)| standing.status == Status::Paused) {
            return Status::Paused;
        }
        let endpoints = self.scheduler.standings().flat_map(|(_, standing)| standing.endpoints);
        endpoints.map(|it| it.status).find(|status| *status != Status::Active).unwrap_or(Status::Active)
    }

    /// Answers the one read that is wanted with these envelopes, at most as many as it asks for.
    fn read(&mut self, queue: &[(u64, &str)]) -> Read {
        let mut reads = self.reads();
        assert_eq!(reads.len(), 1, "one organization is behind: {reads:?}");
        let read = reads.remove(0);
        self.answer(&read, queue);
        read
    }

    fn answer(&mut self, read: &Read, queue: &[(u64, &str)]) {
        let found = queue
            .iter()
            .filter(|(seq, _)| match &read.which {
                Which::After { after, .. } | Which::Sweep { after, .. } => Seq(*seq) > *after,
                Which::Numbers(numbers) => numbers.iter().any(|(_, number)| *number == Seq(*seq)),
                Which::Parked { .. } => false,
            })
            .take(match read.which {
                Which::After { limit, .. } | Which::Sweep { limit, .. } => limit,
                Which::Numbers(_) | Which::Parked { .. } => usize::MAX,
            })
            .map(|&(seq, lane)| match read.which {
                Which::Sweep { .. } => {
                    Found::Number(Number { seq: Seq(seq), lane: LaneKey::of(lane), due: None })
                }
                _ => Found::Item(item(seq, lane)),
            })
            .collect();
        self.scheduler.read(read, found, self.now);
    }
}

// === order ===

#[test]
fn a_lane_starts_one_at_a_time_in_order() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=3 {
        desk.offer("acme", seq, "ann");
    }
    for seq in 1..=3 {
        assert_eq!(desk.start(), [seq]);
        assert_eq!(desk.start(), NOTHING, "the lane is busy");
        desk.end(seq, GOOD);
    }
    assert_eq!(desk.start(), NOTHING);
    assert_eq!(desk.org("acme").lanes.len(), 0, "an empty lane takes no memory");
}

#[test]
fn a_retry_holds_its_lane_only() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for (seq, lane) in [(1, "ann"), (2, "ann"), (3, "bob"), (4, "bob")] {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.start(), [1, 3]);
    desk.again(1, "ann", at(60), UNKNOWN);
    desk.end(3, GOOD);
    assert_eq!(desk.start(), [4], "the other lane does not notice");
    assert_eq!(desk.scheduler.next_tick(), Some(at(60)));
    desk.now = at(59);
    assert_eq!(desk.start(), NOTHING);
    desk.now = at(60);
    assert_eq!(desk.start(), [1], "what failed comes before what followed it");
    desk.end(1, GOOD);
    assert_eq!(desk.start(), [2]);
}

#[test]
fn a_retry_that_is_due_at_once_keeps_its_place() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "ann");
    assert_eq!(desk.start(), [1]);
    desk.again(1, "ann", START, UNKNOWN);
    assert_eq!(desk.start(), [1]);
}

// === turns and limits ===

#[test]
fn organizations_take_turns() {
    let mut desk = Desk::new(Limits { in_flight: 5, ..LIMITS }, &[("flood", 100), ("acme", 100)]);
    for seq in 1..=50 {
        desk.offer("flood", seq, &format!("f{seq}"));
    }
    desk.offer("acme", 51, "ann");
    desk.offer("acme", 52, "bob");
    assert_eq!(desk.start(), [1, 51, 2, 52, 3], "one envelope a turn, and all at most 5");
    desk.end(1, GOOD);
    desk.offer("acme", 53, "cid");
    assert_eq!(desk.start(), [53], "it keeps its place in the round");
    desk.end(53, GOOD);
    assert_eq!(desk.start(), [4]);
}

#[test]
fn an_organization_keeps_its_own_limit() {
    let mut desk = Desk::new(LIMITS, &[("acme", 2)]);
    for seq in 1..=5 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2]);
    desk.end(2, GOOD);
    assert_eq!(desk.start(), [3]);
    desk.org("acme").endpoints.of_mut(Endpoint::Event).concurrency = Concurrency::found(4);
    desk.scheduler.serve(&Arc::from("acme"), share(4), START);
    assert_eq!(desk.start(), [4, 5], "a higher limit counts at once");
    desk.scheduler.serve(&Arc::from("acme"), share(1), START);
    desk.offer("acme", 6, "l6");
    for seq in [1, 3, 4] {
        desk.end(seq, GOOD);
        assert_eq!(desk.start(), NOTHING, "a lower one as soon as enough has ended");
    }
    desk.end(5, GOOD);
    assert_eq!(desk.start(), [6]);
}

#[test]
fn a_ticket_counts_once() {
    let mut desk = Desk::new(LIMITS, &[("acme", 2)]);
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1]);
    let forged = |lane, organization| Ticket {
        organization,
        lane: LaneKey::of(lane),
        endpoint: None,
        seen: PerEndpoint::default(),
        connections: 0,
        resets: 0,
        failing_since: None,
        role: Role::First,
        heard: false,
    };
    desk.end(1, GOOD);
    assert!(matches!(
        desk.scheduler.finish(forged("ann", 0), Finish::Ended, said(GOOD), START),
        Finished::Done
    ));
    assert!(matches!(
        desk.scheduler.finish(forged("nobody", 0), Finish::Ended, said(pause(at(9))), START),
        Finished::Done
    ));
    assert!(matches!(
        desk.scheduler.finish(forged("ann", 7), Finish::Ended, said(GOOD), START),
        Finished::Done
    ));
    assert_eq!((desk.scheduler.in_flight(), desk.status()), (0, Status::Active));
    desk.offer("acme", 2, "ann");
    desk.offer("acme", 3, "ann");
    assert_eq!(desk.start(), [2]);
    assert!(matches!(
        desk.scheduler.finish(forged("bob", 0), Finish::Again(item(1, "bob")), said(UNKNOWN), START),
        Finished::Done
    ));
    assert_eq!(desk.scheduler.in_flight(), 1);
    desk.end(2, GOOD);
    assert_eq!(desk.start(), [3]);
}

#[test]
fn unknown_organizations_are_left_in_the_queue() {
    let mut desk = Desk::new(LIMITS, &[]);
    desk.offer("acme", 1, "ann");
    desk.scheduler.note("acme", Seq(2));
    assert_eq!(desk.start(), NOTHING);
    assert!(desk.reads().is_empty());
}

// === pauses ===

#[test]
fn a_pause_holds_one_organization_until_its_end() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10), ("other", 10)]);
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1]);
    desk.again(1, "ann", at(5), pause(at(60)));
    desk.offer("acme", 2, "bob");
    desk.offer("other", 3, "ann");
    assert_eq!(desk.start(), [3]);
    assert_eq!(desk.status(), Status::Throttled(at(60)));
    desk.now = at(59);
    assert_eq!(desk.start(), NOTHING);
    assert_eq!(desk.scheduler.next_tick(), Some(at(60)));
    desk.now = at(60);
    assert_eq!(desk.start(), [2, 1]);
    assert_eq!(desk.status(), Status::Active);
}

#[test]
fn a_pause_is_not_ended_by_calls_that_were_under_way() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for (seq, lane) in [(1, "ann"), (2, "bob"), (3, "cid"), (4, "bob"), (5, "cid")] {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.start(), [1, 2, 3]);
    desk.again(1, "ann", at(60), pause(at(60)));
    desk.end(2, GOOD);
    desk.end(3, pause(at(10)));
    assert_eq!(desk.start(), NOTHING, "Wigzo asked for a minute");
    assert_eq!(desk.status(), Status::Throttled(at(60)), "and nobody shortens it");
    desk.now = at(10);
    assert_eq!(desk.start(), NOTHING);
    desk.now = at(60);
    assert_eq!(desk.start().len(), 3);
}

#[test]
fn a_pause_can_be_prolonged() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "bob");
    assert_eq!(desk.start(), [1, 2]);
    desk.end(1, pause(at(10)));
    desk.end(2, pause(at(20)));
    desk.offer("acme", 3, "ann");
    for seconds in [10, 19] {
        desk.now = at(seconds);
        assert_eq!(desk.start(), NOTHING, "after {seconds} s");
    }
    desk.now = at(20);
    assert_eq!(desk.start(), [3]);
}

// === suspension ===

#[test]
fn a_suspended_endpoint_is_probed_after_a_second_and_then_with_doubling_waits() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=5 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3, 4, 5]);
    for seq in 1..=2 {
        desk.again(seq, &format!("l{seq}"), desk.now, REFUSED);
        assert_eq!(desk.status(), Status::Active, "{seq} refusals are no evidence");
    }
    for seq in 3..=5 {
        desk.again(seq, &format!("l{seq}"), desk.now, REFUSED);
    }
    for (failures, wait) in [1, 30, 60, 120, 240, 480, 600, 600].into_iter().enumerate() {
        let failures = u32::try_from(failures).unwrap();
        let until = desk.now.plus(Duration::from_secs(wait));
        assert_eq!(desk.status(), Status::Suspended { until, failures });
        desk.now = UnixMillis(until.0 - 1);
        assert_eq!(desk.start(), NOTHING, "before probe {failures}");
        desk.now = until;
        let probes = desk.start();
        assert_eq!(probes.len(), 3, "of several lanes");
        assert_eq!(desk.status(), Status::Probing { why: Why::Refused, failures });
        for (count, probe) in probes.into_iter().enumerate() {
            desk.again(probe, &format!("l{probe}"), desk.now, REFUSED);
            let is_probing = matches!(desk.status(), Status::Probing { .. });
            assert_eq!(is_probing, count == 0, "two of them must agree");
        }
    }
}

#[test]
fn the_only_lane_suspends_after_some_refusals() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.offer("acme", 1, "ann");
    for count in 1..=3 {
        assert_eq!(desk.start(), [1]);
        desk.again(1, "ann", desk.now, REFUSED);
        assert_eq!(desk.status() == Status::Active, count < 3, "after {count}");
    }
    desk.now = at(1);
    assert_eq!(desk.start(), [1]);
    desk.again(1, "ann", desk.now, REFUSED);
    assert_eq!(
        desk.status(),
        Status::Suspended { until: at(31), failures: 1 },
        "no other lane could be tried"
    );
}

/// A firewall that dislikes some events: nothing else stops for them, and each goes its own way.
#[test]
fn single_refusals_among_successes_suspend_nothing() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    for seq in 1..=400 {
        desk.now = at(seq);
        desk.offer("acme", seq, &format!("l{seq}"));
        for started in desk.start() {
            if started % 20 < 2 {
                let due = desk.now.plus(Duration::from_secs(2));
                let lane = format!("l{started}");
                assert!(!desk.fails(started, &lane, due, Some(at(started)), REFUSED));
            } else {
                desk.end(started, GOOD);
            }
            assert_eq!(desk.status(), Status::Active, "{seq}");
        }
    }
}

#[test]
fn success_of_a_probe_resumes_everything() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=5 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3, 4, 5]);
    for seq in 1..=3 {
        desk.again(seq, &format!("l{seq}"), START, REFUSED);
    }
    desk.end(4, GOOD);
    assert_eq!(desk.start(), NOTHING, "what was answered before says nothing about the time after");
    desk.again(5, "l5", START, UNKNOWN);
    desk.now = at(1);
    let probes = desk.start();
    assert_eq!(probes.len(), 3);
    desk.end(probes[0], GOOD);
    assert_eq!((desk.start().len(), desk.status()), (1, Status::Active));
}

#[test]
fn what_was_under_way_does_not_count_as_a_probe() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=6 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3, 4, 5, 6]);
    for seq in 1..=3 {
        desk.again(seq, &format!("l{seq}"), START, REFUSED);
    }
    desk.now = at(1);
    assert_eq!(desk.start(), NOTHING, "what is under way is in the way of probes");
    desk.again(4, "l4", desk.now, REFUSED);
    assert_eq!(desk.status(), Status::Probing { why: Why::Refused, failures: 0 });
    desk.end(5, GOOD);
    desk.end(6, GOOD);
    assert_eq!(desk.start().len(), 3, "now the probes");
    assert_eq!(desk.status(), Status::Probing { why: Why::Refused, failures: 0 });
}

#[test]
fn a_probe_that_learns_nothing_lets_the_next_one_go() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=8 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start().len(), 8);
    for seq in 1..=8 {
        desk.again(seq, &format!("l{seq}"), START, REFUSED);
    }
    desk.now = at(1);
    let mut probes = desk.start();
    assert_eq!(probes.len(), 3);
    for _ in 0..5 {
        desk.end(probes.remove(0), UNKNOWN);
        let next = desk.start();
        assert_eq!(next.len(), 1, "filtered ones make no call");
        probes.extend(next);
    }
    desk.offer("acme", 20, "l20");
    desk.end(probes[0], UNKNOWN);
    assert_eq!(desk.start(), [20], "one that has never failed probes first");
}

#[test]
fn retry_after_and_suspension_add_up_to_the_later_time() {
    // A pause first: the probes wait for its end.
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=4 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start().len(), 4);
    desk.again(1, "l1", START, pause(at(300)));
    for seq in 2..=4 {
        desk.again(seq, &format!("l{seq}"), START, REFUSED);
    }
    assert_eq!(desk.status(), Status::Suspended { until: at(1), failures: 0 });
    desk.now = at(299);
    assert_eq!((desk.start(), desk.status()), (vec![], Status::Throttled(at(300))));
    desk.now = at(300);
    let probes = desk.start();
    assert_eq!(probes.len(), 3);
    // The probes are told to wait: that is no proof that the token is good again.
    for probe in probes {
        desk.end(probe, pause(at(400)));
    }
    assert_eq!(desk.status(), Status::Throttled(at(400)));
    for seq in 5..=9 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    desk.now = at(400);
    assert_eq!(desk.start().len(), 3, "still a few at a time");
}

#[test]
fn one_retry_after_among_many_successes_concerns_its_own_event() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    for seq in 1..=200 {
        desk.offer("acme", seq, &format!("l{seq}"));
        assert_eq!(desk.start(), [seq]);
        if seq % 50 == 0 {
            desk.again(seq, &format!("l{seq}"), at(60), pause(at(60)));
        } else {
            desk.end(seq, GOOD);
        }
        assert_eq!(desk.status(), Status::Active, "{seq}");
    }
    for seq in 201..=202 {
        desk.offer("acme", seq, &format!("l{seq}"));
        assert_eq!(desk.start(), [seq]);
        desk.again(seq, &format!("l{seq}"), at(60), pause(at(60)));
    }
    assert_eq!(desk.status(), Status::Throttled(at(60)), "several in a row concern all");
}

// === fresh and behind ===

#[test]
fn what_waited_before_an_organization_was_known_comes_first() {
    let mut desk = Desk::unread(LIMITS, &[("acme", 10)]);
    desk.offer("acme", 7, "ann");
    assert_eq!(desk.start(), NOTHING, "older ones may wait in the queue");
    desk.read(&[(2, "ann"), (7, "ann")]);
    assert_eq!(desk.start(), [2]);
    desk.offer("acme", 8, "bob");
    assert_eq!(desk.start(), [8], "up to date now");
    assert!(desk.reads().is_empty());
}

#[test]
fn an_organization_that_nobody_noted_is_read_to_its_end() {
    let mut desk = Desk::unread(Limits { window: 2, ..LIMITS }, &[("acme", 10)]);
    let queue = [(1, "ann"), (2, "bob"), (3, "cid")];
    for seq in 1..=3 {
        desk.read(&queue);
        assert_eq!(desk.start(), [seq]);
    }
    desk.read(&queue);
    assert!(desk.reads().is_empty());
}

#[test]
fn an_empty_queue_is_read_once() {
    let mut desk = Desk::unread(LIMITS, &[("acme", 10)]);
    desk.read(&[]);
    assert!(desk.reads().is_empty());
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1], "number 1 counts like any other");
}

#[test]
fn a_full_window_leaves_the_rest_in_the_queue() {
    let mut desk = Desk::new(Limits { window: 8, ..LIMITS }, &[("acme", 1)]);
    let lanes: Vec<String> = (1..=20).map(|seq| format!("l{seq}")).collect();
    let queue: Vec<(u64, &str)> = (1..=20).zip(lanes.iter().map(String::as_str)).collect();
    for &(seq, lane) in &queue {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.org("acme").held, 8);
    assert!(desk.reads().is_empty(), "no room for a quarter of a window");
    let mut seen: Vec<u64> = Vec::new();
    while seen.len() < 20 {
        let started = desk.start();
        assert_eq!(started.len(), 1, "{seen:?}");
        seen.extend(&started);
        desk.end(started[0], GOOD);
        for read in desk.reads() {
            assert!(matches!(read.which, Which::After { limit: 2, .. }), "a quarter at a time: {read:?}");
            desk.answer(&read, &queue);
        }
        assert!(desk.org("acme").held <= 8);
    }
    assert_eq!(seen, (1..=20).collect::<Vec<u64>>(), "no gap, no double");
    desk.offer("acme", 21, "ann");
    assert_eq!(desk.start(), [21]);
}

#[test]
fn the_window_counts_bytes_too_and_one_envelope_always_fits() {
    let mut desk = Desk::new(Limits { window_bytes: 10, ..LIMITS }, &[("acme", 1)]);
    let big = |seq: u64, size| Item { size, ..item(seq, &format!("l{seq}")) };
    desk.scheduler.offer("acme", big(1, 50), START);
    desk.scheduler.offer("acme", big(2, 1), START);
    assert_eq!(desk.org("acme").held, 1);
    assert_eq!(desk.start(), [1]);
    let reads = desk.reads();
    desk.scheduler.read(&reads[0], [big(2, 6), big(3, 6), big(4, 6)].map(Found::Item).into(), START);
    let org = desk.org("acme");
    assert_eq!((org.held, org.held_bytes), (2, 12), "the last one may stand out");
    desk.end(1, GOOD);
    assert_eq!(desk.start(), [2]);
}

#[test]
fn blocked_lanes_do_not_keep_others_from_being_read() {
    let mut desk = Desk::new(Limits { window: 8, ..LIMITS }, &[("acme", 20)]);
    let lanes: Vec<String> = (1..=60).map(|seq| format!("l{}", seq % 20)).collect();
    let queue: Vec<(u64, &str)> = (1..=61).zip(lanes.iter().map(String::as_str).chain(["ann"])).collect();
    desk.scheduler.note("acme", Seq(61));
    // Every lane fails but one, and sixty envelopes stand before it.
    let mut started = Vec::new();
    for _ in 0..100 {
        for read in desk.reads() {
            desk.answer(&read, &queue);
        }
        for seq in desk.start() {
            started.push(seq);
            if seq < 61 {
                let lane = format!("l{}", seq % 20);
                desk.again(seq, &lane, at(3_600), OTHER);
            }
        }
        let org = desk.org("acme");
        assert!(org.held <= 8, "{}", org.held);
    }
    started.sort_unstable();
    assert_eq!(started, (1..=20).chain([61]).collect::<Vec<u64>>(), "the heads, and whoever can go on");
    desk.end(61, GOOD);
    // Their time comes: what was held by number is read again, in order.
    desk.now = at(3_600);
    let mut seen = Vec::new();
    for _ in 0..100 {
        for seq in desk.start() {
            seen.push(seq);
            desk.end(seq, GOOD);
        }
        for read in desk.reads() {
            assert!(matches!(read.which, Which::Numbers(_) | Which::Sweep { .. }), "{read:?}");
            desk.answer(&read, &queue);
        }
    }
    for lane in 0..20 {
        let of_lane: Vec<u64> = seen.iter().copied().filter(|seq| seq % 20 == lane).collect();
        assert!(of_lane.is_sorted() && of_lane.len() == 3, "{of_lane:?}");
    }
    assert_eq!((seen.len(), desk.org("acme").stubs), (60, 0));
}

#[test]
fn what_is_held_by_number_is_bounded() {
    let mut desk = Desk::new(Limits { window: 4, ..LIMITS }, &[("acme", 20)]);
    let queue: Vec<(u64, &str)> = (1..=500).map(|seq| (seq, "ann")).collect();
    desk.scheduler.note("acme", Seq(500));
    desk.read(&queue);
    assert_eq!(desk.start(), [1]);
    desk.again(1, "ann", at(3_600), OTHER);
    let mut reads = 0;
    loop {
        let wanted = desk.reads();
        if wanted.is_empty() {
            break;
        }
        reads += wanted.len();
        for read in wanted {
            desk.answer(&read, &queue);
        }
    }
    let org = desk.org("acme");
    assert_eq!((org.held, org.stubs), (1, 3), "a lane's numbers are bounded");
    assert_eq!((org.taken, org.is_behind()), (Seq(500), false), "what follows is known as a range");
    assert!(reads < 600, "{reads}");
    desk.now = at(3_600);
    let mut seen = Vec::new();
    while seen.len() < 500 {
        for seq in desk.start() {
            seen.push(seq);
            desk.end(seq, GOOD);
        }
        for read in desk.reads() {
            desk.answer(&read, &queue);
        }
    }
    assert!(seen.is_sorted(), "{seen:?}");
}

#[test]
fn what_has_gone_meanwhile_is_not_waited_for() {
    let mut desk = Desk::new(Limits { window: 4, ..LIMITS }, &[("acme", 20)]);
    for seq in 1..=9 {
        desk.offer("acme", seq, "ann");
    }
    assert_eq!((desk.org("acme").held, desk.org("acme").stubs), (1, 3));
    assert_eq!(desk.start(), [1]);
    desk.end(1, GOOD);
    // 2, 4, 6 and 9 were ended by an operator.
    let queue = [(3, "ann"), (5, "ann"), (7, "ann"), (8, "ann")];
    let read = desk.read(&queue);
    assert!(matches!(&read.which, Which::Numbers(numbers) if !numbers.is_empty()), "{read:?}");
    for seq in [3, 5, 7, 8] {
        for _ in 0..3 {
            for read in desk.reads() {
                desk.answer(&read, &queue);
            }
        }
        assert_eq!(desk.start(), [seq]);
        desk.end(seq, GOOD);
    }
    for _ in 0..3 {
        for read in desk.reads() {
            desk.answer(&read, &[]);
        }
    }
    assert_eq!((desk.start(), desk.org("acme").lanes.len()), (vec![], 0), "9 is known to be gone only now");
}

#[test]
fn a_read_that_races_with_commits_leaves_no_gap() {
    let mut desk = Desk::new(Limits { window: 8, ..LIMITS }, &[("acme", 20)]);
    for seq in 1..=10 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let read = desk.reads().remove(0);
    assert_eq!(read.which, after(8, 2));
    // 11 is committed while the read is made, and one that the hand-over cannot hold.
    desk.offer("acme", 11, "l11");
    desk.scheduler.note("acme", Seq(12));
    desk.answer(&read, &[(9, "l9"), (10, "l10")]);
    assert_eq!(desk.start(), [9, 10], "11 must not come before what may be missing");
    let read = desk.reads().remove(0);
    assert_eq!(read.which, after(10, 2));
    desk.answer(&read, &[(11, "l11"), (12, "l12")]);
    // 13 is committed and found, and only then offered.
    let read = desk.reads();
    assert!(read.is_empty(), "all that is known has been read");
    assert_eq!((desk.start(), desk.org("acme").held), (vec![11, 12], 0), "once");
    desk.offer("acme", 13, "l13");
    assert_eq!(desk.start(), [13], "up to date again");
}

#[test]
fn what_was_found_and_offered_is_taken_once() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.scheduler.note("acme", Seq(1));
    let read = desk.reads().remove(0);
    desk.offer("acme", 2, "bob");
    desk.answer(&read, &[(1, "ann"), (2, "bob")]);
    desk.offer("acme", 2, "bob");
    assert_eq!((desk.start(), desk.org("acme").held), (vec![1, 2], 0));
}

#[test]
fn whoever_fell_behind_catches_up_although_more_keeps_coming() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.scheduler.note("acme", Seq(2));
    let read = desk.reads().remove(0);
    // The read looks now; what follows is committed while its answer travels.
    desk.offer("acme", 3, "cid");
    desk.offer("acme", 4, "dee");
    desk.answer(&read, &[(1, "ann"), (2, "bob")]);
    assert_eq!(desk.start(), [1, 2, 3, 4]);
    assert!(desk.reads().is_empty(), "nothing is read any more");
    desk.offer("acme", 5, "eve");
    assert_eq!(desk.start(), [5], "fresh ones are taken as they come");
}

#[test]
fn a_read_may_bring_less_than_it_was_asked_for() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.scheduler.note("acme", Seq(3));
    let read = desk.reads().remove(0);
    // The queue bounds a read by bytes as well; nothing tells that from the end of what waits.
    desk.answer(&read, &[(1, "l1")]);
    assert_eq!(desk.read(&[(1, "l1"), (2, "l2"), (3, "l3")]).which, after(1, 25));
    assert_eq!(desk.start(), [1, 2, 3]);
    assert!(desk.reads().is_empty());
}

#[test]
fn a_noted_number_that_has_ended_in_the_meantime_does_no_harm() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.scheduler.note("acme", Seq(5));
    desk.offer("acme", 6, "ann");
    assert_eq!(desk.start(), NOTHING);
    desk.read(&[(6, "ann")]);
    assert_eq!(desk.start(), [6]);
    desk.scheduler.note("acme", Seq(8));
    desk.read(&[]);
    desk.offer("acme", 9, "bob");
    assert_eq!(desk.start(), [9]);
}

#[test]
fn a_failed_read_is_asked_for_again() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.scheduler.note("acme", Seq(1));
    let read = desk.reads().remove(0);
    assert!(desk.reads().is_empty(), "one read at a time");
    desk.scheduler.read_failed(&read, desk.now);
    assert_eq!(desk.read(&[(1, "ann")]), read);
    assert_eq!(desk.start(), [1]);
}

#[test]
fn what_is_read_keeps_its_due_time() {
    let mut desk = Desk::unread(LIMITS, &[("acme", 10)]);
    let read = desk.reads().remove(0);
    let found = vec![Item { due: Some(at(9)), ..item(1, "ann") }, item(2, "ann"), item(3, "bob")];
    desk.scheduler.read(&read, found.into_iter().map(Found::Item).collect(), START);
    assert_eq!(desk.start(), [3]);
    desk.now = at(9);
    assert_eq!(desk.start(), [1]);
}

// === weights and shares ===

fn weighted(weight: usize) -> Share {
    Share { weight, ..share(100) }
}

#[test]
fn weights_share_out_the_starts() {
    let mut desk = Desk::new(Limits { in_flight: 1, ..LIMITS }, &[("acme", 100), ("big", 100)]);
    desk.scheduler.serve(&Arc::from("big"), weighted(3), START);
    for seq in 0..40 {
        desk.offer("acme", 100 + seq, &format!("a{seq}"));
        desk.offer("big", 200 + seq, &format!("b{seq}"));
    }
    let mut started = Vec::new();
    for _ in 0..16 {
        let next = desk.start();
        assert_eq!(next.len(), 1);
        started.push(next[0] / 100);
        desk.end(next[0], GOOD);
    }
    assert_eq!(started, [1, 2, 2, 2, 1, 2, 2, 2, 1, 2, 2, 2, 1, 2, 2, 2]);
}

#[test]
fn nobody_takes_the_whole_global_limit_while_there_are_others() {
    let names: Vec<String> = (0..12).map(|it| format!("slow{it}")).chain(["acme".to_owned()]).collect();
    let served: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1_000)).collect();
    let mut desk = Desk::new(Limits { window: 1_000, ..LIMITS }, &served);
    let mut seq = 0;
    let mut flood = |desk: &mut Desk, name: &str| {
        for lane in 0..200 {
            seq += 1;
            desk.offer(name, seq, &format!("l{lane}"));
        }
    };
    flood(&mut desk, "slow0");
    assert_eq!(desk.start().len(), 80, "one that has nobody beside it leaves a fifth");
    for name in &names[1..12] {
        flood(&mut desk, name);
    }
    desk.start();
    let first: Vec<u64> = desk.in_flight.keys().copied().filter(|seq| *seq <= 200).collect();
    assert_eq!(first.len(), 80, "nothing in flight is taken back");
    for seq in first {
        desk.end(seq, GOOD);
        desk.start();
    }
    // All twelve are slow: nothing of theirs ends. Whoever comes now still finds room.
    let most = desk.scheduler.standings().map(|(_, it)| it.in_flight).max();
    assert!(most <= Some(12), "{most:?}");
    assert!(desk.in_flight.len() <= 98, "nothing is left");
    flood(&mut desk, "acme");
    let mut done = 0;
    while done < 100 {
        let started = desk.start();
        assert!(!started.is_empty(), "the slow ones keep it from going on");
        for seq in started {
            desk.end(seq, GOOD);
            done += 1;
        }
    }
}

#[test]
fn one_alone_may_have_the_whole_global_limit() {
    let mut desk = Desk::new(LIMITS, &[("acme", 1_000)]);
    for seq in 1..=100 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start().len(), 100);
}

#[test]
fn retries_and_fresh_events_do_not_starve_each_other() {
    let mut desk = Desk::new(Limits { window: 1_000, failing_lanes: 1_000, ..LIMITS }, &[("acme", 16)]);
    let lane = |seq: u64| format!("l{seq}");
    // Two hundred retries are due.
    for seq in 1..=200 {
        desk.offer("acme", seq, &lane(seq));
    }
    let mut failed = 0;
    while failed < 200 {
        for seq in desk.start() {
            desk.again(seq, &lane(seq), at(60), FAILED);
            failed += 1;
        }
    }
    desk.now = at(60);
    assert_eq!(desk.start().len(), 14, "alone they leave an eighth free");
    desk.offer("acme", 300, "ann");
    assert_eq!(desk.start(), [300], "a fresh one goes at once");
    // Two hundred fresh ones come: one start in four is a retry.
    for seq in 301..=500 {
        desk.offer("acme", seq, &lane(seq));
    }
    let mut started = desk.start();
    while started.len() < 80 {
        let next = *desk.in_flight.keys().min().expect("something is in flight");
        desk.end(next, GOOD);
        started.extend(desk.start());
    }
    let retries = started.iter().filter(|seq| **seq <= 200).count();
    assert!((10..=30).contains(&retries), "{retries} of {} starts: {started:?}", started.len());
}

// === rate and concurrency ===

#[test]
fn a_rate_limit_is_kept() {
    let mut desk = Desk::new(LIMITS, &[("acme", 100)]);
    desk.scheduler.serve(&Arc::from("acme"), Share { rate: Some(20), ..share(100) }, START);
    for seq in 1..=10 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2], "a tenth of a second's worth");
    desk.end(1, EndpointNews { attempts: 2, ..GOOD });
    desk.end(2, EndpointNews { attempts: 0, ..GOOD });
    assert_eq!(desk.scheduler.next_tick(), Some(START.plus(Duration::from_millis(50))));
    for ms in (0..400).step_by(50) {
        desk.now = START.plus(Duration::from_millis(50 + ms));
        let started = desk.start();
        assert_eq!(started.len(), 1, "at {ms} ms");
        desk.end(started[0], GOOD);
    }
    desk.now = at(10);
    assert_eq!(desk.start(), NOTHING, "all are done");
}

#[test]
fn a_limit_starts_low_and_grows_while_it_is_pushed_against() {
    let mut desk = Desk::new(LIMITS, &[("acme", 64)]);
    desk.org("acme").endpoints.of_mut(Endpoint::Event).concurrency = Concurrency::new();
    desk.org("acme").set_permits();
    for seq in 1..=100 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    let good = EndpointNews { latency: Some(Duration::from_millis(100)), ..GOOD };
    let mut widths = Vec::new();
    loop {
        let started = desk.start();
        if started.is_empty() {
            break;
        }
        widths.push(started.len());
        for seq in started {
            desk.end(seq, good);
        }
    }
    assert_eq!(widths[..4], [4, 8, 16, 32], "{widths:?}");
    let mut before = 0;
    for seq in 101..=300 {
        if seq == 200 {
            before = desk.org("acme").endpoints.of_mut(Endpoint::Event).concurrency.limit(64);
        }
        desk.offer("acme", seq, &format!("l{seq}"));
        assert_eq!(desk.start(), [seq]);
        desk.end(seq, good);
    }
    assert_eq!(
        desk.org("acme").endpoints.of_mut(Endpoint::Event).concurrency.limit(64),
        before,
        "one at a time proves nothing"
    );
}

// === breaker ===

#[test]
fn lanes_that_fail_in_a_row_open_the_breaker() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20), ("other", 20)]);
    for seq in 1..=8 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start().len(), 8);
    for seq in 1..=4 {
        desk.again(seq, &format!("l{seq}"), START, FAILED);
    }
    assert_eq!(desk.status(), Status::Active);
    desk.again(5, "l5", START, FAILED);
    let open = Status::Tripped { until: at(1), failures: 0 };
    assert_eq!(desk.status(), open);
    desk.again(6, "l6", START, FAILED);
    desk.end(7, GOOD);
    assert_eq!(desk.status(), open, "what was under way does not count");
    desk.end(8, GOOD);
    desk.offer("other", 20, "ann");
    desk.offer("acme", 9, "l9");
    assert_eq!(desk.start(), [20]);
    for (failures, wait) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
        let failures = u32::try_from(failures).unwrap();
        let until = desk.now.plus(Duration::from_secs(wait));
        assert_eq!(desk.status(), Status::Tripped { until, failures });
        desk.now = UnixMillis(until.0 - 1);
        assert_eq!(desk.start(), NOTHING);
        desk.now = until;
        let probes = desk.start();
        assert_eq!(probes.len(), 3, "a few");
        assert_eq!(desk.status(), Status::Probing { why: Why::Failing, failures });
        if failures == 0 {
            assert_eq!(probes[0], 9, "what has never failed goes first");
        }
        for probe in probes {
            desk.again(probe, &format!("l{probe}"), desk.now, FAILED);
        }
    }
    desk.now = desk.now.plus(Duration::from_secs(30));
    let probes = desk.start();
    desk.end(probes[0], OTHER);
    assert_eq!(desk.status(), Status::Active, "a refusal of the event shows Wigzo at work");
    assert_eq!(desk.start().len(), 4, "everything goes on");
}

/// One request may have put many events that fail next to each other, at the front.
#[test]
fn probes_look_elsewhere() {
    const TICKS: u64 = 100;
    let mut desk = Desk::new(Limits { window: 10_000, ..LIMITS }, &[("acme", 64)]);
    for seq in 1..=1_000 {
        desk.offer("acme", seq, &format!("poison{seq}"));
    }
    let mut delivered = 0;
    for tick in 0..TICKS {
        desk.now = START.plus(Duration::from_millis(100 * tick));
        for seq in 0..10 {
            let seq = 1_001 + tick * 10 + seq;
            desk.offer("acme", seq, &format!("l{seq}"));
        }
        for seq in desk.start() {
            if seq <= 1_000 {
                desk.fails(seq, &format!("poison{seq}"), at(3_600), Some(desk.now), FAILED);
            } else {
                desk.end(seq, GOOD);
                delivered += 1;
            }
        }
    }
    assert!(delivered >= TICKS * 8, "{delivered} of {}", TICKS * 10);
}

#[test]
fn one_endpoint_does_not_stop_another() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    let identify = |seq: u64| Item { endpoint: Endpoint::Identify, ..item(seq, &format!("l{seq}")) };
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1]);
    desk.end(1, GOOD);
    for seq in 2..=10 {
        desk.scheduler.offer("acme", identify(seq), START);
    }
    let started = desk.start();
    assert_eq!(started.len(), 4, "its own limit is not found yet");
    desk.offer("acme", 20, "bob");
    assert_eq!(desk.start(), [20], "one that hangs takes no place of the other");
    desk.end(20, GOOD);
    for seq in started {
        desk.again(seq, &format!("l{seq}"), at(1), FAILED);
    }
    let more = desk.start();
    for seq in more {
        desk.again(seq, &format!("l{seq}"), at(1), FAILED);
    }
    assert!(matches!(desk.status(), Status::Tripped { .. }), "{:?}", desk.status());
    let whole = desk.scheduler.standings().next().unwrap().1.status;
    assert!(matches!(whole, Status::Tripped { .. }), "nothing has succeeded since: {whole:?}");
    desk.offer("acme", 21, "bob");
    desk.now = START.plus(Duration::from_millis(10));
    assert!(desk.start().contains(&21));
    desk.end(21, GOOD);
    let whole = desk.scheduler.standings().next().unwrap().1.status;
    assert_eq!(whole, Status::Active, "the organization is at work");
}

/// Which endpoint an event needs is only known when it has been mapped.
#[test]
fn a_closed_endpoint_does_not_hold_back_what_needs_another() {
    let mut desk = Desk::new(Limits { failing_lanes: 1, ..LIMITS }, &[("acme", 20)]);
    let identify = |seq: u64| Item { endpoint: Endpoint::Identify, ..item(seq, &format!("l{seq}")) };
    desk.offer("acme", 1, "ann");
    desk.scheduler.offer("acme", identify(2), START);
    assert_eq!(desk.start().len(), 2);
    desk.end(1, GOOD);
    desk.again(2, "l2", at(3_600), FAILED);
    desk.now = START.plus(Duration::from_millis(10));
    desk.offer("acme", 3, "ann");
    assert_eq!(desk.start(), [3]);
    desk.end(3, GOOD);
    desk.scheduler.offer("acme", identify(4), START);
    desk.scheduler.offer("acme", identify(5), START);
    assert_eq!(desk.start(), [4, 5], "to see whether it needs the endpoint at all");
    let (mut ticket, mut permit) = desk.in_flight.remove(&4).unwrap();
    assert_eq!(permit.change_to(Endpoint::Identify, false), Err(Blocked(Endpoint::Identify)));
    desk.scheduler.called(&mut ticket, Some(permit), &News::default(), desk.now);
    drop(desk.scheduler.finish(ticket, Finish::Blocked(identify(4)), News::default(), desk.now));
    let (_, permit) = desk.in_flight.get_mut(&5).unwrap();
    assert_eq!(permit.change_to(Endpoint::Event, false), Ok(()), "this one needs another one");
    desk.end(5, GOOD);
    assert_eq!(desk.start(), NOTHING, "it is not looked at again");
    desk.now = at(1);
    assert_eq!(desk.start(), [4], "the probe");
}

#[test]
fn where_no_connection_can_be_made_the_whole_organization_waits() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    for seq in 1..=6 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start().len(), 6);
    for seq in 1..=5 {
        desk.again(seq, &format!("l{seq}"), START, UNREACHABLE);
    }
    let whole = |desk: &Desk| desk.scheduler.standings().next().unwrap().1.status;
    assert_eq!(whole(&desk), Status::Tripped { until: at(1), failures: 0 });
    let identify = Item { endpoint: Endpoint::Identify, ..item(7, "l7") };
    desk.scheduler.offer("acme", identify, START);
    assert_eq!(desk.start(), NOTHING, "whatever it needs");
    desk.again(6, "l6", START, UNKNOWN);
    desk.now = at(1);
    let probes = desk.start();
    assert_eq!(probes.len(), 3);
    desk.end(probes[0], FAILED);
    assert_eq!(whole(&desk), Status::Active, "any answer shows that connections can be made");
}

#[test]
fn one_lane_alone_opens_no_breaker() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    desk.offer("acme", 1, "ann");
    for _ in 0..50 {
        assert_eq!(desk.start(), [1]);
        desk.again(1, "ann", desk.now, FAILED);
    }
    assert_eq!(desk.status(), Status::Active);
}

#[test]
fn an_answer_that_shows_wigzo_at_work_ends_the_row() {
    for answer in [GOOD, OTHER] {
        let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
        for seq in 1..=9 {
            desk.offer("acme", seq, &format!("l{seq}"));
        }
        desk.start();
        for seq in [1, 2, 3, 4] {
            desk.again(seq, &format!("l{seq}"), at(60), FAILED);
        }
        desk.end(5, answer);
        for seq in [6, 7, 8, 9] {
            desk.again(seq, &format!("l{seq}"), at(60), FAILED);
        }
        assert_eq!(desk.status(), Status::Active);
    }
}

// === an operator's word ===

#[test]
fn a_paused_organization_waits_for_the_operator_who_ends_every_pause() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "bob");
    assert_eq!(desk.start(), [1, 2]);
    desk.scheduler.pause("acme", desk.now);
    desk.again(1, "ann", at(600), pause(at(600)));
    desk.end(2, GOOD);
    desk.offer("acme", 3, "bob");
    desk.now = at(30);
    assert_eq!((desk.start(), desk.status()), (vec![], Status::Paused));
    desk.scheduler.resume("acme", desk.now);
    assert_eq!((desk.start(), desk.status()), (vec![3, 1], Status::Active), "Wigzo's pause too");
}

#[test]
fn a_corrected_token_resumes_at_once() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    for seq in 1..=5 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3, 4, 5]);
    for seq in 1..=3 {
        desk.again(seq, &format!("l{seq}"), START, REFUSED);
    }
    assert!(matches!(desk.status(), Status::Suspended { .. }));
    desk.scheduler.correct("acme", START);
    let mut started = desk.start();
    started.sort_unstable();
    assert_eq!((started, desk.status()), (vec![1, 2, 3], Status::Active));
    for seq in 4..=5 {
        desk.again(seq, &format!("l{seq}"), at(60), REFUSED);
    }
    desk.again(1, "l1", at(60), refused(at(600)));
    assert_eq!(desk.status(), Status::Throttled(at(600)), "only this was said of the new one");
}

/// The gate need not have shut for that: what is in flight has begun with the old token.
#[test]
fn what_the_old_token_brings_after_the_correction_does_not_count() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1]);
    desk.scheduler.correct("acme", START);
    desk.again(1, "ann", START, REFUSED);
    assert_eq!((desk.start(), desk.status()), (vec![1], Status::Active));
}

#[test]
fn what_waits_for_another_try_goes_at_once_after_a_correction() {
    let mut desk = Desk::new(Limits { failing_lanes: 2, ..LIMITS }, &[("acme", 20)]);
    for (seq, lane) in [(1, "ann"), (2, "bob"), (3, "ann"), (4, "cid")] {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.start(), [1, 2, 4]);
    for (seq, lane) in [(1, "ann"), (2, "bob")] {
        desk.again(seq, lane, at(3_600), FAILED);
    }
    desk.again(4, "cid", at(3_600), pause(at(60)));
    assert!(matches!(desk.status(), Status::Tripped { .. }));
    desk.scheduler.pause("acme", desk.now);
    desk.scheduler.correct("acme", START);
    desk.scheduler.correct("nobody", START);
    assert_eq!(
        (desk.start(), desk.status()),
        (NOTHING.to_vec(), Status::Paused),
        "an operator's pause goes on"
    );
    desk.scheduler.resume("acme", desk.now);
    let mut started = desk.start();
    started.sort_unstable();
    assert_eq!(started, [1, 2, 4], "in the order of their lanes");
}

#[test]
fn what_waits_can_be_retried_now() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    for (seq, lane) in [(1, "ann"), (2, "bob"), (3, "cid")] {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.start(), [1, 2, 3]);
    for (seq, lane) in [(1, "ann"), (2, "bob"), (3, "cid")] {
        desk.again(seq, lane, at(3_600), OTHER);
    }
    let named = [(LaneKey::of("bob"), Seq(2)), (LaneKey::of("cid"), Seq(9))];
    assert!(desk.scheduler.retry_now("acme", Some(&named), false, desk.now));
    assert!(!desk.scheduler.retry_now("nobody", None, false, desk.now));
    assert_eq!(desk.start(), [2]);
    assert!(desk.scheduler.retry_now("acme", None, false, desk.now));
    let mut started = desk.start();
    started.sort_unstable();
    assert_eq!(started, [1, 3]);
}

#[test]
fn parked_events_that_are_retried_now_are_read_at_once() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    desk.org("acme").parked.note(at(3_600));
    let now = desk.now;
    desk.scheduler.retry_now("acme", Some(&[]), true, now);
    let which: Vec<Which> = desk.reads().into_iter().map(|read| read.which).collect();
    assert!(matches!(which[..], [Which::Parked { .. }]), "{which:?}");
}

#[test]
fn what_was_read_before_a_retry_is_read_again() {
    let mut desk = Desk::unread(LIMITS, &[("acme", 20)]);
    let read = desk.reads().remove(0);
    let now = desk.now;
    desk.scheduler.retry_now("acme", None, false, now);
    let waits = Item { due: Some(at(3_600)), ..item(1, "ann") };
    desk.scheduler.read(&read, vec![Found::Item(waits)], now);
    let read = desk.reads().remove(0);
    desk.scheduler.read(&read, vec![Found::Item(Item { due: Some(now), ..item(1, "ann") })], now);
    assert_eq!(desk.start(), [1]);
}

// === dismissing ===

#[test]
fn a_dismissed_organization_starts_nothing_and_leaves_no_memory() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10), ("other", 10)]);
    for (seq, lane) in [(1, "ann"), (2, "ann"), (3, "bob")] {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.start(), [1, 3]);
    desk.scheduler.dismiss("acme");
    desk.scheduler.dismiss("nobody");
    assert!(!desk.scheduler.offer("acme", item(4, "cid"), desk.now), "it stays in the queue");
    assert!(!desk.scheduler.offer("nobody", item(4, "cid"), desk.now));
    desk.scheduler.note("acme", Seq(4));
    assert_eq!(desk.start(), NOTHING);
    assert!(desk.reads().is_empty());
    assert_eq!((desk.org("acme").held, desk.org("acme").stubs), (0, 0));
    assert_eq!(desk.scheduler.standings().count(), 1, "it is not shown any more");
    desk.again(1, "ann", START, GOOD);
    desk.end(3, GOOD);
    assert!(!desk.scheduler.names.contains_key("acme"), "nothing of it is in flight any more");
    desk.offer("other", 5, "ann");
    assert_eq!(desk.start(), [5], "the others go on");
}

#[test]
fn who_comes_back_is_read_from_the_beginning_once_nothing_is_in_flight() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    let acme: Arc<str> = Arc::from("acme");
    for (seq, lane) in [(1, "ann"), (2, "ann"), (3, "bob")] {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.start(), [1, 3]);
    desk.scheduler.dismiss("acme");
    desk.scheduler.serve(&acme, share(10), desk.now);
    desk.offer("acme", 4, "cid");
    assert!(desk.reads().is_empty() && desk.start().is_empty(), "1 and 3 would be worked twice");
    desk.end(1, GOOD);
    desk.again(3, "bob", at(5), UNKNOWN);
    let reads = desk.reads();
    assert!(matches!(reads[0].which, Which::After { after: Seq(0), .. }), "{reads:?}");
    desk.answer(&reads[0], &[(2, "ann"), (3, "bob"), (4, "cid")]);
    assert_eq!(desk.start(), [2, 3, 4]);
}

#[test]
fn a_read_from_before_the_dismissal_says_nothing() {
    let mut desk = Desk::unread(LIMITS, &[("acme", 10)]);
    let acme: Arc<str> = Arc::from("acme");
    let first = desk.reads().remove(0);
    desk.answer(&first, &[(1, "ann")]);
    let late = desk.reads().remove(0);
    assert!(matches!(late.which, Which::After { after: Seq(1), .. }), "{late:?}");
    desk.scheduler.dismiss("acme");
    desk.scheduler.serve(&acme, share(10), desk.now);
    let reads = desk.reads();
    desk.answer(&late, &[(2, "bob")]);
    assert_eq!(desk.start(), NOTHING, "or 1 would be passed over");
    desk.scheduler.read_failed(&late, desk.now);
    assert!(desk.reads().is_empty(), "the new read is still under way");
    for read in reads {
        desk.answer(&read, &[(1, "ann"), (2, "bob")]);
    }
    assert_eq!(desk.start(), [1, 2]);
}

#[test]
fn other_limits_hold_at_once() {
    let mut desk = Desk::new(Limits { in_flight: 1, ..LIMITS }, &[("acme", 10)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "bob");
    assert_eq!(desk.start(), [1]);
    desk.scheduler.set_limits(Limits { failing_lanes: 1, ..LIMITS });
    assert_eq!(desk.start(), [2]);
    desk.again(2, "bob", START, FAILED);
    assert!(matches!(desk.status(), Status::Tripped { .. }), "{:?}", desk.status());
}

// === parking ===

/// Fails one lane's event at these seconds while another lane is delivered; when it is to be parked.
fn parks(hold: Option<Duration>, trouble: impl Fn(&mut Desk, u64)) -> Option<u64> {
    let mut desk = Desk::new(Limits { lane_hold: hold, ..LIMITS }, &[("acme", 20)]);
    desk.offer("acme", 1, "ann");
    for seconds in (0..3_000).step_by(60) {
        desk.now = at(seconds);
        desk.offer("acme", 1_000 + seconds * 1_000, "bob");
        for seq in desk.start() {
            if seq == 1 {
                if desk.fails(1, "ann", at(seconds + 60), Some(START), FAILED) {
                    return Some(seconds);
                }
            } else {
                desk.end(seq, GOOD);
            }
        }
        trouble(&mut desk, seconds);
    }
    None
}

#[test]
fn an_event_that_fails_alone_is_parked_after_the_hold() {
    let quarter = Some(Duration::from_mins(15));
    assert_eq!(parks(quarter, |_, _| {}), Some(900));
    assert_eq!(parks(None, |_, _| {}), None, "never");
    // The organization is suspended for some minutes: from its recovery on, the time counts anew.
    let suspended = |length: u64| {
        move |desk: &mut Desk, seconds: u64| {
            if seconds != 600 {
                return;
            }
            let mut refused = 0;
            while desk.now < at(600 + length) {
                for lane in ["cid", "dee", "eve"] {
                    refused += 1;
                    desk.offer("acme", 601_000 + refused, lane);
                }
                for seq in desk.start() {
                    if seq == 1 {
                        assert!(!desk.fails(1, "ann", at(660 + length), Some(START), FAILED));
                    } else {
                        desk.end(seq, REFUSED);
                    }
                }
                desk.now = desk.now.plus(Duration::from_secs(10));
            }
        }
    };
    assert_eq!(parks(quarter, suspended(20)), Some(900), "a short one cannot be the cause");
    assert!(parks(quarter, suspended(400)) > Some(1_800));
}

/// Where nothing shows that an event fails alone, one is left behind, so that what follows can show it.
#[test]
fn one_event_is_parked_on_credit_and_no_more() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    for (seq, lane) in [(1, "ann"), (2, "ann"), (3, "bob"), (4, "bob"), (5, "cid")] {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.start(), [1, 3, 5]);
    for (seq, lane) in [(1, "ann"), (3, "bob"), (5, "cid")] {
        assert!(!desk.fails(seq, lane, at(1_000), Some(START), FAILED), "{seq}");
    }
    desk.now = at(1_000);
    let mut parked = Vec::new();
    for seq in desk.start() {
        let lane = match seq {
            1 => "ann",
            3 => "bob",
            _ => "cid",
        };
        if desk.fails(seq, lane, at(2_000), Some(START), FAILED) {
            parked.push(seq);
        }
    }
    assert_eq!(parked.len(), 1, "{parked:?}");
    assert_ne!(parked, [5], "nothing waits behind that one");
    let next = parked[0] + 1;
    assert_eq!(desk.start(), [next]);
    desk.end(next, GOOD);
    let mut others = Vec::new();
    while let Some((ticket, item)) = desk.scheduler.next_to_park(desk.now) {
        others.push(item.seq.0);
        drop(desk.scheduler.finish(ticket, Finish::Parked(at(3_000)), News::default(), desk.now));
    }
    others.sort_unstable();
    let rest: Vec<u64> = [1, 3, 5].into_iter().filter(|seq| *seq != parked[0]).collect();
    assert_eq!(others, rest, "it was not Wigzo: those that failed as long need not be tried again for that");
}

/// An endpoint that fails for long holds up no user's other events.
#[test]
fn what_waits_for_a_closed_endpoint_is_parked_while_others_succeed() {
    let mut desk = Desk::new(Limits { failing_lanes: 2, ..LIMITS }, &[("acme", 20)]);
    let identify = |seq: u64, lane| Item { endpoint: Endpoint::Identify, ..item(seq, lane) };
    for (seq, lane) in [(1, "ann"), (2, "bob")] {
        desk.scheduler.offer("acme", identify(seq, lane), START);
    }
    assert_eq!(desk.start(), [1, 2]);
    for (seq, lane) in [(1, "ann"), (2, "bob")] {
        let (mut ticket, permit) = desk.in_flight.remove(&seq).unwrap();
        desk.scheduler.called(&mut ticket, Some(permit), &News::at(Endpoint::Identify, FAILED), START);
        let failed = Item { due: Some(at(3_000)), failing_since: Some(START), ..identify(seq, lane) };
        drop(desk.scheduler.finish(ticket, Finish::Again(failed), News::default(), START));
    }
    desk.offer("acme", 3, "ann");
    for minute in 1..15 {
        desk.now = at(60 * minute);
        desk.offer("acme", 100 + minute, "cid");
        let started = desk.start();
        assert!(started.contains(&(100 + minute)) && !started.contains(&3), "{started:?}");
        desk.end(100 + minute, GOOD);
        assert!(desk.scheduler.next_to_park(desk.now).is_none(), "after {minute} minutes");
    }
    desk.now = at(901);
    desk.offer("acme", 200, "cid");
    assert_eq!(desk.start(), [200]);
    desk.end(200, GOOD);
    desk.now = at(903);
    desk.scheduler.tick(desk.now);
    let mut parked = Vec::new();
    while let Some((ticket, item)) = desk.scheduler.next_to_park(desk.now) {
        parked.push(item.seq.0);
        drop(desk.scheduler.finish(ticket, Finish::Parked(at(3_000)), News::default(), desk.now));
    }
    parked.sort_unstable();
    assert_eq!(parked, [1, 2]);
    assert_eq!(desk.start(), [3], "their users' other events go on");
}

#[test]
fn a_parked_envelope_is_worked_by_itself_and_its_lane_goes_on() {
    let mut desk = Desk::new(Limits { lane_hold: Some(Duration::ZERO), ..LIMITS }, &[("acme", 20)]);
    for (seq, lane) in [(1, "ann"), (2, "ann"), (3, "bob")] {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.start(), [1, 3]);
    desk.end(3, GOOD);
    assert!(desk.fails(1, "ann", at(10), Some(START), FAILED));
    assert_eq!(desk.start(), [2], "its lane goes on");
    desk.end(2, GOOD);
    assert_eq!((desk.org("acme").held, desk.org("acme").lanes.len()), (0, 0));
    assert!(desk.reads().is_empty(), "not due yet");
    assert_eq!(desk.scheduler.next_tick(), Some(at(10)));
    desk.now = at(10);
    desk.offer("acme", 4, "ann");
    assert_eq!(desk.start(), [4]);
    let read = desk.reads().remove(0);
    assert_eq!(read.which, Which::Parked { limit: parked::BATCH });
    let parked = |due| Item { due: Some(due), failing_since: Some(START), ..item(1, "ann") };
    desk.scheduler.read(&read, vec![Found::Item(parked(at(10)))], desk.now);
    assert_eq!(desk.start(), NOTHING, "a person's calls are never made side by side");
    desk.end(4, GOOD);
    assert_eq!(desk.start(), [1]);
    desk.offer("acme", 5, "ann");
    assert_eq!(desk.start(), NOTHING);
    let ticket = desk.called(1, FAILED);
    assert!(matches!(
        desk.scheduler.finish(ticket, Finish::Parked(at(20)), News::default(), desk.now),
        Finished::Done
    ));
    assert_eq!(desk.start(), [5]);
    // After the batch it is looked whether there is more.
    let read = desk.reads().remove(0);
    desk.scheduler.read(&read, vec![Found::Item(parked(at(20)))], desk.now);
    desk.end(5, GOOD);
    assert!(desk.start().is_empty() && desk.reads().is_empty());
    assert_eq!(desk.scheduler.next_tick(), Some(at(20)));
}

// === retirement ===

#[test]
fn an_organization_that_is_retired_is_let_go_when_nothing_of_it_is_left() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10), ("guest", 10)]);
    let is_known = |desk: &Desk| desk.scheduler.names.contains_key("guest");
    desk.offer("guest", 1, "asha");
    desk.scheduler.retire("guest");
    desk.scheduler.retire("nobody");
    assert_eq!(desk.start(), [1], "what is held is worked");
    desk.again(1, "asha", at(10), UNKNOWN);
    assert!(is_known(&desk), "it waits for another try");
    desk.now = at(10);
    assert_eq!(desk.start(), [1]);
    desk.offer("guest", 2, "ravi");
    desk.end(1, pause(at(60)));
    assert_eq!(desk.start(), NOTHING);
    desk.now = at(60);
    assert_eq!(desk.start(), [2], "what is offered until then is worked too");
    desk.end(2, pause(at(90)));
    assert!(is_known(&desk), "a pause ends at its time");
    desk.scheduler.note("guest", Seq(3));
    desk.now = at(90);
    assert_eq!(desk.start(), NOTHING);
    assert!(is_known(&desk), "something is to be read");
    desk.read(&[(3, "asha")]);
    assert_eq!(desk.start(), [3]);
    desk.end(3, REFUSED);
    assert!(!is_known(&desk), "nobody is left to probe");
    assert_eq!(desk.status(), Status::Active);
    desk.offer("guest", 4, "asha");
    assert_eq!(desk.start(), NOTHING, "nobody's event stays in the queue");

    // The next one takes its place, and nothing else of it: not its gate, not its numbers, not its timers.
    desk.scheduler.serve(&Arc::from("other"), share(1), desk.now);
    assert_eq!(desk.scheduler.organizations.len(), 2);
    for read in desk.reads() {
        desk.answer(&read, &[(4, "asha"), (5, "asha"), (6, "ravi")]);
    }
    assert_eq!(desk.start(), [4]);
    desk.now = at(10_000);
    assert_eq!(desk.start(), NOTHING, "its own limit holds");
    for (ended, next) in [(4, 6), (6, 5)] {
        desk.end(ended, GOOD);
        assert_eq!(desk.start(), [next]);
    }
}

#[test]
fn an_organization_that_is_served_again_stays() {
    let mut desk = Desk::new(LIMITS, &[("guest", 10)]);
    desk.offer("guest", 1, "asha");
    desk.scheduler.retire("guest");
    desk.scheduler.serve(&Arc::from("guest"), share(10), desk.now);
    assert_eq!(desk.start(), [1]);
    desk.end(1, GOOD);
    desk.offer("guest", 2, "asha");
    assert_eq!(desk.start(), [2]);
}

#[test]
fn a_retired_organization_goes_once_it_is_idle() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20), ("other", 20)]);
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1]);
    desk.scheduler.retire("acme");
    desk.offer("acme", 2, "ann");
    desk.end(1, GOOD);
    assert_eq!(desk.start(), [2], "what waits is worked first");
    desk.end(2, pause(at(60)));
    assert_eq!(desk.scheduler.standings().count(), 2, "the pause must not be forgotten");
    desk.now = at(60);
    desk.start();
    assert_eq!(desk.scheduler.standings().count(), 1);
    desk.offer("acme", 3, "ann");
    assert_eq!(desk.start(), NOTHING, "unknown now");
    desk.scheduler.serve(&Arc::from("acme"), share(20), desk.now);
    assert_eq!(desk.scheduler.organizations.len(), 2, "its place is used again");
    let reads = desk.reads();
    assert!(reads.iter().any(|read| matches!(read.which, Which::After { after: Seq(0), .. })), "{reads:?}");
    for read in reads {
        desk.answer(&read, &[(3, "ann")]);
    }
    assert_eq!(desk.start(), [3]);
}
