//! Where an organization's calls go, with its tokens: the only place where a token meets a URL.
//!
//! Wigzo takes its tokens in the query string and in the path, so a URL is itself a secret. Each is therefore built
//! twice, by the same steps: once with the tokens, once with `***` in their place. Only [`CallUrl::expose`] gives
//! the first; everything that prints, `Debug` included, shows the second.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::Endpoint;

/// What stands for a token in a redacted URL.
const REDACTED: &str = "***";

/// One organization's base URL and tokens, with every endpoint's URL prebuilt.
#[derive(Debug, Clone)]
pub struct Address {
    identify: CallUrl,
    event: CallUrl,
    product: CallUrl,
    shipment: CallUrl,
    /// Each token in every form in which a server may echo it.
    echoes: Vec<SecretString>,
}

/// An endpoint's URL in both forms.
#[derive(Clone)]
pub struct CallUrl {
    url: Arc<Url>,
    redacted: String,
}

// === impl Address ===

impl Address {
    /// An address from a base URL (`https://tracker.wigzopush.com`, with or without a final slash), the organization
    /// token and the optional second token. A path in the base is kept as a prefix; its query and fragment are not.
    pub fn new(mut base: Url, org_token: &SecretString, token: Option<&SecretString>) -> Self {
        base.set_query(None);
        base.set_fragment(None);
        let both = |endpoint| CallUrl {
            url: build(&base, endpoint, org_token.expose_secret(), token.map(ExposeSecret::expose_secret))
                .into(),
            redacted: build(&without_login(&base), endpoint, REDACTED, token.map(|_| REDACTED)).into(),
        };
        Self {
            identify: both(Endpoint::Identify),
            event: both(Endpoint::Event),
            product: both(Endpoint::Product),
            shipment: both(Endpoint::Shipment),
            echoes: std::iter::once(org_token).chain(token).flat_map(echoes).collect(),
        }
    }

    /// A text of Wigzo's, such as the body of an answer, with each token in it replaced by `***`: servers echo what
    /// they refuse. The text may have been cut anywhere: a token's beginning at its end is replaced as well.
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let echoes = || self.echoes.iter().map(ExposeSecret::expose_secret);
        let mut text = echoes().fold(Cow::Borrowed(text), |text, token| {
            if text.contains(token) { text.replace(token, REDACTED).into() } else { text }
        });
        if let Some(cut) = echoes().filter_map(|token| cut_off(&text, token)).max() {
            let text = text.to_mut();
            text.truncate(text.len() - cut);
            text.push_str(REDACTED);
        }
        text
    }

    /// The URL of an endpoint.
    pub fn url(&self, endpoint: Endpoint) -> &CallUrl {
        match endpoint {
            Endpoint::Identify => &self.identify,
            Endpoint::Event => &self.event,
            Endpoint::Product => &self.product,
            Endpoint::Shipment => &self.shipment,
        }
    }
}

/// Whether calls go to the same place with the same tokens: both are in the URLs.
impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        let urls = |it: &Self| [&it.identify, &it.event, &it.product, &it.shipment].map(|it| it.url.clone());
        urls(self) == urls(other)
    }
}

// === impl CallUrl ===

impl CallUrl {
    /// The real URL, tokens included: for the client only.
    pub fn expose(&self) -> &Arc<Url> {
        &self.url
    }

    /// The URL as it may be logged, stored and shown: each token is replaced by `***`.
    pub fn redacted(&self) -> &str {
        &self.redacted
    }
}

impl fmt::Debug for CallUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallUrl").field(&self.redacted).finish()
    }
}

// === helpers ===

/// One endpoint's URL (wigzo.md 2, 3.1). The learn calls take both tokens in the query; the other two take the
/// organization token in the path and no second one.
fn build(base: &Url, endpoint: Endpoint, org_token: &str, token: Option<&str>) -> Url {
    let mut url = base.clone();
    let (path, in_query): (&[&str], bool) = match endpoint {
        Endpoint::Identify => (&["rest", "v1", "learn", "identify"], true),
        Endpoint::Event => (&["rest", "v1", "learn", "event"], true),
        Endpoint::Product => (&["api", "v1", "product", org_token], false),
        Endpoint::Shipment => (&["rest", "v1", "learn", "shipment", "custom", org_token], false),
    };
    // A base without a path (`mailto:`) is no HTTP address at all; it stays what it is, and the client refuses it.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    if in_query {
        let mut query = url.query_pairs_mut();
        query.append_pair("org_token", org_token);
        if let Some(token) = token {
            query.append_pair("token", token);
        }
    }
    url
}

/// The forms in which an answer may hold a token: as it is, as it stands in a query or a path, and as JSON writes it.
fn echoes(token: &SecretString) -> Vec<SecretString> {
    let token = token.expose_secret();
    let query: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let json = Value::from(token).to_string();
    let json = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(&json).to_owned();
    let mut forms = vec![token.to_owned(), query, json.replace('/', "\\/"), json];
    // The longest first: an escaped form may hold the plain one.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms.retain(|form| !form.is_empty());
    forms.into_iter().map(SecretString::from).collect()
}

/// A token's beginning that says nothing: words end alike by chance.
const HARMLESS: usize = 3;

/// How many bytes at a text's end are the beginning of a token, if that is more than chance.
fn cut_off(text: &str, token: &str) -> Option<usize> {
    let parts = token.char_indices().map(|(end, _)| end).filter(|&end| end > HARMLESS);
    parts.rev().find(|&end| token.get(..end).is_some_and(|part| text.ends_with(part)))
}

/// The base with `***` for a user name and no password: a proxy before Wigzo may want a login, no log does.
fn without_login(base: &Url) -> Url {
    let mut base = base.clone();
    if !base.username().is_empty() || base.password().is_some() {
        // Both setters fail only for URLs that cannot have a login, and this one has one.
        let _ = base.set_username(REDACTED);
        let _ = base.set_password(None);
    }
    base
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const ALL: [Endpoint; 4] = [Endpoint::Identify, Endpoint::Event, Endpoint::Product, Endpoint::Shipment];

    fn address(base: &str, org_token: &str, token: Option<&str>) -> Address {
        let token = token.map(SecretString::from);
        Address::new(base.parse().unwrap(), &SecretString::from(org_token), token.as_ref())
    }

    #[test]
    fn every_endpoint_has_its_documented_url() {
        let address = address("https://tracker.wigzopush.com", "ORG", Some("TOK"));
        for (endpoint, url) in [
            (
                Endpoint::Identify,
                "https://tracker.wigzopush.com/rest/v1/learn/identify?org_token=ORG&token=TOK",
            ),
            (Endpoint::Event, "https://tracker.wigzopush.com/rest/v1/learn/event?org_token=ORG&token=TOK"),
            (Endpoint::Product, "https://tracker.wigzopush.com/api/v1/product/ORG"),
            (Endpoint::Shipment, "https://tracker.wigzopush.com/rest/v1/learn/shipment/custom/ORG"),
        ] {
            assert_eq!(address.url(endpoint).expose().as_str(), url);
            assert_eq!(
                address.url(endpoint).redacted(),
                url.replace("ORG", REDACTED).replace("TOK", REDACTED)
            );
        }
    }

    #[test]
    fn the_second_token_is_sent_only_when_there_is_one() {
        let url = address("https://tracker.wigzopush.com/", "ORG", None).url(Endpoint::Event).clone();
        assert_eq!(url.expose().as_str(), "https://tracker.wigzopush.com/rest/v1/learn/event?org_token=ORG");
        assert_eq!(url.redacted(), "https://tracker.wigzopush.com/rest/v1/learn/event?org_token=***");
    }

    #[test]
    fn a_path_prefix_is_kept_with_and_without_a_final_slash() {
        for base in
            ["http://127.0.0.1:9/wigzo/eu", "http://127.0.0.1:9/wigzo/eu/", "http://127.0.0.1:9/wigzo/eu?a#b"]
        {
            assert_eq!(
                address(base, "ORG", None).url(Endpoint::Identify).expose().as_str(),
                "http://127.0.0.1:9/wigzo/eu/rest/v1/learn/identify?org_token=ORG"
            );
        }
    }

    #[test]
    fn tokens_are_escaped_where_they_stand() {
        let address = address("https://w.example", "a/b?c&d e#é", Some("x+y=z%"));
        let query: Vec<_> = address.url(Endpoint::Event).expose().query_pairs().into_owned().collect();
        assert_eq!(
            query,
            [("org_token".into(), "a/b?c&d e#é".into()), ("token".to_owned(), "x+y=z%".to_owned())]
        );
        assert_eq!(
            address.url(Endpoint::Product).expose().as_str(),
            "https://w.example/api/v1/product/a%2Fb%3Fc&d%20e%23%C3%A9"
        );
    }

    #[test]
    fn nothing_that_prints_holds_a_token() {
        let address = address("https://login:p4ss@w.example/x", "0rgT0ken", Some("s3cond"));
        let mut printed = format!("{address:?} {address:#?}");
        for endpoint in ALL {
            let url = address.url(endpoint);
            write!(printed, "{url:?} {url:#?} {}", url.redacted()).unwrap();
        }
        for secret in ["0rgT0ken", "s3cond", "login", "p4ss"] {
            assert!(!printed.contains(secret), "{secret} in {printed}");
        }
        assert!(printed.contains("https://***@w.example/x/rest/v1/learn/event?org_token=***&token=***"));
    }

    #[test]
    fn an_echoed_token_is_masked_in_every_form_and_where_the_text_was_cut() {
        let address = address("https://w.example", "org-token-0001", Some(r#"x+y/z="w\"#));
        for (text, scrubbed) in [
            ("nothing of ours", "nothing of ours"),
            ("org-token-0001 and org-token-0001", "*** and ***"),
            ("?org_token=org-token-0001&token=x%2By%2Fz%3D%22w%5C", "?org_token=***&token=***"),
            (r#"{"token":"x+y/z=\"w\\"}"#, r#"{"token":"***"}"#),
            (r#"{"token":"x+y\/z=\"w\\"}"#, r#"{"token":"***"}"#),
            (r#"token x+y/z="w\"#, "token ***"),
            ("no such token org-token-000", "no such token ***"),
            ("no such token org-", "no such token ***"),
            ("no such token x%2By%", "no such token ***"),
            ("the end of this cyborg", "the end of this cyborg"),
        ] {
            assert_eq!(address.scrub(text), scrubbed, "{text}");
        }
    }
}
