//! The reload: a running service takes another configuration over, whole or not at all.
//!
//! Invariants:
//! * A configuration is loaded and checked as at a start before anything of it is used. A bad one changes nothing, and
//!   says so in the log and in the metrics.
//! * Keys that need a restart keep their values, and are named. What results from both is checked as well.
//! * Each side swaps in one step: a request, an answer and an event in work keep what they began with. Delivery is first,
//!   so that whoever sends to a new organization finds it served.
//! * Nothing waits here for the queue or for Wigzo.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Explainer;
use crate::admin::Admin;
use crate::clock::Clock;
use crate::current::Current;
use crate::delivery;
use crate::ingress::Ingress;
use crate::organization::Organizations;
use crate::settings::{Checked, Place, Problem, Problems, Seen, Settings, Source};
use crate::telemetry::{Logging, Metrics};

/// Problems of a refused configuration that are logged one by one.
const MOST_TOLD: usize = 20;

/// Requests to reload that may wait; more of them ask for the same.
const WAITING: usize = 4;

/// What a reload changes, and what it must know for it.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) with_sandbox: bool,
    /// Where the sandbox is that organizations are pointed at, if one was started.
    pub(super) sandbox: Option<Url>,
    pub(super) in_force: Settings,
    pub(super) organizations: Arc<Organizations>,
    pub(super) ingress: Current<Ingress>,
    pub(super) admin: Current<Admin>,
    pub(super) delivery: delivery::Handle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

/// A way to ask for a reload.
#[derive(Debug, Clone)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<bool>>);

impl Reloads {
    /// Reloads the configuration; returns whether it was taken over. What was wrong stands in the log.
    pub async fn reload(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.is_ok() && answer.await.unwrap_or(false)
    }
}

/// Follows the configuration of a source: on request, and by looking at its files.
#[derive(Debug)]
pub(super) struct Follower {
    reloader: Reloader,
    source: Source,
    asked: mpsc::Receiver<oneshot::Sender<bool>>,
    /// What the last load saw, whether it was taken over or refused.
    known: Seen,
    /// What was found last, if that is something else.
    found: Option<Seen>,
    drain: CancellationToken,
}

impl Follower {
    pub(super) fn new(reloader: Reloader, source: Source, drain: CancellationToken) -> (Self, Reloads) {
        let (ask, asked) = mpsc::channel(WAITING);
        let known = reloader.in_force.seen();
        (Self { reloader, source, asked, known, found: None, drain }, Reloads(ask))
    }

    /// Follows until the drain begins.
    pub(super) async fn run(mut self) {
        loop {
            let poll = self.reloader.in_force.reload.poll.0;
            tokio::select! {
                () = self.drain.cancelled() => return,
                Some(reply) = self.asked.recv() => {
                    let taken = self.reload("asked").await;
                    // Whoever asked may have gone.
                    let _gone = reply.send(taken);
                }
                () = tokio::time::sleep(poll), if poll > Duration::ZERO => self.look().await,
            }
        }
    }

    /// Looks at the files. A change is taken over when two looks have found the same: whoever writes several files, or
    /// a large one, has finished by then.
    async fn look(&mut self) {
        let known = self.known.clone();
        let now = blocking(move || known.again()).await;
        if now == self.known {
            self.found = None;
        } else if self.found.as_ref() == Some(&now) {
            self.reload("files changed").await;
        } else {
            self.found = Some(now);
        }
    }

    async fn reload(&mut self, why: &'static str) -> bool {
        self.found = None;
        let source = self.source.clone();
        let (with_sandbox, sandbox) = (self.reloader.with_sandbox, self.reloader.sandbox.clone());
        let in_force = self.reloader.in_force.clone();
        let (prepared, seen) = blocking(move || {
            let (loaded, look) = source.load();
            let prepared = loaded.and_then(|settings| prepare(settings, &in_force, with_sandbox, sandbox));
            (prepared, look.seen())
        })
        .await;
        self.known = match &prepared {
            Ok(_) => seen,
            // Of a refused one perhaps not everything was looked at.
            Err(_) => self.reloader.in_force.seen().again().and(seen),
        };
        match prepared {
            Ok(prepared) => {
                self.reloader.take_over(prepared, why).await;
                true
            }
            Err(problems) => {
                self.reloader.refuse(&problems, why);
                false
            }
        }
    }
}

/// A configuration that can be taken over, and the keys that are as they were.
struct Prepared {
    checked: Checked,
    kept: Vec<&'static str>,
}

/// Checks a configuration as it is written, and as it would be with what needs a restart left as it is.
fn prepare(
    mut settings: Settings,
    in_force: &Settings,
    with_sandbox: bool,
    sandbox: Option<Url>,
) -> Result<Prepared, Problems> {
    if let Some(base) = sandbox {
        settings.redirect_to(base).expect("BUG: the start has pointed the organizations at it");
    }
    let checked = settings.check(with_sandbox)?;
    let mut mixed = checked.settings.clone();
    let kept = mixed.keep_until_restart(in_force);
    if kept.is_empty() {
        return Ok(Prepared { checked, kept });
    }
    let checked = mixed.check(with_sandbox).map_err(|Problems(problems)| {
        let beside = |it: Problem| Problem {
            message: format!(
                "{} (with the old values of {}, which need a restart)",
                it.message,
                kept.join(", ")
            ),
            ..it
        };
        Problems(problems.into_iter().map(beside).collect())
    })?;
    Ok(Prepared { checked, kept })
}

impl Reloader {
    async fn take_over(&mut self, Prepared { checked, kept }: Prepared, why: &'static str) {
        super::log_warnings(&checked);
        let Checked { settings, organizations, admin_tokens } = checked;
        let organizations = Arc::new(organizations.after(&self.organizations));
        self.delivery.configure(settings.delivery.clone(), Arc::clone(&organizations)).await;
        let ingress = self.ingress.get().under(settings.ingress.clone(), Arc::clone(&organizations));
        self.ingress.replace(ingress);
        let admin = Admin::clone(&self.admin.get());
        let explainer = Explainer { config: settings.ingress.clone(), clock: self.clock.clone() };
        self.admin.replace(Admin {
            organizations: Arc::clone(&organizations),
            tokens: Arc::new(admin_tokens),
            explain: explainer.hand_out(),
            ..admin
        });
        let gone = self.organizations.iter().filter(|it| organizations.by_name(&it.name).is_none()).count();
        let new = organizations.iter().filter(|it| self.organizations.by_name(&it.name).is_none()).count();
        tracing::info!(why, organizations = organizations.len(), new, gone, "the configuration was reloaded");
        if !kept.is_empty() {
            tracing::warn!(
                keys = kept.join(", "),
                "changed keys need a restart: their old values stay in force until then"
            );
        }
        if settings.telemetry.log != self.in_force.telemetry.log
            && let Some(logging) = Logging::current()
        {
            logging
                .set_filter(&settings.telemetry.log)
                .expect("BUG: a configuration that was checked has a good filter");
        }
        (self.in_force, self.organizations) = (settings, organizations);
        self.metrics.reloaded(Some(self.clock.now().0 / 1_000));
    }

    fn refuse(&self, problems: &Problems, why: &'static str) {
        let Problems(problems) = problems;
        for problem in problems.iter().take(MOST_TOLD) {
            let place = problem.place.as_ref().map(Place::to_string).unwrap_or_default();
            tracing::error!(place, key = problem.key, problem = problem.message, "a reload was refused");
        }
        tracing::error!(
            why,
            problems = problems.len(),
            "the configuration was not reloaded; the one before stays in force"
        );
        self.metrics.reloaded(None);
    }
}

/// Reads files beside the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("BUG: reading a configuration does not panic")
}
