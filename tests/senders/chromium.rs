//! A page in headless Chromium posts to the service on another origin: by Segment's library, one by one and in
//! batches, and by hand, with preflight, as `text/plain`, as a beacon and as a pixel.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path as Segment;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::install::{self, Packages};
use crate::service::{PATIENCE, Service};
use crate::unavailable;

const PACKAGES: Packages = Packages {
    name: "segment-browser-bundle",
    manifest: r#"{ "private": true }"#,
    unpacked: "@segment/analytics-next@1.84.3",
};

/// Runs as root and in a closed network, and talks to nobody but whom the page talks to.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
];

/// The shop's own server: the page, the library, and an ear for what the page reports.
struct Shop {
    port: u16,
    reports: mpsc::UnboundedReceiver<String>,
}

impl Shop {
    async fn open(packages: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let bundles: Arc<PathBuf> = packages.join("package/dist/umd").into();
        let (heard, reports) = mpsc::unbounded_channel();
        let html = |text: String| ([("content-type", "text/html; charset=utf-8")], text);
        let page = std::fs::read_to_string(install::sources().join("page.html")).unwrap();
        let bundle = async move |Segment(name): Segment<String>| {
            let text = std::fs::read_to_string(bundles.join(name)).unwrap_or_default();
            ([("content-type", "text/javascript; charset=utf-8")], text)
        };
        let router = Router::new()
            .route("/", get(async move || html(page)))
            .route("/left", get(async move || html("<!doctype html>".to_owned())))
            .route("/analytics-next/bundles/{name}", get(bundle))
            .route("/report", post(async move |report: String| heard.send(report).unwrap()));
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { port, reports }
    }

    /// Opens the page under a name of the shop's host, and returns what it reports. The browser stays open.
    async fn visit(&mut self, host: &str, way: &str, service: &Service) -> (Value, Browser) {
        let address =
            format!("http://{host}:{}/?service={}&key=wk_shop&way={way}", self.port, service.public);
        let mut browser = Browser::open(&address);
        let report = tokio::select! {
            report = self.reports.recv() => report.unwrap(),
            ended = browser.child.wait() => panic!("the browser ended: {ended:?}"),
            () = tokio::time::sleep(PATIENCE) => panic!("{way}: the page reports nothing\n{}", service.log()),
        };
        (serde_json::from_str(&report).unwrap(), browser)
    }
}

/// A running browser with a profile of its own; it ends when it is dropped.
struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(address: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new("chromium")
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { child, _profile: profile }
    }
}

/// The library's bundle and the browser, or why they cannot be had here.
async fn available() -> Result<PathBuf, String> {
    let version = Command::new("chromium").arg("--version").stdin(Stdio::null()).output().await;
    match version {
        Ok(output) if output.status.success() => PACKAGES.install().await,
        Ok(output) => Err(format!("chromium --version: {}", output.status)),
        Err(error) => Err(format!("chromium could not be run: {error} (Debian: chromium)")),
    }
}

async fn service(shop: &Shop) -> Service {
    let organization = format!(
        "[organizations.shop]\norg_token = \"made-up-token-shop\"\nsource_keys = [\"wk_shop\"]\n\
         cors_origins = [\"http://localhost:{}\"]",
        shop.port
    );
    Service::sandbox().config(&organization).start().await
}

/// What the library's three calls become, by either way.
async fn assert_library(service: &Service) {
    let calls = service.calls("").await;
    let has = |wanted: &dyn Fn(&Value) -> bool| calls.iter().any(|call| wanted(&call["body"]));
    assert!(has(&|body| body["email"] == "asha@shop.example" && body["firstName"] == "आशा"), "{calls:#?}");
    assert!(
        has(&|body| body["eventName"] == "Gift Wrapped" && body["eventval"]["number"] == 6),
        "{calls:#?}"
    );
    assert!(has(&|body| body["eventName"] == "view"), "{calls:#?}");
}

#[tokio::test]
async fn a_page_of_another_origin_posts() {
    let packages = match available().await {
        Ok(packages) => packages,
        Err(reason) => return unavailable("senders: a page in Chromium", &reason),
    };
    let mut shop = Shop::open(&packages).await;
    let service = service(&shop).await;
    let (report, _browser) = shop.visit("localhost", "single", &service).await;
    let expected = json!({
        "asked": [200, "kept"], "plain": [200, "kept"], "wrong key": [401, "unauthorized"], "beacon": true,
        "pixel": [1, 1],
    });
    assert_eq!(report, expected, "{}", service.log());
    // By hand four, by the library three.
    let ledger = service.settled(7).await;
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&json!(7), &json!(7)), "{ledger}");
    let mut numbers: Vec<_> = service
        .calls("event_name=Gift%20Wrapped")
        .await
        .iter()
        .map(|call| call["body"]["eventval"]["number"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 4, 5, 6]);
    assert_library(&service).await;
    service.end().await;
}

#[tokio::test]
async fn a_batch_goes_when_its_page_does() {
    let packages = match available().await {
        Ok(packages) => packages,
        Err(reason) => return unavailable("senders: a batch from a page in Chromium", &reason),
    };
    let mut shop = Shop::open(&packages).await;
    let service = service(&shop).await;
    let (report, _browser) = shop.visit("localhost", "batching", &service).await;
    assert_eq!(report, json!({}), "{}", service.log());
    let ledger = service.settled(3).await;
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&json!(3), &json!(3)), "{ledger}");
    assert_library(&service).await;
    service.end().await;
}

#[tokio::test]
async fn a_page_that_is_not_listed_is_refused() {
    let packages = match available().await {
        Ok(packages) => packages,
        Err(reason) => return unavailable("senders: a stranger's page in Chromium", &reason),
    };
    let mut shop = Shop::open(&packages).await;
    let service = service(&shop).await;
    // The same server by another name is another origin.
    let (report, _browser) = shop.visit("127.0.0.1", "single", &service).await;
    assert_eq!((&report["asked"], &report["plain"]), (&json!("TypeError"), &json!("TypeError")), "{report}");
    let counted = r#"wigzo_destination_requests_total{route="v1",status="403"}"#;
    service
        .eventually("the posts are refused", async || {
            let metrics = service.private("/metrics").await.body;
            // By hand two and the beacon, by the library three.
            crate::service::metric(&metrics, counted) >= Some(6)
        })
        .await;
    // An image names no origin.
    assert_eq!(service.settled(1).await["accepted"], 1, "{}", service.log());
    service.end().await;
}
