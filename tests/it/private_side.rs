//! The private side's routes: looking events up, organizations, dry runs, test events, drain.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::service::{Service, Setup, program};
use crate::stand_in::StandIn;

fn acme(wigzo: &StandIn) -> Setup {
    Service::calling(wigzo).config(
        "[delivery]\nquick_retries = 0\nmax_age = \"1h\"\n[delivery.retry]\nbase = \"1h\"\ncap = \"1h\"\n\
         [organizations.acme]\norg_token = \"canary-org-token-1\"\ntoken = \"canary-token-2\"\n\
         source_keys = [\"canary-key\"]\nshared_secrets = [\"canary-secret-1\", \"canary-secret-2\"]\nweight = 3\n",
    )
}

async fn post(service: &Service, event: &Value) {
    let request = service.client().post(format!("{}/v1/batch", service.public)).body(event.to_string());
    let reply = service.send(request.basic_auth("canary-key", Some(""))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

fn track(person: &str, id: &str, name: &str) -> Value {
    json!({ "type": "track", "userId": person, "event": name, "messageId": id })
}

/// The numbers of all events that a query finds, page by page, and how many pages that were.
async fn numbers(service: &Service, query: &str) -> (Vec<u64>, usize) {
    let (mut numbers, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = service.private(&format!("/api/events?{query}{cursor}")).await;
        assert_eq!(page.status, 200, "{query}: {page:?}");
        let page = page.json();
        numbers.extend(page["events"].as_array().unwrap().iter().map(|it| it["number"].as_u64().unwrap()));
        pages += 1;
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (numbers, pages),
        }
    }
}

#[tokio::test]
async fn events_are_found_by_every_filter_and_page_by_page() {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo).start().await;
    service
        .faults(&json!([
            { "event_name": "Refused", "status": 400, "body": "{\"message\":\"no\"}" },
            { "event_name": "Failing", "status": 503 },
        ]))
        .await;
    let page = json!({ "type": "page", "userId": "user-2", "name": "Home", "messageId": "m-2" });
    let screen = json!({ "type": "screen", "userId": "user-3", "name": "Home", "messageId": "m-3" });
    for event in [
        track("user-1", "m-1", "Seat Chosen"),
        page,
        screen,
        track("user-4", "m-4", "Refused"),
        track("user-5", "m-5", "Failing"),
    ] {
        post(&service, &event).await;
    }
    service.state(5, "retrying").await;
    service.until("/api/stats", |stats| stats["waiting_total"] == 1).await;
    for (query, expected) in [
        ("", &[5, 4, 3, 2, 1][..]),
        ("organization=acme", &[5, 4, 3, 2, 1]),
        ("organization=other", &[]),
        ("message_id=m-2", &[2]),
        ("organization=acme&message_id=m-4", &[4]),
        ("person=user-5", &[5]),
        ("title=Seat+Chosen", &[1]),
        ("title=Home", &[3, 2]),
        ("kind=screen", &[3]),
        ("kind=track&title=Home", &[]),
        ("state=delivered", &[2, 1]),
        ("state=filtered", &[3]),
        ("state=dead", &[4]),
        ("state=retrying", &[5]),
        ("state=waiting", &[]),
        ("state=discarded", &[]),
        ("place=waiting", &[5]),
        ("place=settled&state=dead", &[]),
        ("reason=wigzo_503", &[5]),
        ("reason=type_not_mapped", &[3]),
        ("since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z", &[]),
        ("since=2020-01-01T00:00:00%2B05:30", &[5, 4, 3, 2, 1]),
    ] {
        assert_eq!(numbers(&service, query).await.0, expected, "{query}");
        assert_eq!(
            numbers(&service, &format!("{query}&limit=1")).await.0,
            expected,
            "{query}, one at a time"
        );
    }
    assert!(numbers(&service, "limit=2").await.1 >= 3);

    let waiting = service.private("/api/events/5").await.json();
    let next = &waiting["next_attempt"];
    assert_eq!((&next["waits_for"], &next["at"]), (&json!("retry"), &waiting["retry_at"]), "{waiting}");
    assert_eq!(waiting["reason"], "wigzo_503");
    let dead = service.private("/api/events/4").await.json();
    let attempt = &dead["attempts"][0];
    assert_eq!((&dead["payload"]["event"], &dead["next_attempt"]), (&json!("Refused"), &json!(null)));
    assert!(attempt["request"].as_str().unwrap().contains("Refused"), "{dead}");
    assert!(attempt["request"].as_str().unwrap().contains("org_token=***"), "{dead}");
    assert_eq!((&attempt["response"], &attempt["status"]), (&json!("{\"message\":\"no\"}"), &json!(400)));
    for (path, code) in [
        ("/api/events/99", "unknown_event"),
        ("/api/dead-letters/1", "unknown_dead_letter"),
        ("/api/organizations/nobody", "unknown_organization"),
        ("/api/nowhere", "unknown_path"),
    ] {
        let reply = service.private(path).await;
        assert_eq!((reply.status, &reply.json()["code"]), (404, &json!(code)), "{path}");
        assert_eq!(reply.headers["content-type"], "application/json", "{path}");
    }
    service.end().await;
}

#[tokio::test]
async fn a_typo_is_told_and_never_answers_everything() {
    let service = Service::sandbox().start().await;
    let document = service.private("/api/openapi.json").await.json();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if item["get"].is_null() || path == "/metrics" {
            continue;
        }
        let path = path.replace("{number}", "1").replace("{name}", "default");
        for query in
            ["organisation=acme", "limit=0", "limit=1001", "limit=ten", "cursor=7", "state=ok", "a=1&a=1"]
        {
            let reply = service.private(&format!("{path}?{query}")).await;
            assert_eq!(
                (reply.status, &reply.json()["code"]),
                (400, &json!("bad_parameter")),
                "{path}?{query}"
            );
            asked += 1;
        }
    }
    assert!(asked >= 60, "{asked}");
    for (path, body, code) in [
        ("/api/drain", json!({ "out": true }), "bad_body"),
        ("/api/organizations/default/pause", json!({ "because": "x" }), "bad_body"),
        ("/api/organizations/default/pause", json!({ "why": "" }), "bad_body"),
        ("/api/organizations/default/retry", json!({ "reason": "wigzo_40" }), "bad_body"),
        ("/api/organizations/default/retry", json!({ "because": "x" }), "bad_body"),
        ("/api/organizations/default/test-event", json!({ "type": "tracks" }), "bad_body"),
        ("/api/translate", json!({ "events": [] }), "bad_body"),
        ("/api/translate", json!({ "event": {}, "path": "/v2" }), "bad_body"),
        ("/api/drain?now=1", json!({}), "bad_parameter"),
        ("/api/dead-letters/replay?dry_run=true", json!({ "all": true }), "bad_parameter"),
    ] {
        let reply = service.operate(path, &body).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!(code)), "{path} {body}: {reply:?}");
    }
    let large = json!({ "numbers": vec![1_000_000_000; 7_000] });
    let reply = service.operate("/api/dead-letters/replay", &large).await;
    assert_eq!((reply.status, &reply.json()["code"]), (413, &json!("body_too_large")));
    service.end().await;
}

#[tokio::test]
async fn organizations_are_shown_without_their_secrets_and_page_by_page() {
    let wigzo = StandIn::start().await;
    let shop =
        |n| format!("[organizations.shop-{n}]\norg_token = \"org-token-{n}\"\nsource_keys = [\"wk-{n}\"]\n");
    let more = (0..4).map(shop).collect::<Vec<_>>().concat();
    let service = acme(&wigzo).config(&more).start().await;
    let all = service.private("/api/organizations").await;
    assert!(!all.body.contains("canary") && !all.body.contains("org-token"), "{all:?}");
    let acme = &all.json()["organizations"][0];
    let shown = &acme["configuration"];
    assert!(shown["address"].as_str().unwrap().contains("org_token=***&token=***"), "{shown}");
    assert_eq!(
        (&shown["shared_secrets"], &shown["source_keys"], &shown["weight"]),
        (&json!(2), &json!(true), &json!(3))
    );
    assert_eq!((&acme["name"], &acme["delivery"]["state"]), (&json!("acme"), &json!("open")), "{acme}");
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = service.private(&format!("/api/organizations?limit=2{cursor}")).await.json();
        names.extend(
            page["organizations"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it["name"].as_str().unwrap().to_owned()),
        );
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["acme", "shop-0", "shop-1", "shop-2", "shop-3"]);
    let stats = service.private("/api/stats").await.json();
    assert_eq!((&stats["in_flight"], &stats["out_of_rotation"]), (&json!(0), &json!(false)));
    assert_eq!(stats["delivery"].as_array().unwrap().len(), 5);
    service.end().await;
}

#[tokio::test]
async fn a_dry_run_answers_what_the_command_prints() {
    let service = Service::sandbox()
        .config(
            "[organizations.acme]\norg_token = \"org-token-acme-1\"\nsource_keys = [\"wk\"]\n\
             [organizations.globex]\norg_token = \"org-token-globex-1\"\nsource_keys = [\"wk-2\"]\nprofile = \"guide\"\n",
        )
        .start()
        .await;
    let order = json!({ "type": "track", "userId": "user-1", "event": "Order Completed", "messageId": "o-1",
        "timestamp": "2026-01-02T03:04:05Z",
        "properties": { "order_id": "o-1", "total": 10.50, "products": [{ "product_id": "p-1" }] } });
    let batch = json!({ "batch": [order, { "type": "track", "userId": "user-1" }] });
    for (organization, event, path) in [
        ("acme", &order, None),
        ("globex", &order, Some("/v1/track")),
        ("acme", &batch, None),
        ("acme", &json!(7), None),
    ] {
        let mut question = json!({ "organization": organization, "event": event });
        if let Some(path) = path {
            question["path"] = json!(path);
        }
        let answer = service.operate("/api/translate", &question).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let config = service.directory.path().join("config.toml");
        let mut command = program(service.directory.path())
            .args(["translate", "--json", "--organization", organization, "--config"])
            .arg(config)
            .args(path.iter().flat_map(|path| ["--path", path]))
            .env("WIGZO__ORGANIZATION_DEFAULTS__BASE_URL", &service.sandbox)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        command.stdin.take().unwrap().write_all(event.to_string().as_bytes()).await.unwrap();
        let printed: Value =
            serde_json::from_slice(&command.wait_with_output().await.unwrap().stdout).unwrap();
        assert_eq!(answer.json(), printed, "{organization} {event}");
    }
    let nobody =
        service.operate("/api/translate", &json!({ "organization": "nobody", "event": order })).await;
    assert_eq!((nobody.status, &nobody.json()["code"]), (404, &json!("unknown_organization")));
    let which = service.operate("/api/translate", &json!({ "event": order })).await;
    assert!(which.status == 400 && which.body.contains("Say which `organization`"), "{which:?}");
    assert_eq!(service.ledger().await["accepted"], 0, "nothing was kept");
    service.end().await;
}

#[tokio::test]
async fn a_test_event_goes_the_real_way_and_is_known_as_one_everywhere() {
    let service = Service::sandbox().start().await;
    for (kind, name) in [("track", "Wigzo Destination Test"), ("page", "view"), ("identify", "")] {
        let sent = service.operate("/api/organizations/default/test-event", &json!({ "type": kind })).await;
        assert_eq!(sent.status, 200, "{sent:?}");
        let number = sent.json()["number"].as_u64().unwrap();
        let record = service.state(number, "delivered").await;
        assert_eq!((&record["kind"], &record["person"]), (&json!(kind), &json!("wigzo-destination-test")));
        assert_eq!(record["message_id"], sent.json()["message_id"]);
        assert!(record["message_id"].as_str().unwrap().starts_with("test-"), "{record}");
        let calls = service.calls("").await;
        let call = calls.iter().rfind(|call| call["body"]["eventName"].as_str().unwrap_or_default() == name);
        let call = call.unwrap_or_else(|| panic!("{kind}: {calls:?}"));
        assert!(call["body"].to_string().contains("\"test\":true"), "{call}");
    }
    let found = service.private("/api/events?person=wigzo-destination-test").await.json();
    assert_eq!(found["events"].as_array().unwrap().len(), 3);
    let nobody = service.operate("/api/organizations/nobody/test-event", &json!({})).await;
    assert_eq!((nobody.status, &nobody.json()["code"]), (404, &json!("unknown_organization")));
    service.end().await;
}

#[tokio::test]
async fn out_of_rotation_a_process_turns_senders_away_and_works_on() {
    let mut service = Service::sandbox().start().await;
    let gone = service.operate("/api/drain", &json!({})).await.json();
    assert_eq!(gone, json!({ "out_of_rotation": true, "waiting": 0, "in_flight": 0 }));
    let ready = service.get("/readyz").await;
    assert!(ready.status == 503 && ready.body.contains("out of rotation"), "{ready:?}");
    assert_eq!(service.get("/livez").await.status, 200);
    let event = json!({ "userId": "user-1", "event": "Seat Chosen", "messageId": "m-1" });
    assert_eq!(service.post("/v1/track", &event.to_string()).await.status, 200, "what comes is taken");
    assert_eq!(service.settled(1).await["delivered"], 1, "and delivered");
    assert_eq!(service.private("/api/drain").await.json()["out_of_rotation"], true);
    let back = service.operate("/api/drain", &json!({ "out_of_rotation": false })).await.json();
    assert_eq!(back["out_of_rotation"], false);
    assert_eq!(service.get("/readyz").await.status, 200);
    service.operate("/api/drain", &json!({})).await;
    service.signal("INT");
    assert_eq!(service.ended().await.code(), Some(0), "a signal ends it as always");
}

#[tokio::test]
async fn the_table_of_what_an_event_waits_for_is_true() {
    let wigzo = StandIn::start().await;
    let service = acme(&wigzo).start().await;
    service.faults(&json!([{ "status": 401 }])).await;
    post(&service, &track("user-1", "m-1", "Seat Chosen")).await;
    let is_settled = |it: &Value| it["next_attempt"]["waits_for"] == "correction" && !it["reason"].is_null();
    let event = service.until("/api/events/1", is_settled).await;
    assert_eq!(event["reason"], "wigzo_401");
    assert!(event["next_attempt"]["at"].is_string(), "{event}");
    let directory = service.kill().await;

    let service = Service::calling(&wigzo)
        .config("[organizations.globex]\norg_token = \"org-token-globex-1\"\nsource_keys = [\"wk\"]\n")
        .on(directory)
        .start()
        .await;
    let event = service.private("/api/events/1").await.json();
    assert_eq!(event["next_attempt"]["waits_for"], "organization", "{event}");
    let left = service.private("/api/organizations/acme").await.json();
    assert_eq!((&left["configuration"], &left["waiting"]), (&json!(null), &json!(1)));
    let names: BTreeSet<String> = service.private("/api/organizations").await.json()["organizations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, BTreeSet::from(["acme".to_owned(), "globex".to_owned()]));
    service.end().await;
}

/// Runs a command against a service: exit code, standard output, standard error.
pub async fn run(service: &Service, arguments: &[&str]) -> (i32, String, String) {
    let (command, rest) = arguments.split_at(2);
    let output =
        program(service.directory.path()).args(command).args(["--url", &service.private]).args(rest).output();
    let output = tokio::time::timeout(crate::service::PATIENCE, output).await.expect("it hangs").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn commands_say_at_a_terminal_what_the_routes_say_to_programs() {
    let service = Service::sandbox().config("[delivery]\nquick_retries = 0").start().await;
    service
        .faults(&json!([{ "event_name": "Refused\u{1b}[2J", "status": 400, "body": "{\"message\":\"no\"}" }]))
        .await;
    let (code, out, err) = run(&service, &["delivery", "test", "default"]).await;
    assert_eq!((code, out.as_str()), (0, "Event 1 was delivered: Wigzo has taken it.\n"), "{err}");
    let event = json!({ "userId": "user-1", "event": "Refused\u{1b}[2J", "messageId": "m-2" });
    assert_eq!(service.post("/v1/track", &event.to_string()).await.status, 200);
    service.settled(2).await;

    let (code, out, _) = run(&service, &["events", "list"]).await;
    assert_eq!((code, out.lines().count()), (0, 3), "{out}");
    assert!(out.contains("wigzo_400") && !out.contains('\u{1b}'), "{out:?}");
    let (code, out, _) = run(&service, &["events", "list", "--state", "dead", "--json"]).await;
    let dead: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &dead["number"]), (0, &json!(2)));
    let (_, out, err) = run(&service, &["events", "list", "--person", "nobody"]).await;
    assert_eq!((out.as_str(), err.as_str()), ("", "no events\n"));
    let (code, out, _) = run(&service, &["events", "show", "2"]).await;
    assert_eq!(code, 0);
    for part in [
        "status        dead  wigzo_400",
        "\"messageId\":\"m-2\"",
        "request  POST ",
        "answer   {\"message\":\"no\"}",
    ] {
        assert!(out.contains(part) && !out.contains('\u{1b}'), "{part}:\n{out}");
    }
    let (_, out, _) = run(&service, &["events", "show", "2", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), service.private("/api/events/2").await.json());

    let (code, out, err) = run(&service, &["delivery", "pause", "default", "--why", "stock-taking"]).await;
    assert!(code == 0 && out.contains("default is paused"), "{out}{err}");
    service.until("/api/organizations/default", |it| it["delivery"]["state"] == "held").await;
    let (_, out, _) = run(&service, &["delivery", "list"]).await;
    assert!(out.contains("held") && out.contains("loopback stock-taking"), "{out}");
    let (_, out, _) = run(&service, &["delivery", "list", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["paused"]["why"], "stock-taking");
    let (code, out, _) = run(&service, &["delivery", "resume", "default", "--json"]).await;
    assert_eq!((code, &serde_json::from_str::<Value>(&out).unwrap()["paused"]), (0, &json!(null)));
    let (code, out, _) = run(&service, &["delivery", "drain"]).await;
    assert!(code == 0 && out.contains("out of rotation and goes on; 0 events wait"), "{out}");
    assert_eq!(service.get("/readyz").await.status, 503);
    let (code, out, _) = run(&service, &["delivery", "drain", "--back", "--json"]).await;
    assert_eq!((code, &serde_json::from_str::<Value>(&out).unwrap()["out_of_rotation"]), (0, &json!(false)));

    for (arguments, code, message) in [
        (&["delivery", "pause", "nobody"][..], 1, "No organization has this name"),
        (&["delivery", "pause", "a/b"], 1, "No organization has this name"),
        (&["delivery", "list", "--standing", "on"], 2, "standing: expected one of open"),
        (&["events", "list", "--state", "ok"], 2, "state: expected one of waiting"),
        (&["events", "list", "--kind", "tracks"], 2, "is no type of event"),
        (&["events", "show", "99"], 1, "No such event"),
    ] {
        let (ended, _, err) = run(&service, arguments).await;
        assert!(ended == code && err.contains(message), "{arguments:?} {ended}: {err}");
    }
    service.end().await;
}

/// The fenced shell blocks of a document, line by line.
fn commands(document: &str) -> Vec<String> {
    let blocks = document.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_every_example_does_what_it_says() {
    let service = Service::sandbox().config("[delivery]\nquick_retries = 0").start().await;
    let faults =
        json!([{ "event_name": "Refused", "status": 400 }, { "event_name": "Failing", "status": 500 }]);
    service.faults(&faults).await;
    for (id, name) in [("m-1", "Seat Chosen"), ("m-2", "Refused"), ("m-3", "Failing")] {
        let event = json!({ "userId": "user-42", "event": name, "messageId": id });
        assert_eq!(service.post("/v1/track", &event.to_string()).await.status, 200);
    }
    service.state(3, "retrying").await;
    assert_eq!(service.post("/webhook/nobody", "{}").await.status, 401);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/admin-api.md")).unwrap();
    let commands = commands(&document);

    let routes = service.private("/api/openapi.json").await.json();
    for (path, item) in routes["paths"].as_object().unwrap() {
        let address = path.replace("{name}", "default");
        let (begin, end) = address.split_once("{number}").unwrap_or((&address, ""));
        for method in item.as_object().unwrap().keys().filter(|method| *method != "head") {
            let said = format!("`{} {path}`", method.to_uppercase());
            assert!(document.contains(&said), "docs/admin-api.md does not tell of {said}");
            let is_shown = |command: &&String| {
                command.contains(&format!("9090{begin}"))
                    && command.contains(end)
                    && command.contains("-X POST") == (method == "post")
            };
            assert!(
                commands.iter().any(|command| is_shown(&command)),
                "docs/admin-api.md has no example of {said}"
            );
        }
        for response in item.as_object().unwrap().values() {
            for code in response["responses"]
                .as_object()
                .unwrap()
                .values()
                .filter_map(|it| {
                    it["content"]["application/json"]["schema"]["properties"]["code"]["enum"].as_array()
                })
                .flatten()
            {
                let code = code.as_str().unwrap();
                assert!(document.contains(&format!("`{code}`")), "docs/admin-api.md does not tell of {code}");
            }
        }
    }

    let private = service.private.strip_prefix("http://").unwrap();
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_wigzo-destination")).parent().unwrap();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&others));
    let path = std::env::join_paths(path).unwrap();
    for command in &commands {
        let output = tokio::process::Command::new("sh")
            .args(["-ec", &command.replace("127.0.0.1:9090", private)])
            .current_dir(service.directory.path())
            .env("WIGZO__ADMIN__LISTEN", private)
            .env("PATH", &path)
            .stdin(std::process::Stdio::null())
            .output();
        let output = tokio::time::timeout(crate::service::PATIENCE, output).await.unwrap().unwrap();
        assert!(output.status.success(), "{command}\n{output:?}\n{}", service.log());
        assert!(command.contains("> ") || !output.stdout.is_empty(), "{command} says nothing");
    }
    let discarded = service.private("/api/events/2").await.json();
    assert_eq!((&discarded["state"], &discarded["detail"]), (&json!("discarded"), &json!("sent by a test")));
    let tests = service.private("/api/events?person=wigzo-destination-test").await.json();
    assert_eq!(tests["events"].as_array().unwrap().len(), 2);
    assert_eq!(service.get("/readyz").await.status, 200, "it was brought back");
    service.end().await;
}
