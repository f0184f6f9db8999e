//! One validated event: the fields that Wigzo calls are made from, borrowed from the bytes that arrived.
//!
//! Invariants: an [`Event`] is complete for its kind (ids, event name, group); text fields are never empty; carried
//! values are raw. How bytes become one stands in `read`; what Wigzo is told about it is not known here.

use std::borrow::Cow;

use super::value::bool_of;
use super::{Moment, Object, Raw, Rejection, Route, Surroundings, Warning, read};

/// This destination's name in `integrations` and `context`, as its catalog entry has it.
const DESTINATION: &str = "Wigzo";

/// The type of a Segment message (segment.md 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Who somebody is.
    Identify,
    /// What somebody did.
    Track,
    /// A page that was viewed.
    Page,
    /// An app screen that was viewed.
    Screen,
    /// The account that somebody belongs to.
    Group,
    /// Two ids of one person.
    Alias,
    /// A person who wants to be forgotten: Segment sends it to webhooks when a deletion regulation runs.
    Delete,
}

impl Kind {
    /// Every kind that a sender may post to a path of its own, in the spec's order.
    pub const ALL: [Self; 6] =
        [Self::Identify, Self::Track, Self::Page, Self::Screen, Self::Group, Self::Alias];

    /// The spec's name: `identify`, `track` …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Track => "track",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
            Self::Delete => "delete",
        }
    }

    /// The inverse of [`Kind::as_str`]; exact, as Segment's is.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Delete]).find(|kind| kind.as_str() == text)
    }
}

/// A time as it was written, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<'a> {
    /// Its text: a string's content, or a number's digits.
    pub text: Cow<'a, str>,
    /// The moment, if it is one of the forms that are understood (segment.md 2.8).
    pub moment: Option<Moment>,
}

impl<'a> Written<'a> {
    /// A time that came as a JSON string.
    pub fn text(text: Cow<'a, str>) -> Self {
        Self { moment: Moment::of_text(&text), text }
    }

    /// A time that came as a JSON number.
    pub fn number(digits: &'a str) -> Self {
        Self { moment: Moment::of_number(digits), text: Cow::Borrowed(digits) }
    }
}

/// How and when an event arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The family of routes it came by.
    pub route: Route,
    /// When its request arrived: milliseconds since 1970.
    pub received_at: i64,
}

/// A valid Segment event.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Its type.
    pub kind: Kind,
    /// The sender's `messageId`; `None` where the sender gave none (the Rust library).
    pub message_id: Option<Cow<'a, str>>,
    /// `userId` as text (a number as its exact decimal text); never empty.
    pub user_id: Option<Cow<'a, str>>,
    /// `anonymousId` likewise (or its old name `sessionId`).
    pub anonymous_id: Option<Cow<'a, str>>,
    /// `previousId` of an alias (or its old name `from`).
    pub previous_id: Option<Cow<'a, str>>,
    /// `groupId` of a group.
    pub group_id: Option<Cow<'a, str>>,
    /// The event name of a track; empty for every other kind.
    pub event: Cow<'a, str>,
    /// The `name` of a page or screen.
    pub name: Option<Cow<'a, str>>,
    /// The `category` of a page or screen.
    pub category: Option<Cow<'a, str>>,
    /// `properties` of track, page and screen.
    pub properties: Object<'a>,
    /// `traits` of identify and group; an identify without them uses `context.traits` (`RudderStack`'s Python library).
    pub traits: Object<'a>,
    /// `context`, the envelope's merged under it.
    pub context: Object<'a>,
    /// `integrations`, the envelope's merged under it.
    pub integrations: Object<'a>,
    /// The event's own `timestamp`, else `originalTimestamp`; one that can be read goes before one that cannot.
    pub timestamp: Option<Written<'a>>,
    /// `sentAt` of the event, else of the envelope.
    pub sent_at: Option<Written<'a>>,
    /// The event's own `writeKey`. It authenticates nothing where the envelope or the headers name a key.
    pub write_key: Option<Cow<'a, str>>,
    /// What was odd but accepted.
    pub warnings: Vec<Warning>,
}

impl<'a> Event<'a> {
    /// Reads one event and judges it by the rules (segment.md 3.2 to 3.4).
    ///
    /// # Errors
    /// The first rule that the event breaks.
    pub fn read(raw: Raw<'a>, surroundings: &Surroundings<'a>) -> Result<Self, Rejection> {
        read::read(raw, surroundings)
    }

    /// The person whose order is kept: `userId`, else `anonymousId`, else (alias, group) `previousId` or `groupId`.
    pub fn person(&self) -> &str {
        let ids = [&self.user_id, &self.anonymous_id, &self.previous_id, &self.group_id];
        ids.into_iter().find_map(|id| id.as_deref()).unwrap_or_default()
    }

    /// The event's name for people: the track event, the page's or screen's name, else empty.
    pub fn title(&self) -> &str {
        match self.kind {
            Kind::Track => &self.event,
            Kind::Page | Kind::Screen => self.name.as_deref().unwrap_or_default(),
            Kind::Identify | Kind::Group | Kind::Alias | Kind::Delete => "",
        }
    }

    /// When the event happened, by the receiver's clock: `receivedAt - (sentAt - timestamp)` (segment.md 2.8), so that
    /// a phone whose clock is wrong does no harm. `None` if there is nothing to correct: behind a webhook, where
    /// Segment has done it, and where `sentAt` or the timestamp is absent or unreadable.
    ///
    /// The result may lie ahead of the arrival if the sender says so; it is not judged.
    pub fn moment(&self, arrival: Arrival) -> Option<Moment> {
        match arrival.route {
            Route::Webhook => None,
            Route::Tracking => {
                let sent_at = self.sent_at.as_ref()?.moment?.millis();
                let happened = self.timestamp.as_ref()?.moment?.millis();
                let skew = arrival.received_at.checked_sub(sent_at)?;
                Moment::from_millis(happened.checked_add(skew)?)
            }
        }
    }

    /// When the event happened, as text to pass on: the corrected [`Event::moment`], else the sender's own words.
    /// They stay also where both clocks agree to the millisecond, and where nothing can be corrected, unreadable ones
    /// included: what Segment's own forwarding would carry is not for us to drop.
    pub fn happened_at(&self, arrival: Arrival) -> Option<Cow<'_, str>> {
        let written = self.timestamp.as_ref()?;
        match self.moment(arrival) {
            Some(moment) if written.moment != Some(moment) => Some(Cow::Owned(moment.to_string())),
            _ => Some(Cow::Borrowed(&written.text)),
        }
    }

    /// Whether the event is meant for `Wigzo` (segment.md 4.1, 4.2). On [`Route::Tracking`] `integrations.Wigzo` decides
    /// (boolean as it is, anything else but null is on), then `All` (any case, default true). On [`Route::Webhook`]
    /// only an explicit `Wigzo: false` says no.
    pub fn wanted(&self, route: Route) -> bool {
        let switch = self.integrations.get(DESTINATION).map(|value| bool_of(value).unwrap_or(true));
        match route {
            Route::Webhook => switch.unwrap_or(true),
            Route::Tracking => switch.or_else(|| self.all()).unwrap_or(true),
        }
    }

    /// The switch for all destinations at once, if the sender set it to a boolean.
    fn all(&self) -> Option<bool> {
        self.integrations.find(|key| key.eq_ignore_ascii_case("all")).and_then(bool_of)
    }

    /// A destination option by its name (`imageUrl`), from `integrations.Wigzo`, else `context.Wigzo`; both names in
    /// any spelling (segment.md 4.5). `null` and a non-object count as absent.
    ///
    /// Each option is looked for in both places by itself: analytics.js writes some options to the one and some to
    /// the other.
    pub fn option(&self, name: &str) -> Option<Raw<'a>> {
        [&self.integrations, &self.context]
            .into_iter()
            .filter_map(|holder| holder.object(DESTINATION))
            .find_map(|options| options.get_like(name))
    }
}

/// The message id of an event that may be invalid otherwise, for reports: at most 100 characters of it.
pub fn message_id(raw: Raw<'_>) -> Option<String> {
    let id = Object::parse(raw)?.text("messageId")?;
    Some(id.chars().take(100).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<R>(members: &str, check: impl FnOnce(Event<'_>) -> R) -> R {
        let text = format!(r#"{{"type":"track","event":"A","userId":"u1",{members}}}"#);
        check(Event::read(Raw::parse(&text).unwrap(), &Surroundings::default()).unwrap())
    }

    #[test]
    fn kinds_are_exact() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            assert_eq!(Kind::parse(&kind.as_str().to_uppercase()), None);
        }
        assert_eq!(Kind::parse("delete"), Some(Kind::Delete));
        assert_eq!(Kind::parse(""), None);
    }

    /// integrations | wanted on a tracking route | wanted behind a webhook
    #[test]
    fn switches_are_obeyed_as_the_route_asks() {
        let table = [
            ("null", true, true),
            ("{}", true, true),
            (r#"{"All":true}"#, true, true),
            (r#"{"All":false}"#, false, true),
            (r#"{"all":false}"#, false, true),
            (r#"{"ALL":false}"#, false, true),
            (r#"{"All":"false"}"#, true, true),
            (r#"{"All":null}"#, true, true),
            (r#"{"All":false,"Wigzo":true}"#, true, true),
            (r#"{"All":false,"Wigzo":{}}"#, true, true),
            (r#"{"All":false,"Wigzo":{"imageUrl":"x"}}"#, true, true),
            (r#"{"All":false,"Wigzo":0}"#, true, true),
            (r#"{"All":false,"Wigzo":null}"#, false, true),
            (r#"{"All":false,"wigzo":true}"#, false, true),
            (r#"{"All":true,"Wigzo":false}"#, false, false),
            (r#"{"Wigzo":false}"#, false, false),
            (r#"{"wigzo":false}"#, true, true),
            (r#"{"All":false,"Webhooks (Actions)":true}"#, false, true),
            (r#"{"Wigzo":true,"Wigzo":false}"#, false, false),
        ];
        for (integrations, tracking, webhook) in table {
            with(&format!(r#""integrations":{integrations}"#), |event| {
                assert_eq!(event.wanted(Route::Tracking), tracking, "{integrations}");
                assert_eq!(event.wanted(Route::Webhook), webhook, "{integrations}");
            });
        }
    }

    /// integrations | context | the option `imageUrl`
    #[test]
    fn options_are_looked_for_in_two_places() {
        let table = [
            ("{}", "{}", None),
            (r#"{"Wigzo":{"imageUrl":1}}"#, "{}", Some("1")),
            (r#"{"wigzo":{"image_url":1}}"#, "{}", Some("1")),
            ("{}", r#"{"Wigzo":{"imageUrl":2}}"#, Some("2")),
            ("{}", r#"{"WIGZO":{"ImageURL":2}}"#, Some("2")),
            (r#"{"Wigzo":{"imageUrl":1}}"#, r#"{"Wigzo":{"imageUrl":2}}"#, Some("1")),
            (r#"{"Wigzo":{"imageUrl":null}}"#, r#"{"Wigzo":{"imageUrl":2}}"#, Some("2")),
            (r#"{"Wigzo":{"language":1}}"#, r#"{"Wigzo":{"imageUrl":2}}"#, Some("2")),
            (r#"{"Wigzo":true}"#, r#"{"Wigzo":{"imageUrl":2}}"#, Some("2")),
            (r#"{"Wigzo":null}"#, r#"{"Wigzo":[1]}"#, None),
        ];
        for (integrations, context, option) in table {
            with(&format!(r#""integrations":{integrations},"context":{context}"#), |event| {
                let found = event.option("imageUrl").map(Raw::get);
                assert_eq!(found, option, "{integrations} and {context}");
            });
        }
    }

    /// members of the event | what is told behind a webhook | what is told on a tracking route
    ///
    /// The request arrived at 2026-01-02T03:05:10.000Z.
    #[test]
    fn the_clock_of_a_direct_post_is_corrected() {
        let table = [
            // Ten minutes slow, sent five seconds after the event.
            (
                r#""timestamp":"2026-01-02T02:55:00.000Z","sentAt":"2026-01-02T02:55:05.000Z""#,
                Some("2026-01-02T02:55:00.000Z"),
                Some("2026-01-02T03:05:05.000Z"),
            ),
            // A year fast, in two zones.
            (
                r#""timestamp":"2027-01-02T08:35:00+05:30","sentAt":"2027-01-02T03:05:00.5Z""#,
                Some("2027-01-02T08:35:00+05:30"),
                Some("2026-01-02T03:05:09.500Z"),
            ),
            // Numbers.
            (
                r#""timestamp":1767323100,"sentAt":1767323101000"#,
                Some("1767323100"),
                Some("2026-01-02T03:05:09.000Z"),
            ),
            // No skew at all: the sender's own words.
            (
                r#""timestamp":"2026-01-02 03:05","sentAt":"2026-01-02T03:05:10Z""#,
                Some("2026-01-02 03:05"),
                Some("2026-01-02 03:05"),
            ),
            // An imported event of long ago.
            (
                r#""timestamp":"2015-2-02T00:30:08.276Z","sentAt":"2026-01-02T03:05:09.999Z""#,
                Some("2015-2-02T00:30:08.276Z"),
                Some("2015-02-02T00:30:08.277Z"),
            ),
            // Nothing to correct with.
            (
                r#""timestamp":"2026-01-02T02:55:00Z""#,
                Some("2026-01-02T02:55:00Z"),
                Some("2026-01-02T02:55:00Z"),
            ),
            (r#""timestamp":"noon","sentAt":"2026-01-02T03:05:00Z""#, Some("noon"), Some("noon")),
            (r#""timestamp":"2026-01-02","sentAt":"now""#, Some("2026-01-02"), Some("2026-01-02")),
            (r#""sentAt":"2026-01-02T03:05:00Z""#, None, None),
            // A correction beyond all years.
            (r#""timestamp":"9999-12-01","sentAt":"0001-01-01""#, Some("9999-12-01"), Some("9999-12-01")),
        ];
        let received_at = Moment::of_text("2026-01-02T03:05:10Z").unwrap().millis();
        for (members, webhook, tracking) in table {
            with(members, |event| {
                for (route, told) in [(Route::Webhook, webhook), (Route::Tracking, tracking)] {
                    let arrival = Arrival { route, received_at };
                    assert_eq!(event.happened_at(arrival).as_deref(), told, "{members}, {route:?}");
                }
                for received_at in [i64::MIN, i64::MAX] {
                    assert_eq!(event.moment(Arrival { route: Route::Tracking, received_at }), None);
                }
            });
        }
    }

    /// event | person | title
    #[test]
    fn an_event_says_who_and_what() {
        let table = [
            (r#"{"type":"track","event":" Bought ","userId":"u","anonymousId":"a"}"#, "u", " Bought "),
            (r#"{"type":"page","name":"Kurtas","category":"C","anonymousId":"a"}"#, "a", "Kurtas"),
            (r#"{"type":"screen","anonymousId":7}"#, "7", ""),
            (r#"{"type":"identify","userId":"u","name":"n","event":"e"}"#, "u", ""),
            (r#"{"type":"group","groupId":"g","anonymousId":"a"}"#, "a", ""),
            (r#"{"type":"alias","previousId":"p","userId":"u"}"#, "u", ""),
        ];
        for (text, person, title) in table {
            let event = Event::read(Raw::parse(text).unwrap(), &Surroundings::default()).unwrap();
            assert_eq!((event.person(), event.title()), (person, title), "{text}");
        }
    }
}
