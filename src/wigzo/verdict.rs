//! What a response, or its absence, means for the call that caused it (wigzo.md 9, design.md 7).
//!
//! One exhaustive function over typed input. It judges one try; how often and when to try again is the caller's.

mod body;

use std::time::Duration;

pub use body::SoftFailure;

/// What came back from one try of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// An HTTP answer.
    Answer {
        /// The status code.
        status: u16,
        /// `Retry-After` as a wait from now, if the header was there and readable.
        retry_after: Option<Duration>,
        /// The first 16 KB of the body, or what of them has arrived.
        body: &'a [u8],
    },
    /// The connection could not be made (DNS, refused, TLS): nothing was sent.
    Unreachable,
    /// The connection broke after the request may have been written.
    Broken,
    /// No answer in time after the request may have been written.
    TimedOut,
}

/// What to do with a call after one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Wigzo has it.
    Delivered,
    /// 2xx, but the body takes it back: bounded retries.
    SoftFailure(SoftFailure),
    /// Try again later; `ambiguous` where Wigzo may have it already.
    Retry {
        /// The wait that Wigzo asked for; it pauses the whole organization.
        after: Option<Duration>,
        /// Whether the call may have been carried out.
        ambiguous: bool,
    },
    /// No call of this organization can succeed before somebody corrects its settings. Events wait.
    Suspend {
        /// Which setting is wrong.
        misfit: Misfit,
        /// The wait that Wigzo asked for: the earliest probe.
        after: Option<Duration>,
    },
    /// Any other 4xx: this call can never succeed.
    Refused {
        /// The wait that Wigzo asked for before it takes the organization's other calls.
        after: Option<Duration>,
    },
}

/// Which of an organization's settings Wigzo does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Misfit {
    /// 401, 403: its tokens.
    Credentials,
    /// 404, 405, 410 and 3xx: its base URL. Redirects are never followed, since the URL holds the tokens.
    Address,
}

/// Judges a reply.
pub fn verdict(reply: &Reply<'_>) -> Verdict {
    let (status, after, body) = match *reply {
        Reply::Answer { status, retry_after, body } => (status, retry_after, body),
        Reply::Unreachable => return Verdict::Retry { after: None, ambiguous: false },
        Reply::Broken | Reply::TimedOut => return Verdict::Retry { after: None, ambiguous: true },
    };
    match status {
        200..=299 => body::soft_failure(body).map_or(Verdict::Delivered, Verdict::SoftFailure),
        300..=399 | 404 | 405 | 410 => Verdict::Suspend { misfit: Misfit::Address, after },
        401 | 403 => Verdict::Suspend { misfit: Misfit::Credentials, after },
        408 | 425 | 429 | 500..=599 => Verdict::Retry { after, ambiguous: false },
        400..=499 => Verdict::Refused { after },
        // Not a final HTTP answer: it says neither yes nor no.
        ..=199 | 600.. => Verdict::Retry { after, ambiguous: true },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const WAIT: Option<Duration> = Some(Duration::from_secs(7));

    fn answer(status: u16, retry_after: Option<Duration>, body: &str) -> Verdict {
        verdict(&Reply::Answer { status, retry_after, body: body.as_bytes() })
    }

    #[test]
    fn every_status_has_its_verdict() {
        for status in 0..=999 {
            for after in [None, WAIT] {
                let expected = match status {
                    200..=299 => Verdict::Delivered,
                    401 | 403 => Verdict::Suspend { misfit: Misfit::Credentials, after },
                    404 | 405 | 410 | 300..=399 => Verdict::Suspend { misfit: Misfit::Address, after },
                    408 | 425 | 429 | 500..=599 => Verdict::Retry { after, ambiguous: false },
                    400..=499 => Verdict::Refused { after },
                    _ => Verdict::Retry { after, ambiguous: true },
                };
                assert_eq!(answer(status, after, ""), expected, "{status} {after:?}");
            }
        }
    }

    #[test]
    fn every_absence_of_an_answer_has_its_verdict() {
        for (reply, ambiguous) in
            [(Reply::Unreachable, false), (Reply::Broken, true), (Reply::TimedOut, true)]
        {
            assert_eq!(verdict(&reply), Verdict::Retry { after: None, ambiguous });
        }
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(unit).collect()
    }

    const SUCCESS: Verdict = Verdict::Delivered;
    const FAILURE: Verdict = Verdict::SoftFailure(SoftFailure::Stated);
    const DOCUMENT: Verdict = Verdict::SoftFailure(SoftFailure::NotAnApiAnswer);

    /// What a 2xx with this text as its body means, in UTF-8, UTF-16 and gzip.
    const TEXTS: &[(&str, Verdict)] = &[
        // Nothing that could say failure.
        ("", SUCCESS),
        (" \r\n", SUCCESS),
        ("\u{feff}", SUCCESS),
        ("OK", SUCCESS),
        ("accepted, 1 < 2", SUCCESS),
        ("error", SUCCESS),
        ("null", SUCCESS),
        ("false", SUCCESS),
        ("500", SUCCESS),
        (r#""error""#, SUCCESS),
        ("{}", SUCCESS),
        ("[]", SUCCESS),
        ("{", SUCCESS),
        ("{status: error}", SUCCESS),
        // A document.
        ("<", DOCUMENT),
        ("<html>", DOCUMENT),
        ("<!DOCTYPE html><title>Sign in</title>", DOCUMENT),
        ("\r\n <!-- maintenance --><html>", DOCUMENT),
        ("\u{feff}<!doctype html>", DOCUMENT),
        ("\u{feff}\n\u{feff}<p>", DOCUMENT),
        (r#"<?xml version="1.0"?><status>success</status>"#, DOCUMENT),
        ("<soap:Envelope>", DOCUMENT),
        ("%PDF-1.7", DOCUMENT),
        ("GIF89a", DOCUMENT),
        ("PK\u{3}\u{4}", DOCUMENT),
        // `status`: a text.
        (r#"{"status":"success"}"#, SUCCESS),
        (r#"{"status":"SUCCESS","message":"x"}"#, SUCCESS),
        (r#"{"status":"ok"}"#, SUCCESS),
        (r#"{"status":"queued"}"#, SUCCESS),
        (r#"{"status":"accepted"}"#, SUCCESS),
        (r#"{"status":"no error"}"#, SUCCESS),
        (r#"{"status":""}"#, SUCCESS),
        (r#"{"status":"200"}"#, SUCCESS),
        (r#"{"status":"true"}"#, SUCCESS),
        (r#"{"status":"error"}"#, FAILURE),
        (r#"{"status":"Error"}"#, FAILURE),
        (r#"{"status":" FAILED "}"#, FAILURE),
        (r#"{"status":"failure"}"#, FAILURE),
        (r#"{"status":"fail"}"#, FAILURE),
        (r#"{"status":"unauthorized"}"#, FAILURE),
        (r#"{"status":"invalid"}"#, FAILURE),
        (r#"{"status":"denied"}"#, FAILURE),
        (r#"{"status":"rejected"}"#, FAILURE),
        (r#"{"status":"false"}"#, FAILURE),
        (r#"{"status":"401"}"#, FAILURE),
        (r#"{"Status":"error"}"#, FAILURE),
        (r#"{"STATUS":"error"}"#, FAILURE),
        (r#"{"st\u0061tus":"\u0065rror"}"#, FAILURE),
        (r#" {"message":{"a":[1]},"status":"failure","code":7} "#, FAILURE),
        ("\u{feff}{\"status\":\"error\"}", FAILURE),
        ("\r\n\t \u{feff} {\"status\":\"error\"}\n", FAILURE),
        // `status`: anything else.
        (r#"{"status":true}"#, SUCCESS),
        (r#"{"status":false}"#, FAILURE),
        (r#"{"status":null}"#, SUCCESS),
        (r#"{"status":0}"#, SUCCESS),
        (r#"{"status":1}"#, SUCCESS),
        (r#"{"status":-1}"#, SUCCESS),
        (r#"{"status":200}"#, SUCCESS),
        (r#"{"status":399}"#, SUCCESS),
        (r#"{"status":400}"#, FAILURE),
        (r#"{"status":500.0}"#, FAILURE),
        (r#"{"status":18446744073709551615}"#, FAILURE),
        (r#"{"status":{"status":"error"}}"#, SUCCESS),
        (r#"{"status":["error"]}"#, SUCCESS),
        // `success`.
        (r#"{"success":true}"#, SUCCESS),
        (r#"{"success":1}"#, SUCCESS),
        (r#"{"success":"true"}"#, SUCCESS),
        (r#"{"success":null}"#, SUCCESS),
        (r#"{"success":[]}"#, SUCCESS),
        (r#"{"success":false}"#, FAILURE),
        (r#"{"Success":"False"}"#, FAILURE),
        (r#"{"success":0}"#, FAILURE),
        (r#"{"success":false,"status":"success"}"#, FAILURE),
        // `error` and `errors`.
        (r#"{"error":null,"errors":null}"#, SUCCESS),
        (r#"{"error":"","errors":" "}"#, SUCCESS),
        (r#"{"error":false,"errors":false}"#, SUCCESS),
        (r#"{"error":[],"errors":[]}"#, SUCCESS),
        (r#"{"error":{},"errors":{}}"#, SUCCESS),
        (r#"{"error":0,"errors":0.0}"#, SUCCESS),
        (r#"{"error":"token expired"}"#, FAILURE),
        (r#"{"error":{"code":190}}"#, FAILURE),
        (r#"{"error":[1]}"#, FAILURE),
        (r#"{"error":true}"#, FAILURE),
        (r#"{"error":1}"#, FAILURE),
        (r#"{"error":-1}"#, FAILURE),
        (r#"{"errors":["a","b"]}"#, FAILURE),
        (r#"{"errors":{"userId":["missing"]}}"#, FAILURE),
        (r#"{"errors":3}"#, FAILURE),
        (r#"{"status":"success","error":"token expired"}"#, FAILURE),
        // Other members and depths say nothing.
        (r#"{"message":"error"}"#, SUCCESS),
        (r#"{"code":500}"#, SUCCESS),
        (r#"{"data":{"status":"error"}}"#, SUCCESS),
        // Arrays.
        (r#"[{"status":"success"},{"status":"ok"}]"#, SUCCESS),
        (r#"["status","error",null,1,-1,0.5,false]"#, SUCCESS),
        (r#"[[{"status":"error"}]]"#, SUCCESS),
        (r#"[{"status":"error"}]"#, FAILURE),
        (r#"[{"status":"error"},{"status":"success"}]"#, FAILURE),
        (r#"[1,"x",[],{"a":{"b":1}},{"success":false}]"#, FAILURE),
        // Of members with the same key the last one counts.
        (r#"{"status":"error","status":"success"}"#, SUCCESS),
        (r#"{"status":"error","Status":"success"}"#, SUCCESS),
        (r#"{"error":{"code":1},"error":null}"#, SUCCESS),
        (r#"{"status":"success","status":"error"}"#, FAILURE),
        (r#"{"success":true,"success":false}"#, FAILURE),
        // Cut off: what was read before counts.
        (r#"{"status":"err"#, SUCCESS),
        (r#"{"message":"cut o"#, SUCCESS),
        (r#"{"error":{"#, SUCCESS),
        (r#"{"status":"error","message":"cut o"#, FAILURE),
        (r#"{"error":{"message":"cut o"#, FAILURE),
        (r#"[{"status":"error"},{"sta"#, FAILURE),
    ];

    /// What a 2xx with these bytes as its body means.
    const BINARIES: &[(&[u8], Verdict)] = &[
        (b"\x89PNG\r\n\x1a\n", DOCUMENT),
        (b"\xff\xd8\xff\xe0", DOCUMENT),
        (b"\xff\xfe", SUCCESS),
        (b"\xff\xfe{", SUCCESS),
        (b"\x1f\x8b", SUCCESS),
        (b"\x1f\x8b\x08no gzip", SUCCESS),
        (b"\xc3", SUCCESS),
        (b"{\"message\":\"caf\xe9\",\"status\":\"error\"}", FAILURE),
        (b"{\"error\":\"caf\xe9\"}", FAILURE),
    ];

    #[test]
    fn the_body_of_a_2xx_decides_with_it() {
        let cases = TEXTS.iter().flat_map(|(text, expected)| {
            let mut forms = vec![text.as_bytes().to_vec(), gzip(text.as_bytes())];
            if !text.starts_with(['%', 'G', 'P']) {
                forms.extend([utf16(text, u16::to_le_bytes), utf16(text, u16::to_be_bytes)]);
            }
            forms.into_iter().map(|body| (body, *expected))
        });
        let cases = cases.chain(BINARIES.iter().map(|(body, expected)| (body.to_vec(), *expected)));
        for (body, expected) in cases {
            for status in [200, 201, 204, 299] {
                let reply = Reply::Answer { status, retry_after: None, body: &body };
                assert_eq!(verdict(&reply), expected, "{}", String::from_utf8_lossy(&body));
            }
        }
    }

    #[test]
    fn a_compressed_body_is_read_as_far_as_it_goes() {
        let failure = Verdict::SoftFailure(SoftFailure::Stated);
        let judge = |body: &[u8]| verdict(&Reply::Answer { status: 200, retry_after: None, body });
        let head = br#"{"status":"error","message":""#;
        let large = gzip(&[head, vec![b'x'; 10_000_000].as_slice()].concat());
        assert_eq!(judge(&large), failure, "more than is decompressed");
        assert_eq!(judge(&large[..large.len() / 2]), failure, "cut off");
        let late =
            gzip(&[br#"{"message":""#, vec![b'x'; 100_000].as_slice(), br#"","status":"error"}"#].concat());
        assert_eq!(judge(&late), Verdict::Delivered, "behind the bound");
    }

    #[test]
    fn bodies_beside_2xx_change_nothing() {
        assert_eq!(answer(400, None, r#"{"status":"success"}"#), Verdict::Refused { after: None });
        assert_eq!(
            answer(500, None, r#"{"status":"success"}"#),
            Verdict::Retry { after: None, ambiguous: false }
        );
    }
}
