//! Any event by any table: no panic; the same calls every time, and those that the explanation tells of.
//!
//! The input is an event, or changes to a table (TOML), a line `---`, and the event.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wigzo_destination::segment::{Arrival, Event, Raw, Route, Surroundings};
use wigzo_destination::translate::{
    Ground, Identity, Layer, Mapping, Options, Profile, explain_event, translate,
};
use wigzo_destination::wigzo::Address;

fuzz_target!(|input: &str| {
    let (changes, text) = input.split_once("\n---\n").unwrap_or(("", input));
    let changes = toml::from_str::<Mapping>(changes).unwrap_or_default();
    let Ok(raw) = Raw::parse(text) else { return };
    let Ok(event) = Event::read(raw, &Surroundings::default()) else { return };
    let base = "https://wigzo.example".parse().expect("it is an address");
    let address = Address::new(base, &"org-token-42".to_owned().into(), None);
    for name in Profile::BUILTIN {
        let profile = Profile::builtin(name).expect("it is built in");
        let changed = profile.changed(&changes, Layer::Organization);
        let profile = changed.as_ref().unwrap_or(profile);
        for identity in [Identity::UserFirst, Identity::AnonymousFirst, Identity::Raw] {
            let options = Options { identity, namespace: "org-token-42".to_owned() };
            let arrival = Arrival { route: Route::Tracking, received_at: 1_767_323_100_000 };
            let calls = || translate(&event, arrival, profile, &options).into_calls();
            let once = calls();
            assert_eq!(once, calls());
            let ground = Ground { profile, options: &options, address: &address, arrival, obeyed: None };
            let told = explain_event(&event, &ground);
            assert_eq!(once.is_err(), told.calls.is_empty());
            for (call, told) in once.unwrap_or_default().iter().zip(&told.calls) {
                assert_eq!(call.body, told.body.get());
                Raw::parse(&call.body).expect("a body is JSON");
            }
        }
    }
});
