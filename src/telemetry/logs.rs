//! Log lines to standard error: their form, which of them there are, and how they get out.
//!
//! Which lines there are can be changed while the service runs. Lines are handed to a thread of their own (`writer`), so
//! that nobody who tells something waits for whoever reads.

mod json;
mod writer;

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use super::Config;
use super::repeats::{Repeat, Repeats, Summary};
use json::Json;
use writer::Writer;

/// Form of the log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// What a filter of log lines should have looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a level or levels per target, such as \"info\" or \"info,hyper=warn\"")]
pub struct BadFilter;

impl Config {
    /// Which lines are logged, read.
    ///
    /// # Errors
    /// When `log` is not a filter.
    pub fn filter(&self) -> Result<EnvFilter, BadFilter> {
        read(&self.log)
    }
}

/// What the operator says, and always the audit lines, unless they are named.
fn read(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::try_new(format!("audit=info,{filter}")).map_err(|_| BadFilter)
}

/// The process's log. There is one, whoever asks: the libraries that tell something know no other.
#[derive(Debug, Clone, Copy)]
pub struct Logging(());

/// What the process's log is made of, once it has been started.
#[derive(Debug)]
struct Started {
    filter: reload::Handle<EnvFilter, Registry>,
    /// The filter as it was written: read, it is printed in another order.
    written: Mutex<String>,
    writer: Writer,
    repeats: Repeats,
}

/// Tells what has happened again, when it is due.
fn tell_repeats(now: Instant) {
    let due = STARTED.get().map(|it| it.repeats.due(now)).unwrap_or_default();
    for Summary { what, who, why, times } in due {
        let organization = (!who.is_empty()).then_some(&*who);
        let reason = (!why.is_empty()).then_some(why);
        tracing::warn!(what, organization, reason, times, "again and again since it was last told");
    }
}

static STARTED: OnceLock<Started> = OnceLock::new();

/// How long the last lines may take to get out when the process ends: whoever reads them may be stuck.
const LAST_LINES: Duration = Duration::from_secs(1);

impl Logging {
    /// Starts logging to standard error. Safe to call twice: the first call stands.
    ///
    /// # Errors
    /// When `log` is not a filter.
    pub fn start(config: &Config) -> Result<Self, BadFilter> {
        let filter = config.filter()?;
        STARTED.get_or_init(|| {
            let (filter, handle) = reload::Layer::new(filter);
            let writer = Writer::start(std::io::stderr(), tell_repeats);
            let terminal = std::io::stderr().is_terminal();
            let json = match config.log_format {
                LogFormat::Auto => !terminal,
                LogFormat::Json => true,
                LogFormat::Pretty => false,
            };
            let lines = fmt::layer().with_writer(writer.clone());
            let lines = if json {
                lines.event_format(Json).boxed()
            } else if terminal {
                // In colours, unless NO_COLOR is set.
                lines.with_target(false).boxed()
            } else {
                lines.with_target(false).with_ansi(false).boxed()
            };
            // Whoever has a subscriber already (a test) keeps it.
            let _theirs = tracing_subscriber::registry().with(filter).with(lines).try_init();
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // What was told before the panic comes before it.
                Self::flush();
                hook(panic);
            }));
            Started {
                filter: handle,
                written: Mutex::new(config.log.clone()),
                writer,
                repeats: Repeats::new(config.log_summary.0),
            }
        });
        Ok(Self(()))
    }

    /// The log that has been started, if one has.
    pub fn current() -> Option<Self> {
        STARTED.get().map(|_| Self(()))
    }

    /// Which lines are logged now.
    pub fn filter(self) -> String {
        let written =
            STARTED.get().map(|it| it.written.lock().unwrap_or_else(PoisonError::into_inner).clone());
        written.unwrap_or_default()
    }

    /// Changes which lines are logged, until the process ends.
    ///
    /// # Errors
    /// When `filter` is none.
    pub fn set_filter(self, filter: &str) -> Result<(), BadFilter> {
        let read = read(filter)?;
        if let Some(it) = STARTED.get() {
            // Both or none, whoever else changes it.
            let mut written = it.written.lock().unwrap_or_else(PoisonError::into_inner);
            it.filter.reload(read).map_err(|_| BadFilter)?;
            filter.clone_into(&mut written);
        }
        Ok(())
    }

    /// Lines that got lost since the start, because whoever reads them was too slow.
    pub fn lost(self) -> u64 {
        STARTED.get().map_or(0, |it| it.writer.lost())
    }

    /// Counts something that may happen over and over: what, to whom, and why. Whether it is the first of its kind; if
    /// it is not, how many there were is told later, in one line.
    pub fn repeats(what: &'static str, who: &str, why: &'static str) -> bool {
        Self::repeats_times(what, who, why, 1)
    }

    /// The same of something that has happened `times` times at once.
    pub fn repeats_times(what: &'static str, who: &str, why: &'static str, times: u64) -> bool {
        let is_again = |it: &Started| it.repeats.note(what, who, why, times, Instant::now()) == Repeat::Again;
        STARTED.get().is_some_and(is_again)
    }

    /// Waits until everything that was told is written, for a moment at most. Before the process ends.
    pub fn flush() {
        if let Some(it) = STARTED.get() {
            it.writer.flush(LAST_LINES);
        }
    }
}
