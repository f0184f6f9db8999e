#!/usr/bin/env bash
# Where the time goes: the service under the benchmark's load, as a flame graph of all its threads and of the kernel.
#
#     scripts/flame-graph.sh                      # one event a request, to docs/flame-graph.svg
#     scripts/flame-graph.sh batch out.svg        # fifty events a request, to out.svg
#
# Takes a quarter of an hour the first time: the service is built as it is released, but with frame pointers, in a
# directory of its own. Needs Linux and the right to use `perf`.
set -euo pipefail
cd "$(dirname "$0")/.."
scenario=${1:-single} out=${2:-docs/flame-graph.svg}
if ! command -v perf >/dev/null; then
    echo "installing perf" >&2
    apt-get install --quiet --quiet --yes linux-perf >&2
fi
echo "building the service with frame pointers, and the load" >&2
cargo install --quiet --locked --root target/tools inferno@0.12.8
RUSTFLAGS="-C force-frame-pointers=yes" CFLAGS="-fno-omit-frame-pointer" CARGO_PROFILE_DIST_STRIP=none \
    CARGO_PROFILE_DIST_DEBUG=line-tables-only cargo build --quiet --profile dist --locked --target-dir target/flame
cargo build --quiet --release --locked --manifest-path benches/end_to_end/Cargo.toml
binary=target/flame/dist/wigzo-destination

echo "ten seconds of load" >&2
work=$(mktemp -d)
benches/end_to_end/target/release/end-to-end run --binary "$binary" --scenarios "$scenario" --programs ours \
    --rounds 1 --seconds 9 >&2 &
load=$!
trap 'kill "$load" 2>/dev/null || true; rm -rf "$work"' EXIT
# Start and warm-up are over by then.
sleep 3
service=$(pgrep --newest --full "$binary serve")
perf record --quiet --freq 1999 --call-graph fp --pid "$service" --output "$work/samples" -- sleep 6
wait "$load"
perf script --input "$work/samples" 2>"$work/perf.log" >"$work/stacks" || { cat "$work/perf.log" >&2; exit 1; }
target/tools/bin/inferno-collapse-perf --quiet "$work/stacks" |
    target/tools/bin/inferno-flamegraph --quiet --minwidth 0.2 --hash --colors rust --truncate-text-right \
        --title "wigzo-destination under load: $scenario" >"$work/graph.svg"
# Only now: a graph that could not be drawn does not take the place of the last one.
mv "$work/graph.svg" "$out"
echo "$out" >&2
