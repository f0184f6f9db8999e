#!/usr/bin/env bash
# The end-to-end benchmark (docs/performance.md): builds the service and the benchmark, installs what the baselines
# need, runs the scenarios. Arguments go to the benchmark: `scripts/bench.sh --scenarios single --programs ours,bare`.
set -euo pipefail
cd "$(dirname "$0")/.."

# The baselines that are no packages of npm. Without them: name the programs that are there with `--programs`.
for program in redis-server nginx; do
    if ! command -v "$program" >/dev/null; then
        echo "installing $program for its baseline" >&2
        apt-get install --quiet --quiet --yes "$program" >&2
    fi
done

cargo build --profile dist --locked
guided=target/guided/wigzo-destination
if [ -e "$guided" ] && [ -n "$(find src Cargo.toml Cargo.lock -newer "$guided" -print -quit)" ]; then
    echo "$guided is older than the sources; scripts/guided.sh makes it anew" >&2
fi
cargo build --release --locked --manifest-path benches/end_to_end/Cargo.toml
exec benches/end_to_end/target/release/end-to-end run "$@"
