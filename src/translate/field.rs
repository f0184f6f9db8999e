//! Where in an event a value is found: the fields that several shapes read.
//!
//! Keys are matched as Segment's own reader matches them (segment.md 3.6), sources are asked in the order that each
//! function states, and what has the wrong type counts as absent.

use std::borrow::Cow;

use crate::segment::{Event, Object, items_of};
use crate::wigzo::Source;

/// A field that a profile may require.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Field {
    /// A product's id, see [`product_id`].
    ProductId,
    /// An order's id, see [`order_id`].
    OrderId,
}

impl Field {
    /// Whether the event has it.
    pub(super) fn is_present(self, event: &Event<'_>) -> bool {
        match self {
            Self::ProductId => product_id(&event.properties).is_some(),
            Self::OrderId => order_id(event).is_some(),
        }
    }
}

/// The libraries that run in a mobile app (their `context.library.name`, the npm scope left out).
const MOBILE_LIBRARIES: [&str; 6] = [
    "analytics-android",
    "analytics-ios",
    "analytics-kotlin",
    "analytics-swift",
    "analytics-react-native",
    "analytics_flutter",
];

/// `app` for a message from a device or a mobile library, else `web` (wigzo.md 6.3).
pub(super) fn source(event: &Event<'_>) -> Source {
    let library = event.context.object("library").and_then(|library| library.text("name"));
    // Some clients send `library` as a bare string.
    let library = library.or_else(|| event.context.text("library")).unwrap_or_default();
    let library = library.strip_prefix("@segment/").unwrap_or(&library);
    if event.context.get("device").is_some() || MOBILE_LIBRARIES.contains(&library) {
        Source::App
    } else {
        Source::Web
    }
}

/// A product's id: `product_id` in any spelling, else `id`, its name in the first version of the e-commerce spec.
/// An SKU is no product id: shops have several for one product.
pub(super) fn product_id<'a>(product: &Object<'a>) -> Option<Cow<'a, str>> {
    product.text("product_id").or_else(|| product.text("id"))
}

/// An order's id: `order_id` in any spelling, else `id`.
pub(super) fn order_id<'a>(event: &Event<'a>) -> Option<Cow<'a, str>> {
    event.properties.text("order_id").or_else(|| event.properties.text("id"))
}

/// The items of `properties.products` that are objects.
pub(super) fn products<'a>(event: &Event<'a>) -> Vec<Object<'a>> {
    let list = event.properties.get_like("products").and_then(items_of).unwrap_or_default();
    list.into_iter().filter_map(Object::parse).collect()
}

/// The URL that an event is about: `properties.url`, else that of the page it was sent from. A product's own URL
/// comes first, since a product may be clicked, or added, on another page than its own.
pub(super) fn url<'a>(event: &Event<'a>) -> Option<Cow<'a, str>> {
    event.properties.text("url").or_else(|| page(event, "url"))
}

/// A field of `context.page`.
pub(super) fn page<'a>(event: &Event<'a>, key: &str) -> Option<Cow<'a, str>> {
    event.context.object("page")?.text(key)
}

/// The language of the content: the part of `context.locale` before the region (`en` of `en-IN`).
pub(super) fn language<'a>(event: &Event<'a>) -> Option<Cow<'a, str>> {
    let locale = event.context.text("locale")?;
    let language = locale.split(['-', '_']).next().filter(|language| !language.is_empty())?;
    Some(Cow::Owned(language.to_owned()))
}
