//! `X-Signature`: HMAC-SHA1 over raw bytes (segment.md 1.6).
//!
//! Segment's producers disagree on what they sign, so several messages are tried; each is bytes of the request or a
//! cut of them, never a re-printed value. Of a batch, only the first item is vouched for (that is the sender's doing).

use std::borrow::Cow;
use std::collections::HashSet;

use aws_lc_rs::hmac;

use super::raw::Member;
use super::value::{members_of, string_of};
use super::{Object, Raw, Request};

/// Digits of a signature: 20 bytes in hex.
const BYTES: usize = 20;

/// Whether `signature` (40 hex digits) was made with `secret` over one of the messages a Segment producer signs:
/// the whole body, the first item's bytes (unwrapped from `json`), or those without the extras that Webhook
/// Audiences adds after signing. Every candidate is tried, each in constant time, also for a signature that is none,
/// so that the time taken does not tell why it does not verify. An empty secret proves nothing and verifies nothing.
pub fn signed_by(secret: &[u8], signature: &str, body: &[u8], request: &Request<'_>) -> bool {
    let tag = tag_of(signature);
    let possible = tag.is_some() && !secret.is_empty();
    let tag = tag.unwrap_or_default();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let verifies = |message: &[u8]| hmac::verify(&key, message, &tag).is_ok();
    let first = request.items.first().map(|item| item.raw);
    // `|` and not `||`: which of the messages was signed is not for the clock to tell.
    let signed = verifies(body)
        | first.is_some_and(|event| verifies(event.get().as_bytes()))
        | first.and_then(without_extras).is_some_and(|event| verifies(event.as_bytes()));
    signed & possible
}

/// The signature's bytes, from exactly 40 hex digits in either case.
fn tag_of(signature: &str) -> Option<[u8; BYTES]> {
    let (pairs, []) = signature.as_bytes().as_chunks::<2>() else { return None };
    let mut tag = [0; BYTES];
    if pairs.len() != tag.len() {
        return None;
    }
    for (byte, &[high, low]) in tag.iter_mut().zip(pairs) {
        *byte = (nibble(high)? << 4) | nibble(low)?;
    }
    Some(tag)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The text that Webhook Audiences signed: it signs first and merges the members named in
/// `context.personas.audience_settings.extras` (an object printed into a string) behind the event's own afterwards.
/// `None` where there are no such members. The producer prints without white space, so the remaining members joined
/// by commas are its text again.
fn without_extras(event: Raw<'_>) -> Option<String> {
    let extras = extras_of(event)?;
    // A set, because nobody has vouched for these bytes yet, neither for their number.
    let extras: HashSet<Cow<'_, str>> =
        members_of(Raw::parse(&extras).ok()?)?.iter().filter_map(Member::name).collect();
    let mut members = members_of(event)?;
    let all = members.len();
    while members.last().and_then(Member::name).is_some_and(|key| extras.contains(&key)) {
        members.pop();
    }
    if members.len() == all {
        return None;
    }
    let kept: Vec<String> =
        members.iter().map(|member| format!("{}:{}", member.key.get(), member.value.get())).collect();
    Some(format!("{{{}}}", kept.join(",")))
}

/// The extras' own JSON text.
fn extras_of(event: Raw<'_>) -> Option<Cow<'_, str>> {
    let inside = |raw, key| Object::parse(raw)?.get(key);
    let settings = inside(inside(inside(event, "context")?, "personas")?, "audience_settings")?;
    string_of(inside(settings, "extras")?)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::super::decode;
    use super::*;

    const SECRET: &[u8] = b"abc123";
    const FIRST: &str = r#"{"type":"track","userId":"u1","event":"A"}"#;
    const ARRAY: &str =
        r#"[{"type":"track","userId":"u1","event":"A"},{"type":"track","userId":"u2","event":"B"}]"#;
    const WRAPPED: &str = r#"[{"json":{"type":"track","userId":"u1","event":"A"}},{"json":{"type":"page"}}]"#;
    const SPACED: &str =
        " [ {\"type\":\"track\",\"userId\":\"u1\",\"event\":\"A\"} , {\"type\":\"page\"} ] \n";
    const HINDI: &str = r#"{"type":"identify","userId":"u2","traits":{"name":"आशा ₹"}}"#;
    const OF_FIRST: &str = "32e3b35ebe755a3ad42e6fdb34a3ee11e8af123e";
    const OF_HINDI: &str = "b5a8cb264675d55e483b2176aaf1762987efcae4";
    const OF_ARRAY: &str = "1c7b25bf58a366bfdfc36c4a5e6c2a4fb089dd3d";

    fn verifies(secret: &[u8], signature: &str, body: &str) -> bool {
        signed_by(secret, signature, body.as_bytes(), &decode(body.as_bytes(), 10).unwrap())
    }

    /// signature | body | whether it verifies
    #[test]
    fn known_answers() {
        let table = [
            (OF_FIRST, FIRST, true),
            (OF_HINDI, HINDI, true),
            (OF_ARRAY, ARRAY, true),
            (OF_FIRST, ARRAY, true),
            (OF_FIRST, WRAPPED, true),
            (OF_FIRST, SPACED, true),
            (OF_ARRAY, FIRST, false),
            (OF_ARRAY, WRAPPED, false),
            (OF_HINDI, FIRST, false),
        ];
        for (signature, body, expected) in table {
            assert_eq!(verifies(SECRET, signature, body), expected, "{signature} over {body}");
            assert!(!verifies(b"abc124", signature, body), "another secret, over {body}");
        }
        assert!(verifies(SECRET, &OF_FIRST.to_uppercase(), FIRST), "hex in either case");
    }

    #[test]
    fn anything_but_forty_hex_digits_is_no_signature() {
        let (short, _) = OF_FIRST.split_at(39);
        for signature in
            ["", "0", short, &format!("{OF_FIRST}0"), &format!("{OF_FIRST}00"), &format!("+{short}")]
        {
            assert!(!verifies(SECRET, signature, FIRST), "{signature:?}");
        }
        assert!(!verifies(SECRET, &OF_FIRST.replace('3', "g"), FIRST));
        assert!(!verifies(SECRET, &format!("sha1={OF_FIRST}"), FIRST));
        assert!(!verifies(SECRET, &"é".repeat(20), FIRST), "40 bytes, but no digits");
    }

    #[test]
    fn an_empty_secret_verifies_nothing() {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b""), FIRST.as_bytes());
        let mut signature = String::new();
        for byte in tag.as_ref() {
            write!(signature, "{byte:02x}").unwrap();
        }
        assert!(!verifies(b"", &signature, FIRST));
    }

    /// event | its text without the extras
    #[test]
    fn extras_are_cut_from_the_end_only() {
        let event = |extras: &str, tail: &str| {
            let context =
                format!(r#""context":{{"personas":{{"audience_settings":{{"extras":{extras}}}}}}}"#);
            (format!(r#"{{"a":1.0,{context}{tail}}}"#), format!(r#"{{"a":1.0,{context}}}"#))
        };
        let cut = |text: &str| without_extras(Raw::parse(text).unwrap());
        let (text, signed) = event(r#""{\"org\":\"x\",\"n\":1}""#, r#","org":"x","n":1"#);
        assert_eq!(cut(&text), Some(signed));
        let (text, _) = event(r#""{\"org\":\"x\"}""#, r#","org":"x","own":2"#);
        assert_eq!(cut(&text), None, "a member behind the extras was not merged by the producer");
        for extras in [r#""""#, r#""[]""#, r#""{""#, "{}", "1", "null", r#""{}""#] {
            let (text, _) = event(extras, r#","org":"x""#);
            assert_eq!(cut(&text), None, "{extras}");
        }
        assert_eq!(cut("1"), None);
        assert_eq!(cut(r#"{"context":null}"#), None);
    }

    proptest! {
        #[test]
        fn no_header_is_trouble(signature in any::<String>(), secret in any::<Vec<u8>>()) {
            prop_assert!(!verifies(&secret, &signature, FIRST));
        }

        #[test]
        fn one_changed_digit_is_enough(position in 0..40_usize, digit in "[0-9a-f]") {
            let mut changed = OF_FIRST.to_owned();
            changed.replace_range(position..=position, &digit);
            prop_assert_eq!(verifies(SECRET, &changed, FIRST), changed == OF_FIRST);
        }
    }
}
