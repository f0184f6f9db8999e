//! Opening takes as long with ten million events as with none.

use std::time::Instant;

use super::*;

/// Rows by table: waiting, dead, records of one line.
const ROWS: [(&str, u64); 3] = [("waiting", 10_000_000), ("dead", 1_000_000), ("settled", 4_000_000)];

/// Rows that are written in one transaction.
const PART: u64 = 500_000;

fn fill(path: &Path) {
    let connection = schema::open_any(path, UnixMillis(0)).unwrap();
    let mut first = 1;
    for (table, rows) in ROWS {
        let (columns, values) = match table {
            "waiting" => ("surroundings, payload", "'', '{\"type\":\"track\"}'"),
            _ => ("ended_at, outcome, reason, tries, done, size", "1, 'delivered', 'delivered', 0, '', 200"),
        };
        for from in (first..first + rows).step_by(usize::try_from(PART).unwrap()) {
            connection
                .execute_batch(&format!(
                    "BEGIN;
                     WITH RECURSIVE n(seq) AS (SELECT {from} UNION ALL SELECT seq + 1 FROM n WHERE seq + 1 < {from} + {PART})
                     INSERT INTO {table} (seq, organization, route, message_id, lane, kind, title, received_at, {columns})
                         SELECT seq, 'organization-' || (seq % 200), 'v1', 'm-' || seq, 'user-' || (seq % 1000), 'track',
                             'Product Viewed', 1, {values} FROM n;
                     COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
                ))
                .unwrap();
        }
        first += rows;
    }
    connection
        .execute_batch(
            "INSERT INTO counts SELECT organization, sum(w), 0, sum(d) FROM (
                 SELECT organization, count(*) w, 0 d FROM waiting GROUP BY organization
                 UNION ALL SELECT organization, 0, count(*) FROM dead GROUP BY organization) GROUP BY organization;
             UPDATE ledger SET accepted = (SELECT sum(waiting + dead) FROM counts) + 4000000, delivered = 4000000,
                 dead = 1000000, last_seq = 15000000, history_bytes = 800000000;",
        )
        .unwrap();
}

#[tokio::test]
#[ignore = "writes some 4 GB: cargo test --lib sqlite::tests::open -- --ignored --nocapture"]
#[expect(clippy::print_stdout, reason = "its result is what it prints")]
async fn opening_walks_through_nothing() {
    let mut fixture = Fixture::new();
    // Nothing is tidied away meanwhile.
    fixture.config.max_disk = ByteSize::gib(100);
    let began = Instant::now();
    drop(fixture.open());
    println!("an empty queue opens and closes in {:?}", began.elapsed());
    let path = fixture.config.path.join(FILE);
    let began = Instant::now();
    fill(&path);
    println!("{ROWS:?}: {} MiB in {:?}", std::fs::metadata(&path).unwrap().len() >> 20, began.elapsed());
    for _ in 0..3 {
        let began = Instant::now();
        let queue = fixture.open();
        println!("opens in {:?}", began.elapsed());
        let stats = queue.stats();
        assert_eq!((stats.ledger.waiting(), stats.waiting.values().sum::<u64>()), (10_000_000, 10_000_000));
        assert_eq!(stats.dead_letters.values().sum::<u64>(), 1_000_000);
        let began = Instant::now();
        assert_eq!(claim(&queue, "organization-7", 0, 1_000).await.len(), 1_000);
        println!("claims 1000 in {:?}", began.elapsed());
    }
}
