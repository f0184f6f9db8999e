//! How many commands the queue's commits carry, as a histogram whose counts are kept elsewhere.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::telemetry::declaration::Labelled;

/// Sizes of groups that are told apart: up to 1, 2, 4, …, 1 024 commands, and more.
pub const GROUPS: usize = 12;

#[derive(Debug, Clone, Default)]
pub(super) struct Groups(Arc<Mutex<([u64; GROUPS], u64)>>);

impl Groups {
    /// Shows so many groups of each size, and so many commands in all of them.
    pub(super) fn show(&self, counts: [u64; GROUPS], commands: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (counts, commands);
    }
}

impl EncodeMetric for Groups {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (counts, commands) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let powers = (0_u32..).take(GROUPS - 1);
        let bounds = powers.map(|power| f64::from(1_u32 << power)).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 commands")]
        let sum = commands as f64;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for Groups {
    const TYPE: MetricType = MetricType::Histogram;
}

impl Labelled for Groups {
    fn labels() -> Vec<String> {
        Vec::new()
    }
}
