//! What has been waiting longest.

use super::*;
use crate::queue::{Fate, Oldest};

fn arrived(organization: &str, id: &str, at: u64) -> NewEnvelope {
    NewEnvelope { received_at: UnixMillis(at), ..envelope(organization, id) }
}

async fn oldest(queue: &Sqlite) -> Vec<(String, u64)> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let Oldest { arrivals, next } = queue.oldest(after).await.unwrap();
        found.extend(arrivals.into_iter().map(|(name, at)| (name.to_string(), at.0)));
        if next.is_none() {
            return found;
        }
        after = next;
    }
}

#[tokio::test]
async fn it_is_the_first_of_each_organization_that_still_waits() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    assert_eq!(oldest(&queue).await, []);
    let envelopes = vec![arrived("b", "1", 10), arrived("a", "2", 20), arrived("b", "3", 30)];
    queue.append(envelopes, PATIENCE).await.unwrap();
    assert_eq!(oldest(&queue).await, [("a".to_owned(), 20), ("b".to_owned(), 10)]);
    let first = waiting(&queue, "b").await.remove(0);
    let ended = Resolution::Ended { outcome: Outcome::Delivered, reason: Reason::Delivered };
    queue.settle(settlement(&first, ended)).await;
    end_all(&queue, "a", Outcome::Delivered, Reason::Delivered).await;
    assert_eq!(oldest(&queue).await, [("b".to_owned(), 30)]);
}

#[tokio::test]
async fn a_replayed_letter_was_not_waiting_all_the_time() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    queue.append(vec![arrived("a", "old", 1)], PATIENCE).await.unwrap();
    end_all(&queue, "a", Outcome::Dead, Reason::Wigzo400).await;
    queue.decide(vec![Seq(1)], Fate::Replay { repeat_done: false }).await.unwrap();
    assert_eq!(oldest(&queue).await, [], "nothing is known of when it was sent again");
    queue.append(vec![arrived("a", "new", 70)], PATIENCE).await.unwrap();
    assert_eq!(oldest(&queue).await, [("a".to_owned(), 70)]);
}

#[tokio::test]
async fn any_number_of_organizations_is_read_a_page_at_a_time() {
    let fixture = Fixture::new();
    let queue = fixture.open();
    let names: Vec<_> = (0..1_000).map(|number| format!("organization-{number:04}")).collect();
    let envelopes = names.iter().zip(0..).map(|(name, at)| arrived(name, "m", at)).collect();
    queue.append(envelopes, PATIENCE).await.unwrap();
    let expected: Vec<_> = names.into_iter().zip(0..).collect();
    assert_eq!(oldest(&queue).await, expected);
}
