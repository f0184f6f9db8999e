//! Wigzo's objects for goods and orders: product, checkout, order (wigzo.md 6.2, mapping in 10).
//!
//! Fields that the event lacks are left out; the lists that Wigzo calls mandatory are always there. Wigzo wants an
//! order's amounts as numbers, and a product's and a checkout's as text; either way the digits are those that were sent.

use std::borrow::Cow;

use super::amount;
use super::field::{Draft, Found, ITEM, Part, Scene, Text, product_id};
use super::person::Traits;
use crate::segment::Object;
use crate::wigzo::Json;

/// The product object of the product index.
pub(super) fn product(scene: &Scene<'_>) -> Json<'static> {
    let product = scene.properties();
    let id = product_id(product);
    let title = product.text("name");
    let price = product.text("price");
    let image = scene.option("imageUrl").or_else(|| product.text("image_url"));

    let mut out = scene.draft();
    out.text("productId", id.as_ref());
    out.text("title", title.as_ref());
    out.text("price", price.as_ref());
    out.text("currency", product.text("currency").as_ref());
    out.text("category", product.text("category").as_ref());
    out.text("vendor", product.text("brand").as_ref());
    out.text("canonicalUrl", scene.url().as_ref());
    out.text("image", image.as_ref());
    let description = scene.option("description").or_else(|| product.text("description"));
    out.text("description", description.as_ref());
    let language = scene.option("language").or_else(|| scene.language());
    out.text("language", language.as_ref());

    let mut variant = scene.draft();
    variant.text("variant_id", variant_id(product).as_ref());
    variant.text("product_id", id.as_ref());
    variant.text("title", title.as_ref());
    variant.text("price", price.as_ref());
    variant.text("sku", product.text("sku").as_ref());
    variant.text("image", image.as_ref());
    out.list("variants", [variant.finish()]);
    out.finish()
}

/// The checkout object: amounts are text. It carries no `completed_at` and `closed_at`: a checkout that has only
/// started has neither.
pub(super) fn checkout(scene: &Scene<'_>) -> Json<'static> {
    let checkout = scene.properties();
    let mut out = scene.draft();
    out.text("currency", checkout.text("currency").as_ref());
    out.text("total_price", checkout.first(&["value", "total", "revenue"]).as_ref());
    out.text("total_line_items_price", checkout.first(&["subtotal", "revenue"]).as_ref());
    out.text("total_tax", checkout.text("tax").as_ref());
    out.text("total_discounts", checkout.text("discount").as_ref());
    out.text("abandoned_checkout_url", scene.page().text("url").as_ref());
    out.text("referring_site", scene.page().text("referrer").as_ref());

    let checkout_id = scene.checkout_id();
    let products = scene.products();
    let items = products.iter().filter_map(|product| {
        let part = Part::new(ITEM, product);
        let id = product_id(part)?;
        let mut item = scene.draft();
        item.text("checkout_id", checkout_id.as_ref());
        item.text("product_id", Some(&id));
        item.json("quantity", Some(&amount::quantity(product)));
        item.text("title", part.text("name").as_ref());
        item.text("variant_id", variant_id(part).as_ref());
        item.text("sku", part.text("sku").as_ref());
        item.text("price", part.text("price").as_ref());
        item.text("vendor", part.text("brand").as_ref());
        Some(item.finish())
    });
    out.list("line_items", items);
    out.finish()
}

/// The checkout as Wigzo's newest tag tells it: the amount is text.
pub(super) fn checkout_summary(scene: &Scene<'_>) -> Json<'static> {
    let mut out = scene.draft();
    out.text("pageUrl", scene.page().text("url").as_ref());
    out.text("totalOrderValue", scene.properties().first(&["value", "total", "revenue"]).as_ref());
    let mut items = Vec::new();
    for product in &scene.products() {
        let Some(id) = product_id(Part::new(ITEM, product)) else { continue };
        let mut item = scene.draft();
        item.text("productId", Some(&id));
        item.json("quantity", Some(&amount::quantity(product)));
        items.push(item.finish());
    }
    let count = Json::number(&items.len().to_string());
    out.json("itemCount", count.map(|count| Found::new(count, "the number of items", "")).as_ref());
    out.list("items", items);
    out.finish()
}

/// A product list as the guide for templates tells it.
pub(super) fn list_summary(scene: &Scene<'_>) -> Json<'static> {
    let list = scene.properties();
    let url = scene.url();
    let mut out = scene.draft();
    out.text("canonicalURL", url.as_ref());
    out.text("categoryUrl", url.as_ref());
    out.text("image", list.text("image_url").as_ref());
    out.text("title", list.first(&["category", "list_id"]).as_ref());
    out.finish()
}

/// The order object: amounts are numbers.
pub(super) fn order(scene: &Scene<'_>) -> Json<'static> {
    let order = scene.properties();
    let products = scene.products();

    let mut out = scene.draft();
    out.text("orderId", scene.order_id().as_ref());
    out.text("customer_id", Some(&customer(scene)));
    out.json("total_price", amount::first(order, &["total", "revenue"]).as_ref());
    // What Wigzo computes revenue from (wigzo.md 6.2).
    let goods = amount::first(order, &["subtotal", "revenue"]).or_else(|| amount::total(&products));
    out.json("total_line_items_price", goods.as_ref());
    out.json("shipping_cost", amount::first(order, &["shipping"]).as_ref());
    out.json("total_discounts", amount::first(order, &["discount"]).as_ref());
    let coupon = order.text("coupon").map(|coupon| coupon.map(|text| Json::list([Json::text(&text)])));
    out.json("coupons", coupon.as_ref());
    let happened_at = scene.happened_at();
    out.text("created_at", happened_at.as_ref());
    out.text("updated_at", happened_at.as_ref());
    buyer(&mut out, scene);
    out.text("financial_status", order.text("payment_method").as_ref());
    let items = products.iter().enumerate().filter_map(|(index, product)| line_item(scene, index, product));
    out.list("line_items", items);
    out.finish()
}

/// Whose order it is: the merchant's id of the customer, else the learner.
fn customer<'e>(scene: &Scene<'e>) -> Text<'e> {
    match &scene.event.user_id {
        Some(id) => Found::new(Cow::Borrowed(id.as_ref()), "", "userId"),
        None => Found::new(Cow::Borrowed(scene.learner.as_str()), "the learner id", ""),
    }
}

/// Who ordered, from `context.traits`; the contact also from the order's own properties.
fn buyer(out: &mut Draft<'_>, scene: &Scene<'_>) {
    let traits = scene.traits();
    let buyer = Traits::new(traits, scene.event.user_id.as_deref());
    let order = Traits::new(scene.properties(), None);
    let email = traits.text("email").or_else(|| order.email()).or_else(|| buyer.email());
    out.text("email", email.as_ref());
    let phone = buyer.phone().or_else(|| order.phone()).map(|phone| scene.phone(phone));
    out.text("phone", phone.as_ref());
    out.text("fullName", buyer.full_name().as_ref());
    out.text("city", buyer.address("city").as_ref());
    out.text("state", buyer.address("state").as_ref());
    out.text("country", buyer.address("country").as_ref());
    out.text("zip", buyer.postal_code().as_ref());
}

/// One line of an order; none for a product without an id, which Wigzo could not file.
fn line_item(scene: &Scene<'_>, index: usize, product: &Object<'_>) -> Option<Json<'static>> {
    let part = Part::new(ITEM, product);
    let id = product_id(part)?;
    let line = part
        .first(&["sku", "position"])
        .unwrap_or_else(|| Found::new(Cow::Owned(index.to_string()), "its place in the list", ""));
    let mut item = scene.draft();
    item.text("line_item_id", Some(&line));
    item.text("variant_id", variant_id(part).as_ref());
    item.text("product_id", Some(&id));
    item.json("price", amount::first(part, &["price"]).as_ref());
    item.json("quantity", Some(&amount::quantity(product)));
    item.text("categories", part.text("category").as_ref());
    item.json("product_discount", amount::first(part, &["product_discount"]).as_ref());
    Some(item.finish())
}

/// What tells variants of one product apart: `variant`, else `sku`, else the product's id.
fn variant_id<'e>(product: Part<'_, 'e>) -> Option<Text<'e>> {
    product.first(&["variant", "sku"]).or_else(|| product_id(product))
}

// === the calls that are no events ===

/// The body of a product feed call (wigzo.md 3.1).
pub(super) fn feed(scene: &Scene<'_>) -> Json<'static> {
    let product = scene.properties();
    let mut out = scene.draft();
    out.text("productId", product_id(product).as_ref());
    out.text("title", product.text("name").as_ref());
    out.text("canonical", scene.url().as_ref());
    out.text("price", product.text("price").as_ref());
    let image = scene.option("imageUrl").or_else(|| product.text("image_url"));
    out.text("image", image.as_ref());
    let description = scene.option("description").or_else(|| product.text("description"));
    out.text("description", description.as_ref());
    out.finish()
}

/// The body of a shipment call (wigzo.md 2.4). The ids of the status are constants in every integration.
pub(super) fn shipment(scene: &Scene<'_>, status: &Text<'_>) -> Json<'static> {
    const STATUS_ID: &str = "1";
    let traits = scene.traits();
    let buyer = Traits::new(traits, scene.event.user_id.as_deref());
    let order = Traits::new(scene.properties(), None);
    let constant = Found::new(Cow::Borrowed(STATUS_ID), "always", "");
    let mut out = scene.draft();
    out.text("order_id", scene.order_id().as_ref());
    out.text("current_status", Some(status));
    out.text("shipment_status", Some(status));
    out.text("current_status_id", Some(&constant));
    out.text("shipment_status_id", Some(&constant));
    let phone = buyer.phone().or_else(|| order.phone()).map(|phone| scene.phone(phone));
    out.text("phone", phone.as_ref());
    out.text("email", traits.text("email").or_else(|| order.email()).or_else(|| buyer.email()).as_ref());
    out.text("name", buyer.full_name().as_ref());
    out.finish()
}
