//! The rows of the built-in profiles.

use super::*;

/// Every name of the e-commerce specification's second version (segment.md 3.7) | its names in the first version and in
/// the libraries.
const SPEC: [(&str, &[&str]); 31] = [
    ("Products Searched", &[]),
    ("Product List Viewed", &["Viewed Product Category"]),
    ("Product List Filtered", &[]),
    ("Promotion Viewed", &["Viewed Promotion"]),
    ("Promotion Clicked", &["Clicked Promotion"]),
    ("Product Clicked", &["Clicked Product"]),
    ("Product Viewed", &["Viewed Product"]),
    ("Product Added", &["Added Product"]),
    ("Product Removed", &["Removed Product"]),
    ("Cart Viewed", &[]),
    ("Checkout Started", &["Started Order"]),
    ("Checkout Step Viewed", &["Viewed Checkout Step"]),
    ("Checkout Step Completed", &["Completed Checkout Step"]),
    ("Payment Info Entered", &[]),
    ("Order Completed", &["Completed Order"]),
    ("Order Updated", &["Updated Order"]),
    ("Order Refunded", &[]),
    ("Order Cancelled", &[]),
    ("Coupon Entered", &[]),
    ("Coupon Applied", &[]),
    ("Coupon Denied", &[]),
    ("Coupon Removed", &[]),
    ("Product Added to Wishlist", &[]),
    ("Product Removed from Wishlist", &[]),
    ("Wishlist Product Added to Cart", &[]),
    ("Product Added to Cart from Wishlist", &["Product Added from Wishlist to Cart"]),
    ("Product Shared", &[]),
    ("Cart Shared", &[]),
    ("Product Reviewed", &[]),
    ("product_viewed", &["productViewed", "PRODUCT VIEWED"]),
    ("orderCompleted", &["order_completed"]),
];

#[test]
fn every_name_of_the_specification_has_a_row_in_every_profile() {
    for name in Profile::BUILTIN {
        let profile = Profile::builtin(name).unwrap();
        for (event, others) in SPEC {
            let (row, _) = profile.track(event);
            assert!(!row.names().is_empty(), "{name}: {event}");
            for other in others {
                // Segment's integration, and so `classic`, did not know this one.
                if *name == "classic" && *other == "Started Order" {
                    continue;
                }
                assert!(std::ptr::eq(profile.track(other).0, row), "{name}: {other} is {event}");
            }
        }
    }
}

#[test]
fn a_table_can_be_read_back() {
    let profile = Profile::builtin("standard").unwrap();
    let (row, stating) = profile.track("completed_order");
    assert!(std::ptr::eq(row, stating));
    assert_eq!(row.names(), ["Order Completed", "Completed Order"]);
    assert_eq!(row.layer(), Layer::Profile);
    let calls: Vec<_> = row.calls().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        calls,
        ["event \"buy\", value product_ids", "event \"order\", value order, requires order_id"]
    );
    let (row, stating) = profile.track("Viewed Cart");
    assert_eq!((row.names()[0].as_str(), row.calls()), ("Cart Viewed", None));
    assert_eq!(stating.calls().unwrap()[0].to_string(), "event \"{event}\", value properties");
}
