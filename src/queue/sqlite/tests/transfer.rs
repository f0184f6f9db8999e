//! What an export carries, and what it leaves behind.

use super::*;
use crate::queue::sqlite::export::{Exported, Wish, export};
use crate::queue::transfer::{Carried, ImportError, Imported, Line, LineReader, Part};

const HISTORY: Wish = Wish { history: true, seal: false };

/// Exports a queue, served or not: what is told, and the lines.
fn lines(fixture: &Fixture, name: &str, wish: Wish) -> (Exported, Vec<Line>) {
    let file = fixture.directory.path().join(name);
    let mut told = Vec::new();
    let exported = export(&fixture.config.path, &file, wish, fixture.clock.now(), &mut |done, total| {
        told.push((done, total));
    });
    let exported = exported.unwrap();
    let all = exported.waiting + exported.dead + exported.history;
    assert_eq!(told, (1..=all).map(|done| (done, all)).collect::<Vec<_>>(), "how far it is");
    let bytes = std::fs::read(&file).unwrap();
    let mut reader = LineReader::new(bytes.as_slice());
    let mut lines = Vec::new();
    while let Some(line) = reader.next().unwrap() {
        lines.push(line);
    }
    (exported, lines)
}

fn events(lines: &[Line]) -> Vec<Carried> {
    let event = |line: &Line| match line {
        Line::Event(event) => Some(Carried { number: 0, ..(**event).clone() }),
        Line::Export(_) | Line::Keys(_) | Line::End(_) => None,
    };
    lines.iter().filter_map(event).collect()
}

fn part(lines: &[Line], from: u64) -> Part {
    let Some(Line::Export(header)) = lines.first() else { panic!("no header") };
    let rest = lines.iter().skip(usize::try_from(from).unwrap()).cloned().collect();
    Part { export: header.export.clone(), from, lines: rest }
}

/// One event in every place and state.
async fn full(queue: &Sqlite) {
    queue
        .append(batch("acme", &["waits", "retries", "parked", "dead", "delivered", "discarded"]), PATIENCE)
        .await
        .unwrap();
    let envelopes = waiting(queue, "acme").await;
    let later =
        |parked| Resolution::Later { due: UnixMillis(1_800_000_060_000), reason: Reason::Wigzo503, parked };
    let dead = Resolution::Ended { outcome: Outcome::Dead, reason: Reason::Wigzo400 };
    let delivered = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    for (place, resolution) in [(1, later(false)), (2, later(true)), (3, dead), (4, delivered), (5, dead)] {
        let settled = Settlement { progress: tried(1), ..settlement(&envelopes[place], resolution) };
        queue.settle(settled).await;
    }
    let discarded = envelopes[5].seq;
    queue.decide(vec![discarded], Fate::Discard { why: "a test".into() }).await.unwrap();
}

#[tokio::test]
async fn an_import_holds_what_the_export_held() {
    let (from, to) = (Fixture::new(), Fixture::new());
    let queue = from.open();
    full(&queue).await;
    let (exported, carried) = lines(&from, "a.jsonl", HISTORY);
    assert_eq!(exported, Exported { waiting: 3, dead: 1, history: 2, keys: 0 });

    let into = to.open();
    // It has something of its own: numbers cannot stay as they are.
    into.append(batch("other", &["own"]), PATIENCE).await.unwrap();
    let imported = into.import(part(&carried, 0)).await.unwrap();
    assert_eq!(imported, Imported { lines: carried.len() as u64, accepted: 6, duplicates: 0 });
    let stats = into.stats();
    assert_eq!(
        stats.ledger,
        crate::outcome::Ledger { accepted: 7, delivered: 1, filtered: 0, expired: 0, dead: 2 },
        "a discarded letter stays counted as dead"
    );
    assert_eq!(
        (stats.waiting[&Arc::from("acme") as &Arc<str>], stats.dead_letters[&Arc::from("acme") as &Arc<str>]),
        (3, 1)
    );
    assert!(stats.parked.is_empty(), "what was parked lines up again");
    let arrived: Vec<_> = waiting(&into, "acme").await;
    let ids: Vec<_> = arrived.iter().map(|it| &*it.content.message_id).collect();
    assert_eq!(ids, ["waits", "retries", "parked"]);
    assert_eq!(
        (arrived[1].progress.clone(), arrived[1].due),
        (tried(1), Some(UnixMillis(1_800_000_060_000)))
    );

    let (_, again) = lines(&to, "b.jsonl", HISTORY);
    let mut own = events(&again);
    own.retain(|event| event.organization == "acme");
    assert_eq!(own, events(&carried), "all but numbers");
    assert_eq!(into.append(batch("acme", &["delivered", "parked"]), PATIENCE).await.unwrap().duplicates, 2);

    // A part that was taken, or is not the next one, changes nothing.
    let taken = carried.len() as u64;
    for from in [0, 1, taken + 1] {
        let part = Part { lines: carried.clone(), from, ..part(&carried, 0) };
        let refused = into.import(part).await;
        assert!(
            matches!(refused, Err(ImportError::NotNext { taken: at }) if at == taken),
            "{from}: {refused:?}"
        );
    }
    assert_eq!(into.stats().ledger.accepted, 7);
    drop(into);
    let reopened = to.open();
    let asked = reopened.import(Part { lines: Vec::new(), ..part(&carried, 0) }).await.unwrap();
    assert_eq!(asked, Imported { lines: taken, accepted: 0, duplicates: 0 }, "remembered over a restart");
}

#[tokio::test]
async fn keys_of_events_that_are_not_exported_are_remembered_elsewhere_too() {
    let (from, to) = (Fixture::new(), Fixture::new());
    let queue = from.open();
    full(&queue).await;
    let (exported, carried) = lines(&from, "a.jsonl", Wish::default());
    assert_eq!(exported, Exported { waiting: 3, dead: 1, history: 0, keys: 2 });
    let into = to.open();
    into.import(part(&carried, 0)).await.unwrap();
    let repeated =
        into.append(batch("acme", &["delivered", "discarded", "waits", "new"]), PATIENCE).await.unwrap();
    assert_eq!(repeated, Appended { accepted: 1, duplicates: 3 });
}

#[tokio::test]
async fn an_event_whose_key_is_forgotten_is_carried_all_the_same() {
    let (from, to) = (Fixture::new(), Fixture::new());
    let queue = from.open();
    queue.append(batch("acme", &["old"]), PATIENCE).await.unwrap();
    drop(queue);
    Connection::open(from.config.path.join(FILE)).unwrap().execute("DELETE FROM seen_recent", []).unwrap();
    let (_, carried) = lines(&from, "a.jsonl", Wish::default());
    assert_eq!(events(&carried)[0].key, None);
    let into = to.open();
    assert_eq!(into.import(part(&carried, 0)).await.unwrap().accepted, 1);
    let by_id = Filter {
        organization: Some(Arc::from("acme")),
        message_id: Some("old".to_owned()),
        ..Filter::default()
    };
    let found = found(&into, Lookup { filter: by_id, limit: 1, ..Lookup::default() }).await;
    assert_eq!(found.len(), 1, "found by its id");
}

#[tokio::test]
async fn nothing_of_a_person_who_is_being_forgotten_is_exported() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    full(&queue).await;
    let deletion = NewEnvelope { forgets: true, ..envelope("acme", "deletion") };
    let mut other = envelope("acme", "stays");
    other.lane = "user-43".into();
    queue.append(vec![deletion, other], PATIENCE).await.unwrap();
    // Whether the deletion has come far or not yet begun.
    let (exported, carried) = lines(&fixture, "a.jsonl", HISTORY);
    assert_eq!((exported.waiting, exported.dead), (1, 0));
    for event in events(&carried) {
        assert_ne!(event.person, "user-42", "{event:?}");
        assert!(event.person == "user-43" || event.payload.is_none(), "{event:?}");
    }
}

#[tokio::test]
async fn a_sealed_queue_is_not_opened_again_and_a_failed_export_seals_nothing() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let (directory, seal) = (fixture.config.path.clone(), Wish { history: false, seal: true });
    let sealed = |file: &Path| export(&directory, file, seal, fixture.clock.now(), &mut |_, _| {});
    let missing = fixture.directory.path().join("no/such/directory/a.jsonl");
    assert!(sealed(&missing).is_err());
    drop(fixture.open());
    sealed(&fixture.directory.path().join("a.jsonl")).unwrap();
    let refused = Sqlite::open(&fixture.config, fixture.clock.clone());
    assert!(matches!(refused, Err(QueueError::Sealed(_))), "{refused:?}");
    std::fs::remove_file(directory.join("sealed")).unwrap();
    drop(fixture.open());
}
