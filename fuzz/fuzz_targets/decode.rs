//! Any bytes as a request's body: no panic, items are slices of the body, surroundings survive being stored.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wigzo_destination::segment::{Surroundings, decode};

const LIMIT: usize = 50;

fuzz_target!(|body: &[u8]| {
    let Ok(request) = decode(body, LIMIT) else { return };
    assert!(!request.items.is_empty() && request.items.len() <= LIMIT);
    let within = body.as_ptr_range();
    for item in &request.items {
        let bytes = item.raw.get().as_bytes().as_ptr_range();
        assert!(within.start <= bytes.start && bytes.end <= within.end, "an item is a copy");
    }
    let stored = request.surroundings.to_stored();
    let read = Surroundings::from_stored(&stored).expect("what was stored is read");
    assert_eq!(read.to_stored(), stored);
});
