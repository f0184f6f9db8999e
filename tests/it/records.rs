//! Records say what was stored, byte for byte, and are found and whole whatever the load: events that came in, dead
//! letters that went out again.

use serde_json::{Value, json};

use crate::private_side::run;
use crate::service::{Service, Setup};
use crate::stand_in::StandIn;

/// Numbers that no parser of ours may touch: trailing zeros, more digits than a float holds, out of a float's range.
const NUMBERS: &str =
    r#"{"price":799.50,"id":12345678901234567890123,"small":-0.0,"far":1e400,"spaced" : [ 1.0 ,2 ]}"#;

fn event(id: &str, name: &str) -> String {
    format!(r#"{{"userId":"user-1","event":"{name}","messageId":"{id}","properties":{NUMBERS}}}"#)
}

fn setup(wigzo: &StandIn) -> Setup {
    Service::calling(wigzo)
        .env("WIGZO_ORG_TOKEN", "org-token-acme-1")
        .config("[delivery]\nquick_retries = 0\n")
}

#[tokio::test]
async fn every_byte_of_an_event_is_shown_as_it_came() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    service.faults(&json!([{ "event_name": "Refused", "status": 400, "body": "{\"code\":1.50}" }])).await;
    let refused = event("m-1", "Refused");
    assert_eq!(service.post("/v1/track", &refused).await.status, 200);
    service.settled(1).await;

    for path in ["/api/events/1", "/api/dead-letters/1"] {
        let answer = service.private(path).await.body;
        assert!(answer.contains(&format!(r#""payload":{refused},"#)), "{path}: {answer}");
    }
    for command in ["events", "dead-letters"] {
        let (code, out, err) = run(&service, &[command, "show", "1"]).await;
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        assert!(out.contains(&format!("payload\n{refused}\n")), "{command}:\n{out}");
        assert!(
            out.contains("12345678901234567890123") && out.contains(r#"answer   {"code":1.50}"#),
            "{out}"
        );
        let answer = service.private(&format!("/api/{command}/1")).await.body;
        let (_, out, _) = run(&service, &[command, "show", "1", "--json"]).await;
        assert_eq!(out, answer + "\n", "{command}");
    }
    let (_, line, _) = run(&service, &["dead-letters", "export"]).await;
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["payload"], refused);
    // A list has the entries of the service, one a line.
    let page = service.private("/api/events?limit=50").await.body;
    let (_, line, _) = run(&service, &["events", "list", "--json"]).await;
    assert!(page.contains(line.trim_end()) && line.starts_with(r#"{"number":1,"#), "{line}");

    let question = format!(r#"{{"path":"/v1/track","event":{refused}}}"#);
    let request = service.client().post(format!("{}/api/translate", service.private)).body(question);
    let explained = service.send(request.header("content-type", "application/json")).await.body;
    for number in ["799.50", "12345678901234567890123", "-0.0", "1e400"] {
        assert!(explained.contains(number), "{number}: {explained}");
    }
    service.end().await;
}

#[tokio::test]
async fn every_code_is_explained_by_the_service_and_at_a_terminal() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).start().await;
    service.faults(&json!([{ "event_name": "Refused", "status": 400 }])).await;
    let odd = json!({ "userId": 7, "event": "Refused", "messageId": "m-1" });
    assert_eq!(service.post("/v1/track", &odd.to_string()).await.status, 200);
    service.settled(1).await;
    let record = service.private("/api/events/1").await.json();
    let codes = record["codes"].as_array().unwrap();
    let named: Vec<_> =
        codes.iter().map(|it| (it["kind"].as_str().unwrap(), it["code"].as_str().unwrap())).collect();
    assert_eq!(named, [("status", "dead"), ("reason", "wigzo_400"), ("warning", "numeric_id")]);
    let (_, out, _) = run(&service, &["events", "show", "1"]).await;
    for code in codes {
        let text = |field: &str| code[field].as_str().unwrap().to_owned();
        let lines = format!(
            "\n{} {}\n  meaning  {}\n  to do    {}\n",
            text("kind"),
            text("code"),
            text("meaning"),
            text("advice")
        );
        assert!(out.contains(&lines), "{lines}\n{out}");
    }
    service.end().await;
}

#[tokio::test]
async fn a_list_names_users_and_message_ids_and_stays_in_line() {
    let service = Service::sandbox().start().await;
    let unwanted = json!({ "userId": "user-1", "event": "Seat Chosen", "messageId": "m-1", "integrations": { "All": false } });
    assert_eq!(service.post("/v1/track", &unwanted.to_string()).await.status, 200);
    let long = json!({ "userId": "user-2", "event": "A name that is longer than a column is wide", "messageId": "m-2" });
    assert_eq!(service.post("/v1/track", &long.to_string()).await.status, 200);
    service.settled(2).await;
    let (_, out, _) = run(&service, &["events", "list"]).await;
    let lines: Vec<&str> = out.lines().collect();
    let column = |name: &str| lines[0].chars().collect::<String>().find(name).unwrap();
    let at = |line: &str, place: usize| line.chars().skip(place).collect::<String>();
    for (line, user, id) in [(lines[1], "user-2", "m-2"), (lines[2], "user-1", "m-1")] {
        assert!(at(line, column("USER")).starts_with(user), "{out}");
        assert_eq!(at(line, column("MESSAGE ID")), id, "{out}");
    }
    assert!(lines[2].contains("filtered_by_integration… "), "{out}");
    assert!(!out.contains('\u{1b}'), "no colours where nobody looks: {out:?}");
    service.end().await;
}

#[tokio::test]
async fn a_replayed_letter_is_kept_in_full_however_many_events_are_delivered() {
    let wigzo = StandIn::start().await;
    let service = setup(&wigzo).config("[queue]\nhistory_full_per_second = 0\n").start().await;
    service.faults(&json!([{ "event_name": "Seat Chosen", "status": 400 }])).await;
    let seat = json!({ "userId": "user-1", "event": "Seat Chosen", "messageId": "m-1" });
    assert_eq!(service.post("/v1/track", &seat.to_string()).await.status, 200);
    service.settled(1).await;
    service.faults(&json!([])).await;
    let (code, out, err) = run(&service, &["dead-letters", "replay", "1"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let record = service.state(1, "delivered").await;
    let statuses: Vec<_> =
        record["attempts"].as_array().unwrap().iter().map(|it| it["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses.len(), 2, "{record}");
    assert_eq!((statuses[0], record["payload"].is_object()), (400, true), "{record}");
    let (_, out, _) = run(&service, &["events", "show", "1"]).await;
    let reason = "\nreason wigzo_400\n  meaning  Wigzo refused the call as malformed.\n\n";
    assert!(out.contains(reason), "what an earlier attempt met needs no advice any more:\n{out}");
    service.end().await;
}

#[tokio::test]
async fn a_message_id_is_enough_to_find_an_event_that_is_one_line() {
    let wigzo = StandIn::start().await;
    let organizations = ["acme", "globex"].map(|name| {
        format!("[organizations.{name}]\norg_token = \"org-token-{name}-1\"\nsource_keys = [\"wk_{name}\"]\n")
    });
    let config = format!("[queue]\nhistory_full_per_second = 0\n{}{}", organizations[0], organizations[1]);
    let service = Service::calling(&wigzo).config(&config).start().await;
    for (organization, id) in [("acme", "m-1"), ("globex", "m-2"), ("globex", "m-3")] {
        let request = service.client().post(format!("{}/v1/track", service.public));
        let request =
            request.body(event(id, "Seat Chosen")).basic_auth(format!("wk_{organization}"), Some(""));
        assert_eq!(service.send(request).await.status, 200);
    }
    service.settled(3).await;
    assert_eq!(service.private("/api/events/2").await.json()["payload"], json!(null), "it is one line");
    let page = service.private("/api/events?message_id=m-2").await.json();
    assert_eq!((&page["events"][0]["number"], &page["cursor"]), (&json!(2), &json!(null)), "{page}");
    let (code, out, err) = run(&service, &["events", "list", "--message-id", "m-2"]).await;
    assert_eq!((code, out.lines().count(), err.as_str()), (0, 2, ""), "{out}");
    assert!(out.contains("globex") && out.contains("m-2"), "{out}");
    let (_, out, err) = run(&service, &["events", "list", "--message-id", "nowhere"]).await;
    assert_eq!((out.as_str(), err.as_str()), ("", "no events\n"));
    service.end().await;
}
