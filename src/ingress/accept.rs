//! The accept loop: our own over hyper-util, because `axum::serve` sets neither a time-out for a request's head nor a
//! cap on connections, and a public service needs both.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

/// How connections are treated.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most open connections; further ones wait in the listen queue.
    pub max_connections: usize,
    /// How long a request's head may take, the first one's counted from the connection.
    pub head_timeout: Duration,
    /// How long open requests may take to end once accepting has stopped.
    pub drain_deadline: Duration,
}

/// The address that a connection came from; every request on it carries this among its extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote(pub(super) IpAddr);

/// How long accepting pauses when the process is out of file descriptors.
const OUT_OF_SOCKETS: Duration = Duration::from_millis(100);

/// Serves requests until `stop` is cancelled and the open ones have ended.
pub async fn serve<S>(listener: TcpListener, service: S, limits: Limits, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(30));
    let room = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit.expect("BUG: the semaphore is never closed"),
            () = stop.cancelled() => break,
        };
        let (stream, remote) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(OUT_OF_SOCKETS).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let heard = Arc::new(AtomicBool::new(false));
        let connection = connect(&builder, stream, Remote(remote.ip()), service.clone(), Arc::clone(&heard));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            unless_silent(connection, limits.head_timeout, &heard).await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections did not end in time and are cut");
    }
}

/// Drives a connection to its end, and cuts it off if no request has come in time. The library's own time-out for heads
/// begins only once it has seen enough bytes to know the protocol, so that a client which says nothing would keep its
/// place for ever.
async fn unless_silent(connection: impl Future, patience: Duration, heard: &AtomicBool) {
    tokio::pin!(connection);
    tokio::select! {
        // A connection that breaks concerns nobody but its client, who knows already.
        _ = &mut connection => return,
        () = tokio::time::sleep(patience) => {}
    }
    if heard.load(Ordering::Relaxed) {
        let _ = connection.await;
    }
}

fn connect<S>(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    remote: Remote,
    service: S,
    heard: Arc<AtomicBool>,
) -> impl GracefulConnection<Error = impl std::fmt::Debug + use<S>> + Send + 'static + use<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // Replies are small and must not wait for more.
    let _ = stream.set_nodelay(true);
    let service = service.map_request(move |mut request: Request<Incoming>| {
        heard.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(remote);
        request
    });
    builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
        .into_owned()
}
