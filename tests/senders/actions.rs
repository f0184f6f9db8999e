//! Segment's own webhook actions post to the service: every destination, single and batch, signed and not.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::install::{self, Packages};
use crate::service::{PATIENCE, Service};
use crate::unavailable;

/// The framework is installed; of the destinations only the folders of the webhooks are used, because the whole
/// package cannot be installed. `fast-uri` is held back: newer ones refuse the names of two destinations.
const PACKAGES: Packages = Packages {
    name: "segment-webhook-actions",
    manifest: r#"{
        "private": true,
        "dependencies": { "@segment/actions-core": "3.170.0", "liquidjs": "10.25.7" },
        "overrides": { "fast-uri": "3.0.6" }
    }"#,
    unpacked: "@segment/action-destinations@3.497.0",
};

const ORGANIZATIONS: &str = r#"
    [organizations.signed]
    org_token = "made-up-token-signed"
    source_keys = ["wk_signed"]
    shared_secrets = ["last-year", "abc123"]

    [organizations.keyed]
    org_token = "made-up-token-keyed"
    source_keys = ["wk_keyed"]

    [organizations.open]
    org_token = "made-up-token-open"
    open = true
"#;

/// One mapping of a customer's destination.
#[derive(Clone, Copy)]
struct Case {
    about: &'static str,
    destination: &'static str,
    path: &'static str,
    secret: Option<&'static str>,
    bearer: Option<&'static str>,
    /// Whether the events have extras of an audience.
    extras: bool,
    form: bool,
    method: &'static str,
    /// What Segment records for each event.
    status: u16,
}

const WEBHOOK: Case = Case {
    about: "signed",
    destination: "webhook",
    path: "/webhook/signed",
    secret: Some("abc123"),
    bearer: None,
    extras: false,
    form: false,
    method: "POST",
    status: 200,
};
const EXTENSIBLE: Case = Case { destination: "webhook-extensible", ..WEBHOOK };
const AUDIENCES: Case = Case { destination: "webhook-audiences", ..WEBHOOK };

const CASES: &[Case] = &[
    WEBHOOK,
    Case { about: "signed, PUT", method: "PUT", ..WEBHOOK },
    Case { about: "signed, PATCH", method: "PATCH", ..WEBHOOK },
    Case { about: "signed with the older secret", secret: Some("last-year"), ..WEBHOOK },
    Case { about: "unsigned, open", path: "/webhook/open", secret: None, ..WEBHOOK },
    Case { about: "wrong secret", secret: Some("abc124"), status: 401, ..WEBHOOK },
    Case { about: "unsigned where signatures are asked for", secret: None, status: 401, ..WEBHOOK },
    EXTENSIBLE,
    Case { about: "signed, with a token", path: "/webhook", bearer: Some("wk_signed"), ..EXTENSIBLE },
    Case { about: "a token", path: "/webhook", secret: None, bearer: Some("wk_keyed"), ..EXTENSIBLE },
    Case { about: "neither, open", path: "/webhook/open", secret: None, ..EXTENSIBLE },
    Case { about: "wrong secret", secret: Some("abc124"), status: 401, ..EXTENSIBLE },
    Case { about: "wrong token", path: "/webhook", bearer: Some("wk_wrong"), status: 401, ..EXTENSIBLE },
    Case { about: "form, open", path: "/webhook/open", secret: None, form: true, ..EXTENSIBLE },
    Case {
        about: "form, with a token",
        path: "/webhook",
        bearer: Some("wk_signed"),
        form: true,
        ..EXTENSIBLE
    },
    Case { about: "form, signed only", form: true, status: 401, ..EXTENSIBLE },
    AUDIENCES,
    Case { about: "signed, extras", extras: true, ..AUDIENCES },
    Case { about: "unsigned, extras", path: "/webhook/open", secret: None, extras: true, ..AUDIENCES },
    Case { about: "wrong secret, extras", secret: Some("abc124"), extras: true, status: 401, ..AUDIENCES },
];

impl Case {
    /// The job for the script: one event, or a batch of three. `number` is the first event's.
    fn job(&self, public: &str, batch: bool, number: usize) -> Value {
        let events: Vec<_> = (number..number + if batch { 3 } else { 1 }).map(|n| self.event(n)).collect();
        let mut settings = json!({});
        if let Some(secret) = self.secret {
            settings["sharedSecret"] = secret.into();
        }
        if self.destination == "webhook-extensible" {
            settings["dynamicAuthSettings"] = match self.bearer {
                Some(token) => json!({"oauth": {"type": "bearer"}, "bearer": {"bearerToken": token}}),
                None => json!({"oauth": {"type": "noAuth"}}),
            };
        }
        let mut mapping = json!({
            "url": format!("{public}{}", self.path), "method": self.method, "data": {"@path": "$."},
        });
        if self.form {
            mapping["headers"] = json!({"Content-Type": "application/x-www-form-urlencoded"});
            // A form is flat: objects are mapped as JSON text.
            mapping["data"] = json!({
                "type": {"@path": "$.type"}, "event": {"@path": "$.event"}, "userId": {"@path": "$.userId"},
                "messageId": {"@path": "$.messageId"}, "timestamp": {"@path": "$.timestamp"},
                "properties": {"@json": {"mode": "encode", "value": {"@path": "$.properties"}}},
            });
        }
        json!({
            "destination": self.destination, "events": events, "batch": batch, "settings": settings, "mapping": mapping,
        })
    }

    fn event(&self, number: usize) -> Value {
        let mut event = json!({
            "type": "track", "event": "Gift Wrapped", "userId": format!("user-{number}"),
            "messageId": format!("m-{number}"), "timestamp": "2026-01-02T03:05:00.200Z",
            "properties": {"number": number, "price": 799.50, "note": "आशा ₹ \"<&>\" \u{2028}"},
            "context": {"ip": "203.0.113.9"}, "integrations": {"All": true},
        });
        if self.extras {
            event["context"]["personas"] = json!({
                "audience_settings": {"extras": r#"{"region":"in","nested":{"n":1.5},"list":[1]}"#},
            });
        }
        event
    }
}

#[tokio::test]
async fn every_webhook_action_is_understood() {
    let check = "senders: Segment's webhook actions";
    let folder = match PACKAGES.install().await {
        Ok(folder) => folder,
        Err(reason) => return unavailable(check, &reason),
    };
    let service = Service::sandbox().config(ORGANIZATIONS).start().await;
    let (mut jobs, mut expected, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let mut number = 0;
    for case in CASES {
        for batch in [false, true] {
            jobs.push(case.job(&service.public, batch, number));
            let events = jobs.last().unwrap()["events"].as_array().unwrap().len();
            let about = format!("{}, {}, batch: {batch}", case.destination, case.about);
            // What failed is recorded once for all.
            let statuses = if case.status == 200 { events } else { 1 };
            expected.push(format!("{about}: {}", json!(vec![case.status; statuses])));
            if case.status == 200 {
                numbers.extend(number..number + events);
            }
            number += events;
        }
    }
    let audiences = format!("{}/audiences", service.public);
    let settings = json!({
        "sharedSecret": "abc123", "createAudienceUrl": audiences, "getAudienceUrl": audiences,
    });
    jobs.push(
        json!({"destination": AUDIENCES.destination, "audience": "big_spenders", "settings": settings}),
    );
    expected.push(r#"an audience, created and found: ["big_spenders","big_spenders"]"#.to_owned());

    let mut script = install::node(&folder, "actions.cjs");
    script.arg(Value::from(jobs).to_string()).stdin(Stdio::null());
    let output =
        tokio::time::timeout(PATIENCE, script.output()).await.expect("the actions do not end").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let found: Vec<_> = said
        .lines()
        .zip(&expected)
        .map(|(line, expected)| format!("{}: {line}", expected.rsplit_once(": ").unwrap().0))
        .collect();
    assert_eq!(found, expected, "{errors}\n{}", service.log());

    let ledger = service.settled(numbers.len() as u64).await;
    assert_eq!(
        (&ledger["accepted"], &ledger["delivered"]),
        (&json!(numbers.len()), &json!(numbers.len())),
        "{ledger}"
    );
    let calls = service.calls("event_name=Gift%20Wrapped").await;
    let values: Vec<_> = calls.iter().map(|call| &call["body"]["eventval"]).collect();
    let mut arrived: Vec<_> = values.iter().map(|value| value["number"].as_u64().unwrap()).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, numbers.iter().map(|number| *number as u64).collect::<Vec<_>>(), "{calls:#?}");
    for value in values {
        assert_eq!(
            (&value["price"], &value["note"]),
            (&json!(799.5), &json!("आशा ₹ \"<&>\" \u{2028}")),
            "{value}"
        );
    }
    service.end().await;
}
