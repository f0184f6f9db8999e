//! Dead letters: looked at, replayed, discarded, taken elsewhere, by the command and over the private side.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::conservation::{Account, Mark};
use crate::service::{PATIENCE, Service, Setup, program};
use crate::stand_in::StandIn;

const QUICK: &str = "[delivery]\nquick_retries = 0\n[delivery.retry]\nbase = \"40ms\"\ncap = \"100ms\"\n";

fn calling(wigzo: &StandIn) -> Setup {
    Service::calling(wigzo).env("WIGZO_ORG_TOKEN", "org-token-acme-1").config(QUICK)
}

async fn track(service: &Service, person: &str, id: &str, name: &str) {
    let event = json!({ "userId": person, "event": name, "messageId": id, "properties": { "mark": id } });
    let reply = service.post("/v1/track", &event.to_string()).await;
    assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(1)), "{reply:?}");
}

/// Runs `dead-letters` against a service: exit code, standard output, standard error.
async fn run(service: &Service, arguments: &[&str]) -> (i32, String, String) {
    let (action, rest) = arguments.split_first().unwrap();
    let output = program(service.directory.path())
        .args(["dead-letters", action, "--url", &service.private])
        .args(rest)
        .output();
    told(tokio::time::timeout(PATIENCE, output).await.expect("the command hangs").unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

async fn done(service: &Service, arguments: &[&str]) -> Value {
    let (code, out, err) = run(service, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or(Value::String(out))
}

/// The marks of calls, in the order of their arrival.
fn marks(calls: &[Value]) -> Vec<String> {
    calls.iter().map(|call| call["body"]["eventval"]["mark"].as_str().unwrap_or("?").to_owned()).collect()
}

#[tokio::test]
async fn after_a_correction_letters_are_replayed_in_order_and_only_what_failed_is_repeated() {
    let wigzo = StandIn::start().await;
    let service = calling(&wigzo).start().await;
    service
        .faults(&json!([{ "event_name": "order", "status": 400 }, { "event_name": "Seat", "status": 422 }]))
        .await;
    let order = json!({ "userId": "user-1", "event": "Order Completed", "messageId": "o-1",
        "properties": { "order_id": "o-1", "total": 10.50, "products": [{ "product_id": "p-1" }] } });
    assert_eq!(service.post("/v1/track", &order.to_string()).await.status, 200);
    for (person, id) in [("user-1", "s-2"), ("user-2", "s-3"), ("user-1", "s-4"), ("user-2", "s-5")] {
        track(&service, person, id, "Seat Chosen").await;
    }
    let ledger = service.settled(5).await;
    assert_eq!(ledger, json!({"accepted": 5, "delivered": 0, "filtered": 0, "expired": 0, "dead": 5}));
    let first_key = service.calls("event_name=order").await[0]["idempotency_key"].clone();

    let (code, table, _) = run(&service, &["list"]).await;
    assert_eq!((code, table.lines().count()), (0, 6), "a heading and five letters:\n{table}");
    let newest = table.lines().nth(1).unwrap();
    assert!(newest.contains("wigzo_422") && newest.contains("track Seat Chosen"), "{newest}");
    let one = done(&service, &["list", "--person", "user-1", "--title", "Order Completed", "--json"]).await;
    assert_eq!((&one["number"], &one["calls_done"]), (&json!(1), &json!("event/buy")));
    let shown = done(&service, &["show", "1", "--json"]).await;
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(shown["payload"]["messageId"], "o-1");

    // The mapping of today: people go by their plain id.
    let directory = Service::kill(service).await;
    let corrected = "[organization_defaults]\nidentity = \"raw\"\n";
    let service = calling(&wigzo).config(corrected).on(directory).start().await;
    service.faults(&json!([])).await;
    let dry = done(&service, &["replay", "--reason", "wigzo_422", "--dry-run", "--json"]).await;
    assert_eq!(dry, json!({ "dry_run": true, "matched": 4, "changed": 0, "unserved": 0, "would_change": 4 }));
    let (code, said, _) = run(&service, &["replay", "--reason", "wigzo_422", "--dry-run"]).await;
    assert_eq!((code, said.as_str()), (0, "Would replay 4 dead letters.\n"));
    assert_eq!(service.ledger().await["dead"], 5, "a dry run changes nothing");
    let replayed = done(&service, &["replay", "--reason", "wigzo_422", "--json"]).await;
    assert_eq!(replayed, json!({ "dry_run": false, "matched": 4, "changed": 4, "unserved": 0 }));
    assert_eq!(done(&service, &["replay", "1"]).await, "1 dead letter replayed.\n");
    let ledger = service.settled(5).await;
    assert_eq!(ledger, json!({"accepted": 5, "delivered": 5, "filtered": 0, "expired": 0, "dead": 0}));

    assert_eq!(marks(&service.calls("user_id=user-1&event_name=Seat%20Chosen").await), ["s-2", "s-4"]);
    assert_eq!(marks(&service.calls("user_id=user-2&event_name=Seat%20Chosen").await), ["s-3", "s-5"]);
    assert_eq!(service.calls("event_name=buy").await.len(), 1, "Wigzo had taken it");
    let again = service.calls("event_name=order&carried_out=true").await;
    assert_eq!(again.len(), 1);
    assert_ne!(again[0]["idempotency_key"], first_key, "a replay is meant");
    let record = service.private("/api/events/1").await.json();
    assert_eq!(
        (&record["state"], &record["replays"], &record["number"]),
        (&json!("delivered"), &json!(1), &json!(1))
    );
    assert!(record["seq"].as_u64() > Some(5), "{record}");
    assert_eq!(record["attempts"].as_array().unwrap().len(), 3, "the tries of before are still told");
    // A line comes up to 20 ms after what it tells.
    let is_replay = r#""action":"replay""#;
    service.eventually("four replays told", async || service.log().matches(is_replay).count() == 4).await;
    let log = service.log();
    let told = log.lines().filter(|line| line.contains(is_replay)).collect::<Vec<_>>();
    assert_eq!(told.len(), 4, "the dry runs too: {log}");
    assert!(told[2].contains(r#""changed":4"#) && told[2].contains("reason=wigzo_422"), "{}", told[2]);
    assert!(!log.contains("user-1"), "a person stands in the log:\n{log}");
    service.end().await;
}

#[tokio::test]
async fn all_calls_are_repeated_when_a_person_says_so() {
    let service = Service::sandbox().config(QUICK).start().await;
    service.faults(&json!([{ "event_name": "order", "status": 400 }])).await;
    let order = json!({ "userId": "user-1", "event": "Order Completed", "messageId": "o-1",
        "properties": { "order_id": "o-1", "total": 10.50, "products": [{ "product_id": "p-1" }] } });
    service.post("/v1/track", &order.to_string()).await;
    service.settled(1).await;
    service.faults(&json!([])).await;
    done(&service, &["replay", "--all", "--repeat-done"]).await;
    assert_eq!(service.settled(1).await["delivered"], 1);
    assert_eq!(service.calls("event_name=buy").await.len(), 2);
    service.end().await;
}

#[tokio::test]
async fn letters_of_an_organization_that_is_gone_can_be_discarded_but_not_replayed() {
    let organization = |name: &str| {
        format!("[organizations.{name}]\norg_token = \"org-token-{name}-1\"\nsource_keys = [\"wk_{name}\"]\n")
    };
    let wigzo = StandIn::start().await;
    let setup = |names: &[&str]| {
        let organizations: String = names.iter().map(|name| organization(name)).collect();
        Service::calling(&wigzo).config(&format!("{QUICK}{organizations}"))
    };
    let service = setup(&["acme", "globex"]).start().await;
    service.faults(&json!([{ "status": 400 }])).await;
    for (name, id) in [("acme", "a"), ("globex", "b")] {
        let event = json!({ "userId": "user-1", "event": "Seat Chosen", "messageId": id }).to_string();
        let request = service.client().post(format!("{}/v1/track", service.public)).body(event);
        let reply = service.send(request.basic_auth(format!("wk_{name}"), Some(""))).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    service.settled(2).await;
    service.faults(&json!([])).await;
    let directory = service.kill().await;

    let service = setup(&["acme"]).on(directory).start().await;
    let (code, out, err) = run(&service, &["replay", "--all"]).await;
    assert_eq!((code, out.as_str()), (0, "1 dead letter replayed.\n"), "{err}");
    assert!(err.contains("1 dead letter belongs to organizations that are not configured"), "{err}");
    assert_eq!(
        done(&service, &["discard", "--all", "--why", "left us", "--json", "--yes"]).await["changed"],
        1
    );
    let ledger = service.settled(2).await;
    assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(1), &json!(1)), "{ledger}");
    service.end().await;
}

#[tokio::test]
async fn a_discarded_letter_leaves_with_its_reason_and_stays_counted() {
    let service = Service::sandbox().config(QUICK).start().await;
    service.faults(&json!([{ "status": 400 }])).await;
    for id in ["a", "b", "c"] {
        track(&service, "user-1", id, "Seat Chosen").await;
    }
    service.settled(3).await;
    assert_eq!(service.metric(r#"wigzo_destination_dead_letters{organization="default"}"#).await, 3);
    let (code, _, err) = run(&service, &["discard", "1", "--why", " "]).await;
    assert!(code == 2 && err.contains("why these events are given up"), "{code}: {err}");
    let result = done(&service, &["discard", "1", "3", "--why", "sent by a test", "--json", "--yes"]).await;
    assert_eq!(result, json!({ "dry_run": false, "matched": 2, "changed": 2, "unserved": 0 }));
    let record = service.private("/api/events/3").await.json();
    let facts = [&record["state"], &record["reason"], &record["detail"]];
    assert_eq!(facts, [&json!("discarded"), &json!("discarded"), &json!("sent by a test")]);
    let stats = service.private("/api/stats").await.json();
    assert_eq!((&stats["ledger"]["dead"], &stats["dead_letters"]["default"]), (&json!(3), &json!(1)));
    assert_eq!(service.metric(r#"wigzo_destination_dead_letters{organization="default"}"#).await, 1);
    let (code, _, err) = run(&service, &["replay", "1", "2"]).await;
    assert!(code == 1 && err.contains("1 of the numbers is no dead letter"), "{code}: {err}");
    let (code, _, err) = run(&service, &["show", "1"]).await;
    assert!(code == 1 && err.contains("`events show NUMBER`"), "{code}: {err}");
    service.end().await;
}

#[tokio::test]
async fn a_wish_that_is_not_clear_changes_nothing() {
    let service = Service::sandbox().config(QUICK).start().await;
    service.faults(&json!([{ "status": 400 }])).await;
    track(&service, "user-1", "a", "Seat Chosen").await;
    service.settled(1).await;
    let wrong = [
        ("replay", json!({}), "Say which letters"),
        ("replay", json!({ "filter": {} }), "Say which letters"),
        ("replay", json!({ "filter": { "person": "user-1" }, "all": true }), "Say which letters"),
        ("replay", json!({ "filter": { "peron": "user-1" } }), "peron"),
        ("replay", json!({ "filter": { "reason": "wigzo_40" } }), "is no reason"),
        ("replay", json!({ "filter": { "since": "yesterday" } }), "a time has a date"),
        ("replay", json!({ "all": true, "why": "because" }), "for discarding"),
        ("replay", json!({ "all": true, "cursor": "7" }), "cursor"),
        ("replay", json!({ "numbers": (0..1_001).collect::<Vec<_>>() }), "At most 1000"),
        ("discard", json!({ "all": true }), "why these events are given up"),
        ("discard", json!({ "all": true, "why": "x".repeat(501) }), "why these events are given up"),
        ("discard", json!({ "all": true, "why": "because", "repeat_done": true }), "for replaying"),
        ("discard", json!("all"), "not what this takes"),
    ];
    for (action, body, message) in wrong {
        let reply = service.operate(&format!("/api/dead-letters/{action}"), &body).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(reply.json()["message"].as_str().unwrap().contains(message), "{body}: {reply:?}");
    }
    for path in [
        "/api/dead-letters?peron=1",
        "/api/dead-letters?limit=x",
        "/api/events?place=dad",
        "/api/dead-letters/x",
    ] {
        assert_eq!(service.private(path).await.status, 400, "{path}");
    }
    let get = service.private("/api/dead-letters/replay").await;
    assert!(matches!(get.status, 400 | 405), "{get:?}");
    assert_eq!(service.private("/api/dead-letters").await.json()["dead_letters"][0]["state"], "dead");
    service.end().await;
}

#[tokio::test]
async fn a_page_in_a_browser_on_the_same_machine_changes_nothing() {
    let service = Service::sandbox().config(QUICK).start().await;
    let host = service.private.strip_prefix("http://").unwrap().to_owned();
    let port = host.rsplit_once(':').unwrap().1;
    for (host, origin, status) in [
        (host.clone(), None, 200),
        (host.clone(), Some(format!("http://{host}")), 200),
        (format!("localhost:{port}"), None, 200),
        (host.clone(), Some("https://shop.example.com".to_owned()), 403),
        (host.clone(), Some("null".to_owned()), 403),
        (format!("rebound.example.com:{port}"), None, 403),
        (format!("rebound.example.com:{port}"), Some(format!("http://rebound.example.com:{port}")), 403),
    ] {
        let url = format!("{}/api/dead-letters/replay", service.private);
        let mut request = service.client().post(url).body(r#"{"all":true}"#).header("host", &host);
        request = request.header("content-type", "application/json");
        if let Some(origin) = &origin {
            request = request.header("origin", origin);
        }
        assert_eq!(service.send(request).await.status, status, "{host} {origin:?}");
    }
    service.end().await;
}

#[tokio::test]
async fn the_token_is_needed_and_the_command_finds_it() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "a-token-of-the-private-side\n").unwrap();
    let service =
        Service::sandbox().config(&format!("[admin]\ntoken_file = '{}'", token.display())).start().await;
    assert_eq!(service.operate("/api/dead-letters/replay", &json!({ "all": true })).await.status, 401);
    let (code, _, err) = run(&service, &["list"]).await;
    assert!(code == 1 && err.contains("--token-file"), "{code}: {err}");
    let (code, _, err) = run(&service, &["list", "--token-file", &token.display().to_string()]).await;
    assert!(code == 0 && err.contains("no dead letters"), "{code}: {err}");
    let config = service.directory.path().join("config.toml").display().to_string();
    let (code, _, err) = run(&service, &["replay", "--all", "--config", &config]).await;
    assert_eq!(code, 0, "{err}");
    service.end().await;

    let nobody =
        program(directory.path()).args(["dead-letters", "list", "--url", "http://127.0.0.1:1"]).output();
    let (code, _, err) = told(nobody.await.unwrap());
    assert!(code == 1 && err.contains("is the service running"), "{code}: {err}");
}

#[tokio::test]
async fn what_was_exported_is_imported_elsewhere_to_the_last_digit() {
    let service = Service::sandbox().config(QUICK).start().await;
    service.faults(&json!([{ "status": 400 }])).await;
    let event = |id: &str| {
        format!(
            "{{\n  \"userId\": \"user-1\",\n  \"event\": \"Seat Chosen\", \"messageId\": \"{id}\", \"writeKey\": \"wk-1\",\n  \
             \"properties\": {{ \"price\": 1299.00, \"big\": 12345678901234567890123 }}\n}}"
        )
    };
    for id in ["a", "b", "c"] {
        assert_eq!(service.post("/v1/track", &event(id)).await.status, 200);
    }
    service.settled(3).await;
    let file = service.directory.path().join("letters.jsonl");
    let path = file.display().to_string();
    done(&service, &["export", "--output", &path]).await;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.lines().count(), 3);
    assert!(!lines.contains("wk-1"), "{lines}");
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["payload"], event("a").replace("\"wk-1\"", "\"***\""));
    assert_eq!((&first["reason"], &first["attempts"][0]["status"]), (&json!("wigzo_400"), &json!(400)));
    let (_, printed, _) = run(&service, &["export", "--message-id", "b"]).await;
    assert_eq!(printed, format!("{}\n", lines.lines().nth(1).unwrap()));

    let elsewhere = Service::sandbox().config(QUICK).start().await;
    let mut with_bad_lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    with_bad_lines.insert(1, "{\"organization\": \"default\"".to_owned());
    with_bad_lines.insert(2, String::new());
    with_bad_lines.insert(3, lines.lines().next().unwrap().replace("\"default\"", "\"globex\""));
    with_bad_lines.push(lines.lines().next().unwrap().replace("Seat Chosen", "Seat \\n Chosen"));
    std::fs::write(&file, with_bad_lines.join("\n")).unwrap();
    let (code, out, err) = run(&elsewhere, &["import", &path, "--json"]).await;
    assert_eq!((code, out.trim()), (1, r#"{"accepted":3,"duplicates":0,"refused":3}"#), "{err}");
    for told in
        ["line 2: ", "line 4: its organization is not configured", "line 7: its `payload` is not JSON"]
    {
        assert!(err.contains(told), "{told}: {err}");
    }
    let ledger = elsewhere.settled(3).await;
    assert_eq!(ledger, json!({"accepted": 3, "delivered": 3, "filtered": 0, "expired": 0, "dead": 0}));
    assert!(elsewhere.calls_text().await.contains("12345678901234567890123"));
    let record = elsewhere.private("/api/events/2").await.json();
    assert_eq!((&record["message_id"], &record["person"]), (&json!("b"), &json!("user-1")));
    assert_eq!(record["received_at"], service.private("/api/events/2").await.json()["received_at"]);

    std::fs::write(&file, lines).unwrap();
    let again = done(&elsewhere, &["import", &path, "--json"]).await;
    assert_eq!(again, json!({ "accepted": 0, "duplicates": 3, "refused": 0 }));
    service.end().await;
    elsewhere.end().await;
}

const MASS: usize = 5_000;
const PEOPLE: usize = 50;
const IN_FLIGHT: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_a_mass_replay_loses_and_doubles_nothing() {
    let wigzo = StandIn::start().await;
    let setup = || calling(&wigzo).terse().env("WIGZO__DELIVERY__MAX_IN_FLIGHT", &IN_FLIGHT.to_string());
    let service = setup().start().await;
    service.faults(&json!([{ "status": 422 }])).await;
    let marks: Vec<Mark> =
        (0..MASS).map(|n| Mark { person: format!("user-{}", n % PEOPLE), number: n / PEOPLE }).collect();
    for marks in marks.chunks(500) {
        let body = json!({ "batch": marks.iter().map(Mark::event).collect::<Vec<_>>() });
        assert_eq!(service.post("/v1/batch", &body.to_string()).await.json()["accepted"], 500);
    }
    assert_eq!(service.settled(MASS as u64).await["dead"], MASS);
    let wiped = service.client().delete(format!("{}/_sandbox/calls", service.sandbox));
    assert_eq!(service.send(wiped).await.status, 200);
    service.faults(&json!([])).await;

    let mut replay = program(service.directory.path())
        .args(["dead-letters", "replay", "--all", "--url", &service.private])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(replay.stderr.take().unwrap()).lines();
    let told = tokio::time::timeout(PATIENCE, progress.next_line()).await.unwrap().unwrap().unwrap();
    assert!(told.contains("so far"), "{told}");
    let directory = service.kill().await;
    let ended = tokio::time::timeout(PATIENCE, replay.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(1), "the service was gone before the replay was done");

    let service = setup().on(directory).start().await;
    let stats = service.private("/api/stats").await.json();
    let left = stats["dead_letters"]["default"].as_u64().unwrap();
    assert!(0 < left && left < MASS as u64, "{stats}");
    assert_eq!(stats["ledger"]["dead"], left, "{stats}");
    let rest = done(&service, &["replay", "--all", "--json"]).await;
    assert_eq!(rest, json!({ "dry_run": false, "matched": left, "changed": left, "unserved": 0 }));
    let ledger = service.settled(MASS as u64).await;
    assert_eq!(ledger, json!({"accepted": MASS, "delivered": MASS, "filtered": 0, "expired": 0, "dead": 0}));
    let account = Account::of(&service.calls("").await);
    assert!(
        account.events() == marks.iter().cloned().collect(),
        "{} were carried out",
        account.events().len()
    );
    let doubles = account.doubles();
    assert!(doubles <= IN_FLIGHT, "{doubles} calls were doubled by a kill with {IN_FLIGHT} in flight");
    println!("{left} of {MASS} letters were left after the kill; {doubles} calls doubled");
    service.end().await;
}

#[tokio::test]
async fn an_event_that_was_refused_out_of_a_batch_can_be_asked_for() {
    let service = Service::sandbox().config(QUICK).start().await;
    let good = json!({ "type": "track", "userId": "user-1", "event": "Seat Chosen", "messageId": "m-1" });
    let bad = json!({ "type": "track", "userId": "user-1", "messageId": "m-2" });
    let reply = service.post("/v1/batch", &json!({ "batch": [good, bad] }).to_string()).await.json();
    assert_eq!((&reply["accepted"], &reply["rejected"][0]["messageId"]), (&json!(1), &json!("m-2")));
    let found = service.private("/api/rejected?organization=default&message_id=m-2").await.json();
    let refusal = &found["rejected"][0];
    assert_eq!(
        (&refusal["code"], &refusal["pointer"]),
        (&reply["rejected"][0]["code"], &json!("/event")),
        "{found}"
    );
    assert_eq!(service.private("/api/rejected?organization=other").await.json()["rejected"], json!([]));
    assert_eq!(service.private("/api/rejected?person=user-1").await.status, 400);
    assert_eq!(service.settled(1).await["accepted"], 1, "it was never accepted");
    service.end().await;
}

/// The fenced shell blocks of a document.
fn shell_blocks(document: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(document).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn every_command_in_the_document_does_what_it_says() {
    let service = Service::sandbox().config(QUICK).start().await;
    service.faults(&json!([{ "status": 400 }])).await;
    for (person, id) in
        [("user-1", "a"), ("user-2", "b"), ("user-3", "c"), ("load-test", "d"), ("user-5", "e")]
    {
        track(&service, person, id, "Seat Chosen").await;
    }
    let order = json!({ "userId": "user-6", "event": "Order Completed", "messageId": "f",
        "properties": { "order_id": "o-1", "total": 10.50, "products": [{ "product_id": "p-1" }] } });
    assert_eq!(service.post("/v1/track", &order.to_string()).await.status, 200);
    assert_eq!(service.settled(6).await["dead"], 6);
    service.faults(&json!([])).await;

    let private = service.private.strip_prefix("http://").unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_wigzo-destination")).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(programs.to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )
    .unwrap();
    let mut commands = 0;
    for block in shell_blocks(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dead-letters.md")) {
        for command in block.lines() {
            let output = tokio::process::Command::new("sh")
                .args(["-ec", &command.replace("127.0.0.1:9090", private)])
                .current_dir(service.directory.path())
                .env("WIGZO__ADMIN__LISTEN", private)
                .env("PATH", &path)
                .stdin(Stdio::null())
                .output();
            let (code, out, err) = told(tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap());
            assert_eq!(code, 0, "{command}\n{out}{err}");
            assert!(!out.trim().is_empty() || !err.trim().is_empty(), "{command} says nothing");
            assert!(!out.starts_with("0 dead letter"), "{command} changed nothing: {out}");
            commands += 1;
        }
    }
    assert!(commands >= 10, "{commands} commands");
    let ledger = service.settled(6).await;
    assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(3), &json!(3)), "{ledger}");
    service.end().await;
}
