//! The promises of the scheduler, one by one; all at once under a random world in [`simulation`].

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

const UNKNOWN: News =
    News { answer: Answer::Unknown, pause: None, overloaded: false, latency: None, calls: 1 };
const GOOD: News = News { answer: Answer::Good, ..UNKNOWN };
const OTHER: News = News { answer: Answer::Other, ..UNKNOWN };
const FAILED: News = News { answer: Answer::Failed, ..UNKNOWN };
const REFUSED: News = News { answer: Answer::Refused, ..UNKNOWN };

fn pause(until: UnixMillis) -> News {
    News { pause: Some(until), ..UNKNOWN }
}

fn refused(until: UnixMillis) -> News {
    News { pause: Some(until), ..REFUSED }
}

fn share(max_in_flight: usize) -> Share {
    Share { weight: 1, max_in_flight, rate: None }
}

fn at(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

fn item(seq: u64, lane: &str) -> Item<()> {
    Item { seq: Seq(seq), lane: LaneKey::of(lane), due: None, failing_since: None, size: 1, load: () }
}

/// A scheduler at a time, with what is in flight by its number.
struct Desk {
    scheduler: Scheduler<()>,
    in_flight: HashMap<u64, Ticket>,
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
            org.concurrency = Concurrency::found(*max_in_flight);
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
        while let Some((ticket, item)) = self.scheduler.start(self.now) {
            self.in_flight.insert(item.seq.0, ticket);
            started.push(item.seq.0);
        }
        started
    }

    fn end(&mut self, seq: u64, news: News) {
        let ticket = self.in_flight.remove(&seq).expect("it is in flight");
        assert!(matches!(self.scheduler.finish(ticket, Finish::Ended, news, self.now), Finished::Done));
    }

    fn again(&mut self, seq: u64, lane: &str, due: UnixMillis, news: News) {
        assert!(!self.fails(seq, lane, due, None, news), "it is not parked");
    }

    /// The work on an envelope failed; whether it is to be parked. If so, it is.
    fn fails(
        &mut self,
        seq: u64,
        lane: &str,
        due: UnixMillis,
        failing_since: Option<UnixMillis>,
        news: News,
    ) -> bool {
        let ticket = self.in_flight.remove(&seq).expect("it is in flight");
        let item = Item { due: Some(due), failing_since, ..item(seq, lane) };
        match self.scheduler.finish(ticket, Finish::Again(item), news, self.now) {
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

    fn gate(&self) -> Gate {
        self.scheduler
            .standings()
            .map(|(_, standing)| standing.gate)
            .find(|gate| *gate != Gate::Open)
            .unwrap_or(Gate::Open)
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
                Which::After { after, .. } => Seq(*seq) > *after,
                Which::Numbers(numbers) => numbers.iter().any(|(_, number)| *number == Seq(*seq)),
                Which::Parked { .. } => false,
            })
            .take(match read.which {
                Which::After { limit, .. } => limit,
                Which::Numbers(_) | Which::Parked { .. } => usize::MAX,
            })
            .map(|&(seq, lane)| item(seq, lane))
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
    desk.org("acme").concurrency = Concurrency::found(4);
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
        shuts: 0,
        cuts: 0,
        retry: false,
        parked: false,
        heard: false,
    };
    desk.end(1, GOOD);
    assert!(matches!(desk.scheduler.finish(forged("ann", 0), Finish::Ended, GOOD, START), Finished::Done));
    assert!(matches!(
        desk.scheduler.finish(forged("nobody", 0), Finish::Ended, pause(at(9)), START),
        Finished::Done
    ));
    assert!(matches!(desk.scheduler.finish(forged("ann", 7), Finish::Ended, GOOD, START), Finished::Done));
    assert_eq!((desk.scheduler.in_flight(), desk.gate()), (0, Gate::Open));
    desk.offer("acme", 2, "ann");
    desk.offer("acme", 3, "ann");
    assert_eq!(desk.start(), [2]);
    assert!(matches!(
        desk.scheduler.finish(forged("bob", 0), Finish::Again(item(1, "bob")), UNKNOWN, START),
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
    assert_eq!(desk.gate(), Gate::Paused(at(60)));
    desk.now = at(59);
    assert_eq!(desk.start(), NOTHING);
    assert_eq!(desk.scheduler.next_tick(), Some(at(60)));
    desk.now = at(60);
    assert_eq!(desk.start(), [2, 1]);
    assert_eq!(desk.gate(), Gate::Open);
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
    assert_eq!(desk.gate(), Gate::Paused(at(60)), "and nobody shortens it");
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
fn a_suspended_organization_probes_with_doubling_waits() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=5 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3, 4, 5]);
    for seq in 1..=5 {
        desk.again(seq, &format!("l{seq}"), desk.now, REFUSED);
    }
    for (failures, wait) in [30, 60, 120, 240, 480, 600, 600].into_iter().enumerate() {
        let failures = u32::try_from(failures).unwrap();
        let until = desk.now.plus(Duration::from_secs(wait));
        assert_eq!(desk.gate(), Gate::Shut { why: Why::Refused, until, failures });
        desk.now = UnixMillis(until.0 - 1);
        assert_eq!(desk.start(), NOTHING, "before probe {failures}");
        desk.now = until;
        let probe = desk.start();
        assert_eq!(probe.len(), 1, "a single one");
        assert_eq!(desk.gate(), Gate::Probing { why: Why::Refused, failures });
        desk.again(probe[0], &format!("l{}", probe[0]), desk.now, REFUSED);
    }
}

#[test]
fn success_of_a_probe_resumes_everything() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=3 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3]);
    desk.again(1, "l1", START, REFUSED);
    desk.end(2, GOOD);
    assert_eq!(desk.start(), NOTHING, "what was answered before says nothing about the time after");
    desk.again(3, "l3", START, UNKNOWN);
    desk.now = at(30);
    assert_eq!(desk.start(), [1]);
    desk.end(1, GOOD);
    assert_eq!((desk.start(), desk.gate()), (vec![3], Gate::Open));
    desk.end(3, REFUSED);
    assert_eq!(
        desk.gate(),
        Gate::Shut { why: Why::Refused, until: at(60), failures: 0 },
        "and the doubling starts anew"
    );
}

#[test]
fn what_was_under_way_does_not_count_as_a_probe() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=3 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3]);
    desk.again(1, "l1", START, REFUSED);
    desk.now = at(30);
    assert_eq!(desk.start(), NOTHING, "what is under way is in the probe's way");
    desk.again(2, "l2", desk.now, REFUSED);
    assert_eq!(desk.gate(), Gate::Probing { why: Why::Refused, failures: 0 });
    desk.end(3, GOOD);
    assert_eq!(desk.start().len(), 1, "now the probe");
    assert_eq!(desk.gate(), Gate::Probing { why: Why::Refused, failures: 0 });
}

#[test]
fn a_probe_that_learns_nothing_lets_the_next_one_go() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=3 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3]);
    for seq in 1..=3 {
        desk.again(seq, &format!("l{seq}"), START, REFUSED);
    }
    desk.now = at(30);
    for probe in 1..=3 {
        assert_eq!(desk.start(), [probe], "filtered ones make no call");
        desk.end(probe, UNKNOWN);
    }
    desk.offer("acme", 4, "l4");
    desk.offer("acme", 5, "l5");
    assert_eq!(desk.start(), [4], "a fresh one probes too");
}

#[test]
fn retry_after_and_suspension_add_up_to_the_later_time() {
    // A pause first: the probe waits for its end.
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "bob");
    assert_eq!(desk.start(), [1, 2]);
    desk.again(1, "ann", START, pause(at(300)));
    desk.again(2, "bob", START, REFUSED);
    assert_eq!(desk.gate(), Gate::Shut { why: Why::Refused, until: at(300), failures: 0 });
    desk.now = at(299);
    assert_eq!(desk.start(), NOTHING);
    desk.now = at(300);
    assert_eq!(desk.start().len(), 1);

    // A suspension first: a pause prolongs it, and does not end it.
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "bob");
    assert_eq!(desk.start(), [1, 2]);
    desk.again(1, "ann", START, refused(at(100)));
    assert_eq!(
        desk.gate(),
        Gate::Shut { why: Why::Refused, until: at(100), failures: 0 },
        "Retry-After of the refusal"
    );
    desk.again(2, "bob", START, pause(at(300)));
    desk.now = at(299);
    assert_eq!(desk.start(), NOTHING);
    desk.now = at(300);
    let probe = desk.start();
    assert_eq!(probe.len(), 1);
    // The probe is told to wait: that is no proof that the token is good again.
    desk.end(probe[0], pause(at(400)));
    assert_eq!(desk.gate(), Gate::Shut { why: Why::Refused, until: at(400), failures: 0 });
    desk.offer("acme", 3, "cid");
    desk.now = at(400);
    assert_eq!(desk.start().len(), 1, "still one at a time");
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
    desk.scheduler.read(&reads[0], vec![big(2, 6), big(3, 6), big(4, 6)], START);
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
            assert!(matches!(read.which, Which::Numbers(_)), "{read:?}");
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
    assert_eq!((org.held, org.stubs), (3, 40), "ten for each place, and then no more is read");
    assert!(reads < 50, "{reads}");
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
    for seq in 1..=8 {
        desk.offer("acme", seq, "ann");
    }
    assert_eq!((desk.org("acme").held, desk.org("acme").stubs), (3, 5));
    for seq in 1..=3 {
        assert_eq!(desk.start(), [seq]);
        desk.end(seq, GOOD);
    }
    // 4, 6 and 8 were ended by an operator.
    let read = desk.read(&[(5, "ann"), (7, "ann")]);
    assert!(matches!(&read.which, Which::Numbers(numbers) if numbers.len() == 5), "{read:?}");
    assert_eq!(desk.start(), [5]);
    desk.end(5, GOOD);
    assert_eq!(desk.start(), [7]);
    desk.end(7, GOOD);
    desk.read(&[]);
    assert_eq!((desk.start(), desk.org("acme").lanes.len()), (vec![], 0), "8 is known to be gone only now");
}

#[test]
fn a_read_that_races_with_commits_leaves_no_gap() {
    let mut desk = Desk::new(Limits { window: 8, ..LIMITS }, &[("acme", 20)]);
    for seq in 1..=10 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let read = desk.reads().remove(0);
    assert_eq!(read.which, Which::After { after: Seq(8), limit: 2 });
    // 11 is committed while the read is made, and one that the hand-over cannot hold.
    desk.offer("acme", 11, "l11");
    desk.scheduler.note("acme", Seq(12));
    desk.answer(&read, &[(9, "l9"), (10, "l10")]);
    assert_eq!(desk.start(), [9, 10], "11 must not come before what may be missing");
    let read = desk.reads().remove(0);
    assert_eq!(read.which, Which::After { after: Seq(10), limit: 2 });
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
    assert_eq!(
        desk.read(&[(1, "l1"), (2, "l2"), (3, "l3")]).which,
        Which::After { after: Seq(1), limit: 25 }
    );
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
    desk.scheduler.read(&read, found, START);
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
    desk.end(1, News { calls: 2, ..GOOD });
    desk.end(2, News { calls: 0, ..GOOD });
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
    desk.org("acme").concurrency = Concurrency::new();
    for seq in 1..=100 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    let good = News { latency: Some(Duration::from_millis(100)), ..GOOD };
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
            before = desk.org("acme").concurrency.limit(64);
        }
        desk.offer("acme", seq, &format!("l{seq}"));
        assert_eq!(desk.start(), [seq]);
        desk.end(seq, good);
    }
    assert_eq!(desk.org("acme").concurrency.limit(64), before, "one at a time proves nothing");
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
    assert_eq!(desk.gate(), Gate::Open);
    desk.again(5, "l5", START, FAILED);
    assert_eq!(desk.gate(), Gate::Shut { why: Why::Failing, until: at(1), failures: 0 });
    desk.again(6, "l6", START, FAILED);
    desk.end(7, GOOD);
    assert_eq!(
        desk.gate(),
        Gate::Shut { why: Why::Failing, until: at(1), failures: 0 },
        "what was under way does not count"
    );
    desk.end(8, GOOD);
    desk.offer("other", 20, "ann");
    desk.offer("acme", 9, "l9");
    assert_eq!(desk.start(), [20]);
    for (failures, wait) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
        let failures = u32::try_from(failures).unwrap();
        let until = desk.now.plus(Duration::from_secs(wait));
        assert_eq!(desk.gate(), Gate::Shut { why: Why::Failing, until, failures });
        desk.now = UnixMillis(until.0 - 1);
        assert_eq!(desk.start(), NOTHING);
        desk.now = until;
        let probe = desk.start();
        assert_eq!(probe.len(), 1, "a single one");
        assert_eq!(desk.gate(), Gate::Probing { why: Why::Failing, failures });
        if failures == 0 {
            assert_eq!(probe, [9], "what has never failed goes first");
        }
        desk.again(probe[0], &format!("l{}", probe[0]), desk.now, FAILED);
    }
    desk.now = desk.now.plus(Duration::from_secs(30));
    let probe = desk.start();
    desk.end(probe[0], OTHER);
    assert_eq!(desk.gate(), Gate::Open, "a refusal of the event shows Wigzo at work");
    assert_eq!(desk.start().len(), 6, "everything goes on");
}

#[test]
fn one_lane_alone_opens_no_breaker() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    desk.offer("acme", 1, "ann");
    for _ in 0..50 {
        assert_eq!(desk.start(), [1]);
        desk.again(1, "ann", desk.now, FAILED);
    }
    assert_eq!(desk.gate(), Gate::Open);
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
        assert_eq!(desk.gate(), Gate::Open);
    }
}

// === an operator's word ===

#[test]
fn a_held_organization_waits_for_the_word() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "bob");
    assert_eq!(desk.start(), [1, 2]);
    desk.scheduler.hold("acme");
    desk.again(1, "ann", START, pause(at(60)));
    desk.end(2, GOOD);
    desk.offer("acme", 3, "bob");
    desk.now = at(30);
    assert_eq!((desk.start(), desk.gate()), (vec![], Gate::Held));
    desk.scheduler.resume("acme");
    assert_eq!((desk.start(), desk.gate()), (vec![], Gate::Paused(at(60))), "Wigzo's word counts too");
    desk.now = at(60);
    assert_eq!(desk.start().len(), 2);
}

#[test]
fn a_corrected_token_resumes_at_once() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    for seq in 1..=3 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3]);
    desk.again(1, "l1", START, REFUSED);
    assert!(matches!(desk.gate(), Gate::Shut { why: Why::Refused, .. }));
    desk.scheduler.correct("acme", START);
    assert_eq!((desk.start(), desk.gate()), (vec![1], Gate::Open));
    desk.again(2, "l2", START, REFUSED);
    assert_eq!(desk.gate(), Gate::Open, "that was said of the old token");
    desk.again(1, "l1", START, REFUSED);
    assert!(matches!(desk.gate(), Gate::Shut { .. }), "this of the new one");
}

/// The gate need not have shut for that: what is in flight has begun with the old token.
#[test]
fn what_the_old_token_brings_after_the_correction_does_not_count() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1]);
    desk.scheduler.correct("acme", START);
    desk.again(1, "ann", START, REFUSED);
    assert_eq!((desk.start(), desk.gate()), (vec![1], Gate::Open));
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
    assert!(matches!(desk.gate(), Gate::Shut { why: Why::Failing, .. }));
    desk.scheduler.hold("acme");
    desk.scheduler.correct("acme", START);
    desk.scheduler.correct("nobody", START);
    assert_eq!((desk.start(), desk.gate()), (NOTHING.to_vec(), Gate::Held), "an operator's hold goes on");
    desk.scheduler.resume("acme");
    assert_eq!((desk.start(), desk.gate()), (NOTHING.to_vec(), Gate::Paused(at(60))), "and Wigzo's pause");
    desk.now = at(60);
    let mut started = desk.start();
    started.sort_unstable();
    assert_eq!(started, [1, 2, 4], "in the order of their lanes");
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
    assert!(matches!(desk.gate(), Gate::Shut { why: Why::Failing, .. }), "{:?}", desk.gate());
}

// === parking ===

/// Fails one lane's event at these seconds while another lane is delivered; when it is to be parked.
fn parks(hold: Option<Duration>, trouble: impl Fn(&mut Desk, u64)) -> Option<u64> {
    let mut desk = Desk::new(Limits { lane_hold: hold, ..LIMITS }, &[("acme", 20)]);
    desk.offer("acme", 1, "ann");
    for seconds in (0..3_000).step_by(60) {
        desk.now = at(seconds);
        desk.offer("acme", 1_000 + seconds, "bob");
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
    // The organization is suspended at 10 minutes: from its recovery on, the time counts anew.
    let suspended = |desk: &mut Desk, seconds: u64| {
        if seconds == 600 {
            desk.offer("acme", 1_601, "cid");
            assert_eq!(desk.start(), [1_601]);
            desk.again(1_601, "cid", desk.now, REFUSED);
        }
    };
    assert_eq!(parks(quarter, suspended), Some(1_560));
    // A minute's pause is an outage, a second's is not.
    let paused = |length: u64| {
        move |desk: &mut Desk, seconds: u64| {
            if seconds == 600 {
                desk.offer("acme", 1_601, "cid");
                assert_eq!(desk.start(), [1_601]);
                desk.end(1_601, pause(at(seconds + length)));
            }
        }
    };
    assert_eq!(parks(quarter, paused(60)), Some(1_560));
    assert_eq!(parks(quarter, paused(1)), Some(900));
}

#[test]
fn nothing_is_parked_where_others_fail_too_or_nothing_else_is_delivered() {
    let mut desk = Desk::new(LIMITS, &[("acme", 20)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "bob");
    desk.offer("acme", 3, "cid");
    assert_eq!(desk.start(), [1, 2, 3]);
    desk.end(3, GOOD);
    desk.again(1, "ann", at(60), FAILED);
    desk.again(2, "bob", at(60), FAILED);
    for seconds in (60..3_000).step_by(60) {
        desk.now = at(seconds);
        for seq in desk.start() {
            let lane = if seq == 1 { "ann" } else { "bob" };
            assert!(!desk.fails(seq, lane, at(seconds + 60), Some(START), FAILED), "at {seconds}");
        }
    }
    // Others are delivered: both are left behind, one after the other.
    for (seq, lane) in [(1, "ann"), (2, "bob")] {
        desk.offer("acme", 10 + seq, "cid");
        desk.now = desk.now.plus(Duration::from_mins(30));
        let mut started = desk.start();
        started.sort_unstable_by_key(|seq| std::cmp::Reverse(*seq));
        for next in started {
            if next > 10 {
                desk.end(next, GOOD);
            } else if next == seq {
                assert!(desk.fails(seq, lane, desk.now, Some(START), FAILED), "{lane}");
            } else {
                let later = desk.now.plus(Duration::from_mins(30));
                desk.again(next, if next == 1 { "ann" } else { "bob" }, later, UNKNOWN);
            }
        }
    }
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
    desk.scheduler.read(&read, vec![parked(at(10))], desk.now);
    assert_eq!(desk.start(), NOTHING, "a person's calls are never made side by side");
    desk.end(4, GOOD);
    assert_eq!(desk.start(), [1]);
    desk.offer("acme", 5, "ann");
    assert_eq!(desk.start(), NOTHING);
    let ticket = desk.in_flight.remove(&1).unwrap();
    assert!(matches!(
        desk.scheduler.finish(ticket, Finish::Parked(at(20)), FAILED, desk.now),
        Finished::Done
    ));
    assert_eq!(desk.start(), [5]);
    // After the batch it is looked whether there is more.
    let read = desk.reads().remove(0);
    desk.scheduler.read(&read, vec![parked(at(20))], desk.now);
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
    assert_eq!(desk.gate(), Gate::Open);
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
