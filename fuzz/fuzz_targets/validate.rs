//! Any text as an event: no panic; what is accepted is complete for its kind; no message quotes the event.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wigzo_destination::segment::{
    Arrival, Event, EventName, Kind, Moment, Raw, Route, Surroundings, message_id,
};

fuzz_target!(|text: &str| {
    let _ = (Moment::of_text(text), Moment::of_number(text), EventName::new(text));
    // Bytes on disk may be damaged: what is trusted and should not be does no harm.
    let damaged = Raw::trusted(text);
    let _ = (message_id(damaged), Event::read(damaged, &Surroundings::default()));
    let _ = Surroundings::from_stored(text);
    let Ok(raw) = Raw::parse(text) else { return };
    assert_eq!(raw, damaged);
    let _ = message_id(raw);
    for kind in [None].into_iter().chain(Kind::ALL.map(Some)) {
        let surroundings = Surroundings { kind, ..Surroundings::default() };
        let event = match Event::read(raw, &surroundings) {
            Ok(event) => event,
            Err(rejection) => {
                assert!(rejection.message.len() < 200, "{rejection:?}");
                continue;
            }
        };
        assert!(!event.person().is_empty());
        assert_eq!(event.kind == Kind::Track, !event.event.is_empty());
        for route in [Route::Webhook, Route::Tracking] {
            event.wanted(route);
            for received_at in [i64::MIN, 0, 1_767_323_100_000, i64::MAX] {
                let told = event.happened_at(Arrival { route, received_at });
                assert_eq!(told.is_some(), event.timestamp.is_some());
            }
        }
        let _ = (event.option("imageUrl"), event.title());
    }
});
