//! What a disk may have done to the write-ahead log behind our back: cut it off anywhere, or changed a byte.
//!
//! What was acknowledged and stood in the part that is gone cannot survive. What is asserted: the requests before the
//! damage are there, in order, each whole; nothing of a later one is; the books balance, and the queue goes on.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;
use wigzo_destination::clock::{Clock, UnixMillis};
use wigzo_destination::queue::sqlite::Sqlite;
use wigzo_destination::queue::{Appended, Config, DedupKey, Engine, NewEnvelope, Purpose, SourceRoute};

use crate::books;
use crate::service::Service;

const REQUESTS: usize = 12;
const EVENTS: usize = 3;
const LOG: &str = "queue.sqlite-wal";
const HEADER: usize = 32;
const FRAME: usize = 24 + 4_096;

fn id(request: usize, event: usize) -> String {
    format!("m-{request:02}-{event}")
}

/// The directory of a service that was killed, and how long the log was when each request had been acknowledged.
async fn killed() -> (Arc<tempfile::TempDir>, Vec<usize>) {
    let service = Service::sandbox().config("[delivery.retry]\nbase = \"1h\"\ncap = \"1h\"\n").start().await;
    service.faults(&json!([{ "status": 500 }])).await;
    let mut lengths = Vec::new();
    for request in 0..REQUESTS {
        let events: Vec<_> = (0..EVENTS)
            .map(|event| {
                json!({
                    "type": "track", "event": "Seat Chosen", "userId": "user-42", "messageId": id(request, event),
                    "properties": { "text": "x".repeat(900 * event) }
                })
            })
            .collect();
        let reply = service.post("/v1/batch", &json!({ "batch": events }).to_string()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let log = fs::metadata(service.directory.path().join("queue").join(LOG)).unwrap();
        lengths.push(usize::try_from(log.len()).unwrap());
    }
    (service.kill().await, lengths)
}

/// Requests that must be found, and at most are, when the log is good up to here.
fn whole(lengths: &[usize], good: usize) -> RangeInclusive<usize> {
    let sure = lengths.iter().filter(|length| **length <= good).count();
    // Its commit may stand before the place where the log ended a moment later.
    sure..=(sure + 1).min(REQUESTS)
}

/// A copy of a queue with other bytes for a log, and without the index that SQLite makes anew.
fn copy(queue: &Path, log: &[u8]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(queue.join("queue.sqlite"), copy.path().join("queue.sqlite")).unwrap();
    fs::write(copy.path().join(LOG), log).unwrap();
    copy
}

/// Opens a damaged queue, and says how many requests are there.
async fn open(queue: &Path, what: &str) -> usize {
    let config = Config { path: queue.to_owned(), purpose: Purpose::Sandbox, ..Config::default() };
    let (opened, thread) =
        Sqlite::open(&config, Clock::system()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let accepted = usize::try_from(opened.stats().ledger.accepted).unwrap();
    assert_eq!(accepted % EVENTS, 0, "{what}: a request is there in part");
    let envelope = NewEnvelope {
        organization: Arc::from("default"),
        route: "v1".into(),
        key: DedupKey::new("default", SourceRoute::new("v1"), "new"),
        message_id: "new".into(),
        lane: "user-42".into(),
        kind: "track".into(),
        title: "Seat Chosen".into(),
        received_at: UnixMillis(1_800_000_000_000),
        payload: "{}".into(),
        surroundings: "".into(),
        forgets: false,
    };
    let appended = opened.append(vec![envelope], Duration::from_secs(10)).await;
    assert_eq!(appended, Ok(Appended { accepted: 1, duplicates: 0 }), "{what}: it does not go on");
    drop(opened);
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    assert_eq!(books::balance(queue).accepted, accepted as u64 + 1, "{what}");

    let requests = accepted / EVENTS;
    let expected = (0..requests).flat_map(|request| (0..EVENTS).map(move |event| id(request, event)));
    let expected: Vec<String> = expected.chain(["new".to_owned()]).collect();
    let connection = Connection::open(queue.join("queue.sqlite")).unwrap();
    let mut found = connection.prepare("SELECT message_id FROM waiting ORDER BY seq").unwrap();
    let found: Vec<String> = found.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, expected, "{what}");
    requests
}

#[tokio::test]
async fn a_log_that_is_cut_off_anywhere_holds_whole_requests() {
    let (directory, lengths) = killed().await;
    let queue = directory.path().join("queue");
    let log = fs::read(queue.join(LOG)).unwrap();
    let untouched = copy(&queue, &log);
    assert_eq!(open(untouched.path(), "only the index is missing").await, REQUESTS);

    let frames = (log.len() - HEADER) / FRAME;
    // In the header of the log, and for each of its last frames in its header, its page, and just before its end.
    let mut cuts = vec![0, 1, 16, HEADER - 1, HEADER];
    for frame in (0..frames).rev().take(30) {
        let start = HEADER + frame * FRAME;
        cuts.extend([start + 1, start + 23, start + 24, start + 2_000, start + FRAME - 1, start + FRAME]);
    }
    // Before the first frame lies the creation of the tables, which a cut may take away with everything else.
    for cut in cuts {
        let damaged = copy(&queue, &log[..cut.min(log.len())]);
        let requests = open(damaged.path(), &format!("cut at {cut} of {}", log.len())).await;
        assert!(whole(&lengths, cut).contains(&requests), "cut at {cut}: {requests} requests of {lengths:?}");
    }
}

#[tokio::test]
async fn a_log_with_a_changed_byte_is_good_up_to_there() {
    let (directory, lengths) = killed().await;
    let queue = directory.path().join("queue");
    let log = fs::read(queue.join(LOG)).unwrap();
    let frames = (log.len() - HEADER) / FRAME;
    for frame in [frames - 1, frames - 2, frames / 2, frames - frames / 4] {
        for offset in [0, 5, 8, 17, 24, 24 + 4_095] {
            let start = HEADER + frame * FRAME;
            let mut changed = log.clone();
            changed[start + offset] ^= 0x40;
            let damaged = copy(&queue, &changed);
            let requests = open(damaged.path(), &format!("frame {frame} of {frames}, byte {offset}")).await;
            assert!(whole(&lengths, start).contains(&requests), "frame {frame}, byte {offset}: {requests}");
        }
    }
}

#[tokio::test]
async fn a_service_serves_again_after_its_log_was_cut_off() {
    let (directory, lengths) = killed().await;
    let log = directory.path().join("queue").join(LOG);
    let cut = lengths[REQUESTS / 2] + 100;
    fs::File::options().write(true).open(&log).unwrap().set_len(cut as u64).unwrap();
    fs::remove_file(directory.path().join("queue/queue.sqlite-shm")).unwrap();

    let service = Service::sandbox().on(directory).start().await;
    assert_eq!(service.get("/readyz").await.status, 200);
    let accepted = service.ledger().await["accepted"].as_u64().unwrap();
    let requests = usize::try_from(accepted).unwrap() / EVENTS;
    assert!(whole(&lengths, cut).contains(&requests) && accepted.is_multiple_of(EVENTS as u64), "{accepted}");
    service.end().await;
}
