//! How an event ends: the closed lists of outcomes and reasons, the debt that an event in the program is, and the
//! ledger that proves that none was lost.
//!
//! Invariants:
//! * Every accepted event is either waiting or has exactly one [`Outcome`]: [`Ledger::waiting`] can never underflow.
//! * An event that leaves the queue for work travels as [`Owed`]; dropping it without [`Owed::resolve`] is a bug.
//!
//! Pure; knows no other room. The strings are part of the public contract: they stand in replies, metrics, logs,
//! stored records and documentation, and are never changed.

/// Declares a closed enum with, for each variant, a stable string, a line of meaning, and a line that says what to do.
macro_rules! closed {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal, $meaning:literal, $advice:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable string.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it means, in a line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }

            /// What to do about it, in a line.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }

            /// The inverse of [`Self::as_str`].
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use closed;

closed! {
    /// How an envelope ended.
    Outcome {
        Delivered = "delivered", "Wigzo answered every call of the event with success.",
            "Nothing.";
        Filtered = "filtered", "The event was meant to make no call: its sender, the profile or a missing field says so.",
            "Nothing, if that is meant. `wigzo-destination translate` explains the mapping.";
        Expired = "expired", "The event grew older than `delivery.max_age` while it waited.",
            "Raise `delivery.max_age` if events this old are still wanted; ask the sender to send the event again, with another `messageId`.";
        Dead = "dead", "The event needs a human: it is kept in full as a dead letter.",
            "Correct what the reason names, then `wigzo-destination dead-letters replay NUMBER`, or give it up with `discard`.";
    }
}

closed! {
    /// Why an envelope ended as it did, or why it waits for another try.
    Reason {
        Delivered = "delivered", "Every call was answered with success.",
            "Nothing.";
        NotWanted = "filtered_by_integrations_object", "The sender's `integrations` object switches Wigzo off for this event.",
            "Nothing, if that is meant. Otherwise correct `integrations` at the sender, or set `obey_integrations`.";
        TypeNotMapped = "type_not_mapped", "The profile makes no call for this type of event (screen, group, alias).",
            "Nothing, if that is meant. Otherwise map this type in the organization's profile.";
        DroppedByProfile = "dropped_by_profile", "The profile drops events of this name.",
            "Nothing, if that is meant. Otherwise change the row of this name in the organization's profile.";
        RequiredFieldMissing = "required_field_missing", "Each call of the profile's row needs a field that the event lacks, such as `product_id`.",
            "Send the field that `detail` names, or change the profile's row so that it takes another one.";
        ConditionNotMet = "condition_not_met", "Each call of the profile's row is made only for values that the event does not have.",
            "Nothing, if that is meant. Otherwise change the condition in the profile's row.";
        NoLearnerId = "no_learner_id", "The event names no person: neither `userId` nor `anonymousId`.",
            "Send `userId` or `anonymousId`.";
        NoContact = "no_contact", "An identify without e-mail and phone, which the organization chose to skip.",
            "Nothing, if that is meant. Otherwise change `contactless` of the organization.";
        UserDeleted = "user_deleted", "A deletion request named this person: what was kept of them here has been removed.",
            "Nothing: the deletion is carried out.";
        MaxAge = "max_age", "The event waited longer than `delivery.max_age` or `delivery.unproven_partner_max_age`.",
            "Raise `delivery.max_age` if events this old are still wanted; ask the sender to send the event again, with another `messageId`.";
        Unreachable = "unreachable", "No connection to Wigzo could be made: name look-up, refused, TLS or connect time-out.",
            "Run `wigzo-destination doctor`; check DNS, the firewall and `base_url`. Events that wait are retried by themselves.";
        Certificate = "certificate", "The certificate at Wigzo's address could not be verified: expired, of an unknown authority, or for another name.",
            "Run `wigzo-destination doctor`; correct the clock, the trusted authorities or the proxy that ends TLS. Events that wait are retried by themselves.";
        Broken = "connection_broken", "The connection broke after the call may have been sent.",
            "Events that wait are retried by themselves. If it goes on, check the network and the proxy on the way to Wigzo.";
        TimedOut = "timeout", "Wigzo did not answer in time; it may have carried the call out.",
            "Events that wait are retried by themselves. If it goes on, ask Wigzo, or raise `delivery.timeout`.";
        EndpointUnavailable = "endpoint_unavailable", "Calls to the endpoint that the event needs fail or are refused: it waits until they succeed again.",
            "`wigzo-destination delivery list` shows the endpoint and why it is stopped; events that wait go out by themselves.";
        Interrupted = "interrupted", "The service had to end while the call was in flight; Wigzo may have carried it out.",
            "Nothing: it is retried after the start, unless `delivery.on_ambiguous` says otherwise.";
        SoftFailure = "wigzo_soft_failure", "Wigzo answered 2xx, but the body says failure.",
            "Read Wigzo's answer in the last attempt; correct what it names.";
        NotAnApiAnswer = "wigzo_not_an_api_answer", "Wigzo's address answered 2xx with a web page, an XML document or a file: check `base_url` and what lies before Wigzo.",
            "Compare `base_url` with Wigzo's documentation, and look at the proxy or firewall on the way.";
        Wigzo3xx = "wigzo_3xx", "Wigzo answered with a redirect, which is never followed: check `base_url`.",
            "Set `base_url` to the address that the redirect names, if it is Wigzo's.";
        Wigzo400 = "wigzo_400", "Wigzo refused the call as malformed.",
            "Read Wigzo's answer in the last attempt; correct the mapping or the sender, then replay the event.";
        Wigzo401 = "wigzo_401", "Wigzo refused the organization token: events wait until it is corrected.",
            "Compare `org_token` with Wigzo's settings page and correct it; events that wait go out by themselves then.";
        Wigzo403 = "wigzo_403", "Wigzo refused the organization token: events wait until it is corrected.",
            "Compare `org_token` with Wigzo's settings page; if it is right, ask Wigzo whether a firewall refuses this event.";
        Wigzo404 = "wigzo_404", "Wigzo does not know this path: check `base_url`. Events wait.",
            "Compare `base_url` with Wigzo's documentation and correct it; events that wait go out by themselves then.";
        Wigzo405 = "wigzo_405", "Wigzo does not take this method here: check `base_url`. Events wait.",
            "Compare `base_url` with Wigzo's documentation and correct it; events that wait go out by themselves then.";
        Wigzo408 = "wigzo_408", "Wigzo gave up waiting for the request.",
            "Events that wait are retried by themselves. If it goes on, check the network on the way to Wigzo.";
        Wigzo410 = "wigzo_410", "Wigzo says this path is gone: check `base_url`. Events wait.",
            "Compare `base_url` with Wigzo's documentation and correct it; events that wait go out by themselves then.";
        Wigzo413 = "wigzo_413", "Wigzo refused the call as too large.",
            "Send less in one event, or drop members in the profile's row; then replay the event.";
        Wigzo422 = "wigzo_422", "Wigzo refused the call's content.",
            "Read Wigzo's answer in the last attempt; correct the mapping or the sender, then replay the event.";
        Wigzo425 = "wigzo_425", "Wigzo asked for the call later.",
            "Nothing: events that wait are retried by themselves.";
        Wigzo429 = "wigzo_429", "Wigzo asked for fewer calls.",
            "Events that wait are retried by themselves. If it goes on, lower `rate_limit` or `max_in_flight` of the organization.";
        Wigzo4xx = "wigzo_4xx", "Wigzo refused the call with another 4xx.",
            "Read Wigzo's answer in the last attempt; correct what it names, then replay the event.";
        Wigzo500 = "wigzo_500", "Wigzo failed while it handled the call.",
            "Events that wait are retried by themselves. If it goes on, show Wigzo the call and its answer.";
        Wigzo502 = "wigzo_502", "Wigzo's gateway got no good answer.",
            "Events that wait are retried by themselves. If it goes on, ask Wigzo.";
        Wigzo503 = "wigzo_503", "Wigzo is unavailable.",
            "Events that wait are retried by themselves. If it goes on, ask Wigzo.";
        Wigzo504 = "wigzo_504", "Wigzo's gateway waited in vain.",
            "Events that wait are retried by themselves. If it goes on, ask Wigzo.";
        Wigzo5xx = "wigzo_5xx", "Wigzo failed with another 5xx.",
            "Events that wait are retried by themselves. If it goes on, ask Wigzo.";
        WigzoOther = "wigzo_other", "Wigzo answered with a status that HTTP does not define.",
            "Compare `base_url` with Wigzo's documentation, and look at the proxy on the way.";
        Unreadable = "unreadable", "The stored bytes cannot be read as an event any more.",
            "Check the disk; if the disk is sound, report it, with the version of the service.";
        Discarded = "discarded", "A person discarded this dead letter; `detail` says why.",
            "Nothing: it was decided.";
        Restored = "restored", "It waited in a backup that was restored: Wigzo may have it already. A person decides.",
            "Find out whether Wigzo has it; then replay or discard it.";
        Dropped = "dropped", "This dead letter was among the oldest when there were more than `queue.max_dead_letters`.",
            "Raise `queue.max_dead_letters`, or decide about dead letters earlier; ask the sender to send the event again, with another `messageId`.";
        Internal = "internal", "A bug of this program lost hold of the event; please report it.",
            "Keep the log and report it; then replay the event.";
    }
}

impl Reason {
    /// The reason for an HTTP status that is not a success.
    pub const fn of_status(status: u16) -> Self {
        match status {
            300..=399 => Self::Wigzo3xx,
            400 => Self::Wigzo400,
            401 => Self::Wigzo401,
            403 => Self::Wigzo403,
            404 => Self::Wigzo404,
            405 => Self::Wigzo405,
            408 => Self::Wigzo408,
            410 => Self::Wigzo410,
            413 => Self::Wigzo413,
            422 => Self::Wigzo422,
            425 => Self::Wigzo425,
            429 => Self::Wigzo429,
            402 | 406..=499 => Self::Wigzo4xx,
            500 => Self::Wigzo500,
            502 => Self::Wigzo502,
            503 => Self::Wigzo503,
            504 => Self::Wigzo504,
            501 | 505..=599 => Self::Wigzo5xx,
            0..=299 | 600..=u16::MAX => Self::WigzoOther,
        }
    }
}

/// Something that was accepted and must not get lost.
pub trait Debt {
    /// Called in release builds when the debt was dropped unresolved: the last chance to account for it.
    fn abandoned(self);
}

/// An event in the program that somebody still owes an outcome.
///
/// Dropping it unresolved panics in debug builds; in release builds the debt is told by [`Debt::abandoned`].
#[must_use = "an event that is owed an outcome must be resolved"]
#[derive(Debug)]
pub struct Owed<T: Debt>(Option<T>);

impl<T: Debt> Owed<T> {
    /// Takes on the debt.
    pub fn new(debt: T) -> Self {
        Self(Some(debt))
    }

    /// Looks at what is owed.
    pub fn get(&self) -> &T {
        self.0.as_ref().expect("BUG: only resolve and drop empty an Owed, and both consume it")
    }

    /// Pays the debt: the caller has an outcome for it, or has put it back where it waits.
    pub fn resolve(mut self) -> T {
        self.0.take().expect("BUG: only resolve and drop empty an Owed, and both consume it")
    }
}

impl<T: Debt> Drop for Owed<T> {
    fn drop(&mut self) {
        let Some(debt) = self.0.take() else { return };
        debt.abandoned();
        // A second panic while one unwinds would abort and hide the first.
        assert!(
            !cfg!(debug_assertions) || std::thread::panicking(),
            "BUG: an event was dropped without an outcome"
        );
    }
}

/// The conservation count of one queue since it was created: `accepted = delivered + filtered + expired + dead + waiting`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Ledger {
    /// Events that were acknowledged as stored.
    pub accepted: u64,
    /// Of these, ended as delivered.
    pub delivered: u64,
    /// Of these, ended as filtered.
    pub filtered: u64,
    /// Of these, ended as expired.
    pub expired: u64,
    /// Of these, dead letters.
    pub dead: u64,
}

impl Ledger {
    /// Events that still wait: whatever was accepted and has no outcome yet.
    pub fn waiting(&self) -> u64 {
        let ended = self.delivered + self.filtered + self.expired + self.dead;
        self.accepted.checked_sub(ended).expect("BUG: more outcomes than accepted events")
    }

    /// Takes a dead letter's outcome back: it waits again.
    pub fn revived(&mut self) {
        self.dead = self.dead.checked_sub(1).expect("BUG: a dead letter was never counted as one");
    }

    /// Counts one outcome.
    pub fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Delivered => self.delivered += 1,
            Outcome::Filtered => self.filtered += 1,
            Outcome::Expired => self.expired += 1,
            Outcome::Dead => self.dead += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Flag(Arc<AtomicBool>);

    impl Debt for Flag {
        fn abandoned(self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn strings_are_unique_and_read_back() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            assert!(Reason::ALL[..index].iter().all(|other| other.as_str() != reason.as_str()), "{reason}");
            assert!(reason.meaning().ends_with('.') && reason.advice().ends_with('.'), "{reason}");
        }
        for outcome in Outcome::ALL {
            assert!(outcome.meaning().ends_with('.') && outcome.advice().ends_with('.'), "{outcome}");
            assert_eq!(Outcome::parse(outcome.as_str()), Some(*outcome));
        }
    }

    #[test]
    fn every_status_has_its_reason() {
        for status in 300..600 {
            let text = Reason::of_status(status).as_str();
            let class = format!("wigzo_{}xx", status / 100);
            assert!(text == class || text == format!("wigzo_{status}"), "{status} became {text}");
        }
        assert_eq!(Reason::of_status(999), Reason::WigzoOther);
    }

    #[test]
    fn a_resolved_debt_is_quiet() {
        let told = Arc::new(AtomicBool::new(false));
        let owed = Owed::new(Flag(Arc::clone(&told)));
        drop(owed.resolve());
        assert!(!told.load(Ordering::Relaxed));
    }

    #[test]
    fn a_dropped_debt_is_told_and_panics_in_debug() {
        let told = Arc::new(AtomicBool::new(false));
        let owed = Owed::new(Flag(Arc::clone(&told)));
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(owed)));
        assert_eq!(dropped.is_err(), cfg!(debug_assertions));
        assert!(told.load(Ordering::Relaxed));
    }

    #[test]
    fn the_ledger_balances() {
        let mut ledger = Ledger { accepted: 5, ..Ledger::default() };
        for outcome in Outcome::ALL {
            ledger.count(*outcome);
        }
        assert_eq!(ledger.waiting(), 1);
        ledger.revived();
        assert_eq!((ledger.dead, ledger.waiting()), (0, 2));
    }
}
