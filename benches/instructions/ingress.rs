//! A request through the whole public side, router and layers included, into a queue that has it on disk at once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use tower::ServiceExt as _;
use wigzo_destination::clock::{Clock, UnixMillis};
use wigzo_destination::current::Current;
use wigzo_destination::ingress::{Config, Ingress, Phase, Readiness, router};
use wigzo_destination::queue::transfer::{ImportError, Imported, Part};
use wigzo_destination::queue::{
    AppendError, Appended, Claimed, Engine, Envelope, Fate, Fresh, Hastened, LaneKey, Lookup, NewEnvelope,
    Number, Oldest, Page, Pending, QueueError, Refusals, Selection, Seq, Settlement, Stats,
};
use wigzo_destination::telemetry::{self, LogFormat, Logging, Metrics, Traces};

use super::work;

/// One event a request.
pub(crate) fn single(rounds: usize) {
    serve("/v1/track", &work::PRODUCT_VIEWED.into(), rounds);
}

/// A library's batch a request.
pub(crate) fn batch(rounds: usize) {
    serve("/v1/batch", &work::batch().into(), rounds);
}

fn serve(path: &str, body: &Bytes, rounds: usize) {
    // The line that each request gets is part of its price. Here nobody reads it.
    let log = telemetry::Config { log_format: LogFormat::Json, ..telemetry::Config::default() };
    Logging::start(&log).expect("the default filter");
    let readiness = Arc::new(Readiness::default());
    readiness.enter(Phase::Serving);
    let ingress = Ingress::new(
        Config::default(),
        Arc::new(work::organizations()),
        Arc::new(Sink::default()),
        Arc::new(Metrics::new(log.metric_organizations)),
        Traces::off(),
        Clock::manual(UnixMillis(1_767_323_101_200)),
        readiness,
    );
    let router = router(Current::new(ingress));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for _ in 0..rounds {
            let request = Request::post(path)
                .header("authorization", "Basic d2tfZGVtbzo=")
                .header("content-type", "application/json")
                .header("content-length", body.len())
                .body(Body::from(body.clone()))
                .expect("a request");
            let response = router.clone().oneshot(request).await.expect("no service fails");
            assert_eq!(response.status(), StatusCode::OK);
        }
    });
}

/// A queue that lets go of what it is given.
#[derive(Debug)]
struct Sink {
    fresh: Fresh,
    refusals: Refusals,
}

impl Default for Sink {
    fn default() -> Self {
        Self { fresh: Fresh::new(0), refusals: Refusals::default() }
    }
}

/// What has been answered already.
fn now<T: Send + 'static>(answer: T) -> Pending<'static, T> {
    Box::pin(std::future::ready(answer))
}

impl Engine for Sink {
    fn append(&self, envelopes: Vec<NewEnvelope>, _: Duration) -> Pending<'_, Result<Appended, AppendError>> {
        now(Ok(Appended { accepted: envelopes.len(), duplicates: 0 }))
    }

    fn claim(
        &self,
        _: Arc<str>,
        _: Seq,
        _: usize,
        _: Arc<[LaneKey]>,
    ) -> Pending<'_, Result<Vec<Claimed>, QueueError>> {
        now(Ok(Vec::new()))
    }

    fn numbers(&self, _: Arc<str>, _: Seq, _: usize) -> Pending<'_, Result<Vec<Number>, QueueError>> {
        now(Ok(Vec::new()))
    }

    fn reread(&self, _: Arc<str>, _: Vec<Seq>) -> Pending<'_, Result<Vec<Envelope>, QueueError>> {
        now(Ok(Vec::new()))
    }

    fn parked(&self, _: Arc<str>, _: usize) -> Pending<'_, Result<Vec<Envelope>, QueueError>> {
        now(Ok(Vec::new()))
    }

    fn settle(&self, _: Settlement) -> Pending<'_, ()> {
        now(())
    }

    fn settle_all(&self, _: Vec<Settlement>) {}

    fn records_in_full(&self, _: &Arc<str>) -> bool {
        false
    }

    fn progress(&self, _: Seq, _: String) -> Pending<'_, ()> {
        now(())
    }

    fn oldest(&self, _: Option<Arc<str>>) -> Pending<'_, Result<Oldest, QueueError>> {
        now(Ok(Oldest::default()))
    }

    fn find(&self, _: Lookup) -> Pending<'_, Result<Page, QueueError>> {
        now(Err(QueueError::Closed))
    }

    fn decide(&self, _: Vec<Seq>, _: Fate) -> Pending<'_, Result<u64, QueueError>> {
        now(Ok(0))
    }

    fn hasten(&self, _: Arc<str>, _: Selection, _: UnixMillis) -> Pending<'_, Result<Hastened, QueueError>> {
        now(Ok(Hastened::default()))
    }

    fn import(&self, _: Part) -> Pending<'_, Result<Imported, ImportError>> {
        now(Ok(Imported::default()))
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn look(&self, look: &mut dyn FnMut(&Stats)) {
        look(&Stats::default());
    }

    fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    fn fresh(&self) -> &Fresh {
        &self.fresh
    }
}
