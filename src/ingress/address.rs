//! Every public address: the one table from which both the router and the OpenAPI document are built.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{Method, Uri};

use crate::segment::Kind;

/// One path, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The path, with its parameters in braces: the router and OpenAPI write them alike.
    pub(super) path: String,
    /// What is done there.
    pub(super) purpose: Purpose,
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Segment's webhook-style destinations, known by a key or by `writeKey`.
    Webhook,
    /// The same with the organization's name in the path.
    NamedWebhook,
    /// The audiences of Webhook Audiences: created, looked up.
    Audiences,
    /// A library's envelope, or any other accepted shape.
    Batch,
    /// Events of one type, which the path names.
    Events(Kind),
    /// One event in the address of an image.
    Pixel,
    /// Whether the process runs.
    Live,
    /// Whether events should be sent here.
    Ready,
    /// The OpenAPI document.
    Document,
}

impl Purpose {
    /// The methods that are taken. `Allow` and 405 follow from them.
    pub(super) fn methods(self) -> &'static [Method] {
        match self {
            Self::Webhook | Self::NamedWebhook => {
                &[Method::POST, Method::PUT, Method::PATCH, Method::OPTIONS]
            }
            Self::Batch | Self::Events(_) => &[Method::POST, Method::OPTIONS],
            Self::Audiences => &[Method::POST],
            Self::Pixel => &[Method::GET, Method::HEAD, Method::OPTIONS],
            Self::Live | Self::Ready | Self::Document => &[Method::GET, Method::HEAD],
        }
    }
}

/// Every address, in the order in which people should read them.
pub(super) fn all() -> Vec<Address> {
    let mut all = Vec::new();
    let mut add = |path: String, purpose| all.push(Address { path, purpose });
    add("/webhook".to_owned(), Purpose::Webhook);
    add("/webhook/{organization}".to_owned(), Purpose::NamedWebhook);
    add("/audiences".to_owned(), Purpose::Audiences);
    for name in ["batch", "import", "b"] {
        add(format!("/v1/{name}"), Purpose::Batch);
    }
    for kind in Kind::ALL {
        let name = kind.as_str();
        // Libraries in the browser save bytes.
        let letter = name.chars().next().unwrap_or_default();
        add(format!("/v1/{name}"), Purpose::Events(kind));
        add(format!("/v1/{letter}"), Purpose::Events(kind));
    }
    add("/v1/pixel/{type}".to_owned(), Purpose::Pixel);
    add("/livez".to_owned(), Purpose::Live);
    add("/readyz".to_owned(), Purpose::Ready);
    add("/healthz".to_owned(), Purpose::Ready);
    add("/openapi.json".to_owned(), Purpose::Document);
    all
}

/// The path without doubled and trailing slashes, which senders add when they join an address from parts.
pub(super) fn canonical(path: &str) -> Cow<'_, str> {
    let is_doubled = path.as_bytes().windows(2).any(|pair| pair == b"//");
    if !is_doubled && (path.len() < 2 || !path.ends_with('/')) {
        return Cow::Borrowed(path);
    }
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    let path = segments.fold(String::with_capacity(path.len()), |path, segment| path + "/" + segment);
    if path.is_empty() { Cow::Borrowed("/") } else { Cow::Owned(path) }
}

/// The address with the [`canonical`] path, if it has another one.
pub(super) fn without_extra_slashes(uri: &Uri) -> Option<Uri> {
    let Cow::Owned(path) = canonical(uri.path()) else { return None };
    let path = uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// address | the same without doubled and trailing slashes
    #[test]
    fn extra_slashes_are_left_out() {
        for (address, expected) in [
            ("/v1/batch", None),
            ("/", None),
            ("/webhook?next=//x/", None),
            ("/v1/batch/", Some("/v1/batch")),
            ("//v1/batch", Some("/v1/batch")),
            ("/v1//batch", Some("/v1/batch")),
            ("///webhook//x//?a=b//", Some("/webhook/x?a=b//")),
            ("/v1/pixel/track/?data=e30=", Some("/v1/pixel/track?data=e30=")),
            ("/webhook/%2F/", Some("/webhook/%2F")),
            ("http://hook.example.com//v1/t/", Some("http://hook.example.com/v1/t")),
        ] {
            let found = without_extra_slashes(&address.parse().unwrap());
            assert_eq!(found.map(|uri| uri.to_string()).as_deref(), expected, "{address}");
        }
        assert_eq!(canonical("//"), "/");
    }

    #[test]
    fn no_path_stands_twice() {
        let paths: Vec<String> = all().into_iter().map(|address| address.path).collect();
        assert_eq!(paths.iter().collect::<HashSet<_>>().len(), paths.len());
    }
}
