//! Requests that cannot be authenticated, by the peer that sent them: a guesser is slowed down, and does not flood the
//! log.
//!
//! Invariants:
//! * Only failures count. A request with good credentials is never looked at here, because many senders may share one
//!   address behind a load balancer: all that ever happens is that a 401 becomes a 429.
//! * Memory is bounded, whoever comes: past [`MAX_PEERS`], new peers share one bucket.
//! * Time is an argument. A peer that has not failed for a minute is forgotten with the next failure of another.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::UnixMillis;
use crate::telemetry::AuthenticationFailure;

/// The peer of a connection, as the accept loop saw it. A load balancer hides the senders behind its own address;
/// headers that name another are not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl Peer {
    /// The peer at this address. Of IPv6 the first 64 bits count: whoever has one such address has all the others.
    pub(super) fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from_bits(network)))
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

/// All peers for which there is no room of their own, and those that nothing is known of.
const OTHERS: Peer = Peer(IpAddr::V6(Ipv6Addr::UNSPECIFIED));

impl Default for Peer {
    fn default() -> Self {
        OTHERS
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            OTHERS => f.write_str("(others)"),
            Self(IpAddr::V6(network)) => write!(f, "{network}/64"),
            Self(IpAddr::V4(address)) => write!(f, "{address}"),
        }
    }
}

/// Peers that are told apart.
const MAX_PEERS: usize = 10_000;

/// How long a bucket takes to fill, and how often a peer's failures for one reason are logged at most.
const MINUTE: Duration = Duration::from_mins(1);

/// How often peers that may be forgotten are looked for at most while there is no room for new ones.
const LEAST_SWEEP: Duration = Duration::from_secs(1);

/// What one failure takes out of a bucket. A bucket gains its limit each millisecond, and so is full after a minute.
const COST: u64 = 60_000;

/// The failures of the last minute.
#[derive(Debug)]
pub(super) struct Failures {
    per_minute: u32,
    max_peers: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    peers: HashMap<Peer, Recent>,
    swept: UnixMillis,
}

/// What is remembered of a peer.
#[derive(Debug)]
struct Recent {
    /// What is left of its bucket, in parts of [`COST`].
    left: u64,
    /// When `left` was right.
    at: UnixMillis,
    /// What was logged of each reason, in the order of [`AuthenticationFailure::ALL`].
    logged: [Logged; AuthenticationFailure::ALL.len()],
}

/// What was logged of a peer's failures for one reason.
#[derive(Debug, Clone, Copy, Default)]
struct Logged {
    /// When the last line was written; 0: never.
    at: UnixMillis,
    /// The failures since then.
    pending: u64,
}

/// A line for the log: so many failures of this peer for this reason since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    peer: Peer,
    failures: u64,
    reason: AuthenticationFailure,
}

// === impl Failures ===

impl Failures {
    /// A peer may fail so many times a minute, and at once; 0 sets no limit.
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, max_peers: MAX_PEERS, state: Mutex::default() }
    }

    /// Counts a failure of a peer, and logs it unless one of this peer was logged for the same reason within a minute.
    ///
    /// # Errors
    /// The peer has failed too often. After this time it may fail once more.
    pub(super) fn count(
        &self,
        peer: Peer,
        reason: AuthenticationFailure,
        now: UnixMillis,
    ) -> Result<(), Duration> {
        let (allowed, lines) = self.note(peer, reason, now);
        for Line { peer, failures, reason } in lines {
            tracing::warn!(
                %peer,
                failures,
                reason = reason.as_str(),
                "requests cannot be authenticated; logged once a minute for each client and reason"
            );
        }
        allowed
    }

    fn note(
        &self,
        peer: Peer,
        reason: AuthenticationFailure,
        now: UnixMillis,
    ) -> (Result<(), Duration>, Vec<Line>) {
        // The state is whole between any two statements, so a panic elsewhere cannot have left it half done.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = state.sweep(self.max_peers, now);
        let peer =
            if state.peers.contains_key(&peer) || state.has_room(self.max_peers) { peer } else { OTHERS };
        let recent = state.peers.entry(peer).or_insert_with(|| Recent::new(self.per_minute, now));
        lines.extend(recent.log(peer, reason, now));
        (recent.take(self.per_minute, now), lines)
    }
}

// === impl State ===

impl State {
    fn has_room(&self, max_peers: usize) -> bool {
        self.peers.len() - usize::from(self.peers.contains_key(&OTHERS)) < max_peers
    }

    /// Forgets who has not failed for a minute; the lines of what was not logged of them.
    fn sweep(&mut self, max_peers: usize, now: UnixMillis) -> Vec<Line> {
        let wait = if self.has_room(max_peers) { MINUTE } else { LEAST_SWEEP };
        if now.since(self.swept) < wait {
            return Vec::new();
        }
        self.swept = now;
        let forgotten = self.peers.extract_if(|_, recent| now.since(recent.at) >= MINUTE);
        forgotten.flat_map(|(peer, recent)| recent.pending(peer)).collect()
    }
}

// === impl Recent ===

impl Recent {
    fn new(per_minute: u32, now: UnixMillis) -> Self {
        Self { left: capacity(per_minute), at: now, logged: Default::default() }
    }

    /// Takes one failure out of the bucket.
    fn take(&mut self, per_minute: u32, now: UnixMillis) -> Result<(), Duration> {
        if per_minute == 0 {
            self.at = now;
            return Ok(());
        }
        let per_ms = u64::from(per_minute);
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(passed.saturating_mul(per_ms)).min(capacity(per_minute));
        self.at = now;
        match self.left.checked_sub(COST) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Duration::from_millis((COST - self.left).div_ceil(per_ms))),
        }
    }

    /// Counts a failure; its line, if one is due.
    fn log(&mut self, peer: Peer, reason: AuthenticationFailure, now: UnixMillis) -> Option<Line> {
        let logged = self.logged.get_mut(reason as usize)?;
        logged.pending += 1;
        if now.since(logged.at) < MINUTE {
            return None;
        }
        let failures = std::mem::take(&mut logged.pending);
        logged.at = now;
        Some(Line { peer, failures, reason })
    }

    /// The lines of what was counted and not logged.
    fn pending(self, peer: Peer) -> impl Iterator<Item = Line> {
        let reasons = AuthenticationFailure::ALL.iter().zip(self.logged);
        let pending = reasons.filter(|(_, logged)| logged.pending > 0);
        pending.map(move |(reason, logged)| Line { peer, failures: logged.pending, reason: *reason })
    }
}

fn capacity(per_minute: u32) -> u64 {
    u64::from(per_minute) * COST
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: AuthenticationFailure = AuthenticationFailure::UnknownKey;
    const START: UnixMillis = UnixMillis(1_700_000_000_000);

    fn peer(address: &str) -> Peer {
        Peer::new(address.parse().unwrap())
    }

    fn after(seconds: u64) -> UnixMillis {
        START.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_peer_may_fail_a_minutes_worth_at_once_and_then_at_that_rate() {
        let failures = Failures::new(30);
        let fails = |address, seconds| failures.note(peer(address), REASON, after(seconds)).0;
        for _ in 0..30 {
            assert_eq!(fails("192.0.2.1", 0), Ok(()));
        }
        assert_eq!(fails("192.0.2.1", 0), Err(Duration::from_secs(2)));
        assert_eq!(fails("192.0.2.2", 0), Ok(()), "another peer has done nothing");
        assert_eq!(fails("192.0.2.1", 1), Err(Duration::from_secs(1)), "what is refused costs nothing");
        assert_eq!(fails("192.0.2.1", 2), Ok(()));
        assert_eq!(fails("192.0.2.1", 2), Err(Duration::from_secs(2)));
        for _ in 0..30 {
            assert_eq!(fails("192.0.2.1", 3_600), Ok(()), "a bucket holds no more than a minute's worth");
        }
        assert_eq!(fails("192.0.2.1", 3_600), Err(Duration::from_secs(2)));
        assert_eq!(
            fails("192.0.2.1", 0),
            Err(Duration::from_secs(2)),
            "a clock that jumps back gives nothing"
        );
    }

    #[test]
    fn without_a_limit_nobody_is_refused() {
        let failures = Failures::new(0);
        assert!((0..1_000).all(|_| failures.note(peer("192.0.2.1"), REASON, START).0 == Ok(())));
    }

    #[test]
    fn a_peer_is_told_of_once_a_minute() {
        let failures = Failures::new(60);
        let told = |address, seconds| {
            let (_, lines) = failures.note(peer(address), REASON, after(seconds));
            lines.iter().map(|line| format!("{}: {}", line.peer, line.failures)).collect::<Vec<_>>()
        };
        assert_eq!(told("192.0.2.1", 0), ["192.0.2.1: 1"]);
        assert!(told("192.0.2.1", 1).is_empty());
        assert!(told("192.0.2.1", 59).is_empty());
        assert_eq!(told("192.0.2.2", 59), ["192.0.2.2: 1"]);
        assert_eq!(told("192.0.2.1", 60), ["192.0.2.1: 3"], "with those that were not told");
        assert!(told("192.0.2.1", 61).is_empty());
        assert_eq!(
            told("2001:db8::1", 600),
            ["192.0.2.1: 1", "2001:db8::/64: 1"],
            "what was left when it stopped is told when it is forgotten"
        );
        assert_eq!(failures.state.lock().unwrap().peers.len(), 1);
    }

    #[test]
    fn each_reason_of_a_peer_has_a_line_of_its_own() {
        let failures = Failures::new(60);
        let logged = |reason, seconds| {
            let (_, lines) = failures.note(peer("192.0.2.1"), reason, after(seconds));
            lines.iter().map(|line| (line.reason, line.failures)).collect::<Vec<_>>()
        };
        let other = AuthenticationFailure::BadSignature;
        assert_eq!(logged(REASON, 0), [(REASON, 1)]);
        assert_eq!(logged(other, 1), [(other, 1)]);
        assert!(logged(REASON, 2).is_empty() && logged(other, 3).is_empty());
        assert_eq!(logged(REASON, 60), [(REASON, 2)]);
        assert_eq!(logged(other, 61), [(other, 2)]);
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8:0:1::1"), peer("2001:db8:0:2::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }

    #[test]
    fn memory_is_bounded_and_newcomers_share_one_bucket() {
        let failures = Failures { max_peers: 2, ..Failures::new(1) };
        let fails = |address, seconds| failures.note(peer(address), REASON, after(seconds)).0.is_err();
        assert!(!fails("192.0.2.1", 0) && !fails("192.0.2.2", 30));
        assert!(!fails("192.0.2.3", 30), "the first of those without a place of their own");
        assert!(fails("192.0.2.4", 30), "shares its bucket");
        assert!(!fails("192.0.2.5", 60), "the first one's place is free again");
        assert!(fails("192.0.2.2", 60), "who has a place keeps it");
        assert_eq!(failures.state.lock().unwrap().peers.len(), 3, "the two, and the others together");
    }
}
