//! `X-Signature`: HMAC-SHA1 over raw bytes (segment.md 1.6).

use super::Request;

/// Whether `signature` (40 hex digits) was made with `secret` over one of the messages a Segment producer signs:
/// the whole body, the first item's bytes (unwrapped from `json`). Every candidate is tried, each in constant time.
pub fn signed_by(secret: &[u8], signature: &str, body: &[u8], request: &Request<'_>) -> bool {
    todo!()
}
