//! Times as senders write them (segment.md 2.8), read leniently and printed in one form.
//!
//! Invariants: a [`Moment`] can always be printed (its year has four digits); reading never fails loudly, it answers
//! `None`. A time without a zone is UTC, as Segment stores all of them. It must not know what the time is now.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, before it negative; the year is one of 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

/// Numbers below this are seconds, the others milliseconds: 1 000 years (`new-date`, segment.md 2.8).
const SECONDS_BELOW: f64 = 31_557_600_000.0;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

// === impl Moment ===

impl Moment {
    /// The moment this many milliseconds after 1970 began, if its year has four digits.
    pub fn from_millis(millis: i64) -> Option<Self> {
        let year = Offset::UTC.to_datetime(Timestamp::from_millisecond(millis).ok()?).year();
        (year >= 0).then_some(Self(millis))
    }

    /// Milliseconds since 1970 began.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Reads a time that came as text: ISO 8601 whole or in part (a year is enough), with `T` or a space, separators
    /// or none, any number of fraction digits (cut to milliseconds), a zone or none; months and days of one digit,
    /// as in the documentation's own sample; 13 digits as milliseconds, 10 as seconds; the mail format (RFC 2822),
    /// which JavaScript's `Date.parse` takes too.
    pub fn of_text(text: &str) -> Option<Self> {
        let text = text.trim();
        iso(text).or_else(|| digits(text)).or_else(|| mail(text)).and_then(Self::from_millis)
    }

    /// Reads a time that came as a JSON number: seconds (with a fraction) or milliseconds, by its size.
    pub fn of_number(text: &str) -> Option<Self> {
        let number: f64 = text.parse().ok()?;
        let millis = if number < SECONDS_BELOW { number * 1_000.0 } else { number };
        // Far beyond any year of four digits, and far within what a double holds exactly.
        if millis.abs() > 1e15 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the line above bounds it")]
        Self::from_millis(millis.round() as i64)
    }
}

/// RFC 3339, UTC, milliseconds: `2026-01-02T03:04:05.678Z`.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            // Only `from_millis` makes one.
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

// === the forms ===

fn iso(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.number(4)?;
    let (mut month, mut day) = (1, 1);
    if rest.take(b"-") {
        month = rest.one_or_two()?;
        if rest.take(b"-") {
            day = rest.one_or_two()?;
        }
    } else if let Some(compact) = rest.number(2) {
        month = compact;
        day = rest.number(2).unwrap_or(1);
    }
    let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    let midnight = Offset::UTC.to_timestamp(date.ok()?.into()).ok()?.as_millisecond();
    if rest.is_empty() {
        return Some(midnight);
    }
    if !rest.take(b"Tt ") {
        return None;
    }
    let time = clock_time(&mut rest)?;
    let offset = zone(&mut rest)?;
    rest.is_empty().then_some(midnight + time - offset)
}

/// `03:04`, `0304`, `03:04:05`, `03:04:05.678901`, with a comma too; 24:00 ends its day, a leap second belongs to
/// the next minute.
fn clock_time(rest: &mut Rest<'_>) -> Option<i64> {
    let hour = rest.number(2)?;
    rest.take(b":");
    let minute = rest.number(2)?;
    let (mut second, mut millis) = (0, 0);
    if rest.take(b":") {
        second = rest.number(2)?;
    } else if let Some(compact) = rest.number(2) {
        second = compact;
    }
    if rest.take(b".,") {
        millis = rest.fraction()?;
    }
    if hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let time = hour * HOUR + minute * MINUTE + second * 1_000 + millis;
    (hour < 24 || time == DAY).then_some(time)
}

/// `Z`, `+05:30`, `+0530`, `+05`, `-03:00`, with a space before it or not; nothing is UTC.
fn zone(rest: &mut Rest<'_>) -> Option<i64> {
    rest.take(b" ");
    if rest.is_empty() || rest.take(b"Zz") {
        return Some(0);
    }
    let ahead = rest.take(b"+");
    if !ahead && !rest.take(b"-") {
        return None;
    }
    let hours = rest.number(2)?;
    rest.take(b":");
    let minutes = if rest.is_empty() { 0 } else { rest.number(2)? };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = hours * HOUR + minutes * MINUTE;
    Some(if ahead { offset } else { -offset })
}

fn digits(text: &str) -> Option<i64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match text.len() {
        13 => text.parse().ok(),
        10 => text.parse::<i64>().ok().map(|seconds| seconds * 1_000),
        _ => None,
    }
}

fn mail(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp().as_millisecond())
}

/// What is left to read of a time.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next byte if it is one of these.
    fn take(&mut self, any: &[u8]) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if any.contains(first) => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// Takes a number of exactly so many digits, or nothing.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        let number = number.iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
        })?;
        self.0 = rest;
        Some(number)
    }

    fn one_or_two(&mut self) -> Option<i64> {
        self.number(2).or_else(|| self.number(1))
    }

    /// Takes all digits of a fraction of a second, at least one; the first three are its milliseconds.
    fn fraction(&mut self) -> Option<i64> {
        let end = self.0.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
        self.0 = rest;
        let digits = digits.iter().map(|byte| i64::from(byte - b'0')).chain([0, 0]);
        Some(digits.take(3).fold(0, |number, digit| number * 10 + digit))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// written | read, and printed again
    const TEXTS: [(&str, &str); 41] = [
        // Real senders (segment.md 2.8).
        ("2026-01-02T03:05:00.250Z", "2026-01-02T03:05:00.250Z"),
        ("2026-01-02T03:05:00.250+00:00", "2026-01-02T03:05:00.250Z"),
        ("2026-11-23T14:40:36.829046+00:00", "2026-11-23T14:40:36.829Z"),
        ("2026-11-23T14:48:24.689140816Z", "2026-11-23T14:48:24.689Z"),
        // The documentation's own sample.
        ("2015-2-02T00:30:08.276Z", "2015-02-02T00:30:08.276Z"),
        ("2015-2-2", "2015-02-02T00:00:00.000Z"),
        // Parts of ISO 8601.
        ("2026", "2026-01-01T00:00:00.000Z"),
        ("2026-03", "2026-03-01T00:00:00.000Z"),
        ("2026-03-04", "2026-03-04T00:00:00.000Z"),
        ("202603", "2026-03-01T00:00:00.000Z"),
        ("20260304", "2026-03-04T00:00:00.000Z"),
        ("2026-03-04T05:06", "2026-03-04T05:06:00.000Z"),
        ("2026-03-04T05:06Z", "2026-03-04T05:06:00.000Z"),
        ("2026-03-04 05:06:07", "2026-03-04T05:06:07.000Z"),
        ("2026-03-04 05:06:07 +0530", "2026-03-03T23:36:07.000Z"),
        ("2026-03-04t05:06:07z", "2026-03-04T05:06:07.000Z"),
        ("20260304T050607", "2026-03-04T05:06:07.000Z"),
        ("20260304T050607.891Z", "2026-03-04T05:06:07.891Z"),
        ("20260304T0506+0530", "2026-03-03T23:36:00.000Z"),
        ("  2026-03-04T05:06:07Z\n", "2026-03-04T05:06:07.000Z"),
        // Fractions are cut, not rounded.
        ("2026-03-04T05:06:07.1Z", "2026-03-04T05:06:07.100Z"),
        ("2026-03-04T05:06:07,12Z", "2026-03-04T05:06:07.120Z"),
        ("2026-03-04T05:06:07.9999999999999999999999Z", "2026-03-04T05:06:07.999Z"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        // Zones.
        ("2026-03-04T05:06:07+05:30", "2026-03-03T23:36:07.000Z"),
        ("2026-03-04T05:06:07-0330", "2026-03-04T08:36:07.000Z"),
        ("2026-03-04T05:06:07+05", "2026-03-04T00:06:07.000Z"),
        ("2026-03-04T05:06:07-00:00", "2026-03-04T05:06:07.000Z"),
        // Edges of the calendar.
        ("2024-02-29", "2024-02-29T00:00:00.000Z"),
        ("2026-03-04T24:00", "2026-03-05T00:00:00.000Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
        ("0000-01-01", "0000-01-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-01", "9999-12-01T00:00:00.000Z"),
        // Digits.
        ("1767323100250", "2026-01-02T03:05:00.250Z"),
        ("1767323100", "2026-01-02T03:05:00.000Z"),
        ("0000000000", "1970-01-01T00:00:00.000Z"),
        ("0000000000001", "1970-01-01T00:00:00.001Z"),
        // Mail.
        ("Fri, 02 Jan 2026 03:05:00 GMT", "2026-01-02T03:05:00.000Z"),
        ("Fri, 2 Jan 2026 08:35:00 +0530", "2026-01-02T03:05:00.000Z"),
        ("2 Jan 2026 03:05:00 -0000", "2026-01-02T03:05:00.000Z"),
    ];

    #[test]
    fn every_form_is_read() {
        for (written, printed) in TEXTS {
            let read = Moment::of_text(written).map(|moment| moment.to_string());
            assert_eq!(read.as_deref(), Some(printed), "{written:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            " ",
            "now",
            "null",
            "26-01-02",
            "2026-",
            "2026-1-",
            "2026-13-01",
            "2026-00-01",
            "2026-02-30",
            "2025-02-29",
            "2026-01-02T",
            "2026-01-02T03",
            "2026-01-02T3:05",
            "2026-01-02T25:00",
            "2026-01-02T24:01",
            "2026-01-02T03:60",
            "2026-01-02T03:05:61",
            "2026-01-02T03:05:00.",
            "2026-01-02T03:05:00.Z",
            "2026-01-02T03:05:00X",
            "2026-01-02T03:05:00+",
            "2026-01-02T03:05:00+5",
            "2026-01-02T03:05:00+24:00",
            "2026-01-02T03:05:00ZZ",
            "2026-01-02X03:05",
            "2026/01/02",
            "02.01.2026",
            "-2026-01-02",
            "+002026-01-02",
            "0000-01-01T00:00+00:01",
            "9999-12-31T23:59:59Z",
            "12345",
            "176732310025",
            "17673231002500",
            "1767323100.250",
            "२०२६-०१-०२",
            "2026-01-02T03:05:00é",
        ] {
            assert_eq!(Moment::of_text(text), None, "{text:?}");
        }
    }

    /// number | read, and printed again
    #[test]
    fn numbers_are_seconds_or_milliseconds_by_their_size() {
        let table = [
            ("0", Some("1970-01-01T00:00:00.000Z")),
            ("-1", Some("1969-12-31T23:59:59.000Z")),
            ("1767323100", Some("2026-01-02T03:05:00.000Z")),
            ("1767323100.25", Some("2026-01-02T03:05:00.250Z")),
            ("1767323100.999", Some("2026-01-02T03:05:00.999Z")),
            ("1.7673231E9", Some("2026-01-02T03:05:00.000Z")),
            ("1767323100250", Some("2026-01-02T03:05:00.250Z")),
            ("31557599999", Some("2970-01-07T23:59:59.000Z")),
            ("31557600000", Some("1971-01-01T06:00:00.000Z")),
            ("1767323100250140816", None),
            ("1e400", None),
            ("-1e400", None),
            ("-99999999999999", None),
        ];
        for (number, printed) in table {
            let read = Moment::of_number(number).map(|moment| moment.to_string());
            assert_eq!(read.as_deref(), printed, "{number}");
        }
    }

    proptest! {
        #[test]
        fn no_text_does_harm(any in any::<String>(), near in "[0-9TtZz:,. +\\-]{0,40}") {
            for text in [any, near] {
                let _ = Moment::of_number(&text);
                if let Some(moment) = Moment::of_text(&text) {
                    prop_assert_eq!(Moment::of_text(&moment.to_string()), Some(moment), "{}", text);
                }
            }
        }

        #[test]
        fn what_is_printed_is_read_again(millis in any::<i64>(), near in -62_000_000_000_000_i64..253_000_000_000_000) {
            for millis in [millis, near] {
                let Some(moment) = Moment::from_millis(millis) else { continue };
                prop_assert_eq!(moment.to_string().len(), 24);
                prop_assert_eq!(Moment::of_text(&moment.to_string()), Some(moment));
            }
        }
    }
}
