//! Value shapes: how the value of a Wigzo event (`eventval`) is made from a Segment event.
//!
//! A table names a shape; the function here makes it. A shape that has nothing to say names the field that it lacks,
//! and the call is not made: Segment's own integration sends nothing rather than half an event (wigzo.md 7.1). Objects
//! that describe goods and orders are in [`commerce`](super::commerce), the values that Segment's own integration made
//! in [`classic`](super::classic).

use super::field::{Found, Part, Scene, product_id};
use super::{classic, commerce};
use crate::segment::{JsonType, Raw, text_of};
use crate::wigzo::{Json, JsonArray, JsonObject};

/// Declares the shapes: the name in a table, and what the value is.
macro_rules! shapes {
    ($($variant:ident = $name:literal, $meaning:literal;)+) => {
        /// How the value of a Wigzo event is made.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum Shape {
            $(#[doc = $meaning] #[serde(rename = $name)] $variant,)+
        }

        impl Shape {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name in a table.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What the value is, in a line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

shapes! {
    Properties = "properties", "All properties as they are; `{}` if there are none.";
    Page = "page", "The page's properties with `title` and `canonicalUrl`.";
    PageSummary = "page_summary", "`canonicalUrl` and `title` of the page.";
    ProductId = "product_id", "The product's id.";
    ProductIds = "product_ids", "The ids of the products in the list.";
    ProductUrl = "product_url", "The product's URL, else its id.";
    ListUrl = "list_url", "The product list's URL, else its category, else its id.";
    Url = "url", "The URL that the event is about, else that of the page it was sent from.";
    Query = "query", "The search query: its text, or the object that it is.";
    QueryObject = "query_object", "`query`: the search query as it came.";
    ListSummary = "list_summary", "`canonicalURL`, `categoryUrl`, `image` and `title` of the product list.";
    Product = "product", "The product object; amounts are text.";
    Checkout = "checkout", "The checkout object; amounts are text.";
    CheckoutSummary = "checkout_summary", "`pageUrl`, `totalOrderValue`, `itemCount` and `items` of the checkout.";
    Order = "order", "The order object; amounts are numbers.";
    Nothing = "nothing", "`{}`: the name says it all.";
    ClassicPage = "classic_page", "`canonicalUrl` and `title` of a page as Segment's own integration sent them.";
    ClassicIndex = "classic_index", "The product as Segment's own integration put it into the index.";
    ClassicProductId = "classic_product_id", "The product's id with the JSON type it came with.";
    ClassicProductIds = "classic_product_ids", "The ids of the products in the list with the JSON types they came with.";
    ClassicQuery = "classic_query", "The search query as it came.";
}

/// What a value was not made for: the field that the event lacks.
pub(super) type Lacking = &'static str;

impl Shape {
    /// The value, or the field that the event lacks.
    pub(super) fn make<'e>(self, scene: &Scene<'e>) -> Result<Json<'e>, Lacking> {
        let text = |found: Option<Found<std::borrow::Cow<'_, str>>>, lacking| {
            let found = found.ok_or(lacking)?;
            scene.recorder.took(VALUE, found.place);
            Ok(Json::text(&found.value))
        };
        match self {
            Self::Properties => Ok(properties(scene)),
            Self::Page => Ok(page(scene)),
            Self::PageSummary => Ok(page_summary(scene)),
            Self::ProductId => text(product_id(scene.properties()), "product_id"),
            Self::ProductIds => product_ids(scene),
            Self::ProductUrl => {
                text(scene.url().or_else(|| product_id(scene.properties())), "url or product_id")
            }
            // A server source has no page: what it knows of the list goes in the URL's place, as with a product.
            Self::ListUrl => text(
                scene.url().or_else(|| scene.properties().first(&["category", "list_id"])),
                "url, category or list_id",
            ),
            Self::Url => text(scene.url(), "url"),
            Self::Query => query(scene),
            Self::QueryObject => query_object(scene),
            Self::ListSummary => Ok(commerce::list_summary(scene)),
            Self::Product => Ok(commerce::product(scene)),
            Self::Checkout => Ok(commerce::checkout(scene)),
            Self::CheckoutSummary => Ok(commerce::checkout_summary(scene)),
            Self::Order => Ok(commerce::order(scene)),
            Self::Nothing => Ok(JsonObject::new().finish()),
            Self::ClassicPage => Ok(classic::page(scene)),
            Self::ClassicIndex => classic::index(scene),
            Self::ClassicProductId => classic::product_id(scene),
            Self::ClassicProductIds => classic::product_ids(scene),
            Self::ClassicQuery => classic::query(scene),
        }
    }

    /// Whether the value is an object, whose members a row can drop, keep and set.
    pub(super) fn is_object(self) -> bool {
        match self {
            Self::Properties
            | Self::Page
            | Self::PageSummary
            | Self::QueryObject
            | Self::ListSummary
            | Self::Product
            | Self::Checkout
            | Self::CheckoutSummary
            | Self::Order
            | Self::Nothing
            | Self::ClassicPage
            | Self::ClassicIndex => true,
            Self::ProductId
            | Self::ProductIds
            | Self::ProductUrl
            | Self::ListUrl
            | Self::Url
            | Self::Query
            | Self::ClassicProductId
            | Self::ClassicProductIds
            | Self::ClassicQuery => false,
        }
    }

    /// The members that Wigzo calls mandatory (wigzo.md 6.2); no row can take them away.
    pub(super) fn mandatory(self) -> &'static [&'static str] {
        match self {
            Self::Order => &["orderId", "customer_id", "line_items"],
            Self::Checkout => &["line_items"],
            Self::Product => &["productId", "canonicalUrl", "variants"],
            Self::ClassicIndex => &["productId"],
            _ => &[],
        }
    }
}

/// What a value that is no object is called for a recorder.
pub(super) const VALUE: &str = "eventval";

fn properties<'e>(scene: &Scene<'e>) -> Json<'e> {
    scene.recorder.took(VALUE, super::field::Place::new("properties", ""));
    let properties = &scene.event.properties;
    if let Some(whole) = properties.whole() {
        return Json::raw(whole.get());
    }
    let mut out = JsonObject::new();
    for (key, value) in properties.iter() {
        out.raw(key, value.get());
    }
    out.finish()
}

/// The name that a page is called by: the call's own, else its title.
fn page_title<'e>(scene: &Scene<'e>) -> Option<Found<std::borrow::Cow<'e, str>>> {
    let name = scene.event.name.as_deref().filter(|name| !name.is_empty());
    name.map(|name| Found::new(name.into(), "", "name")).or_else(|| scene.properties().text("title"))
}

/// Every property in its place, with three fields of ours: `title` is the call's name, `canonicalUrl` the page's
/// URL, `category` the call's category where the properties have none. A property of one of the first two names is
/// replaced where it stands; it is never there twice.
fn page(scene: &Scene<'_>) -> Json<'static> {
    let event = scene.event;
    scene.recorder.took(VALUE, super::field::Place::new("properties", ""));
    let ours = [("title", page_title(scene)), ("canonicalUrl", scene.url())];
    for (field, found) in &ours {
        if let Some(found) = found {
            scene.recorder.took(field, found.place);
        }
    }
    let mut written = Vec::with_capacity(ours.len());
    let mut out = JsonObject::new();
    for (key, value) in event.properties.iter() {
        match ours.iter().find(|(name, _)| *name == key) {
            Some((name, Some(found))) if !written.contains(name) => {
                out.text(name, &found.value);
                written.push(*name);
            }
            // A second member of this name.
            Some((_, Some(_))) => {}
            Some((_, None)) | None => {
                out.raw(key, value.get());
            }
        }
    }
    for (name, found) in &ours {
        if let Some(found) = found.as_ref().filter(|_| !written.contains(name)) {
            out.text(name, &found.value);
        }
    }
    if let (Some(category), None) = (&event.category, event.properties.get_like("category")) {
        out.text("category", category);
    }
    out.finish()
}

fn page_summary(scene: &Scene<'_>) -> Json<'static> {
    let mut out = scene.draft();
    out.text("canonicalUrl", scene.url().as_ref());
    out.text("title", page_title(scene).as_ref());
    out.finish()
}

fn product_ids(scene: &Scene<'_>) -> Result<Json<'static>, Lacking> {
    let mut out = JsonArray::new();
    for product in &scene.products() {
        if let Some(id) = product_id(Part::new(super::field::ITEM, product)) {
            scene.recorder.took(VALUE, id.place);
            out.item(&Json::text(&id.value));
        }
    }
    if out.is_empty() { Err("products") } else { Ok(out.finish()) }
}

fn query_object(scene: &Scene<'_>) -> Result<Json<'static>, Lacking> {
    let found = scene.properties().raw("query").ok_or("query")?;
    let mut out = scene.draft();
    out.raw("query", Some(&found));
    Ok(out.finish())
}

/// The spec allows a text and an object (segment.md 3.7).
fn query<'e>(scene: &Scene<'e>) -> Result<Json<'e>, Lacking> {
    const LACKING: Lacking = "query";
    let found = scene.properties().raw("query").ok_or(LACKING)?;
    scene.recorder.took(VALUE, found.place);
    let raw: Raw<'_> = found.value;
    match JsonType::of(raw) {
        JsonType::Object => Ok(Json::raw(raw.get())),
        JsonType::String | JsonType::Number => Ok(Json::text(&text_of(raw).ok_or(LACKING)?)),
        JsonType::Null | JsonType::Boolean | JsonType::Array => Err(LACKING),
    }
}
