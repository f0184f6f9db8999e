//! The promises of the embedded engine, each by its name.

mod dead;
mod hasten;
mod model;
mod oldest;
mod open;
mod transfer;

use std::path::Path;

use bytesize::ByteSize;

use super::*;
use crate::clock::{Span, UnixMillis};
use crate::outcome::{Outcome, Reason};
use crate::queue::{
    Account, Attempt, DedupKey, Filter, Place, Progress, Record, Resolution, SourceRoute, State,
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Fixture {
    directory: tempfile::TempDir,
    config: Config,
    clock: Clock,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { path: directory.path().join("queue"), ..Config::default() };
        Self { directory, config, clock: Clock::manual(UnixMillis(1_800_000_000_000)) }
    }

    fn open(&self) -> Opened {
        let (queue, thread) = Sqlite::open(&self.config, self.clock.clone()).unwrap();
        Opened { queue: Some(queue), thread: Some(thread) }
    }
}

/// A queue that is closed in order when it goes out of scope.
struct Opened {
    queue: Option<Sqlite>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::ops::Deref for Opened {
    type Target = Sqlite;

    fn deref(&self) -> &Sqlite {
        self.queue.as_ref().unwrap()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.queue.take();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn envelope(organization: &str, id: &str) -> NewEnvelope {
    NewEnvelope {
        organization: Arc::from(organization),
        route: "v1".into(),
        key: DedupKey::new(organization, SourceRoute::new("v1"), id),
        message_id: id.into(),
        lane: "user-42".into(),
        kind: "track".into(),
        title: "Product Viewed".into(),
        received_at: UnixMillis(1_799_999_999_000),
        payload: format!(r#"{{"type":"track","messageId":"{id}","price":1299.00}}"#).into(),
        surroundings: "".into(),
        forgets: false,
    }
}

fn batch(organization: &str, ids: &[&str]) -> Vec<NewEnvelope> {
    ids.iter().map(|id| envelope(organization, id)).collect()
}

fn attempt() -> Attempt {
    Attempt {
        at: UnixMillis(1_800_000_000_000),
        call: "event/buy".into(),
        status: Some(503),
        duration_ms: 12,
        reason: Reason::Wigzo503,
        request: "POST https://tracker.example/rest/v1/learn/event?org_token=***\n{}".into(),
        response: "busy".into(),
    }
}

fn settlement(envelope: &Envelope, resolution: Resolution) -> Settlement {
    Settlement { account: Account::InFull(vec![attempt()]), ..Settlement::of(envelope, resolution) }
}

fn tried(tries: u32) -> Progress {
    Progress {
        tries,
        soft_failures: 1,
        first_failed_at: Some(UnixMillis(1_800_000_000_000)),
        done: "identify".to_owned(),
    }
}

async fn waiting(queue: &Sqlite, organization: &str) -> Vec<Envelope> {
    claim(queue, organization, 0, 1_000).await
}

async fn claim(queue: &Sqlite, organization: &str, after: u64, limit: usize) -> Vec<Envelope> {
    let claimed = queue.claim(Arc::from(organization), Seq(after), limit, Arc::default()).await.unwrap();
    claimed.into_iter().map(|it| it.envelope().expect("no lane is skipped")).collect()
}

/// What is read of an envelope without its payload.
fn number(envelope: &Envelope) -> Number {
    Number { seq: envelope.seq, lane: LaneKey::of(&envelope.content.lane), due: envelope.due }
}

async fn found(queue: &Sqlite, lookup: Lookup) -> Vec<Record> {
    queue.find(lookup).await.unwrap().records
}

async fn end_all(queue: &Sqlite, organization: &str, outcome: Outcome, reason: Reason) {
    for envelope in waiting(queue, organization).await {
        queue.settle(settlement(&envelope, Resolution::Ended { outcome, reason })).await;
    }
}

#[tokio::test]
async fn what_was_accepted_is_there_after_reopening_in_order_and_unchanged() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    assert_eq!(
        queue.append(batch("acme", &["a", "b"]), PATIENCE).await,
        Ok(Appended { accepted: 2, duplicates: 0 })
    );
    queue.append(batch("other", &["c"]), PATIENCE).await.unwrap();
    let fresh = queue.fresh().take().envelopes;
    assert_eq!(fresh.iter().map(|it| &*it.content.message_id).collect::<Vec<_>>(), ["a", "b", "c"]);
    drop(queue);

    let queue = fixture.open();
    let arrivals = queue.fresh().take();
    assert_eq!(arrivals.unread[&Arc::from("acme") as &Arc<str>], Seq(2));
    let found = waiting(&queue, "acme").await;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].content.payload, fresh[0].content.payload);
    assert_eq!(found[1].seq, Seq(2));
    assert_eq!(claim(&queue, "acme", 1, 10).await, [found[1].clone()]);
    assert_eq!(queue.stats().waiting.values().sum::<u64>(), 3);
}

#[tokio::test]
async fn nothing_is_acknowledged_while_the_files_are_elsewhere() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let queue_directory = fixture.config.path.clone();
    let aside = fixture.directory.path().join("aside");
    for (round, name) in ["", "lock", "queue.sqlite", "queue.sqlite-wal"].into_iter().enumerate() {
        let (before, while_away) = (format!("before-{round}"), format!("while-away-{round}"));
        queue.append(batch("acme", &[&before]), PATIENCE).await.unwrap();
        let path = if name.is_empty() { queue_directory.clone() } else { queue_directory.join(name) };
        std::fs::rename(&path, &aside).unwrap();
        let refused = queue.append(batch("acme", &[&while_away]), PATIENCE).await;
        assert_eq!(refused, Err(AppendError::Unavailable), "{name}");
        assert_eq!(queue.stats().refusing, Some(Refusing::Displaced), "{name}");
        std::fs::rename(&aside, &path).unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        while queue.stats().refusing.is_some() {
            assert!(std::time::Instant::now() < deadline, "{name}: {:?}", queue.stats());
            std::thread::yield_now();
        }
        let again = queue.append(batch("acme", &[&while_away]), PATIENCE).await;
        assert_eq!(again, Ok(Appended { accepted: 1, duplicates: 0 }), "{name}: nothing of it was kept");
    }
}

#[tokio::test]
async fn a_queue_that_was_replaced_leaves_its_successor_alone() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a"]), PATIENCE).await.unwrap();
    let aside = fixture.directory.path().join("aside");
    std::fs::rename(&fixture.config.path, &aside).unwrap();
    let successor = fixture.open();
    successor.append(batch("acme", &["b"]), PATIENCE).await.unwrap();
    let refused = queue.append(batch("acme", &["c"]), PATIENCE).await;
    assert_eq!(refused, Err(AppendError::Unavailable));
    drop(queue);
    assert!(fixture.config.path.join("queue.sqlite-wal").exists(), "the log of the successor");
    successor.append(batch("acme", &["d"]), PATIENCE).await.unwrap();
    drop(successor);
    let moved = Config { path: aside, ..fixture.config.clone() };
    for (config, ids) in [(&fixture.config, &["b", "d"][..]), (&moved, &["a"][..])] {
        let (queue, thread) = Sqlite::open(config, fixture.clock.clone()).unwrap();
        let found = waiting(&queue, "acme").await;
        assert_eq!(found.iter().map(|it| &*it.content.message_id).collect::<Vec<_>>(), ids);
        drop(queue);
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn a_message_id_is_taken_once_within_the_window_and_across_restarts() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a", "a", "b"]), PATIENCE).await.unwrap();
    assert_eq!(queue.stats().duplicates, 1, "a duplicate inside one batch counts too");
    drop(queue);

    let queue = fixture.open();
    let again = |organization, ids| queue.append(batch(organization, ids), PATIENCE);
    assert_eq!(again("acme", &["b", "c"]).await.unwrap(), Appended { accepted: 1, duplicates: 1 });
    assert_eq!(again("other", &["b"]).await.unwrap().accepted, 1, "ids of organizations are apart");
    let mut by_other_route = envelope("acme", "a");
    by_other_route.key = DedupKey::new("acme", SourceRoute::new("/webhook?mapping=2"), "a");
    assert_eq!(queue.append(vec![by_other_route], PATIENCE).await.unwrap().accepted, 1);

    for hours in [12, 11] {
        fixture.clock.advance(Duration::from_hours(hours));
        assert_eq!(again("acme", &["a"]).await.unwrap().duplicates, 1, "23 hours are within the window");
    }
    fixture.clock.advance(Duration::from_hours(14));
    again("acme", &["d"]).await.unwrap();
    fixture.clock.advance(Duration::from_hours(13));
    assert_eq!(again("acme", &["a"]).await.unwrap().accepted, 1, "50 hours are not");
}

#[tokio::test]
async fn every_envelope_is_in_one_place_and_the_ledger_balances() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a", "b", "c", "d", "e"]), PATIENCE).await.unwrap();
    let envelopes = waiting(&queue, "acme").await;
    let ended = |outcome, reason| Resolution::Ended { outcome, reason };
    let resolutions = [
        ended(Outcome::Delivered, Reason::Delivered),
        ended(Outcome::Filtered, Reason::NotWanted),
        ended(Outcome::Expired, Reason::MaxAge),
        ended(Outcome::Dead, Reason::Wigzo400),
        Resolution::Later { due: UnixMillis(1_800_000_060_000), reason: Reason::Wigzo503, parked: false },
    ];
    for (envelope, resolution) in envelopes.iter().zip(resolutions) {
        queue.settle(Settlement { progress: tried(1), ..settlement(envelope, resolution) }).await;
    }
    // A second settlement of the same envelope changes nothing.
    queue.settle(settlement(&envelopes[0], resolutions[3])).await;

    let ledger = queue.stats().ledger;
    assert_eq!(
        (ledger.accepted, ledger.delivered, ledger.filtered, ledger.expired, ledger.dead, ledger.waiting()),
        (5, 1, 1, 1, 1, 1)
    );
    drop(queue);
    let queue = fixture.open();
    assert_eq!(queue.stats().ledger, ledger);
    let later = waiting(&queue, "acme").await;
    assert_eq!((later.len(), &later[0].progress), (1, &tried(1)));
    assert_eq!(later[0].due, Some(UnixMillis(1_800_000_060_000)));

    let lookup = |state| Lookup { state, limit: 10, in_full: true, ..Lookup::default() };
    let states: Vec<State> = found(&queue, lookup(None)).await.iter().map(|record| record.state).collect();
    assert_eq!(states, [State::Retrying, State::Dead, State::Expired, State::Filtered, State::Delivered]);
    for standing in State::ALL {
        let lookup = Lookup { standing: Some(*standing), limit: 10, ..Lookup::default() };
        let found = found(&queue, lookup).await.iter().map(|record| record.state).collect::<Vec<_>>();
        let expected: Vec<State> = states.iter().copied().filter(|state| state == standing).collect();
        assert_eq!(found, expected, "{standing:?}");
        assert_eq!(serde_json::to_value(standing).unwrap(), standing.as_str());
    }
    let dead = found(&queue, lookup(Some(Place::Dead))).await.remove(0);
    assert_eq!((dead.message_id.as_str(), dead.reason), ("d", Some(Reason::Wigzo400)));
    assert_eq!(dead.attempts, [attempt()]);
    assert_eq!(dead.payload.unwrap().get(), &*envelopes[3].content.payload);
}

#[tokio::test]
async fn an_event_is_found_by_its_message_id_wherever_it_is() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a", "b"]), PATIENCE).await.unwrap();
    let by_id = |organization: &str, id: &str| Lookup {
        filter: Filter {
            organization: Some(Arc::from(organization)),
            message_id: Some(id.to_owned()),
            ..Filter::default()
        },
        limit: 10,
        ..Lookup::default()
    };
    assert_eq!(found(&queue, by_id("acme", "b")).await[0].number, Seq(2));
    end_all(&queue, "acme", Outcome::Delivered, Reason::Delivered).await;
    assert_eq!(found(&queue, by_id("acme", "b")).await[0].state, State::Delivered);
    assert!(found(&queue, by_id("other", "b")).await.is_empty());
    assert!(found(&queue, by_id("acme", "x")).await.is_empty());
}

/// Runs of 20 keys, stretches of 50 rows.
#[tokio::test]
async fn a_message_id_leads_to_its_event_without_its_organization_and_after_the_window() {
    let mut fixture = Fixture::new();
    fixture.config.dedup_window = Span::secs(3_600);
    let queue = fixture.open();
    let delivered = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    for round in 0..6 {
        let ids: Vec<String> = (0..25).map(|n| format!("{round}-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let organization = if round % 2 == 0 { "acme" } else { "other" };
        queue.append(batch(organization, &ids), PATIENCE).await.unwrap();
        for envelope in waiting(&queue, organization).await {
            let settlement = settlement(&envelope, delivered);
            queue.settle(Settlement { account: Account::InALine, ..settlement }).await;
        }
    }
    let by_id = |organization: Option<&str>, id: &str, candidates: &[&str]| Lookup {
        filter: Filter {
            organization: organization.map(Arc::from),
            message_id: Some(id.to_owned()),
            ..Filter::default()
        },
        candidates: candidates.iter().map(|name| Arc::from(*name)).collect(),
        limit: 10,
        ..Lookup::default()
    };
    // What is found, and how many pages that took.
    let every = async |lookup: Lookup| {
        let (mut lookup, mut numbers, mut pages) = (lookup, Vec::new(), 0);
        loop {
            let page = queue.find(lookup.clone()).await.unwrap();
            numbers.extend(page.records.iter().map(|record| record.number.0));
            pages += 1;
            match page.next {
                Some(next) => lookup.beyond = Some(next),
                None => return (numbers, pages),
            }
        }
    };
    for (id, number) in [("0-7", 8), ("1-3", 29), ("5-24", 150)] {
        let many = every(by_id(None, id, &["acme", "nobody", "other"])).await;
        assert_eq!(many, (vec![number], 1), "{id}: deduplication leads there");
        assert_eq!(every(by_id(None, id, &["nobody"])).await.0, [number], "{id}: gone through");
    }
    assert_eq!(every(by_id(Some("acme"), "0-7", &[])).await, (vec![8], 1));
    assert_eq!(every(by_id(Some("other"), "0-7", &["acme"])).await.0, Vec::<u64>::new());
    fixture.clock.advance(Duration::from_secs(4_000));
    queue.append(batch("acme", &["later"]), PATIENCE).await.unwrap();
    for organization in [None, Some("acme")] {
        let (found, pages) = every(by_id(organization, "0-7", &["acme"])).await;
        assert_eq!((found, pages > 1), (vec![8], true), "{organization:?}: not remembered any more");
    }
    queue.append(batch("acme", &["0-7"]), PATIENCE).await.unwrap();
    assert_eq!(every(by_id(None, "0-7", &["acme"])).await, (vec![152], 1), "the new one");
}

#[tokio::test]
async fn a_record_is_in_full_or_one_line() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a", "b", "c"]), PATIENCE).await.unwrap();
    let envelopes = waiting(&queue, "acme").await;
    let delivered = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    queue.settle(settlement(&envelopes[0], delivered)).await;
    let in_a_line = |envelope| Settlement { account: Account::InALine, ..settlement(envelope, delivered) };
    queue.settle(in_a_line(&envelopes[1])).await;
    queue.settle(Settlement { progress: tried(2), ..settlement(&envelopes[2], delivered) }).await;
    let records = found(&queue, Lookup { limit: 10, in_full: true, ..Lookup::default() }).await;
    let in_full: Vec<(bool, usize)> =
        records.iter().map(|record| (record.payload.is_some(), record.attempts.len())).collect();
    assert_eq!(in_full, [(true, 1), (false, 0), (true, 1)], "newest first");
    let texts = |record: &Record| (record.person.clone(), record.title.clone(), record.message_id.clone());
    let content = &envelopes[1].content;
    let expected = (content.lane.to_string(), content.title.to_string(), content.message_id.to_string());
    assert_eq!(texts(&records[1]), expected);
}

/// An event that was tried before keeps its attempts, so its record keeps the payload: also if `tries` is 0, as after a
/// replay, an interrupted call, or a refusal that was not the event's own.
#[tokio::test]
async fn what_was_tried_before_is_never_recorded_in_one_line() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["replayed", "interrupted"]), PATIENCE).await.unwrap();
    let envelopes = waiting(&queue, "acme").await;
    assert!(envelopes.iter().all(Envelope::is_untried));
    let dead = Resolution::Ended { outcome: Outcome::Dead, reason: Reason::Wigzo400 };
    queue.settle(settlement(&envelopes[0], dead)).await;
    queue.decide(vec![Seq(1)], Fate::Replay { repeat_done: false }).await.unwrap();
    let due = UnixMillis(1_800_000_000_000);
    let interrupted = Resolution::Later { due, reason: Reason::Interrupted, parked: false };
    queue.settle(settlement(&envelopes[1], interrupted)).await;
    let delivered = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    let again = waiting(&queue, "acme").await;
    assert_eq!(again.len(), 2);
    for envelope in &again {
        assert!(!envelope.is_untried() && envelope.progress.tries == 0, "{envelope:?}");
        queue.settle(Settlement { account: Account::InALine, ..settlement(envelope, delivered) }).await;
    }
    let records = found(&queue, Lookup { limit: 10, in_full: true, ..Lookup::default() }).await;
    for record in &records {
        assert!(record.payload.is_some() && record.attempts.len() == 1, "{record:?}");
    }
    let size: u64 = records.iter().flat_map(|it| &it.attempts).map(|it| it.size() as u64).sum();
    assert!(queue.stats().history_bytes >= 2 * 200 + size, "their attempts count");
}

#[tokio::test]
async fn records_in_full_have_a_budget() {
    let mut fixture = Fixture::new();
    fixture.config.history_full_per_second = 2;
    let queue = fixture.open();
    let acme = Arc::from("acme");
    assert_eq!([(); 3].map(|()| queue.records_in_full(&acme)), [true, true, false]);
    assert!(queue.records_in_full(&Arc::from("other")));
    fixture.clock.advance(Duration::from_secs(1));
    assert!(queue.records_in_full(&acme));
}

#[tokio::test]
async fn what_nobody_waits_for_is_told_when_it_is_on_disk() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a", "b", "c"]), PATIENCE).await.unwrap();
    let envelopes = queue.fresh().take().envelopes;
    let delivered = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    let settlements = [settlement(&envelopes[0], delivered), settlement(&envelopes[2], later(5, false))];
    queue.settle_all(settlements.to_vec());
    let mut settled = Vec::new();
    while settled.len() < 2 {
        tokio::time::timeout(PATIENCE, queue.fresh().arrived()).await.expect("it is told");
        settled.extend(queue.fresh().take().settled);
    }
    assert_eq!(settled, [Seq(1), Seq(3)]);
    assert_eq!(queue.stats().ledger.delivered, 1);
    assert_eq!(waiting(&queue, "acme").await.len(), 2);
}

#[tokio::test]
async fn old_records_go_and_dead_letters_stay() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a"]), PATIENCE).await.unwrap();
    end_all(&queue, "acme", Outcome::Dead, Reason::Wigzo400).await;
    queue.append(batch("acme", &["b"]), PATIENCE).await.unwrap();
    end_all(&queue, "acme", Outcome::Delivered, Reason::Delivered).await;
    assert!(queue.stats().history_bytes > 0);
    fixture.clock.advance(Duration::from_hours(8 * 24));
    let deadline = std::time::Instant::now() + PATIENCE;
    while queue.stats().history_bytes > 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", queue.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let records = found(&queue, Lookup { limit: 10, ..Lookup::default() }).await;
    assert_eq!(records.iter().map(|it| it.message_id.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(queue.stats().ledger.delivered, 1, "the ledger remembers what the history forgot");
}

#[tokio::test]
async fn at_the_disk_limit_new_events_are_refused_and_accepted_ones_still_settle() {
    let mut fixture = Fixture::new();
    fixture.config.max_disk = ByteSize::kib(200);
    let queue = fixture.open();
    let mut stored = 0;
    let refused = loop {
        let ids: Vec<String> = (0..100).map(|n| format!("{stored}-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        match queue.append(batch("acme", &ids), PATIENCE).await {
            Ok(appended) => stored += appended.accepted,
            Err(error) => break error,
        }
        assert!(stored < 10_000, "the limit was never reached");
    };
    assert_eq!(refused, AppendError::Full);
    assert_eq!(queue.stats().ledger.waiting(), stored as u64);
    let first = waiting(&queue, "acme").await.remove(0);
    queue
        .settle(settlement(
            &first,
            Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered },
        ))
        .await;
    assert_eq!(queue.stats().ledger.delivered, 1);
}

/// Appends one event and delivers it; while the queue is full, again and again until it is taken.
async fn deliver_one(queue: &Sqlite, id: usize) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while let Err(error) = queue.append(batch("acme", &[&id.to_string()]), PATIENCE).await {
        assert_eq!(error, AppendError::Full);
        assert!(std::time::Instant::now() < deadline, "{:?}", queue.stats());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    end_all(queue, "acme", Outcome::Delivered, Reason::Delivered).await;
}

#[tokio::test]
async fn a_queue_that_is_never_idle_tidies_up_all_the_same() {
    let mut fixture = Fixture::new();
    fixture.config.history_size = ByteSize::kib(4);
    fixture.config.history_full_per_second = 1_000_000;
    fixture.config.history_full_per_second_in_all = 1_000_000;
    let queue = fixture.open();
    let deadline = std::time::Instant::now() + PATIENCE;
    let (mut id, mut most) = (0, 0);
    loop {
        deliver_one(&queue, id).await;
        id += 1;
        let size = queue.stats().history_bytes;
        if size < most {
            break;
        }
        most = size;
        assert!(
            std::time::Instant::now() < deadline,
            "{id} events and no record has gone: {:?}",
            queue.stats()
        );
    }
    let records = found(&queue, Lookup { limit: 100_000, ..Lookup::default() }).await;
    assert!(records.iter().any(|record| record.number == Seq(id as u64)), "only the oldest go");
}

#[tokio::test]
async fn space_that_is_free_goes_back_to_the_file_system() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let pages = || {
        queue.read(|connection| connection.pragma_query_value(None, "page_count", |row| row.get::<_, u64>(0)))
    };
    for n in 0..20 {
        let mut large = envelope("acme", &n.to_string());
        large.payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(500_000)).into();
        queue.append(vec![large], PATIENCE).await.unwrap();
    }
    let most = pages().await.unwrap();
    for envelope in waiting(&queue, "acme").await {
        let delivered = Settlement::ended(&envelope, Outcome::Delivered, Reason::Delivered);
        queue.settle(Settlement { account: Account::InALine, ..delivered }).await;
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while pages().await.unwrap() > most / 2 {
        assert!(std::time::Instant::now() < deadline, "{} of {most} pages", pages().await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn history_gives_way_to_new_events_when_the_disk_limit_is_reached() {
    let mut fixture = Fixture::new();
    fixture.config.max_disk = ByteSize::kib(200);
    fixture.config.history_full_per_second = 1_000_000;
    fixture.config.history_full_per_second_in_all = 1_000_000;
    let queue = fixture.open();
    for id in 0..700 {
        deliver_one(&queue, id).await;
    }
    assert_eq!(queue.stats().ledger.delivered, 700);
}

#[tokio::test]
async fn records_go_when_they_are_as_old_as_they_may_get() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let retention = fixture.config.history_retention.0;
    let kept = async || {
        let records = found(&queue, Lookup { limit: 10, ..Lookup::default() }).await;
        records.into_iter().map(|record| record.number.0).collect::<Vec<_>>()
    };
    let goes = async |left: &[u64]| {
        let deadline = std::time::Instant::now() + PATIENCE;
        while kept().await != left {
            assert!(std::time::Instant::now() < deadline, "{:?} of {left:?}", kept().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    deliver_one(&queue, 0).await;
    fixture.clock.advance(retention / 2);
    deliver_one(&queue, 1).await;
    // Long enough for the queue to look, and to find nothing that is too old.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(kept().await, [2, 1]);
    fixture.clock.advance(retention / 2 + Duration::from_millis(1));
    goes(&[2]).await;
    fixture.clock.advance(retention);
    goes(&[]).await;
    assert_eq!(queue.stats().history_bytes, 0);
    assert_eq!(queue.stats().ledger.delivered, 2, "the count stays");
}

#[tokio::test]
async fn the_attempts_of_an_event_that_keeps_failing_are_bounded() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a"]), PATIENCE).await.unwrap();
    let envelope = waiting(&queue, "acme").await.remove(0);
    let later =
        Resolution::Later { due: UnixMillis(1_800_000_060_000), reason: Reason::Wigzo503, parked: false };
    for tries in 1..=100 {
        let account = Account::InFull(vec![Attempt { duration_ms: tries, ..attempt() }]);
        let progress = tried(u32::try_from(tries).unwrap());
        queue.settle(Settlement { progress, account, ..settlement(&envelope, later) }).await;
    }
    let delivered = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    let last = Account::InFull(vec![Attempt { duration_ms: 101, ..attempt() }]);
    queue
        .settle(Settlement { progress: tried(100), account: last, ..settlement(&envelope, delivered) })
        .await;
    let record = found(&queue, Lookup { limit: 1, in_full: true, ..Lookup::default() }).await.remove(0);
    let kept: Vec<u64> = record.attempts.iter().map(|attempt| attempt.duration_ms).collect();
    assert_eq!(kept, (82..=101).collect::<Vec<_>>(), "the newest stay");
    let size: u64 = record.attempts.iter().map(|attempt| attempt.size() as u64).sum();
    assert!(queue.stats().history_bytes >= size, "all attempts count, not only the last round's");
}

fn deletion(organization: &str, id: &str) -> NewEnvelope {
    NewEnvelope { kind: "delete".into(), title: "".into(), forgets: true, ..envelope(organization, id) }
}

#[tokio::test]
async fn a_forgotten_person_leaves_counts_and_nothing_else() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let ended = |outcome, reason| Resolution::Ended { outcome, reason };
    queue.append(batch("acme", &["a", "b", "c"]), PATIENCE).await.unwrap();
    let mut stranger = envelope("acme", "s");
    stranger.lane = "user-7".into();
    queue.append(vec![stranger, envelope("other", "o")], PATIENCE).await.unwrap();
    let envelopes = waiting(&queue, "acme").await;
    queue.settle(settlement(&envelopes[0], ended(Outcome::Delivered, Reason::Delivered))).await;
    queue.settle(settlement(&envelopes[1], ended(Outcome::Dead, Reason::Wigzo400))).await;
    queue.fresh().take();

    assert_eq!(queue.append(vec![deletion("acme", "d")], PATIENCE).await.unwrap().accepted, 1);
    let forgotten = queue.fresh().take().forgotten;
    assert_eq!((&*forgotten[0].lane, forgotten[0].upto), ("user-42", Seq(6)));
    let left = waiting(&queue, "acme").await;
    assert_eq!(left.iter().map(|it| &*it.content.message_id).collect::<Vec<_>>(), ["s"], "at once");
    queue.append(batch("acme", &["later"]), PATIENCE).await.unwrap();

    let all = Lookup { limit: 100, in_full: true, ..Lookup::default() };
    let deadline = std::time::Instant::now() + PATIENCE;
    let records = loop {
        let records = found(&queue, all.clone()).await;
        let named = records.iter().filter(|it| it.person == "user-42" && it.organization == "acme");
        if named.map(|it| it.message_id.as_str()).eq(["later"]) {
            break records;
        }
        assert!(std::time::Instant::now() < deadline, "{records:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let of = |number: u64| records.iter().find(|it| it.number == Seq(number)).unwrap();
    for (number, state, reason) in [
        (1, State::Delivered, Reason::Delivered),
        (2, State::Dead, Reason::Wigzo400),
        (3, State::Filtered, Reason::UserDeleted),
        (6, State::Filtered, Reason::UserDeleted),
    ] {
        let record = of(number);
        assert_eq!((record.state, record.reason), (state, Some(reason)), "{record:?}");
        assert!(record.payload.is_none() && record.attempts.is_empty(), "{record:?}");
        let names = [&record.person, &record.message_id, &record.title, &record.calls_done];
        assert!(names.iter().all(|name| name.is_empty()), "{record:?}");
    }
    assert_eq!((of(4).person.as_str(), of(5).organization.as_str()), ("user-7", "other"));
    assert!(of(5).payload.is_some(), "another organization's person of the same name is another person");
    let stats = queue.stats();
    let counts = (stats.ledger.accepted, stats.ledger.filtered, stats.ledger.dead, stats.ledger.waiting());
    assert_eq!(counts, (7, 2, 1, 3));
    assert_eq!(stats.waiting.values().sum::<u64>(), 3);
    // It was in flight while its person was forgotten: it has ended already, and is not counted again.
    queue.settle(settlement(&envelopes[2], ended(Outcome::Delivered, Reason::Delivered))).await;
    let after = queue.stats();
    assert_eq!((after.ledger, &after.waiting), (stats.ledger, &stats.waiting));
    drop(queue);
    let again = fixture.open().append(vec![deletion("acme", "d")], PATIENCE).await;
    assert_eq!(again.unwrap().duplicates, 1, "a deletion that is sent again is known");
}

#[tokio::test]
async fn forgetting_goes_on_after_a_restart() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a", "b"]), PATIENCE).await.unwrap();
    queue.append(vec![deletion("acme", "d")], PATIENCE).await.unwrap();
    // The request is on disk; whatever has been carried out of it by now, the rest follows.
    drop(queue);
    let queue = fixture.open();
    assert!(waiting(&queue, "acme").await.is_empty());
    let deadline = std::time::Instant::now() + PATIENCE;
    while queue.stats().ledger.waiting() > 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", queue.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stats = queue.stats();
    assert_eq!((stats.ledger.filtered, stats.waiting.values().sum::<u64>()), (3, 0));
}

fn later(minutes: u64, parked: bool) -> Resolution {
    let due = UnixMillis(1_800_000_000_000 + minutes * 60_000);
    Resolution::Later { due, reason: Reason::Wigzo503, parked }
}

#[tokio::test]
async fn a_parked_envelope_stays_parked_and_is_read_apart() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a", "b", "c", "d"]), PATIENCE).await.unwrap();
    queue.append(batch("other", &["o"]), PATIENCE).await.unwrap();
    let envelopes = waiting(&queue, "acme").await;
    queue.settle(settlement(&envelopes[0], later(9, true))).await;
    queue.settle(settlement(&envelopes[1], later(5, true))).await;
    queue.settle(settlement(&envelopes[2], later(7, false))).await;
    // A later round that does not ask for it leaves it parked.
    queue.settle(settlement(&envelopes[0], later(3, false))).await;

    let ids =
        |envelopes: &[Envelope]| -> String { envelopes.iter().map(|it| &*it.content.message_id).collect() };
    let parked = queue.parked(Arc::from("acme"), 10).await.unwrap();
    assert_eq!(
        (ids(&parked).as_str(), parked.iter().all(|it| it.parked)),
        ("ab", true),
        "earliest due first"
    );
    assert_eq!(ids(&queue.parked(Arc::from("acme"), 1).await.unwrap()), "a");
    assert!(queue.parked(Arc::from("other"), 10).await.unwrap().is_empty());
    assert_eq!(ids(&waiting(&queue, "acme").await), "cd");
    drop(queue);
    let queue = fixture.open();
    let counts = |stats: &Stats| (stats.waiting.get("acme").copied(), stats.parked.get("acme").copied());
    assert_eq!(counts(&queue.stats()), (Some(4), Some(2)));
    assert_eq!(ids(&queue.parked(Arc::from("acme"), 10).await.unwrap()), "ab");
    let records = found(&queue, Lookup { limit: 10, ..Lookup::default() }).await;
    let states: Vec<State> = records.iter().map(|it| it.state).collect();
    assert_eq!(states, [State::Waiting, State::Waiting, State::Retrying, State::Parked, State::Parked]);

    let ended = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    queue.settle(settlement(&envelopes[0], ended)).await;
    queue.settle(settlement(&envelopes[2], ended)).await;
    assert_eq!(counts(&queue.stats()), (Some(2), Some(1)));
    queue.append(vec![deletion("acme", "x")], PATIENCE).await.unwrap();
    assert!(
        queue.parked(Arc::from("acme"), 10).await.unwrap().is_empty(),
        "a forgotten person's are not worked"
    );
    let deadline = std::time::Instant::now() + PATIENCE;
    while queue.stats().waiting.contains_key("acme") {
        assert!(std::time::Instant::now() < deadline, "{:?}", queue.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(counts(&queue.stats()), (None, None));
}

/// A database as the first format's program left it, with something in every table.
fn format_1(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch(schema::STEPS[0].sql).unwrap();
    let row = |table: &str, values: &str| {
        connection.execute(&format!("INSERT INTO {table} VALUES ({values})"), []).unwrap();
    };
    let about = |seq: u64, organization: &str| {
        format!(
            "{seq}, '{organization}', 'v1', 'm-{seq}', 'user-42', 'track', 'Product Viewed', 1799999999000"
        )
    };
    let content = r#"'', '{"type":"track","price":1299.00}'"#;
    row(
        "waiting",
        &format!(
            "{}, 1800000060000, 'wigzo_503', 3, 1800000000000, 1, 'identify', {content}",
            about(2, "acme")
        ),
    );
    row("waiting", &format!("{}, NULL, NULL, 0, NULL, 0, '', {content}", about(4, "acme")));
    row("waiting", &format!("{}, NULL, NULL, 0, NULL, 0, '', {content}", about(5, "other")));
    row("dead", &format!("{}, 1800000000000, 'dead', 'wigzo_400', 1, '', {content}, 300", about(1, "acme")));
    row(
        "settled",
        &format!("{}, 1800000000000, 'delivered', 'delivered', 0, 'page', NULL, NULL, 200", about(3, "acme")),
    );
    row("attempts", "1, 1, 1800000000000, 'identify', 400, 12, 'wigzo_400', 'POST …', 'no'");
    connection
        .execute(
            "INSERT INTO seen VALUES (1, ?, 4)",
            [DedupKey::new("acme", SourceRoute::new("v1"), "m-4").0],
        )
        .unwrap();
    connection
        .execute_batch("UPDATE ledger SET accepted = 5, delivered = 1, dead = 1, history_bytes = 200")
        .unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
}

#[tokio::test]
async fn a_database_of_the_first_format_is_migrated_with_all_it_holds() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(&fixture.config.path).unwrap();
    format_1(&fixture.config.path.join(FILE));
    let queue = fixture.open();
    let stats = queue.stats();
    assert_eq!((stats.ledger.accepted, stats.ledger.waiting(), stats.history_bytes), (5, 3, 200));
    assert_eq!((stats.waiting["acme"], stats.waiting["other"], stats.dead_letters["acme"]), (2, 1, 1));
    let envelopes = waiting(&queue, "acme").await;
    assert_eq!(
        envelopes.iter().map(|it| (it.seq, it.number)).collect::<Vec<_>>(),
        [(Seq(2), Seq(2)), (Seq(4), Seq(4))]
    );
    assert_eq!((envelopes[0].progress.tries, envelopes[0].due), (3, Some(UnixMillis(1_800_000_060_000))));
    let records = found(&queue, Lookup { limit: 10, in_full: true, ..Lookup::default() }).await;
    let found: Vec<(u64, State)> = records.iter().map(|it| (it.number.0, it.state)).collect();
    let expected = [
        (5, State::Waiting),
        (4, State::Waiting),
        (3, State::Delivered),
        (2, State::Retrying),
        (1, State::Dead),
    ];
    assert_eq!(found, expected);
    assert_eq!(records[4].attempts[0].response, "no");

    let again = vec![envelope("acme", "m-4"), envelope("acme", "m-6")];
    assert_eq!(queue.append(again, PATIENCE).await, Ok(Appended { accepted: 1, duplicates: 1 }));
    assert_eq!(waiting(&queue, "acme").await.last().unwrap().seq, Seq(6), "numbers go on where they were");
    drop(queue);
    assert_eq!(fixture.open().stats().waiting["acme"], 3, "the second start migrates nothing");
}

#[tokio::test]
async fn one_process_owns_the_directory() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let second = Sqlite::open(&fixture.config, fixture.clock.clone()).unwrap_err();
    assert!(second.to_string().contains("in use by another process"), "{second}");
    drop(queue);
    fixture.open();
}

#[tokio::test]
async fn a_directory_of_a_newer_version_is_refused() {
    let fixture = Fixture::new();
    fixture.open();
    let path = fixture.config.path.join(FILE);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Sqlite::open(&fixture.config, fixture.clock.clone()).unwrap_err();
    assert!(matches!(error, QueueError::TooNew { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let fixture = Fixture::new();
    let blocked = fixture.directory.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let config = Config { path: blocked.join("queue"), ..Config::default() };
    let error = Sqlite::open(&config, Clock::system()).unwrap_err();
    assert!(error.to_string().contains(&*Path::new("file").join("queue").to_string_lossy()), "{error}");
}

#[test]
fn an_append_is_either_taken_or_withdrawn() {
    let decision = Decision::default();
    assert!(decision.take() && !decision.withdraw());
    let decision = Decision::default();
    assert!(decision.withdraw() && !decision.take());
}

#[tokio::test]
async fn many_senders_share_commits() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let mut set = tokio::task::JoinSet::new();
    let queue = Arc::new(queue);
    for n in 0..200 {
        let queue = Arc::clone(&queue);
        set.spawn(async move { queue.append(vec![envelope("acme", &n.to_string())], PATIENCE).await });
    }
    while let Some(result) = set.join_next().await {
        result.unwrap().unwrap();
    }
    let stats = queue.stats();
    assert_eq!(stats.ledger.accepted, 200);
    assert!(stats.commits < stats.commands, "{} commits for {} commands", stats.commits, stats.commands);
    let seqs: Vec<u64> = waiting(&queue, "acme").await.iter().map(|it| it.seq.0).collect();
    assert_eq!(seqs, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn waiting_envelopes_are_read_again_by_their_numbers() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a", "b", "c", "d", "e"]), PATIENCE).await.unwrap();
    queue.append(batch("other", &["o"]), PATIENCE).await.unwrap();
    let envelopes = waiting(&queue, "acme").await;
    let ended = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    queue.settle(settlement(&envelopes[1], ended)).await;
    queue.settle(settlement(&envelopes[2], later(5, true))).await;
    queue.settle(Settlement { progress: tried(2), ..settlement(&envelopes[3], later(5, false)) }).await;
    let reread = async |numbers: &[u64]| {
        let numbers = numbers.iter().copied().map(Seq).collect();
        queue.reread(Arc::from("acme"), numbers).await.unwrap()
    };
    let found = reread(&[5, 4, 3, 2, 1, 6, 99]).await;
    let numbers: Vec<u64> = found.iter().map(|envelope| envelope.seq.0).collect();
    assert_eq!(numbers, [1, 4, 5], "in order; neither ended nor parked ones, nor another organization's");
    assert_eq!(found[0], envelopes[0]);
    assert_eq!((&found[1].progress, found[1].due), (&tried(2), Some(UnixMillis(1_800_000_300_000))));
    queue.append(vec![deletion("acme", "x")], PATIENCE).await.unwrap();
    assert!(reread(&[1, 4, 5]).await.is_empty(), "what is forgotten is not found");
}

#[tokio::test]
async fn numbers_are_read_as_envelopes_are_but_without_payload() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(batch("acme", &["a", "b", "c", "d", "e"]), PATIENCE).await.unwrap();
    queue.append(batch("other", &["o"]), PATIENCE).await.unwrap();
    let envelopes = waiting(&queue, "acme").await;
    queue.settle(settlement(&envelopes[1], later(5, true))).await;
    queue.settle(settlement(&envelopes[2], later(5, false))).await;
    let numbers = async |after, limit| queue.numbers(Arc::from("acme"), Seq(after), limit).await.unwrap();
    let due = Some(UnixMillis(1_800_000_300_000));
    let expected = [
        number(&envelopes[0]),
        Number { due, ..number(&envelopes[2]) },
        number(&envelopes[3]),
        number(&envelopes[4]),
    ];
    assert_eq!(numbers(0, 10).await, expected);
    assert_eq!(numbers(1, 2).await, expected[1..3]);
    queue.append(vec![deletion("acme", "x")], PATIENCE).await.unwrap();
    assert!(numbers(0, 10).await.is_empty(), "what is forgotten is not found");
}

#[tokio::test]
async fn a_lane_that_is_skipped_is_read_by_number_and_does_not_count() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let in_lane =
        |n: usize, lane: &str| NewEnvelope { lane: lane.into(), ..envelope("acme", &format!("{n}")) };
    let events = (1..=100).map(|n| in_lane(n, if n % 10 == 0 { "user-42" } else { "blocked" })).collect();
    queue.append(events, PATIENCE).await.unwrap();
    let skip: Arc<[LaneKey]> = Arc::from([LaneKey::of("blocked")]);
    let claim = async |after, limit| {
        let claimed = queue.claim(Arc::from("acme"), Seq(after), limit, Arc::clone(&skip)).await.unwrap();
        let seqs: Vec<u64> = claimed
            .iter()
            .map(|it| match it {
                Claimed::Envelope(envelope) => envelope.seq.0,
                Claimed::Number(number) => number.seq.0,
            })
            .collect();
        let envelopes: Vec<Envelope> = claimed.into_iter().filter_map(Claimed::envelope).collect();
        assert!(envelopes.iter().all(|it| &*it.content.lane == "user-42" && !it.content.payload.is_empty()));
        (seqs, envelopes.len())
    };
    assert_eq!(claim(0, 2).await, ((1..=20).collect(), 2), "in order, up to the last that counts");
    assert_eq!(
        claim(20, 1_000).await,
        ((21..=70).collect(), 5),
        "one read looks at a bounded number of rows"
    );
    assert_eq!(claim(90, 1_000).await, ((91..=100).collect(), 1));
    let numbers = queue.numbers(Arc::from("acme"), Seq(0), 100).await.unwrap();
    assert_eq!((numbers[0].lane, numbers[9].lane), (LaneKey::of("blocked"), LaneKey::of("user-42")));
}
