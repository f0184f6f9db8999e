//! What other rooms may see of delivery, and ask of it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::Config;
use super::holds::{Held, Hold, Holds, HoldsError};
use super::scheduler::{Gate, Standing, Why};
use crate::clock::UnixMillis;
use crate::organization::Organizations;

/// A door to the running delivery. Cheap to clone; looking never waits.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    overview: watch::Receiver<Arc<[Overview]>>,
    holds: Arc<Holds>,
    /// Held from the file to the scheduler, so that both hear a hold and its end in the same order.
    in_turn: Arc<Mutex<()>>,
}

/// How one organization's delivery stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Overview {
    /// The organization.
    pub organization: Arc<str>,
    /// What it may do now.
    pub state: State,
    /// Where its circuit breaker stands.
    pub breaker: BreakerState,
    /// When that may change by itself; absent if it is open, or waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
    /// Probes that have failed in a row.
    pub failed_probes: u32,
    /// Different people whose events have failed without one being delivered in between.
    pub failing_lanes: usize,
    /// Events in flight.
    pub in_flight: usize,
    /// How many may be: what Wigzo seems to stand, at most what is configured.
    pub concurrency_limit: usize,
    /// Waiting events in memory.
    pub held: usize,
    /// Waiting events that are held by number.
    pub held_by_number: usize,
}

/// What an organization may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Standing")]
pub enum State {
    /// Everything goes.
    Open,
    /// An operator holds it.
    Held,
    /// Wigzo asked for a pause.
    Paused,
    /// Wigzo refuses its token or address.
    Suspended,
    /// Its circuit breaker is open.
    Failing,
    /// One event at a time finds out whether it goes again.
    Probing,
    /// It is switched off in the configuration; what waits goes on waiting.
    Disabled,
    /// Events wait for it, and there is no such organization in the configuration.
    Unconfigured,
}

impl State {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Open,
        Self::Held,
        Self::Paused,
        Self::Suspended,
        Self::Failing,
        Self::Probing,
        Self::Disabled,
        Self::Unconfigured,
    ];

    /// The stable string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Failing => "failing",
            Self::Probing => "probing",
            Self::Disabled => "disabled",
            Self::Unconfigured => "unconfigured",
        }
    }

    /// Whether that is as it should be.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Open | Self::Disabled)
    }
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// No calls are made.
    Open,
    /// One call finds out whether it can close.
    HalfOpen,
}

impl Overview {
    pub(super) fn new(organization: &Arc<str>, standing: Standing) -> Self {
        let (state, until, failed_probes) = match standing.gate {
            Gate::Open => (State::Open, None, 0),
            Gate::Held => (State::Held, None, 0),
            Gate::Paused(until) => (State::Paused, Some(until), 0),
            Gate::Shut { why: Why::Refused, until, failures } => (State::Suspended, Some(until), failures),
            Gate::Shut { why: Why::Failing, until, failures } => (State::Failing, Some(until), failures),
            Gate::Probing { failures, .. } => (State::Probing, None, failures),
        };
        let breaker = match standing.gate {
            Gate::Shut { why: Why::Failing, .. } => BreakerState::Open,
            Gate::Probing { why: Why::Failing, .. } => BreakerState::HalfOpen,
            _ => BreakerState::Closed,
        };
        Self {
            organization: Arc::clone(organization),
            state,
            breaker,
            until,
            failed_probes,
            failing_lanes: standing.failing_lanes,
            in_flight: standing.in_flight,
            concurrency_limit: standing.limit,
            held: standing.held,
            held_by_number: standing.held_by_number,
        }
    }
}

impl Overview {
    /// One that is not served.
    pub(super) fn unserved(organization: Arc<str>, state: State) -> Self {
        Self {
            organization,
            state,
            breaker: BreakerState::Closed,
            until: None,
            failed_probes: 0,
            failing_lanes: 0,
            in_flight: 0,
            concurrency_limit: 0,
            held: 0,
            held_by_number: 0,
        }
    }
}

/// What delivery may be asked for.
#[derive(Debug)]
pub(super) enum Command {
    Hold(Arc<str>, oneshot::Sender<bool>),
    Resume(Arc<str>, oneshot::Sender<bool>),
    Configure(Box<Configuration>, oneshot::Sender<bool>),
}

/// What a reload brings.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) config: Config,
    pub(super) organizations: Arc<Organizations>,
}

/// The side of delivery.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) overview: watch::Sender<Arc<[Overview]>>,
}

/// Commands that may wait to be heard.
const WAITING_COMMANDS: usize = 16;

pub(super) fn open(holds: Arc<Holds>) -> (Handle, Desk) {
    let (commands, heard) = mpsc::channel(WAITING_COMMANDS);
    let (shown, overview) = watch::channel(Arc::from([]));
    (Handle { commands, overview, holds, in_turn: Arc::default() }, Desk { commands: heard, overview: shown })
}

impl Handle {
    /// How every organization stands, as of a quarter of a second ago at most.
    pub fn overview(&self) -> Arc<[Overview]> {
        Arc::clone(&self.overview.borrow())
    }

    /// Who is held by an operator.
    pub fn held(&self) -> Arc<Held> {
        self.holds.all()
    }

    /// Holds an organization: what is in flight ends, nothing more starts until it is resumed, also after a restart. One
    /// that is not served (yet) is held as soon as it is. Returns when the hold is on disk and obeyed.
    ///
    /// # Errors
    /// When it cannot be written down; then nothing is held.
    pub async fn hold(&self, organization: &str, hold: Hold) -> Result<(), HoldsError> {
        let _turn = self.in_turn.lock().await;
        self.write_down(organization, Some(hold)).await?;
        self.ask(|reply| Command::Hold(Arc::from(organization), reply)).await;
        Ok(())
    }

    /// Takes over another configuration: who is served, how, and with which tokens. What is in flight ends as it began.
    /// Whose token or address has changed is tried at once. Of `config`, the keys of the HTTP client and
    /// `max_in_flight` have no effect. `false`: delivery has ended.
    pub async fn configure(&self, config: Config, organizations: Arc<Organizations>) -> bool {
        let configuration = Box::new(Configuration { config, organizations });
        self.ask(|reply| Command::Configure(configuration, reply)).await
    }

    /// Resumes an organization at once: after a hold, and a suspension and an open breaker are over too. A pause that
    /// Wigzo asked for goes on.
    ///
    /// # Errors
    /// When it cannot be written down; then it stays held.
    pub async fn resume(&self, organization: &str) -> Result<(), HoldsError> {
        let _turn = self.in_turn.lock().await;
        self.write_down(organization, None).await?;
        self.ask(|reply| Command::Resume(Arc::from(organization), reply)).await;
        Ok(())
    }

    async fn write_down(&self, organization: &str, hold: Option<Hold>) -> Result<(), HoldsError> {
        let (holds, organization) = (Arc::clone(&self.holds), organization.to_owned());
        let written = tokio::task::spawn_blocking(move || holds.set(&organization, hold)).await;
        written.expect("BUG: writing holds down neither panics nor is aborted")
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<bool>) -> Command) -> bool {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.is_ok() && answer.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_word_is_heard_and_answered() {
        let (handle, mut desk) = open(Arc::new(Holds::forgetful()));
        let hold = Hold { since: UnixMillis(7), by: "alice".to_owned(), why: None };
        let hear = async {
            let Some(Command::Hold(name, reply)) = desk.commands.recv().await else { panic!("a hold") };
            reply.send(&*name == "acme").unwrap();
            let Some(Command::Resume(name, reply)) = desk.commands.recv().await else { panic!("a resume") };
            reply.send(&*name == "acme").unwrap();
        };
        let ask = async {
            handle.hold("acme", hold.clone()).await.unwrap();
            assert_eq!(handle.held().get("acme"), Some(&hold));
            handle.resume("acme").await.unwrap();
        };
        tokio::join!(ask, hear);
        drop(desk);
        handle.hold("acme", hold.clone()).await.unwrap();
        assert_eq!(handle.held().get("acme"), Some(&hold), "delivery has ended; the next one will know");
    }

    #[test]
    fn every_gate_has_its_state_and_breaker() {
        let until = UnixMillis(7);
        let (refused, failing) = (Why::Refused, Why::Failing);
        for (gate, state, breaker) in [
            (Gate::Open, State::Open, BreakerState::Closed),
            (Gate::Held, State::Held, BreakerState::Closed),
            (Gate::Paused(until), State::Paused, BreakerState::Closed),
            (Gate::Shut { why: refused, until, failures: 2 }, State::Suspended, BreakerState::Closed),
            (Gate::Shut { why: failing, until, failures: 2 }, State::Failing, BreakerState::Open),
            (Gate::Probing { why: refused, failures: 2 }, State::Probing, BreakerState::Closed),
            (Gate::Probing { why: failing, failures: 2 }, State::Probing, BreakerState::HalfOpen),
        ] {
            let standing =
                Standing { gate, in_flight: 1, limit: 4, held: 2, held_by_number: 3, failing_lanes: 1 };
            let shown = Overview::new(&Arc::from("acme"), standing);
            assert_eq!((shown.state, shown.breaker), (state, breaker), "{gate:?}");
            let name = serde_json::to_value(state).unwrap();
            assert_eq!(name, state.as_str(), "the same word in metrics and answers");
        }
    }
}
