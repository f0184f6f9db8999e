//! The tenants: each is one Wigzo organization token and everything that is configured for it.
//!
//! [`Config`] and [`Defaults`] are what an operator writes; [`Organizations`] is what the service asks: an immutable
//! snapshot, built once. A reload builds another one, and `app` hands it to the rooms.
//!
//! Invariants:
//! * Only [`Organizations`] makes an [`Organization`]: from a configuration without a [`Problem`], or, in partner mode,
//!   from the stored form of a [`Partner`].
//! * A source key belongs to one organization. It is kept as its hash, so that how long a lookup takes says nothing
//!   about the key.
//! * No message and no `Debug` output holds a token, a key, a secret or a value that might contain one.
//!
//! It must not know: files, the environment, HTTP, the queue. Secrets that live in files have been read by the time
//! they arrive here.

mod config;
mod origin;
mod partner;
mod snapshot;

use std::fmt;
use std::sync::Arc;

pub use config::{BadBaseUrl, BaseUrl, Config, Defaults, ObeyIntegrations, ProfileName, UnknownProfile};
pub use origin::{AllowedOrigin, BadOrigin};
pub use partner::{BadSettings, NoPartner, Partner, PartnerSettings};
pub use snapshot::{Organizations, Problem};

use crate::clock::Span;
use crate::secret::Secret;
use crate::translate::{Options, Profile};
use crate::wigzo::Address;

/// One organization, ready for use.
#[expect(clippy::struct_excessive_bools, reason = "switches that do not depend on each other")]
pub struct Organization {
    /// Whether it is switched off: nothing is taken from it, and nothing delivered.
    pub disabled: bool,
    /// Its name in the configuration, in paths, metrics and the console; of a partner [`Partner::name`].
    pub name: String,
    /// Where its calls go, with its tokens.
    pub address: Address,
    /// Its translation table.
    pub profile: Arc<Profile>,
    /// Its choices about translation; the namespace is its organization token.
    pub translation: Options,
    /// Secrets that `X-Signature` may have been made with; any of them will do. Empty: signatures are not asked for.
    pub shared_secrets: Vec<Secret>,
    /// Whether a path alone authenticates, without key or signature.
    pub open: bool,
    /// Whether a single invalid event is answered with 400 instead of 200.
    pub report_rejections: bool,
    /// Where an event's `integrations` object is obeyed.
    pub obey_integrations: ObeyIntegrations,
    /// The pages whose requests are taken; what names no origin is always taken.
    pub cors_origins: Vec<AllowedOrigin>,
    /// Calls to Wigzo that this organization may have open at one time; at least 1.
    pub max_in_flight: usize,
    /// How many events it may start in its turn; at least 1.
    pub weight: usize,
    /// Calls to Wigzo that it may make in a second; 0 sets no limit.
    pub rate_limit: u32,
    /// Events that have waited for longer are not delivered any more; `None`: as `delivery.max_age` says.
    pub max_age: Option<Span>,
    /// Of a partner: its stored form ([`Partner::to_stored`]), which is written beside each of its events. It holds the
    /// token.
    pub settings: Option<Box<str>>,
    /// Whether any source key leads here.
    source_keys: bool,
}

impl Organization {
    /// Whether it is a partner.
    pub fn is_partner(&self) -> bool {
        self.settings.is_some()
    }

    /// Whether the organization has at least one source key.
    pub fn has_source_keys(&self) -> bool {
        self.source_keys
    }
}

/// The name only: the tokens are in the address and in the namespace.
impl fmt::Debug for Organization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Organization").field("name", &self.name).finish_non_exhaustive()
    }
}
