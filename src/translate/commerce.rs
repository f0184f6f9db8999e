//! Wigzo's objects for goods and orders: product, checkout, order (wigzo.md 6.2, mapping in 10).
//!
//! Fields that the event lacks are left out. Wigzo wants an order's amounts as numbers, and a product's and a
//! checkout's as text; either way the digits are those that were sent.

use std::borrow::Cow;

use super::person::Traits;
use super::shape::Scene;
use super::{amount, field};
use crate::segment::{Event, Object, text_of};
use crate::wigzo::{Json, JsonArray, JsonObject};

/// The product object of the product index.
pub(super) fn product(event: &Event<'_>) -> Json {
    let product = &event.properties;
    let option = |name| event.option(name).and_then(text_of);
    let id = field::product_id(product);
    let image = option("imageUrl").or_else(|| product.text("image_url"));

    let mut out = JsonObject::new();
    text(&mut out, "productId", id.as_ref());
    text(&mut out, "title", product.text("name").as_ref());
    text(&mut out, "price", product.text("price").as_ref());
    text(&mut out, "currency", product.text("currency").as_ref());
    text(&mut out, "category", product.text("category").as_ref());
    text(&mut out, "vendor", product.text("brand").as_ref());
    text(&mut out, "canonicalUrl", field::url(event).as_ref());
    text(&mut out, "image", image.as_ref());
    let description = option("description").or_else(|| product.text("description"));
    text(&mut out, "description", description.as_ref());
    let language = option("language").or_else(|| field::language(event));
    text(&mut out, "language", language.as_ref());

    let mut variant = JsonObject::new();
    text(&mut variant, "variant_id", variant_id(product).as_ref());
    text(&mut variant, "product_id", id.as_ref());
    text(&mut variant, "title", product.text("name").as_ref());
    text(&mut variant, "price", product.text("price").as_ref());
    text(&mut variant, "sku", product.text("sku").as_ref());
    text(&mut variant, "image", image.as_ref());
    list(&mut out, "variants", [variant.finish()]);
    out.finish()
}

/// The checkout object: amounts are text. It carries no `completed_at` and `closed_at`: a checkout that has only
/// started has neither.
pub(super) fn checkout(event: &Event<'_>) -> Json {
    let checkout = &event.properties;
    let first = |keys: &[&str]| keys.iter().find_map(|key| checkout.text(key));

    let mut out = JsonObject::new();
    text(&mut out, "currency", first(&["currency"]).as_ref());
    text(&mut out, "total_price", first(&["value", "total", "revenue"]).as_ref());
    text(&mut out, "total_line_items_price", first(&["subtotal", "revenue"]).as_ref());
    text(&mut out, "total_tax", first(&["tax"]).as_ref());
    text(&mut out, "total_discounts", first(&["discount"]).as_ref());
    text(&mut out, "abandoned_checkout_url", field::page(event, "url").as_ref());
    text(&mut out, "referring_site", field::page(event, "referrer").as_ref());

    let checkout_id = first(&["checkout_id", "cart_id", "order_id"]);
    let items = field::products(event).into_iter().filter_map(|product| {
        let mut item = JsonObject::new();
        text(&mut item, "checkout_id", checkout_id.as_ref());
        item.text("product_id", &field::product_id(&product)?);
        item.json("quantity", &amount::quantity(&product));
        text(&mut item, "title", product.text("name").as_ref());
        text(&mut item, "variant_id", variant_id(&product).as_ref());
        text(&mut item, "sku", product.text("sku").as_ref());
        text(&mut item, "price", product.text("price").as_ref());
        text(&mut item, "vendor", product.text("brand").as_ref());
        Some(item.finish())
    });
    list(&mut out, "line_items", items);
    out.finish()
}

/// The order object: amounts are numbers.
pub(super) fn order(scene: &Scene<'_>) -> Json {
    let event = scene.event;
    let order = &event.properties;
    let first = |keys: &[&str]| keys.iter().find_map(|key| amount::number_of(order, key));
    let products = field::products(event);

    let mut out = JsonObject::new();
    text(&mut out, "orderId", field::order_id(event).as_ref());
    out.text("customer_id", event.user_id.as_deref().unwrap_or(scene.learner.as_str()));
    json(&mut out, "total_price", first(&["total", "revenue"]).as_ref());
    // What Wigzo computes revenue from (wigzo.md 6.2).
    let goods = first(&["subtotal", "revenue"]).or_else(|| amount::total(&products));
    json(&mut out, "total_line_items_price", goods.as_ref());
    json(&mut out, "shipping_cost", first(&["shipping"]).as_ref());
    json(&mut out, "total_discounts", first(&["discount"]).as_ref());
    list(&mut out, "coupons", order.text("coupon").map(|coupon| Json::text(&coupon)));
    let happened_at = event.happened_at(scene.arrival);
    text(&mut out, "created_at", happened_at.as_ref());
    text(&mut out, "updated_at", happened_at.as_ref());
    buyer(&mut out, event);
    text(&mut out, "financial_status", order.text("payment_method").as_ref());
    let items = products.iter().enumerate().filter_map(|(index, product)| line_item(index, product));
    list(&mut out, "line_items", items);
    out.finish()
}

/// Who ordered, from `context.traits`; the contact also from the order's own properties.
fn buyer(out: &mut JsonObject, event: &Event<'_>) {
    let traits = event.context.object("traits").unwrap_or_default();
    let buyer = Traits::new(&traits, event.user_id.as_deref());
    let order = Traits::new(&event.properties, None);
    let email = traits.text("email").or_else(|| order.email()).or_else(|| buyer.email());
    text(out, "email", email.as_ref());
    text(out, "phone", buyer.phone().or_else(|| order.phone()).as_ref());
    text(out, "fullName", buyer.full_name().as_ref());
    text(out, "city", buyer.address("city").as_ref());
    text(out, "state", buyer.address("state").as_ref());
    text(out, "country", buyer.address("country").as_ref());
    text(out, "zip", buyer.postal_code().as_ref());
}

/// One line of an order; none for a product without an id, which Wigzo could not file.
fn line_item(index: usize, product: &Object<'_>) -> Option<Json> {
    let id = field::product_id(product)?;
    let line = product.text("sku").or_else(|| product.text("position"));
    let mut item = JsonObject::new();
    item.text("line_item_id", &line.unwrap_or_else(|| Cow::Owned(index.to_string())));
    text(&mut item, "variant_id", variant_id(product).as_ref());
    item.text("product_id", &id);
    json(&mut item, "price", amount::number_of(product, "price").as_ref());
    item.json("quantity", &amount::quantity(product));
    text(&mut item, "categories", product.text("category").as_ref());
    json(&mut item, "product_discount", amount::number_of(product, "product_discount").as_ref());
    Some(item.finish())
}

/// What tells variants of one product apart: `variant`, else `sku`, else the product's id.
fn variant_id<'a>(product: &Object<'a>) -> Option<Cow<'a, str>> {
    product.text("variant").or_else(|| product.text("sku")).or_else(|| field::product_id(product))
}

// === optional members ===

fn text(out: &mut JsonObject, key: &str, value: Option<&Cow<'_, str>>) {
    if let Some(value) = value {
        out.text(key, value);
    }
}

fn json(out: &mut JsonObject, key: &str, value: Option<&Json>) {
    if let Some(value) = value {
        out.json(key, value);
    }
}

fn list(out: &mut JsonObject, key: &str, items: impl IntoIterator<Item = Json>) {
    let mut array = JsonArray::new();
    for item in items {
        array.item(&item);
    }
    if !array.is_empty() {
        out.json(key, &array.finish());
    }
}
