//! The list of metrics that comes with registering them: whoever registers one has declared it, with its unit, labels
//! and meaning. `docs/metrics.md` is printed from this list, and alerts and dashboards are checked against it.

use std::fmt::Debug;
use std::hash::Hash;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry, Unit};

/// What every label stands for, and which values it may have.
pub const LABELS: &[(&str, &str)] = &[
    ("code", "the rule or the warning, as in replies"),
    ("endpoint", "Wigzo's: `identify`, `event`, `product` or `shipment`"),
    ("le", "of a histogram's buckets: the upper bound"),
    (
        "organization",
        "of gauges: those with the highest values, of counters: the most active, `telemetry.metric_organizations` of them \
         at most; `_other` is the rest together, `_partners` all partners",
    ),
    ("outcome", "`delivered`, `filtered`, `expired` or `dead`"),
    (
        "reason",
        "of an outcome or a retry: why, as in the README; of a request: what was wrong with its credentials",
    ),
    (
        "result",
        "of a try: `delivered`, or the reason for which it failed; of a reload: `applied` or `refused`",
    ),
    ("route", "the family of routes: `webhook`, `v1`, …"),
    (
        "state",
        "what delivery may do: `open`, `held`, `paused`, `suspended`, `failing`, `probing`, `disabled`, or \
         `unconfigured` (events wait for a name that is not configured)",
    ),
    (
        "status",
        "of a request: the HTTP status of the reply; of an endpoint: `active`, `throttled`, `suspended`, `tripped` or `probing`",
    ),
    ("term", "`accepted`, `delivered`, `filtered`, `expired`, `dead` or `waiting`"),
    ("version", "the version of the program"),
];

/// One family of series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// The full name without the suffix of its type.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What is measured, if it is not a number of things: `seconds`, `bytes`.
    pub unit: Option<String>,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What it means, in a line.
    pub meaning: &'static str,
}

/// The types of metrics that we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, and starts at nothing with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by their size.
    Histogram,
    /// Always 1: its labels are what it says.
    Info,
}

impl Kind {
    /// Its word in the text formats.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    /// The suffixes that its series have.
    const fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["_total"],
            Self::Gauge => &[""],
            Self::Histogram => &["_bucket", "_count", "_sum"],
            Self::Info => &["_info"],
        }
    }
}

impl Declaration {
    /// The names by which its series are asked for.
    pub fn series(&self) -> impl Iterator<Item = String> {
        self.kind.suffixes().iter().map(|suffix| format!("{}{suffix}", self.name))
    }
}

/// A registry that keeps the list of what was registered.
#[derive(Debug)]
pub(super) struct Declared {
    prefix: &'static str,
    pub(super) registry: Registry,
    pub(super) declarations: Vec<Declaration>,
}

impl Declared {
    /// A registry whose metrics' names begin with `prefix_`.
    pub(super) fn with_prefix(prefix: &'static str) -> Self {
        Self { prefix, registry: Registry::with_prefix(prefix), declarations: Vec::new() }
    }

    /// Declares a metric that counts things.
    pub(super) fn register<M: Metric + TypedMetric + Labelled>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        metric: M,
    ) {
        self.declare::<M>(name, meaning, None);
        self.registry.register(name, meaning, metric);
    }

    /// Declares a metric that measures in a unit; the unit becomes part of the name.
    pub(super) fn register_with_unit<M: Metric + TypedMetric + Labelled>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        unit: Unit,
        metric: M,
    ) {
        self.declare::<M>(name, meaning, Some(unit.as_str().to_owned()));
        self.registry.register_with_unit(name, meaning, unit, metric);
    }

    fn declare<M: TypedMetric + Labelled>(
        &mut self,
        name: &'static str,
        meaning: &'static str,
        unit: Option<String>,
    ) {
        let kind = match M::TYPE {
            MetricType::Counter => Kind::Counter,
            MetricType::Histogram => Kind::Histogram,
            MetricType::Info => Kind::Info,
            MetricType::Gauge | MetricType::Unknown => Kind::Gauge,
        };
        let unit_suffix = unit.as_ref().map(|unit| format!("_{unit}")).unwrap_or_default();
        let name = format!("{}_{name}{unit_suffix}", self.prefix);
        let mut labels = M::labels();
        if kind == Kind::Histogram {
            labels.push("le".to_owned());
        }
        self.declarations.push(Declaration { name, kind, unit, labels, meaning });
    }
}

/// A metric that knows the names of its labels.
pub(super) trait Labelled {
    fn labels() -> Vec<String>;
}

impl<N, A> Labelled for Counter<N, A> {
    fn labels() -> Vec<String> {
        Vec::new()
    }
}

impl<N, A> Labelled for Gauge<N, A> {
    fn labels() -> Vec<String> {
        Vec::new()
    }
}

impl Labelled for Histogram {
    fn labels() -> Vec<String> {
        Vec::new()
    }
}

impl<S> Labelled for HistogramWithExemplars<S> {
    fn labels() -> Vec<String> {
        Vec::new()
    }
}

impl<S: Names, M, C> Labelled for Family<S, M, C> {
    fn labels() -> Vec<String> {
        names::<S>()
    }
}

impl<S: Names> Labelled for Info<S> {
    fn labels() -> Vec<String> {
        names::<S>()
    }
}

/// What a set of labels must be for its names to be read.
pub(super) trait Names:
    EncodeLabelSet + Default + Clone + Eq + Hash + Debug + Send + Sync + 'static
{
}
impl<S: EncodeLabelSet + Default + Clone + Eq + Hash + Debug + Send + Sync + 'static> Names for S {}

/// The names of a set of labels. Nothing but its printed form has them, so one is printed.
fn names<S: Names>() -> Vec<String> {
    let mut registry = Registry::default();
    registry.register("names", "", Info::new(S::default()));
    let mut printed = String::new();
    text::encode_registry(&mut printed, &registry).expect("BUG: writing to a String cannot fail");
    let labels = printed
        .lines()
        .find_map(|line| line.strip_prefix("names_info{")?.split_once('}'))
        .map_or("", |(labels, _)| labels);
    // Default values have no comma and no quote in them.
    labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
    struct Two {
        first: &'static str,
        second: u16,
    }

    #[test]
    fn a_registered_metric_is_declared_as_it_is_printed() {
        let mut declared = Declared::with_prefix("house");
        let counter = Family::<Two, Counter>::default();
        counter.get_or_create(&Two { first: "a", second: 2 }).inc();
        declared.register("knocks", "Knocks at the door", counter);
        declared.register_with_unit("ring", "How long it rang", Unit::Seconds, Histogram::new([1.0]));
        declared.register_with_unit("attic", "Room under the roof", Unit::Bytes, Gauge::<i64>::default());
        let mut printed = String::new();
        text::encode_registry(&mut printed, &declared.registry).unwrap();
        let rows: Vec<_> = declared
            .declarations
            .iter()
            .map(|it| (it.series().collect::<Vec<_>>().join(" "), it.unit.as_deref(), it.labels.join(" ")))
            .collect();
        assert_eq!(
            rows,
            [
                ("house_knocks_total".to_owned(), None, "first second".to_owned()),
                (
                    "house_ring_seconds_bucket house_ring_seconds_count house_ring_seconds_sum".to_owned(),
                    Some("seconds"),
                    "le".to_owned()
                ),
                ("house_attic_bytes".to_owned(), Some("bytes"), String::new()),
            ]
        );
        for declaration in &declared.declarations {
            let head = format!("# TYPE {} {}\n", declaration.name, declaration.kind.as_str());
            assert!(printed.contains(&head), "{head}{printed}");
            for series in declaration.series() {
                assert!(printed.contains(&format!("\n{series}")), "{series}\n{printed}");
            }
        }
    }
}
