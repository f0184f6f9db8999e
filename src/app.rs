//! The composition root: settings in, a running service out, and its orderly end. The only file that sees every room.

mod explainer;
mod reload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::admin::{self, Admin};
use crate::clock::Clock;
use crate::current::Current;
use crate::delivery::{Delivery, Holds, HoldsError};
use crate::ingress::accept::{self, Limits};
use crate::ingress::{self, Ingress, Phase, Readiness};
use crate::queue::sqlite::Sqlite;
use crate::queue::{Queue, QueueError};
use crate::sandbox::{self, Sandbox};
use crate::settings::{Checked, Problem, Problems, Settings, Source};
use crate::shutdown::{Shutdown, Tasks};
use crate::telemetry::{BadEndpoint, Metrics, Traces, gauge};
use reload::{Follower, Reloader};

pub use reload::Reloads;

pub use explainer::Explainer;

/// A running service.
#[derive(Debug)]
pub struct App {
    /// Where events come in.
    pub public: SocketAddr,
    /// The private side.
    pub private: SocketAddr,
    /// The stand-in for Wigzo, if one was started, and a handle to what it has seen.
    pub sandbox: Option<(SocketAddr, sandbox::Handle)>,
    /// The organizations that are served.
    pub organizations: Vec<String>,
    /// The queue, to look into.
    pub queue: Queue,
    /// Where the queue's files are.
    pub directory: PathBuf,
    reloader: Option<Reloader>,
    readiness: Arc<Readiness>,
    traces: Traces,
    shutdown: Shutdown,
    stop_accepting: CancellationToken,
    tasks: Tasks,
    drain_grace: Duration,
    drain_deadline: Duration,
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// The queue cannot be opened.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Which organizations are paused cannot be read.
    #[error(transparent)]
    Holds(#[from] HoldsError),
    /// An address cannot be listened on.
    #[error("{what} cannot listen on {address}: {error}: stop what listens there, or set another `{key}`")]
    Listen {
        /// Which side.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The key that sets it.
        key: &'static str,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// No HTTP client can be built.
    #[error("no HTTP client can be set up on this machine: {0}")]
    Client(#[from] reqwest::Error),
    /// Traces cannot be sent as configured.
    #[error("telemetry.traces.endpoint: {0}")]
    Traces(#[from] BadEndpoint),
    /// The sandbox's address is no base for calls.
    #[error("the sandbox's address is no base for calls: {0}")]
    SandboxAddress(String),
}

/// How a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything in flight ended or went back to the queue.
    InOrder,
    /// A long-lived task failed; the queue keeps what it had.
    Failed(&'static str),
}

impl App {
    /// Starts a service. Nothing listens when this fails.
    ///
    /// # Errors
    /// What is wrong, with the remedy.
    pub async fn start(mut settings: Settings, with_sandbox: bool, clock: Clock) -> Result<Self, StartError> {
        let shutdown = Shutdown::default();
        let mut tasks = Tasks::default();

        let (mut stand_in, mut sandbox_base) = (None, None);
        if with_sandbox {
            let (sandbox, base) = start_sandbox(&mut settings, &clock).await?;
            (stand_in, sandbox_base) = (Some(sandbox), Some(base));
        }
        let checked = settings.check(with_sandbox)?;
        log_warnings(&checked);
        let Checked { settings, organizations, admin_tokens } = checked;
        let organizations = Arc::new(organizations);

        let public = listen("the public side", settings.ingress.listen, "ingress.listen").await?;
        let private = listen("the private side", settings.admin.listen, "admin.listen").await?;
        let (queue, writer) = Sqlite::open(&settings.queue, clock.clone())?;
        let queue: Queue = Arc::new(queue);
        let metrics = Arc::new(Metrics::new(settings.telemetry.metric_organizations));
        metrics.queue_limit.set(gauge(settings.queue.max_disk.as_u64()));
        metrics.in_force_since(clock.now().0 / 1_000);
        let traces = Traces::start(&settings.telemetry.traces, metrics.spans.clone())?;
        let readiness = Arc::new(Readiness::default());
        // The queue's directory is there, and is ours.
        let holds = Holds::open(&settings.queue.path)?;

        let (delivery, handle) = Delivery::new(
            settings.delivery.clone(),
            Arc::clone(&queue),
            Arc::clone(&organizations),
            clock.for_waits(),
            Arc::clone(&metrics),
            traces.clone(),
            shutdown.clone(),
            holds,
        )?;
        let ingress = Current::new(Ingress::new(
            settings.ingress.clone(),
            Arc::clone(&organizations),
            Arc::clone(&queue),
            Arc::clone(&metrics),
            traces.clone(),
            clock.clone(),
            Arc::clone(&readiness),
        ));
        let admin = Current::new(Admin {
            queue: Arc::clone(&queue),
            delivery: handle.clone(),
            organizations: Arc::clone(&organizations),
            metrics: Arc::clone(&metrics),
            refused_requests: ingress.get().refused_requests(),
            tokens: Arc::new(admin_tokens),
            started_at: clock.now(),
            rotation: readiness.rotation.clone(),
            explain: Explainer { config: settings.ingress.clone(), clock: clock.clone() }.hand_out(),
            clock: clock.clone(),
            printing: Arc::default(),
        });

        let stop_accepting = CancellationToken::new();
        let limits = Limits {
            max_connections: settings.ingress.max_connections,
            head_timeout: settings.ingress.idle_timeout.0,
            drain_deadline: settings.ingress.drain_deadline.0,
        };
        let public_address = address_of(&public, settings.ingress.listen);
        let private_address = address_of(&private, settings.admin.listen);
        let sandbox = stand_in.as_ref().map(|sandbox| (sandbox.local_addr(), sandbox.handle()));
        if let Some(sandbox) = stand_in {
            // It outlives delivery, whose last calls go there.
            tasks.start("sandbox", sandbox.run(shutdown.stop.clone()));
        }
        tasks.start("queue writer", watch(writer));
        tasks.start("delivery", delivery.run());
        let private_routes = admin::router(admin.clone());
        tasks.start("private side", accept::serve(private, private_routes, limits, stop_accepting.clone()));
        let public_routes = ingress::router(ingress.clone());
        tasks.start("public side", accept::serve(public, public_routes, limits, stop_accepting.clone()));
        readiness.enter(Phase::Serving);
        Ok(Self {
            public: public_address,
            private: private_address,
            sandbox,
            organizations: organizations.iter().map(|organization| organization.name.clone()).collect(),
            queue,
            directory: settings.queue.path.clone(),
            drain_grace: settings.ingress.drain_grace.0,
            drain_deadline: settings.ingress.drain_deadline.0,
            reloader: Some(Reloader {
                with_sandbox,
                sandbox: sandbox_base,
                in_force: settings,
                organizations,
                ingress,
                admin,
                delivery: handle,
                metrics,
                clock,
            }),
            readiness,
            traces,
            shutdown,
            stop_accepting,
            tasks,
        })
    }

    /// Follows the source that the settings were loaded from: its changes are taken over while the service runs.
    /// `None` if it follows one already.
    pub fn follow(&mut self, source: Source) -> Option<Reloads> {
        let (follower, reloads) = Follower::new(self.reloader.take()?, source, self.shutdown.drain.clone());
        self.tasks.start("configuration", follower.run());
        Some(reloads)
    }

    /// How many events wait.
    pub fn waiting(&self) -> u64 {
        let mut waiting = 0;
        self.queue.look(&mut |stats| waiting = stats.waiting.values().sum());
        waiting
    }

    /// Runs until `signal` fires, then drains: `/readyz` says so at once, requests are taken for the grace period
    /// (none if the signal says that a person waits), then what is open and in flight may end until the deadline.
    pub async fn run(mut self, signal: impl Future<Output = Haste>) -> End {
        let haste = tokio::select! {
            ended = self.tasks.ended() => return self.failed(ended),
            haste = signal => haste,
        };
        self.readiness.enter(Phase::Draining);
        if haste == Haste::Orderly {
            tracing::info!(
                grace_ms = millis(self.drain_grace),
                "draining: /readyz says 503, events are still taken"
            );
            tokio::time::sleep(self.drain_grace).await;
        }
        self.stop_accepting.cancel();
        self.shutdown.drain.cancel();
        let deadline = tokio::time::sleep(self.drain_deadline);
        let last_call = tokio::time::sleep(self.drain_deadline + LAST_CALL);
        tokio::pin!(deadline, last_call);
        let mut open = vec!["public side", "private side", "delivery"];
        while !open.is_empty() {
            tokio::select! {
                ended = self.tasks.ended() => match ended {
                    Some((name, true)) => open.retain(|it| *it != name),
                    failed => return self.failed(failed),
                },
                () = &mut deadline, if !self.shutdown.stop.is_cancelled() => {
                    tracing::warn!(?open, "the drain deadline has passed; what is in flight goes back to the queue");
                    self.readiness.enter(Phase::Closed);
                    self.shutdown.stop.cancel();
                }
                // Results that a dead disk does not take would be waited for without end.
                () = &mut last_call => return self.failed(None),
            }
        }
        self.readiness.enter(Phase::Closed);
        self.shutdown.stop.cancel();
        let waiting = self.waiting();
        // The last handles: the writer commits what it holds and ends.
        drop((self.reloader, self.queue));
        while let Some((name, in_order)) = self.tasks.ended().await {
            if !in_order {
                return End::Failed(name);
            }
        }
        let traces = self.traces;
        // It blocks, and its spans go out through this runtime.
        let _ended = tokio::task::spawn_blocking(|| traces.end()).await;
        tracing::info!(waiting, "stopped; {}", waiting_text(waiting));
        End::InOrder
    }

    fn failed(&self, ended: Option<(&'static str, bool)>) -> End {
        let name = ended.map_or("tasks", |(name, _)| name);
        tracing::error!(
            name,
            "a part of the service has failed; the process ends, the queue keeps every event"
        );
        self.readiness.enter(Phase::Closed);
        End::Failed(name)
    }
}

/// How many events wait, as a sentence's end.
pub(crate) fn waiting_text(waiting: u64) -> String {
    match waiting {
        0 => "no event waits".to_owned(),
        1 => "1 event waits".to_owned(),
        waiting => format!("{waiting} events wait"),
    }
}

fn log_warnings(checked: &Checked) {
    for Problem { place, key, message } in checked.warnings() {
        let place = place.map(tracing::field::display);
        tracing::warn!(
            place,
            key,
            problem = message,
            "the configuration is in force, but probably not meant so"
        );
    }
}

/// A stand-in for Wigzo, to which every organization is pointed, and its address.
async fn start_sandbox(settings: &mut Settings, clock: &Clock) -> Result<(Sandbox, Url), StartError> {
    let address = settings.sandbox.listen;
    let sandbox = Sandbox::bind(&settings.sandbox, clock.clone())
        .await
        .map_err(|error| StartError::Listen { what: "the sandbox", address, key: "sandbox.listen", error })?;
    let base = Url::parse(&format!("http://{}", sandbox.local_addr()))
        .map_err(|error| StartError::SandboxAddress(error.to_string()))?;
    settings.redirect_to(base.clone()).map_err(|error| StartError::SandboxAddress(error.to_string()))?;
    Ok((sandbox, base))
}

/// How long what was put back at the drain deadline may take to reach the disk.
const LAST_CALL: Duration = Duration::from_secs(5);

/// Ends with the queue's thread, and as it did.
async fn watch(writer: std::thread::JoinHandle<()>) {
    let ended = tokio::task::spawn_blocking(move || writer.join()).await;
    assert!(matches!(ended, Ok(Ok(()))), "the queue's writer has panicked");
}

/// How much time an ending service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Load balancers must turn away first.
    Orderly,
    /// A person waits at the terminal.
    Prompt,
}

async fn listen(
    what: &'static str,
    address: SocketAddr,
    key: &'static str,
) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { what, address, key, error })
}

/// The address with the port that the system chose, if it was asked to.
fn address_of(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
