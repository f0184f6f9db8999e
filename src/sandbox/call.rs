//! Reading one call as Wigzo's documentation describes it: where it goes, for whom, and whether it is complete.
//!
//! Everything here borrows from the request: a benchmark measures the service, not its stand-in. Paths and
//! required fields are those of wigzo.md 2 and 3.1; nothing here knows about sockets, faults or the ledger.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serializer};
use serde_json::value::RawValue;

use crate::wigzo::Endpoint;

/// The endpoints with the names that filters and fault rules call them by.
const ENDPOINTS: [(Endpoint, &str); 4] = [
    (Endpoint::Identify, "identify"),
    (Endpoint::Event, "event"),
    (Endpoint::Product, "product"),
    (Endpoint::Shipment, "shipment"),
];

/// The name of an endpoint: `identify`, `event`, `product`, `shipment`.
pub(super) fn endpoint_name(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Identify => "identify",
        Endpoint::Event => "event",
        Endpoint::Product => "product",
        Endpoint::Shipment => "shipment",
    }
}

/// The endpoint with this name.
pub(super) fn endpoint_named(name: &str) -> Option<Endpoint> {
    ENDPOINTS.into_iter().find(|(_, known)| *known == name).map(|(endpoint, _)| endpoint)
}

/// Serializes an optional endpoint by its name.
#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out a reference to the field"
)]
pub(super) fn serialize_endpoint<S: Serializer>(
    endpoint: &Option<Endpoint>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match endpoint {
        Some(endpoint) => serializer.serialize_str(endpoint_name(*endpoint)),
        None => serializer.serialize_none(),
    }
}

/// Reads an optional endpoint by its name.
pub(super) fn deserialize_endpoint<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Endpoint>, D::Error> {
    let Some(name) = Option::<Cow<'de, str>>::deserialize(deserializer)? else { return Ok(None) };
    endpoint_named(&name).map(Some).ok_or_else(|| {
        serde::de::Error::custom(format_args!(
            "unknown endpoint `{name}`: identify, event, product or shipment"
        ))
    })
}

/// Where a call goes, and the tokens that its URL carries (empty texts are kept: a filter may ask for them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) org_token: Option<&'a str>,
    pub(super) token: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// The target of a path and query, if the path is one of Wigzo's.
    pub(super) fn parse(path: &'a str, query: Option<&'a str>) -> Option<Self> {
        let learn = |endpoint| {
            let query = query.unwrap_or_default();
            Self { endpoint, org_token: parameter(query, "org_token"), token: parameter(query, "token") }
        };
        let in_path = |endpoint, token: &'a str| {
            (!token.contains('/')).then_some(Self { endpoint, org_token: Some(token), token: None })
        };
        match path {
            "/rest/v1/learn/event" => Some(learn(Endpoint::Event)),
            "/rest/v1/learn/identify" => Some(learn(Endpoint::Identify)),
            _ => {
                if let Some(token) = path.strip_prefix("/api/v1/product/") {
                    in_path(Endpoint::Product, token)
                } else {
                    in_path(Endpoint::Shipment, path.strip_prefix("/rest/v1/learn/shipment/custom/")?)
                }
            }
        }
    }
}

/// A query parameter as it is written, nothing decoded: a well-formed token never needs an escape.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// 10–64 characters of letters, digits, `-` and `_` (wigzo.md 1.2).
fn well_formed(org_token: &str) -> bool {
    (10..=64).contains(&org_token.len())
        && org_token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The fields of a body that the sandbox looks at, still as JSON text.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow, rename = "userId")]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "eventName")]
    event_name: Option<&'a RawValue>,
    #[serde(borrow)]
    eventval: Option<&'a RawValue>,
    #[serde(borrow, rename = "eventCategory")]
    event_category: Option<&'a RawValue>,
    #[serde(borrow, rename = "productId")]
    product_id: Option<&'a RawValue>,
    #[serde(borrow)]
    order_id: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    /// The fields of a body; `None` if it is not a JSON object in UTF-8, or repeats one of the fields.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        // A derived struct would read an array too, field by field.
        text.trim_ascii_start().starts_with('{').then(|| serde_json::from_str(text).ok())?
    }

    /// The learner id, if it is a text.
    pub(super) fn user_id(&self) -> Option<Cow<'a, str>> {
        text(self.user_id?)
    }

    /// The event name, if it is a text.
    pub(super) fn event_name(&self) -> Option<Cow<'a, str>> {
        text(self.event_name?)
    }

    /// The first required field that is missing (wigzo.md 2.1–2.4, 3.1), as the refusal that names it.
    fn missing(&self, endpoint: Endpoint) -> Option<Refusal> {
        let require = |present: bool, refusal| (!present).then_some(refusal);
        match endpoint {
            Endpoint::Identify => require(is_text(self.user_id), Refusal::UserId),
            Endpoint::Event => require(is_text(self.event_name), Refusal::EventName)
                .or(require(self.eventval.is_some(), Refusal::EventValue))
                .or(require(is_text(self.event_category), Refusal::EventCategory))
                .or(require(is_text(self.user_id), Refusal::UserId)),
            Endpoint::Product => {
                require(is_text(self.product_id) || is_number(self.product_id), Refusal::ProductId)
            }
            Endpoint::Shipment => require(is_text(self.order_id), Refusal::OrderId),
        }
    }
}

/// A text that is not empty.
fn is_text(value: Option<&RawValue>) -> bool {
    value.is_some_and(|raw| raw.get().starts_with('"') && raw.get().len() > 2)
}

/// A number: shop plug-ins send numeric product ids (wigzo.md 3.1).
fn is_number(value: Option<&RawValue>) -> bool {
    value.is_some_and(|raw| raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit()))
}

/// The decoded text of a JSON string.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    // Only a string without escapes can be borrowed, hence the two tries.
    serde_json::from_str::<&str>(raw.get())
        .map(Cow::Borrowed)
        .or_else(|_| serde_json::from_str(raw.get()).map(Cow::Owned))
        .ok()
}

/// Why the sandbox refuses a call, as Wigzo is thought to answer (wigzo.md 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The organization token is missing or malformed.
    OrgToken,
    /// The body is not a JSON object.
    Body,
    /// `userId` is missing.
    UserId,
    /// `eventName` is missing.
    EventName,
    /// `eventval` is missing.
    EventValue,
    /// `eventCategory` is missing.
    EventCategory,
    /// `productId` is missing.
    ProductId,
    /// `order_id` is missing.
    OrderId,
}

impl Refusal {
    /// What is wrong with a call; `None` if it is complete.
    pub(super) fn of(target: &Target<'_>, fields: Option<&Fields<'_>>) -> Option<Self> {
        if !target.org_token.is_some_and(well_formed) {
            return Some(Self::OrgToken);
        }
        fields.map_or(Some(Self::Body), |fields| fields.missing(target.endpoint))
    }

    /// The HTTP status.
    pub(super) fn status(self) -> http::StatusCode {
        match self {
            Self::OrgToken => http::StatusCode::UNAUTHORIZED,
            Self::Body
            | Self::UserId
            | Self::EventName
            | Self::EventValue
            | Self::EventCategory
            | Self::ProductId
            | Self::OrderId => http::StatusCode::BAD_REQUEST,
        }
    }

    /// The JSON body of the answer.
    pub(super) fn body(self) -> &'static str {
        match self {
            Self::OrgToken => r#"{"status":"error","message":"org_token is missing or malformed"}"#,
            Self::Body => {
                r#"{"status":"error","message":"the body is not a JSON object, or repeats a required field"}"#
            }
            Self::UserId => r#"{"status":"error","message":"the required field userId is missing"}"#,
            Self::EventName => r#"{"status":"error","message":"the required field eventName is missing"}"#,
            Self::EventValue => r#"{"status":"error","message":"the required field eventval is missing"}"#,
            Self::EventCategory => {
                r#"{"status":"error","message":"the required field eventCategory is missing"}"#
            }
            Self::ProductId => r#"{"status":"error","message":"the required field productId is missing"}"#,
            Self::OrderId => r#"{"status":"error","message":"the required field order_id is missing"}"#,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORG: &str = "org-token-0001";

    fn refusal(endpoint: Endpoint, body: &str) -> Option<Refusal> {
        let target = Target { endpoint, org_token: Some(ORG), token: None };
        Refusal::of(&target, Fields::parse(body.as_bytes()).as_ref())
    }

    #[test]
    fn paths_lead_to_endpoints_and_tokens() {
        let target = |endpoint, org_token, token| Some(Target { endpoint, org_token, token });
        let cases = [
            ("/rest/v1/learn/identify?org_token=a&token=b", target(Endpoint::Identify, Some("a"), Some("b"))),
            ("/rest/v1/learn/event?token=b&org_token=a", target(Endpoint::Event, Some("a"), Some("b"))),
            ("/rest/v1/learn/event?org_token=", target(Endpoint::Event, Some(""), None)),
            ("/rest/v1/learn/event", target(Endpoint::Event, None, None)),
            ("/api/v1/product/a", target(Endpoint::Product, Some("a"), None)),
            ("/rest/v1/learn/shipment/custom/a", target(Endpoint::Shipment, Some("a"), None)),
            ("/api/v1/product/a/b", None),
            ("/api/v1/track", None),
            ("/rest/v1/learn/event/", None),
            ("/", None),
        ];
        for (uri, expected) in cases {
            let uri: http::Uri = uri.parse().unwrap();
            assert_eq!(Target::parse(uri.path(), uri.query()), expected, "{uri}");
        }
    }

    #[test]
    fn organization_tokens_have_a_shape() {
        let too_long = "a".repeat(65);
        for (token, good) in [
            (ORG, true),
            ("0123456789", true),
            ("6f6f6f6f-1111-4222-8333-444444444444", true),
            ("012345678", false),
            (too_long.as_str(), false),
            ("with space 1", false),
            ("with%20escape", false),
            ("", false),
        ] {
            assert_eq!(well_formed(token), good, "{token}");
        }
    }

    #[test]
    fn every_required_field_is_required() {
        let cases = [
            (Endpoint::Identify, r#"{"userId":"u"}"#, None),
            (Endpoint::Identify, r#"{"userId":""}"#, Some(Refusal::UserId)),
            (Endpoint::Identify, r#"{"userId":7}"#, Some(Refusal::UserId)),
            (Endpoint::Identify, r#"{"email":"buyer@shop.example"}"#, Some(Refusal::UserId)),
            (
                Endpoint::Event,
                r#"{"eventName":"e","eventval":{},"eventCategory":"EXTERNAL","userId":"u"}"#,
                None,
            ),
            (
                Endpoint::Event,
                r#"{"eventName":"e","eventval":"","eventCategory":"EXTERNAL","userId":"u"}"#,
                None,
            ),
            (
                Endpoint::Event,
                r#"{"eventName":"e","eventval":[],"eventCategory":"EXTERNAL","userId":"u"}"#,
                None,
            ),
            (Endpoint::Event, r#"{"eventval":1,"eventCategory":"E","userId":"u"}"#, Some(Refusal::EventName)),
            (
                Endpoint::Event,
                r#"{"eventName":"e","eventCategory":"E","userId":"u"}"#,
                Some(Refusal::EventValue),
            ),
            (
                Endpoint::Event,
                r#"{"eventName":"e","eventval":null,"eventCategory":"E","userId":"u"}"#,
                Some(Refusal::EventValue),
            ),
            (Endpoint::Event, r#"{"eventName":"e","eventval":1,"userId":"u"}"#, Some(Refusal::EventCategory)),
            (Endpoint::Event, r#"{"eventName":"e","eventval":1,"eventCategory":"E"}"#, Some(Refusal::UserId)),
            (Endpoint::Product, r#"{"productId":"p"}"#, None),
            (Endpoint::Product, r#"{"productId":7}"#, None),
            (Endpoint::Product, r#"{"productId":true}"#, Some(Refusal::ProductId)),
            (Endpoint::Product, r#"{"title":"t"}"#, Some(Refusal::ProductId)),
            (Endpoint::Shipment, r#"{"order_id":"1001"}"#, None),
            (Endpoint::Shipment, r#"{"order_id":null}"#, Some(Refusal::OrderId)),
            (Endpoint::Shipment, "{}", Some(Refusal::OrderId)),
            (Endpoint::Identify, r#"{"userId":"u","userId":"v"}"#, Some(Refusal::Body)),
            (Endpoint::Identify, r#"["u",1,1,1,1,1]"#, Some(Refusal::Body)),
            (Endpoint::Identify, r#"{"userId":"u"} x"#, Some(Refusal::Body)),
            (Endpoint::Identify, "", Some(Refusal::Body)),
        ];
        for (endpoint, body, expected) in cases {
            assert_eq!(refusal(endpoint, body), expected, "{endpoint:?} {body}");
        }
        assert!(Fields::parse(b"{\"userId\":\"\xff\"}").is_none(), "not UTF-8");
    }

    #[test]
    fn refusals_are_json_and_numbers_of_any_size_pass() {
        for refusal in [Refusal::OrgToken, Refusal::Body, Refusal::UserId, Refusal::EventName] {
            let body: serde_json::Value = serde_json::from_str(refusal.body()).unwrap();
            assert_eq!(body["status"], "error");
        }
        assert_eq!(refusal(Endpoint::Identify, r#"{"userId":"u","n":1e400}"#), None);
    }

    #[test]
    fn names_are_decoded() {
        let fields = Fields::parse(r#"{"userId":"u","eventName":"caf\u00e9"}"#.as_bytes()).unwrap();
        assert_eq!(fields.event_name().as_deref(), Some("café"));
        assert_eq!(fields.user_id().as_deref(), Some("u"));
        assert_eq!(endpoint_named("shipment"), Some(Endpoint::Shipment));
        for (endpoint, name) in ENDPOINTS {
            assert_eq!(endpoint_name(endpoint), name);
        }
    }
}
