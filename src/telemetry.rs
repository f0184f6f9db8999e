//! Logs and metrics. (Placeholder: only the configuration that others rely on.)

/// What the service says about itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Form of the log lines.
    pub log_format: LogFormat,
    /// Which lines are logged: a level, or levels per target (`info,hyper=warn`).
    pub log: String,
}

/// Form of the log lines.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

impl Default for Config {
    fn default() -> Self {
        Self { log_format: LogFormat::Auto, log: "info".to_owned() }
    }
}
