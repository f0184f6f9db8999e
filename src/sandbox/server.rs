//! The HTTP side: one connection after the other from hyper, one request at a time on each.
//!
//! Plain HTTP/1.1 with keep-alive. It stands directly on hyper because a fault may need the connection
//! itself: a service that ends with a [`Cut`] makes hyper give the socket back, and [`serve`] closes or
//! resets it.

use std::error::Error;
use std::future::pending;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::answer::{Answer, AnswerBody, Cut, SUCCESS, error, half, json, scripted, wrong_method};
use super::call::{Fields, Refusal, Target};
use super::control;
use super::fault::Fate;
use super::handle::Handle;
use super::ledger::RecordedCall;
use crate::clock::UnixMillis;

/// The largest request body that is read; Wigzo's own limit is unknown (wigzo.md 9).
const MAX_BODY: usize = 16 * 1024 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Serves one connection until it ends, one way or another.
pub(super) async fn serve(stream: TcpStream, handle: Handle) {
    // An option that cannot be set costs speed, not correctness.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(handle.clone(), request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let Err(failure) = (&mut connection).await else { return };
    if failure.source().and_then(<dyn Error>::downcast_ref) == Some(&Cut::Reset) {
        // With a linger time of zero the close that follows is a TCP reset.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

async fn answer(handle: Handle, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let ours = path.starts_with(control::PREFIX);
    let target = if ours { None } else { Target::parse(path, head.uri.query()) };
    if !ours && target.is_none() {
        handle.misdirected();
        return Ok(error(StatusCode::NOT_FOUND, "no such path"));
    }
    if target.is_some() && head.method != Method::POST {
        handle.misdirected();
        return Ok(wrong_method("POST"));
    }
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(failure) if failure.is::<LengthLimitError>() => {
            handle.misdirected();
            return Ok(error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
        }
        Err(_) => return Err(Cut::Unreadable),
    };
    match target {
        Some(target) => call(&handle, &target, &head.headers, &body).await,
        None => Ok(control::answer(handle, head.method, path, head.uri.query(), body).await),
    }
}

/// A call to Wigzo: checked, recorded, and then answered as it deserves or as a fault rule says.
async fn call(handle: &Handle, target: &Target<'_>, headers: &HeaderMap, body: &Bytes) -> Answer {
    let fields = Fields::parse(body);
    let refusal = Refusal::of(target, fields.as_ref());
    let key = headers.get(IDEMPOTENCY_KEY).map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    let record = RecordedCall {
        number: 0,
        at: UnixMillis::default(),
        endpoint: target.endpoint,
        org_token: target.org_token.map(str::to_owned),
        token: target.token.map(str::to_owned),
        status: None,
        carried_out: false,
        idempotency_key: key,
        body: Bytes::copy_from_slice(body),
    };
    let decision = handle.receive(record, target, fields.as_ref(), refusal.map(Refusal::status));
    if !decision.latency.is_zero() {
        tokio::time::sleep(decision.latency).await;
    }
    match decision.fate {
        None => Ok(deserved(refusal)),
        Some(Fate::Answer(answer)) => Ok(scripted(answer)),
        Some(Fate::HalfBody(answer)) => Ok(half(answer)),
        Some(Fate::Reset | Fate::ResetAfterRecord) => Err(Cut::Reset),
        Some(Fate::Never) => pending().await,
    }
}

fn deserved(refusal: Option<Refusal>) -> Response<AnswerBody> {
    match refusal {
        None => json(StatusCode::OK, SUCCESS),
        Some(refusal) => json(refusal.status(), refusal.body()),
    }
}
