//! A stand-in for Wigzo: the endpoints of wigzo.md 2 and 3.1 as documented, a ledger of every call, and
//! faults on demand.
//!
//! It serves `serve --sandbox` and the `sandbox` command, the integration tests (in process, through a
//! [`Handle`]) and the benchmarks, for which it must never be the slow one: a call costs one short lock and no
//! formatting.
//!
//! Invariants:
//! * Every complete request to one of Wigzo's endpoints is in the ledger and its counters before it is
//!   answered, with the answer that was decided; a latency only holds the answer back.
//! * The same seed, rules and sequence of calls give the same faults.
//! * It believes the documentation, not our code: it shares the list of endpoints with [`crate::wigzo`], but
//!   builds and judges nothing with it, so that a mistake there shows up here.
//!
//! It must not know who calls it: not the queue, not delivery, not Segment. It is a tool for development and
//! has no authentication; it belongs on a loopback address.

mod answer;
mod call;
mod control;
mod fault;
mod filter;
mod handle;
mod ledger;
mod random;
mod server;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use fault::{BadRule, Effect, Latency, Rule};
pub use filter::{Answered, Filter};
pub use handle::Handle;
pub use ledger::{Counts, RecordedCall};

use crate::clock::Clock;

/// How long the sandbox waits when it cannot accept a connection, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The settings of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the sandbox listens; port 0 takes a free one. It has no authentication: keep it on loopback.
    /// Default: `127.0.0.1:8090`.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// The directory of the queue under `serve --sandbox`: its test events must never be delivered to Wigzo.
    /// Default: `""`, the directory `sandbox` in `queue.path`.
    pub queue_path: PathBuf,
    /// How many calls are kept for reading; older ones are only counted. Default: `1000000`.
    pub keep_calls: usize,
    /// How many bytes of bodies (with tokens and idempotency keys) are kept for reading. Default: `"1 GiB"`.
    #[schemars(with = "String")]
    pub keep_bytes: ByteSize,
    /// Where the randomness of faults starts: the same seed, rules and calls give the same faults.
    /// Default: `1`.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8090)),
            queue_path: PathBuf::new(),
            keep_calls: 1_000_000,
            keep_bytes: ByteSize::gib(1),
            seed: 1,
        }
    }
}

/// A sandbox that listens, but does not serve until it is [run](Sandbox::run).
#[derive(Debug)]
pub struct Sandbox {
    listener: TcpListener,
    local_addr: SocketAddr,
    handle: Handle,
}

impl Sandbox {
    /// Takes the address. Calls that arrive before [`Sandbox::run`] wait in the listener's queue.
    pub async fn bind(config: &Config, clock: Clock) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        Ok(Self { listener, local_addr, handle: Handle::new(config, clock) })
    }

    /// The address that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle to what the sandbox sees and does; it outlives the sandbox.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until `shutdown`, then drops every connection at once: nobody's data is in here.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(server::serve(stream, self.handle.clone()));
                    }
                    Err(failure) => {
                        tracing::warn!(error = %failure, "the sandbox could not accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => {
                    if let Err(failure) = ended {
                        tracing::error!(error = %failure, "a connection of the sandbox ended in a panic");
                    }
                }
            }
        }
        connections.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
