//! One HTTP request to Wigzo, before tokens and sockets.
//!
//! The two REST calls and the order of their fields (wigzo.md 2.1, 2.2). A body is finished text here and is never
//! parsed again. What a field's value is made from is not this module's business.

use std::borrow::Cow;

use super::{Json, JsonObject, LearnerId};

/// The endpoints of wigzo.md 2 and 3.1.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /rest/v1/learn/identify`.
    Identify,
    /// `POST /rest/v1/learn/event`.
    Event,
    /// `POST /api/v1/product/{orgToken}`.
    Product,
    /// `POST /rest/v1/learn/shipment/custom/{orgToken}`.
    Shipment,
}

/// One call: where it goes and its JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The Wigzo event name, for an event call.
    pub name: Option<String>,
    /// The JSON body, as it is sent.
    pub body: String,
}

/// More bytes than stand in a call's body around what is told in it.
const FRAME: usize = 160;

/// Where somebody acted: the field `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A browser, or a server on its behalf.
    Web,
    /// A mobile app.
    App,
}

/// A field of an identify call that tells something of the person (wigzo.md 2.1), by Wigzo's name for it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are Wigzo's own, one for one (wigzo.md 2.1)")]
pub enum PersonField {
    Email,
    Phone,
    FullName,
    FirstName,
    LastName,
    #[serde(rename = "customer_id")]
    CustomerId,
    City,
    State,
    Country,
    #[serde(rename = "country_code")]
    CountryCode,
    #[serde(rename = "postal_code")]
    PostalCode,
    Language,
    CreatedAt,
    UpdatedAt,
}

/// What an identify call says about a person.
#[derive(Debug, Clone, Default)]
pub struct Person<'a> {
    /// Wigzo's fields with their values. They are written in the order of [`PersonField::ALL`], whatever their order here.
    pub fields: Vec<(PersonField, Json<'a>)>,
    /// Fields of the sender's own, written after Wigzo's. Those named like one of Wigzo's are left out.
    pub others: Vec<(Cow<'a, str>, Json<'a>)>,
}

// === impl Endpoint ===

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Identify, Self::Event, Self::Product, Self::Shipment];

    /// Its short name: `identify`, `event`, `product`, `shipment`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Event => "event",
            Self::Product => "product",
            Self::Shipment => "shipment",
        }
    }
}

// === impl Source ===

impl Source {
    /// The value that is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::App => "app",
        }
    }
}

// === impl PersonField ===

impl PersonField {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 14] = [
        Self::Email,
        Self::Phone,
        Self::FullName,
        Self::FirstName,
        Self::LastName,
        Self::CustomerId,
        Self::City,
        Self::State,
        Self::Country,
        Self::CountryCode,
        Self::PostalCode,
        Self::Language,
        Self::CreatedAt,
        Self::UpdatedAt,
    ];

    /// Wigzo's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::FullName => "fullName",
            Self::FirstName => "firstName",
            Self::LastName => "lastName",
            Self::CustomerId => "customer_id",
            Self::City => "city",
            Self::State => "state",
            Self::Country => "country",
            Self::CountryCode => "country_code",
            Self::PostalCode => "postal_code",
            Self::Language => "language",
            Self::CreatedAt => "createdAt",
            Self::UpdatedAt => "updatedAt",
        }
    }
}

// === impl Person ===

impl Person<'_> {
    /// Whether the name is a field of Wigzo's in an identify call. A sender's own field never takes one's place.
    pub fn reserves(name: &str) -> bool {
        matches!(name, "userId" | "is_active" | "source")
            || PersonField::ALL.iter().any(|field| field.as_str() == name)
    }

    /// About as many bytes as an identify call about this person has.
    fn length(&self) -> usize {
        let fields = self.fields.iter().map(|(field, value)| (field.as_str(), value));
        let others = self.others.iter().map(|(name, value)| (name.as_ref(), value));
        // A member has quotes around its key, a colon and a comma.
        fields.chain(others).map(|(key, value)| key.len() + value.as_str().len() + 4).sum::<usize>() + FRAME
    }

    /// Whether Wigzo can join this person with another learner: by e-mail or phone (wigzo.md 5.2).
    pub fn has_contact(&self) -> bool {
        self.fields.iter().any(|(field, _)| matches!(field, PersonField::Email | PersonField::Phone))
    }
}

// === impl Call ===

impl Call {
    /// Tells Wigzo who `learner` is.
    pub fn identify(learner: &LearnerId, person: &Person<'_>, source: Source) -> Self {
        let mut body = JsonObject::with_room(person.length());
        body.text("userId", learner.as_str());
        for field in PersonField::ALL {
            if let Some((_, value)) = person.fields.iter().find(|(filled, _)| *filled == field) {
                body.json(field.as_str(), value);
            }
        }
        body.boolean("is_active", true).text("source", source.as_str());
        for (field, value) in &person.others {
            if !Person::reserves(field) {
                body.json(field, value);
            }
        }
        Self { endpoint: Endpoint::Identify, name: None, body: body.finish().into_string() }
    }

    /// Tells Wigzo what `learner` did: the event `name` with its value.
    pub fn event(learner: &LearnerId, name: &str, value: &Json<'_>, source: Source) -> Self {
        let mut body = JsonObject::with_room(value.as_str().len() + name.len() + FRAME);
        body.text("eventName", name)
            .json("eventval", value)
            // No other category occurs anywhere (wigzo.md 6.3).
            .text("eventCategory", "EXTERNAL")
            .text("userId", learner.as_str())
            .boolean("is_active", true)
            .text("source", source.as_str());
        Self { endpoint: Endpoint::Event, name: Some(name.to_owned()), body: body.finish().into_string() }
    }

    /// Tells Wigzo of a product of the catalogue (wigzo.md 3.1).
    pub fn product(body: Json<'_>) -> Self {
        Self { endpoint: Endpoint::Product, name: None, body: body.into_string() }
    }

    /// Tells Wigzo where an order's shipment is (wigzo.md 2.4).
    pub fn shipment(body: Json<'_>) -> Self {
        Self { endpoint: Endpoint::Shipment, name: None, body: body.into_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_body_has_the_documented_fields_in_their_order() {
        let call = Call::event(&LearnerId::raw("A"), "addtocart", &Json::text("sku-1"), Source::Web);
        assert_eq!(call.endpoint, Endpoint::Event);
        assert_eq!(call.name.as_deref(), Some("addtocart"));
        assert_eq!(
            call.body,
            r#"{"eventName":"addtocart","eventval":"sku-1","eventCategory":"EXTERNAL","userId":"A","is_active":true,"source":"web"}"#
        );
    }

    #[test]
    fn an_identify_body_has_the_documented_fields_in_their_order() {
        let fields =
            PersonField::ALL.iter().rev().map(|field| (*field, Json::text(field.as_str()))).collect();
        let person = Person { fields, others: vec![] };
        assert_eq!(
            Call::identify(&LearnerId::raw("A"), &person, Source::App).body,
            r#"{"userId":"A","email":"email","phone":"phone","fullName":"fullName","firstName":"firstName","lastName":"lastName","customer_id":"customer_id","city":"city","state":"state","country":"country","country_code":"country_code","postal_code":"postal_code","language":"language","createdAt":"createdAt","updatedAt":"updatedAt","is_active":true,"source":"app"}"#
        );
    }

    #[test]
    fn a_fields_name_is_the_same_in_a_table_and_on_the_wire() {
        for field in PersonField::ALL {
            assert_eq!(serde_json::to_value(field).unwrap(), field.as_str());
        }
    }

    #[test]
    fn a_senders_own_field_never_takes_the_place_of_one_of_wigzos() {
        let known = PersonField::ALL.map(PersonField::as_str);
        let reserved = known.into_iter().chain(["userId", "is_active", "source"]);
        let mut others: Vec<_> = reserved.map(|field| (field.into(), Json::text("mine"))).collect();
        others.push(("vip".into(), Json::number("1.0").unwrap()));
        let fields = vec![(PersonField::Email, Json::text("buyer@shop.example"))];
        let person = Person { fields, others };
        assert_eq!(
            Call::identify(&LearnerId::raw("A"), &person, Source::Web).body,
            r#"{"userId":"A","email":"buyer@shop.example","is_active":true,"source":"web","vip":1.0}"#
        );
    }
}
