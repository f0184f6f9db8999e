//! How much of the queue partners may take: their tokens can be made up, and the events of a made-up one wait until they
//! expire.
//!
//! A partner whose calls Wigzo has taken is *proven* (it is remembered in memory, so after a restart it is found out
//! anew). Any partner may have so many events waiting; only proven ones may come when there are many others, or when the
//! disk is half full. So whoever makes up tokens is held back, and neither configured nor proven organizations notice.
//!
//! The counts are those of the last commit: requests that arrive together may each find room that only one of them has.

use std::ops::Bound;

use super::Config;
use super::reply::Refusal;
use crate::organization::{Organization, Organizations, Partner};
use crate::queue::{Queue, Stats};

/// Why a partner's events are not taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Held {
    /// Too many of its own events wait.
    #[error("too many events of this organization wait for delivery")]
    Events,
    /// Too many partners that are not proven have waiting events.
    #[error("too many organizations of which Wigzo has taken no call yet wait for delivery")]
    Partners,
    /// The disk is half full of waiting events and dead letters, and it is not proven.
    #[error("the disk has no room for an organization of which Wigzo has taken no call yet")]
    Disk,
}

/// Whether a partner may bring so many events; whoever is configured may.
pub(super) fn admit(
    organization: &Organization,
    events: usize,
    organizations: &Organizations,
    queue: &Queue,
    config: &Config,
) -> Result<(), Refusal> {
    if !organization.is_partner() {
        return Ok(());
    }
    let is_proven = |name: &str| organizations.is_proven_partner(name);
    let mut held = None;
    queue.look(&mut |stats| held = find(&organization.name, events as u64, stats, config, &is_proven));
    held.map_or(Ok(()), |held| Err(Refusal::Held(held)))
}

/// What holds this partner back, if anything does.
fn find(
    name: &str,
    events: u64,
    stats: &Stats,
    config: &Config,
    is_proven: &dyn Fn(&str) -> bool,
) -> Option<Held> {
    let waiting = stats.waiting.get(name).copied().unwrap_or_default();
    // A request that alone is larger than the limit must be taken some day.
    if waiting > 0 && waiting + events > config.partner_waiting_events {
        return Some(Held::Events);
    }
    if is_proven(name) {
        return None;
    }
    // A stranger leaves half of the disk to the others. Records of ended events give way to new ones and do not count.
    if stats.disk_bytes.saturating_sub(stats.history_bytes) >= stats.disk_limit / 2 {
        return Some(Held::Disk);
    }
    if waiting > 0 {
        return None;
    }
    let names = stats.waiting.range::<str, _>((Bound::Included(Partner::PREFIX), Bound::Unbounded));
    let partners = names.map(|(name, _)| &**name).take_while(|name| Partner::is_name(name));
    let unproven = partners.filter(|name| !is_proven(name)).count();
    (unproven >= config.unproven_partners).then_some(Held::Partners)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// who | brings | with so many bytes of 100 on disk, 20 of them history | what holds it back
    #[test]
    fn strangers_are_held_back_and_nobody_else() {
        let waiting = [
            ("acme", 1_000_000),
            ("partner.full", 10),
            ("partner.good", 4),
            ("partner.good-full", 10),
            ("partner.some", 4),
            ("zeta", 1),
        ];
        let mut stats = Stats {
            waiting: waiting.map(|(name, count)| (Arc::from(name), count)).into(),
            disk_limit: 100,
            history_bytes: 20,
            ..Stats::default()
        };
        let config = Config { partner_waiting_events: 10, unproven_partners: 2, ..Config::default() };
        let is_proven = |name: &str| name.starts_with("partner.good");
        for (name, events, disk, expected) in [
            ("partner.some", 6, 0, None),
            ("partner.some", 7, 0, Some(Held::Events)),
            ("partner.full", 1, 0, Some(Held::Events)),
            ("partner.good-full", 1, 0, Some(Held::Events)),
            ("partner.good", 6, 99, None),
            ("partner.good-new", 1, 99, None),
            ("partner.good-new", 5_000, 0, None),
            ("partner.some", 1, 69, None),
            ("partner.some", 1, 70, Some(Held::Disk)),
            ("partner.new", 1, 70, Some(Held::Disk)),
            ("partner.new", 1, 0, Some(Held::Partners)),
        ] {
            stats.disk_bytes = disk;
            assert_eq!(find(name, events, &stats, &config, &is_proven), expected, "{name} {events} {disk}");
        }
        stats.waiting.remove("partner.full");
        stats.disk_bytes = 0;
        assert_eq!(find("partner.new", 5_000, &stats, &config, &is_proven), None, "there is room again");
    }
}
