//! One HTTP request to Wigzo, before tokens and sockets.

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
