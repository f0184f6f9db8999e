//! What a look at `/metrics` costs where there are thousands of organizations, each with a backlog.
//!
//! `cargo bench --bench scrape` fills a queue in a temporary directory and asks the private side, without a network
//! between, as Prometheus does.

#![expect(clippy::print_stdout, reason = "its result is what it prints")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use http::header::ACCEPT;
use tower::ServiceExt;
use wigzo_destination::admin::{self, Admin, Explain, Tokens};
use wigzo_destination::clock::{Clock, UnixMillis};
use wigzo_destination::current::Current;
use wigzo_destination::delivery::{Delivery, Holds};
use wigzo_destination::outcome::{Outcome, Reason};
use wigzo_destination::queue::sqlite::Sqlite;
use wigzo_destination::queue::{Config, DedupKey, NewEnvelope, Queue, SourceRoute};
use wigzo_destination::settings::Settings;
use wigzo_destination::shutdown::{Rotation, Shutdown};
use wigzo_destination::telemetry::{Metrics, Traces};

/// Waiting events of each organization.
const BACKLOG: usize = 20;

fn envelope(organization: &Arc<str>, number: usize) -> NewEnvelope {
    let id = number.to_string();
    NewEnvelope {
        organization: Arc::clone(organization),
        route: "v1".into(),
        key: DedupKey::new(organization, SourceRoute::new("v1"), &id),
        message_id: id.as_str().into(),
        lane: id.as_str().into(),
        kind: "track".into(),
        title: "Product Viewed".into(),
        received_at: UnixMillis(1_799_999_999_000),
        payload: format!(r#"{{"type":"track","padding":"{}"}}"#, "x".repeat(900)).into(),
        surroundings: "".into(),
        forgets: false,
    }
}

async fn measure(organizations: usize) -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let config = Config { path: directory.path().to_owned(), ..Config::default() };
    let (queue, _writer) = Sqlite::open(&config, Clock::system())?;
    let queue: Queue = Arc::new(queue);
    let metrics = Arc::new(Metrics::default());
    for number in 0..organizations {
        let name: Arc<str> = Arc::from(format!("organization-{number}"));
        let backlog = (0..BACKLOG).map(|number| envelope(&name, number)).collect();
        queue.append(backlog, Duration::from_mins(1)).await?;
        metrics.outcome(&name, Outcome::Delivered, Reason::Delivered, Duration::from_millis(20), None);
    }
    let clock = Clock::system();
    let served = Arc::new(Settings::default().check(true)?.organizations);
    let (_delivery, delivery) = Delivery::new(
        wigzo_destination::delivery::Config::default(),
        Arc::clone(&queue),
        Arc::clone(&served),
        clock.clone(),
        Arc::clone(&metrics),
        Traces::off(),
        Shutdown::default(),
        Holds::open(directory.path())?,
    )?;
    let admin = Admin {
        queue,
        delivery,
        organizations: served,
        metrics,
        started_at: clock.now(),
        clock,
        tokens: Arc::new(Tokens::open(&admin::Config::default())?),
        rotation: Rotation::default(),
        explain: Explain(Arc::new(|_, _, _| None)),
        refused_requests: Arc::default(),
        printing: Arc::default(),
    };
    let router = admin::router(Current::new(admin));
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..50 {
        let request = Request::get("/metrics").header(ACCEPT, "application/openmetrics-text");
        let began = Instant::now();
        let answer = router.clone().oneshot(request.body(Body::empty())?).await?;
        size = axum::body::to_bytes(answer.into_body(), usize::MAX).await?.len();
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("| {organizations} | {:.1?} | {:.1?} | {size} |", at(50), at(98));
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("| organizations with a backlog | median | slowest | bytes |");
    let runtime = tokio::runtime::Runtime::new()?;
    for organizations in [1, 100, 5_000] {
        runtime.block_on(measure(organizations))?;
    }
    Ok(())
}
