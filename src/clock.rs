//! Wall-clock time: the one door to it, and the two forms in which it travels.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod moment;

pub use moment::{BadMoment, read_moment};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This time plus a duration, at millisecond resolution.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This time in the time zone of this machine.
    pub fn local(self) -> jiff::ZonedDateTime {
        let time = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        time.unwrap_or_default().to_zoned_datetime(jiff::tz::TimeZone::system())
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339, UTC, milliseconds: `2026-01-02T03:04:05.678Z`.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match time {
            Some(time) => write!(f, "{time:.3}"),
            None => write!(f, "{}ms", self.0),
        }
    }
}

/// What a time should have looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a time has a date, a time of day and a zone: \"2026-01-02T03:04:05Z\", \"2026-01-02T08:34:05+05:30\""
)]
pub struct BadTime;

/// RFC 3339 with any offset; what is finer than a millisecond is cut off.
impl FromStr for UnixMillis {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        let time: jiff::Timestamp = text.parse().map_err(|_| BadTime)?;
        u64::try_from(time.as_millisecond()).map(Self).map_err(|_| BadTime)
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for UnixMillis {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// Where the time comes from: the machine, or a test that advances it by hand.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Steady(Arc<Mutex<Steady>>),
    Manual(Arc<AtomicU64>),
}

/// A clock that a jump of the wall clock does not carry along: it follows by going a little faster or slower.
#[derive(Debug)]
struct Steady {
    /// What it showed when it was last looked at, since 1970.
    shown: Duration,
    /// When that was, by the clock that never jumps.
    at: Instant,
}

/// A steady clock gains or loses at most one part in so many while it follows the wall clock: an hour's jump takes 16.
const SLEW: u32 = 16;

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: UnixMillis) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.0))))
    }

    /// A clock for waits that starts at this one's time: it never goes back, and passes at the machine's own pace (give
    /// or take a sixteenth) whatever is done to the wall clock meanwhile. It follows the wall clock slowly, so that what
    /// it shows can be stored and read again by another process. A manual clock is one already.
    #[must_use]
    pub fn for_waits(&self) -> Self {
        match &self.0 {
            Source::System => {
                Self(Source::Steady(Arc::new(Mutex::new(Steady { shown: wall(), at: Instant::now() }))))
            }
            Source::Steady(_) | Source::Manual(_) => self.clone(),
        }
    }

    /// The time now. A machine clock before 1970 reads as 1970.
    pub fn now(&self) -> UnixMillis {
        match &self.0 {
            Source::System => UnixMillis(0).plus(wall()),
            Source::Steady(steady) => {
                let mut steady = steady.lock().unwrap_or_else(PoisonError::into_inner);
                UnixMillis(0).plus(steady.look(wall(), Instant::now()))
            }
            Source::Manual(now) => UnixMillis(now.load(Ordering::Relaxed)),
        }
    }

    /// How long ago something was that the machine's clock has stamped. Where a clock for waits and the machine's differ,
    /// the one counts by which less time has passed: a jump makes nothing older than it is.
    pub fn age(&self, stamped: UnixMillis) -> Duration {
        let age = self.now().since(stamped);
        match &self.0 {
            Source::Steady(_) => age.min(UnixMillis(0).plus(wall()).since(stamped)),
            Source::System | Source::Manual(_) => age,
        }
    }

    /// Moves a manual clock forward; the machine's clocks are left alone.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0 {
            now.store(self.now().plus(by).0, Ordering::Relaxed);
        }
    }
}

impl Steady {
    /// What it shows at a moment at which the wall clock shows something, too.
    fn look(&mut self, wall: Duration, at: Instant) -> Duration {
        let passed = at.saturating_duration_since(self.at);
        let even = self.shown + passed;
        self.shown = wall.clamp(even.saturating_sub(passed / SLEW), even + passed / SLEW);
        self.at = at;
        self.shown
    }
}

/// The wall clock: time since 1970.
fn wall() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this is the one door to the wall clock")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// A duration as configuration writes it: `250ms`, `1s`, `10m`, `24h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// A span of whole milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// A span of whole seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

/// The largest unit that holds the span exactly.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, size) =
            UNITS.into_iter().find(|(_, size)| ms > 0 && ms.is_multiple_of(*size)).unwrap_or(("s", 1_000));
        write!(f, "{}{unit}", ms / size)
    }
}

/// What a duration should have looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a whole number and a unit: \"250ms\", \"1s\", \"10m\", \"24h\", \"7d\"")]
pub struct BadSpan;

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(BadSpan)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| BadSpan)?;
        let (_, size) = UNITS.into_iter().find(|(name, _)| *name == unit.trim()).ok_or(BadSpan)?;
        Ok(Self::millis(number.checked_mul(size).ok_or(BadSpan)?))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_print_themselves() {
        for (text, ms) in [("250ms", 250), ("1s", 1_000), ("10m", 600_000), ("24h", 86_400_000), ("0s", 0)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::millis(ms), "{text}");
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{text}");
        }
        assert_eq!("90 s".parse::<Span>().unwrap().to_string(), "90s");
        for text in ["", "5", "s", "-1s", "1.5s", "1 year", "99999999999999999999s", "99999999999999999d"] {
            assert_eq!(text.parse::<Span>(), Err(BadSpan), "{text}");
        }
    }

    #[test]
    fn a_steady_clock_never_jumps_and_follows_in_the_end() {
        let (start, began) = (Duration::from_hours(500_000), Instant::now());
        for jumped in [Duration::from_hours(500_003), Duration::from_hours(499_997)] {
            let mut steady = Steady { shown: start, at: began };
            let mut look = |passed| steady.look(jumped + passed, began + passed);
            assert_eq!(look(Duration::ZERO), start, "no time has passed");
            for passed in (1..100).map(Duration::from_secs) {
                let (shown, slew) = (look(passed), passed / SLEW);
                assert!(shown + slew >= start + passed && shown <= start + passed + slew, "{shown:?}");
            }
            let three_days = Duration::from_hours(72);
            assert_eq!(look(three_days), jumped + three_days);
            assert_eq!(steady.look(jumped, began), jumped + three_days, "it never goes back");
        }
    }

    #[test]
    fn a_manual_clock_stands_until_it_is_advanced() {
        let clock = Clock::manual(UnixMillis(1_000));
        assert_eq!(clock.now(), UnixMillis(1_000));
        clock.clone().advance(Duration::from_secs(2));
        assert_eq!(clock.now(), UnixMillis(3_000));
        assert_eq!(clock.now().to_string(), "1970-01-01T00:00:03.000Z");
        assert_eq!(clock.now().since(UnixMillis(9_000)), Duration::ZERO);
    }
}
