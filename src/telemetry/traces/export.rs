//! How spans leave: in batches, by a thread of their own, to an OTLP collector. A collector that is away is said once,
//! not with every batch, and what it does not get is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;

use super::sampler::Inherited;
use super::{Config, Protocol};

/// Spans that may wait to be sent; further ones are lost.
const QUEUE: usize = 8_192;

/// Spans in one message to the collector.
const BATCH: usize = 512;

/// How long spans wait for a batch to fill.
const DELAY: Duration = Duration::from_secs(1);

/// What became of spans.
#[derive(Debug, Clone, Default)]
pub struct SpanCounts {
    /// Those that the collector has taken.
    pub exported: Counter,
    /// Those that it has not, or for which there was no room.
    pub lost: Counter,
}

/// Why there are no traces although they are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// The endpoint is no address.
    #[error("expected a base URL without user, query and fragment, such as \"http://127.0.0.1:4318\"")]
    Address,
    /// The program was built without this protocol.
    #[error("this program was built without it: build it with `--features {0}`")]
    NotBuilt(&'static str),
    /// No client can be set up on this machine.
    #[error("no client for the collector can be set up on this machine")]
    Client,
}

impl Config {
    /// The endpoint as an address, if there is one and this program can send to it.
    ///
    /// # Errors
    /// It is no address, or this program was built without the protocol.
    pub fn check(&self) -> Result<Option<url::Url>, BadEndpoint> {
        if self.endpoint.is_empty() {
            return Ok(None);
        }
        let url: url::Url = self.endpoint.parse().map_err(|_| BadEndpoint::Address)?;
        let is_plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty();
        if !is_plain || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(BadEndpoint::Address);
        }
        match self.protocol {
            Protocol::Http if cfg!(feature = "otlp") => Ok(Some(url)),
            Protocol::Http => Err(BadEndpoint::NotBuilt("otlp")),
            Protocol::Grpc if cfg!(feature = "otlp-grpc") => Ok(Some(url)),
            Protocol::Grpc => Err(BadEndpoint::NotBuilt("otlp-grpc")),
        }
    }
}

/// What records spans as configured; `None`: nothing does.
pub(super) fn provider(
    config: &Config,
    counts: SpanCounts,
) -> Result<Option<SdkTracerProvider>, BadEndpoint> {
    let Some(url) = config.check()? else { return Ok(None) };
    let exporter = otlp::exporter(config.protocol, &url)?;
    Ok(Some(provider_to(exporter, config, counts)))
}

fn provider_to(
    exporter: impl SpanExporter + 'static,
    config: &Config,
    counts: SpanCounts,
) -> SdkTracerProvider {
    let waiting = Arc::new(AtomicUsize::new(0));
    let told = Told {
        exporter,
        endpoint: config.endpoint.clone(),
        is_failing: AtomicBool::new(false),
        waiting: Arc::clone(&waiting),
        counts: counts.clone(),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let batches = BatchSpanProcessor::builder(told).with_batch_config(batches).build();
    let mut resource = vec![
        KeyValue::new("service.name", config.service_name.clone()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
    ];
    if !config.environment.is_empty() {
        resource.push(KeyValue::new("deployment.environment.name", config.environment.clone()));
    }
    SdkTracerProvider::builder()
        .with_sampler(Inherited::or_part(config.sample))
        .with_resource(Resource::builder_empty().with_attributes(resource).build())
        .with_span_processor(Bounded { batches, waiting, lost: counts.lost })
        .build()
}

/// Lets so many spans wait to be sent, and counts those for which there is no room: the batches would lose them
/// without a count.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    /// Spans that have been let in and not been sent yet.
    waiting: Arc<AtomicUsize>,
    lost: Counter,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.lost.inc();
        } else {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what becomes of batches, and says when that changes.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    endpoint: String,
    is_failing: AtomicBool,
    waiting: Arc<AtomicUsize>,
    counts: SpanCounts,
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let endpoint = &self.endpoint;
        if self.exporter.export(batch).await.is_ok() {
            self.counts.exported.inc_by(spans as u64);
            if self.is_failing.swap(false, Ordering::Relaxed) {
                tracing::info!(endpoint, "the collector takes traces again");
            }
        } else {
            // Its own words stay out of it: they may repeat what it was sent.
            self.counts.lost.inc_by(spans as u64);
            if !self.is_failing.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    endpoint,
                    "the collector does not take traces; they are lost until it does, and nothing else is: check telemetry.traces.endpoint"
                );
            }
        }
        // An error would be told by the library too, with every batch.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The protocol's own part.
#[cfg(feature = "otlp")]
mod otlp {
    use std::future::Future;
    use std::pin::Pin;
    use std::time::Duration;

    use bytes::{Bytes, BytesMut};
    use opentelemetry_http::{HttpClient, HttpError};
    use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
    use tokio::runtime::Handle;

    use super::{BadEndpoint, Protocol};

    /// How long a collector may take to answer.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// How much of a collector's answer is read.
    const MAX_ANSWER: usize = 64 * 1024;

    pub(super) fn exporter(protocol: Protocol, url: &url::Url) -> Result<SpanExporter, BadEndpoint> {
        match protocol {
            Protocol::Http => {
                let courier = Courier::new()?;
                let base = url.as_str().trim_end_matches('/');
                SpanExporter::builder()
                    .with_http()
                    .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                    .with_endpoint(format!("{base}/v1/traces"))
                    .with_timeout(PATIENCE)
                    .with_http_client(courier)
                    .build()
                    .map_err(|_| BadEndpoint::Address)
            }
            #[cfg(feature = "otlp-grpc")]
            Protocol::Grpc => SpanExporter::builder()
                .with_tonic()
                .with_protocol(opentelemetry_otlp::Protocol::Grpc)
                .with_endpoint(url.as_str())
                .with_timeout(PATIENCE)
                .build()
                .map_err(|_| BadEndpoint::Address),
            #[cfg(not(feature = "otlp-grpc"))]
            Protocol::Grpc => Err(BadEndpoint::NotBuilt("otlp-grpc")),
        }
    }

    /// Carries messages to the collector: the batches' thread waits, the service's runtime does the work.
    #[derive(Debug)]
    struct Courier {
        client: reqwest::Client,
        runtime: Handle,
    }

    impl Courier {
        fn new() -> Result<Self, BadEndpoint> {
            #[expect(
                clippy::disallowed_methods,
                reason = "it does not call Wigzo, and has no business with `delivery`"
            )]
            let client = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .timeout(PATIENCE)
                .no_proxy()
                .user_agent(concat!("wigzo-destination/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|_| BadEndpoint::Client)?;
            Ok(Self { client, runtime: Handle::try_current().map_err(|_| BadEndpoint::Client)? })
        }
    }

    impl HttpClient for Courier {
        fn send_bytes<'this, 'answer>(
            &'this self,
            request: http::Request<Bytes>,
        ) -> Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'answer>>
        where
            'this: 'answer,
            Self: 'answer,
        {
            let client = self.client.clone();
            let work = async move {
                let mut answer = client.execute(reqwest::Request::try_from(request)?).await?;
                let mut body = BytesMut::new();
                while let Some(chunk) = answer.chunk().await? {
                    if body.len() + chunk.len() > MAX_ANSWER {
                        break;
                    }
                    body.extend_from_slice(&chunk);
                }
                let mut response = http::Response::new(body.freeze());
                *response.status_mut() = answer.status();
                *response.headers_mut() = std::mem::take(answer.headers_mut());
                Ok(response)
            };
            let work = self.runtime.spawn(work);
            Box::pin(async move { work.await? })
        }
    }
}

/// Without the feature nothing can be sent, and `Config::check` has said so.
#[cfg(not(feature = "otlp"))]
mod otlp {
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SpanData, SpanExporter};

    use super::{BadEndpoint, Protocol};

    #[derive(Debug)]
    pub(super) enum Never {}

    impl SpanExporter for Never {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            match *self {}
        }
    }

    pub(super) fn exporter(_: Protocol, _: &url::Url) -> Result<Never, BadEndpoint> {
        Err(BadEndpoint::NotBuilt("otlp"))
    }
}
