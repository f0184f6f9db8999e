#!/usr/bin/env bash
# Counts what an event costs in instructions and compares with benches/instructions/baseline.toml (docs/performance.md).
#
#     scripts/instructions.sh                    # the table; fails above 3 % more
#     scripts/instructions.sh translate          # only those whose name contains this
#     scripts/instructions.sh --update [NAME]    # what is counted becomes the baseline
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v valgrind >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing valgrind" >&2
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends valgrind >/dev/null
    else
        echo "missing: valgrind (Debian: valgrind)" >&2
        exit 1
    fi
fi

# The same source must become the same code: nothing of the caller's may change how it is compiled. An incremental build
# is divided differently, and inlines differently.
for variable in $(compgen -e | grep -E '^(CARGO_(ENCODED_RUSTFLAGS|BUILD_(RUSTFLAGS|TARGET)|PROFILE_.*)|CFLAGS.*|LIBSQLITE3_FLAGS)$' || true); do
    unset "$variable"
done
export CARGO_INCREMENTAL=0 RUSTFLAGS=
exec cargo bench --locked --config benches/instructions/profile.toml --profile dev --bench instructions -- ${SKIPPED_CHECKS:+--skipped "$SKIPPED_CHECKS"} "$@"
