//! Wigzo's id for a person (REST `userId`; wigzo.md 5).
//!
//! Wigzo asks for a version 4 UUID, one per person and the same in every call (wigzo.md 5.3: sent by default,
//! enforcement unknown). An id of another form becomes one by a calculation that anybody can repeat:
//!
//! 1. SHA-256 over the bytes `wigzo-destination/learner`, a zero byte, the organization token, a zero byte, the id
//!    (all UTF-8);
//! 2. of that the first 16 bytes, with the version bits set to 4 (byte 6: `0x4_`) and the variant bits to RFC 9562's
//!    (byte 8: `0b10______`);
//! 3. written as a lower-case hyphenated UUID.
//!
//! | organization token | id | learner id |
//! | --- | --- | --- |
//! | `org-token-42` | `user-42` | `62f13329-c49e-4051-a157-94f621f8af13` |
//! | `org-token-42` | `cust-7` | `0271ef93-d715-433d-bd99-b39368f4e50d` |
//! | `org-token-43` | `user-42` | `08dbdf97-99f3-4821-96d7-11926eca85c3` |
//! | `org-token-42` | `buyer@shop.example` | `cb26caeb-5be6-4b09-a1a1-21f739b5c8e1` |
//! | `org-token-42` | `उपयोगकर्ता` | `5f47ed85-da37-4e56-8105-e2481405cffe` |
//!
//! The recipe must never change: a person whose learner id changes is a stranger to Wigzo.

use aws_lc_rs::digest;
use uuid::Uuid;

/// Keeps these hashes apart from any other use of SHA-256 over the same ids.
const DOMAIN: &[u8] = b"wigzo-destination/learner";

/// Characters of a UUID in its hyphenated form; the other forms that a parser takes are shorter or longer.
const HYPHENATED_LENGTH: usize = 36;

/// A learner id: a UUID text by default.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LearnerId(String);

impl LearnerId {
    /// `id` as it is.
    pub fn raw(id: &str) -> Self {
        Self(id.to_owned())
    }

    /// `id` as it is if it is a UUID (hyphenated, any case, any version), else a v4-shaped UUID derived from the
    /// namespace (the organization token, which is public) and `id`.
    pub fn derived(namespace: &str, id: &str) -> Self {
        if id.len() == HYPHENATED_LENGTH && Uuid::try_parse(id).is_ok() {
            return Self::raw(id);
        }
        let text = [DOMAIN, b"\0", namespace.as_bytes(), b"\0", id.as_bytes()].concat();
        let hash = digest::digest(&digest::SHA256, &text);
        let head = hash.as_ref().first_chunk().expect("BUG: SHA-256 has 32 bytes");
        Self(uuid::Builder::from_random_bytes(*head).into_uuid().hyphenated().to_string())
    }

    /// The text that is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_what_the_recipe_says() {
        // Recomputed with another implementation of SHA-256; the table above is the same.
        for (namespace, id, learner) in [
            ("org-token-42", "user-42", "62f13329-c49e-4051-a157-94f621f8af13"),
            ("org-token-42", "cust-7", "0271ef93-d715-433d-bd99-b39368f4e50d"),
            ("org-token-43", "user-42", "08dbdf97-99f3-4821-96d7-11926eca85c3"),
            ("org-token-42", "buyer@shop.example", "cb26caeb-5be6-4b09-a1a1-21f739b5c8e1"),
            ("org-token-42", "उपयोगकर्ता", "5f47ed85-da37-4e56-8105-e2481405cffe"),
        ] {
            assert_eq!(LearnerId::derived(namespace, id).as_str(), learner);
            assert_eq!(Uuid::try_parse(learner).unwrap().get_version_num(), 4);
        }
    }

    #[test]
    fn keeps_a_hyphenated_uuid_as_it_was_written() {
        for id in [
            "0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11",
            "0B6E3F0A-6A53-4F0E-9D0B-2F1F6D7C9A11",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(LearnerId::derived("org", id).as_str(), id);
        }
    }

    #[test]
    fn any_other_form_is_derived() {
        for id in [
            "0b6e3f0a6a534f0e9d0b2f1f6d7c9a11",
            "{0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11}",
            "urn:uuid:0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a11",
            "0b6e3f0a-6a53-4f0e-9d0b-2f1f6d7c9a1z",
            "",
        ] {
            let learner = LearnerId::derived("org", id);
            assert_ne!(learner.as_str(), id);
            assert_eq!(learner.as_str().len(), HYPHENATED_LENGTH);
        }
    }
}
