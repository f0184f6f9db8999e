#!/usr/bin/env bash
# What may come into the binary (deny.toml): licences, duplicates and banned crates, sources; and known
# vulnerabilities, where the advisory database can be reached.
#
#     scripts/deny.sh             # needs cargo-deny
#     scripts/deny.sh --install   # installs it first if it is missing (CI; takes minutes)
set -euo pipefail
cd "$(dirname "$0")/.."

# Of the same age as the compiler: a newer one may ask for a newer Rust.
version=0.20.2

if ! cargo deny --version >/dev/null 2>&1; then
    if [ "${1:-}" != --install ]; then
        echo "cargo-deny is missing: cargo install --locked cargo-deny (or: scripts/deny.sh --install)" >&2
        exit 1
    fi
    # It reads a few files: optimizing it would take longer than all that it will ever do here.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_DEBUG=false CARGO_TARGET_DIR=target/tools \
        cargo install --quiet --locked --version "$version" cargo-deny
fi

cargo deny --locked check --hide-inclusion-graph bans licenses sources

# A database that cannot be reached is a property of the machine; a finding is one of the code.
if answer=$(timeout 120 cargo deny fetch db 2>&1); then
    cargo deny --locked check --hide-inclusion-graph --disable-fetch advisories
else
    line="skipped: advisories: the advisory database cannot be reached"
    printf '%s\n' "$answer" | sed -n 's/^/    /; 1,3p' >&2
    echo "$line"
    if [ -n "${SKIPPED_CHECKS:-}" ]; then echo "$line" >>"$SKIPPED_CHECKS"; fi
fi
