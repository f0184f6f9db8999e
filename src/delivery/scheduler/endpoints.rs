//! One value for each of Wigzo's endpoints.

use crate::wigzo::Endpoint;

/// A value for each endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerEndpoint<V> {
    identify: V,
    event: V,
    product: V,
    shipment: V,
}

impl<V> PerEndpoint<V> {
    /// Makes a value for each endpoint.
    pub fn new(mut make: impl FnMut(Endpoint) -> V) -> Self {
        Self {
            identify: make(Endpoint::Identify),
            event: make(Endpoint::Event),
            product: make(Endpoint::Product),
            shipment: make(Endpoint::Shipment),
        }
    }

    /// The value of an endpoint.
    pub fn of(&self, endpoint: Endpoint) -> &V {
        match endpoint {
            Endpoint::Identify => &self.identify,
            Endpoint::Event => &self.event,
            Endpoint::Product => &self.product,
            Endpoint::Shipment => &self.shipment,
        }
    }

    /// The value of an endpoint, to be changed.
    pub fn of_mut(&mut self, endpoint: Endpoint) -> &mut V {
        match endpoint {
            Endpoint::Identify => &mut self.identify,
            Endpoint::Event => &mut self.event,
            Endpoint::Product => &mut self.product,
            Endpoint::Shipment => &mut self.shipment,
        }
    }

    /// All endpoints with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Endpoint, &V)> {
        Endpoint::ALL.into_iter().map(|endpoint| (endpoint, self.of(endpoint)))
    }
}
