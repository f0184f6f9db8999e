//! `/metrics`: what is counted all the time, and what is looked up when somebody asks.
//!
//! A look costs the same however many events wait: one indexed read for each organization that has any, a page of them
//! at a time, and what waits is not copied.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, VARY};

use super::Admin;
use crate::clock::UnixMillis;
use crate::delivery::Overview;
use crate::organization::Partner;
use crate::outcome::Ledger;
use crate::queue::{Oldest, Queue, QueueError, Stats};
use crate::telemetry::{Format, Logging, Metrics, PARTNERS, gauge};

pub(super) async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    // Before the lock: this one waits for the disk.
    let oldest = match oldest(&admin.queue).await {
        Ok(oldest) => Some(oldest),
        Err(error) => {
            tracing::warn!(%error, "what has been waiting longest could not be read; the metrics show what it was");
            None
        }
    };
    let now = admin.clock.now();
    let _printing = admin.printing.lock().unwrap_or_else(PoisonError::into_inner);
    let metrics = &admin.metrics;
    admin.queue.look(&mut |stats| show(metrics, stats));
    if let Some(oldest) = oldest {
        let oldest = oldest.iter().map(|(name, arrival)| (&**name, age(*arrival, now)));
        metrics.show_oldest(with_partners(oldest, u64::max));
    }
    show_blocked(metrics, &admin.delivery.overview(), now);
    metrics.show_log_lines_lost(Logging::current().map_or(0, Logging::lost));
    metrics.elect(Instant::now());
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::of_accept(accept);
    let mut response = Response::new(Body::from(metrics.print(format)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

fn show(metrics: &Metrics, stats: &Stats) {
    let Ledger { accepted, delivered, filtered, expired, dead } = stats.ledger;
    metrics.show_ledger([
        ("accepted", accepted),
        ("delivered", delivered),
        ("filtered", filtered),
        ("expired", expired),
        ("dead", dead),
        ("waiting", stats.ledger.waiting()),
    ]);
    metrics.show_waiting(counts(&stats.waiting));
    metrics.show_parked(counts(&stats.parked));
    metrics.show_dead_letters(counts(&stats.dead_letters));
    metrics.dropped.set(gauge(stats.dropped));
    metrics.queue_bytes.set(gauge(stats.disk_bytes));
    metrics.history_bytes.set(gauge(stats.history_bytes));
    metrics.show_groups(stats.groups.counts, stats.groups.commands);
}

fn show_blocked(metrics: &Metrics, overview: &[Overview], now: UnixMillis) {
    let lanes = overview.iter().map(|it| (&*it.organization, it.blocked_lanes as u64));
    metrics.show_blocked_lanes(with_partners(lanes, u64::saturating_add));
    let oldest = overview.iter().map(|it| {
        let seconds = it.blocked_since.map_or(0, |since| age(since, now));
        (&*it.organization, seconds)
    });
    metrics.show_oldest_blocked(with_partners(oldest, u64::max));
}

fn counts(counts: &BTreeMap<Arc<str>, u64>) -> impl Iterator<Item = (&str, u64)> {
    with_partners(counts.iter().map(|(name, count)| (&**name, *count)), u64::saturating_add)
}

fn age(since: UnixMillis, now: UnixMillis) -> u64 {
    now.since(since).as_secs()
}

/// Values by organization for the metrics. Partners are not named there: anybody can make up as many as there are tokens.
/// `/api/stats` names them.
fn with_partners<'a>(
    values: impl Iterator<Item = (&'a str, u64)>,
    together: fn(u64, u64) -> u64,
) -> impl Iterator<Item = (&'a str, u64)> {
    let (partners, mut named): (Vec<_>, Vec<_>) = values.partition(|(name, _)| Partner::is_name(name));
    let partners = partners.into_iter().map(|(_, value)| value).reduce(together);
    named.extend(partners.map(|value| (PARTNERS, value)));
    named.into_iter()
}

async fn oldest(queue: &Queue) -> Result<Vec<(Arc<str>, UnixMillis)>, QueueError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let Oldest { arrivals, next } = queue.oldest(after).await?;
        found.extend(arrivals);
        if next.is_none() {
            return Ok(found);
        }
        after = next;
    }
}
