#!/usr/bin/env bash
# Runs every fuzz target, by default a minute each:
#
#     scripts/fuzz.sh            # all targets, 60 s each
#     scripts/fuzz.sh 600 decode # one of them, ten minutes
#
# It starts from the seeds in fuzz/corpus (real senders' requests, the examples of tests/golden/validation.txt) and
# leaves them as they are; what it finds new is thrown away, a crash is kept in fuzz/artifacts. Where the tools are
# missing it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} = 0 ]; then targets=(decode validate signature settings translate); fi

skip() {
    local line="skipped: fuzz: $1"
    echo "$line"
    if [ -n "${SKIPPED_CHECKS:-}" ]; then echo "$line" >>"$SKIPPED_CHECKS"; fi
    exit 0
}

cargo fuzz --version >/dev/null 2>&1 || skip "no cargo-fuzz (cargo install cargo-fuzz)"
# Coverage and the address sanitizer need unstable compiler flags: a nightly compiler has them, a stable one has them
# too when it is told so.
if cargo +nightly --version >/dev/null 2>&1; then
    fuzz=(cargo +nightly fuzz)
else
    export RUSTC_BOOTSTRAP=1
    rustc -Zsanitizer=address --print cfg >/dev/null 2>&1 || skip "the compiler knows no sanitizer"
    fuzz=(cargo fuzz)
fi

found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
for target in "${targets[@]}"; do
    mkdir "$found/$target"
    echo "--- $target, $seconds s ---"
    # The dev profile: it is optimized enough (fuzz/Cargo.toml), checks overflow, and is built in half the time.
    "${fuzz[@]}" run --dev "$target" "$found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
done
