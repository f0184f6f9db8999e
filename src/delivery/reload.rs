//! What a reload means for a running delivery.
//!
//! Invariants:
//! * What is in flight ends with the configuration it began with.
//! * Nothing waits for it: neither the queue nor an organization that fails.
//! * Whoever is not served loses nothing: its events wait in the queue, and are read from there when it is served again.

use std::mem;
use std::sync::Arc;

use super::attempt::Workshop;
use super::handle::{Configuration, Overview, State};
use super::{Delivery, limits, serve, share_of, share_of_partners};
use crate::organization::Partner;

impl Delivery {
    /// Takes another configuration over.
    pub(super) fn configure(&mut self, Configuration { config, organizations }: Configuration) {
        let before = mem::replace(&mut self.organizations, Arc::clone(&organizations));
        let workshop = Workshop::clone(&self.workshop);
        let workshop_retry = workshop.config.retry;
        // The client has been built with the one that the start has set.
        let max_in_flight = workshop.config.max_in_flight;
        self.workshop = Arc::new(Workshop { config, organizations: Arc::clone(&organizations), ..workshop });
        // Waits that were drawn by another schedule would outlast it.
        let is_rescheduled = self.workshop.config.retry != workshop_retry;
        let limits = limits(&self.workshop.config);
        self.scheduler.set_limits(super::Limits { in_flight: max_in_flight, ..limits });
        let now = self.clock.now();
        for organization in organizations.iter() {
            let name = organization.name.as_str();
            let known = before.by_name(name).filter(|known| !known.disabled);
            let share = share_of(organization);
            match (known, organization.disabled) {
                (None, false) => {
                    let name = Arc::from(name);
                    serve(&mut self.scheduler, &self.holds, &name, share, now);
                    self.hasten(&name);
                }
                (None, true) => {}
                (Some(_), true) => self.scheduler.dismiss(name),
                (Some(known), false) => {
                    if share != share_of(known) {
                        self.scheduler.serve(&Arc::from(name), share, now);
                    }
                    if organization.address != known.address {
                        self.scheduler.correct(name, now);
                        self.hasten(&Arc::from(name));
                    } else if is_rescheduled {
                        self.scheduler.retry_now(name, None, false, now);
                        self.hasten(&Arc::from(name));
                    }
                }
            }
        }
        for gone in before.iter().filter(|known| organizations.by_name(&known.name).is_none()) {
            self.scheduler.dismiss(&gone.name);
        }
        let share = share_of_partners(&organizations);
        if share != share_of_partners(&before) {
            for partner in &self.partners {
                self.scheduler.serve(partner, share, now);
            }
        }
        self.look_for_unconfigured();
    }

    /// Whether somebody is responsible for this name's events.
    pub(super) fn is_configured(&self, name: &str) -> bool {
        Partner::is_name(name) || self.organizations.by_name(name).is_some()
    }

    /// Finds the names whose events wait although they are not configured, and warns of those that were not known yet.
    pub(super) fn look_for_unconfigured(&mut self) {
        let mut found = Vec::new();
        self.queue.look(&mut |stats| {
            let waiting = stats.waiting.iter().filter(|(name, _)| !self.is_configured(name));
            found.extend(waiting.map(|(name, count)| (Arc::clone(name), *count)));
        });
        for (organization, waiting) in &found {
            if !self.unconfigured.contains(organization) {
                tracing::warn!(
                    %organization,
                    waiting,
                    "events wait for an organization that is not configured; they are delivered once it is"
                );
            }
        }
        self.unconfigured = found.into_iter().map(|(name, _)| name).collect();
        self.is_changed = true;
    }

    /// Those who are not served although something may wait for them.
    pub(super) fn unserved(&self) -> impl Iterator<Item = Overview> {
        let disabled = self.organizations.iter().filter(|it| it.disabled);
        let disabled = disabled.map(|it| Overview::unserved(Arc::from(it.name.as_str()), State::Disabled));
        let unconfigured = self.unconfigured.iter();
        disabled.chain(unconfigured.map(|name| Overview::unserved(Arc::clone(name), State::Unconfigured)))
    }
}
