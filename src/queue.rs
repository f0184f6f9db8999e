//! The durable queue. (Placeholder: only the configuration that others rely on.)

use std::path::PathBuf;

use bytesize::ByteSize;

/// Where events are kept until they are delivered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of the queue.
    pub path: PathBuf,
    /// Disk space that the queue may take, at least 64 MiB. When it is used up, requests are answered 429.
    #[schemars(with = "String")]
    pub max_disk: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: "data".into(), max_disk: ByteSize::gib(10) }
    }
}
