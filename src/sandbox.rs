//! A stand-in for Wigzo. (Placeholder: only the configuration that others rely on.)

use std::net::{Ipv4Addr, SocketAddr};

/// The stand-in for Wigzo that `--sandbox` starts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the stand-in.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 8090).into() }
    }
}
