//! A running service follows its configuration: on SIGHUP and by itself, whole or not at all, without a restart.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::service::{Reply, Service, Setup};

/// Events of a refused organization wait for hours, unless something better happens.
const PATIENT: &str = "[delivery]\nquick_retries = 0\nprobe_base = \"5h\"\nprobe_cap = \"10h\"\n[delivery.retry]\nbase = \"1h\"\ncap = \"2h\"\n";

/// Tries come one after the other.
const IMPATIENT: &str = "[delivery]\nquick_retries = 0\n[delivery.retry]\nbase = \"10ms\"\ncap = \"20ms\"\n";

/// Only SIGHUP makes the service look.
const ON_SIGNAL: &str = "[reload]\npoll = \"0s\"\n";

/// It looks often.
const BY_ITSELF: &str = "[reload]\npoll = \"20ms\"\n";

fn organization(name: &str, more: &str) -> String {
    format!(
        "[organizations.{name}]\norg_token = \"org-token-{name}-1\"\nsource_keys = [\"wk_{name}\"]\n{more}\n"
    )
}

fn with(parts: &[&str]) -> Setup {
    Service::sandbox().config(&parts.concat())
}

/// Writes a file beside the configuration, or the configuration itself.
fn write(service: &Service, file: &str, parts: &[&str]) {
    let path = service.directory.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, parts.concat()).unwrap();
}

/// Posts a track event of a person to an organization.
async fn post(service: &Service, organization: &str, person: &str, name: &str) -> Reply {
    let event = json!({ "userId": person, "event": name, "messageId": format!("{person}/{name}") });
    let request = service.client().post(format!("{}/v1/track", service.public));
    service.send(request.basic_auth(format!("wk_{organization}"), Some("")).body(event.to_string())).await
}

async fn track(service: &Service, organization: &str, person: &str, name: &str) {
    let reply = post(service, organization, person, name).await;
    assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(1)), "{reply:?}");
}

/// How many reloads have had this result.
async fn reloads(service: &Service, result: &str) -> u64 {
    let metrics = service.private("/metrics").await.body;
    let series = format!("wigzo_destination_config_reloads_total{{result=\"{result}\"}}");
    crate::service::metric(&metrics, &series).unwrap_or(0)
}

/// Makes the service look, and waits for the result.
async fn reload(service: &Service, result: &str) {
    let before = reloads(service, result).await;
    service.signal("HUP");
    service.eventually(result, async || reloads(service, result).await > before).await;
}

/// What delivery may do for an organization.
async fn state(service: &Service, organization: &str, wanted: &str) -> Value {
    let has = |stats: &Value| {
        let all = stats["delivery"].as_array().unwrap();
        all.iter().any(|it| it["organization"] == organization && it["state"] == wanted)
    };
    service.until("/api/stats", has).await
}

/// The event names of calls, in the order of their arrival.
fn names(calls: &[Value]) -> Vec<&str> {
    calls.iter().filter_map(|call| call["body"]["eventName"].as_str()).collect()
}

#[tokio::test]
async fn a_corrected_token_rescues_what_waits_at_once_and_in_order() {
    let config =
        |token: &str| format!("[organizations.acme]\norg_token = \"{token}\"\nsource_keys = [\"wk_acme\"]\n");
    let service = with(&[PATIENT, ON_SIGNAL, &config("mistyped-token")]).start().await;
    service.faults(&json!([{ "org_token": "mistyped-token", "status": 401 }])).await;
    track(&service, "acme", "user-42", "First").await;
    state(&service, "acme", "suspended").await;
    for name in ["Second", "Third"] {
        track(&service, "acme", "user-42", name).await;
    }
    write(&service, "config.toml", &[PATIENT, ON_SIGNAL, &config("right-token")]);
    reload(&service, "applied").await;
    let ledger = service.settled(3).await;
    assert_eq!(ledger["delivered"], 3, "{ledger}");
    let calls = service.calls("org_token=right-token").await;
    assert_eq!(names(&calls), ["First", "Second", "Third"]);
    state(&service, "acme", "open").await;
    assert!(!service.log().contains("right-token"), "{}", service.log());
    service.end().await;
}

/// The token is in a file of its own, and nobody sends a signal.
#[tokio::test]
async fn a_secret_in_a_file_is_followed_too() {
    let acme = "[organizations.acme]\norg_token_file = \"org_token\"\nsource_keys = [\"wk_acme\"]\n";
    let setup = with(&[PATIENT, BY_ITSELF, acme]);
    let directory = std::sync::Arc::new(tempfile::tempdir().unwrap());
    fs::write(directory.path().join("org_token"), "mistyped-token\n").unwrap();
    let service = setup.on(directory).start().await;
    service.faults(&json!([{ "org_token": "mistyped-token", "status": 403 }])).await;
    track(&service, "acme", "user-42", "First").await;
    state(&service, "acme", "suspended").await;
    // As Kubernetes does: what the name leads to is another file.
    let link = service.directory.path().join("link");
    write(&service, "org_token.2", &["right-token"]);
    std::os::unix::fs::symlink("org_token.2", &link).unwrap();
    fs::rename(&link, service.directory.path().join("org_token")).unwrap();
    assert_eq!(service.settled(1).await["delivered"], 1);
    service.eventually("it is counted", async || reloads(&service, "applied").await == 1).await;
    service.end().await;
}

/// An address that leads nowhere: the breaker opens, and tries wait for an hour.
#[tokio::test]
async fn a_corrected_address_rescues_what_waits_at_once() {
    let wigzo = crate::stand_in::StandIn::start().await;
    let config = |url: &str| organization("acme", &format!("base_url = \"{url}\""));
    let hour = "[delivery]\nquick_retries = 0\n[delivery.breaker]\nlanes = 2\nbase = \"5h\"\ncap = \"10h\"\n[delivery.retry]\nbase = \"1h\"\ncap = \"2h\"\n";
    let service = Service::calling(&wigzo)
        .config(&[hour, ON_SIGNAL, &config("http://127.0.0.1:1")].concat())
        .start()
        .await;
    for person in ["ann", "bob", "cid"] {
        track(&service, "acme", person, "First").await;
    }
    state(&service, "acme", "failing").await;
    write(&service, "config.toml", &[hour, ON_SIGNAL, &config(&wigzo.url)]);
    reload(&service, "applied").await;
    assert_eq!(service.settled(3).await["delivered"], 3);
    service.end().await;
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing_and_is_loud() {
    let good = [ON_SIGNAL, &organization("acme", "")].concat();
    let service = with(&[&good]).start().await;
    let successful = "wigzo_destination_config_last_reload_successful";
    assert_eq!(service.metric(successful).await, 1);
    let beta = organization("beta", "");
    for (bad, said) in [
        ("[organizations.acme\n", "not TOML"),
        ("[ingress]\nlissten = \"0.0.0.0:1\"\n", "did you mean `listen`?"),
        ("[organizations.gamma]\nsource_keys = [\"wk_gamma\"]\n", "missing; give the organization token"),
    ] {
        write(&service, "config.toml", &[&good, &beta, bad]);
        reload(&service, "refused").await;
        assert_eq!(service.metric(successful).await, 0);
        assert!(service.log().contains(said), "{said}\n{}", service.log());
        assert!(service.log().contains("the one before stays in force"), "{}", service.log());
        assert_eq!(post(&service, "beta", "user-1", "Seen").await.status, 401, "nothing of it is taken over");
    }
    track(&service, "acme", "user-1", "Seen").await;
    write(&service, "config.toml", &[&good, &beta]);
    reload(&service, "applied").await;
    assert_eq!(service.metric(successful).await, 1);
    track(&service, "beta", "user-1", "Seen").await;
    assert_eq!(service.settled(2).await["delivered"], 2);
    service.end().await;
}

/// A file for each, and no signal: the first appears, is mended after a mistake, and goes.
#[tokio::test]
async fn organizations_come_and_go_with_their_files() {
    let service = with(&[PATIENT, BY_ITSELF, &organization("acme", "")]).start().await;
    assert_eq!(post(&service, "beta", "user-1", "Early").await.status, 401);
    write(&service, "organizations.d/beta.toml", &["org_token = 7\n"]);
    service.eventually("it is refused", async || reloads(&service, "refused").await > 0).await;
    let beta = "org_token = \"org-token-beta-1\"\nsource_keys = [\"wk_beta\"]\n";
    write(&service, "organizations.d/beta.toml", &[beta]);
    service
        .eventually("it is served", async || post(&service, "beta", "user-1", "First").await.status == 200)
        .await;
    assert_eq!(service.settled(1).await["delivered"], 1);

    // What waits for it stays when it goes.
    service.faults(&json!([{ "org_token": "org-token-beta-1", "status": 401 }])).await;
    track(&service, "beta", "user-1", "Second").await;
    track(&service, "beta", "user-2", "Third").await;
    state(&service, "beta", "suspended").await;
    fs::remove_file(service.directory.path().join("organizations.d/beta.toml")).unwrap();
    let stats = state(&service, "beta", "unconfigured").await;
    assert_eq!(stats["waiting"]["beta"], 2, "{stats}");
    // Delivery takes the configuration over first.
    service.eventually("it is in force", async || reloads(&service, "applied").await == 2).await;
    assert_eq!(post(&service, "beta", "user-1", "Late").await.status, 401);
    assert!(
        service.log().contains("events wait for an organization that is not configured"),
        "{}",
        service.log()
    );
    let shown = "wigzo_destination_organization_state{organization=\"beta\",state=\"unconfigured\"}";
    assert_eq!(service.metric(shown).await, 1);
    service.faults(&json!([])).await;
    track(&service, "acme", "user-1", "Meanwhile").await;
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 2).await;

    // And is delivered when it is back.
    write(&service, "organizations.d/beta.toml", &[beta]);
    assert_eq!(service.settled(4).await["delivered"], 4);
    state(&service, "beta", "open").await;
    service.end().await;
}

#[tokio::test]
async fn a_name_that_was_missing_at_the_start_is_delivered_once_it_is_there() {
    let (acme, beta) = (organization("acme", ""), organization("beta", ""));
    let service = with(&[PATIENT, ON_SIGNAL, &acme, &beta]).start().await;
    service.faults(&json!([{ "status": 401 }])).await;
    track(&service, "beta", "user-1", "First").await;
    state(&service, "beta", "suspended").await;
    let directory = service.kill().await;
    let service = with(&[PATIENT, ON_SIGNAL, &acme]).on(directory).start().await;
    state(&service, "beta", "unconfigured").await;
    write(&service, "config.toml", &[PATIENT, ON_SIGNAL, &acme, &beta]);
    reload(&service, "applied").await;
    assert_eq!(service.settled(1).await["delivered"], 1);
    service.end().await;
}

#[tokio::test]
async fn a_disabled_organization_takes_nothing_and_what_waits_waits() {
    let on = [IMPATIENT, ON_SIGNAL, &organization("acme", ""), &organization("beta", "")].concat();
    let off = on.replace("[\"wk_acme\"]", "[\"wk_acme\"]\ndisabled = true");
    let service = with(&[&on]).start().await;
    service
        .faults(&json!([{ "org_token": "org-token-acme-1", "latency": { "fixed_ms": 300 }, "status": 503 }]))
        .await;
    track(&service, "acme", "user-1", "First").await;
    service
        .eventually("it is in flight", async || service.metric("wigzo_destination_in_flight").await == 1)
        .await;
    write(&service, "config.toml", &[&off]);
    reload(&service, "applied").await;
    let refused = post(&service, "acme", "user-1", "Second").await;
    assert_eq!(
        (refused.status, refused.json()["code"].clone()),
        (403, json!("organization_disabled")),
        "{refused:?}"
    );
    assert!(refused.json()["message"].as_str().unwrap().contains("switched off"), "{refused:?}");
    let stranger = service.client().post(format!("{}/v1/track", service.public)).bearer_auth("wk_wrong");
    assert_eq!(service.send(stranger.body("{}")).await.status, 401, "only who is known is told");
    state(&service, "acme", "disabled").await;
    // It goes on for the others, and after a restart.
    track(&service, "beta", "user-1", "Other").await;
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 1).await;
    let directory = service.kill().await;
    let service = with(&[&off]).on(directory).start().await;
    let stats = state(&service, "acme", "disabled").await;
    assert_eq!(stats["waiting"]["acme"], 1, "{stats}");
    write(&service, "config.toml", &[&on]);
    reload(&service, "applied").await;
    assert_eq!(service.settled(2).await["delivered"], 2);
    service.end().await;
}

#[tokio::test]
async fn keys_that_need_a_restart_are_named_and_kept_and_the_rest_is_taken() {
    let acme = organization("acme", "");
    let service = with(&[ON_SIGNAL, "[ingress]\nmax_events = 5\n", &acme]).start().await;
    let batch = |size: usize| {
        let events: Vec<_> = (0..size)
            .map(|n| json!({ "type": "track", "userId": "u", "event": "E", "messageId": format!("{size}-{n}") }))
            .collect();
        let request = service.client().post(format!("{}/v1/batch", service.public));
        service.send(request.basic_auth("wk_acme", Some("")).body(json!({ "batch": events }).to_string()))
    };
    assert_eq!(batch(3).await.status, 200);
    let changed = "[ingress]\nmax_events = 2\nmax_connections = 7\n[queue]\nhistory_size = \"2 GiB\"\n";
    write(&service, "config.toml", &[ON_SIGNAL, changed, &acme]);
    reload(&service, "applied").await;
    assert_eq!(batch(3).await.status, 413, "a live key");
    assert!(
        service.log().contains("\"keys\":\"ingress.max_connections, queue.history_size\""),
        "{}",
        service.log()
    );
    let document = service.get("/openapi.json").await.body;
    assert!(
        document.contains("at most 2 are accepted"),
        "the document is that of the configuration in force"
    );
    // The next start would be refused: so is the reload, although the listener stays as it is.
    let open = "[admin]\ntoken_file = \"none\"\n";
    write(&service, "config.toml", &[ON_SIGNAL, changed, &acme, open]);
    reload(&service, "refused").await;
    service.end().await;
}

#[tokio::test]
async fn limits_hold_from_the_reload_on() {
    let config = |rate: u32| [ON_SIGNAL, &organization("acme", &format!("rate_limit = {rate}"))].concat();
    let service = with(&[&config(1)]).start().await;
    for person in 0..40 {
        track(&service, "acme", &format!("user-{person}"), "Seen").await;
    }
    let began = Instant::now();
    write(&service, "config.toml", &[&config(0)]);
    reload(&service, "applied").await;
    service.settled(40).await;
    assert!(began.elapsed() < Duration::from_secs(20), "at the old rate it takes more than half a minute");
    service.end().await;
}

/// One call hangs for as long as it may, and another has begun with the old token.
#[tokio::test]
async fn a_reload_waits_for_nobody_and_what_is_in_flight_ends_as_it_began() {
    let config = |token: &str| {
        [
            ON_SIGNAL,
            "[delivery]\ntimeout = \"10m\"\n",
            &organization("stuck", ""),
            &format!("[organizations.acme]\norg_token = \"{token}\"\nsource_keys = [\"wk_acme\"]\n"),
        ]
        .concat()
    };
    let mut service = with(&[&config("first-token")]).start().await;
    service
        .faults(&json!([
            { "org_token": "org-token-stuck-1", "effect": "never" },
            { "org_token": "first-token", "latency": { "fixed_ms": 700 } },
        ]))
        .await;
    track(&service, "stuck", "user-1", "Never").await;
    track(&service, "acme", "user-1", "Old").await;
    service.eventually("both are called", async || service.calls("").await.len() == 2).await;
    write(&service, "config.toml", &[&config("second-token")]);
    reload(&service, "applied").await;
    track(&service, "acme", "user-1", "New").await;
    service.until("/api/stats", |stats| stats["ledger"]["delivered"] == 2).await;
    assert_eq!(names(&service.calls("org_token=first-token").await), ["Old"]);
    assert_eq!(names(&service.calls("org_token=second-token").await), ["New"]);
    service.signal("INT");
    service.signal("INT");
    service.ended().await;
}

#[tokio::test]
async fn the_defaults_of_partners_are_followed() {
    let partner = |identity: &str| {
        format!(
            "[ingress]\npartner_mode = true\n[organization_defaults]\nidentity = \"{identity}\"\n{ON_SIGNAL}"
        )
    };
    let service = with(&[&partner("raw")]).start().await;
    let post = |id: &str| {
        let event = json!({ "type": "track", "userId": "user-42", "event": "Seen", "messageId": id });
        let request = service.client().post(format!("{}/webhook", service.public));
        service.send(request.basic_auth("partner-org-token", Some("")).body(event.to_string()))
    };
    assert_eq!(post("m-1").await.status, 200);
    service.settled(1).await;
    write(&service, "config.toml", &[&partner("user_first")]);
    reload(&service, "applied").await;
    assert_eq!(post("m-2").await.status, 200);
    service.settled(2).await;
    let calls = service.calls("").await;
    let learners: Vec<_> = calls.iter().map(|call| call["body"]["userId"].as_str().unwrap()).collect();
    assert_eq!(learners.len(), 2, "{calls:?}");
    assert!(learners[0] == "user-42" && learners[1].len() == 36, "{learners:?}");
    write(
        &service,
        "config.toml",
        &[&partner("user_first").replace("partner_mode = true", ""), &organization("acme", "")],
    );
    reload(&service, "applied").await;
    assert_eq!(post("m-3").await.status, 401, "partner mode is off");
    service.end().await;
}

/// The admin token is in a file, and is replaced.
#[tokio::test]
async fn the_token_of_the_private_side_is_followed() {
    let directory = std::sync::Arc::new(tempfile::tempdir().unwrap());
    fs::write(directory.path().join("admin"), "first-admin-token").unwrap();
    let config = ["[admin]\ntoken_file = \"admin\"\n", BY_ITSELF, &organization("acme", "")];
    let service = with(&config).on(directory).start().await;
    let ask = |token: &'static str| {
        service.send(service.client().get(format!("{}/api/stats", service.private)).bearer_auth(token))
    };
    assert_eq!(ask("first-admin-token").await.status, 200);
    write(&service, "admin", &["second-admin-token"]);
    service
        .eventually("the new one is asked for", async || ask("second-admin-token").await.status == 200)
        .await;
    assert_eq!(ask("first-admin-token").await.status, 401);
    service.end().await;
}

/// Organizations go, come back and get other limits while their senders send: what was acknowledged is delivered once,
/// and each person's events in order.
#[tokio::test]
async fn nothing_is_lost_doubled_or_reordered_while_the_configuration_changes() {
    let all = ["acme", "beta", "gamma"];
    let config = |turn: usize| {
        // Whoever is gone is refused often.
        let mut text = [IMPATIENT, ON_SIGNAL, "[ingress]\nfailed_auth_per_minute = 0\n"].concat();
        for (place, name) in all.iter().enumerate() {
            // In each turn one is gone and one is off; weights and limits differ.
            match (turn + place) % 5 {
                0 => {}
                1 => text += &organization(name, "disabled = true"),
                more => {
                    text += &organization(name, &format!("weight = {more}\nmax_in_flight = {}", more * 4));
                }
            }
        }
        text
    };
    let complete = 2;
    let service = with(&[&config(complete)]).terse().start().await;
    service.faults(&json!([{ "latency": { "uniform_ms": [0, 30] } }])).await;
    let stop = std::cell::Cell::new(false);
    let send = async |name: &str| {
        let (mut kept, mut refused, mut number) = (Vec::new(), 0, 0);
        while !stop.get() {
            let person = format!("{name}-{}", number % 4);
            let event = format!("E{number:06}");
            match post(&service, name, &person, &event).await.status {
                200 => kept.push((person, event)),
                401 | 403 => refused += 1,
                other => panic!("{other}\n{}", service.log()),
            }
            number += 1;
        }
        (kept, refused)
    };
    let change = async {
        for turn in 0..40 {
            write(&service, "config.toml", &[&config(turn)]);
            reload(&service, "applied").await;
        }
        write(&service, "config.toml", &[&config(complete)]);
        reload(&service, "applied").await;
        stop.set(true);
    };
    let (acme, beta, gamma, ()) = tokio::join!(send(all[0]), send(all[1]), send(all[2]), change);
    let mut kept: Vec<_> = Vec::new();
    for (name, (mut events, refused)) in all.iter().zip([acme, beta, gamma]) {
        assert!(events.len() > 20 && refused > 0, "{name}: {} kept, {refused} refused", events.len());
        kept.append(&mut events);
    }
    let ledger = service.settled(kept.len() as u64).await;
    assert_eq!(ledger["delivered"], kept.len(), "{ledger}");
    let mut called: Vec<(String, String)> = Vec::new();
    let mut people: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for call in service.calls("").await {
        let text = |field: &str| call["body"][field].as_str().unwrap_or_default().to_owned();
        let (learner, event) = (text("userId"), text("eventName"));
        let before = people.insert(learner.clone(), event.clone());
        assert!(before.is_none_or(|before| before < event), "{learner}: {event} comes late or twice");
        called.push((learner, event));
    }
    assert_eq!(called.len(), kept.len(), "each once");
    service.end().await;
}
