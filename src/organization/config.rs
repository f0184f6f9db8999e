//! What an operator writes about an organization, and the defaults for all of them.
//!
//! The doc comment of a field is the text that the generated `config/default.toml` shows for its key.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use super::origin::AllowedOrigin;
use crate::clock::Span;
use crate::secret::Secret;
use crate::translate::{Identity, Mapping, Profile};

/// What holds for every organization that does not say otherwise.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Translation table: which Wigzo calls an event becomes.
    pub profile: ProfileName,
    /// Which of a person's ids becomes Wigzo's learner id.
    pub identity: Identity,
    /// Where Wigzo's API lives: http or https, a path prefix is kept; no query, fragment, user name or password.
    pub base_url: BaseUrl,
    /// Whether a request with one single invalid event is answered with 400 and the reason. Off: 200, and the reason
    /// stands in the reply's `rejected` list.
    pub report_rejections: bool,
    /// Where the `integrations` object of an event is obeyed.
    pub obey_integrations: ObeyIntegrations,
    /// Pages that may send events from browsers: `*` for all, or origins such as `https://shop.example`. A request that
    /// names another origin is refused with 403. All by default: the write key of a browser source can be read in the
    /// page by anybody, so a list keeps copies of a page away, and not a sender who means harm and can name any origin.
    /// Requests without `Origin` (servers, apps, pixels in e-mails) are not asked.
    pub cors_origins: Vec<AllowedOrigin>,
    /// Calls to Wigzo that one organization may have open at one time. As long as an endpoint of Wigzo's seems to bear
    /// less, it has fewer there: it starts with 4 and finds out. Where several endpoints are called, each leaves an
    /// eighth (rounded down, at least one) to the others. With 1, a call that hangs holds up all others.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_in_flight: usize,
    /// How much of delivery an organization gets while others wait too: at weight 3 three times as many events as one
    /// at weight 1.
    #[schemars(range(min = 1, max = 100))]
    pub weight: usize,
    /// Calls to Wigzo that one organization may make in a second. 0 sets no limit.
    #[schemars(range(min = 0, max = 100_000))]
    pub rate_limit: u32,
    /// What is to be different from the profile.
    #[serde(flatten)]
    pub mapping: Mapping,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            profile: ProfileName("standard".to_owned()),
            identity: Identity::UserFirst,
            base_url: BaseUrl::wigzo(),
            report_rejections: true,
            obey_integrations: ObeyIntegrations::Tracking,
            cors_origins: vec![AllowedOrigin::any()],
            max_in_flight: 64,
            weight: 1,
            rate_limit: 0,
            mapping: Mapping::default(),
        }
    }
}

/// One organization.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Organization token, from Wigzo's settings page: 10 to 64 letters, digits, `-` and `_`. Required, here or in
    /// `org_token_file`.
    #[schemars(extend("examples" = ["3f0c1a52-7d44-4b0e-9a1b-5f6e7d8c9b0a"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_token: Option<Secret>,
    /// File that holds the organization token. Instead of `org_token`.
    #[schemars(extend("examples" = ["/run/secrets/acme_org_token"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org_token_file: Option<String>,
    /// Second, secret token, for accounts that have one. It is sent beside the organization token.
    #[schemars(extend("examples" = ["made-up-second-token"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File that holds the second token. Instead of `token`.
    #[schemars(extend("examples" = ["/run/secrets/acme_token"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// Keys that senders authenticate with: Segment write key, API key, bearer token. A key belongs to one
    /// organization.
    #[schemars(extend("examples" = [["wk_acme_web", "wk_acme_app"]]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_keys: Vec<Secret>,
    /// File that holds further source keys, one on each line.
    #[schemars(extend("examples" = ["/run/secrets/acme_source_keys"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_keys_file: Option<String>,
    /// Shared secrets of Segment's webhook destinations. With any, `X-Signature` must verify with one of them; to rotate,
    /// list the new one beside the old one for a while.
    #[schemars(extend("examples" = [["made-up-shared-secret"]]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared_secrets: Vec<Secret>,
    /// File that holds further shared secrets, one on each line.
    #[schemars(extend("examples" = ["/run/secrets/acme_shared_secrets"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_secrets_file: Option<String>,
    /// Switches it off: its requests are answered with 403 (`organization_disabled`), and what waits for delivery goes on
    /// waiting, for as long as it is off. Its name, keys and token stay its own.
    pub disabled: bool,
    /// Whether `/webhook/NAME` takes events without key and signature. Anybody who knows the address can then send. If
    /// it is the only organization and has neither key nor secret, `/webhook` and `/v1/…` take its events likewise.
    pub open: bool,
    /// Overrides `organization_defaults.profile`.
    #[schemars(extend("examples" = ["standard"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
    /// Overrides `organization_defaults.identity`.
    #[schemars(extend("examples" = ["user_first"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Overrides `organization_defaults.base_url`.
    #[schemars(extend("examples" = ["https://tracker.wigzopush.com"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<BaseUrl>,
    /// Overrides `organization_defaults.report_rejections`.
    #[schemars(extend("examples" = [true]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_rejections: Option<bool>,
    /// Overrides `organization_defaults.obey_integrations`.
    #[schemars(extend("examples" = ["tracking"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obey_integrations: Option<ObeyIntegrations>,
    /// Overrides `organization_defaults.cors_origins`.
    #[schemars(extend("examples" = [["https://shop.example", "https://www.shop.example"]]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors_origins: Option<Vec<AllowedOrigin>>,
    /// Overrides `organization_defaults.max_in_flight`.
    #[schemars(range(min = 1, max = 10_000), extend("examples" = [64]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<usize>,
    /// Overrides `organization_defaults.weight`.
    #[schemars(range(min = 1, max = 100), extend("examples" = [1]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<usize>,
    /// Overrides `organization_defaults.rate_limit`.
    #[schemars(range(min = 0, max = 100_000), extend("examples" = [50]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// Overrides `delivery.max_age`: events of this organization that have waited for longer are not delivered any more
    /// but end as `expired`.
    #[schemars(extend("examples" = ["30d"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// What is to be different from the profile with the changes of `organization_defaults`.
    #[serde(flatten)]
    pub mapping: Mapping,
}

/// Where the `integrations` object of an event is obeyed (segment.md 4.1, 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObeyIntegrations {
    /// On the tracking routes; behind a webhook Segment has already decided, so only an explicit `Wigzo: false` counts.
    Tracking,
    /// On every route alike.
    Always,
    /// Nowhere: every event is meant for Wigzo.
    Never,
}

/// The name of a built-in profile: one of [`Profile::BUILTIN`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileName(String);

/// A name that is no built-in profile's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such profile; there is {}", Profile::BUILTIN.join(", "))]
pub struct UnknownProfile;

impl ProfileName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProfileName {
    type Error = UnknownProfile;

    fn try_from(name: String) -> Result<Self, UnknownProfile> {
        if Profile::BUILTIN.contains(&name.as_str()) { Ok(Self(name)) } else { Err(UnknownProfile) }
    }
}

impl From<ProfileName> for String {
    fn from(name: ProfileName) -> Self {
        name.0
    }
}

impl schemars::JsonSchema for ProfileName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProfileName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": Profile::BUILTIN })
    }
}

/// An address that calls can be built on: http or https, nothing but host, port and path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseUrl(Url);

/// What an address must look like. It never repeats the address: a password may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBaseUrl {
    /// Not a URL, or of another scheme.
    #[error("an http or https address is expected, such as \"https://tracker.wigzopush.com\"")]
    NotHttp,
    /// A user name or a password stands before the host.
    #[error("user name and password are not allowed in the address; tokens have keys of their own")]
    Credentials,
    /// A `?query` or `#fragment` follows the path.
    #[error("`?` and `#` are not allowed in the address; give scheme, host and path only")]
    QueryOrFragment,
}

impl BaseUrl {
    /// Wigzo's own tracker.
    fn wigzo() -> Self {
        Self(Url::parse("https://tracker.wigzopush.com").expect("BUG: the built-in address is a URL"))
    }

    /// The address as a URL.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl TryFrom<Url> for BaseUrl {
    type Error = BadBaseUrl;

    fn try_from(url: Url) -> Result<Self, BadBaseUrl> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadBaseUrl::NotHttp);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadBaseUrl::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BadBaseUrl::QueryOrFragment);
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = BadBaseUrl;

    fn try_from(text: String) -> Result<Self, BadBaseUrl> {
        Url::parse(&text).map_err(|_| BadBaseUrl::NotHttp)?.try_into()
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        url.to_string()
    }
}

/// Without the slash at the end: that is how people write it.
impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl schemars::JsonSchema for BaseUrl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BaseUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_with_host_and_path_only() {
        for (text, expected) in [
            ("https://tracker.wigzopush.com", Ok("https://tracker.wigzopush.com")),
            ("http://127.0.0.1:8090/", Ok("http://127.0.0.1:8090")),
            ("https://shop.example/prefix/", Ok("https://shop.example/prefix")),
            ("tracker.wigzopush.com", Err(BadBaseUrl::NotHttp)),
            ("ftp://shop.example", Err(BadBaseUrl::NotHttp)),
            ("", Err(BadBaseUrl::NotHttp)),
            ("https://user:hush@shop.example", Err(BadBaseUrl::Credentials)),
            ("https://user@shop.example", Err(BadBaseUrl::Credentials)),
            ("https://shop.example?token=hush", Err(BadBaseUrl::QueryOrFragment)),
            ("https://shop.example/#top", Err(BadBaseUrl::QueryOrFragment)),
        ] {
            let read = BaseUrl::try_from(text.to_owned()).map(|url| url.to_string());
            assert_eq!(read, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_profile_is_a_built_in_one() {
        assert_eq!(ProfileName::try_from("standard".to_owned()).unwrap().as_str(), "standard");
        let refused = ProfileName::try_from("gide".to_owned()).unwrap_err();
        assert!(refused.to_string().starts_with("no such profile; there is standard"), "{refused}");
    }
}
