//! Which spans are recorded: those whose parent is; without a parent, those whose request is; without either, a part.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// Parent-based, with a link in the parent's place where there is no parent.
#[derive(Debug, Clone)]
pub(super) struct Inherited {
    others: Sampler,
}

impl Inherited {
    /// Of what inherits nothing, this part is recorded, from 0 to 1.
    pub(super) fn or_part(part: f64) -> Self {
        Self { others: Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(part))) }
    }
}

impl ShouldSample for Inherited {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let has_parent = parent.is_some_and(|parent| parent.span().span_context().is_valid());
        match links.first() {
            Some(link) if !has_parent => SamplingResult {
                decision: if link.span_context.is_sampled() {
                    SamplingDecision::RecordAndSample
                } else {
                    SamplingDecision::Drop
                },
                attributes: Vec::new(),
                trace_state: link.span_context.trace_state().clone(),
            },
            _ => self.others.should_sample(parent, trace_id, name, kind, attributes, links),
        }
    }
}
