#!/usr/bin/env bash
# The service compiled with a profile of itself: the compiler is told which paths a loaded service takes, and lays the
# program out for them. docs/performance.md says what that gives.
#
#     scripts/guided.sh            # target/guided/wigzo-destination, in about a quarter of an hour on two cores
#
# Compiles twice: first with counters, then, after half a minute of the benchmark's load on loopback, with what they
# counted. Libraries are compiled the same way, so nothing of an ordinary build can be used.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
merge=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
work=$PWD/target/guided
flags=${RUSTFLAGS:-}

# For a named target, so that build scripts and macros, which run meanwhile, count nothing.
build() {
    RUSTFLAGS="$flags $1" cargo build --quiet --profile dist --locked --bin wigzo-destination --target "$host" \
        --target-dir "$work"
}

# A part of the compiler's own toolchain: another LLVM's could not read what this compiler's programs count.
if ! [ -x "$merge" ]; then
    if ! command -v rustup >/dev/null; then
        echo "there is no $merge; rustup brings it with its component llvm-tools" >&2
        exit 1
    fi
    rustup component add llvm-tools >&2
fi
echo "1 of 3: building with counters" >&2
rm -rf "$work/counted"
build "-Cprofile-generate=$work/counted"

echo "2 of 3: counting under load" >&2
cargo build --quiet --release --locked --manifest-path benches/end_to_end/Cargo.toml --target-dir benches/end_to_end/target
# The service writes its counts when it ends, which the load waits two seconds for: no time for load balancers.
WIGZO__INGRESS__DRAIN_GRACE=0s WIGZO__INGRESS__DRAIN_DEADLINE=1s benches/end_to_end/target/release/end-to-end run \
    --binary "$work/$host/dist/wigzo-destination" --scenarios single,batch,mixed --programs ours --rounds 1 \
    --seconds 5 >"$work/load.txt"
if ! "$merge" merge --output "$work/counts" "$work/counted"; then
    echo "there are no counts: the service did not end in time; $work/load.txt has what it did" >&2
    exit 1
fi

echo "3 of 3: building with what was counted" >&2
# Named by its content: cargo compiles again when the name changes, not when the file does.
profile=$work/$(sha256sum "$work/counts" | cut -c 1-16).profdata
rm -f "$work"/*.profdata
mv "$work/counts" "$profile"
build "-Cprofile-use=$profile"
cp "$work/$host/dist/wigzo-destination" "$work/"
echo "target/guided/wigzo-destination" >&2
