//! Real senders' requests, replayed byte for byte over a socket: each is accepted, and leads to the right calls.
//!
//! `tests/captures` holds requests as they were received from Segment's own webhook actions and from the libraries.
//! Only what the place changes is adapted: a webhook's path (the producers posted to test paths of their own), `Host`,
//! `Connection`, and the body of the compressed one, which is kept unpacked and packed again here.

use std::path::PathBuf;

use serde_json::Value;

use crate::service::{Service, Setup};
use crate::wire;

/// The keys and the secret of the captures.
const ORGANIZATIONS: &str = r#"
    [ingress]
    key_header = "x-org-token"

    [organizations.acme]
    org_token = "made-up-token-acme"
    source_keys = ["tok_acme"]
    shared_secrets = ["abc123"]

    [organizations.libraries]
    org_token = "made-up-token-libraries"
    source_keys = [
        "test_write_key_browser", "test_write_key_node", "test_write_key_legacy", "test_write_key_python",
        "test_write_key_rust", "test_write_key_rudder",
    ]

    [organizations.unsigned]
    org_token = "made-up-token-unsigned"
    open = true
"#;

fn service() -> Setup {
    Service::sandbox().config(ORGANIZATIONS)
}

/// A request as it was received.
struct Capture {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Capture {
    fn read(name: &str) -> Self {
        let path = directory().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, body) = text.split_once("\n\n").expect("a blank line ends the headers");
        let body = body.strip_suffix('\n').unwrap_or(body);
        let mut lines = head.lines();
        let line = lines.next().unwrap().to_owned();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut capture = Self { line, headers, body: body.into() };
        if let Some(unpacked) = body.strip_prefix("[body below").and_then(|rest| rest.split_once('\n')) {
            capture.body = wire::gzip(unpacked.1.as_bytes());
            let packed = capture.body.len().to_string();
            capture.set("content-length", &packed);
        }
        let length = capture.body.len().to_string();
        assert_eq!(capture.header("content-length"), Some(length.as_str()), "{name}: as long as it was");
        capture.set("host", "127.0.0.1");
        capture.set("connection", "close");
        capture.move_to_our_path();
        capture
    }

    /// A library's path stays. A webhook's becomes ours, with the producer's own as a parameter: to the service each
    /// address is a mapping of its own, as they were.
    fn move_to_our_path(&mut self) {
        let path = self.line.split(' ').nth(1).unwrap().to_owned();
        if path.starts_with("/v1/") {
            return;
        }
        let organization = if self.header("x-signature").is_some() { "acme" } else { "unsigned" };
        let (from, query) = path.split_once('?').unwrap_or((&path, ""));
        self.line = self.line.replace(&path, &format!("/webhook/{organization}?from={from}&{query}"));
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn bytes(&self) -> Vec<u8> {
        let lines = self.headers.iter().map(|(name, value)| format!("{name}: {value}"));
        let head: Vec<_> = std::iter::once(self.line.clone()).chain(lines).collect();
        [head.join("\r\n").as_bytes(), b"\r\n\r\n", &self.body].concat()
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures")
}

/// A call in one line: its event name (or endpoint), and of its value what tells it from others.
fn line(call: &Value) -> String {
    const FIELDS: [&str; 6] = ["productId", "orderId", "title", "price", "total_price", "canonicalUrl"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let body = &call["body"];
    if call["endpoint"] == "identify" {
        return format!("identify {} {}", text(&body["customer_id"]), text(&body["email"]));
    }
    let value = match &body["eventval"] {
        Value::Object(value) => {
            FIELDS.iter().filter_map(|field| value.get(*field)).map(text).collect::<Vec<_>>().join(" ")
        }
        value => text(value),
    };
    format!("{} {value}", text(&body["eventName"]))
}

const PAGE: &str = "https://shop.example/c/kurtas?utm_source=news&utm_campaign=diwali";

/// capture | how many of its events have no call at Wigzo (screen, group, alias) | the calls that the others lead to
const CAPTURES: &[(&str, u64, &[&str])] = &[
    ("sdk-analytics-next-1.84.3-alias-v1-a.txt", 1, &[]),
    (
        "sdk-analytics-next-1.84.3-batch-v1-b.txt",
        0,
        &[
            // Twice: for the person, and for their earlier browsing.
            "identify user-42 asha@shop.example",
            "identify user-42 asha@shop.example",
            "product/push SKU-1 Blue kurta 799.5 {PAGE}",
            "productview {PAGE}",
            "view Kurtas {PAGE}",
        ],
    ),
    (
        "sdk-analytics-next-1.84.3-identify-v1-i.txt",
        0,
        &["identify user-42 asha@shop.example", "identify user-42 asha@shop.example"],
    ),
    ("sdk-analytics-next-1.84.3-page-v1-p.txt", 0, &["view Kurtas {PAGE}"]),
    (
        "sdk-analytics-next-1.84.3-track-v1-t.txt",
        0,
        &["product/push SKU-1 Blue kurta 799.5 {PAGE}", "productview {PAGE}"],
    ),
    (
        "sdk-analytics-node-3.1.0-batch.txt",
        3,
        &[
            "identify user-42 asha@shop.example",
            "product/push SKU-1 Blue kurta 799.5 https://shop.example/p/1",
            "productview https://shop.example/p/1",
            "view Kurtas https://shop.example/c/kurtas",
        ],
    ),
    ("sdk-analytics-node-3.1.0-third-attempt.txt", 0, &["Retry Me "]),
    ("sdk-analytics-node-6.2.0-legacy-batch.txt", 0, &[r#"buy ["SKU-1"]"#, "order O-1 25.0"]),
    (
        "sdk-analytics-python-2.4.0-batch-gzip.txt",
        3,
        &[
            r#"buy ["SKU-1"]"#,
            "identify user-42 asha@shop.example",
            "order O-1 1598.0",
            "view Kurtas https://shop.example/c/kurtas",
        ],
    ),
    (
        "sdk-analytics-python-2.4.0-batch.txt",
        3,
        &[
            r#"buy ["SKU-1"]"#,
            "identify user-42 asha@shop.example",
            "order O-1 1598.0",
            "view Kurtas https://shop.example/c/kurtas",
        ],
    ),
    ("sdk-analytics-python-2.4.0-third-attempt.txt", 0, &["Retry Me "]),
    ("sdk-rudder-node-3.0.13-batch.txt", 0, &["product/push SKU-1 799.5", "productview SKU-1"]),
    (
        "sdk-rudder-python-2.1.9-batch.txt",
        0,
        &["identify user-42 asha@shop.example", "product/push SKU-1", "productview SKU-1"],
    ),
    (
        "sdk-rust-segment-0.2.6-batch.txt",
        0,
        &["identify null asha@shop.example", "product/push SKU-1 799.5", "productview SKU-1"],
    ),
    ("webhook-actions-batch-signed.txt", 0, BATCH),
    ("webhook-actions-single-signed.txt", 0, SINGLE),
    ("webhook-actions-single-unsigned.txt", 0, SINGLE),
    ("webhook-audiences-single-signed-with-extras.txt", 0, SINGLE),
    ("webhook-extensible-batch-signed-bearer.txt", 0, BATCH),
    ("webhook-extensible-single-signed-bearer.txt", 0, SINGLE),
];

const SINGLE: &[&str] = &[
    "product/push SKU-1 Blue kurta – ₹799 799.5 https://shop.example/p/1",
    "productview https://shop.example/p/1",
];
const BATCH: &[&str] = &[
    "identify user-42 asha@shop.example",
    "identify user-42 asha@shop.example",
    "product/push SKU-1 Blue kurta – ₹799 799.5 https://shop.example/p/1",
    "productview https://shop.example/p/1",
];

#[tokio::test]
async fn every_capture_leads_to_the_right_calls_once() {
    let mut found: Vec<_> = std::fs::read_dir(directory())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(
        found,
        CAPTURES.iter().map(|(name, ..)| *name).collect::<Vec<_>>(),
        "the folder and the table"
    );

    let service = service().start().await;
    let (mut kept, mut filtered, mut seen) = (0, 0, 0);
    for (name, without_call, expected) in CAPTURES {
        let bytes = Capture::read(name).bytes();
        let reply = service.bytes(&bytes).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        let accepted = reply.json()["accepted"].as_u64().unwrap();
        assert!(accepted > 0 && reply.json()["rejected"] == Value::Array(vec![]), "{name}: {reply:?}");
        (kept, filtered) = (kept + accepted, filtered + without_call);
        let ledger = service.settled(kept).await;
        assert_eq!(
            (&ledger["delivered"], &ledger["filtered"]),
            (&(kept - filtered).into(), &filtered.into()),
            "{name}"
        );

        // Two people's events race; the tables are in the alphabet's order.
        let calls = service.calls("").await;
        let mut lines: Vec<_> = calls[seen..].iter().map(line).collect();
        lines.sort();
        seen = calls.len();
        assert_eq!(
            lines,
            expected.iter().map(|line| line.replace("{PAGE}", PAGE)).collect::<Vec<_>>(),
            "{name}"
        );

        // Its events have no messageId, so each counts.
        if name.starts_with("sdk-rust") {
            continue;
        }
        let again = service.bytes(&bytes).await;
        let again = (again.status, again.json()["accepted"].clone(), again.json()["duplicates"].clone());
        assert_eq!(again, (200, 0.into(), accepted.into()), "{name}, sent again");
    }
    assert_eq!(service.settled(kept).await["accepted"], kept);
    assert_eq!(service.calls("").await.len(), seen, "duplicates led to calls");
    assert!(service.calls("status=400").await.is_empty());
    service.end().await;
}

/// What stands in the signed part of every signed capture, from its first byte to its last.
const IN_THE_SIGNED_PART: [&str; 7] =
    ["anonymousId", "anon-7", "user-42", "203.0.113.9", "Blue kurta –", "799.5", "prj_1"];

#[tokio::test]
async fn a_signed_capture_with_one_byte_changed_is_refused() {
    // One peer fails more often here than a minute allows.
    let service = service().env("WIGZO__INGRESS__FAILED_AUTH_PER_MINUTE", "0").start().await;
    let mut signed = 0;
    for (name, ..) in CAPTURES {
        let capture = Capture::read(name);
        let Some(signature) = capture.header("x-signature").map(str::to_owned) else { continue };
        signed += 1;
        for part in IN_THE_SIGNED_PART {
            let place = capture.body.windows(part.len()).position(|found| found == part.as_bytes()).unwrap();
            let mut changed = Capture::read(name);
            // 4 and 5, a and `: the lowest bit keeps it JSON.
            changed.body[place + part.len() / 2] ^= 1;
            assert_eq!(service.bytes(&changed.bytes()).await.status, 401, "{name}: {part}");
        }
        for place in [0, 20, 39] {
            let mut digits = signature.clone().into_bytes();
            digits[place] = if digits[place] == b'0' { b'1' } else { b'0' };
            let mut changed = Capture::read(name);
            changed.set("x-signature", std::str::from_utf8(&digits).unwrap());
            assert_eq!(service.bytes(&changed.bytes()).await.status, 401, "{name}: digit {place}");
        }
        let mut unsigned = Capture::read(name);
        unsigned.headers.retain(|(name, _)| name != "x-signature");
        unsigned.line = capture.line.clone();
        assert_eq!(service.bytes(&unsigned.bytes()).await.status, 401, "{name}: unsigned");
    }
    assert_eq!(signed, 5);
    assert_eq!(service.ledger().await["accepted"], 0);
    service.end().await;
}

/// Segment signs the first item of a batch only (segment.md 1.6): a key beside the secret is what vouches for the rest.
#[tokio::test]
async fn behind_the_first_item_a_batch_is_not_signed_by_segment() {
    let service = service().start().await;
    let mut capture = Capture::read("webhook-actions-batch-signed.txt");
    let place = capture.body.windows(5).rposition(|found| found == b"msg-2").unwrap();
    capture.body[place + 4] = b'9';
    assert_eq!(service.bytes(&capture.bytes()).await.status, 200);
    service.end().await;
}
