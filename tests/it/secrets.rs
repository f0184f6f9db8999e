//! What must stay secret stays secret: no token, key or shared secret anywhere, nothing about a person in logs, metrics
//! and traces, however bad the day and however much is logged.

use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::service::{Reply, Service, program};

const ORG_TOKEN: &str = "canary-org-token-4711";
const TOKEN: &str = "canary/second+token=4712";
const SOURCE_KEY: &str = "canary-source-key-4713";
const WRONG_KEY: &str = "canary-wrong-key-4714";
const SHARED_SECRET: &str = "canary-shared-secret-4715";

const EMAIL: &str = "canary.person@example.com";
const PHONE: &str = "+910000000000";
const USER_ID: &str = "canary-user-4716";

/// The parts of the secrets that survive any escaping.
const SECRETS: [&str; 5] =
    ["canary-org-token", "second+token", "canary-source-key", "canary-wrong-key", "canary-shared-secret"];
const PERSONAL: [&str; 4] = ["canary.person", "910000000000", "canary-user", "canary-message"];

/// A configuration that traces everything, for a collector at this address.
fn config(collector: &str) -> String {
    format!(
        r#"
[telemetry.traces]
endpoint = "{collector}"
sample = 1
propagate = true
[ingress]
key_header = "x-source-key"
[delivery]
probe_base = "50ms"
probe_cap = "100ms"
max_age = "1h"
[delivery.retry]
base = "10ms"
cap = "50ms"
soft_failures = 1
[organizations.acme]
org_token = "{ORG_TOKEN}"
token = "{TOKEN}"
source_keys = ["{SOURCE_KEY}"]
shared_secrets = ["{SHARED_SECRET}"]
"#
    )
}

fn identify(id: &str) -> Value {
    let traits = json!({ "email": EMAIL, "phone": PHONE, "name": "Canary Person" });
    json!({ "type": "identify", "userId": USER_ID, "messageId": format!("canary-message-{id}"), "traits": traits })
}

fn track(id: &str, name: &str) -> Value {
    let properties = json!({ "email": EMAIL, "phone": PHONE });
    json!({
        "type": "track", "userId": USER_ID, "event": name, "messageId": format!("canary-message-{id}"),
        "properties": properties
    })
}

/// An answer that echoes both tokens, plain and as they stand in the URL.
fn echo() -> String {
    let escaped: String = url::form_urlencoded::byte_serialize(TOKEN.as_bytes()).collect();
    json!({ "status": "error", "message": format!("{ORG_TOKEN} {TOKEN} ?org_token={ORG_TOKEN}&token={escaped}") })
        .to_string()
}

/// A collector of traces that takes whatever comes. Protobuf holds texts as they are, so its bytes can be searched.
async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, taken) =
        (format!("http://{}", listener.local_addr().unwrap()), Arc::new(Mutex::new(Vec::new())));
    let bytes = Arc::clone(&taken);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let bytes = Arc::clone(&bytes);
            tokio::spawn(async move {
                let mut block = vec![0; 64 * 1024];
                let (mut head, mut left) = (Vec::new(), None);
                while let Ok(read @ 1..) = stream.read(&mut block).await {
                    bytes.lock().unwrap().extend_from_slice(&block[..read]);
                    head.extend_from_slice(&block[..read]);
                    if left.is_none()
                        && let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n")
                    {
                        let text = String::from_utf8_lossy(&head[..end]).to_lowercase();
                        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                        left = length.map(|length| end + 4 + length.parse::<usize>().unwrap());
                    }
                    if left.is_some_and(|whole| head.len() >= whole) {
                        (head, left) = (Vec::new(), None);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        stream.write_all(answer).await.unwrap();
                    }
                }
            });
        }
    });
    (url, taken)
}

/// What the commands say that read the same configuration, the one that examines everything among them.
async fn said_by_commands(service: &Service) -> Vec<(&'static str, String)> {
    let directory = service.directory.path();
    let mut said = Vec::new();
    for (name, arguments) in [
        ("check", &["check"][..]),
        ("print-config", &["print-config"]),
        ("doctor", &["doctor", "--offline"]),
        ("doctor, as JSON", &["doctor", "--offline", "--json"]),
    ] {
        let mut command = program(directory);
        let output = command.args(arguments).args(["--config", "config.toml"]).output().await.unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(text.len() > 20, "{name} says nothing");
        said.push((name, text));
    }
    for arguments in [&["list"][..], &["list", "--json"], &["show", "1"]] {
        let mut command = program(directory);
        let url = &service.private;
        let output = command.arg("dead-letters").args(arguments).args(["--url", url]).output().await.unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        said.push(("dead-letters", text));
    }
    said
}

struct Noise {
    service: Service,
    /// Everything that the service has said to senders.
    said: Vec<String>,
}

impl Noise {
    async fn post(&mut self, path: &str, key: Option<&str>, body: &str) -> Reply {
        let mut request =
            self.service.client().post(format!("{}{path}", self.service.public)).body(body.to_owned());
        if let Some(key) = key {
            request = request.basic_auth(key, Some(""));
        }
        self.send(request).await
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Reply {
        let reply = self.service.send(request).await;
        self.said.push(format!("{reply:?}"));
        reply
    }

    /// A webhook with a good signature, or that of another body.
    async fn webhook(&mut self, body: &str, signed: &str) -> Reply {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SHARED_SECRET.as_bytes());
        let tag = hmac::sign(&key, signed.as_bytes());
        let signature = tag.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let request = self
            .service
            .client()
            .post(format!("{}/webhook/acme", self.service.public))
            .header("x-signature", signature)
            .body(body.to_owned());
        self.send(request).await
    }
}

/// Requests that are refused, each with something to hide.
async fn refused(noise: &mut Noise) {
    let event = identify("refused").to_string();
    for (path, key) in [
        ("/v1/identify".to_owned(), Some(WRONG_KEY)),
        ("/v1/identify".to_owned(), None),
        (format!("/webhook/{WRONG_KEY}?key={SOURCE_KEY}"), None),
        ("/webhook/acme".to_owned(), Some(SOURCE_KEY)),
    ] {
        assert_eq!(noise.post(&path, key, &event).await.status, 401, "{path}");
    }
    let bearer = noise.service.client().post(format!("{}/v1/identify", noise.service.public));
    let reply = noise.send(bearer.bearer_auth(WRONG_KEY).body(event.clone())).await;
    assert_eq!(reply.status, 401);
    let header = noise.service.client().post(format!("{}/v1/identify", noise.service.public));
    let reply = noise.send(header.header("x-source-key", WRONG_KEY).body(event.clone())).await;
    assert_eq!(reply.status, 401);
    assert_eq!(noise.webhook(&event, "another body").await.status, 401);
    let path = format!("/{SOURCE_KEY}/{USER_ID}?email={EMAIL}");
    assert_eq!(noise.post(&path, Some(SOURCE_KEY), &event).await.status, 404);
    let get = noise.service.client().get(format!("{}/v1/track?writeKey={SOURCE_KEY}", noise.service.public));
    assert_eq!(noise.send(get).await.status, 405);
    for body in [
        format!("{{\"userId\":\"{USER_ID}\",\"traits\":{{\"email\":\"{EMAIL}\""),
        format!("{{\"writeKey\":\"{SOURCE_KEY}\",\"batch\":\"{EMAIL}\"}}"),
        json!({ "batch": [], "writeKey": SOURCE_KEY }).to_string(),
        json!({ "type": EMAIL, "userId": USER_ID }).to_string(),
        json!({ "type": "track", "userId": USER_ID, "event": { "email": EMAIL } }).to_string(),
        json!({ "type": "identify", "userId": USER_ID, "timestamp": EMAIL, "traits": EMAIL }).to_string(),
    ] {
        noise.post("/v1/batch", Some(SOURCE_KEY), &body).await;
    }
}

/// Events that Wigzo treats badly, in each of the ways there are.
async fn mistreated(noise: &mut Noise) {
    let faults = json!([
        { "event_name": "Refused", "status": 400, "body": echo() },
        { "event_name": "Busy", "status": 503, "body": echo(), "next": 4 },
        { "event_name": "Soft", "status": 200, "body": echo() },
        { "event_name": "Elsewhere", "status": 302, "body": echo(), "next": 2 },
        { "event_name": "Reset", "effect": "reset", "next": 4 },
        { "event_name": "Half", "effect": "half_body", "body": echo(), "status": 500, "next": 4 },
        { "endpoint": "identify", "status": 401, "body": echo(), "next": 3 },
    ]);
    noise.service.faults(&faults).await;
    for name in ["Refused", "Busy", "Soft", "Elsewhere", "Reset", "Half"] {
        let reply = noise.post("/v1/track", Some(SOURCE_KEY), &track(name, name).to_string()).await;
        assert_eq!(reply.status, 200);
    }
    // The key stands in the body, of a single event and of a batch.
    let mut single = identify("single");
    single["writeKey"] = json!(SOURCE_KEY);
    assert_eq!(noise.post("/v1/identify", None, &single.to_string()).await.status, 200);
    let mut batch = json!({ "batch": [identify("batch")], "writeKey": SOURCE_KEY });
    assert_eq!(noise.post("/v1/batch", None, &batch.to_string()).await.status, 200);
    batch["batch"] = json!([identify("batch-2")]);
    batch["batch"][0]["writeKey"] = json!(SOURCE_KEY);
    assert_eq!(noise.post("/v1/batch", None, &batch.to_string()).await.status, 200);
    let hook = identify("hook").to_string();
    assert_eq!(noise.webhook(&hook, &hook).await.status, 200);
    let mut filtered = track("filtered", "Seat Chosen");
    filtered["integrations"] = json!({ "Wigzo": false });
    noise.post("/v1/track", Some(SOURCE_KEY), &filtered.to_string()).await;
}

/// The same over HTTP/2, whose library has lines of its own about headers.
async fn over_http_2(noise: &mut Noise) {
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let event = identify("http-2").to_string();
    for (key, body, status) in [(WRONG_KEY, event.as_str(), 401), (SOURCE_KEY, EMAIL, 400)] {
        let request = client.post(format!("{}/v1/track?email={EMAIL}", noise.service.public));
        let request = request.basic_auth(key, Some("")).header("x-source-key", key).body(body.to_owned());
        let reply = noise.send(request).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
}

#[tokio::test]
async fn a_noisy_day_tells_no_secrets() {
    let (collector, traced) = collector().await;
    let service =
        Service::sandbox().config(&config(&collector)).env("WIGZO__TELEMETRY__LOG", "trace").start().await;
    let mut noise = Noise { service, said: Vec::new() };
    refused(&mut noise).await;
    over_http_2(&mut noise).await;
    mistreated(&mut noise).await;
    let ledger = noise.service.settled(11).await;
    assert_eq!((&ledger["dead"], &ledger["filtered"]), (&json!(2), &json!(1)), "{ledger}");

    let mut shown = vec![noise.service.private("/api/events").await.body];
    for number in 1..=11 {
        shown.push(noise.service.private(&format!("/api/events/{number}")).await.body);
    }
    assert!(shown.iter().any(|record| record.contains("org_token=***&token=***")), "{shown:#?}");
    assert!(shown.iter().any(|record| record.contains(EMAIL)), "payloads are shown");
    let open = noise.service.client().get(format!("{}/metrics", noise.service.private));
    let open = noise.service.send(open.header("accept", "application/openmetrics-text")).await;
    assert!(open.body.contains("# {trace_id="), "{}", open.body);
    let mut public = vec![
        ("the metrics", noise.service.private("/metrics").await.body),
        ("the metrics with exemplars", open.body),
        ("the statistics", noise.service.private("/api/stats").await.body),
        ("the level of the log", noise.service.private("/api/log-level").await.body),
    ];
    let commands = said_by_commands(&noise.service).await;
    for (what, text) in &commands {
        for canary in SECRETS {
            let line = text.lines().find(|line| line.contains(canary));
            assert!(line.is_none(), "{what} tells {canary}: {line:?}");
        }
    }
    let Noise { mut service, said } = noise;
    service.signal("INT");
    assert_eq!(service.ended().await.code(), Some(0));
    let log = service.log();
    assert!(log.contains("TRACE"), "nothing was traced");
    let traced = String::from_utf8_lossy(&traced.lock().unwrap()).into_owned();
    for span in ["POST v1", "append", "deliver", "call event", "call identify", "wigzo_401", "dead"] {
        assert!(traced.contains(span), "no span says {span}");
    }
    public.push(("the traces", traced));
    for (what, text) in
        public.into_iter().chain([("the log", log)]).chain(said.into_iter().map(|reply| ("a reply", reply)))
    {
        for canary in SECRETS.iter().chain(&PERSONAL) {
            let line = text.lines().find(|line| line.contains(canary));
            assert!(line.is_none(), "{what} tells {canary}: {line:?}");
        }
    }
    for record in shown {
        for canary in SECRETS.iter().chain(&["canary%2Fsecond", "canary/second", r"canary\/second"]) {
            assert!(!record.contains(canary), "a record tells {canary}: {record}");
        }
    }
}

/// A partner's token comes with every request and lies beside every event.
#[tokio::test]
async fn a_partners_token_is_told_nowhere() {
    const PARTNER: &str = "canary-partner-token-4717";
    const OTHER: &str = "canary-other-token-4718";
    let config = "[ingress]\npartner_mode = true\nkey_header = \"x-source-key\"\nunproven_partners = 1\n\
        partner_waiting_events = 8\n[delivery]\nprobe_base = \"50ms\"\nprobe_cap = \"100ms\"\n\
        [delivery.retry]\nbase = \"10ms\"\ncap = \"50ms\"\nsoft_failures = 1\n\
        [organizations.acme]\norg_token = \"canary-acme-token-4719\"\nsource_keys = [\"canary-source-key\"]";
    let service = Service::sandbox().config(config).env("WIGZO__TELEMETRY__LOG", "trace").start().await;
    let echo = json!({ "message": format!("{PARTNER} ?org_token={PARTNER}") }).to_string();
    let faults = json!([
        { "event_name": "Refused", "status": 400, "body": echo },
        { "event_name": "Soft", "status": 200, "body": json!({ "status": "error", "message": PARTNER }).to_string() },
        { "event_name": "Suspended", "status": 401, "body": echo },
    ]);
    service.faults(&faults).await;
    let mut noise = Noise { service, said: Vec::new() };
    let settings = |json: &Value| STANDARD.encode(json.to_string());
    let token = json!({ "OrgToken": PARTNER, "identity": "raw", "canary-setting": OTHER });
    for (user, settings, event, status) in [
        (PARTNER, settings(&token), track("1", "Refused"), 200),
        (PARTNER, settings(&token), track("2", "Soft"), 200),
        (PARTNER, settings(&json!({ "canary-setting": OTHER })), track("3", "Taken"), 200),
        ("", settings(&token), track("4", "Taken"), 200),
        (PARTNER, settings(&token), track("5", "Suspended"), 200),
        (PARTNER, settings(&json!({ "orgToken": OTHER })), track("6", "Taken"), 401),
        (PARTNER, settings(&json!({ "orgToken": PARTNER, "identity": OTHER })), track("7", "Taken"), 401),
        (PARTNER, PARTNER.to_owned(), track("8", "Taken"), 401),
        ("canary-acme-token-4719", settings(&json!({})), track("9", "Taken"), 401),
        (PARTNER, settings(&token), json!({ "type": "track", "userId": USER_ID }), 400),
    ] {
        let request = noise.service.client().post(format!("{}/webhook", noise.service.public));
        let request = request.basic_auth(user, Some("")).header("x-segment-settings", settings);
        let reply = noise.send(request.body(event.to_string())).await;
        assert_eq!(reply.status, status, "{event} {reply:?}");
    }
    noise.service.until("/api/stats", |stats| stats["waiting_total"] == 1).await;
    noise.service.until("/api/events/5", |record| record["state"] == "retrying").await;
    // So much waits that one more is refused.
    let many = (0..8).map(|number| track(&format!("many-{number}"), "Taken")).collect::<Value>();
    let request = noise.service.client().post(format!("{}/webhook", noise.service.public));
    let refused = noise.send(request.basic_auth(PARTNER, Some("")).body(many.to_string())).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("partner_events_waiting")));

    let mut texts = vec![("the openapi document", noise.service.get("/openapi.json").await.body)];
    for path in ["/metrics", "/api/stats", "/api/events"] {
        texts.push((path, noise.service.private(path).await.body));
    }
    for number in 1..=5 {
        let record = noise.service.private(&format!("/api/events/{number}")).await;
        assert_eq!(record.json()["surroundings"]["settings"]["orgToken"], "***", "{record:?}");
        assert!(record.json()["organization"].as_str().unwrap().starts_with("partner."), "{record:?}");
        texts.push(("a record", record.body));
    }
    let Noise { mut service, said } = noise;
    service.signal("INT");
    assert_eq!(service.ended().await.code(), Some(0));
    let log = service.log();
    assert!(log.contains("TRACE") && log.contains("\"partner."), "nothing was traced");
    texts.push(("the log", log));
    texts.extend(said.into_iter().map(|reply| ("a reply", reply)));
    let secrets =
        [PARTNER, OTHER, "canary-acme-token"].map(|secret| [secret.to_owned(), STANDARD.encode(secret)]);
    for (what, text) in texts {
        for canary in secrets.iter().flatten() {
            let line = text.lines().find(|line| line.contains(canary.as_str()));
            assert!(line.is_none(), "{what} tells {canary}: {line:?}");
        }
    }
}
