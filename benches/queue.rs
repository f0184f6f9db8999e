//! The embedded queue through its whole cycle: append, commit, hand over, settle, commit.
//!
//! `cargo bench --bench queue` prints records per second and CPU per record for 1 KB events, beside a baseline in the
//! same run: the same SQLite with the same durability, one thread that inserts rows in groups of the same size and
//! deletes them again, and nothing else (no deduplication, no ledger, no history, no hand-over).

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tokio::task::JoinSet;
use wigzo_destination::clock::{Clock, UnixMillis};
use wigzo_destination::outcome::{Outcome, Reason};
use wigzo_destination::queue::sqlite::Sqlite;
use wigzo_destination::queue::{Account, Config, DedupKey, Engine, NewEnvelope, Settlement, SourceRoute};

const RECORDS: usize = 60_000;

fn envelope(organization: &Arc<str>, n: usize, payload: &str) -> NewEnvelope {
    let id = format!("message-{n:08}-0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11");
    NewEnvelope {
        organization: Arc::clone(organization),
        route: "v1".into(),
        key: DedupKey::new(organization, SourceRoute::new("/v1"), &id),
        message_id: id.into(),
        lane: format!("user-{}", n % 5_000).into(),
        kind: "track".into(),
        title: "Product Viewed".into(),
        received_at: UnixMillis(1_800_000_000_000),
        payload: payload.into(),
        surroundings: "".into(),
        forgets: false,
    }
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux machine");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn report(name: &str, took: Duration, cpu: Duration) {
    let (seconds, cpu) = (took.as_secs_f64(), cpu.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let records = RECORDS as f64;
    println!("{name:<44} {:>9.0} records/s {:>7.2} µs CPU/record", records / seconds, cpu * 1e6 / records);
}

/// Senders append requests of `per_request` events; everything that is handed over is settled as delivered.
async fn queue(senders: usize, per_request: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = Config { path: directory.path().to_owned(), ..Config::default() };
    let (queue, writer) = Sqlite::open(&config, Clock::system()).expect("an empty directory");
    let queue = Arc::new(queue);
    let payload = format!(r#"{{"type":"track","properties":{{"text":"{}"}}}}"#, "x".repeat(980));
    let (began, cpu_began) = (Instant::now(), cpu());
    let mut tasks = JoinSet::new();
    for sender in 0..senders {
        let (queue, payload) = (Arc::clone(&queue), payload.clone());
        tasks.spawn(async move {
            let organization: Arc<str> = Arc::from("acme");
            let share = RECORDS / senders;
            for request in 0..share / per_request {
                let first = sender * share + request * per_request;
                let envelopes =
                    (first..first + per_request).map(|n| envelope(&organization, n, &payload)).collect();
                queue.append(envelopes, Duration::from_mins(1)).await.expect("an append");
            }
        });
    }
    let settler = {
        let queue = Arc::clone(&queue);
        async move {
            let mut settled = 0;
            let total = RECORDS / senders / per_request * per_request * senders;
            while settled < total {
                queue.fresh().arrived().await;
                let arrivals = queue.fresh().take();
                settled += arrivals.settled.len();
                let delivered = arrivals.envelopes.iter().map(|envelope| {
                    let in_full = queue.records_in_full(&envelope.content.organization);
                    let account = if in_full { Account::InFull(Vec::new()) } else { Account::InALine };
                    let settlement = Settlement::ended(envelope, Outcome::Delivered, Reason::Delivered);
                    Settlement { account, ..settlement }
                });
                queue.settle_all(delivered.collect());
            }
        }
    };
    settler.await;
    while tasks.join_next().await.is_some() {}
    report(
        &format!("queue, {senders} senders, {per_request} per request"),
        began.elapsed(),
        cpu().saturating_sub(cpu_began),
    );
    let stats = queue.stats();
    assert_eq!(stats.ledger.waiting(), 0);
    println!("{:<44} {:>9} commands/commit", "", stats.commands / stats.commits);
    drop(queue);
    tokio::task::spawn_blocking(|| writer.join()).await.expect("a thread").expect("no panic");
}

/// The least that a durable SQLite queue must do.
fn baseline(group: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut connection = Connection::open(directory.path().join("bare.sqlite")).expect("a database");
    connection.pragma_update(None, "journal_mode", "WAL").expect("a pragma");
    connection.pragma_update(None, "synchronous", "FULL").expect("a pragma");
    connection.execute_batch("CREATE TABLE jobs (seq INTEGER PRIMARY KEY, payload TEXT)").expect("a table");
    let payload = "x".repeat(1_024);
    let (began, cpu_began) = (Instant::now(), cpu());
    for first in (0..RECORDS).step_by(group) {
        for insert in [true, false] {
            let transaction = connection.transaction().expect("a transaction");
            for seq in (first..first + group).map(|seq| seq as u64) {
                let sql =
                    if insert { "INSERT INTO jobs VALUES (?, ?)" } else { "DELETE FROM jobs WHERE seq = ?" };
                let mut statement = transaction.prepare_cached(sql).expect("a statement");
                let done =
                    if insert { statement.execute(params![seq, payload]) } else { statement.execute([seq]) };
                done.expect("a row");
            }
            transaction.commit().expect("a commit");
        }
    }
    report(&format!("bare SQLite, groups of {group}"), began.elapsed(), cpu().saturating_sub(cpu_began));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    for _ in 0..2 {
        for group in [100, 1_000] {
            baseline(group);
        }
        for (senders, per_request) in [(64, 1), (256, 1), (64, 50)] {
            runtime.block_on(queue(senders, per_request));
        }
    }
}
