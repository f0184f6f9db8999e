//! `/metrics`: the counts of one moment, printed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::Admin;
use crate::organization::Partner;
use crate::outcome::Ledger;
use crate::telemetry::gauge;

/// The format of the answer.
pub(super) const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn print(State(admin): State<Arc<Admin>>) -> Response {
    let _printing = admin.printing.lock().unwrap_or_else(PoisonError::into_inner);
    let stats = admin.queue.stats();
    let Ledger { accepted, delivered, filtered, expired, dead } = stats.ledger;
    let metrics = &admin.metrics;
    metrics.show_ledger([
        ("accepted", accepted),
        ("delivered", delivered),
        ("filtered", filtered),
        ("expired", expired),
        ("dead", dead),
        ("waiting", stats.ledger.waiting()),
    ]);
    metrics.show_waiting(named(&stats.waiting).into_iter());
    metrics.show_parked(named(&stats.parked).into_iter());
    metrics.show_dead_letters(named(&stats.dead_letters).into_iter());
    metrics.dropped.set(gauge(stats.dropped));
    metrics.queue_bytes.set(gauge(stats.disk_bytes));
    metrics.history_bytes.set(gauge(stats.history_bytes));
    metrics.commits.set(gauge(stats.commits));
    metrics.commands.set(gauge(stats.commands));
    let mut response = Response::new(Body::from(metrics.print()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    response
}

/// Counts by organization for the metrics. Partners are not named there: anybody can make up as many as there are tokens.
/// `/api/stats` names them.
fn named(counts: &BTreeMap<Arc<str>, u64>) -> Vec<(&str, u64)> {
    let (partners, configured): (Vec<_>, Vec<_>) =
        counts.iter().partition(|(organization, _)| Partner::is_name(organization));
    let partners =
        (!partners.is_empty()).then(|| ("(partners)", partners.iter().map(|(_, count)| *count).sum()));
    let configured = configured.into_iter().map(|(organization, count)| (&**organization, *count));
    configured.chain(partners).collect()
}
