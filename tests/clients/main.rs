//! Real Segment libraries, run for real: what a shop's own code would post reaches Wigzo whole, once, whatever the way
//! there does to its requests.
//!
//! Each library is installed once under the target directory ([`install`]) and run by a short script beside this file
//! that makes the six calls of `calls.json`. It posts through a [`proxy`] to a service of its own, whose stand-in for
//! Wigzo is then asked what arrived. Where a library cannot be had, its checks are skipped with the reason; in CI that
//! is a failure.

#![expect(clippy::disallowed_methods, reason = "tests start tasks and build clients of their own")]
#![expect(unreachable_pub, reason = "`pub` is what the harness offers to the tests")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that finds something missing fails at once, and says where"
)]

mod install;
mod proxy;
#[expect(dead_code, reason = "the harness of tests/it has more than is needed here")]
#[path = "../it/service.rs"]
mod service;
#[path = "../support/skipped.rs"]
mod skipped;
#[expect(dead_code, reason = "the stand-in as a process of its own is not needed here")]
#[path = "../it/stand_in.rs"]
mod stand_in;
#[expect(dead_code, reason = "clients write their own requests")]
#[path = "../it/wire.rs"]
mod wire;

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::task::JoinSet;

use install::Packages;
use proxy::{Exchange, Proxy, Step};
use service::{PATIENCE, Service};

/// A library, and the way of using it.
#[derive(Debug, Clone, Copy)]
struct Client {
    packages: Packages,
    /// The first argument of its driver.
    driver: &'static str,
    /// The calls that its six calls become at Wigzo, in the alphabet's order.
    calls: &'static [&'static str],
}

/// What a library for servers leads to.
const CALLS: &[&str] = &[
    "identify user-42 asha@example.com +910000000000 Asha",
    "product/push sku-1 Blue kurta – ₹799 799.5 https://shop.example.com/p/1.jpg",
    "productview sku-1",
    "view Kurtas https://shop.example.com/c/kurtas",
];

/// The browser adds the page to every event, and the anonymous id to identify, which then joins two learners.
const BROWSER_CALLS: &[&str] = &[
    CALLS[0],
    CALLS[0],
    "product/push sku-1 Blue kurta – ₹799 799.5 https://shop.example.com/p/1.jpg https://shop.example.com/c/kurtas",
    "productview https://shop.example.com/c/kurtas",
    CALLS[3],
];

const NODE: Client =
    Client { packages: Packages::Npm(&["@segment/analytics-node@3.1.0"]), driver: "segment", calls: CALLS };
const LEGACY_NODE: Client =
    Client { packages: Packages::Npm(&["analytics-node@6.2.0"]), driver: "legacy", calls: CALLS };
const RUDDER_NODE: Client = Client {
    packages: Packages::Npm(&["@rudderstack/rudder-sdk-node@3.0.13"]),
    driver: "rudder",
    calls: CALLS,
};
const PYTHON: Client =
    Client { packages: Packages::Pip(&["segment-analytics-python==2.4.0"]), driver: "segment", calls: CALLS };
const PYTHON_GZIP: Client = Client { driver: "segment-gzip", ..PYTHON };
/// Takes no status but 200 for success.
const OLD_PYTHON: Client = Client { packages: Packages::Pip(&["segment-analytics-python==2.3.4"]), ..PYTHON };
const RUDDER_PYTHON: Client =
    Client { packages: Packages::Pip(&["rudder-sdk-python==2.1.9"]), driver: "rudder", calls: CALLS };
const RUST: Client = Client { packages: Packages::Cargo("segment 0.2.6"), driver: "-", calls: CALLS };
const BROWSER: Client = Client {
    packages: Packages::Npm(&["@segment/analytics-next@1.84.3", "jsdom@26.1.0"]),
    driver: "single",
    calls: BROWSER_CALLS,
};
const BATCHING_BROWSER: Client = Client { driver: "batching", ..BROWSER };

/// What a run has to cope with: its name | how long the port is closed | what becomes of the first requests then.
type Trouble = (&'static str, Duration, &'static [Step]);

const NONE: Trouble = ("none", Duration::ZERO, &[]);
const TROUBLES: &[Trouble] = &[
    ("asked to slow down", Duration::ZERO, &[Step::Answer(429)]),
    ("failing", Duration::ZERO, &[Step::Answer(500), Step::Answer(500)]),
    ("unavailable", Duration::ZERO, &[Step::Answer(503), Step::Answer(503)]),
    ("cut off before", Duration::ZERO, &[Step::HangUp]),
    ("kept, but the reply is lost", Duration::ZERO, &[Step::LoseReply]),
    ("one after another", Duration::ZERO, &[Step::Answer(503), Step::LoseReply, Step::Answer(429)]),
    ("refused", Duration::from_millis(600), &[]),
];

// === The promises ===

/// A test for each row: its name, what it checks, with which client.
macro_rules! tests {
    ($($name:ident: $check:ident($client:ident);)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                let check = concat!("clients: ", stringify!($name));
                let client = $client;
                match client.packages.install().await {
                    Ok(folder) => $check(client, &folder).await,
                    Err(reason) => unavailable(check, client, &reason),
                }
            }
        )+
    };
}

tests! {
    analytics_node_posts_all_six_calls: posts(NODE);
    analytics_node_tries_again: tries_again(NODE);
    legacy_analytics_node_posts_all_six_calls: posts(LEGACY_NODE);
    legacy_analytics_node_tries_again: tries_again(LEGACY_NODE);
    rudder_node_posts_all_six_calls: posts(RUDDER_NODE);
    rudder_node_tries_again: tries_again(RUDDER_NODE);
    python_posts_all_six_calls: posts(PYTHON);
    python_posts_all_six_calls_in_gzip: posts(PYTHON_GZIP);
    python_tries_again: tries_again(PYTHON);
    old_python_posts_all_six_calls: posts(OLD_PYTHON);
    old_python_tries_again: tries_again(OLD_PYTHON);
    rudder_python_posts_all_six_calls: posts(RUDDER_PYTHON);
    rudder_python_tries_again: tries_again(RUDDER_PYTHON);
    rust_crate_posts_all_six_calls: posts(RUST);
    browser_in_jsdom_posts_all_six_calls: posts(BROWSER);
    browser_in_jsdom_posts_all_six_calls_in_a_batch: posts(BATCHING_BROWSER);
    browser_in_jsdom_tries_again: tries_again(BROWSER);
    batching_browser_in_jsdom_tries_again: tries_again(BATCHING_BROWSER);
}

async fn posts(client: Client, folder: &Path) {
    let duplicates = run(client, folder, &NONE).await;
    assert_eq!(duplicates, 0, "{client:?} sent something twice without need");
}

async fn tries_again(client: Client, folder: &Path) {
    let mut runs = JoinSet::new();
    for trouble in TROUBLES {
        let folder = folder.to_owned();
        runs.spawn(async move { run(client, &folder, trouble).await });
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

/// Runs the client once and compares what it was told, what the service says and what the stand-in has. Returns how
/// many events the service recognised as sent again.
async fn run(client: Client, folder: &Path, (trouble, closed, script): &Trouble) -> u64 {
    let key = r#"
        [organizations.shop]
        org_token = "made-up-org-token"
        source_keys = ["wk_made_up"]
    "#;
    let service = Service::sandbox().config(key).start().await;
    let proxy = Proxy::closed(&service.public, script);
    let (seen, said) = drive(client, folder, proxy, *closed).await;
    let about = || format!("{client:?}\ntrouble: {trouble}\nsaid: {said}\nservice: {}", service.log());

    let (left, exchanges) = seen.end();
    assert!(left.is_empty(), "{left:?} did not happen; {}", about());
    let count = |name: &str, of: &dyn Fn(&Exchange) -> bool| -> u64 {
        exchanges.iter().filter(|seen| of(seen)).map(|seen| seen.reply.json()[name].as_u64().unwrap()).sum()
    };
    for exchange in &exchanges {
        let reply = &exchange.reply;
        assert_eq!((reply.status, &reply.json()["rejected"]), (200, &Value::Array(vec![])), "{}", about());
    }
    let duplicates = count("duplicates", &|_| true);
    assert_eq!(count("accepted", &|_| true), 6, "{exchanges:?}; {}", about());
    assert_eq!(
        duplicates,
        count("accepted", &|seen| seen.step == Step::LoseReply),
        "what nobody heard of is sent again, and nothing else; {exchanges:?}; {}",
        about()
    );

    let ledger = service.settled(6).await;
    let expected = json!({"accepted": 6, "delivered": 3, "filtered": 3, "expired": 0, "dead": 0});
    assert_eq!(ledger, expected, "{}", about());
    let events = service.private("/api/events?organization=shop&person=user-42").await.json();
    let mut fates: Vec<_> = events["events"].as_array().unwrap().iter().map(fate).collect();
    fates.sort();
    let expected = [
        "alias filtered type_not_mapped",
        "group filtered type_not_mapped",
        "identify delivered delivered",
        "page delivered delivered",
        "screen filtered type_not_mapped",
        "track delivered delivered",
    ];
    assert_eq!(fates, expected, "{events:#}; {}", about());
    let calls = service.calls("").await;
    let mut lines: Vec<_> = calls.iter().map(line).collect();
    lines.sort();
    assert_eq!(lines, client.calls, "{calls:#?}; {}", about());
    service.end().await;
    duplicates
}

/// Runs the client's driver to its end against the proxy, which opens `closed` after the client has begun to post.
/// Returns what the proxy has seen and what the driver said.
async fn drive(client: Client, folder: &Path, proxy: Proxy, closed: Duration) -> (Arc<proxy::State>, String) {
    let mut command = client.packages.driver(folder);
    command
        .arg(client.driver)
        .arg(format!("http://{}", proxy.address))
        .arg(install::sources().join("calls.json"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let seen = Arc::clone(&proxy.state);
    let proxy = if closed.is_zero() {
        proxy.open();
        None
    } else {
        Some(proxy)
    };
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut stderr = child.stderr.take().unwrap();
    let mut said = String::new();

    // Not a wait for something: an outage has a length.
    let outage = async {
        let begun = stdout.read_line(&mut said).await;
        tokio::time::sleep(closed).await;
        begun
    };
    let begun = tokio::time::timeout(PATIENCE, outage).await;
    if let Some(proxy) = proxy {
        proxy.open();
    }
    let (mut rest, mut errors) = (Vec::new(), Vec::new());
    let end = async {
        while stdout.read_buf(&mut rest).await.unwrap() > 0 {}
        child.wait().await.unwrap()
    };
    let errors_end = async { while stderr.read_buf(&mut errors).await.unwrap() > 0 {} };
    let status = tokio::time::timeout(PATIENCE, async { tokio::join!(end, errors_end).0 }).await;
    said += &String::from_utf8_lossy(&[rest, errors].concat());
    assert!(
        begun.is_ok() && status.as_ref().is_ok_and(ExitStatus::success),
        "{client:?} ended with {status:?} and said:\n{said}\nit reached the service with {:#?}",
        seen.end()
    );
    (seen, said)
}

// === What is compared ===

/// What the service says of an event: its type, its state and the reason for it.
fn fate(record: &Value) -> String {
    ["kind", "state", "reason"].map(|name| record[name].as_str().unwrap_or("-")).join(" ")
}

/// A call in one line: its event name (or endpoint), and what of the client's values must have come through.
fn line(call: &Value) -> String {
    const IDENTIFY: [&str; 4] = ["customer_id", "email", "phone", "firstName"];
    const EVENT: [&str; 5] = ["productId", "title", "price", "image", "canonicalUrl"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pick = |value: &Value, names: &[&str]| -> Vec<String> {
        names.iter().filter_map(|name| value.get(*name)).map(text).collect()
    };
    let body = &call["body"];
    let (name, values) = match (&body["eventName"], &body["eventval"]) {
        (Value::Null, _) => ("identify".to_owned(), pick(body, &IDENTIFY)),
        (name, value @ Value::Object(_)) => (text(name), pick(value, &EVENT)),
        (name, value) => (text(name), vec![text(value)]),
    };
    format!("{name} {}", values.join(" "))
}

/// A check that cannot run for want of its client. CI has Node, npm, Python and the registries; only a slow build of
/// the Rust crate is excused there.
fn unavailable(check: &str, client: Client, reason: &str) {
    let excused = matches!(client.packages, Packages::Cargo(_)) || std::env::var_os("CI").is_none();
    assert!(excused, "{check}: {reason}");
    skipped::skipped(check, reason);
}
