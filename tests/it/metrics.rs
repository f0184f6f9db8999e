//! What `/metrics` shows is what was declared, in a form that Prometheus's own tools find no fault with.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;
use wigzo_destination::telemetry::{Declaration, Metrics};

use crate::service::{Service, metric};
use crate::skipped::skipped;

/// A service in which something of every kind has happened, and its metrics.
async fn metrics_of_a_busy_service(accept: &str) -> String {
    let service = Service::sandbox()
        .config("[organizations.shop]\norg_token = \"made-up-org-token\"\nsource_keys = [\"wk_shop\"]")
        .start()
        .await;
    let key = r#""writeKey":"wk_shop""#;
    let track = format!(r#"{{{key},"type":"track","event":"A","userId":"u","messageId":"m"}}"#);
    assert_eq!(service.post("/v1/track", &track).await.status, 200);
    assert_eq!(service.post("/v1/track", &track).await.status, 200, "a duplicate");
    service.settled(1).await;
    let odd = format!(r#"{{{key},"type":"track","event":"A","userId":7}}"#);
    assert_eq!(service.post("/v1/track", &odd).await.status, 200);
    assert_eq!(service.post("/v1/track", &format!(r#"{{{key},"userId":"u"}}"#)).await.status, 400);
    assert_eq!(service.post("/v1/track", r#"{"event":"A","userId":"u"}"#).await.status, 401);
    service.faults(&json!([{"status": 422}])).await;
    let refused = track.replace(r#""m""#, r#""n""#);
    assert_eq!(service.post("/v1/track", &refused).await.status, 200);
    let ledger = service.settled(3).await;
    assert_eq!(ledger["dead"], 1, "{ledger}");
    let request = service.client().get(format!("{}/metrics", service.private)).header("accept", accept);
    let metrics = service.send(request).await;
    service.end().await;
    let is_open = accept.contains("openmetrics");
    let format =
        if is_open { "application/openmetrics-text; version=1.0.0" } else { "text/plain; version=0.0.4" };
    assert_eq!(metrics.headers["content-type"], format!("{format}; charset=utf-8"));
    metrics.body
}

#[tokio::test]
async fn what_is_shown_is_what_was_declared() {
    let metrics = metrics_of_a_busy_service("application/openmetrics-text").await;
    let declared = Metrics::default();
    let known: BTreeSet<String> = declared.declarations().flat_map(Declaration::series).collect();
    let shown: BTreeSet<String> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned()))
        .collect();
    let unknown: Vec<_> = shown.difference(&known).collect();
    assert!(unknown.is_empty(), "shown and not declared: {unknown:?}");
    // A family appears with its first value; what has no labels is there from the start.
    let plain = declared.declarations().filter(|it| it.labels.iter().all(|label| label == "le"));
    let plain: BTreeSet<String> = plain.flat_map(Declaration::series).collect();
    let missing: Vec<_> = plain
        .difference(&shown)
        .filter(|it| cfg!(target_os = "linux") || !it.starts_with("process_"))
        .collect();
    assert!(missing.is_empty(), "declared and not shown: {missing:?}\n{metrics}");
    assert!(metrics.ends_with("# EOF\n"));

    assert_eq!(metric(&metrics, r#"wigzo_destination_ledger_events{term="dead"}"#), Some(1));
    assert_eq!(metric(&metrics, "wigzo_destination_queue_disk_limit_bytes"), Some(10 << 30));
    let version = format!(r#"wigzo_destination_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(metric(&metrics, &version), Some(1));
    if cfg!(target_os = "linux") {
        let open = metric(&metrics, "process_open_fds").unwrap();
        assert!(open > 3 && open < metric(&metrics, "process_max_fds").unwrap(), "{open}");
        assert!(metric(&metrics, "process_resident_memory_bytes").unwrap() > 1 << 20);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_active_is_shown_and_so_is_who_waits_for_it() {
    let service = Service::sandbox()
        .config("[organizations.shop]\norg_token = \"made-up-org-token\"\nsource_keys = [\"wk_shop\"]")
        .start()
        .await;
    service.faults(&json!([{ "endpoint": "identify", "status": 404 }])).await;
    let event =
        |kind: &str, user: usize| json!({ "type": kind, "event": "A", "userId": format!("{kind}-{user}") });
    let post = async |kind: &str| {
        let batch: Vec<_> = (0..5).map(|user| event(kind, user)).collect();
        let batch = json!({ "writeKey": "wk_shop", "batch": batch }).to_string();
        assert_eq!(service.post("/v1/batch", &batch).await.status, 200);
    };
    post("identify").await;
    let series = |endpoint, status| {
        format!(
            r#"wigzo_destination_endpoint_status{{organization="shop",endpoint="{endpoint}",status="{status}"}}"#
        )
    };
    service
        .eventually("a suspended endpoint", async || {
            let metrics = service.private("/metrics").await.body;
            metric(&metrics, &series("identify", "suspended")) == Some(1)
                && metric(&metrics, r#"wigzo_destination_blocked_lanes{organization="shop"}"#) == Some(5)
                && metric(&metrics, r#"wigzo_destination_oldest_blocked_seconds{organization="shop"}"#)
                    >= Some(2)
        })
        .await;
    assert_eq!(service.metric(&series("identify", "active")).await, 0);
    // A success elsewhere, after the endpoint has stopped, shows that the organization as a whole has not.
    post("track").await;
    service
        .eventually("only the endpoint is stopped", async || {
            let ready = service.get("/readyz").await;
            assert_eq!(ready.status, 200);
            ready.json() == json!({ "status": "ready", "stopped_endpoints": 1 })
        })
        .await;
    assert_eq!(service.metric(&series("event", "active")).await, 1);
    let (_, list, _) = crate::private_side::run(&service, &["delivery", "list"]).await;
    let line =
        list.lines().find(|line| line.starts_with("  endpoint identify")).unwrap_or_else(|| panic!("{list}"));
    assert!(
        line.contains("suspended")
            && (line.contains("1 user waits for it") || line.contains(" users wait for it")),
        "{list}"
    );
    assert!(!list.contains("endpoint event"), "{list}");
    service.faults(&json!([])).await;
    let wish = json!({});
    assert_eq!(service.operate("/api/organizations/shop/resume", &wish).await.status, 200);
    service.settled(10).await;
    service
        .eventually("all is well", async || {
            let metrics = service.private("/metrics").await.body;
            metric(&metrics, &series("identify", "active")) == Some(1)
                && metric(&metrics, r#"wigzo_destination_blocked_lanes{organization="shop"}"#) == Some(0)
                && metric(&metrics, r#"wigzo_destination_oldest_blocked_seconds{organization="shop"}"#)
                    == Some(0)
        })
        .await;
    service.end().await;
}

#[tokio::test]
async fn promtool_finds_no_fault_with_the_metrics() {
    let judge = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut judge) = judge else {
        skipped("promtool check metrics", "promtool is not installed");
        return;
    };
    let metrics = metrics_of_a_busy_service("*/*").await;
    judge.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let judged = judge.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[judged.stdout, judged.stderr].concat()).into_owned();
    assert!(judged.status.success() && said.is_empty(), "{said}\n{metrics}");
}
