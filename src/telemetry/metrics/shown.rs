//! What stands elsewhere and is only shown by metrics: gauges by organization, for a bounded number of them.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{EndpointLabels, OrganizationLabels, OrganizationStateLabels, StateLabels, TermLabels};
use super::{Metrics, OTHERS, gauge};

/// How an organization's delivery stands, as metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationState<'a> {
    /// The organization.
    pub organization: &'a str,
    /// What it may do: one of a closed list.
    pub state: &'static str,
    /// Whether that is as it should be.
    pub is_well: bool,
    /// How many of its endpoints are not active.
    pub stopped_endpoints: usize,
    /// Events in flight.
    pub in_flight: usize,
    /// How many may be.
    pub concurrency_limit: usize,
    /// Its endpoints that are used, with their status: one of a closed list.
    pub endpoints: Vec<(&'static str, &'static str)>,
}

/// What is not as it should be.
#[derive(Debug, Default)]
pub(super) struct Stopped {
    organizations: AtomicUsize,
    endpoints: AtomicUsize,
}

impl Metrics {
    /// How many organizations are not as they should be, and how many endpoints are not active. Partners are not counted:
    /// anybody can make up as many as there are tokens.
    pub fn stopped(&self) -> (usize, usize) {
        let Stopped { organizations, endpoints } = &self.stopped;
        (organizations.load(Ordering::Relaxed), endpoints.load(Ordering::Relaxed))
    }

    /// Shows the conservation count. All terms must belong to the same moment.
    pub fn show_ledger(&self, terms: [(&'static str, u64); 6]) {
        for (term, count) in terms {
            self.ledger.get_or_create(&TermLabels { term }).set(gauge(count));
        }
    }

    /// Shows the waiting events of the organizations with the most of them.
    pub fn show_waiting<'a>(&self, counts: impl Iterator<Item = (&'a str, u64)>) {
        show(&self.waiting, self.most, counts, |rest| rest.sum());
    }

    /// The same of parked events.
    pub fn show_parked<'a>(&self, counts: impl Iterator<Item = (&'a str, u64)>) {
        show(&self.parked, self.most, counts, |rest| rest.sum());
    }

    /// The same of dead letters.
    pub fn show_dead_letters<'a>(&self, counts: impl Iterator<Item = (&'a str, u64)>) {
        show(&self.dead_letters, self.most, counts, |rest| rest.sum());
    }

    /// Shows for how many seconds the oldest waiting event of each organization has been waiting: those who wait
    /// longest by name, of the rest the longest.
    pub fn show_oldest<'a>(&self, seconds: impl Iterator<Item = (&'a str, u64)>) {
        show(&self.oldest, self.most, seconds, |rest| rest.max().unwrap_or_default());
    }

    /// Shows how many users of each organization are blocked: those of the organizations with the most of them.
    pub fn show_blocked_lanes<'a>(&self, counts: impl Iterator<Item = (&'a str, u64)>) {
        show(&self.blocked_lanes, self.most, counts, |rest| rest.sum());
    }

    /// Shows for how many seconds the first of them has been blocked, as [`Metrics::show_oldest`].
    pub fn show_oldest_blocked<'a>(&self, seconds: impl Iterator<Item = (&'a str, u64)>) {
        show(&self.oldest_blocked, self.most, seconds, |rest| rest.max().unwrap_or_default());
    }

    /// Shows how many of the queue's commits carried how many commands, see [`GROUPS`](super::GROUPS).
    pub fn show_groups(&self, counts: [u64; super::GROUPS], commands: u64) {
        self.groups.show(counts, commands);
    }

    /// Shows how delivery stands: how many organizations are in each of `states`, and by name those that are not well,
    /// then the busiest. An endpoint is in one of `statuses`.
    pub fn show_organizations<'a>(
        &self,
        states: impl Iterator<Item = &'static str>,
        statuses: &(impl Iterator<Item = &'static str> + Clone),
        organizations: impl Iterator<Item = OrganizationState<'a>>,
    ) {
        let mut organizations: Vec<_> = organizations.collect();
        for state in states {
            let count = organizations.iter().filter(|it| it.state == state).count();
            self.organizations.get_or_create(&StateLabels { state }).set(gauge(count as u64));
        }
        let stopped = organizations.iter().filter(|it| !it.is_well).count();
        self.stopped.organizations.store(stopped, Ordering::Relaxed);
        let stopped = organizations.iter().map(|it| it.stopped_endpoints).sum();
        self.stopped.endpoints.store(stopped, Ordering::Relaxed);
        if self.most < organizations.len() {
            organizations.select_nth_unstable_by_key(self.most, |it| {
                (it.is_well && it.stopped_endpoints == 0, Reverse(it.in_flight))
            });
        }
        self.organization_state.clear();
        self.concurrency_limit.clear();
        self.endpoint_status.clear();
        for it in organizations.iter().take(self.most) {
            let organization = it.organization.to_owned();
            let labels = OrganizationStateLabels { organization: organization.clone(), state: it.state };
            self.organization_state.get_or_create(&labels).set(1);
            for (&(endpoint, current), status) in
                it.endpoints.iter().flat_map(|it| statuses.clone().map(move |status| (it, status)))
            {
                let labels = EndpointLabels { organization: organization.clone(), endpoint, status };
                self.endpoint_status.get_or_create(&labels).set(i64::from(status == current));
            }
            let labels = OrganizationLabels { organization };
            self.concurrency_limit.get_or_create(&labels).set(gauge(it.concurrency_limit as u64));
        }
    }
}

/// Shows the `most` largest values by name, and what `together` makes of the rest.
fn show<'a>(
    family: &Family<OrganizationLabels, Gauge>,
    most: usize,
    values: impl Iterator<Item = (&'a str, u64)>,
    together: impl Fn(&mut dyn Iterator<Item = u64>) -> u64,
) {
    let mut values: Vec<(&str, u64)> = values.collect();
    let mut rest = Vec::new();
    if most < values.len() {
        values.select_nth_unstable_by_key(most, |&(name, value)| (Reverse(value), name));
        rest = values.split_off(most);
    }
    values.push((OTHERS, together(&mut rest.iter().map(|&(_, value)| value))));
    family.clear();
    for (organization, value) in values {
        let labels = OrganizationLabels { organization: organization.to_owned() };
        family.get_or_create(&labels).set(gauge(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_shown_by_name_and_the_rest_together() {
        let family = Family::<OrganizationLabels, Gauge>::default();
        let shown = |name: &str| {
            family.get(&OrganizationLabels { organization: name.to_owned() }).map(|gauge| gauge.get())
        };
        let values = [("a", 3), ("b", 9), ("c", 1), ("d", 9), ("e", 2)];
        show(&family, 2, values.into_iter(), |rest| rest.sum());
        assert_eq!(
            ["a", "b", "c", "d", "e", OTHERS].map(shown),
            [None, Some(9), None, Some(9), None, Some(6)]
        );
        show(&family, 2, values.into_iter(), |rest| rest.max().unwrap_or_default());
        assert_eq!(shown(OTHERS), Some(3));
        show(&family, 5, values.into_iter(), |rest| rest.sum());
        assert_eq!(["a", "c", OTHERS].map(shown), [Some(3), Some(1), Some(0)]);
    }

    #[test]
    fn every_status_of_an_endpoint_has_a_series_while_its_organization_is_shown() {
        let metrics = Metrics::new(1);
        let of = |organization, stopped_endpoints, endpoints| OrganizationState {
            organization,
            state: "open",
            is_well: true,
            stopped_endpoints,
            in_flight: 0,
            concurrency_limit: 4,
            endpoints,
        };
        let show = |organizations: Vec<OrganizationState<'_>>| {
            let statuses = ["active", "tripped"].into_iter();
            metrics.show_organizations(["open"].into_iter(), &statuses, organizations.into_iter());
        };
        let shown = |organization: &str, endpoint, status| {
            let labels = EndpointLabels { organization: organization.to_owned(), endpoint, status };
            metrics.endpoint_status.get(&labels).map(|gauge| gauge.get())
        };
        let one_tripped = vec![("identify", "tripped"), ("event", "active")];
        show(vec![of("well", 0, vec![("event", "active")]), of("acme", 1, one_tripped)]);
        assert_eq!(metrics.stopped(), (0, 1));
        assert_eq!(["active", "tripped"].map(|status| shown("acme", "identify", status)), [Some(0), Some(1)]);
        assert_eq!(shown("acme", "event", "active"), Some(1));
        assert_eq!(shown("acme", "product", "active"), None, "it is not used");
        assert_eq!(shown("well", "event", "active"), None, "there is room for one name only");
        show(vec![of("well", 0, vec![("event", "active")])]);
        assert_eq!(metrics.stopped(), (0, 0));
        assert_eq!(shown("well", "event", "active"), Some(1));
        assert_eq!(shown("acme", "identify", "tripped"), None, "the organization has gone");
    }
}
