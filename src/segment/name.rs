//! Event names: one name in many spellings.
//!
//! Senders write one event as `Product Viewed`, `product_viewed` or `productViewed`; all fold to one text here, and a
//! folded name is compared as a whole. Where a name's words begin, and that they may come in either order, cannot be
//! seen in the name: a table of known names lists both orders.

/// A track event's name in canonical form, for table lookups.
///
/// `Product Viewed`, `product_viewed`, `productViewed` and `PRODUCT VIEWED` are one name (segment.md 3.8): case is
/// ignored, and so is a single space or underscore between words or at either end. Two in a row, hyphens and
/// everything else count. The whole name counts; there is no prefix match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventName(String);

impl EventName {
    /// The canonical form of a name.
    pub fn new(name: &str) -> Self {
        let mut canonical = String::with_capacity(name.len());
        let mut before = None;
        let mut rest = name.chars().peekable();
        while let Some(letter) = rest.next() {
            let lone = !before.is_some_and(is_separator) && !rest.peek().copied().is_some_and(is_separator);
            if !(is_separator(letter) && lone) {
                canonical.extend(letter.to_lowercase());
            }
            before = Some(letter);
        }
        Self(canonical)
    }

    /// The canonical text, for messages and tables.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_separator(letter: char) -> bool {
    matches!(letter, ' ' | '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A name | object and action of the known event | whether they are the same (segment.md 3.8; the rows that
    /// match there as a mere prefix do not match here).
    #[test]
    fn names_match_as_segments_own_runtime_matches_them() {
        const PRODUCT_VIEWED: (&str, &str) = ("product", "viewed");
        const LIST_VIEWED: (&str, &str) = ("product list", "viewed");
        const ADDED_TO_WISHLIST: (&str, &str) = ("product", "added to wishlist");
        const WISHLIST_TO_CART: (&str, &str) = ("wishlist product", "added to cart");
        const FROM_WISHLIST: (&str, &str) = ("product", "added to cart from wishlist");
        const ORDER_COMPLETED: (&str, &str) = ("order", "completed");
        const CHECKOUT_STARTED: (&str, &str) = ("checkout", "started");
        let table = [
            ("Product Viewed", PRODUCT_VIEWED, true),
            ("product_viewed", PRODUCT_VIEWED, true),
            ("productViewed", PRODUCT_VIEWED, true),
            ("PRODUCT VIEWED", PRODUCT_VIEWED, true),
            ("PRODUCT_VIEWED", PRODUCT_VIEWED, true),
            (" Product Viewed ", PRODUCT_VIEWED, true),
            ("_product_viewed_", PRODUCT_VIEWED, true),
            ("Viewed Product", PRODUCT_VIEWED, true),
            ("viewed_product", PRODUCT_VIEWED, true),
            ("Product  Viewed", PRODUCT_VIEWED, false),
            ("  Product Viewed", PRODUCT_VIEWED, false),
            ("Product Viewed _", PRODUCT_VIEWED, false),
            ("Product-Viewed", PRODUCT_VIEWED, false),
            ("Product\tViewed", PRODUCT_VIEWED, false),
            ("Product Viewed Again", PRODUCT_VIEWED, false),
            ("Viewed Product Details", PRODUCT_VIEWED, false),
            ("Viewed Product Category", PRODUCT_VIEWED, false),
            ("Product List Viewed", LIST_VIEWED, true),
            ("productListViewed", LIST_VIEWED, true),
            ("Viewed Product List", LIST_VIEWED, true),
            ("Product Added to Wishlist", ADDED_TO_WISHLIST, true),
            ("Wishlist Product Added to Cart", WISHLIST_TO_CART, true),
            ("Wishlist Product Added to Cart", ADDED_TO_WISHLIST, false),
            ("Product Added to Cart from Wishlist", FROM_WISHLIST, true),
            ("Product Added to Cart from Wishlist", WISHLIST_TO_CART, false),
            ("Completed Order", ORDER_COMPLETED, true),
            ("Order Completed", ORDER_COMPLETED, true),
            ("Completed Order Now", ORDER_COMPLETED, false),
            ("Order Completed Now", ORDER_COMPLETED, false),
            ("Checkout Started", CHECKOUT_STARTED, true),
            ("Started Checkout", CHECKOUT_STARTED, true),
            ("Started Order", CHECKOUT_STARTED, false),
            ("Experiment Viewed", PRODUCT_VIEWED, false),
            ("", PRODUCT_VIEWED, false),
        ];
        for (name, (object, action), same) in table {
            let orders = [format!("{object} {action}"), format!("{action} {object}")];
            let known = orders.map(|name| EventName::new(&name));
            assert_eq!(known.contains(&EventName::new(name)), same, "{name:?} against {object} + {action}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(name in any::<String>()) {
            let once = EventName::new(&name);
            prop_assert_eq!(&EventName::new(once.as_str()), &once);
        }

        #[test]
        fn words_may_be_joined_in_any_accepted_way(
            words in proptest::collection::vec("[a-z]{1,6}", 1..5),
            joint in prop_oneof![Just(" "), Just("_"), Just("")],
            upper in any::<bool>(),
        ) {
            let name = words.join(joint);
            let name = if upper { name.to_uppercase() } else { name };
            prop_assert_eq!(EventName::new(&name), EventName::new(&words.concat()));
        }
    }
}
