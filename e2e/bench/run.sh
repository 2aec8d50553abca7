#!/usr/bin/env bash
# Measures what a sidecar costs: ours, Litestream and none, in turn.
#
#   e2e/bench/run.sh                          everything, three rounds (about 45 minutes); results into e2e/bench/results
#   e2e/bench/run.sh paced full-off           these scenarios only
#   e2e/bench/run.sh --rounds 5 first         more rounds
#   e2e/bench/run.sh --quick                  does it work? Some minutes, small databases, numbers that mean little
#
# LIFEBOAT_BIN, LITESTREAM_BIN and VERSITYGW_BIN name programs that are there already; what is not named is built or installed.
# README.md beside this file says what is measured and how to read it.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '[bench %(%T)T] %s\n' -1 "$*" >&2; }

if [ -z "${LIFEBOAT_BIN:-}" ]; then
  say "building lifeboat, optimised (the first time 5 to 10 minutes)"
  cargo build --locked --quiet --release -p lifeboat
  LIFEBOAT_BIN=$(ls target/*-linux-*/release/lifeboat)
fi
if [ -z "${LITESTREAM_BIN:-}" ]; then LITESTREAM_BIN=$(e2e/peers/litestream.sh); fi
if [ -z "${VERSITYGW_BIN:-}" ]; then
  e2e/lab/tools.sh >/dev/null
  VERSITYGW_BIN=$(e2e/lab/tools.sh path)/versitygw
fi
export LIFEBOAT_BIN LITESTREAM_BIN VERSITYGW_BIN

cargo build --locked --quiet -p lifeboat-e2e --bin lifeboat-bench
DRIVER=$(ls target/*-linux-*/debug/lifeboat-bench)

COMMIT=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain --untracked-files=no 2>/dev/null)" ] || COMMIT=$COMMIT-changed

# A quick run is no result.
RESULTS=e2e/bench/results
for argument; do [ "$argument" != --quick ] || RESULTS=target/bench/results; done

exec "$DRIVER" run --commit "$COMMIT" --results "$RESULTS" "$@"
