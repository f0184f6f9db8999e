//! How the configuration is followed.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::labels::ResultLabels;
use super::{Declared, Metrics, gauge};

/// Reloads. The start counts as a success, and as no reload.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    count: Family<ResultLabels, Counter>,
    successful: Gauge,
    success_at: Gauge,
}

impl Reloads {
    pub(super) fn register(&self, registry: &mut Declared) {
        self.successful.set(1);
        registry.register(
            "config_reloads",
            "Reloads of the configuration, by what came of them",
            self.count.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "1 if the configuration that was read last is in force, 0 if it was refused",
            self.successful.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "When the configuration in force was taken over, in seconds since 1970",
            Unit::Seconds,
            self.success_at.clone(),
        );
    }
}

impl Metrics {
    /// Notes when the configuration in force was taken over, in seconds since 1970.
    pub fn in_force_since(&self, seconds: u64) {
        self.reloads.success_at.set(gauge(seconds));
    }

    /// Counts a reload: taken over at this time, or refused.
    pub fn reloaded(&self, taken_over: Option<u64>) {
        let result = if taken_over.is_some() { "applied" } else { "refused" };
        self.reloads.count.get_or_create(&ResultLabels { result }).inc();
        self.reloads.successful.set(i64::from(taken_over.is_some()));
        if let Some(seconds) = taken_over {
            self.in_force_since(seconds);
        }
    }
}
