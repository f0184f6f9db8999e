//! What an operator watches with agrees with what the program shows: the list of metrics, alerts, their tests, the
//! runbook and the dashboard.
//!
//! The source is the declarations of the metrics. `UPDATE_GOLDEN=1 cargo test --test ops metrics` prints
//! `docs/metrics.md` anew. What only Prometheus can judge is asked of `promtool` (Debian: `prometheus`), and noted as
//! skipped where it is not installed.

#![expect(
    clippy::panic,
    clippy::string_slice,
    reason = "a test that finds something missing fails at once, and says where"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use wigzo_destination::delivery::EndpointStatus;
use wigzo_destination::outcome::{Outcome, Reason};
use wigzo_destination::telemetry::{Declaration, Kind, LABELS, Metrics};

#[path = "support/skipped.rs"]
mod skipped;

use skipped::skipped;

const ALERTS: &str = "ops/prometheus/alerts.yml";
const ALERTS_TEST: &str = "ops/prometheus/alerts.test.yml";
const DASHBOARD: &str = "ops/grafana/wigzo-destination.json";

/// What Prometheus itself adds: where a series comes from, and whether that could be asked.
const TARGET: [&str; 2] = ["instance", "job"];
const UP: &str = "up";

// === The list ===

#[test]
fn the_list_of_metrics_is_up_to_date() {
    let page = metrics_page();
    #[expect(clippy::disallowed_methods, reason = "the developer's switch, not configuration")]
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if update {
        fs::write(root().join("docs/metrics.md"), &page).expect("docs/ can be written");
    }
    assert!(
        fs::read_to_string(root().join("docs/metrics.md")).unwrap_or_default() == page,
        "docs/metrics.md does not say what the program declares: UPDATE_GOLDEN=1 cargo test --test ops metrics"
    );
}

#[test]
fn every_label_of_the_metrics_is_explained() {
    let used: BTreeSet<String> = declarations().into_iter().flat_map(|it| it.labels).collect();
    let explained: BTreeSet<String> = LABELS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(used, explained, "labels that are used (left), labels in telemetry::LABELS (right)");
}

#[test]
fn names_of_metrics_follow_their_rules() {
    let mut seen = BTreeSet::new();
    for it in declarations() {
        assert!(seen.insert(it.name.clone()), "{} is declared twice", it.name);
        assert!(it.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", it.name);
        for suffix in ["_total", "_count", "_sum", "_bucket", "_info"] {
            assert!(!it.name.ends_with(suffix), "{}: the type adds {suffix}", it.name);
        }
        assert!(!it.meaning.ends_with('.') && it.meaning.len() > 10, "{}: {}", it.name, it.meaning);
    }
}

/// `docs/metrics.md`.
fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Printed from the declarations in `src/telemetry/metrics.rs`, not written:\n\
         `UPDATE_GOLDEN=1 cargo test --test ops metrics`.\n\n\
         `/metrics` on the private side (`admin.listen`) shows them, in the text format of Prometheus or, for whoever asks for\n\
         it (`Accept: application/openmetrics-text`, as Prometheus does), as OpenMetrics text. There the buckets of times name a\n\
         trace that fell into them, if traces are recorded ([how](operations.md#traces)). With `admin.token_file` it asks for\n\
         that token. A family without a value yet is not shown. Counters start anew with the process, the gauges of the\n\
         queue do not. Alerts on them: [ops/prometheus/alerts.yml](../ops/prometheus/alerts.yml), explained in the\n\
         [runbook](runbook.md); a dashboard: [ops/grafana/wigzo-destination.json](../ops/grafana/wigzo-destination.json).\n\n\
         A histogram called `NAME` is asked for as `NAME_bucket`, `NAME_count` and `NAME_sum`.\n\n\
         | metric | type | unit | labels | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for it in declarations() {
        let name = match it.kind {
            Kind::Histogram => it.name.clone(),
            _ => it.series().next().unwrap_or_default(),
        };
        let labels: Vec<_> = it.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(
            page,
            "| `{name}` | {} | {} | {} | {} |",
            it.kind.as_str(),
            it.unit.as_deref().unwrap_or_default(),
            labels.join(", "),
            it.meaning
        )
        .expect("a String takes everything");
    }
    page.push_str("\n## Labels\n\n| label | what it says |\n| --- | --- |\n");
    for (label, meaning) in LABELS {
        writeln!(page, "| `{label}` | {meaning} |").expect("a String takes everything");
    }
    page
}

// === Alerts ===

#[test]
fn alerts_ask_for_what_exists() {
    let known = Known::new();
    let mut expressions = 0;
    for alert in alerts() {
        assert!(!alert.expr.is_empty(), "{} asks for nothing", alert.name);
        known.check(&alert.expr, &format!("{ALERTS}: {}", alert.name));
        expressions += 1;
    }
    assert!(expressions > 8, "the rules are where they are expected; found {expressions}");
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let runbook = read("docs/runbook.md");
    let pages: BTreeSet<&str> =
        runbook.lines().filter_map(|line| line.strip_prefix("## Wigzo")).map(str::trim).collect();
    let alerts = alerts();
    let named: BTreeSet<&str> = alerts.iter().filter_map(|alert| alert.name.strip_prefix("Wigzo")).collect();
    assert_eq!(named, pages, "alerts in {ALERTS} (left), pages in docs/runbook.md (right)");
    for alert in &alerts {
        let page = format!("docs/runbook.md#{}", alert.name.to_lowercase());
        assert_eq!(alert.runbook, page, "{}", alert.name);
        assert!(matches!(alert.severity.as_str(), "critical" | "warning"), "{}: severity", alert.name);
    }
    for page in runbook.split("\n## Wigzo").skip(1) {
        let name = page.lines().next().unwrap_or_default();
        for part in ["**Means.**", "**See.**", "**Do.**"] {
            assert!(page.contains(part), "docs/runbook.md: Wigzo{name} lacks {part}");
        }
    }
}

#[test]
fn every_alert_is_tested_firing() {
    let tests = read(ALERTS_TEST);
    for alert in alerts() {
        let expectation = format!("alertname: {}\n        exp_alerts:\n          - exp_labels:", alert.name);
        assert!(tests.contains(&expectation), "{ALERTS_TEST} has no case in which {} fires", alert.name);
    }
}

#[test]
fn prometheus_itself_understands_and_tests_the_alerts() {
    for arguments in [["check", "rules", ALERTS], ["test", "rules", ALERTS_TEST]] {
        let Ok(judged) = Command::new("promtool").current_dir(root()).args(arguments).output() else {
            skipped("promtool check rules, promtool test rules", "promtool is not installed");
            return;
        };
        assert!(
            judged.status.success(),
            "promtool {}:\n{}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&judged.stdout),
            String::from_utf8_lossy(&judged.stderr)
        );
    }
}

/// One rule of the alerts.
#[derive(Debug, Default)]
struct Alert {
    name: String,
    expr: String,
    severity: String,
    runbook: String,
}

/// The rules, read by their lines: promtool judges the YAML, this reads only what it must compare.
fn alerts() -> Vec<Alert> {
    let text = read(ALERTS);
    let mut alerts: Vec<Alert> = Vec::new();
    let mut in_expression = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("- alert: ") {
            alerts.push(Alert { name: name.to_owned(), ..Alert::default() });
        }
        let Some(alert) = alerts.last_mut() else { continue };
        let deep = line.starts_with("          ");
        in_expression &= deep;
        if in_expression {
            alert.expr.push_str(trimmed);
            alert.expr.push('\n');
        }
        if let Some(expr) = trimmed.strip_prefix("expr: ") {
            in_expression = expr == "|";
            if !in_expression {
                expr.clone_into(&mut alert.expr);
            }
        }
        if let Some(severity) = trimmed.strip_prefix("severity: ") {
            severity.clone_into(&mut alert.severity);
        }
        if let Some(runbook) = trimmed.strip_prefix("runbook: ") {
            runbook.clone_into(&mut alert.runbook);
        }
    }
    alerts
}

// === The dashboard ===

#[test]
fn the_dashboard_asks_for_what_exists() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON");
    let known = Known::new();
    let mut expressions = 0;
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().unwrap_or_default();
        if panel["type"] == "row" {
            continue;
        }
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(description.len() > 10, "{DASHBOARD}: {title}: says what it shows");
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            known.check(expression, &format!("{DASHBOARD}: {title}"));
            expressions += 1;
        }
    }
    assert!(expressions > 10, "found {expressions}");
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        if let Some(query) = variable["query"]["query"].as_str() {
            known.check(query, &format!("{DASHBOARD}: variable {}", variable["name"]));
        }
    }
}

#[test]
fn prometheus_itself_understands_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON");
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            // Recorded under any name: promtool reads expressions as parts of rules only.
            let expression = target["expr"].as_str().unwrap_or_default().replace("$__rate_interval", "5m");
            let panel = panel["id"].as_u64().unwrap_or_default();
            let id = target["refId"].as_str().unwrap_or_default();
            writeln!(rules, "      - record: panel:{panel}{id}\n        expr: '{expression}'")
                .expect("a String takes everything");
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("dashboard.yml");
    fs::write(&file, &rules).expect("a file");
    match Command::new("promtool").args(["check", "rules"]).arg(&file).output() {
        Ok(judged) => {
            let said = [judged.stdout, judged.stderr].concat();
            assert!(judged.status.success(), "{}\n{rules}", String::from_utf8_lossy(&said));
        }
        Err(_) => skipped("promtool check rules on the dashboard", "promtool is not installed"),
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON");
    let mut ids = BTreeSet::new();
    let mut taken: BTreeMap<(u64, u64), String> = BTreeMap::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is another panel's");
        let at =
            |key: &str| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{title}: gridPos.{key}"));
        assert!(at("x") + at("w") <= 24, "{title} is wider than the page");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                let other = taken.insert((x, y), title.clone());
                assert!(other.is_none(), "{title} lies on {other:?}");
            }
        }
    }
}

// === What an expression asks for ===

/// The series that exist, with their labels.
struct Known(BTreeMap<String, BTreeSet<String>>);

impl Known {
    fn new() -> Self {
        let mut series = BTreeMap::from([(UP.to_owned(), target_labels())]);
        for it in declarations() {
            for name in it.series() {
                let mut labels = target_labels();
                labels.extend(it.labels.iter().filter(|l| *l != "le" || name.ends_with("_bucket")).cloned());
                series.insert(name, labels);
            }
        }
        Self(series)
    }

    /// Fails if an expression names a series, a label or a label's value that does not exist.
    fn check(&self, expression: &str, place: &str) {
        let mut rest = expression;
        let mut found = 0;
        while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
            let word: String =
                rest[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let after = &rest[at + word.len()..];
            rest = after;
            if word.starts_with("wigzo_") || word.starts_with("process_") || word == UP {
                let labels =
                    self.0.get(&word).unwrap_or_else(|| panic!("{place}: there is no metric {word}"));
                found += 1;
                if let Some((matchers, after)) = after.strip_prefix('{').and_then(|it| it.split_once('}')) {
                    check_matchers(matchers, labels, place);
                    rest = after;
                }
            } else if let Some((list, after)) = matches!(word.as_str(), "by" | "on" | "ignoring" | "without")
                .then(|| after.trim_start().strip_prefix('(')?.split_once(')'))
                .flatten()
            {
                // Labels are named before or after the series: both are looked up once all are known.
                for label in list.split(',').map(str::trim).filter(|label| !label.is_empty()) {
                    let known = self
                        .0
                        .iter()
                        .any(|(name, labels)| expression.contains(name.as_str()) && labels.contains(label));
                    assert!(known, "{place}: no series of the expression has the label {label}");
                }
                rest = after;
            }
        }
        assert!(found > 0, "{place}: asks for no series: {expression}");
    }
}

/// `name="value"`, `name=~"a|b"`, separated by commas.
fn check_matchers(matchers: &str, labels: &BTreeSet<String>, place: &str) {
    for matcher in matchers.split(',').filter(|matcher| !matcher.trim().is_empty()) {
        let (label, value) = matcher.split_once('=').unwrap_or_else(|| panic!("{place}: {matcher}"));
        let label = label.trim().trim_end_matches('!');
        assert!(labels.contains(label), "{place}: there is no label {label} here");
        let value = value.trim_start_matches('~').trim_matches('"');
        if value.contains(['$', '.', '+', '*']) {
            continue;
        }
        for value in value.split('|') {
            let known = match label {
                "result" => Reason::parse(value).is_some(),
                "outcome" => Outcome::parse(value).is_some(),
                "term" => Outcome::parse(value).is_some() || matches!(value, "accepted" | "waiting"),
                "job" => value == "wigzo-destination",
                "status" if labels.contains("endpoint") => {
                    EndpointStatus::ALL.iter().any(|status| status.as_str() == value)
                }
                "status" => value.len() == 3 && value.parse::<u16>().is_ok(),
                _ => true,
            };
            assert!(known, "{place}: {label} is never {value:?}");
        }
    }
}

#[test]
#[should_panic(expected = "there is no metric wigzo_destination_nonsense")]
fn a_metric_that_does_not_exist_is_found() {
    Known::new().check("sum(rate(wigzo_destination_nonsense[5m]))", "here");
}

#[test]
#[should_panic(expected = "there is no label color here")]
fn a_label_that_does_not_exist_is_found() {
    Known::new().check(r#"wigzo_destination_outcomes_total{color="red"}"#, "here");
}

#[test]
#[should_panic(expected = "result is never \"wigzo_999\"")]
fn a_value_that_does_not_exist_is_found() {
    Known::new().check(r#"wigzo_destination_attempts_total{result=~"wigzo_401|wigzo_999"}"#, "here");
}

#[test]
#[should_panic(expected = "no series of the expression has the label route")]
fn grouping_by_what_does_not_exist_is_found() {
    Known::new().check("sum by (route) (wigzo_destination_outcomes_total)", "here");
}

// === Reading ===

fn declarations() -> Vec<Declaration> {
    Metrics::default().declarations().cloned().collect()
}

fn target_labels() -> BTreeSet<String> {
    TARGET.iter().map(|label| (*label).to_owned()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

// === TLS in front ===

/// What the proxy allows fits what the service allows.
#[test]
fn the_example_of_a_proxy_fits_the_defaults() {
    let text = fs::read_to_string(root().join("ops/Caddyfile")).expect("ops/Caddyfile");
    let ingress = wigzo_destination::settings::Settings::default().ingress;
    let value = |name: &str| {
        let found = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("ops/Caddyfile has no {name}")).to_owned()
    };
    let span = |name: &str| value(name).parse::<wigzo_destination::clock::Span>().expect("a duration");
    assert_eq!(value("max_size"), ingress.max_body.to_string().replace(".0", "").replace(' ', ""));
    assert_eq!((span("read_body"), span("idle")), (ingress.read_timeout, ingress.idle_timeout));
    assert!(span("response_header_timeout") > ingress.deadline, "the service answers first");
    assert!(span("keepalive") < ingress.idle_timeout, "the proxy closes first");
    assert_eq!(value("reverse_proxy"), format!("{} {{", ingress.listen));
    match Command::new("caddy")
        .args(["validate", "--adapter", "caddyfile", "--config", "ops/Caddyfile"])
        .current_dir(root())
        .output()
    {
        Ok(judged) => assert!(judged.status.success(), "{judged:?}"),
        Err(_) => skipped("ops/Caddyfile", "caddy is not installed"),
    }
}
