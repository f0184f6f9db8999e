//! Event names: one name in many spellings.

/// A track event's name in canonical form, for table lookups.
///
/// `Product Viewed`, `product_viewed`, `productViewed`, `Viewed Product` and `PRODUCT VIEWED` are one name
/// (segment.md 3.8, design.md 6): words split at spaces, underscores and camelCase, letters lower-cased. The whole
/// name counts; there is no prefix match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventName(String);

impl EventName {
    /// The canonical form of a name.
    pub fn new(name: &str) -> Self {
        todo!()
    }
}
