//! Value shapes: how the value of a Wigzo event (`eventval`) is made from a Segment event.
//!
//! A profile names a shape; the function here makes it. A shape that has nothing to say answers `None`, and the call
//! is not made: Segment's own integration sends nothing rather than half an event (wigzo.md 7.1). Objects that
//! describe goods and orders are in [`commerce`](super::commerce).

use super::{commerce, field};
use crate::segment::{Arrival, Event, JsonType, text_of};
use crate::wigzo::{Json, JsonArray, JsonObject, LearnerId};

/// The shapes that a profile may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shape {
    /// All properties as they are; `{}` if there are none.
    Properties,
    /// The page's properties with `title` and `canonicalUrl`.
    Page,
    /// The product's id.
    ProductId,
    /// The ids of the products in the list.
    ProductIds,
    /// The product's URL, else its id.
    ProductUrl,
    /// The product list's URL, else its category, else its id.
    ListUrl,
    /// The search query: its text, or the object that it is.
    Query,
    /// The product object.
    Product,
    /// The checkout object.
    Checkout,
    /// The order object.
    Order,
}

/// What a shape may look at.
#[derive(Debug)]
pub(super) struct Scene<'e> {
    /// The event.
    pub(super) event: &'e Event<'e>,
    /// Whom it is about.
    pub(super) learner: &'e LearnerId,
    /// How and when it arrived: what its time is corrected by.
    pub(super) arrival: Arrival,
}

impl Shape {
    /// The value; `None` if the event lacks what it is made of.
    pub(super) fn make(self, scene: &Scene<'_>) -> Option<Json> {
        let event = scene.event;
        match self {
            Self::Properties => Some(properties(event)),
            Self::Page => Some(page(event)),
            Self::ProductId => Some(Json::text(&field::product_id(&event.properties)?)),
            Self::ProductIds => product_ids(event),
            Self::ProductUrl => product_url(event),
            Self::ListUrl => list_url(event),
            Self::Query => query(event),
            Self::Product => Some(commerce::product(event)),
            Self::Checkout => Some(commerce::checkout(event)),
            Self::Order => Some(commerce::order(scene)),
        }
    }
}

fn properties(event: &Event<'_>) -> Json {
    if let Some(whole) = event.properties.whole() {
        return Json::raw(whole);
    }
    let mut out = JsonObject::new();
    for (key, value) in event.properties.iter() {
        out.raw(key, value);
    }
    out.finish()
}

/// Every property in its place, with three fields of ours: `title` is the call's name, `canonicalUrl` the page's
/// URL, `category` the call's category where the properties have none. A property of one of the first two names is
/// replaced where it stands; it is never there twice.
fn page(event: &Event<'_>) -> Json {
    let name = event.name.clone().filter(|name| !name.is_empty());
    let ours =
        [("title", name.or_else(|| event.properties.text("title"))), ("canonicalUrl", field::url(event))];
    let mut written = Vec::with_capacity(ours.len());
    let mut out = JsonObject::new();
    for (key, value) in event.properties.iter() {
        match ours.iter().find(|(name, _)| *name == key) {
            Some((name, Some(text))) if !written.contains(name) => {
                out.text(name, text);
                written.push(*name);
            }
            // A second member of this name.
            Some((_, Some(_))) => {}
            Some((_, None)) | None => {
                out.raw(key, value);
            }
        }
    }
    for (name, text) in &ours {
        if let Some(text) = text.as_ref().filter(|_| !written.contains(name)) {
            out.text(name, text);
        }
    }
    if let (Some(category), None) = (&event.category, event.properties.get_like("category")) {
        out.text("category", category);
    }
    out.finish()
}

fn product_ids(event: &Event<'_>) -> Option<Json> {
    let mut out = JsonArray::new();
    for product in field::products(event) {
        if let Some(id) = field::product_id(&product) {
            out.item(&Json::text(&id));
        }
    }
    (!out.is_empty()).then(|| out.finish())
}

fn product_url(event: &Event<'_>) -> Option<Json> {
    let value = field::url(event).or_else(|| field::product_id(&event.properties))?;
    Some(Json::text(&value))
}

/// A server source has no page: what it knows of the list goes in the URL's place, as with a product.
fn list_url(event: &Event<'_>) -> Option<Json> {
    let value = field::url(event)
        .or_else(|| event.properties.text("category"))
        .or_else(|| event.properties.text("list_id"))?;
    Some(Json::text(&value))
}

/// The spec allows a text and an object (segment.md 3.7).
fn query(event: &Event<'_>) -> Option<Json> {
    let raw = event.properties.get_like("query")?;
    match JsonType::of(raw) {
        JsonType::Object => Some(Json::raw(raw)),
        JsonType::String | JsonType::Number => Some(Json::text(&text_of(raw)?)),
        JsonType::Null | JsonType::Boolean | JsonType::Array => None,
    }
}
