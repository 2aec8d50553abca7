#!/usr/bin/env bash
# Prepares moto, a second S3 server, and prints the path of a program that serves it on the port it is given. Nothing to do
# when it is in the cache.
#
# The tests that need it find it by MOTO_BIN:   MOTO_BIN=$(e2e/peers/moto.sh) cargo test -p lifeboat-store
set -euo pipefail
cd "$(dirname "$0")"

REQUIREMENTS=moto-requirements.txt
KEY=$(cat moto.sh moto_s3.py "$REQUIREMENTS" | sha256sum | cut -c1-16)
CACHE=${LIFEBOAT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lifeboat}
HOME_OF_IT=$CACHE/moto-$KEY
BINARY=$HOME_OF_IT/bin/moto-s3

die() {
  echo "[moto] FATAL: $*" >&2
  exit 1
}

mkdir -p "$CACHE"
exec 9>"$HOME_OF_IT.lock"
flock 9 # two test runs at once prepare it once
if [ ! -x "$BINARY" ]; then
  command -v python3 >/dev/null || die "python3 with venv is needed to install moto"
  rm -rf "$HOME_OF_IT"
  python3 -m venv "$HOME_OF_IT" >&2 || die "python3 -m venv failed; on Debian it needs the package python3-venv"
  "$HOME_OF_IT/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --require-hashes --requirement "$REQUIREMENTS" >&2 || die "pip could not install moto"
  cp moto_s3.py "$HOME_OF_IT/bin/"
  # Last, and whole at once: its presence says that everything else is there.
  printf '#!/bin/sh\nexec "%s/bin/python" "%s/bin/moto_s3.py" "$@"\n' "$HOME_OF_IT" "$HOME_OF_IT" >"$BINARY.new"
  chmod +x "$BINARY.new"
  mv "$BINARY.new" "$BINARY"
fi
echo "$BINARY"
