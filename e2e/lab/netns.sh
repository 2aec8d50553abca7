#!/usr/bin/env bash
# netns.sh COMMAND…: runs a command inside the running lab, where the API server, Services, pods, names and S3 are in reach
# and nothing else is.
#
# The command keeps the caller's environment (cargo and rustup work), with these changes: all variables of
# $LAB_DIR/lab.env are set, kubectl and helm of the lab come first in PATH, and proxy variables are gone, because no proxy
# is in reach. Build before you enter: registries are out of reach too.
. "$(dirname "$0")/lib/lab.sh"
[ $# -ge 1 ] || { sed -n '2,7s/^# \?//p' "$0" >&2 && exit 2; }

[ -f "$LAB_DIR/lab.env" ] || die "no lab runs in $LAB_DIR (start one: make lab-up)"
[ "$LAB" != native ] || enter_lab "$@"
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
set -a
# shellcheck source=/dev/null
. "$LAB_DIR/lab.env"
exec "$@"
