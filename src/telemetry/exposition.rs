//! The two text formats of metrics, and which of them somebody wants: `OpenMetrics`, which has exemplars, and the older
//! one of Prometheus, which everything reads.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::declaration::{Declaration, Kind};

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus 0.0.4.
    Plain,
}

const OPEN_METRICS: &str = "application/openmetrics-text";
const PLAIN: &str = "text/plain";

impl Format {
    /// The format that an `Accept` header prefers. Who does not name `OpenMetrics` gets the older one.
    pub fn of_accept(accept: &str) -> Self {
        let quality = |range: &str, wanted: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            if is_it { quality } else { 0.0 }
        };
        let best = |wanted| accept.split(',').map(|range| quality(range, wanted)).fold(0.0_f32, f32::max);
        let open = best(OPEN_METRICS);
        if open > 0.0 && open >= best(PLAIN) { Self::OpenMetrics } else { Self::Plain }
    }

    /// What stands in `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// `OpenMetrics` in the older form: there the suffix of a counter is part of its name, what only says something is a
/// gauge, and there are neither units nor exemplars.
pub(super) fn plain<'a>(open: &str, declarations: impl Iterator<Item = &'a Declaration>) -> String {
    let kinds: HashMap<&str, Kind> = declarations.map(|it| (it.name.as_str(), it.kind)).collect();
    let mut plain = String::with_capacity(open.len());
    for line in open.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let written = match heading(line).map(|(word, name, rest)| (word, name, rest, kinds.get(name))) {
            Some((word, name, rest, Some(Kind::Counter))) => {
                writeln!(plain, "# {word} {name}_total {rest}")
            }
            Some(("TYPE", name, _, Some(Kind::Info))) => writeln!(plain, "# TYPE {name}_info gauge"),
            Some((word, name, rest, Some(Kind::Info))) => writeln!(plain, "# {word} {name}_info {rest}"),
            Some(_) => writeln!(plain, "{line}"),
            // Only buckets have exemplars, and their labels are numbers.
            None => writeln!(plain, "{}", line.split_once(" # {").map_or(line, |(series, _)| series)),
        };
        written.expect("BUG: writing to a String cannot fail");
    }
    plain
}

/// The parts of `# WORD name rest`.
fn heading(line: &str) -> Option<(&str, &str, &str)> {
    let (word, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    Some((word, name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        // What Prometheus 3, Prometheus 2, VictoriaMetrics, curl and a browser send.
        for (accept, expected) in [
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("text/plain;version=0.0.4;q=1,*/*;q=0.1", Format::Plain),
            ("*/*", Format::Plain),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Plain),
            ("", Format::Plain),
            ("application/openmetrics-text;q=0", Format::Plain),
            ("text/plain, application/openmetrics-text;q=0.9", Format::Plain),
            ("Application/OpenMetrics-Text", Format::OpenMetrics),
        ] {
            assert_eq!(Format::of_accept(accept), expected, "{accept}");
        }
    }

    #[test]
    fn the_older_form_has_its_own_names_and_no_exemplars() {
        let declared = |name: &str, kind| Declaration {
            name: name.to_owned(),
            kind,
            unit: None,
            labels: Vec::new(),
            meaning: "Something",
        };
        let declarations =
            [declared("a", Kind::Counter), declared("b", Kind::Info), declared("c_seconds", Kind::Histogram)];
        let open = "# HELP a Words # {here}.\n# TYPE a counter\na_total{organization=\"x\"} 1\n\
            # HELP b Words.\n# TYPE b info\nb_info{version=\"1\"} 1\n\
            # HELP c_seconds Words.\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\n\
            c_seconds_sum 0.1\nc_seconds_bucket{le=\"1.0\"} 1 # {trace_id=\"0af7\"} 0.1\n# EOF\n";
        let expected = "# HELP a_total Words # {here}.\n# TYPE a_total counter\na_total{organization=\"x\"} 1\n\
            # HELP b_info Words.\n# TYPE b_info gauge\nb_info{version=\"1\"} 1\n\
            # HELP c_seconds Words.\n# TYPE c_seconds histogram\n\
            c_seconds_sum 0.1\nc_seconds_bucket{le=\"1.0\"} 1\n";
        assert_eq!(plain(open, declarations.iter()), expected);
    }
}
