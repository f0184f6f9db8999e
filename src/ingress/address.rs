//! Every public address: the one table from which both the router and the OpenAPI document are built.

use http::Method;

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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_path_stands_twice() {
        let paths: Vec<String> = all().into_iter().map(|address| address.path).collect();
        assert_eq!(paths.iter().collect::<HashSet<_>>().len(), paths.len());
    }
}
