//! The queue on SQLite in a temporary directory: appending, handing over and settling, with the writer's thread.

use std::sync::Arc;
use std::time::Duration;

use wigzo_destination::clock::{Clock, UnixMillis};
use wigzo_destination::outcome::{Outcome, Reason};
use wigzo_destination::queue::sqlite::Sqlite;
use wigzo_destination::queue::{
    Account, Config, DedupKey, Engine, Envelope, NewEnvelope, Settlement, SourceRoute,
};

use super::work;

/// Records of a round: as many as a busy writer finds in a group.
pub(crate) const RECORDS: usize = 1_000;

const RECEIVED_AT: UnixMillis = UnixMillis(1_767_323_101_200);

/// Each round appends a request of records, takes them over as delivery does, and settles them as delivered.
pub(crate) fn cycle(rounds: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = Config { path: directory.path().to_owned(), ..Config::default() };
    let (queue, writer) = Sqlite::open(&config, Clock::manual(RECEIVED_AT)).expect("an empty directory");
    let organization: Arc<str> = Arc::from("acme");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for round in 0..rounds {
            let first = round * RECORDS;
            let envelopes = (first..first + RECORDS).map(|n| envelope(&organization, n)).collect();
            let appended = queue.append(envelopes, Duration::from_mins(10)).await.expect("an append");
            assert_eq!(appended.accepted, RECORDS);
            let settlements = queue.fresh().take().envelopes.iter().map(settled).collect();
            queue.settle_all(settlements);
            let mut settled = 0;
            while settled < RECORDS {
                queue.fresh().arrived().await;
                settled += queue.fresh().take().settled.len();
            }
        }
    });
    drop(queue);
    writer.join().expect("no panic");
}

/// Most of what a busy organization delivers is recorded in a line.
fn settled(envelope: &Envelope) -> Settlement {
    let settlement = Settlement::ended(envelope, Outcome::Delivered, Reason::Delivered);
    Settlement { account: Account::InALine, ..settlement }
}

fn envelope(organization: &Arc<str>, n: usize) -> NewEnvelope {
    let id = format!("message-{n:08}-0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11");
    NewEnvelope {
        organization: Arc::clone(organization),
        route: "v1".into(),
        key: DedupKey::new(organization, SourceRoute::new("/v1"), &id),
        message_id: id.into(),
        lane: format!("user-{n:08}").into(),
        kind: "track".into(),
        title: "Product Viewed".into(),
        received_at: RECEIVED_AT,
        payload: work::PRODUCT_VIEWED.into(),
        surroundings: "".into(),
        forgets: false,
    }
}
