//! The accept loop: our own over hyper-util, because `axum::serve` sets neither a time-out for a request's head nor a
//! cap on connections, and a public service needs both.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How connections are treated.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most open connections; further ones wait in the listen queue.
    pub max_connections: usize,
    /// How long a request's head may take.
    pub head_timeout: Duration,
    /// How long open requests may take to end once accepting has stopped.
    pub drain_deadline: Duration,
}

/// How long accepting pauses when the process is out of file descriptors.
const OUT_OF_SOCKETS: Duration = Duration::from_millis(100);

/// Serves a router until `stop` is cancelled and the open requests have ended.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
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
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(OUT_OF_SOCKETS).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let connection = connect(&builder, stream, router.clone());
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            // A connection that breaks concerns nobody but its client, who knows already.
            let _ = connection.await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections did not end in time and are cut");
    }
}

fn connect(
    builder: &Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = impl std::fmt::Debug> + Send + 'static {
    // Replies are small and must not wait for more.
    let _ = stream.set_nodelay(true);
    builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router))
        .into_owned()
}
