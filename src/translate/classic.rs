//! The values that Segment's own Wigzo integration 1.3 made (wigzo.md 7), its defects left out.
//!
//! Invariants:
//! * A value that was only carried keeps its JSON type: a product id that came as a number leaves as a number.
//! * What JavaScript takes for nothing (`""`, `0`, `false`, `null`) is nothing here too: that integration asked so.
//! * No `USD undefined` for a missing price, no `null` for a product without an id: those were defects.

use super::field::{Found, ITEM, Place, Scene};
use super::shape::{Lacking, VALUE};
use crate::segment::{JsonType, Object, Raw, items_of, present, text_of};
use crate::wigzo::{Json, JsonArray};

/// `track('view', {canonicalUrl, title})`: the property `url` and the name of the call, and nothing in their stead.
pub(super) fn page(scene: &Scene<'_>) -> Json<'static> {
    let name = scene.event.name.as_deref().map(|name| Found::new(name.into(), "", "name"));
    let mut out = scene.draft();
    out.raw("canonicalUrl", scene.properties().raw("url").as_ref());
    out.text("title", name.as_ref());
    out.finish()
}

/// `index({…})`: the price is one text with its currency before it.
pub(super) fn index(scene: &Scene<'_>) -> Result<Json<'static>, Lacking> {
    const DEFAULT_CURRENCY: &str = "USD";
    let product = scene.properties();
    let id = id(product.object).ok_or("product_id")?;
    let option = |name| {
        let value = scene.event.option(name)?;
        Some(Found::new(value, "integrations.Wigzo", name))
    };
    let currency = product.object.get("currency").and_then(text_of);
    let price = product.text("price").map(|price| {
        price.map(|price| Json::text(&format!("{} {price}", currency.as_deref().unwrap_or(DEFAULT_CURRENCY))))
    });

    let mut out = scene.draft();
    out.raw("productId", Some(&Found::new(id, "properties", "product_id")));
    out.raw("title", product.raw("name").as_ref());
    out.json("price", price.as_ref());
    out.raw("category", product.raw("category").as_ref());
    out.text("canonicalUrl", scene.page().text("url").as_ref());
    out.raw("image", option("imageUrl").as_ref());
    out.raw("description", option("description").as_ref());
    out.raw("language", option("language").as_ref());
    Ok(out.finish())
}

/// A product's id as it came.
pub(super) fn product_id<'e>(scene: &Scene<'e>) -> Result<Json<'e>, Lacking> {
    let id = id(&scene.event.properties).ok_or("product_id")?;
    scene.recorder.took(VALUE, Place::new("properties", "product_id"));
    Ok(Json::raw(id.get()))
}

/// The ids of the listed products as they came; products without one are left out.
pub(super) fn product_ids(scene: &Scene<'_>) -> Result<Json<'static>, Lacking> {
    let list = scene.event.properties.get_like("products").and_then(items_of).unwrap_or_default();
    let mut out = JsonArray::new();
    for product in list.into_iter().filter_map(Object::parse) {
        if let Some(id) = id(&product) {
            scene.recorder.took(VALUE, Place::new(ITEM, "product_id"));
            out.item(&Json::raw(id.get()));
        }
    }
    if out.is_empty() { Err("products") } else { Ok(out.finish()) }
}

/// The query as it came.
pub(super) fn query<'e>(scene: &Scene<'e>) -> Result<Json<'e>, Lacking> {
    let query = scene.event.properties.get_like("query").and_then(truthy).ok_or("query")?;
    scene.recorder.took(VALUE, Place::new("properties", "query"));
    Ok(Json::raw(query.get()))
}

/// `product_id` in any spelling. The first version of the spec called it `id`, which that integration did not read.
fn id<'e>(product: &Object<'e>) -> Option<Raw<'e>> {
    truthy(product.get_like("product_id")?)
}

/// The value, unless JavaScript takes it for nothing.
fn truthy(value: Raw<'_>) -> Option<Raw<'_>> {
    let value = present(value)?;
    let text = value.get();
    let nothing = match JsonType::of(value) {
        JsonType::String => text == "\"\"",
        JsonType::Boolean => text == "false",
        // Zero in any of its spellings: 0, -0, 0.00, 0e5.
        JsonType::Number => {
            let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
            !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'))
        }
        JsonType::Null | JsonType::Array | JsonType::Object => false,
    };
    (!nothing).then_some(value)
}
