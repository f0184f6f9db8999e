//! What the body of a 2xx says: whether it is an answer of an API, and whether that answer states a failure.
//!
//! Bodies are cut off at 16 KB and may break off anywhere. What can be read before that place counts.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Why a 2xx is not a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SoftFailure {
    /// The JSON answer states a failure.
    Stated,
    /// The body is a web page, an XML document or a file: something other than Wigzo's API has answered.
    NotAnApiAnswer,
}

const GZIP: &[u8] = b"\x1f\x8b";

/// The most that a compressed body is decompressed to.
const MAX_DECOMPRESSED_BYTES: u64 = 64 * 1024;

/// How files begin: PDF, PNG, GIF, JPEG, ZIP.
const FILES: [&[u8]; 5] = [b"%PDF-", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"PK\x03\x04"];

/// The texts of `status` that state a failure. Any other text, such as `ok` or `queued`, does not.
const FAILURES: [&str; 16] = [
    "error",
    "errors",
    "err",
    "failed",
    "failure",
    "fail",
    "false",
    "invalid",
    "denied",
    "rejected",
    "refused",
    "unauthorized",
    "unauthenticated",
    "forbidden",
    "exception",
    "aborted",
];

/// Why the body of a 2xx takes its success back; `None` if it does not.
pub(super) fn soft_failure(body: &[u8]) -> Option<SoftFailure> {
    let decompressed;
    let body = if body.starts_with(GZIP) {
        decompressed = decompress(body);
        &decompressed
    } else {
        body
    };
    let body = body.trim_ascii_start();
    if FILES.iter().any(|beginning| body.starts_with(beginning)) {
        return Some(SoftFailure::NotAnApiAnswer);
    }
    let text = decode(body);
    let text = text.trim_start_matches(|it: char| it.is_whitespace() || it == '\u{feff}');
    match text.as_bytes().first() {
        Some(b'<') => Some(SoftFailure::NotAnApiAnswer),
        Some(b'{' | b'[') => states_failure(text).then_some(SoftFailure::Stated),
        _ => None,
    }
}

/// No compression is asked for, so no header is looked at: the bytes say what they are.
fn decompress(body: &[u8]) -> Vec<u8> {
    let mut decompressed = Vec::new();
    // What was read before an error stays in the buffer.
    let _ = flate2::read::GzDecoder::new(body).take(MAX_DECOMPRESSED_BYTES).read_to_end(&mut decompressed);
    decompressed
}

fn decode(body: &[u8]) -> Cow<'_, str> {
    match body {
        [0xff, 0xfe, rest @ ..] => Cow::Owned(decode_utf16(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(decode_utf16(rest, u16::from_be_bytes)),
        _ => String::from_utf8_lossy(body),
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (pairs, _) = bytes.as_chunks();
    let units = pairs.iter().map(|pair| unit(*pair));
    char::decode_utf16(units).map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Whether a JSON object, or one in an array, states a failure.
fn states_failure(json: &str) -> bool {
    let mut is_failure = false;
    let answer = Value { place: Place::Answer, is_failure: &mut is_failure };
    // A body that was cut off ends in an error.
    let _ = answer.deserialize(&mut serde_json::Deserializer::from_str(json));
    is_failure
}

/// Where in an answer a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Answer,
    Element,
    Member(Key),
}

/// A member that can state a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Status = 1,
    Success = 2,
    Error = 4,
    Errors = 8,
}

/// A value that is being read. A failure is noted as soon as it is seen, since the text may end before the value does.
struct Value<'a> {
    place: Place,
    is_failure: &'a mut bool,
}

/// The keys, as bits, whose last member states a failure.
#[derive(Default)]
struct Failures(u8);

impl Value<'_> {
    fn is_error(&self) -> bool {
        matches!(self.place, Place::Member(Key::Error | Key::Errors))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        *self.is_failure |= match self.place {
            Place::Answer | Place::Element => false,
            Place::Member(Key::Status | Key::Success) => !value,
            Place::Member(Key::Error | Key::Errors) => value,
        };
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.visit_f64(u32::try_from(value).map_or(f64::MAX, f64::from))
    }

    /// `serde_json` hands over only negative numbers here.
    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.visit_f64(-1.0)
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        *self.is_failure |= match self.place {
            Place::Answer | Place::Element => false,
            Place::Member(Key::Status) => value >= 400.0,
            Place::Member(Key::Success) => value == 0.0,
            Place::Member(Key::Error | Key::Errors) => value != 0.0,
        };
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        let value = value.trim();
        let is_one_of = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        *self.is_failure |= match self.place {
            Place::Answer | Place::Element => false,
            Place::Member(Key::Status) => {
                is_one_of(&FAILURES) || value.parse().is_ok_and(|status: u32| status >= 400)
            }
            Place::Member(Key::Success) => is_one_of(&["false", "0"]),
            Place::Member(Key::Error | Key::Errors) => !value.is_empty(),
        };
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        if self.place == Place::Answer {
            while elements
                .next_element_seed(Value { place: Place::Element, is_failure: &mut *self.is_failure })?
                .is_some()
            {}
            return Ok(());
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {
            *self.is_failure |= self.is_error();
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        if matches!(self.place, Place::Answer | Place::Element) {
            let mut failures = Failures::default();
            let result = failures.read(members);
            *self.is_failure |= failures.0 != 0;
            return result;
        }
        while members.next_key::<IgnoredAny>()?.is_some() {
            *self.is_failure |= self.is_error();
            members.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

impl Failures {
    fn read<'de, A: MapAccess<'de>>(&mut self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key_seed(AnyKey)? {
            let Some(key) = key else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let mut is_failure = false;
            let result =
                members.next_value_seed(Value { place: Place::Member(key), is_failure: &mut is_failure });
            // Of members with the same key the last one counts, as for every JavaScript reader.
            self.0 = if is_failure { self.0 | key as u8 } else { self.0 & !(key as u8) };
            result?;
        }
        Ok(())
    }
}

/// A key in any ASCII case, read without a copy of it.
struct AnyKey;

impl<'de> DeserializeSeed<'de> for AnyKey {
    type Value = Option<Key>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Option<Key>, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for AnyKey {
    type Value = Option<Key>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<Key>, E> {
        let keys = [
            ("status", Key::Status),
            ("success", Key::Success),
            ("error", Key::Error),
            ("errors", Key::Errors),
        ];
        Ok(keys.into_iter().find(|(name, _)| key.eq_ignore_ascii_case(name)).map(|(_, key)| key))
    }
}
