//! Dead letters: what becomes of them, and how they are found.

use super::*;
use crate::queue::{Fate, Order};

const REPLAY: Fate = Fate::Replay { repeat_done: false };

fn discard(why: &str) -> Fate {
    Fate::Discard { why: why.into() }
}

async fn letters(queue: &Sqlite) -> Vec<Record> {
    let lookup = Lookup {
        state: Some(Place::Dead),
        order: Order::OldestFirst,
        limit: 10_000,
        in_full: true,
        ..Lookup::default()
    };
    found(queue, lookup).await
}

async fn numbered(queue: &Sqlite, number: u64) -> Record {
    let lookup = Lookup { numbers: vec![Seq(number)], limit: 10, in_full: true, ..Lookup::default() };
    let mut found = found(queue, lookup).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// A queue of which these ended as dead letters, with two calls made.
async fn dead(queue: &Sqlite, ids: &[&str]) {
    queue.append(batch("acme", ids), PATIENCE).await.unwrap();
    for envelope in waiting(queue, "acme").await {
        let resolution = Resolution::Ended { outcome: Outcome::Dead, reason: Reason::Wigzo400 };
        queue.settle(Settlement { progress: tried(3), ..settlement(&envelope, resolution) }).await;
    }
}

fn counts(queue: &Sqlite) -> (u64, u64, u64, u64) {
    let stats = queue.stats();
    let of =
        |counts: &std::collections::BTreeMap<Arc<str>, u64>| counts.get("acme").copied().unwrap_or_default();
    (stats.ledger.dead, of(&stats.dead_letters), stats.ledger.waiting(), of(&stats.waiting))
}

#[tokio::test]
async fn a_replayed_letter_goes_to_the_end_under_its_number_and_repeats_only_what_failed() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    dead(&queue, &["a", "b", "c"]).await;
    queue.append(batch("acme", &["d"]), PATIENCE).await.unwrap();
    queue.fresh().take();
    assert_eq!(counts(&queue), (3, 3, 1, 1));

    assert_eq!(queue.decide(vec![Seq(3), Seq(1), Seq(3), Seq(4), Seq(99)], REPLAY).await.unwrap(), 2);
    assert_eq!(counts(&queue), (1, 1, 3, 3));
    assert_eq!(queue.fresh().take().unread[&Arc::from("acme") as &Arc<str>], Seq(6));
    assert_eq!(queue.decide(vec![Seq(1)], REPLAY).await.unwrap(), 0, "nothing is replayed twice");
    drop(queue);

    let queue = fixture.open();
    assert_eq!(counts(&queue), (1, 1, 3, 3));
    let envelopes = waiting(&queue, "acme").await;
    let order: Vec<_> = envelopes.iter().map(|it| (it.seq.0, it.number.0, &*it.content.message_id)).collect();
    assert_eq!(order, [(4, 4, "d"), (5, 1, "a"), (6, 3, "c")]);
    let fresh_start = Progress { done: "identify".to_owned(), ..Progress::default() };
    assert_eq!((&envelopes[1].progress, envelopes[1].replays, envelopes[1].due), (&fresh_start, 1, None));

    let record = numbered(&queue, 1).await;
    assert_eq!((record.seq, record.state, record.replays), (Seq(5), State::Waiting, 1));
    assert_eq!(record.attempts, [attempt()], "the attempts of before stay on record");
    let nobody = Lookup { numbers: vec![Seq(5)], limit: 10, ..Lookup::default() };
    assert!(found(&queue, nobody).await.is_empty(), "a place in the order is nobody's number");

    // Dead again, and replayed with all its calls.
    let dead = Resolution::Ended { outcome: Outcome::Dead, reason: Reason::Wigzo422 };
    queue.settle(settlement(&envelopes[1], dead)).await;
    assert_eq!(queue.decide(vec![Seq(5)], Fate::Replay { repeat_done: true }).await.unwrap(), 1);
    let again = waiting(&queue, "acme").await.pop().unwrap();
    assert_eq!(
        (again.number, again.seq, again.replays, again.progress.done.as_str()),
        (Seq(1), Seq(7), 2, "")
    );
    let delivered = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    queue.settle(settlement(&again, delivered)).await;
    let record = numbered(&queue, 1).await;
    assert_eq!((record.state, record.replays, record.attempts.len()), (State::Delivered, 2, 3));
    let by_id = Filter {
        organization: Some(Arc::from("acme")),
        message_id: Some("a".to_owned()),
        ..Filter::default()
    };
    let lookup = Lookup { filter: by_id, limit: 10, ..Lookup::default() };
    assert_eq!(found(&queue, lookup).await[0].number, Seq(1));
    queue.append(batch("acme", &["e", "a"]), PATIENCE).await.unwrap();
    assert_eq!(numbered(&queue, 8).await.message_id, "e", "numbers go on behind the places that were given");
    assert_eq!(queue.stats().duplicates, 1, "a replay is no new event");
}

#[tokio::test]
async fn a_discarded_letter_is_still_counted_and_tells_why() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    dead(&queue, &["a", "b"]).await;
    assert_eq!(queue.decide(vec![Seq(1)], discard("sent by a test")).await.unwrap(), 1);
    assert_eq!(counts(&queue), (2, 1, 0, 0));
    let record = numbered(&queue, 1).await;
    assert_eq!((record.state, record.reason), (State::Discarded, Some(Reason::Discarded)));
    assert_eq!(record.detail.as_deref(), Some("sent by a test"));
    assert!(record.payload.is_some() && record.attempts == [attempt()], "in full as before: {record:?}");
    assert!(queue.stats().history_bytes > 0);
    assert_eq!(
        queue.decide(vec![record.seq, Seq(1)], REPLAY).await.unwrap(),
        0,
        "it is no dead letter any more"
    );
    fixture.clock.advance(Duration::from_hours(8 * 24));
    let deadline = std::time::Instant::now() + PATIENCE;
    while queue.stats().history_bytes > 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", queue.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(letters(&queue).await.len(), 1, "dead letters do not age");
    assert_eq!(counts(&queue), (2, 1, 0, 0));
}

#[tokio::test]
async fn what_is_being_forgotten_cannot_be_replayed_behind_the_request() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    dead(&queue, &["a"]).await;
    queue.append(vec![deletion("acme", "x")], PATIENCE).await.unwrap();
    let moved = queue.decide(vec![Seq(1)], REPLAY).await.unwrap();
    assert_eq!((moved, waiting(&queue, "acme").await.len()), (0, 0));
    let deadline = std::time::Instant::now() + PATIENCE;
    while counts(&queue) != (1, 0, 0, 0) {
        assert!(std::time::Instant::now() < deadline, "{:?}", queue.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(numbered(&queue, 1).await.message_id.is_empty());
}

#[tokio::test]
async fn letters_are_found_by_every_filter_and_page_by_page() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let mut envelopes = Vec::new();
    // More than one stretch; every tenth is different in one way.
    for n in 0..130_u64 {
        let mut envelope = envelope(if n % 10 == 1 { "other" } else { "acme" }, &n.to_string());
        envelope.lane = if n % 10 == 2 { "user-7" } else { "user-42" }.into();
        envelope.kind = if n % 10 == 3 { "page" } else { "track" }.into();
        envelope.title = if n % 10 == 4 { "Order Completed" } else { "Product Viewed" }.into();
        envelope.received_at = UnixMillis(1_000 + n);
        envelopes.push(envelope);
    }
    queue.append(envelopes, PATIENCE).await.unwrap();
    let envelopes = [waiting(&queue, "acme").await, waiting(&queue, "other").await].concat();
    for envelope in &envelopes {
        let reason = if envelope.seq.0 % 10 == 6 { Reason::Wigzo422 } else { Reason::Wigzo400 };
        queue.settle(Settlement::ended(envelope, Outcome::Dead, reason)).await;
    }
    let every = |filter: Filter, order: Order, limit: usize| {
        let queue = &queue;
        async move {
            let (mut numbers, mut pages, mut beyond) = (Vec::new(), 0, None);
            loop {
                let state = Some(Place::Dead);
                let lookup =
                    Lookup { filter: filter.clone(), state, order, beyond, limit, ..Lookup::default() };
                let page = queue.find(lookup).await.unwrap();
                numbers.extend(page.records.iter().map(|record| record.number.0));
                pages += 1;
                beyond = page.next;
                if beyond.is_none() {
                    return (numbers, pages);
                }
            }
        }
    };
    let text = |text: &str| Some(text.to_owned());
    let filters = [
        (Filter { organization: Some(Arc::from("other")), ..Filter::default() }, 2),
        (Filter { person: text("user-7"), ..Filter::default() }, 3),
        (Filter { kind: text("page"), ..Filter::default() }, 4),
        (Filter { title: text("Order Completed"), ..Filter::default() }, 5),
        (Filter { reason: Some(Reason::Wigzo422), ..Filter::default() }, 6),
    ];
    for (filter, first) in filters {
        let expected: Vec<u64> = (0..13).map(|n| n * 10 + first).collect();
        for limit in [4, 1_000] {
            assert_eq!(every(filter.clone(), Order::OldestFirst, limit).await.0, expected, "{filter:?}");
            let (mut newest_first, pages) = every(filter.clone(), Order::NewestFirst, limit).await;
            newest_first.reverse();
            assert_eq!((newest_first, pages > 1), (expected.clone(), limit == 4 || first != 2), "{filter:?}");
        }
    }
    let between =
        Filter { since: Some(UnixMillis(1_010)), until: Some(UnixMillis(1_013)), ..Filter::default() };
    assert_eq!(every(between, Order::OldestFirst, 10).await.0, [11, 12, 13]);
    let by_id = Filter { message_id: text("77"), ..Filter::default() };
    assert_eq!(every(by_id, Order::NewestFirst, 10).await, (vec![78], 1), "an index leads there at once");
    assert_eq!(every(Filter::default(), Order::OldestFirst, 1_000).await.0, (1..=130).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_mass_replay_keeps_the_order_and_counts_all() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let ids: Vec<String> = (0..1_200).map(|n| n.to_string()).collect();
    queue.append(batch("acme", &ids.iter().map(String::as_str).collect::<Vec<_>>()), PATIENCE).await.unwrap();
    let envelopes = claim(&queue, "acme", 0, 10_000).await;
    let settled =
        envelopes.iter().map(|it| queue.settle(Settlement::ended(it, Outcome::Dead, Reason::Wigzo400)));
    for settled in settled.collect::<Vec<_>>() {
        settled.await;
    }
    let all: Vec<Seq> = letters(&queue).await.iter().map(|it| it.seq).collect();
    assert_eq!(queue.decide(all, REPLAY).await.unwrap(), 1_200);
    assert_eq!(counts(&queue), (0, 0, 1_200, 1_200));
    let numbers: Vec<u64> = claim(&queue, "acme", 0, 10_000).await.iter().map(|it| it.number.0).collect();
    assert_eq!(numbers, (1..=1_200).collect::<Vec<_>>());
}

#[tokio::test]
async fn above_their_limit_the_oldest_letters_are_dropped_and_that_is_told() {
    let mut fixture = Fixture::new();
    fixture.config.max_dead_letters = 2;
    let queue = fixture.open();
    dead(&queue, &["a", "b", "c", "d", "e"]).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while queue.stats().dropped < 3 {
        assert!(std::time::Instant::now() < deadline, "{:?}", queue.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(letters(&queue).await.iter().map(|it| it.number.0).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(counts(&queue), (5, 2, 0, 0));
    let gone = numbered(&queue, 1).await;
    assert_eq!((gone.state, gone.reason), (State::Discarded, Some(Reason::Dropped)));
    assert!(gone.payload.is_none() && gone.attempts.is_empty(), "one line: {gone:?}");
}

#[tokio::test]
async fn a_page_in_full_is_bounded_by_what_its_events_and_attempts_take() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let large = |n: usize| {
        let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(if n < 12 { 1 << 20 } else { 1 }));
        NewEnvelope { payload: payload.into(), ..envelope("acme", &n.to_string()) }
    };
    for n in 0..24 {
        queue.append(vec![large(n)], PATIENCE).await.unwrap();
    }
    for (n, envelope) in claim(&queue, "acme", 12, 100).await.iter().enumerate() {
        let account = Account::InFull(vec![Attempt { response: "y".repeat(1 << 20), ..attempt() }]);
        let dead = Resolution::Ended { outcome: Outcome::Dead, reason: Reason::Wigzo400 };
        queue.settle(Settlement { account, ..settlement(envelope, dead) }).await;
        assert!(n < 12);
    }
    for (state, total) in [(Place::Waiting, 12), (Place::Dead, 12)] {
        let (mut sizes, mut beyond) = (Vec::new(), None);
        loop {
            let order = Order::OldestFirst;
            let lookup =
                Lookup { state: Some(state), order, beyond, limit: 100, in_full: true, ..Lookup::default() };
            let page = queue.find(lookup).await.unwrap();
            sizes.push(page.records.len());
            beyond = page.next;
            if beyond.is_none() {
                break;
            }
        }
        assert!(sizes.len() > 1 && sizes.iter().sum::<usize>() == total, "{state:?}: {sizes:?}");
    }
}
