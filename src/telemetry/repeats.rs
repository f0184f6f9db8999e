//! What happens over and over is told once, and then how often: a bad hour at Wigzo must not bury everything else that
//! an operator should read.
//!
//! Invariants:
//! * The first of a kind is told at once; the number of those that came after it, some time later and as long as it goes
//!   on. Nothing goes uncounted.
//! * Memory is bounded, however many organizations there are: past [`MOST`] kinds, further ones are one together.
//! * Time is an argument.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Kinds that are told apart.
const MOST: usize = 10_000;

/// Something that may happen over and over: what, to whom, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    what: &'static str,
    who: Box<str>,
    why: &'static str,
}

/// Whether something is told for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Tell it.
    First,
    /// It is counted; its number will be told.
    Again,
}

/// A number of repetitions that is due to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) what: &'static str,
    pub(super) who: Box<str>,
    pub(super) why: &'static str,
    pub(super) times: u64,
}

/// What has happened of late.
#[derive(Debug)]
pub(super) struct Repeats {
    /// How long a kind is not told again.
    every: Duration,
    kinds: Mutex<HashMap<Kind, Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    untold: u64,
}

impl Repeats {
    /// A kind is told once in this time.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, kinds: Mutex::default() }
    }

    /// Counts something that has happened this many times.
    pub(super) fn note(
        &self,
        what: &'static str,
        who: &str,
        why: &'static str,
        times: u64,
        now: Instant,
    ) -> Repeat {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind = Kind { what, who: who.into(), why };
        if kinds.len() >= MOST && !kinds.contains_key(&kind) {
            kind = Kind { what, who: super::OTHERS.into(), why };
        }
        if let Some(told) = kinds.get_mut(&kind) {
            told.untold += times;
            return Repeat::Again;
        }
        kinds.insert(kind, Told { at: now, untold: 0 });
        Repeat::First
    }

    /// What is due to be told. What has not happened again is forgotten: the next one will be a first one.
    pub(super) fn due(&self, now: Instant) -> Vec<Summary> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        kinds.retain(|kind, told| {
            if now.saturating_duration_since(told.at) < self.every {
                return true;
            }
            let times = std::mem::take(&mut told.untold);
            told.at = now;
            if times > 0 {
                due.push(Summary { what: kind.what, who: kind.who.clone(), why: kind.why, times });
            }
            times > 0
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    #[test]
    fn the_first_is_told_and_then_the_number() {
        let (repeats, start) = (Repeats::new(EVERY), Instant::now());
        let note =
            |who, seconds| repeats.note("retry", who, "timeout", 1, start + Duration::from_secs(seconds));
        let due = |seconds| {
            let mut due = repeats.due(start + Duration::from_secs(seconds));
            due.sort_by(|one, other| one.who.cmp(&other.who));
            due.into_iter().map(|it| (it.who.into_string(), it.times)).collect::<Vec<_>>()
        };
        assert_eq!(
            [note("acme", 0), note("acme", 1), note("shop", 1)],
            [Repeat::First, Repeat::Again, Repeat::First]
        );
        assert_eq!(due(29), []);
        assert_eq!(note("acme", 29), Repeat::Again);
        assert_eq!(due(30), [("acme".to_owned(), 2)]);
        assert_eq!(note("acme", 31), Repeat::Again, "it goes on");
        assert_eq!(note("shop", 40), Repeat::Again);
        assert_eq!(due(60), [("acme".to_owned(), 1), ("shop".to_owned(), 1)]);
        assert_eq!(due(90), []);
        assert_eq!(note("acme", 91), Repeat::First, "it had stopped");
        repeats.note("retry", "acme", "timeout", 500, start + Duration::from_secs(92));
        assert_eq!(due(121), [("acme".to_owned(), 500)], "many at once");
    }

    #[test]
    fn many_kinds_are_counted_together() {
        let (repeats, now) = (Repeats::new(EVERY), Instant::now());
        for number in 0..MOST + 500 {
            repeats.note("retry", &format!("organization-{number}"), "timeout", 1, now);
        }
        let due = repeats.due(now + EVERY);
        assert_eq!(due.len(), 1);
        assert_eq!((&*due[0].who, due[0].times), (super::super::OTHERS, 499));
    }
}
