//! The way of a call to Wigzo: one tower stack over reqwest, written out in one place, outermost first.
//!
//! ```text
//! limit     at most `max_in_flight` calls at a time, whatever the scheduler thinks
//! retry     quick repeats for what a second try usually cures, within a budget
//! record    each try becomes an attempt
//! http      reqwest: pooled HTTP/1.1, no redirects, no retries of its own, bounded bodies, a deadline for the whole try
//! ```
//!
//! An answer is one as soon as its head has arrived. Where its body breaks off or does not end in time, what has arrived
//! of it is kept, and [`Answer::is_cut_short`] says so: the call is not made again for that.
//!
//! It knows nothing of envelopes, lanes or outcomes. Tokens are in the URLs it is given; it prints none of them, nor
//! what Wigzo answered, where they may be echoed: an [`Outgoing`] has no `Debug`, and an [`Answer`] shows its length.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderName;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use tokio::time::timeout_at;
use tower::limit::ConcurrencyLimit;
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, Retry};
use tower::{Service, ServiceBuilder, ServiceExt};
use url::Url;

use crate::clock::{Clock, UnixMillis};
use crate::wigzo::Reply;

/// How much of an answer's body is kept.
pub const MAX_BODY: usize = 16 * 1024;

/// How much more of it is read, so that the connection can be used again.
const MAX_DRAIN: usize = 256 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A call with everything that goes on the wire.
#[derive(Clone)]
pub struct Outgoing {
    /// The real URL, tokens included.
    pub url: Arc<Url>,
    /// The JSON body.
    pub body: Bytes,
    /// Stable over the attempts of this call.
    pub idempotency_key: HeaderValue,
    /// Whether a try that Wigzo may have carried out may be repeated at once.
    pub repeat_ambiguous: bool,
    /// Where every try is noted.
    pub tries: Arc<Mutex<Vec<Try>>>,
    /// What tells Wigzo of the trace that the call belongs to; none unless that is wanted.
    pub trace: Vec<(HeaderName, HeaderValue)>,
}

/// One try, as it went.
#[derive(Debug, Clone)]
pub struct Try {
    /// When it began.
    pub at: UnixMillis,
    /// How long it took.
    pub took: Duration,
    /// What came back.
    pub result: Result<Answer, Failure>,
}

/// An HTTP answer, whatever its status.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Retry-After` as a wait from the moment of the answer.
    pub retry_after: Option<Duration>,
    /// The first [`MAX_BODY`] bytes of the body.
    pub body: Bytes,
    /// Whether the body broke off, or the time ran out, before as much of it had arrived.
    pub is_cut_short: bool,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("is_cut_short", &self.is_cut_short)
            .finish()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection could be made; nothing was sent.
    #[error("no connection to Wigzo could be made")]
    Unreachable,
    /// The server's certificate could not be verified; nothing was sent.
    #[error("the certificate of Wigzo's server could not be verified")]
    Certificate,
    /// The connection broke after the request may have been written.
    #[error("the connection to Wigzo broke")]
    Broken,
    /// The time ran out after the request may have been written.
    #[error("Wigzo did not answer in time")]
    TimedOut,
}

/// The outcome of a try in the words of the Wigzo room.
pub fn as_reply(result: &Result<Answer, Failure>) -> Reply<'_> {
    match result {
        Ok(Answer { status, retry_after, body, is_cut_short: _ }) => {
            Reply::Answer { status: *status, retry_after: *retry_after, body }
        }
        Err(Failure::Unreachable | Failure::Certificate) => Reply::Unreachable,
        Err(Failure::Broken) => Reply::Broken,
        Err(Failure::TimedOut) => Reply::TimedOut,
    }
}

/// The knobs of the stack.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Calls in flight at a time.
    pub max_in_flight: usize,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a whole try may take.
    pub timeout: Duration,
    /// Quick repeats within one attempt.
    pub quick_retries: u32,
}

type Stack = ConcurrencyLimit<Retry<QuickRetry, Record<Http>>>;

/// The client. Cheap to clone; clones share the pool, the limit and the budget.
#[derive(Debug, Clone)]
pub struct Client(Stack);

impl Client {
    /// Builds the stack.
    ///
    /// # Errors
    /// When the TLS set-up of the machine cannot be read.
    pub fn new(options: Options, clock: Clock) -> Result<Self, reqwest::Error> {
        Self::trusting(options, clock, &[])
    }

    /// Builds the stack, trusting further certificate authorities beside those of the machine.
    ///
    /// # Errors
    /// When the TLS set-up of the machine or one of the certificates cannot be read.
    pub fn trusting(
        options: Options,
        clock: Clock,
        extra_roots: &[reqwest::Certificate],
    ) -> Result<Self, reqwest::Error> {
        let http = Http::new(&options, clock.clone(), extra_roots)?;
        Ok(Self(
            ServiceBuilder::new()
                .concurrency_limit(options.max_in_flight)
                .retry(QuickRetry::new(options.quick_retries))
                .layer_fn(move |inner| Record { inner, clock: clock.clone() })
                .service(http),
        ))
    }

    /// Makes one call; every try of it is noted in the call.
    pub async fn call(&self, outgoing: Outgoing) -> Result<Answer, Failure> {
        self.0.clone().oneshot(outgoing).await
    }
}

// === retry ===

/// Quick repeats: what a second try a moment later usually cures. The budget keeps them under a tenth of the load, so
/// that they cannot make a bad day worse.
#[derive(Debug, Clone)]
struct QuickRetry {
    left: u32,
    done: u32,
    budget: Arc<TpsBudget>,
}

impl QuickRetry {
    fn new(retries: u32) -> Self {
        // Deposits live ten seconds; one repeat a second is free, so that a quiet service may repeat too.
        let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 1, 0.1));
        Self { left: retries, done: 0, budget }
    }

    fn curable(outgoing: &Outgoing, result: &Result<Answer, Failure>) -> bool {
        match result {
            Ok(answer) => matches!(answer.status, 502..=504) && answer.retry_after.is_none(),
            Err(Failure::Unreachable) => true,
            Err(Failure::Broken) => outgoing.repeat_ambiguous,
            // It will be the same a moment later.
            Err(Failure::TimedOut | Failure::Certificate) => false,
        }
    }
}

impl Policy<Outgoing, Answer, Failure> for QuickRetry {
    type Future = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn retry(
        &mut self,
        outgoing: &mut Outgoing,
        result: &mut Result<Answer, Failure>,
    ) -> Option<Self::Future> {
        if !Self::curable(outgoing, result) {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        self.done += 1;
        // 50 ms, then 100 ms, each with full jitter.
        let longest = 50_u64 << self.done.min(8) >> 1;
        let wait = Duration::from_millis(fastrand::u64(0..=longest));
        Some(Box::pin(tokio::time::sleep(wait)))
    }

    fn clone_request(&mut self, outgoing: &Outgoing) -> Option<Outgoing> {
        Some(outgoing.clone())
    }
}

// === record ===

/// Notes each try.
#[derive(Debug, Clone)]
struct Record<S> {
    inner: S,
    clock: Clock,
}

impl<S> Service<Outgoing> for Record<S>
where
    S: Service<Outgoing, Response = Answer, Error = Failure>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, outgoing: Outgoing) -> Self::Future {
        let (at, began) = (self.clock.now(), Instant::now());
        let tries = Arc::clone(&outgoing.tries);
        let work = self.inner.call(outgoing);
        Box::pin(async move {
            let result = work.await;
            let noted = Try { at, took: began.elapsed(), result: result.clone() };
            tries.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
            result
        })
    }
}

// === http ===

/// reqwest, set up for one kind of call.
#[derive(Debug, Clone)]
struct Http {
    /// One HTTP/1.1 connection per call in flight, pooled: faster than many streams over one connection.
    http1: reqwest::Client,
    /// For a server that refuses HTTP/1.1 in the TLS handshake.
    http2: reqwest::Client,
    /// Servers that did so, so that not every call pays for a refused handshake. As many as there are base URLs.
    http2_only: Arc<Mutex<HashSet<url::Origin>>>,
    /// Whether there has been any: a call need not look else.
    any_http2_only: Arc<AtomicBool>,
    /// How long a whole try may take.
    timeout: Duration,
    clock: Clock,
}

impl Http {
    fn new(
        options: &Options,
        clock: Clock,
        extra_roots: &[reqwest::Certificate],
    ) -> Result<Self, reqwest::Error> {
        let builder = || {
            #[expect(clippy::disallowed_methods, reason = "this is the one place where clients are built")]
            let builder = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(options.connect_timeout)
                .pool_max_idle_per_host(options.max_in_flight)
                .pool_idle_timeout(Duration::from_secs(30))
                .tcp_nodelay(true)
                // Only the configuration decides where calls go, not a variable that happens to be set.
                .no_proxy()
                .user_agent(concat!("wigzo-destination/", env!("CARGO_PKG_VERSION")));
            if extra_roots.is_empty() {
                builder
            } else {
                builder.tls_certs_merge(extra_roots.iter().cloned())
            }
        };
        Ok(Self {
            http1: builder().http1_only().build()?,
            http2: builder().http2_prior_knowledge().build()?,
            http2_only: Arc::default(),
            any_http2_only: Arc::default(),
            timeout: options.timeout,
            clock,
        })
    }

    async fn send(self, outgoing: Outgoing) -> Result<Answer, Failure> {
        let deadline = tokio::time::Instant::now() + self.timeout;
        let mut response = match timeout_at(deadline, self.response(&outgoing)).await {
            Ok(response) => response.map_err(|error| transport_failure(&error))?,
            // Connecting has a shorter time-out of its own, so the request was on its way.
            Err(_) => return Err(Failure::TimedOut),
        };
        let status = response.status().as_u16();
        let now = self.clock.now();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| wait(value, now));
        let mut body = BytesMut::new();
        let is_read =
            timeout_at(deadline, read(&mut response, &mut body)).await.is_ok_and(|read| read.is_ok());
        // A connection that is lost behind what is kept does no harm.
        let is_cut_short = !is_read && body.len() < MAX_BODY;
        Ok(Answer { status, retry_after, body: body.freeze(), is_cut_short })
    }

    async fn response(&self, outgoing: &Outgoing) -> Result<reqwest::Response, reqwest::Error> {
        let origin = || outgoing.url.origin();
        let is_known = self.any_http2_only.load(Ordering::Relaxed) && self.http2_only().contains(&origin());
        if !is_known {
            match request(&self.http1, outgoing).send().await {
                // Nothing was sent: the handshake failed because the server speaks HTTP/2 only.
                Err(error) if speaks_only_http2(&error) => {
                    self.http2_only().insert(origin());
                    self.any_http2_only.store(true, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        let result = request(&self.http2, outgoing).send().await;
        if result.as_ref().is_err_and(reqwest::Error::is_connect) {
            // Another server may stand there the next time.
            self.http2_only().remove(&origin());
        }
        result
    }

    fn http2_only(&self) -> MutexGuard<'_, HashSet<url::Origin>> {
        self.http2_only.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The builder, unlike a bare request, sends the login of a URL that has one (for a proxy before Wigzo).
fn request(client: &reqwest::Client, outgoing: &Outgoing) -> reqwest::RequestBuilder {
    let request = client
        .post(Url::clone(&outgoing.url))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(IDEMPOTENCY_KEY, outgoing.idempotency_key.clone())
        .body(outgoing.body.clone());
    outgoing.trace.iter().fold(request, |request, (name, value)| request.header(name, value))
}

impl Service<Outgoing> for Http {
    type Response = Answer;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Outgoing) -> Self::Future {
        Box::pin(self.clone().send(outgoing))
    }
}

/// Reads the body's beginning, and a bounded rest so that the connection can be used again.
async fn read(response: &mut reqwest::Response, body: &mut BytesMut) -> reqwest::Result<()> {
    let mut seen = 0;
    while seen < MAX_DRAIN {
        let Some(chunk) = response.chunk().await? else { break };
        seen += chunk.len();
        let room = MAX_BODY - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
    }
    Ok(())
}

fn transport_failure(error: &reqwest::Error) -> Failure {
    if matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_))) {
        Failure::Certificate
    } else if error.is_connect() || was_never_sent(error) {
        Failure::Unreachable
    } else if error.is_timeout() {
        Failure::TimedOut
    } else {
        Failure::Broken
    }
}

/// Whether the connection was gone before the request was handed to it. On a connection from the pool hyper repeats such
/// a request by itself, on another one. What it had begun to write when the server closed the connection is
/// [`Failure::Broken`]: the server may have read it, and nobody on this side can tell.
fn was_never_sent(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether the server ended the TLS handshake because it does not speak HTTP/1.1 (RFC 7301, section 3.2).
fn speaks_only_http2(error: &reqwest::Error) -> bool {
    const ALERT: rustls::Error =
        rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
    tls_error(error) == Some(&ALERT)
}

/// What was wrong with TLS, if that is the cause.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // An I/O error shows what it wraps by `get_ref`, not as its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = wrapped.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
        if found.is_some() {
            return found;
        }
        cause = wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

/// `Retry-After` as a wait from now: seconds or an HTTP date (RFC 9110, section 10.2.3).
fn wait(value: &HeaderValue, now: UnixMillis) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long wait, not none; whoever obeys it has a cap.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(UnixMillis(0).plus(until).since(now))
}

#[cfg(test)]
mod tests;
