//! Where an organization's calls go, with its tokens: the only place where a token meets a URL.

use secrecy::SecretString;
use url::Url;

use super::Endpoint;

/// One organization's base URL and tokens, with every endpoint's URL prebuilt.
#[derive(Debug, Clone)]
pub struct Address {
    // Private: base, tokens, prebuilt URLs per endpoint.
    base: Url,
}

/// An endpoint's URL in both forms.
#[derive(Clone)]
pub struct CallUrl {
    url: Url,
    redacted: String,
}

impl Address {
    /// An address from a base URL (`https://tracker.wigzopush.com`, a path prefix is kept), the organization token and the optional second token.
    pub fn new(base: Url, org_token: &SecretString, token: Option<&SecretString>) -> Self {
        todo!()
    }

    /// The URL of an endpoint.
    pub fn url(&self, endpoint: Endpoint) -> &CallUrl {
        todo!()
    }
}

impl CallUrl {
    /// The real URL, tokens included: for the client only.
    pub fn expose(&self) -> &Url {
        &self.url
    }

    /// The URL as it may be logged, stored and shown: each token is replaced by `***`.
    pub fn redacted(&self) -> &str {
        &self.redacted
    }
}
