//! The places that pages are served from, as browsers name them in `Origin` (RFC 6454).

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Whose pages may send: `*` for any, or one origin: scheme, host and port, without a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowedOrigin(String);

/// What an origin must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected \"*\" or an origin: scheme, host and port without a path, such as \"https://shop.example\""
)]
pub struct BadOrigin;

impl AllowedOrigin {
    /// Every origin.
    pub(super) fn any() -> Self {
        Self("*".to_owned())
    }

    /// Whether a page may send that a browser says is of this origin. A page without one (`null`: a local file, a
    /// sandboxed frame) is covered by `*` only.
    pub fn covers(&self, origin: &str) -> bool {
        self.0 == "*" || self.0 == origin
    }
}

impl TryFrom<String> for AllowedOrigin {
    type Error = BadOrigin;

    /// Spelled as browsers spell it, which is what is compared: lower case, no default port, no slash at the end.
    fn try_from(text: String) -> Result<Self, BadOrigin> {
        if text == "*" {
            return Ok(Self(text));
        }
        let url = Url::parse(&text).map_err(|_| BadOrigin)?;
        let bare = matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let host = url.host().filter(|host| bare && *host != Host::Domain("")).ok_or(BadOrigin)?;
        // Schemes of apps that are pages inside (`capacitor://localhost`) have origins of the same form.
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self(format!("{}://{host}{port}", url.scheme())))
    }
}

impl From<AllowedOrigin> for String {
    fn from(origin: AllowedOrigin) -> Self {
        origin.0
    }
}

impl schemars::JsonSchema for AllowedOrigin {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AllowedOrigin".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_spelled_as_browsers_spell_it() {
        for (text, expected) in [
            ("*", Some("*")),
            ("https://shop.example", Some("https://shop.example")),
            ("HTTPS://Shop.Example/", Some("https://shop.example")),
            ("https://shop.example:443", Some("https://shop.example")),
            ("http://127.0.0.1:3000", Some("http://127.0.0.1:3000")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("capacitor://localhost", Some("capacitor://localhost")),
            ("https://bücher.example", Some("https://xn--bcher-kva.example")),
            ("", None),
            ("null", None),
            ("shop.example", None),
            ("https://shop.example/path", None),
            ("https://shop.example?a", None),
            ("https://user@shop.example", None),
            ("file:///tmp/a.html", None),
            ("mailto:user@shop.example", None),
        ] {
            let read = AllowedOrigin::try_from(text.to_owned()).ok().map(String::from);
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn only_the_star_covers_a_page_without_an_origin() {
        let one = AllowedOrigin::try_from("https://shop.example".to_owned()).unwrap();
        for (origin, covered) in [
            ("https://shop.example", true),
            ("http://shop.example", false),
            ("https://shop.example:8443", false),
            ("https://shop.example.evil.example", false),
            ("null", false),
        ] {
            assert_eq!(one.covers(origin), covered, "{origin}");
            assert!(AllowedOrigin::any().covers(origin), "{origin}");
        }
    }
}
