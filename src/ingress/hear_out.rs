//! Hearing a sender out before it is refused.
//!
//! Many clients write their whole body before they read. A connection that is closed under them is a broken pipe to
//! them and not the reply that was given: they send again for hours what would be refused for ever. So what is left of
//! a body is read and thrown away, within limits and never unpacked, before the reply goes out.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use http::header::EXPECT;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use super::Config;

/// How many times the largest body is thrown away; whoever sends more is cut off.
const MOST: u64 = 4;

/// How long a sender may pause. One that stalls is not waited for: it has stopped writing, and will read.
const PAUSE: Duration = Duration::from_millis(500);

/// Lends a request's body to whoever answers it.
pub(super) fn lend(request: Request) -> (Request, Option<Lent>) {
    // A sender that asks for leave first has sent nothing yet.
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return (request, None);
    }
    let (head, body) = request.into_parts();
    let lent = Lent(Arc::new(Mutex::new(body)));
    (Request::from_parts(head, Body::new(lent.clone())), Some(lent))
}

/// Reads what was not read of a lent body.
pub(super) async fn hear_out(config: &Config, lent: Lent) {
    if !lent.is_end_stream() {
        let most = config.max_body.as_u64() * MOST;
        // Whether it came to its end in time changes nothing: the reply is the same.
        let _ = tokio::time::timeout(config.read_timeout.0, throw_away(lent, most)).await;
    }
}

async fn throw_away(mut body: Lent, most: u64) {
    let mut seen = 0;
    while seen <= most
        && let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, body.frame()).await
    {
        seen += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}

/// A body that can be taken back: whoever polls it has it for that moment only.
#[derive(Debug, Clone)]
pub(super) struct Lent(Arc<Mutex<Body>>);

impl Lent {
    fn with<T>(&self, look: impl FnOnce(&mut Body) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}
