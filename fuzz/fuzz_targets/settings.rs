//! Any text as a user name, a line break and `X-Segment-Settings`, as it comes and as base64 of it: no panic; who is found is
//! found again by what is stored, and is called the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wigzo_destination::organization::{Organizations, Partner, PartnerSettings};

fuzz_target!(|input: &str| {
    let (user, header) = input.split_once('\n').unwrap_or(("", input));
    for header in [header.to_owned(), base64(header.as_bytes())] {
        let Ok(settings) = PartnerSettings::read(&header) else { continue };
        let Ok(partner) = Partner::claimed(Some(user), settings) else { continue };
        let stored = partner.to_stored();
        assert!(stored.len() < 512, "what is stored is bounded: {}", stored.len());
        let back = Partner::from_stored(&stored).expect("what was stored is read");
        assert_eq!((back.to_stored(), back.name()), (stored.clone(), partner.name()));
        let made = Organizations::default().partner(&stored).expect("what was stored is an organization");
        assert_eq!(made.name, partner.name());
    }
});

/// Base64 with padding; the fuzzer alone would seldom write any.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { letter.into() } else { '=' });
        }
    }
    text
}
