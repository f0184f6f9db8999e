#!/usr/bin/env bash
# The crash harness: a real service under load, killed again and again; what was acknowledged against what arrived.
#
#     scripts/crash.sh                # 100 SIGKILLs, with a seed of its own, which it prints
#     scripts/crash.sh 100 7          # with this seed
#     scripts/crash.sh 100 7 power    # power cuts: what was not synced is gone or torn, and some syncs fail before
#
# About a second for each blow. It fails if anything was lost, reordered, or doubled beyond the calls in flight.
set -euo pipefail
cd "$(dirname "$0")/.."
export CRASH_BLOWS=${1:-100} CRASH_KIND=${3:-kill}
if [ -n "${2:-}" ]; then export CRASH_SEED=$2; fi
exec cargo test --locked --test it crash::harness -- --ignored --exact --nocapture
