//! Which program this is, exactly: what `--version` says behind the name.

use std::sync::LazyLock;

use crate::clock::UnixMillis;

/// Version, commit, date and features: `0.1.0 (commit 0123456789ab, built 2026-01-02, features: otlp)`.
pub(super) fn in_full() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        text(env!("CARGO_PKG_VERSION"), env!("BUILD_COMMIT"), env!("BUILD_EPOCH"), env!("BUILD_FEATURES"))
    });
    &TEXT
}

fn text(version: &str, commit: &str, epoch: &str, features: &str) -> String {
    let time = epoch.parse().ok().and_then(|seconds: u64| seconds.checked_mul(1_000)).map(UnixMillis);
    let time = time.map(|time| time.to_string());
    let date = time.as_deref().and_then(|time| Some(time.split_once('T')?.0)).unwrap_or("unknown");
    let features = if features.is_empty() { "none".to_owned() } else { features.replace(' ', ", ") };
    format!("{version} (commit {commit}, built {date}, features: {features})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_said_to_be_unknown() {
        for (commit, epoch, features, expected) in [
            (
                "0123456789ab",
                "1767323045",
                "otlp otlp-grpc",
                "0.1.0 (commit 0123456789ab, built 2026-01-02, features: otlp, otlp-grpc)",
            ),
            ("unknown", "unknown", "", "0.1.0 (commit unknown, built unknown, features: none)"),
            ("unknown", "99999999999999999999", "", "0.1.0 (commit unknown, built unknown, features: none)"),
        ] {
            assert_eq!(text("0.1.0", commit, epoch, features), expected);
        }
    }
}
