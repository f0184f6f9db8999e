//! A queue is copied, put back, and moved, by the commands and with real processes, under load.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::books;
use crate::service::{PATIENCE, Service, Setup, program};
use crate::skipped::skipped;
use crate::stand_in::StandIn;

const QUICK: &str = "[organization_defaults]\nidentity = \"raw\"\n[delivery]\nquick_retries = 0\n[delivery.retry]\nbase = \"40ms\"\ncap = \"100ms\"\n";
const SLOW: &str = "[organization_defaults]\nidentity = \"raw\"\n[delivery]\nquick_retries = 0\n[delivery.retry]\nbase = \"1h\"\ncap = \"1h\"\n";

fn calling(wigzo: &StandIn, config: &str) -> Setup {
    Service::calling(wigzo).env("WIGZO_ORG_TOKEN", "org-token-acme-1").config(config)
}

/// Runs a command on a queue: exit code, standard output, standard error.
async fn run(queue: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = program(queue.parent().unwrap())
        .args(arguments)
        .env("WIGZO__QUEUE__PATH", queue)
        .env("WIGZO_ORG_TOKEN", "org-token-acme-1")
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("the command hangs").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

async fn done(queue: &Path, arguments: &[&str]) -> Value {
    let (code, out, err) = run(queue, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or(Value::String(out))
}

fn queue(service: &Service) -> PathBuf {
    service.directory.path().join("queue")
}

async fn track(service: &Service, person: &str, id: &str) -> u64 {
    let event = json!({ "userId": person, "event": format!("Seat of {person}"), "messageId": id,
        "properties": { "mark": id } });
    let reply = service.post("/v1/track", &event.to_string()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["accepted"].as_u64().unwrap()
}

/// Posts events of twenty people until it is told to stop; how many were accepted.
async fn load(service: &Service, stop: &AtomicBool) -> u64 {
    let accepted = AtomicU64::new(0);
    let one = async |sender: u64| {
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            let batch: Vec<_> = (0..20)
                .map(|k| {
                    let id = format!("load-{sender}-{n}-{k}");
                    json!({ "type": "track", "userId": format!("load-{k}"), "event": "Seat Chosen", "messageId": id,
                        "properties": { "mark": id, "text": "x".repeat(500) } })
                })
                .collect();
            let reply = service.post("/v1/batch", &json!({ "batch": batch }).to_string()).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            accepted.fetch_add(20, Ordering::Relaxed);
            n += 1;
        }
    };
    tokio::join!(one(1), one(2), one(3));
    accepted.into_inner()
}

fn marks(calls: &[Value]) -> Vec<String> {
    calls.iter().map(|call| call["body"]["eventval"]["mark"].as_str().unwrap_or("?").to_owned()).collect()
}

#[tokio::test]
async fn a_backup_under_load_is_whole_of_one_moment_and_can_be_put_back() {
    let wigzo = StandIn::start().await;
    let service = calling(&wigzo, SLOW).terse().start().await;
    service.faults(&json!([{ "event_name": "Seat of held", "status": 503 }])).await;
    for n in 0..10 {
        track(&service, "held", &format!("h-{n}")).await;
    }
    let stop = AtomicBool::new(false);
    let file = service.directory.path().join("backup.sqlite");
    let backup = async {
        // Some megabytes first, so that the copy takes its time.
        service
            .eventually("some load", async || service.ledger().await["accepted"].as_u64() > Some(4_000))
            .await;
        let before = service.ledger().await["accepted"].as_u64().unwrap();
        let copied =
            done(&queue(&service), &["backup", file.to_str().unwrap(), "--rate", "4 MiB", "--json"]).await;
        let after = service.ledger().await["accepted"].as_u64().unwrap();
        stop.store(true, Ordering::Relaxed);
        (before, copied, after)
    };
    let (accepted, (before, copied, after)) = tokio::join!(load(&service, &stop), backup);
    let in_copy = copied["ledger"]["accepted"].as_u64().unwrap();
    assert!((before..=after).contains(&in_copy), "{before}, {copied}, {after}");
    assert!(after > before, "the service went on meanwhile");
    assert!(copied["waiting"].as_u64() >= Some(10), "{copied}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "personal data is for its owner only");
    let (code, _, said) = run(&queue(&service), &["backup", file.to_str().unwrap()]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("exists already"), "{said}");

    // The log was left alone while the copy was read, and is carried over again.
    let ledger = service.ledger().await;
    assert_eq!(ledger["accepted"].as_u64(), Some(accepted + 10));
    track(&service, "after", "a-1").await;
    let lost = Service::kill(service).await;

    // What waited is held: nothing goes out before a person says so.
    let restored = Arc::new(tempfile::tempdir().unwrap());
    let target = restored.path().join("queue");
    let (code, _, said) =
        run(&lost.path().join("queue"), &["restore", "--waiting", "hold", file.to_str().unwrap()]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("holds a queue already"), "{said}");
    let told = done(&target, &["restore", "--waiting", "hold", "--json", file.to_str().unwrap()]).await;
    assert_eq!(told["ledger"], copied["ledger"]);
    assert_eq!(books::balance(&target).accepted, in_copy);
    let wigzo = StandIn::start().await;
    let service = calling(&wigzo, QUICK).on(restored).start().await;
    let stats = service.private("/api/stats").await.json();
    assert_eq!(stats["waiting_total"], 0);
    assert_eq!(stats["ledger"]["dead"], copied["waiting"]);
    assert_eq!(service.calls("").await.len(), 0, "nothing went out unseen");
    assert_eq!(track(&service, "held", "h-0").await, 0, "what was accepted is remembered as such");
    let replay = ["dead-letters", "replay", "--url", &service.private, "--reason", "restored", "--json"];
    let replayed = done(&target, &replay).await;
    assert_eq!(replayed["changed"], copied["waiting"]);
    service.settled(in_copy).await;
    let held: Vec<String> = (0..10).map(|n| format!("h-{n}")).collect();
    assert_eq!(marks(&service.calls("user_id=held").await), held, "in their order");
    service.end().await;
}

#[tokio::test]
async fn a_restored_backup_that_should_be_sent_is_sent() {
    let wigzo = StandIn::start().await;
    let service = calling(&wigzo, QUICK).start().await;
    service.faults(&json!([{ "status": 503 }])).await;
    for n in 0..5 {
        track(&service, "user-1", &format!("m-{n}")).await;
    }
    let directory = Service::kill(service).await;
    let file = directory.path().join("backup.sqlite");
    // Nobody serves the queue, and its log was never carried over.
    let copied = done(&directory.path().join("queue"), &["backup", file.to_str().unwrap(), "--json"]).await;
    assert_eq!(copied["waiting"], 5);
    let restored = Arc::new(tempfile::tempdir().unwrap());
    done(&restored.path().join("queue"), &["restore", "--waiting", "send", file.to_str().unwrap()]).await;
    let service = calling(&wigzo, QUICK).on(restored).start().await;
    service.faults(&json!([])).await;
    let ledger = service.settled(5).await;
    assert_eq!(ledger["delivered"], 5, "{ledger}");
    let wanted: Vec<String> = (0..5).map(|n| format!("m-{n}")).collect();
    assert_eq!(marks(&service.calls("user_id=user-1&carried_out=true").await), wanted);
    service.end().await;
}

#[tokio::test]
async fn a_damaged_backup_is_put_nowhere() {
    let service = Service::sandbox().start().await;
    for n in 0..50 {
        track(&service, "user-1", &format!("m-{n}")).await;
    }
    service.settled(50).await;
    let directory = service.directory.path().to_owned();
    let file = directory.join("backup.sqlite");
    done(&queue(&service), &["backup", file.to_str().unwrap()]).await;
    let whole = std::fs::read(&file).unwrap();
    let target = directory.join("elsewhere/queue");
    std::fs::create_dir(directory.join("elsewhere")).unwrap();
    let mut torn = whole.clone();
    torn[8_192..12_288].fill(0x5a);
    for (what, bytes) in
        [("cut off", &whole[..whole.len() / 2]), ("torn", &torn), ("no database", b"hello".as_slice())]
    {
        let damaged = directory.join("damaged.sqlite");
        std::fs::write(&damaged, bytes).unwrap();
        let (code, _, said) =
            run(&target, &["restore", "--waiting", "send", damaged.to_str().unwrap()]).await;
        assert_eq!(code, 1, "{what}: {said}");
        assert!(said.contains("is not a sound copy of a queue"), "{what}: {said}");
        assert!(!target.join("queue.sqlite").exists(), "{what}");
    }
    service.end().await;
}

/// A queue with everything in it: partial progress, a lane of three, a dead letter, delivered events; stopped.
async fn full_queue(wigzo: &StandIn) -> Arc<tempfile::TempDir> {
    let service = calling(wigzo, QUICK).start().await;
    service
        .faults(&json!([
            { "event_name": "order", "status": 503 },
            { "event_name": "Seat of dead", "status": 400 },
            { "event_name": "Seat of waits", "status": 503 }
        ]))
        .await;
    let order = json!({ "userId": "partial", "event": "Order Completed", "messageId": "o-1",
        "properties": { "order_id": "o-1", "total": 10.50, "products": [{ "product_id": "p-1" }] } });
    assert_eq!(service.post("/v1/track", &order.to_string()).await.status, 200);
    for n in 0..30 {
        track(&service, "waits", &format!("w-{n}")).await;
    }
    track(&service, "dead", "d-1").await;
    track(&service, "gone", "g-1").await;
    service
        .until("/api/stats", |stats| stats["ledger"]["dead"] == 1 && stats["ledger"]["delivered"] == 1)
        .await;
    let partial = service.state(1, "retrying").await;
    assert_eq!(partial["calls_done"], "event/buy");
    let directory = Arc::clone(&service.directory);
    service.end().await;
    directory
}

#[tokio::test]
async fn a_queue_moves_with_its_order_its_progress_and_what_it_remembers() {
    let wigzo = StandIn::start().await;
    let old = full_queue(&wigzo).await;
    let from = old.path().join("queue");
    let file = old.path().join("queue.jsonl");
    let path = file.to_str().unwrap();
    let exported = done(&from, &["export", "--seal", "--yes", "--json", path]).await;
    assert_eq!(exported, json!({ "waiting": 31, "dead": 1, "history": 0, "keys": 1, "sealed": true }));
    let (code, said) = calling(&wigzo, QUICK).on(Arc::clone(&old)).refused().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("is sealed") && said.contains("remove the file `sealed`"), "{said}");

    // Into a service that runs and has taken one of the events already, as Segment's repeat.
    let service = calling(&wigzo, QUICK).start().await;
    service.faults(&json!([])).await;
    let bought = service.calls("event_name=buy&carried_out=true").await.len();
    assert_eq!(track(&service, "waits", "w-29").await, 1);
    service.settled(1).await;
    let import = ["import", "--url", &service.private, "--json", path];
    let imported = done(&queue(&service), &import).await;
    assert_eq!(imported, json!({ "accepted": 31, "duplicates": 1, "lines_before": 0 }));
    let ledger = service.settled(32).await;
    assert_eq!(ledger, json!({ "accepted": 32, "delivered": 31, "filtered": 0, "expired": 0, "dead": 1 }));

    let calls = service.calls("user_id=waits&carried_out=true").await;
    let wanted: Vec<String> = [29].into_iter().chain(0..29).map(|n| format!("w-{n}")).collect();
    assert_eq!(marks(&calls), wanted, "each once, in its order");
    let orders = service.calls("event_name=order&carried_out=true").await;
    let bought_now = service.calls("event_name=buy&carried_out=true").await;
    assert_eq!((orders.len(), bought_now.len()), (1, bought), "only the call that was missing was made");
    let letters = service.private("/api/dead-letters").await.json();
    assert_eq!(letters["dead_letters"][0]["reason"], "wigzo_400");
    for (person, id) in [("waits", "w-3"), ("dead", "d-1"), ("gone", "g-1")] {
        assert_eq!(track(&service, person, id).await, 0, "{id} is remembered");
    }
    let found = service.private("/api/events?organization=default&message_id=w-3").await.json();
    assert_eq!(found["events"][0]["state"], "delivered", "{found}");

    let again = run(&queue(&service), &["import", "--url", &service.private, path]).await;
    assert_eq!(
        (again.0, again.1.as_str()),
        (0, "This export has been imported here before; nothing was left to do.\n")
    );
    assert_eq!(service.ledger().await["accepted"], 32);
    service.end().await;
}

#[tokio::test]
async fn history_moves_if_asked_and_a_stopped_queue_takes_an_import() {
    let wigzo = StandIn::start().await;
    let old = full_queue(&wigzo).await;
    let from = old.path().join("queue");
    let file = old.path().join("queue.jsonl");
    let path = file.to_str().unwrap();
    let exported = done(&from, &["export", "--history", "--json", path]).await;
    assert_eq!(exported, json!({ "waiting": 31, "dead": 1, "history": 1, "keys": 0, "sealed": false }));

    // A copy, whose queue may be served again: what waits is not taken by mistake.
    let new = Arc::new(tempfile::tempdir().unwrap());
    let into = new.path().join("queue");
    let (code, _, said) = run(&into, &["import", path]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("31 events wait") && said.contains("--seal"), "{said}");
    assert!(!into.exists());
    // The service holds the directory: a sealed export is refused while it may still deliver.
    let service = calling(&wigzo, QUICK).on(Arc::clone(&old)).start().await;
    let (code, _, said) = run(&from, &["export", "--seal", "--yes", &format!("{path}.2")]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("in use by another process") && said.contains("must be stopped"), "{said}");
    drop(Service::kill(service).await);

    let imported = done(&into, &["import", "--from-copy", "--json", path]).await;
    assert_eq!(imported, json!({ "accepted": 33, "duplicates": 0, "lines_before": 0 }));
    let books = books::balance(&into);
    assert_eq!((books.accepted, books.waiting), (33, 31));
    let service = calling(&wigzo, QUICK).on(new).start().await;
    service.faults(&json!([])).await;
    let delivered = service.private("/api/events?organization=default&message_id=g-1").await.json();
    assert_eq!(delivered["events"][0]["state"], "delivered", "{delivered}");
    let number = delivered["events"][0]["number"].as_u64().unwrap();
    let record = service.private(&format!("/api/events/{number}")).await.json();
    assert_eq!(record["attempts"][0]["status"], 200, "{record}");
    service.settled(33).await;
    service.end().await;
}

#[tokio::test]
async fn of_an_export_that_is_not_whole_or_not_served_here_nothing_is_taken() {
    let wigzo = StandIn::start().await;
    let old = full_queue(&wigzo).await;
    let file = old.path().join("queue.jsonl");
    done(&old.path().join("queue"), &["export", "--seal", "--yes", file.to_str().unwrap()]).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let into = old.path().join("new");
    for (what, changed, wanted) in [
        ("cut off", text[..text.len() - 100].to_owned(), "it has no end"),
        ("without its last lines", text.split_inclusive('\n').take(20).collect(), "it has no end"),
        ("changed", text.replacen("w-7", "w-8", 1), "it was changed"),
        (
            "another file",
            "{\"userId\":\"someone@example.com\"}\n".to_owned(),
            "line 1 is not a line of an export",
        ),
    ] {
        let bad = old.path().join("bad.jsonl");
        std::fs::write(&bad, changed).unwrap();
        let (code, _, said) = run(&into, &["import", bad.to_str().unwrap()]).await;
        assert_eq!(code, 1, "{what}: {said}");
        assert!(said.contains(wanted) && said.contains("nothing was imported"), "{what}: {said}");
        assert!(!said.contains("example.com"), "{what}: {said}");
        assert!(!into.exists(), "{what}");
    }
    // A service with another organization.
    let other = "[organizations.other]\norg_token = \"org-token-other-1\"\nsource_keys = [\"wk_other\"]\n";
    let service = Service::calling(&wigzo).config(other).start().await;
    let (code, _, said) =
        run(&queue(&service), &["import", "--url", &service.private, file.to_str().unwrap()]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("Nobody would deliver the events of default"), "{said}");
    assert_eq!(service.ledger().await["accepted"], 0);
    service.end().await;
}

/// The service's user must be able to open what root's commands have left.
#[tokio::test]
async fn what_root_does_to_a_queue_belongs_to_the_services_user() {
    const NOBODY: u32 = 65_534;
    let wigzo = StandIn::start().await;
    let old = full_queue(&wigzo).await;
    let (from, copy, lines) =
        (old.path().join("queue"), old.path().join("b.sqlite"), old.path().join("q.jsonl"));
    done(&from, &["backup", copy.to_str().unwrap()]).await;
    done(&from, &["export", lines.to_str().unwrap()]).await;
    let restore: &[&str] = &["restore", "--waiting", "hold", copy.to_str().unwrap()];
    let import: &[&str] = &["import", "--from-copy", lines.to_str().unwrap()];
    for arguments in [restore, import] {
        let directory = tempfile::tempdir().unwrap();
        let queue = directory.path().join("queue");
        std::fs::create_dir(&queue).unwrap();
        if std::os::unix::fs::chown(&queue, Some(NOBODY), Some(NOBODY)).is_err() {
            return skipped("owners of files after a restore by root", "this is not root");
        }
        done(&queue, arguments).await;
        done(&queue, &["export", "--seal", "--yes", directory.path().join("out.jsonl").to_str().unwrap()])
            .await;
        let mut files = 0;
        for entry in std::fs::read_dir(&queue).unwrap() {
            let entry = entry.unwrap();
            let owner = std::os::unix::fs::MetadataExt::uid(&entry.metadata().unwrap());
            assert_eq!(owner, NOBODY, "{arguments:?}: {:?}", entry.file_name());
            files += 1;
        }
        assert!(files >= 4, "the database, `lock`, `reading` and `sealed`; {files}");
    }
}

/// More than an import takes in one part.
const EVENTS: u64 = 6_000;

#[tokio::test]
async fn an_import_that_is_killed_anywhere_goes_on_and_takes_nothing_twice() {
    let wigzo = StandIn::start().await;
    let service = calling(&wigzo, SLOW).terse().start().await;
    service.faults(&json!([{ "status": 503 }])).await;
    for n in 0..EVENTS / 500 {
        let batch: Vec<_> = (0..500)
            .map(|k| json!({ "type": "track", "userId": format!("u-{k}"), "event": "A", "messageId": format!("m-{n}-{k}") }))
            .collect();
        assert_eq!(service.post("/v1/batch", &json!({ "batch": batch }).to_string()).await.status, 200);
    }
    let old = Service::kill(service).await;
    let file = old.path().join("queue.jsonl");
    done(&old.path().join("queue"), &["export", "--seal", "--yes", file.to_str().unwrap()]).await;

    let new = tempfile::tempdir().unwrap();
    let into = new.path().join("queue");
    let mut kills = 0;
    for after in [20, 60, 90, 120, 150, 180, 210, 240, 300, 400] {
        let mut import = program(new.path());
        import.args(["import", file.to_str().unwrap()]).env("WIGZO__QUEUE__PATH", &into);
        let mut import = import.env("WIGZO_ORG_TOKEN", "org-token-acme-1").spawn().unwrap();
        if tokio::time::timeout(Duration::from_millis(after), import.wait()).await.is_ok() {
            break;
        }
        import.kill().await.unwrap();
        kills += 1;
    }
    assert!(kills > 0, "it was never killed");
    done(&into, &["import", file.to_str().unwrap()]).await;
    let books = books::balance(&into);
    assert_eq!((books.accepted, books.waiting), (EVENTS, EVENTS), "after {kills} kills");
}
