//! Points in time as people type them: `2h`, `today`, a date, or RFC 3339.

use jiff::{Span, ZonedDateTime, civil};

use super::UnixMillis;

/// What a point in time should have looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected how long ago (30m, 2h, 1d), today, yesterday, a date (2026-01-02), or a time with its zone \
     (2026-01-02T03:04:05Z)"
)]
pub struct BadMoment;

/// Reads a point in time. Days begin at midnight in the time zone of `now`.
///
/// # Errors
/// Text that is none of the forms, and times before 1970.
pub fn read_moment(text: &str, now: &ZonedDateTime) -> Result<UnixMillis, BadMoment> {
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let time = match text {
        "now" => Ok(now.clone()),
        "today" => now.start_of_day(),
        "yesterday" => now.yesterday().and_then(|day| day.start_of_day()),
        _ => match date(text) {
            Some(date) => date.to_zoned_datetime(now.time_zone().clone()),
            None => ago(text).and_then(|span| now.checked_sub(span)),
        },
    };
    let time = time.map_err(|_| BadMoment)?.timestamp().as_millisecond();
    u64::try_from(time).map(UnixMillis).map_err(|_| BadMoment)
}

/// A date alone. The library would take a date with a time too, and cut the time off.
fn date(text: &str) -> Option<civil::Date> {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-').then(|| text.parse().ok())?
}

fn ago(text: &str) -> Result<Span, jiff::Error> {
    let text = text.strip_suffix("ago").map_or(text, str::trim_end);
    let span: Span = text.parse()?;
    // `-2h` may mean the past or the future.
    if span.is_negative() { "".parse() } else { Ok(span) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_type_them() {
        // 05:30 ahead of UTC: midnight there is 18:30 of the day before.
        let now: ZonedDateTime = "2026-03-10T12:00:00+05:30[Asia/Kolkata]".parse().unwrap();
        for (text, expected) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
            ("2026-01-02T08:34:05+05:30", "2026-01-02T03:04:05.000Z"),
            ("now", "2026-03-10T06:30:00.000Z"),
            ("today", "2026-03-09T18:30:00.000Z"),
            ("yesterday", "2026-03-08T18:30:00.000Z"),
            ("2026-03-01", "2026-02-28T18:30:00.000Z"),
            ("90s", "2026-03-10T06:28:30.000Z"),
            ("30m", "2026-03-10T06:00:00.000Z"),
            ("2h", "2026-03-10T04:30:00.000Z"),
            (" 2h ago ", "2026-03-10T04:30:00.000Z"),
            ("2 hours", "2026-03-10T04:30:00.000Z"),
            ("1h30m", "2026-03-10T05:00:00.000Z"),
            ("1d", "2026-03-09T06:30:00.000Z"),
            ("2w", "2026-02-24T06:30:00.000Z"),
        ] {
            assert_eq!(read_moment(text, &now).map(|it| it.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in [
            "",
            "5",
            "h",
            "-2h",
            "2 fortnights",
            "tomorrow",
            "2026-13-01",
            "2026-01-02T03:04:05",
            "2026-01-02 03:04",
            "100 years",
            "99999999999d",
        ] {
            assert_eq!(read_moment(text, &now), Err(BadMoment), "{text}");
        }
    }

    #[test]
    fn a_day_is_a_day_where_clocks_are_changed() {
        // The clocks went forward on 2026-03-29 at 02:00.
        let now: ZonedDateTime = "2026-03-29T12:00:00+02:00[Europe/Berlin]".parse().unwrap();
        for (text, expected) in [
            ("today", "2026-03-28T23:00:00.000Z"),
            ("1d", "2026-03-28T11:00:00.000Z"),
            ("24h", "2026-03-28T10:00:00.000Z"),
        ] {
            assert_eq!(read_moment(text, &now).unwrap().to_string(), expected, "{text}");
        }
    }
}
