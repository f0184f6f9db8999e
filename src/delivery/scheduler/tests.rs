//! The promises of the scheduler, one by one; all at once under a random world in [`simulation`].

mod simulation;

use super::*;

const NOTHING: [u64; 0] = [];
const START: UnixMillis = UnixMillis(1_800_000_000_000);
const LIMITS: Limits = Limits {
    in_flight: 100,
    window: 100,
    window_bytes: 1_000_000,
    probe_base: Duration::from_secs(30),
    probe_cap: Duration::from_mins(10),
};

fn at(seconds: u64) -> UnixMillis {
    START.plus(Duration::from_secs(seconds))
}

fn item(seq: u64, lane: &str) -> Item<()> {
    Item { seq: Seq(seq), lane: LaneKey::of(lane), due: None, size: 1, load: () }
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
        for read in desk.scheduler.reads() {
            desk.scheduler.read(&read, Vec::new(), START);
        }
        desk
    }

    /// Serves organizations of which it is not known yet what waits in the queue.
    fn unread(limits: Limits, organizations: &[(&str, usize)]) -> Self {
        let mut scheduler = Scheduler::new(limits);
        for (name, max_in_flight) in organizations {
            scheduler.serve(&Arc::from(*name), *max_in_flight);
        }
        Self { scheduler, in_flight: HashMap::new(), now: START }
    }

    fn offer(&mut self, organization: &str, seq: u64, lane: &str) {
        self.scheduler.offer(organization, item(seq, lane), self.now);
    }

    /// Starts everything that may start; the numbers in the order of their starts.
    fn start(&mut self) -> Vec<u64> {
        self.scheduler.tick(self.now);
        let mut started = Vec::new();
        while let Some((ticket, item)) = self.scheduler.start() {
            self.in_flight.insert(item.seq.0, ticket);
            started.push(item.seq.0);
        }
        started
    }

    fn end(&mut self, seq: u64, health: Health) {
        let ticket = self.in_flight.remove(&seq).expect("it is in flight");
        self.scheduler.finish(ticket, Finish::Ended, health, self.now);
    }

    fn again(&mut self, seq: u64, lane: &str, due: UnixMillis, health: Health) {
        let ticket = self.in_flight.remove(&seq).expect("it is in flight");
        let item = Item { due: Some(due), ..item(seq, lane) };
        self.scheduler.finish(ticket, Finish::Again(item), health, self.now);
    }

    fn gate(&self) -> Gate {
        self.scheduler.closed_gates().next().map_or(Gate::Open, |(_, gate)| gate)
    }

    /// Answers the one read that is wanted with these envelopes, at most as many as it asks for.
    fn read(&mut self, queue: &[(u64, &str)]) -> Read {
        let mut reads = self.scheduler.reads();
        assert_eq!(reads.len(), 1, "one organization is behind: {reads:?}");
        let read = reads.remove(0);
        self.answer(&read, queue);
        read
    }

    fn answer(&mut self, read: &Read, queue: &[(u64, &str)]) {
        let found = queue
            .iter()
            .filter(|(seq, _)| Seq(*seq) > read.after)
            .take(read.limit)
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
        desk.end(seq, Health::Good);
    }
    assert_eq!(desk.start(), NOTHING);
    assert_eq!(desk.scheduler.organizations[0].lanes.len(), 0, "an empty lane takes no memory");
}

#[test]
fn a_retry_holds_its_lane_only() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for (seq, lane) in [(1, "ann"), (2, "ann"), (3, "bob"), (4, "bob")] {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.start(), [1, 3]);
    desk.again(1, "ann", at(60), Health::Unknown);
    desk.end(3, Health::Good);
    assert_eq!(desk.start(), [4], "the other lane does not notice");
    assert_eq!(desk.scheduler.next_tick(), Some(at(60)));
    desk.now = at(59);
    assert_eq!(desk.start(), NOTHING);
    desk.now = at(60);
    assert_eq!(desk.start(), [1], "what failed comes before what followed it");
    desk.end(1, Health::Good);
    assert_eq!(desk.start(), [2]);
}

#[test]
fn a_retry_that_is_due_at_once_keeps_its_place() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "ann");
    assert_eq!(desk.start(), [1]);
    desk.again(1, "ann", START, Health::Unknown);
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
    desk.end(1, Health::Good);
    desk.offer("acme", 53, "cid");
    assert_eq!(desk.start(), [4], "the flood waited for its turn first");
    desk.end(4, Health::Good);
    assert_eq!(desk.start(), [53]);
}

#[test]
fn an_organization_keeps_its_own_limit() {
    let mut desk = Desk::new(LIMITS, &[("acme", 2)]);
    for seq in 1..=5 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2]);
    desk.end(2, Health::Good);
    assert_eq!(desk.start(), [3]);
    desk.scheduler.serve(&Arc::from("acme"), 4);
    assert_eq!(desk.start(), [4, 5], "a higher limit counts at once");
    desk.scheduler.serve(&Arc::from("acme"), 1);
    desk.offer("acme", 6, "l6");
    for seq in [1, 3, 4] {
        desk.end(seq, Health::Good);
        assert_eq!(desk.start(), NOTHING, "a lower one as soon as enough has ended");
    }
    desk.end(5, Health::Good);
    assert_eq!(desk.start(), [6]);
}

#[test]
fn a_ticket_counts_once() {
    let mut desk = Desk::new(LIMITS, &[("acme", 2)]);
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1]);
    let forged = |lane, organization| Ticket { organization, lane: LaneKey::of(lane), suspensions: 0 };
    desk.end(1, Health::Good);
    desk.scheduler.finish(forged("ann", 0), Finish::Ended, Health::Good, START);
    desk.scheduler.finish(forged("nobody", 0), Finish::Ended, Health::Pause(at(9)), START);
    desk.scheduler.finish(forged("ann", 7), Finish::Ended, Health::Good, START);
    assert_eq!((desk.scheduler.in_flight(), desk.gate()), (0, Gate::Open));
    desk.offer("acme", 2, "ann");
    desk.offer("acme", 3, "ann");
    assert_eq!(desk.start(), [2]);
    desk.scheduler.finish(forged("bob", 0), Finish::Again(item(1, "bob")), Health::Unknown, START);
    assert_eq!(desk.scheduler.in_flight(), 1);
    desk.end(2, Health::Good);
    assert_eq!(desk.start(), [3]);
}

#[test]
fn unknown_organizations_are_left_in_the_queue() {
    let mut desk = Desk::new(LIMITS, &[]);
    desk.offer("acme", 1, "ann");
    desk.scheduler.note("acme", Seq(2));
    assert_eq!(desk.start(), NOTHING);
    assert!(desk.scheduler.reads().is_empty());
}

// === pauses ===

#[test]
fn an_organization_that_is_retired_is_let_go_when_nothing_of_it_is_left() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10), ("guest", 10)]);
    let is_known = |desk: &Desk| desk.scheduler.names.contains_key("guest");
    desk.offer("guest", 1, "asha");
    desk.scheduler.retire("guest");
    desk.scheduler.retire("nobody");
    assert_eq!(desk.start(), [1], "what is held is worked");
    desk.again(1, "asha", at(10), Health::Unknown);
    assert!(is_known(&desk), "it waits for another try");
    desk.now = at(10);
    assert_eq!(desk.start(), [1]);
    desk.offer("guest", 2, "ravi");
    desk.end(1, Health::Pause(at(60)));
    assert_eq!(desk.start(), NOTHING);
    desk.now = at(60);
    assert_eq!(desk.start(), [2], "what is offered until then is worked too");
    desk.end(2, Health::Pause(at(90)));
    assert!(is_known(&desk), "a pause ends at its time");
    desk.scheduler.note("guest", Seq(3));
    desk.now = at(90);
    assert_eq!(desk.start(), NOTHING);
    assert!(is_known(&desk), "something is to be read");
    desk.read(&[(3, "asha")]);
    assert_eq!(desk.start(), [3]);
    desk.end(3, Health::Suspend(at(90)));
    assert!(!is_known(&desk), "nobody is left to probe");
    assert_eq!(desk.gate(), Gate::Open);
    desk.offer("guest", 4, "asha");
    assert_eq!(desk.start(), NOTHING, "nobody's event stays in the queue");

    // The next one takes its place, and nothing else of it: not its gate, not its numbers, not its timers.
    desk.scheduler.serve(&Arc::from("other"), 1);
    assert_eq!(desk.scheduler.organizations.len(), 2);
    desk.read(&[(4, "asha"), (5, "asha"), (6, "ravi")]);
    assert_eq!(desk.start(), [4]);
    desk.now = at(10_000);
    assert_eq!(desk.start(), NOTHING, "its own limit holds");
    for (ended, next) in [(4, 6), (6, 5)] {
        desk.end(ended, Health::Good);
        assert_eq!(desk.start(), [next]);
    }
}

#[test]
fn an_organization_that_is_served_again_stays() {
    let mut desk = Desk::new(LIMITS, &[("guest", 10)]);
    desk.offer("guest", 1, "asha");
    desk.scheduler.retire("guest");
    desk.scheduler.serve(&Arc::from("guest"), 10);
    assert_eq!(desk.start(), [1]);
    desk.end(1, Health::Good);
    desk.offer("guest", 2, "asha");
    assert_eq!(desk.start(), [2]);
}

#[test]
fn a_pause_holds_one_organization_until_its_end() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10), ("other", 10)]);
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1]);
    desk.again(1, "ann", at(5), Health::Pause(at(60)));
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
    desk.again(1, "ann", at(60), Health::Pause(at(60)));
    desk.end(2, Health::Good);
    desk.end(3, Health::Pause(at(10)));
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
    desk.end(1, Health::Pause(at(10)));
    desk.end(2, Health::Pause(at(20)));
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
        desk.again(seq, &format!("l{seq}"), desk.now, Health::Suspend(desk.now));
    }
    for (failures, wait) in [30, 60, 120, 240, 480, 600, 600].into_iter().enumerate() {
        let failures = u32::try_from(failures).unwrap();
        let until = desk.now.plus(Duration::from_secs(wait));
        assert_eq!(desk.gate(), Gate::Suspended { until, failures });
        desk.now = UnixMillis(until.0 - 1);
        assert_eq!(desk.start(), NOTHING, "before probe {failures}");
        desk.now = until;
        let probe = desk.start();
        assert_eq!(probe.len(), 1, "a single one");
        assert_eq!(desk.gate(), Gate::Probing { failures });
        desk.again(probe[0], &format!("l{}", probe[0]), desk.now, Health::Suspend(desk.now));
    }
}

#[test]
fn success_of_a_probe_resumes_everything() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=3 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3]);
    desk.again(1, "l1", START, Health::Suspend(START));
    desk.end(2, Health::Good);
    assert_eq!(desk.start(), NOTHING, "what was answered before says nothing about the time after");
    desk.again(3, "l3", START, Health::Unknown);
    desk.now = at(30);
    assert_eq!(desk.start(), [1]);
    desk.end(1, Health::Good);
    assert_eq!((desk.start(), desk.gate()), (vec![3], Gate::Open));
    desk.end(3, Health::Suspend(desk.now));
    assert_eq!(desk.gate(), Gate::Suspended { until: at(60), failures: 0 }, "and the doubling starts anew");
}

#[test]
fn what_was_under_way_does_not_count_as_a_probe() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=3 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3]);
    desk.again(1, "l1", START, Health::Suspend(START));
    desk.now = at(30);
    assert_eq!(desk.start(), NOTHING, "what is under way is in the probe's way");
    desk.again(2, "l2", desk.now, Health::Suspend(desk.now));
    assert_eq!(desk.gate(), Gate::Probing { failures: 0 });
    desk.end(3, Health::Good);
    assert_eq!(desk.start().len(), 1, "now the probe");
    assert_eq!(desk.gate(), Gate::Probing { failures: 0 });
}

#[test]
fn a_probe_that_learns_nothing_lets_the_next_one_go() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    for seq in 1..=3 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3]);
    for seq in 1..=3 {
        desk.again(seq, &format!("l{seq}"), START, Health::Suspend(START));
    }
    desk.now = at(30);
    for probe in 1..=3 {
        assert_eq!(desk.start(), [probe], "filtered ones make no call");
        desk.end(probe, Health::Unknown);
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
    desk.again(1, "ann", START, Health::Pause(at(300)));
    desk.again(2, "bob", START, Health::Suspend(START));
    assert_eq!(desk.gate(), Gate::Suspended { until: at(300), failures: 0 });
    desk.now = at(299);
    assert_eq!(desk.start(), NOTHING);
    desk.now = at(300);
    assert_eq!(desk.start().len(), 1);

    // A suspension first: a pause prolongs it, and does not end it.
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.offer("acme", 1, "ann");
    desk.offer("acme", 2, "bob");
    assert_eq!(desk.start(), [1, 2]);
    desk.again(1, "ann", START, Health::Suspend(at(100)));
    assert_eq!(desk.gate(), Gate::Suspended { until: at(100), failures: 0 }, "Retry-After of the refusal");
    desk.again(2, "bob", START, Health::Pause(at(300)));
    desk.now = at(299);
    assert_eq!(desk.start(), NOTHING);
    desk.now = at(300);
    let probe = desk.start();
    assert_eq!(probe.len(), 1);
    // The probe is told to wait: that is no proof that the token is good again.
    desk.end(probe[0], Health::Pause(at(400)));
    assert_eq!(desk.gate(), Gate::Suspended { until: at(400), failures: 0 });
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
    assert!(desk.scheduler.reads().is_empty());
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
    assert!(desk.scheduler.reads().is_empty());
}

#[test]
fn an_empty_queue_is_read_once() {
    let mut desk = Desk::unread(LIMITS, &[("acme", 10)]);
    desk.read(&[]);
    assert!(desk.scheduler.reads().is_empty());
    desk.offer("acme", 1, "ann");
    assert_eq!(desk.start(), [1], "number 1 counts like any other");
}

#[test]
fn a_full_window_leaves_the_rest_in_the_queue() {
    let mut desk = Desk::new(Limits { window: 4, ..LIMITS }, &[("acme", 1)]);
    let queue: Vec<(u64, &str)> = (1..=9).map(|seq| (seq, "ann")).collect();
    for &(seq, lane) in &queue {
        desk.offer("acme", seq, lane);
    }
    assert_eq!(desk.scheduler.organizations[0].held, 4);
    assert!(desk.scheduler.reads().is_empty(), "no room for half a window");
    let mut seen: Vec<u64> = Vec::new();
    while seen.len() < 9 {
        let started = desk.start();
        assert_eq!(started.len(), 1, "{seen:?}");
        seen.extend(&started);
        desk.end(started[0], Health::Good);
        for read in desk.scheduler.reads() {
            assert_eq!(read.limit, 2, "half a window at a time");
            desk.answer(&read, &queue);
        }
        assert!(desk.scheduler.organizations[0].held <= 4);
    }
    assert_eq!(seen, (1..=9).collect::<Vec<u64>>(), "no gap, no double");
    desk.offer("acme", 10, "ann");
    assert_eq!(desk.start(), [10]);
}

#[test]
fn the_window_counts_bytes_too_and_one_envelope_always_fits() {
    let mut desk = Desk::new(Limits { window_bytes: 10, ..LIMITS }, &[("acme", 1)]);
    let big = |seq, size| Item { size, ..item(seq, "ann") };
    desk.scheduler.offer("acme", big(1, 50), START);
    desk.scheduler.offer("acme", big(2, 1), START);
    assert_eq!(desk.scheduler.organizations[0].held, 1);
    assert_eq!(desk.start(), [1]);
    let reads = desk.scheduler.reads();
    desk.scheduler.read(&reads[0], vec![big(2, 6), big(3, 6), big(4, 6)], START);
    let org = &desk.scheduler.organizations[0];
    assert_eq!((org.held, org.held_bytes), (2, 12), "the last one may stand out");
    desk.end(1, Health::Good);
    assert_eq!(desk.start(), [2]);
}

#[test]
fn lanes_that_wait_do_not_keep_others_from_being_read() {
    let mut desk = Desk::new(Limits { window: 10, ..LIMITS }, &[("acme", 10)]);
    for seq in 1..=12 {
        desk.offer("acme", seq, if seq <= 7 { "ann" } else { "bob" });
    }
    assert_eq!(desk.start(), [1, 8]);
    desk.again(1, "ann", at(600), Health::Unknown);
    for seq in 8..=10 {
        desk.end(seq, Health::Good);
        desk.start();
    }
    // Seven of ten places are taken by a lane that waits.
    desk.read(&[(11, "bob"), (12, "cid")]);
    assert_eq!(desk.start(), [11, 12]);
}

#[test]
fn a_read_that_races_with_commits_leaves_no_gap() {
    let mut desk = Desk::new(Limits { window: 4, ..LIMITS }, &[("acme", 10)]);
    for seq in 1..=6 {
        desk.offer("acme", seq, &format!("l{seq}"));
    }
    assert_eq!(desk.start(), [1, 2, 3, 4]);
    let read = desk.scheduler.reads().remove(0);
    assert_eq!((read.after, read.limit), (Seq(4), 2));
    // 7 is committed after the read was asked for.
    desk.offer("acme", 7, "l7");
    desk.answer(&read, &[(5, "l5"), (6, "l6")]);
    assert_eq!(desk.start(), [5, 6], "7 was only noted");
    let read = desk.scheduler.reads().remove(0);
    assert_eq!(read.after, Seq(6));
    // 8 is committed and found, and only then offered.
    desk.answer(&read, &[(7, "l7"), (8, "l8")]);
    desk.offer("acme", 8, "l8");
    assert_eq!((desk.start(), desk.scheduler.organizations[0].held), (vec![7, 8], 0), "once");
    desk.offer("acme", 9, "l9");
    assert_eq!(desk.start(), [9], "up to date again");
}

#[test]
fn a_read_may_bring_less_than_it_was_asked_for() {
    let mut desk = Desk::new(LIMITS, &[("acme", 10)]);
    desk.scheduler.note("acme", Seq(3));
    let read = desk.scheduler.reads().remove(0);
    // The queue bounds a read by bytes as well; nothing tells that from the end of what waits.
    desk.answer(&read, &[(1, "l1")]);
    assert_eq!(desk.read(&[(1, "l1"), (2, "l2"), (3, "l3")]).after, Seq(1));
    assert_eq!(desk.start(), [1, 2, 3]);
    assert!(desk.scheduler.reads().is_empty());
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
    let read = desk.scheduler.reads().remove(0);
    assert!(desk.scheduler.reads().is_empty(), "one read at a time");
    desk.scheduler.read_failed(&read);
    assert_eq!(desk.read(&[(1, "ann")]), read);
    assert_eq!(desk.start(), [1]);
}

#[test]
fn what_is_read_keeps_its_due_time() {
    let mut desk = Desk::unread(LIMITS, &[("acme", 10)]);
    let read = desk.scheduler.reads().remove(0);
    let found = vec![Item { due: Some(at(9)), ..item(1, "ann") }, item(2, "ann"), item(3, "bob")];
    desk.scheduler.read(&read, found, START);
    assert_eq!(desk.start(), [3]);
    desk.now = at(9);
    assert_eq!(desk.start(), [1]);
}
