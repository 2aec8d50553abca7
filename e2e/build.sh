#!/usr/bin/env bash
# Builds the binaries that go into the lab's images: the sidecar, the operator, the example application.
set -euo pipefail
cd "$(dirname "$0")/.."

printf '[build %(%T)T] lifeboat, lifeboat-operator and the example application (the first time 5 to 10 minutes, then seconds)\n' -1 >&2
cargo build ${CI:+--locked} -p lifeboat -p lifeboat-operator -p lifeboat-e2e --bins "$@"
