//! A line with a signature, then a body: no panic, nothing verifies without the secret.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wigzo_destination::segment::{decode, signed_by};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (signature, body) = input.split_at(end);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let Ok(request) = decode(body, 50) else { return };
    let signature = String::from_utf8_lossy(signature);
    // The secret of the captures, so that the seeds reach the end of every path.
    let _ = signed_by(b"abc123", &signature, body, &request);
    assert!(!signed_by(b"", &signature, body, &request), "an empty secret vouches for something");
    // Not guessable from the input: a fuzzer that gets here has broken HMAC, or found our mistake.
    assert!(!signed_by(b"f1c8a0f3-not-in-any-input", &signature, body, &request), "a forged signature");
});
