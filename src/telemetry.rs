//! What the service says about itself: logs, metrics and traces.
//!
//! Every metric is declared here once, with its unit and meaning; label sets are closed or bounded. Neither logs nor
//! metrics nor traces ever hold a token, a secret or anything about a person: events are named by their number.
//!
//! The list of declarations is `docs/metrics.md`: `UPDATE_GOLDEN=1 cargo test --test ops metrics` prints it anew.

mod declaration;
mod exposition;
mod logs;
mod metrics;
mod organizations;
mod process;
mod refused_requests;
mod repeats;
pub mod traces;

/// Tells something at the first level, or at the second one if it was told of late ([`Logging::repeats`]).
macro_rules! tell {
    ($first:ident or $again:ident if $is_repeated:expr; $($line:tt)+) => {
        if $is_repeated { tracing::$again!($($line)+) } else { tracing::$first!($($line)+) }
    };
}
pub(crate) use tell;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Span;
pub use declaration::{Declaration, Kind, LABELS};
pub use exposition::Format;
pub use logs::{BadFilter, LogFormat, Logging};
pub use metrics::{GROUPS, Metrics, OTHERS, OrganizationState, PARTNERS, gauge};
pub use refused_requests::{AuthenticationFailure, Fingerprint, Refused, RefusedRequest, RefusedRequests};
pub use traces::{BadEndpoint, CallTold, Origin, Request, Round, RoundTold, SpanCounts, TraceId, Traces};

/// `[telemetry]`: logs, metrics, traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Form of the log lines: `pretty` for people, `json` for machines, `auto` is pretty on a terminal.
    pub log_format: LogFormat,
    /// Which lines are logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels per target (`info,hyper=warn`).
    /// The target `audit` tells every change over the private side, at any level unless it is named (`warn,audit=off`).
    /// `/api/log-level` on the private side changes it while the service runs.
    pub log: String,
    /// What happens over and over (an organization's events are retried for the same reason, requests are refused with the
    /// same code) is told once, and after this time how often. Every single one is still told at a finer level.
    pub log_summary: Span,
    /// How many organizations metrics show by name, at most; the rest together are `_other`. Each costs about 20 series.
    #[schemars(range(min = 1, max = 10_000))]
    pub metric_organizations: usize,
    /// Spans for an OpenTelemetry collector.
    pub traces: traces::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log: "info".to_owned(),
            log_summary: Span::secs(30),
            metric_organizations: 20,
            traces: traces::Config::default(),
        }
    }
}
