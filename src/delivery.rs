//! Delivery: from the queue to Wigzo. (Placeholder: only the configuration that others rely on.)

use crate::clock::Span;

/// How calls to Wigzo are made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Calls to Wigzo at one time, over all organizations; at least 1.
    pub max_in_flight: usize,
    /// When a failed call is tried again.
    pub retry: Retry,
}

/// When a failed call is tried again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Longest wait before the second attempt; each further wait may be twice as long.
    pub base: Span,
    /// Longest wait between two attempts.
    pub cap: Span,
    /// How long a call is tried before its event becomes a dead letter.
    pub horizon: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_in_flight: 256, retry: Retry::default() }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { base: Span::secs(1), cap: Span::secs(600), horizon: Span::secs(86_400) }
    }
}
