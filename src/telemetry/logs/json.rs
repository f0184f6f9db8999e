//! The JSON form of a line: one object, its members in the order `timestamp`, `level`, the fields as they were told (the
//! message first), `target`.
//!
//! At `info` an event has two lines, so their form is a part of what an event costs; this one takes less than the
//! library's ([decision 13](../../../docs/decisions/0013-log-lines.md)). Spans are not printed: there are none.
//! What a library tells through the crate `log` has the target that it names itself.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Prints lines as JSON objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json;

/// Microseconds, always with six digits.
const TIMES: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

thread_local! {
    /// The room for a thread's lines.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "a line has the machine's time, whatever clock the rooms are given"
    )]
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Into a string first: the writer's own type is not known here, so each of a line's fifty pieces would be a
        // call through a table.
        let mut line = LINE.take();
        line.clear();
        print(&mut line, SystemTime::now(), event)?;
        out.write_str(&line)?;
        LINE.set(line);
        Ok(())
    }
}

fn print(line: &mut String, at: SystemTime, event: &Event<'_>) -> fmt::Result {
    line.push_str("{\"timestamp\":\"");
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    TIMES.print_timestamp(&at, &mut *line).map_err(|_| fmt::Error)?;
    let metadata = event.metadata();
    line.push_str("\",\"level\":\"");
    line.push_str(metadata.level().as_str());
    line.push('"');
    let mut members = Members { line, named: None, result: Ok(()) };
    event.record(&mut members);
    let named = members.named.take();
    members.member("target", |line| string(line, named.as_deref().unwrap_or(metadata.target())));
    members.result?;
    line.push_str("}\n");
    Ok(())
}

/// Prints fields as members of the object that has been begun.
struct Members<'l> {
    line: &'l mut String,
    /// The target of what was told through the crate `log`; its event carries that, and where it was told, as fields.
    named: Option<String>,
    /// How it went so far; a visitor cannot say it.
    result: fmt::Result,
}

impl Members<'_> {
    fn member(&mut self, name: &str, value: impl FnOnce(&mut String) -> fmt::Result) {
        if name.starts_with("log.") {
            return;
        }
        // Names are Rust's identifiers, which the library lets be spelled raw.
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.line.push_str(",\"");
        self.line.push_str(name);
        self.line.push_str("\":");
        self.result = self.result.and(value(self.line));
    }
}

impl Visit for Members<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field.name(), |line| match serde_json::Number::from_f64(value) {
            Some(number) => write!(line, "{number}"),
            None => line.write_str("null"),
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field.name(), |line| write!(line, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field.name(), |line| write!(line, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field.name(), |line| line.write_str(if value { "true" } else { "false" }));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.named = Some(value.to_owned());
        }
        self.member(field.name(), |line| string(line, value));
    }

    /// Everything else is told by what it prints.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field.name(), |line| {
            line.push('"');
            write!(Escaped(line), "{value:?}")?;
            line.push('"');
            Ok(())
        });
    }
}

fn string(line: &mut String, text: &str) -> fmt::Result {
    line.push('"');
    Escaped(line).write_str(text)?;
    line.push('"');
    Ok(())
}

/// Text inside of a JSON string (RFC 8259, section 7).
struct Escaped<'l>(&'l mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            // What is escaped is one byte long, so these are places between letters.
            let (before, letter) = (rest.get(..at).unwrap_or_default(), rest.as_bytes().get(at));
            self.0.push_str(before);
            match letter {
                Some(b'\n') => self.0.push_str("\\n"),
                Some(b'\r') => self.0.push_str("\\r"),
                Some(b'\t') => self.0.push_str("\\t"),
                Some(letter @ (b'"' | b'\\')) => self.0.extend(['\\', char::from(*letter)]),
                Some(letter) => write!(self.0, "\\u{letter:04x}")?,
                None => {}
            }
            rest = rest.get(at + 1..).unwrap_or_default();
        }
        self.0.push_str(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::DefaultFields;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Keeps what is written.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// The lines that are told meanwhile.
    fn lines(tell: impl FnOnce()) -> String {
        let kept = Kept::default();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(DefaultFields::new())
            .event_format(Json)
            .with_writer(kept.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), tell);
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_is_one_object_with_its_members_in_order() {
        let line = lines(|| {
            tracing::warn!(
                number = 7_u64,
                left = -7_i64,
                share = 0.5,
                odd = f64::NAN,
                is_well = true,
                organization = "acme",
                missing = None::<u64>,
                reason = %"two\nlines",
                r#type = ?Some("x"),
                "a message of {} words",
                5
            );
        });
        let (time, rest) = line.split_once("Z\",").unwrap();
        let time = time.strip_prefix("{\"timestamp\":\"").unwrap();
        assert!(time.len() == "2026-01-02T03:04:05.000006".len(), "{time}");
        assert!(format!("{time}Z").parse::<Timestamp>().is_ok(), "{time}");
        assert_eq!(
            rest,
            concat!(
                r#""level":"WARN","message":"a message of 5 words","number":7,"left":-7,"share":0.5,"odd":null,"#,
                r#""is_well":true,"organization":"acme","reason":"two\nlines","type":"Some(\"x\")","#,
                r#""target":"wigzo_destination::telemetry::logs::json::tests"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_comes_through_the_crate_log_has_its_own_target() {
        let line = lines(|| tracing::info!(log.target = "hyper::pool", log.line = 5_u64, "told"));
        assert!(line.ends_with("\"message\":\"told\",\"target\":\"hyper::pool\"}\n"), "{line}");
    }

    #[test]
    fn a_time_before_1970_harms_nothing() {
        let mut text = String::new();
        let at = Timestamp::try_from(SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(1)).unwrap();
        TIMES.print_timestamp(&at, &mut text).unwrap();
        assert_eq!(text, "1969-12-31T23:59:59.000000Z");
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(told in any::<String>(), message in any::<String>()) {
            let line = lines(|| tracing::info!(told, shown = %told, "{message}"));
            prop_assert_eq!(line.matches('\n').count(), 1);
            let read: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&read["told"], &json!(told));
            prop_assert_eq!(&read["shown"], &json!(told));
            prop_assert_eq!(&read["message"], &json!(message));
        }
    }
}
