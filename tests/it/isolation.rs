//! Events that Wigzo accepts are delivered in time, whatever fails beside them in the same organization: a test for each
//! regime of faults.
//!
//! Each test posts good events at a steady rate, first without the fault and then beside it, and compares. Good events
//! that have no call yet count with the time that they have waited so far. `--nocapture` shows the figures.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::service::{Service, Setup};
use crate::stand_in::StandIn;

/// How long after the last post every good event must have been delivered.
const BOUND: Duration = Duration::from_secs(10);

/// The longest time without a call of a good event while a fault is recognized, in milliseconds.
const LONGEST_GAP_MS: u64 = 5_000;

/// How often the load generator posts a batch.
const TICK: Duration = Duration::from_millis(50);
const TICKS_PER_SECOND: usize = 20;

/// Users of good events, in turn.
const GOOD_USERS: usize = 100;

/// Waits that let an event be tried several times, parked and given up within a test.
const QUICK_PARKING: &str = "lane_hold = \"1s\"\n[delivery.retry]\nbase = \"100ms\"\ncap = \"500ms\"\n";

// === events ===

/// A track event. No other event of the test has this name; it ends with a number that grows for each user.
fn track(user: &str, name: &str) -> Value {
    json!({ "type": "track", "userId": user, "event": name, "messageId": name })
}

fn identify(user: &str) -> Value {
    let id = format!("identify {user}");
    json!({ "type": "identify", "userId": user, "messageId": id, "traits": { "firstName": "Asha" } })
}

/// Track events of one user.
fn backlog(user: &str, name: &str, count: usize) -> Vec<Value> {
    (0..count).map(|number| track(user, &format!("{name} {user} {number}"))).collect()
}

/// The milliseconds since 1970.
fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// When a call reached the stand-in, in milliseconds since 1970.
fn at(call: &Value) -> u64 {
    call["at"].as_u64().unwrap()
}

fn name(call: &Value) -> &str {
    call["body"]["eventName"].as_str().unwrap_or_default()
}

/// The number at the end of the name of a call's event.
fn number(call: &Value) -> usize {
    name(call).rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{call}"))
}

/// Fails unless the calls of each user are in order and made once.
fn assert_in_order(calls: &[Value]) {
    let mut last: HashMap<&str, usize> = HashMap::new();
    for call in calls {
        let before = last.insert(call["body"]["userId"].as_str().unwrap(), number(call));
        assert!(before.is_none_or(|before| before < number(call)), "late or twice, after {before:?}: {call}");
    }
}

// === the service ===

fn organization(name: &str, more: &str) -> String {
    format!(
        "[organizations.{name}]\norg_token = \"org-token-{name}-1\"\nsource_keys = [\"wk_{name}\"]\n{more}\n"
    )
}

/// A service with one organization, `acme`, and more keys of `[delivery]`.
fn acme(wigzo: &StandIn, delivery: &str) -> Setup {
    Service::calling(wigzo).terse().config(&format!("[delivery]\n{delivery}\n{}", organization("acme", "")))
}

/// Posts events of an organization in one request.
async fn post(service: &Service, organization: &str, batch: &[Value]) {
    let request = service
        .client()
        .post(format!("{}/v1/batch", service.public))
        .basic_auth(format!("wk_{organization}"), Some(""))
        .body(json!({ "batch": batch }).to_string());
    let reply = service.send(request).await;
    assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(batch.len())), "{reply:?}");
}

/// What the API says of the delivery of an organization.
async fn delivery(service: &Service, organization: &str) -> Value {
    let stats = service.private("/api/stats").await.json();
    let all = stats["delivery"].as_array().unwrap();
    all.iter().find(|it| it["organization"] == organization).cloned().unwrap_or_default()
}

/// How many calls the stand-in has seen that match a filter.
async fn count_calls(service: &Service, filter: &str) -> usize {
    let url = format!("{}/_sandbox/calls?count=true&{filter}", service.sandbox);
    let reply = service.send(service.client().get(url)).await.json();
    usize::try_from(reply["total"].as_u64().unwrap()).unwrap()
}

/// Waits for a condition, and says whether it came true in time.
async fn comes_true(within: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    while !condition().await {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

/// Everything that explains why a condition does not come true.
async fn everything(service: &Service) -> String {
    let stats = service.private("/api/stats").await.body;
    let url = format!("{}/_sandbox/calls?count=true", service.sandbox);
    let calls = service.send(service.client().get(url)).await.body;
    format!("{stats}\ncalls: {calls}\n{}", service.log())
}

/// Fails with everything that is known unless a condition comes true in time.
async fn eventually(service: &Service, what: &str, within: Duration, condition: impl AsyncFnMut() -> bool) {
    let came_true = comes_true(within, condition).await;
    assert!(came_true, "not within {within:?}: {what}\n{}", everything(service).await);
}

// === good events ===

/// The good events of an organization, and when each of them was posted.
struct Good {
    organization: &'static str,
    posted: Vec<u64>,
}

/// A part of the good events, by their numbers.
type Part = std::ops::Range<usize>;

/// What became of a part of the good events. Times are from post to call.
#[derive(Debug)]
struct Figures {
    posted: usize,
    delivered: usize,
    p50_ms: u64,
    p99_ms: u64,
    /// The longest time without a call, from the first post on.
    longest_gap_ms: u64,
    /// When each of them was called, in ascending order.
    calls: Vec<u64>,
}

impl Good {
    fn of(organization: &'static str) -> Self {
        Self { organization, posted: Vec::new() }
    }

    fn next(&mut self) -> Value {
        let number = self.posted.len();
        self.posted.push(now_ms());
        track(&format!("good-{}", number % GOOD_USERS), &format!("Good {number}"))
    }

    /// Posts this many in one request.
    async fn at_once(&mut self, service: &Service, count: usize) -> Part {
        let from = self.posted.len();
        let batch: Vec<_> = (0..count).map(|_| self.next()).collect();
        post(service, self.organization, &batch).await;
        from..self.posted.len()
    }

    /// Posts good events at a steady rate, `beside(tick)` in the same batches.
    async fn steadily(
        &mut self,
        service: &Service,
        per_second: usize,
        seconds: usize,
        mut beside: impl FnMut(usize) -> Vec<Value>,
    ) -> Part {
        let from = self.posted.len();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for tick in 0..seconds * TICKS_PER_SECOND {
            ticks.tick().await;
            let mut batch = beside(tick);
            batch.extend((0..per_second / TICKS_PER_SECOND).map(|_| self.next()));
            post(service, self.organization, &batch).await;
        }
        from..self.posted.len()
    }

    /// Waits until all good events have been delivered, at most for [`BOUND`], and says what became of a part of them.
    async fn figures(&self, service: &Service, part: Part) -> Figures {
        let all = self.posted.len();
        let filter = "carried_out=true&contains=Good";
        comes_true(BOUND, async || count_calls(service, filter).await >= all).await;
        let (calls, now) = (service.calls(filter).await, now_ms());
        assert_in_order(&calls);
        self.figures_of(part, &calls, now)
    }

    fn figures_of(&self, part: Part, calls: &[Value], now: u64) -> Figures {
        let called: HashMap<usize, u64> = calls.iter().map(|call| (number(call), at(call))).collect();
        let waited =
            |number: usize| called.get(&number).copied().unwrap_or(now).saturating_sub(self.posted[number]);
        let mut waits: Vec<u64> = part.clone().map(waited).collect();
        waits.sort_unstable();
        let mut calls: Vec<u64> = part.clone().filter_map(|number| called.get(&number).copied()).collect();
        calls.sort_unstable();
        let end = (calls.len() < part.len()).then_some(now);
        let moments: Vec<u64> =
            [self.posted[part.start]].into_iter().chain(calls.iter().copied()).chain(end).collect();
        let gaps = moments.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        Figures {
            posted: part.len(),
            delivered: calls.len(),
            p50_ms: waits[waits.len() / 2],
            p99_ms: waits[waits.len() * 99 / 100],
            longest_gap_ms: gaps.max().unwrap_or(0),
            calls,
        }
    }

    /// A second of good events without a fault.
    async fn undisturbed(&mut self, service: &Service, per_second: usize) -> Figures {
        let part = self.steadily(service, per_second, 1, |_| Vec::new()).await;
        let figures = self.figures(service, part).await;
        assert_eq!(figures.delivered, figures.posted, "without a fault\n{}", everything(service).await);
        figures
    }
}

impl Figures {
    fn print(&self, regime: &str) {
        println!(
            "{regime:<40} delivered {:>4} of {:>4}   p50 {:>6} ms   p99 {:>6} ms   longest gap {:>6} ms",
            self.delivered, self.posted, self.p50_ms, self.p99_ms, self.longest_gap_ms
        );
    }

    /// All delivered, and without a long gap.
    async fn assert_complete(&self, service: &Service) {
        let complete = self.delivered == self.posted && self.longest_gap_ms <= LONGEST_GAP_MS;
        assert!(complete, "{}\n{}", self.short(), everything(service).await);
    }

    /// All delivered, about as fast as without the fault.
    async fn assert_flows(&self, service: &Service, without: &Self) {
        self.assert_complete(service).await;
        let limit = without.p50_ms * 5 + 500;
        assert!(
            self.p50_ms <= limit,
            "p50 above {limit} ms: {}\nwithout: {}\n{}",
            self.short(),
            without.short(),
            everything(service).await
        );
    }

    fn short(&self) -> String {
        format!(
            "{} of {} good events delivered, p50 {} ms, p99 {} ms, longest gap {} ms",
            self.delivered, self.posted, self.p50_ms, self.p99_ms, self.longest_gap_ms
        )
    }
}

// === refusals ===

/// Good events at 100 a second and one in 20 events that Wigzo always refuses: `refused(user)`. A later track event of the
/// same user is delivered once the refused one is parked, and the refused one ends as a dead letter.
async fn refused_beside_good(regime: &str, fault: Value, reason: &str, refused: impl Fn(&str) -> Value) {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, &format!("{QUICK_PARKING}horizon = \"3s\"\n")).start().await;
    let mut good = Good::of("acme");
    let without = good.undisturbed(&service, 100).await;
    service.faults(&json!([fault])).await;
    let mut users = 0;
    let part = good
        .steadily(&service, 100, 4, |tick| {
            if tick % 4 != 0 {
                return Vec::new();
            }
            users += 1;
            let user = format!("refused-{users}");
            vec![refused(&user), track(&user, &format!("After {users}"))]
        })
        .await;
    let figures = good.figures(&service, part).await;
    figures.print(regime);
    let after = count_calls(&service, "carried_out=true&contains=After").await;
    let metrics = service.private("/metrics").await.body;
    let parked = crate::service::metric(&metrics, "wigzo_destination_events_parked_total").unwrap_or(0);
    let dead = service.ledger().await["dead"].clone();
    println!("{regime:<40} of {users} refused: {parked} parked, {dead} dead, {after} later events delivered");

    figures.assert_flows(&service, &without).await;
    eventually(&service, "the later events of the users are delivered", BOUND, async || {
        count_calls(&service, "carried_out=true&contains=After").await == users
    })
    .await;
    eventually(&service, "what is refused ends as dead letters", BOUND, async || {
        service.ledger().await["dead"] == users
    })
    .await;
    let parked = service.metric("wigzo_destination_events_parked_total").await;
    assert_eq!(parked, users as u64, "each was parked first");
    let letters = service.private("/api/events?place=dead").await.json();
    for letter in letters["events"].as_array().unwrap() {
        let record = service.private(&format!("/api/events/{}", letter["number"])).await.json();
        assert_eq!((&record["state"], &record["reason"]), (&json!("dead"), &json!(reason)), "{record}");
        // One whose endpoint was closed all the time is tried once, before it dies.
        assert!(record["tries"].as_u64() >= Some(1), "{record}");
    }
    service.end().await;
}

#[tokio::test]
async fn refused_events_are_parked_and_die_while_good_ones_are_delivered() {
    let fault = json!({ "event_name": "Refused", "status": 403 });
    let refused = |user: &str| track(user, &format!("Refused {user} 0"));
    refused_beside_good("S1 5 % always 403", fault, "wigzo_403", refused).await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_found_does_not_stop_the_other() {
    let fault = json!({ "endpoint": "identify", "status": 404 });
    refused_beside_good("S1 identify always 404", fault, "wigzo_404", identify).await;
}

/// Good events, and one answer among them that would speak of the whole organization if it were not the only one.
async fn one_refusal(status: u16) {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, "").start().await;
    let mut good = Good::of("acme");
    good.undisturbed(&service, 100).await;
    service.faults(&json!([{ "status": status, "next": 1 }])).await;
    let part = good.steadily(&service, 100, 3, |_| Vec::new()).await;
    let figures = good.figures(&service, part).await;
    figures.print(&format!("S2 one answer {status}"));
    assert_eq!(count_calls(&service, &format!("status={status}")).await, 1);
    figures.assert_complete(&service).await;
    eventually(&service, "the organization is open", BOUND, async || {
        delivery(&service, "acme").await["state"] == "open"
    })
    .await;
    service.end().await;
}

#[tokio::test]
async fn one_answer_404_is_no_reason_to_stop() {
    one_refusal(404).await;
}

#[tokio::test]
async fn one_redirection_is_no_reason_to_stop() {
    one_refusal(302).await;
}

#[tokio::test]
async fn one_answer_401_is_no_reason_to_stop() {
    one_refusal(401).await;
}

#[tokio::test]
async fn a_refused_token_makes_few_calls_and_no_dead_letter() {
    let wigzo = StandIn::start().await;
    let service =
        acme(&wigzo, "lane_hold = \"1s\"\n[delivery.retry]\ncap = \"1s\"\nhorizon = \"2s\"\n").start().await;
    service.faults(&json!([{ "status": 401 }])).await;
    let mut good = Good::of("acme");
    let batch: Vec<_> =
        (0..500).map(|user| track(&format!("user-{user}"), &format!("First {user}"))).collect();
    post(&service, "acme", &batch).await;
    // More events keep coming while the token is refused.
    good.steadily(&service, 100, 3, |_| Vec::new()).await;
    let (calls, state) = (count_calls(&service, "status=401").await, delivery(&service, "acme").await);
    println!("{:<40} {calls} calls in 3 s, state {}", "wrong token", state["state"]);
    assert!(calls <= 30, "{calls} calls\n{}", everything(&service).await);
    assert_eq!(state["state"], "suspended", "{}", everything(&service).await);
    assert_eq!(service.ledger().await["dead"], 0, "{}", everything(&service).await);

    service.faults(&json!([])).await;
    assert_eq!(service.operate("/api/organizations/acme/resume", &json!({})).await.status, 200);
    eventually(&service, "everything is delivered", BOUND, async || {
        service.ledger().await["delivered"] == 800
    })
    .await;
    assert_eq!(service.ledger().await["dead"], 0);
    service.end().await;
}

// === the circuit breaker ===

/// One request with events of many users that always fail, on the endpoint of the good ones.
async fn poison_beside_good(users: usize) {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, "").start().await;
    let mut good = Good::of("acme");
    let without = good.undisturbed(&service, 100).await;
    service.faults(&json!([{ "event_name": "Poison", "status": 500 }])).await;
    let poison: Vec<_> =
        (0..users).map(|user| track(&format!("poison-{user}"), &format!("Poison {user}"))).collect();
    post(&service, "acme", &poison).await;
    let part = good.steadily(&service, 100, 6, |_| Vec::new()).await;
    let figures = good.figures(&service, part.clone()).await;
    figures.print(&format!("B1 {users} users always 500"));
    figures.assert_complete(&service).await;
    // Once it is known whose events fail.
    let last = good.figures(&service, part.end - 200..part.end).await;
    last.print(&format!("B1 {users} users, the last 2 s"));
    last.assert_flows(&service, &without).await;
    assert_eq!(service.ledger().await["dead"], 0);
    drop(service.kill().await);
}

#[tokio::test]
async fn fifty_users_whose_events_fail_do_not_stop_the_others() {
    poison_beside_good(50).await;
}

#[tokio::test]
async fn three_hundred_users_whose_events_fail_do_not_stop_the_others() {
    poison_beside_good(300).await;
}

/// Good track events, and with each `tracks_per_identify` of them an identify of another user.
struct Mix {
    tracks_per_second: usize,
    tracks_per_identify: usize,
    seconds: usize,
}

/// Posts a mix of events while the identifies meet a fault.
async fn identifies_beside_good(regime: &str, config: &str, mix: Mix, fault: Value) {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, config).start().await;
    let mut good = Good::of("acme");
    let without = good.undisturbed(&service, mix.tracks_per_second).await;
    service.faults(&json!([fault])).await;
    let (mut tracks, mut users) = (0, 0);
    let part = good
        .steadily(&service, mix.tracks_per_second, mix.seconds, |_| {
            tracks += mix.tracks_per_second / TICKS_PER_SECOND;
            let from = users;
            users = tracks / mix.tracks_per_identify;
            (from..users).map(|user| identify(&format!("failing-{user}"))).collect()
        })
        .await;
    let figures = good.figures(&service, part).await;
    figures.print(regime);
    assert!(count_calls(&service, "endpoint=identify").await > 0, "{}", everything(&service).await);
    figures.assert_flows(&service, &without).await;
    service.faults(&json!([])).await;
    assert_eq!(service.operate("/api/organizations/acme/resume", &json!({})).await.status, 200);
    let accepted = good.posted.len() + users;
    let ledger = service.settled(accepted as u64).await;
    assert_eq!(ledger["delivered"], accepted, "{ledger}");
    service.end().await;
}

#[tokio::test]
async fn a_failing_endpoint_does_not_stop_the_other() {
    let fault = json!({ "endpoint": "identify", "status": 500 });
    let mix = Mix { tracks_per_second: 100, tracks_per_identify: 1, seconds: 5 };
    // The last retry must not take longer than the test waits.
    let config = "[delivery.retry]\ncap = \"5s\"\n";
    identifies_beside_good("B2 identify always 500, 50 %", config, mix, fault).await;
}

#[tokio::test]
async fn a_hanging_endpoint_does_not_slow_the_other() {
    let fault = json!({ "endpoint": "identify", "effect": "never" });
    let mix = Mix { tracks_per_second: 200, tracks_per_identify: 10, seconds: 8 };
    let config = "timeout = \"3s\"\n[delivery.retry]\ncap = \"5s\"\n";
    identifies_beside_good("B3 identify hangs, 10 %", config, mix, fault).await;
}

// === backlogs ===

/// Every call takes a while: a lane that makes one after the other is slow.
fn slow_calls() -> Value {
    json!({ "latency": { "fixed_ms": 50 } })
}

/// Posts events in requests of a thousand.
async fn post_all(service: &Service, organization: &str, events: &[Value]) {
    for batch in events.chunks(1_000) {
        post(service, organization, batch).await;
    }
}

/// How many events of a backlog were delivered before the last good one, or so far.
async fn delivered_meanwhile(service: &Service, good: &Good) -> usize {
    let calls = service.calls("carried_out=true").await;
    let last = format!("Good {}", good.posted.len() - 1);
    let before = calls.iter().take_while(|call| name(call) != last);
    before.filter(|call| name(call).starts_with("Hot")).count()
}

#[tokio::test]
async fn the_backlog_of_one_user_does_not_delay_the_others() {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, "window = 100\n").start().await;
    service.faults(&json!([slow_calls()])).await;
    let mut good = Good::of("acme");
    let part = good.at_once(&service, 100).await;
    let without = good.figures(&service, part).await;
    post_all(&service, "acme", &backlog("hot", "Hot", 3_000)).await;
    let part = good.at_once(&service, 100).await;
    let figures = good.figures(&service, part).await;
    figures.print("W1 3000 events of one user");
    let meanwhile = delivered_meanwhile(&service, &good).await;
    println!("{:<40} {meanwhile} of its 3000 events before the last of the others", "W1");
    figures.assert_complete(&service).await;
    assert!(
        figures.p50_ms <= without.p50_ms * 5 + 1_000,
        "{}\nwithout: {}",
        figures.short(),
        without.short()
    );
    assert!(meanwhile < 1_500, "{meanwhile} events of the user were delivered first");
    assert_in_order(&service.calls("carried_out=true&contains=Hot").await);
    drop(service.kill().await);
}

#[tokio::test]
async fn a_backlog_behind_a_failing_event_is_parked_and_goes_on() {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, &format!("window = 100\n{QUICK_PARKING}")).start().await;
    let failing = json!({ "event_name": "Stuck", "status": 500 });
    service.faults(&json!([failing, slow_calls()])).await;
    let mut good = Good::of("acme");
    let part = good.at_once(&service, 100).await;
    let without = good.figures(&service, part).await;
    let mut events = vec![track("hot", "Stuck 0")];
    events.extend(backlog("hot", "Hot", 3_000));
    post_all(&service, "acme", &events).await;
    let part = good.at_once(&service, 100).await;
    let figures = good.figures(&service, part).await;
    figures.print("W2 the first of 3000 events fails");
    // Other events go on being delivered: that one is at fault itself.
    let part = good.steadily(&service, 20, 3, |_| Vec::new()).await;
    let later = good.figures(&service, part).await;
    later.print("W2 events after that");
    let hot = count_calls(&service, "carried_out=true&contains=Hot").await;
    let parked = service.private("/api/stats").await.json()["parked"]["acme"].clone();
    println!("{:<40} parked: {parked}, {hot} later events of its user delivered", "W2");
    figures.assert_complete(&service).await;
    assert!(
        figures.p50_ms <= without.p50_ms * 5 + 1_000,
        "{}\nwithout: {}",
        figures.short(),
        without.short()
    );
    later.assert_complete(&service).await;
    eventually(&service, "the event that fails is parked", BOUND, async || {
        service.private("/api/stats").await.json()["parked"]["acme"] == 1
    })
    .await;
    eventually(&service, "the later events of its user are delivered", BOUND, async || {
        count_calls(&service, "carried_out=true&contains=Hot").await >= 40
    })
    .await;
    assert_in_order(&service.calls("carried_out=true&contains=Hot").await);
    drop(service.kill().await);
}

#[tokio::test]
async fn the_backlogs_of_many_users_are_delivered_evenly_and_delay_no_others() {
    const HOT_USERS: usize = 50;
    const EACH: usize = 60;
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, "window = 200\n").start().await;
    service.faults(&json!([slow_calls()])).await;
    let mut good = Good::of("acme");
    let events: Vec<_> =
        (0..HOT_USERS).flat_map(|user| backlog(&format!("hot-{user}"), "Hot", EACH)).collect();
    post_all(&service, "acme", &events).await;
    let part = good.at_once(&service, 100).await;
    let figures = good.figures(&service, part).await;
    figures.print("many hot lanes: 50 users of 60 events");
    let meanwhile = delivered_meanwhile(&service, &good).await;
    let half = HOT_USERS * EACH / 2;
    let in_time =
        comes_true(3 * BOUND, async || count_calls(&service, "carried_out=true&contains=Hot").await >= half)
            .await;
    let calls = service.calls("carried_out=true&contains=Hot").await;
    let mut delivered = vec![0_usize; HOT_USERS];
    for call in calls.iter().take(half) {
        let user = name(call).split([' ', '-']).nth(2).and_then(|user| user.parse::<usize>().ok()).unwrap();
        delivered[user] += 1;
    }
    let (least, most) = (delivered.iter().min().unwrap(), delivered.iter().max().unwrap());
    println!(
        "{:<40} {meanwhile} of their 3000 events before the last of the others; at half time {least} to {most} each",
        "many hot lanes"
    );
    figures.assert_complete(&service).await;
    assert!(in_time, "{}", everything(&service).await);
    assert!(meanwhile <= half, "{meanwhile} events of theirs were delivered first");
    assert!(most - least <= EACH * 3 / 4, "not evenly: {delivered:?}");
    assert_in_order(&calls);
    drop(service.kill().await);
}

// === Retry-After ===

/// A service whose events wait for ten minutes because Wigzo asked for it.
async fn paused_for_ten_minutes(setup: Setup, good: &mut Good) -> (Service, Part) {
    let service = setup.start().await;
    service.faults(&json!([{ "status": 503, "retry_after": "600" }])).await;
    let part = good.at_once(&service, 100).await;
    eventually(&service, "the organization is paused", BOUND, async || {
        delivery(&service, "acme").await["state"] == "paused"
    })
    .await;
    service.quiet().await;
    let calls = count_calls(&service, "status=503").await;
    assert!(calls <= 30, "{calls} calls although Wigzo asked for a pause");
    (service, part)
}

#[tokio::test]
async fn an_operators_resume_ends_a_pause_that_wigzo_asked_for() {
    let wigzo = StandIn::start().await;
    let mut good = Good::of("acme");
    let (service, part) = paused_for_ten_minutes(acme(&wigzo, ""), &mut good).await;
    service.faults(&json!([])).await;
    assert_eq!(service.operate("/api/organizations/acme/resume", &json!({})).await.status, 200);
    let figures = good.figures(&service, part).await;
    figures.print("P1 resume after Retry-After: 600");
    figures.assert_complete(&service).await;
    assert_eq!(delivery(&service, "acme").await["state"], "open");
    service.end().await;
}

#[tokio::test]
async fn a_changed_address_ends_a_pause_that_the_old_one_asked_for() {
    let (old, new) = (StandIn::start().await, StandIn::start().await);
    let config = |wigzo: &StandIn| {
        format!("[reload]\npoll = \"0s\"\n{}", organization("acme", &format!("base_url = \"{}\"", wigzo.url)))
    };
    let mut good = Good::of("acme");
    let setup = Service::calling(&old).terse().config(&config(&old));
    let (mut service, part) = paused_for_ten_minutes(setup, &mut good).await;
    std::fs::write(service.directory.path().join("config.toml"), config(&new)).unwrap();
    service.signal("HUP");
    service.sandbox.clone_from(&new.url);
    let figures = good.figures(&service, part).await;
    figures.print("P1 other address after Retry-After: 600");
    figures.assert_complete(&service).await;
    eventually(&service, "the pause is over", BOUND, async || {
        delivery(&service, "acme").await["state"] == "open"
    })
    .await;
    service.end().await;
}

/// Good events at 200 a second of which Wigzo answers a part with 429 and `Retry-After: 1`.
async fn a_share_of_429(probability: f64) {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, "").start().await;
    let mut good = Good::of("acme");
    let without = good.undisturbed(&service, 200).await;
    service.faults(&json!([{ "status": 429, "retry_after": "1", "probability": probability }])).await;
    let part = good.steadily(&service, 200, 5, |_| Vec::new()).await;
    let end = now_ms() + 500;
    let figures = good.figures(&service, part).await;
    let regime = format!("{} % of answers 429", probability * 100.0);
    figures.print(&regime);
    let in_time = figures.calls.iter().filter(|&&at| at <= end).count();
    println!("{regime:<40} {in_time} of {} delivered by the end of the load", figures.posted);
    figures.assert_complete(&service).await;
    assert!(
        in_time * 10 >= figures.posted * 7,
        "{in_time} of {}\n{}",
        figures.posted,
        everything(&service).await
    );
    assert!(
        figures.p50_ms <= without.p50_ms * 5 + 1_000,
        "{}\nwithout: {}",
        figures.short(),
        without.short()
    );
    assert!(figures.p99_ms <= 6_000, "{}", figures.short());
    service.end().await;
}

#[tokio::test]
async fn one_answer_429_in_two_hundred_leaves_the_pace() {
    a_share_of_429(0.005).await;
}

#[tokio::test]
async fn one_answer_429_in_fifty_leaves_the_pace() {
    a_share_of_429(0.02).await;
}

#[tokio::test]
async fn retry_after_on_every_answer_is_obeyed() {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, "").start().await;
    service.faults(&json!([{ "status": 429, "retry_after": "2" }])).await;
    let mut good = Good::of("acme");
    good.at_once(&service, 200).await;
    good.steadily(&service, 40, 5, |_| Vec::new()).await;
    let calls = count_calls(&service, "status=429").await;
    let state = delivery(&service, "acme").await;
    println!("{:<40} {calls} calls in 5 s, state {}", "Retry-After: 2 on every answer", state["state"]);
    service.faults(&json!([])).await;
    let figures = good.figures(&service, 0..good.posted.len()).await;
    figures.print("Retry-After: 2 on every answer, then none");
    assert!(calls <= 30, "{calls} calls in 5 s");
    assert_eq!(figures.delivered, figures.posted, "{}", everything(&service).await);
    service.end().await;
}

// === organizations ===

/// Two organizations share a small limit of events in flight, and the calls of one hang.
async fn a_small_limit(max_in_flight: usize) {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo, &format!("max_in_flight = {max_in_flight}\ntimeout = \"20s\"\n"))
        .config(&organization("globex", ""))
        .start()
        .await;
    let warns = service.log().contains("delivery.max_in_flight");
    assert_eq!(warns, max_in_flight <= 2, "{}", service.log());
    let mut good = Good::of("globex");
    let without = good.undisturbed(&service, 40).await;
    service.faults(&json!([{ "org_token": "org-token-acme-1", "effect": "never" }])).await;
    let hanging: Vec<_> =
        (0..50).map(|user| track(&format!("user-{user}"), &format!("Hanging {user}"))).collect();
    post(&service, "acme", &hanging).await;
    eventually(&service, "a call hangs", BOUND, async || {
        count_calls(&service, "org_token=org-token-acme-1").await > 0
    })
    .await;
    let part = good.steadily(&service, 40, 3, |_| Vec::new()).await;
    let figures = good.figures(&service, part).await;
    figures.print(&format!("max_in_flight {max_in_flight}, the other hangs"));
    figures.assert_flows(&service, &without).await;
    drop(service.kill().await);
}

#[tokio::test]
async fn a_hanging_organization_leaves_calls_to_the_other_at_a_limit_of_four() {
    a_small_limit(4).await;
}

#[tokio::test]
async fn a_hanging_organization_leaves_calls_to_the_other_at_a_limit_of_two() {
    a_small_limit(2).await;
}
