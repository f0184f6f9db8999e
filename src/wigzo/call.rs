//! One HTTP request to Wigzo, before tokens and sockets.
//!
//! The two REST calls and the order of their fields (wigzo.md 2.1, 2.2). A body is finished text here and is never
//! parsed again. What a field's value is made from is not this module's business.

use super::{Json, JsonObject, LearnerId};

/// The endpoints of wigzo.md 2 and 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Where somebody acted: the field `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A browser, or a server on its behalf.
    Web,
    /// A mobile app.
    App,
}

/// What an identify call says about a person. Absent fields are left out of the body.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields are Wigzo's own, one for one (wigzo.md 2.1)")]
pub struct Person {
    pub email: Option<String>,
    pub phone: Option<String>,
    pub full_name: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub customer_id: Option<String>,
    pub city: Option<String>,
    pub state: Option<String>,
    pub country: Option<String>,
    pub country_code: Option<String>,
    pub postal_code: Option<String>,
    pub language: Option<String>,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    /// Fields of the sender's own, written after Wigzo's. Those named like one of Wigzo's are left out.
    pub others: Vec<(String, Json)>,
}

// === impl Endpoint ===

impl Endpoint {
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

// === impl Person ===

impl Person {
    /// The fields of an identify call that mean something to Wigzo. A sender's own field never takes one's place.
    pub const FIELDS: [&'static str; 17] = [
        "userId",
        "email",
        "phone",
        "fullName",
        "firstName",
        "lastName",
        "customer_id",
        "city",
        "state",
        "country",
        "country_code",
        "postal_code",
        "language",
        "createdAt",
        "updatedAt",
        "is_active",
        "source",
    ];

    fn known(&self) -> [(&'static str, &Option<String>); 14] {
        [
            ("email", &self.email),
            ("phone", &self.phone),
            ("fullName", &self.full_name),
            ("firstName", &self.first_name),
            ("lastName", &self.last_name),
            ("customer_id", &self.customer_id),
            ("city", &self.city),
            ("state", &self.state),
            ("country", &self.country),
            ("country_code", &self.country_code),
            ("postal_code", &self.postal_code),
            ("language", &self.language),
            ("createdAt", &self.created_at),
            ("updatedAt", &self.updated_at),
        ]
    }
}

// === impl Call ===

impl Call {
    /// Tells Wigzo who `learner` is.
    pub fn identify(learner: &LearnerId, person: &Person, source: Source) -> Self {
        let mut body = JsonObject::new();
        body.text("userId", learner.as_str());
        for (field, value) in person.known() {
            if let Some(value) = value {
                body.text(field, value);
            }
        }
        body.boolean("is_active", true).text("source", source.as_str());
        for (field, value) in &person.others {
            if !Person::FIELDS.contains(&field.as_str()) {
                body.json(field, value);
            }
        }
        Self { endpoint: Endpoint::Identify, name: None, body: body.finish().into_string() }
    }

    /// Tells Wigzo what `learner` did: the event `name` with its value.
    pub fn event(learner: &LearnerId, name: &str, value: &Json, source: Source) -> Self {
        let mut body = JsonObject::new();
        body.text("eventName", name)
            .json("eventval", value)
            // No other category occurs anywhere (wigzo.md 6.3).
            .text("eventCategory", "EXTERNAL")
            .text("userId", learner.as_str())
            .boolean("is_active", true)
            .text("source", source.as_str());
        Self { endpoint: Endpoint::Event, name: Some(name.to_owned()), body: body.finish().into_string() }
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
        let field = |name: &str| Some(name.to_owned());
        let person = Person {
            email: field("email"),
            phone: field("phone"),
            full_name: field("fullName"),
            first_name: field("firstName"),
            last_name: field("lastName"),
            customer_id: field("customer_id"),
            city: field("city"),
            state: field("state"),
            country: field("country"),
            country_code: field("country_code"),
            postal_code: field("postal_code"),
            language: field("language"),
            created_at: field("createdAt"),
            updated_at: field("updatedAt"),
            others: vec![],
        };
        let body = Call::identify(&LearnerId::raw("userId"), &person, Source::App).body;
        let places: Vec<_> =
            Person::FIELDS.iter().map(|field| body.find(&format!("\"{field}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{body}");
    }

    #[test]
    fn a_senders_own_field_never_takes_the_place_of_one_of_wigzos() {
        let mut others: Vec<_> =
            Person::FIELDS.iter().map(|field| ((*field).to_owned(), Json::text("mine"))).collect();
        others.push(("vip".to_owned(), Json::number("1.0").unwrap()));
        let person = Person { email: Some("buyer@shop.example".to_owned()), others, ..Person::default() };
        assert_eq!(
            Call::identify(&LearnerId::raw("A"), &person, Source::Web).body,
            r#"{"userId":"A","email":"buyer@shop.example","is_active":true,"source":"web","vip":1.0}"#
        );
    }
}
