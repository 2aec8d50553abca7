#!/usr/bin/env bash
# Builds images and loads them into the nodes of the running lab (and into nodes that are started later).
#
#   images.sh ours                             lab.local/lifeboat:dev and lab.local/lifeboat-operator:dev from our binaries
#                                              in LIFEBOAT_BINARIES (default: the debug build)
#   images.sh add REF DIR ENTRYPOINT [USER]    any other image from a directory, as in image.sh
#   images.sh base                             pause, busybox:1 and busybox:2; up.sh does this
. "$(dirname "$0")/lib/lab.sh"
IMAGES=$LAB_DIR/images
: "${LIFEBOAT_BINARIES:=$LAB_SRC/../../target/$(uname -m)-unknown-linux-gnu/debug}"
CA_ROOTS=/etc/ssl/certs/ca-certificates.crt

usage() {
  sed -n '2,7s/^# \?//p' "$0" >&2
  exit 2
}

# In an image FROM scratch there is no loader: a binary that asks for one would fail with "no such file or directory".
must_be_static() {
  [ -x "$1" ] || die "$1 is missing; build it first (cargo build), or set LIFEBOAT_BINARIES"
  ! readelf --program-headers --wide "$1" | grep -q INTERP || die "$1 is not linked statically"
}

build_ours() { # build_ours BINARY
  local binary=$LIFEBOAT_BINARIES/$1 root
  must_be_static "$binary"
  root=$(mktemp -d)
  install -D -m 0644 "$CA_ROOTS" "$root$CA_ROOTS"
  strip -o "$root/$1" "$binary"
  chmod 0755 "$root/$1" "$root"
  "$LAB_SRC/image.sh" "lab.local/$1:dev" "$root" "$IMAGES/$1.tar" "[\"/$1\"]" 65532:65532
  rm -rf "$root"
}

# The sandbox of every pod: waits, and buries the children it inherits.
build_pause() {
  local root
  root=$(mktemp -d)
  gcc -Os -static -s -o "$root/pause" -x c - <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int signal) { (void)signal; _exit(0); }
static void bury(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) { signal(SIGINT, leave); signal(SIGTERM, leave); signal(SIGCHLD, bury); for (;;) pause(); }
C
  chmod 0755 "$root"
  "$LAB_SRC/image.sh" lab.local/pause:1 "$root" "$IMAGES/pause.tar" '["/pause"]' 65535:65535
  rm -rf "$root"
}

# busybox:2 differs from busybox:1 in /etc/version only: two images for tests of rolling changes.
build_busybox() {
  local root name
  root=$(mktemp -d)
  mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,tmp}
  chmod 0755 "$root"
  chmod 1777 "$root/tmp"
  cp "$(command -v busybox)" "$root/bin/busybox"
  for name in $(busybox --list); do [ "$name" = busybox ] || ln -s busybox "$root/bin/$name"; done
  echo 'root:x:0:0::/:/bin/sh' >"$root/etc/passwd"
  for name in 1 2; do
    echo "$name" >"$root/etc/version"
    "$LAB_SRC/image.sh" "lab.local/busybox:$name" "$root" "$IMAGES/busybox-$name.tar" '["/bin/sh"]'
  done
  rm -rf "$root"
}

load() { # load NAME…: into every node that runs
  local name node
  for name in "$@"; do
    if [ "$LAB" = kind ]; then
      kind load image-archive "$IMAGES/$name.tar" --name "$LAB_ID"
      continue
    fi
    for node in "$LAB_DIR"/node[1-9]; do
      ! alive "containerd-${node##*/}" || "$LAB_SRC/node.sh" import "${node##*/node}" "$IMAGES/$name.tar"
    done
  done
}

BEGAN=$(now_ms)
[ -f "$LAB_DIR/lab.env" ] || die "no lab runs in $LAB_DIR (start one: make lab-up)"
[ "$LAB" != existing ] || die "images for an existing cluster come from a registry it can reach; push them there"
case ${1:-} in
  ours)
    build_ours lifeboat
    build_ours lifeboat-operator
    load lifeboat lifeboat-operator
    ;;
  add)
    [ $# -ge 4 ] || usage
    NAME=$(tr -c 'a-z0-9.\n' - <<<"$2")
    "$LAB_SRC/image.sh" "$2" "$3" "$IMAGES/$NAME.tar" "$4" "${5:-}"
    load "$NAME"
    ;;
  base)
    build_pause
    build_busybox
    exit
    ;;
  *) usage ;;
esac
say "images built and loaded in $(($(now_ms) - BEGAN)) ms: ${*:1:2}"
