//! What stands around every route, outermost first:
//!
//! ```text
//! cors     a page may read every reply, those of the layers below too
//! hear out a refusal must reach a sender that is still sending
//! panic    a bug in a handler is a 500 for one request, not the end of a connection
//! slashes  an address with doubled or trailing slashes is the one without them
//! routes
//! ```
//!
//! As layers of the router each of these would be boxed anew for every route and cloned for every request, which costs
//! more than all that they do.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Request;
use http::header::ORIGIN;
use tower::{BoxError, Service, ServiceExt};
use tower_http::catch_panic::{CatchPanic, ResponseForPanic};

use super::{Ingress, address, cors, hear_out, reply};
use crate::current::Current;

/// What a panic is answered with.
#[derive(Debug, Clone, Copy)]
struct Panicked;

impl ResponseForPanic for Panicked {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send + 'static>) -> Response {
        reply::panicked(panic)
    }
}

/// The whole public side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Front {
    ingress: Current<Ingress>,
    routes: CatchPanic<Router, Panicked>,
}

impl Front {
    pub(super) fn new(ingress: Current<Ingress>, routes: Router) -> Self {
        Self { ingress, routes: CatchPanic::custom(routes, Panicked) }
    }

    async fn answer(self, mut request: Request<Body>) -> Response {
        let Self { ingress, routes } = self;
        if let Some(uri) = address::without_extra_slashes(request.uri()) {
            *request.uri_mut() = uri;
        }
        let from_page = request.headers().contains_key(ORIGIN);
        let (request, lent) = hear_out::lend(request);
        let mut response = routes.oneshot(request).await.into_response();
        if let Some(lent) = lent {
            hear_out::hear_out(&ingress.get().config, lent).await;
        }
        if from_page {
            cors::let_read(&mut response);
        }
        response
    }
}

impl<B> Service<Request<B>> for Front
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (front, request) = (self.clone(), request.map(Body::new));
        Box::pin(async move { Ok(front.answer(request).await) })
    }
}
