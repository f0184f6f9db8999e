//! Whose event is it: every way to say so, and that every wrong one looks the same (design.md 5).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::private_side::run;
use crate::service::Service;
use crate::wire::{Request, signature};

/// Four organizations, each known in its own way.
const ORGANIZATIONS: &str = r#"
    [ingress]
    key_header = "X-Org-Token"

    [organizations.acme]
    org_token = "made-up-token-acme"
    source_keys = ["wk_acme_web", "wk_acme_app"]

    [organizations.beta]
    org_token = "made-up-token-beta"
    source_keys = ["wk_beta"]
    shared_secrets = ["old-secret", "new-secret"]

    [organizations.hooked]
    org_token = "made-up-token-hooked"
    shared_secrets = ["hooked-secret"]

    [organizations.public]
    org_token = "made-up-token-public"
    open = true
"#;

/// How a request shows whose it is.
enum Shows {
    Nothing,
    Basic(&'static str),
    Header(&'static str, &'static str),
}
use Shows::{Basic, Header, Nothing};

/// The answer to every request that cannot be authenticated.
const REFUSED: &str = r#"{"message":"The request could not be authenticated: check the key or the shared secret and the address.","code":"unauthorized"}"#;

/// path | what the headers show | `writeKey` in the body | secret that signs it | the organization it belongs to
type Row = (&'static str, Shows, Option<&'static str>, Option<&'static str>, Option<&'static str>);

const TABLE: &[Row] = &[
    // Libraries: the source key as the user name, with its colon or without.
    ("/v1/track", Basic("wk_acme_web:"), None, None, Some("acme")),
    ("/v1/track", Basic("wk_acme_web"), None, None, Some("acme")),
    ("/v1/track", Basic("wk_acme_app:"), None, None, Some("acme")),
    ("/v1/track", Basic("wk_acme_app:a password"), None, None, Some("acme")),
    ("/v1/track", Basic("wk_beta:"), None, None, Some("beta")),
    ("/v1/track", Basic("wk_acme"), None, None, None),
    ("/v1/track", Basic("wk_acme_web "), None, None, None),
    ("/v1/track", Basic("WK_ACME_WEB:"), None, None, None),
    ("/v1/track", Basic(":wk_acme_web"), None, None, None),
    ("/v1/track", Basic(":"), None, None, None),
    ("/v1/track", Basic(""), None, None, None),
    ("/v1/track", Header("Authorization", "Basic !"), None, None, None),
    ("/v1/track", Header("Authorization", "Basic /w=="), None, None, None),
    ("/v1/track", Header("Authorization", "bAsIc d2tfYmV0YTo="), None, None, Some("beta")),
    // Bearer.
    ("/v1/track", Header("Authorization", "Bearer wk_acme_web"), None, None, Some("acme")),
    ("/v1/track", Header("Authorization", "bearer  wk_acme_web"), None, None, Some("acme")),
    ("/v1/track", Header("Authorization", "Bearer wk_acme_web:"), None, None, None),
    ("/v1/track", Header("Authorization", "Bearer"), None, None, None),
    ("/v1/track", Header("Authorization", "Bearer "), None, None, None),
    ("/v1/track", Header("Authorization", "wk_acme_web"), None, None, None),
    ("/v1/track", Header("Authorization", "Token wk_acme_web"), None, None, None),
    // The configured header.
    ("/webhook", Header("x-org-token", "wk_acme_app"), None, None, Some("acme")),
    ("/webhook", Header("X-ORG-TOKEN", "wk_acme_app"), None, None, Some("acme")),
    ("/webhook", Header("x-org-token", "made-up-token-acme"), None, None, None),
    ("/webhook", Header("x-org-token", ""), None, None, None),
    ("/webhook", Header("x-other", "wk_acme_app"), None, None, None),
    // The path: never enough alone, unless the organization is open.
    ("/webhook/public", Nothing, None, None, Some("public")),
    ("/webhook/public?from=a%20mapping", Nothing, None, None, Some("public")),
    ("/webhook/acme", Nothing, None, None, None),
    ("/webhook/hooked", Nothing, None, None, None),
    ("/webhook/Public", Nothing, None, None, None),
    ("/webhook/publi%63", Nothing, None, None, Some("public")),
    ("/webhook/nobody", Nothing, None, None, None),
    ("/webhook/hooked", Nothing, None, Some("hooked-secret"), Some("hooked")),
    ("/webhook/hooked", Nothing, None, Some("hooked-secre"), None),
    ("/webhook/hooked", Nothing, None, Some("new-secret"), None),
    ("/webhook/beta", Nothing, None, Some("old-secret"), Some("beta")),
    ("/webhook/beta", Nothing, None, Some("new-secret"), Some("beta")),
    // A key beside a secret: both must be right on a webhook; libraries cannot sign.
    ("/webhook", Basic("wk_beta:"), None, None, None),
    ("/webhook", Basic("wk_beta:"), None, Some("new-secret"), Some("beta")),
    ("/webhook", Basic("wk_beta:"), None, Some("hooked-secret"), None),
    ("/webhook", Basic("wk_wrong:"), None, Some("new-secret"), None),
    ("/v1/track", Nothing, None, Some("hooked-secret"), None),
    // The first that is there decides: a right path does not make a wrong key good.
    ("/webhook/public", Basic("wk_wrong:"), None, None, None),
    ("/webhook/public", Basic("wk_acme_web:"), None, None, Some("acme")),
    // `writeKey` in the body is asked last.
    ("/v1/track", Nothing, Some("wk_acme_web"), None, Some("acme")),
    ("/v1/batch", Nothing, Some("wk_acme_web"), None, Some("acme")),
    ("/webhook", Nothing, Some("wk_acme_web"), None, Some("acme")),
    ("/v1/track", Nothing, Some("wk_wrong"), None, None),
    ("/v1/track", Nothing, Some(""), None, None),
    ("/v1/track", Nothing, None, None, None),
    ("/webhook", Nothing, None, None, None),
    ("/v1/track", Basic("wk_acme_web:"), Some("wk_beta"), None, Some("acme")),
    ("/v1/batch", Basic("wk_acme_web:"), Some("wk_wrong"), None, Some("acme")),
    ("/v1/track", Basic("wk_wrong:"), Some("wk_acme_web"), None, None),
    ("/webhook/public", Nothing, Some("wk_acme_web"), None, Some("public")),
];

#[tokio::test]
async fn every_way_leads_to_its_organization_and_every_wrong_one_to_the_same_answer() {
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let mut kept = 0;
    for (number, (path, shows, write_key, secret, organization)) in TABLE.iter().enumerate() {
        let about = format!("row {number}: {path}");
        let id = format!("row-{number}");
        let mut event = json!({"type": "track", "event": "A", "userId": "u", "messageId": id});
        let body = if *path == "/v1/batch" {
            let mut envelope = json!({"batch": [event]});
            if let Some(key) = write_key {
                envelope["writeKey"] = json!(key);
            }
            envelope.to_string()
        } else {
            if let Some(key) = write_key {
                event["writeKey"] = json!(key);
            }
            event.to_string()
        };
        let mut request = Request::post(path);
        request = match shows {
            Nothing => request,
            Basic(user) => request.header("Authorization", &format!("Basic {}", STANDARD.encode(user))),
            Header(name, value) => request.header(name, value),
        };
        if let Some(secret) = secret {
            request = request.header("X-Signature", &signature(secret, body.as_bytes()));
        }
        let reply = service.wire(&request.body(body)).await;
        let Some(organization) = organization else {
            assert_eq!((reply.status, reply.body.as_str()), (401, REFUSED), "{about}");
            continue;
        };
        assert_eq!(reply.status, 200, "{about}: {reply:?}");
        kept += 1;
        service.settled(kept).await;
        let call = service.calls("").await.pop().unwrap();
        assert_eq!(call["org_token"], format!("made-up-token-{organization}"), "{about}");
        let found = service.private(&format!("/api/events?message_id={id}")).await.json();
        assert_eq!(found["events"][0]["organization"], *organization, "{about}");
    }
    assert_eq!(service.calls("").await.len() as u64, kept, "a refused request led to a call");
    service.end().await;
}

/// reason | path | headers
type Wrong = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Every way not to be authenticated, at least one for each reason.
const WRONG: &[Wrong] = &[
    ("no_credentials", "/webhook", &[]),
    ("no_credentials", "/v1/track", &[]),
    ("unknown_key", "/v1/track", &[("Authorization", "Bearer wk_nobody")]),
    ("unknown_key", "/webhook", &[("Authorization", "Basic d2tfbm9ib2R5Og==")]),
    ("unknown_key", "/webhook/hooked", &[("X-Org-Token", "wk_nobody")]),
    ("unknown_organization", "/webhook/nobody", &[]),
    ("unknown_organization", "/webhook/nobody", &[("X-Signature", "00")]),
    ("path_needs_more", "/webhook/acme", &[]),
    ("missing_signature", "/webhook/hooked", &[]),
    ("missing_signature", "/webhook", &[("Authorization", "Bearer wk_beta")]),
    ("bad_signature", "/webhook/hooked", &[("X-Signature", "sha1=1")]),
    ("bad_signature", "/webhook/beta", &[("X-Signature", "0123456789012345678901234567890123456789")]),
    ("malformed_header", "/v1/track", &[("Authorization", "Token wk_acme_web")]),
    ("malformed_header", "/webhook/hooked", &[("Authorization", "Basic !")]),
    ("malformed_header", "/webhook/hooked", &[("X-Signature", "\u{e9}")]),
];

fn wrong((_, path, headers): &Wrong) -> Request {
    headers.iter().fold(Request::post(path), |request, (name, value)| request.header(name, value))
}

/// The replies are the same to the byte, and so is what goes before them: a body that is too large or no JSON is told
/// to each of them, so each has been read and decoded when the 401 is given.
#[tokio::test]
async fn no_refusal_tells_what_was_wrong() {
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let event = json!({"type": "track", "event": "A", "userId": "u", "messageId": "m"}).to_string();
    let mut replies = Vec::new();
    for row in WRONG {
        let mut reply = service.wire(&wrong(row).body(event.clone())).await;
        reply.headers.remove("date").expect("every reply has a date");
        assert_eq!((reply.status, reply.body.as_str()), (401, REFUSED), "{row:?}");
        replies.push((row, format!("{:?} {}", reply.headers, reply.body)));

        // Not announced, so that its size is known only when it has been read.
        let large = wrong(row).chunked().body(" ".repeat((8 << 20) + 1));
        assert_eq!(service.wire(&large).await.status, 413, "not read: {row:?}");
        let undecoded = service.wire(&wrong(row).body(&event[1..])).await;
        assert_eq!(undecoded.json()["code"], "invalid_json", "not decoded: {row:?}");
    }
    for (row, reply) in &replies {
        assert_eq!(*reply, replies[0].1, "{row:?}");
    }
    service.end().await;
}

#[tokio::test]
async fn a_key_that_differs_between_header_and_body_is_told_in_the_log() {
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let body = |key: &str| {
        json!({"type": "track", "event": "A", "userId": "u", "messageId": key, "writeKey": key}).to_string()
    };
    for key in ["wk_acme_web", "wk_acme_app", "wk_beta", "wk_unknown"] {
        let request = Request::post("/v1/track").bearer("wk_acme_web").body(body(key));
        assert_eq!(service.wire(&request).await.status, 200);
    }
    // The lines of the later requests come last.
    service
        .eventually("four requests told", async || service.log().matches("events kept").count() == 4)
        .await;
    let log = service.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("writeKey")).collect();
    assert_eq!(told.len(), 2, "one for another organization's key, one for an unknown one: {told:#?}");
    assert!(!log.contains("wk_"), "keys are secrets: {log}");
    service.end().await;
}

/// What a peer may fail is limited; what it may do with good keys is not.
#[tokio::test]
async fn a_peer_that_fails_too_often_is_slowed_down_and_good_credentials_from_there_pass() {
    // A keyed section can stand only once: this one is the organizations' `[ingress]`.
    let config = ORGANIZATIONS.replace("[ingress]", "[ingress]\n    failed_auth_per_minute = 20");
    let service = Service::sandbox().config(&config).start().await;
    let event = |id: &str| json!({"type": "track", "event": "A", "userId": "u", "messageId": id}).to_string();
    // One token comes back every three seconds, so a slow machine sees a few 401s more before the first 429.
    let mut refused = 0;
    let limited = loop {
        let reply = service.wire(&wrong(&WRONG[refused % WRONG.len()]).body(event("wrong"))).await;
        refused += 1;
        match reply.status {
            401 => assert!(refused < 200, "no limit"),
            _ => break reply,
        }
    };
    assert!(refused > 20, "{refused} are fewer than a minute's worth");
    assert_eq!((limited.status, &limited.json()["code"]), (429, &json!("too_many_failures")));
    let seconds: u64 = limited.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&seconds), "{seconds}");

    let good = event("good");
    for request in [
        Request::post("/v1/track").bearer("wk_acme_web"),
        Request::post("/webhook/public"),
        Request::post("/webhook/hooked").header("X-Signature", &signature("hooked-secret", good.as_bytes())),
    ] {
        assert_eq!(service.wire(&request.body(good.clone())).await.status, 200);
    }

    // Each failure is counted under its reason, whatever it was answered.
    let mut counted = 0;
    for reason in [
        "no_credentials",
        "unknown_key",
        "unknown_organization",
        "path_needs_more",
        "missing_signature",
        "bad_signature",
        "malformed_header",
    ] {
        let series = format!("wigzo_destination_requests_unauthenticated_total{{reason=\"{reason}\"}}");
        let count = service.metric(&series).await;
        let rows = WRONG.iter().filter(|row| row.0 == reason).count() as u64;
        assert!(count >= rows, "{reason}: {count} of at least {rows}");
        counted += count;
    }
    assert_eq!(counted, refused as u64);

    // The lines of the good requests come last.
    service.eventually("three told", async || service.log().matches("events kept").count() == 3).await;
    let log = service.log();
    let reasons: BTreeSet<_> = WRONG.iter().map(|row| row.0).collect();
    let logged = log.matches("cannot be authenticated").count();
    assert_eq!(logged, reasons.len(), "a line for each reason of {refused} failures: {log}");
    assert!(!log.contains("request refused"), "{log}");
    assert!(log.contains(r#""peer":"127.0.0.1""#), "{log}");
    service.end().await;
}

/// On loopback, one organization that asks for nothing takes whatever key a library was given.
#[tokio::test]
async fn a_single_keyless_organization_takes_any_key() {
    let service = Service::sandbox().start().await;
    for (number, (path, authorization)) in [
        ("/v1/track", Some("Basic YW55dGhpbmc6")),
        ("/v1/track", Some("Bearer anything")),
        ("/v1/track", None),
        ("/webhook", None),
        ("/webhook/default", None),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({"type": "track", "event": "A", "userId": "u", "messageId": number.to_string(), "writeKey": "any"});
        let mut request = Request::post(path).body(body.to_string());
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        let reply = service.wire(&request).await;
        assert_eq!((reply.status, &reply.json()["accepted"]), (200, &json!(1)), "{path} {authorization:?}");
    }
    let reply = service.wire(&Request::post("/webhook/other").body("{}")).await;
    assert_eq!((reply.status, reply.body.as_str()), (401, REFUSED));
    service.end().await;
}

/// With two organizations, one without a key is reached by its path only.
#[tokio::test]
async fn of_two_organizations_the_keyless_one_does_not_take_the_others_events() {
    let service = Service::sandbox()
        .config(
            r#"
            [organizations.acme]
            org_token = "made-up-token-acme"
            source_keys = ["wk_acme"]
            [organizations.keyless]
            org_token = "made-up-token-keyless"
            "#,
        )
        .start()
        .await;
    let event = |id: &str| json!({"type": "track", "event": "A", "userId": "u", "messageId": id}).to_string();
    for (path, key, status) in [
        ("/v1/track", Some("wk_acme"), 200),
        ("/v1/track", Some("wk_other"), 401),
        ("/v1/track", None, 401),
        ("/webhook/keyless", None, 200),
        ("/webhook/acme", None, 401),
    ] {
        let mut request = Request::post(path).body(event(&format!("{path}{key:?}")));
        if let Some(key) = key {
            request = request.bearer(key);
        }
        assert_eq!(service.wire(&request).await.status, status, "{path} {key:?}");
    }
    service.settled(2).await;
    let mut tokens: Vec<_> =
        service.calls("").await.into_iter().map(|call| call["org_token"].clone()).collect();
    tokens.sort_by_key(ToString::to_string);
    assert_eq!(tokens, ["made-up-token-acme", "made-up-token-keyless"]);
    service.end().await;
}

/// Whoever sets up a sender sees what it shows and what is wrong, by the organization where that is known. Keys, secrets
/// and queries are shown nowhere.
#[tokio::test]
async fn refused_requests_can_be_seen() {
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let body = json!({"type": "track", "event": "A", "userId": "u", "messageId": "m-1"}).to_string();
    let post =
        |path: &str| Request::post(path).body(body.clone()).header("user-agent", "made-up-library/1.2");
    for request in [
        post("/v1/track?secret=canary").bearer("canary-key"),
        post("/v1/track?other=canary").bearer("canary-key"),
        post("/webhook/acme"),
        post("/webhook/hooked").header("x-signature", &signature("canary-secret", body.as_bytes())),
        post("/webhook").bearer("wk_beta"),
        post("/webhook/nobody"),
        post(&format!("/webhook/{}", "n".repeat(300))),
    ] {
        assert_eq!(service.wire(&request).await.status, 401);
    }
    let answer = service.private("/api/requests/refused").await;
    assert!(!answer.body.contains("canary"), "{}", answer.body);
    let answer = answer.json();
    let all = answer["refused"].as_array().unwrap();
    let shown: Vec<_> = all
        .iter()
        .rev()
        .map(|it| {
            (it["organization"].as_str(), it["reason"].as_str().unwrap(), it["times"].as_u64().unwrap())
        })
        .collect();
    let expected = [
        (None, "unknown_key", 2),
        (Some("acme"), "path_needs_more", 1),
        (Some("hooked"), "bad_signature", 1),
        (Some("beta"), "missing_signature", 1),
        (None, "unknown_organization", 1),
        (None, "unknown_organization", 1),
    ];
    let sorted = |mut rows: Vec<(Option<&'static str>, String, u64)>| {
        rows.sort();
        rows
    };
    // Several may have arrived in one millisecond.
    let owned = |(organization, reason, times): (Option<&str>, &str, u64)| {
        let organization = expected.iter().find_map(|it| it.0.filter(|name| Some(*name) == organization));
        (organization, reason.to_owned(), times)
    };
    assert_eq!(sorted(shown.into_iter().map(owned).collect()), sorted(expected.map(owned).to_vec()));
    let key = all.iter().find(|it| it["reason"] == "unknown_key").unwrap();
    // printf %s canary-key | sha256sum
    assert_eq!(key["key_fingerprint"], "0b8bdfd5", "{key}");
    assert_eq!(
        (&key["peer"], &key["path"], &key["user_agent"]),
        (&json!("127.0.0.1"), &json!("/v1/track"), &json!("made-up-library/1.2"))
    );
    assert!(key["advice"].as_str().unwrap().contains("source_keys"), "{key}");
    assert!(all.iter().all(|it| it["path"].as_str().unwrap().len() <= 200), "{answer}");
    let hooked = service.private("/api/requests/refused?organization=hooked").await.json();
    assert_eq!(hooked["refused"].as_array().unwrap().len(), 1, "{hooked}");

    let (code, out, err) = run(&service, &["requests", "refused", "--organization", "hooked"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("bad_signature") && out.contains("made-up-library/1.2"), "{out}");
    assert!(out.contains("\nbad_signature\n  meaning  The signature"), "{out}");
    let (_, out, _) = run(&service, &["requests", "refused", "--json"]).await;
    assert_eq!(out.lines().count(), 6, "{out}");

    // One line for each client and reason, however many there were.
    let lines = service.log();
    for reason in
        ["unknown_key", "path_needs_more", "bad_signature", "missing_signature", "unknown_organization"]
    {
        let count =
            lines.lines().filter(|line| line.contains("cannot be authenticated") && line.contains(reason));
        assert_eq!(count.count(), 1, "{reason}:\n{lines}");
    }
    assert!(!lines.contains("canary"), "{lines}");
    service.end().await;
}
