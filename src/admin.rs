//! Private HTTP: metrics, admin API, console. (Placeholder: only the configuration that others rely on.)

use std::net::{Ipv4Addr, SocketAddr};

/// The private side: metrics, admin API and console.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the private side. Anything but loopback needs `token_file`.
    pub listen: SocketAddr,
    /// File that holds the token which the private side asks for; empty asks for none.
    pub token_file: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 9090).into(), token_file: String::new() }
    }
}
