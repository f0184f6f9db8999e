//! Public HTTP: the way in. (Placeholder: only the configuration that others rely on.)

use std::net::{Ipv4Addr, SocketAddr};

/// Where events come in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port that Segment posts to. Anything but loopback needs every organization to have a source key,
    /// a shared secret or `open = true`.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 8080).into() }
    }
}
