//! Events read as the ingress reads them, with its own limits and codes, and explained as delivery would translate them:
//! for the command `translate` and for `/api/translate`, neither of which knows both rooms.

use std::sync::Arc;

use crate::admin::Explain;
use crate::clock::Clock;
use crate::delivery;
use crate::ingress::{self, Way};
use crate::organization::Organization;
use crate::segment::{self, Arrival, Malformed, Request, Route, Shape, Surroundings};
use crate::translate::{self, Explanation, Ground};

/// Explains bodies by the limits of a public side, as if they arrived now.
#[derive(Debug, Clone)]
pub struct Explainer {
    /// The public side's configuration.
    pub config: ingress::Config,
    /// The time of arrival.
    pub clock: Clock,
}

impl Explainer {
    /// For the private side, which does not know the public one.
    pub fn hand_out(self) -> Explain {
        Explain(Arc::new(move |organization, path, body| {
            let way = match path {
                Some(path) => Some(Way::of_path(path)?),
                None => None,
            };
            Some(self.body(organization, way, body))
        }))
    }

    /// What becomes of a body that is posted by this way, by default a webhook's, and a batch's to `/v1/batch`: as a
    /// whole, or line by line if each line is JSON of its own.
    pub fn body(&self, organization: &Organization, way: Option<Way>, body: &[u8]) -> Vec<Explanation> {
        let whole = segment::decode(body, self.config.max_events);
        if matches!(whole, Err(Malformed::NotJson { .. })) && is_lines(body) {
            let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            let decoded = lines.map(|line| segment::decode(line, self.config.max_events));
            return decoded.flat_map(|line| self.decoded(organization, way, line)).collect();
        }
        self.decoded(organization, way, whole)
    }

    fn decoded(
        &self,
        organization: &Organization,
        way: Option<Way>,
        decoded: Result<Request<'_>, Malformed>,
    ) -> Vec<Explanation> {
        match decoded {
            Ok(request) => self.request(organization, way, &request),
            Err(malformed) => {
                let message = sentence(&malformed.to_string());
                vec![Explanation::refused(malformed.code(), message, "")]
            }
        }
    }

    fn request(
        &self,
        organization: &Organization,
        way: Option<Way>,
        request: &Request<'_>,
    ) -> Vec<Explanation> {
        let route = if request.shape == Shape::Batch { Route::Tracking } else { Route::Webhook };
        let way = way.unwrap_or(Way { route, kind: None });
        let surroundings = Surroundings { kind: way.kind, ..request.surroundings.clone() };
        let received_at = i64::try_from(self.clock.now().0).unwrap_or(i64::MAX);
        let ground = Ground {
            profile: &organization.profile,
            options: &organization.translation,
            address: &organization.address,
            arrival: Arrival { route: way.route, received_at },
            obeyed: delivery::obeyed(organization.obey_integrations, way.route),
        };
        let explained =
            request.items.iter().map(|item| match way.read(item.raw, &surroundings, &self.config) {
                Ok(event) => translate::explain_event(&event, &ground),
                Err(finding) => Explanation::refused(finding.code(), finding.message(), finding.pointer()),
            });
        explained.collect()
    }
}

/// Whether a body that is no JSON is lines of which the first is JSON by itself.
fn is_lines(body: &[u8]) -> bool {
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let first = lines.next().unwrap_or_default();
    lines.next().is_some() && serde_json::from_slice::<serde::de::IgnoredAny>(first).is_ok()
}

/// An error's words as a sentence, as in a reply.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_from_a_body_that_is_broken() {
        for (body, lines) in [
            ("{\"a\":1}\n{\"b\":2}\n", true),
            ("{\"a\":1}\n\nnot json", true),
            ("{\"a\":1}", false),
            ("{\n\"a\":1", false),
            ("", false),
        ] {
            assert_eq!(is_lines(body.as_bytes()), lines, "{body}");
        }
    }
}
