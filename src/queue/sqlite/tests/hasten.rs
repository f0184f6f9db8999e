//! Ending the wait of events that wait for another attempt.

use super::*;
use crate::queue::Fate;

const NOW: UnixMillis = UnixMillis(1_800_000_060_000);

/// An event of the fixtures' lane, by its number.
fn in_lane(seq: u64) -> (LaneKey, Seq) {
    (LaneKey::of("user-42"), Seq(seq))
}

async fn hasten(queue: &Sqlite, selection: Selection) -> Hastened {
    queue.hasten(Arc::from("acme"), selection, NOW).await.unwrap()
}

async fn due(queue: &Sqlite) -> Vec<(u64, Option<u64>)> {
    let mut envelopes = waiting(queue, "acme").await;
    envelopes.extend(queue.parked(Arc::from("acme"), 1_000).await.unwrap());
    envelopes.sort_by_key(|it| it.seq);
    envelopes.iter().map(|it| (it.seq.0, it.due.map(|due| (due.0 - 1_800_000_000_000) / 60_000))).collect()
}

/// Events of `acme`: 1 waits for 5 minutes, 2 for 7 (parked), 3 for 9 for another reason, 4 was due, 5 was never tried,
/// 6 is dead, 7 is delivered.
async fn prepared(queue: &Sqlite) {
    queue.append(batch("acme", &["1", "2", "3", "4", "5", "6", "7"]), PATIENCE).await.unwrap();
    let envelopes = waiting(queue, "acme").await;
    let other =
        Resolution::Later { due: UnixMillis(1_800_000_540_000), reason: Reason::Unreachable, parked: false };
    let ended = |outcome, reason| Resolution::Ended { outcome, reason };
    for (index, resolution) in [
        (0, later(5, false)),
        (1, later(7, true)),
        (2, other),
        (3, later(0, false)),
        (5, ended(Outcome::Dead, Reason::Wigzo400)),
        (6, ended(Outcome::Delivered, Reason::Delivered)),
    ] {
        queue.settle(Settlement { progress: tried(1), ..settlement(&envelopes[index], resolution) }).await;
    }
}

#[tokio::test]
async fn all_events_that_wait_for_an_attempt_become_due_and_no_others() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    prepared(&queue).await;
    queue.append(batch("other", &["o"]), PATIENCE).await.unwrap();
    let other = waiting(&queue, "other").await.remove(0);
    queue.settle(settlement(&other, later(5, false))).await;
    let ledger = queue.stats().ledger;

    let hastened = hasten(&queue, Selection::All).await;
    assert_eq!(hastened, Hastened { count: 3, parked: 1, events: vec![in_lane(1), in_lane(3)] });
    assert!(hastened.is_complete());
    let expected = [(1, Some(1)), (2, Some(1)), (3, Some(1)), (4, Some(0)), (5, None)];
    assert_eq!(due(&queue).await, expected);
    assert_eq!(waiting(&queue, "other").await[0].due, Some(UnixMillis(1_800_000_300_000)));
    assert_eq!(queue.stats().ledger, ledger);
    assert_eq!(hasten(&queue, Selection::All).await, Hastened::default(), "they are due");
    assert_eq!(waiting(&queue, "acme").await[0].progress, tried(1), "its attempts stay");
    drop(queue);
    assert_eq!(due(&fixture.open()).await, expected);
}

#[tokio::test]
async fn events_are_selected_by_their_reason() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    prepared(&queue).await;
    assert_eq!(hasten(&queue, Selection::Reason(Reason::Wigzo500)).await, Hastened::default());
    let hastened = hasten(&queue, Selection::Reason(Reason::Unreachable)).await;
    assert_eq!(hastened, Hastened { count: 1, parked: 0, events: vec![in_lane(3)] });
    let hastened = hasten(&queue, Selection::Reason(Reason::Wigzo503)).await;
    assert_eq!(hastened, Hastened { count: 2, parked: 1, events: vec![in_lane(1)] });
}

#[tokio::test]
async fn one_event_is_selected_by_the_number_that_it_was_accepted_under() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    prepared(&queue).await;
    let event = |number| hasten(&queue, Selection::Event(Seq(number)));
    for number in [4, 5, 6, 7, 8, 99] {
        assert_eq!(event(number).await, Hastened::default(), "{number} does not wait for an attempt");
    }
    assert_eq!(event(2).await, Hastened { count: 1, parked: 1, events: Vec::new() });
    assert_eq!(event(1).await, Hastened { count: 1, parked: 0, events: vec![in_lane(1)] });
    assert_eq!(due(&queue).await[2], (3, Some(9)), "others go on waiting");

    queue.decide(vec![Seq(6)], Fate::Replay { repeat_done: false }).await.unwrap();
    let replayed = waiting(&queue, "acme").await.pop().unwrap();
    assert_eq!((replayed.seq, replayed.number), (Seq(8), Seq(6)));
    queue.settle(settlement(&replayed, later(5, false))).await;
    assert_eq!(event(8).await, Hastened::default(), "its place in the order is not its number");
    assert_eq!(event(6).await, Hastened { count: 1, parked: 0, events: vec![in_lane(8)] });
    assert_eq!(queue.hasten(Arc::from("other"), Selection::Event(Seq(3)), NOW).await.unwrap().count, 0);
}

#[tokio::test]
async fn many_events_take_many_steps_between_which_others_are_written() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let ids: Vec<String> = (0..600).map(|n| n.to_string()).collect();
    queue.append(batch("acme", &ids.iter().map(String::as_str).collect::<Vec<_>>()), PATIENCE).await.unwrap();
    let settlements = waiting(&queue, "acme").await.into_iter().enumerate().map(|(n, envelope)| {
        // A stretch in which nothing is to be changed is longer than one step looks at.
        settlement(&envelope, later(if (200..400).contains(&n) { 0 } else { 5 }, false))
    });
    for settlement in settlements {
        queue.settle(settlement).await;
    }
    let commits = queue.stats().commits;
    let mut hastening = queue.hasten(Arc::from("acme"), Selection::All, NOW);
    let mut appended = 0;
    let hastened = loop {
        tokio::select! {
            biased;
            hastened = &mut hastening => break hastened.unwrap(),
            result = queue.append(batch("acme", &[&format!("later-{appended}")]), PATIENCE) => {
                result.unwrap();
                appended += 1;
            }
        }
    };
    assert_eq!((hastened.count, hastened.events.len()), (400, 400));
    assert!(hastened.events.is_sorted());
    assert!(queue.stats().commits >= commits + appended && appended > 1, "{appended} appends in between");
}

#[tokio::test]
async fn one_event_is_found_without_a_walk_through_its_organization() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    for (selection, by) in [(Selection::All, "organization"), (Selection::Event(Seq(1)), "number")] {
        let plan = queue
            .read(move |connection| {
                let sql = format!("EXPLAIN QUERY PLAN {}", super::super::hasten::sql(selection));
                let mut statement = connection.prepare(&sql)?;
                statement.raw_query().mapped(|row| row.get(3)).collect::<rusqlite::Result<Vec<String>>>()
            })
            .await
            .unwrap()
            .join("; ");
        let is_by_organization = plan.contains("waiting_by_organization (organization=?");
        assert_eq!(is_by_organization, by == "organization", "{plan}");
        assert!(!plan.contains("SCAN"), "{plan}");
    }
}
