//! The log: which lines there are can be changed while the service runs, and what happens over and over is summed up.
//! That whoever reads it too slowly holds nothing up is tested beside the writer.

use serde_json::{Value, json};

use crate::service::{Reply, Service};

const ACME: &str = "[organizations.acme]\norg_token = \"made-up-org-token\"\nsource_keys = [\"wk_acme\"]";

fn track(user: &str, id: &str) -> String {
    json!({ "writeKey": "wk_acme", "type": "track", "event": "Odd", "userId": user, "messageId": id })
        .to_string()
}

async fn set(service: &Service, body: &str) -> Reply {
    let request = service.client().post(format!("{}/api/log-level", service.private));
    service.send(request.header("content-type", "application/json").body(body.to_owned())).await
}

/// The lines with this message.
fn lines(service: &Service, message: &str) -> Vec<Value> {
    let log = service.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"].as_str().is_some_and(|it| it.starts_with(message))).collect()
}

#[tokio::test]
async fn which_lines_are_logged_can_be_changed_while_the_service_runs() {
    let service = Service::sandbox().config(ACME).start().await;
    assert_eq!(service.private("/api/log-level").await.json(), json!({ "log": "info" }));
    assert_eq!(set(&service, r#"{"log":"warn,wigzo_destination::delivery=info"}"#).await.status, 200);
    assert_eq!(service.post("/v1/track", &track("u", "1")).await.status, 200);
    service.settled(1).await;
    service.eventually("the outcome is told", || async { lines(&service, "delivered").len() == 1 }).await;
    assert_eq!(lines(&service, "events kept"), Vec::<Value>::new(), "the other room is quiet");

    let shown = set(&service, r#"{"log":"debug"}"#).await;
    assert_eq!((shown.status, shown.json()), (200, json!({ "log": "debug" })));
    assert_eq!(service.post("/v1/track", &track("u", "2")).await.status, 200);
    service.eventually("the request is told", || async { lines(&service, "events kept").len() == 1 }).await;
    let told = lines(&service, "a change over the private side");
    let changes: Vec<_> = told.iter().map(|line| (&line["action"], &line["on"])).collect();
    let quiet = "warn,wigzo_destination::delivery=info";
    let action = json!("set_log_level");
    let (first, second) = (json!(format!("info to {quiet}")), json!(format!("{quiet} to debug")));
    assert_eq!(changes, [(&action, &first), (&action, &second)], "audit lines are told at any level");

    for bad in [r#"{"log":"acme=loud"}"#, r#"{"level":"info"}"#, "info", ""] {
        let reply = set(&service, bad).await;
        assert_eq!(reply.status, 400, "{bad}: {reply:?}");
    }
    let page = service.client().post(format!("{}/api/log-level", service.private));
    let page = page.header("origin", "https://elsewhere.example.com").body(r#"{"log":"trace"}"#);
    assert_eq!(service.send(page).await.status, 403);
    assert_eq!(service.private("/api/log-level").await.json(), json!({ "log": "debug" }));
    service.end().await;
}

#[tokio::test]
async fn what_happens_over_and_over_is_told_once_and_then_counted() {
    let service = Service::sandbox()
        .config("[telemetry]\nlog_summary = \"2s\"\n[delivery]\nlane_hold = \"never\"\nbreaker.lanes = 1000")
        .config("[delivery.retry]\nbase = \"10ms\"\ncap = \"50ms\"")
        .config(ACME)
        .start()
        .await;
    service.faults(&json!([{ "status": 500 }])).await;
    for user in 0..20 {
        let event = track(&format!("u{user}"), &format!("m{user}"));
        assert_eq!(service.post("/v1/track", &event).await.status, 200);
    }
    for _ in 0..5 {
        assert_eq!(service.post("/v1/track", r#"{"writeKey":"wk_acme","event":"x"}"#).await.status, 400);
    }
    let retries = "wigzo_destination_retries_total{reason=\"wigzo_500\"}";
    let again = |what: &str| {
        let told = lines(&service, "again and again");
        told.into_iter().filter(|line| line["what"] == what).collect::<Vec<_>>()
    };
    service.eventually("retries are summed up", || async { !again("retry").is_empty() }).await;
    service.eventually("refusals are summed up", || async { !again("request refused").is_empty() }).await;
    assert!(service.metric(retries).await >= 20);
    assert_eq!(lines(&service, "waits for another try").len(), 1, "{}", service.log());
    let first = &again("retry")[0];
    assert_eq!((&first["organization"], &first["reason"]), (&json!("acme"), &json!("wigzo_500")), "{first}");
    assert!(first["times"].as_u64().unwrap() >= 19, "{first}");
    assert_eq!(again("request refused")[0]["times"], 4);
    // Each request has its line all the same: the first as a warning.
    let refused = lines(&service, "request refused");
    let levels: Vec<_> = refused.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["WARN", "INFO", "INFO", "INFO", "INFO"]);
    service.end().await;
}

#[tokio::test]
async fn many_dead_letters_take_few_lines_and_each_is_counted() {
    let service = Service::sandbox()
        .config("[telemetry]\nlog_summary = \"3s\"\n[queue]\nmax_dead_letters = 2")
        .config(ACME)
        .start()
        .await;
    service.faults(&json!([{ "status": 400 }])).await;
    let dropped = "wigzo_destination_dead_letters_dropped";
    for n in 0..8_u64 {
        let event = track(&format!("u{n}"), &format!("m{n}"));
        assert_eq!(service.post("/v1/track", &event).await.status, 200);
        // Each but the first two costs an older one its place, in a commit of its own.
        service
            .eventually("the limit holds", || async { service.metric(dropped).await == n.saturating_sub(1) })
            .await;
    }
    let times = |what: &str| {
        let told = lines(&service, "again and again").into_iter().filter(|line| line["what"] == what);
        told.map(|line| line["times"].as_u64().unwrap()).sum::<u64>()
    };
    service.eventually("dead letters are summed up", || async { times("dead letter") == 7 }).await;
    service.eventually("drops are summed up", || async { times("dead letters dropped") == 5 }).await;
    for (message, level) in [("dead letter: ", "WARN"), ("there are more dead letters", "ERROR")] {
        let told = lines(&service, message);
        assert_eq!((told.len(), told[0]["level"].as_str()), (1, Some(level)), "{told:#?}");
    }
    service.end().await;
}
