#!/usr/bin/env bash
# Builds the lab's tools from source and prints the folder that holds them. Nothing to do when they are in the cache.
#
#   tools.sh          builds what is missing
#   tools.sh path     prints the folder; exit 3 when something in it is not built yet
#
# Each tool is a Go module of its own in tools/, because their dependencies' versions disagree. go.mod pins the version,
# go.sum the checksum of every line of source, and -mod=readonly forbids the build to look for others. What is built is
# kept outside the checkout, under a name made of all that went into it.
set -euo pipefail
cd "$(dirname "$0")"

RECIPE=2 # count up when the way of building changes
CACHE=${LIFEBOAT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lifeboat}/lab
TOOLS=(kube versitygw helm coredns)
KUBE_NAMES=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl) # one binary, many names
declare -A PACKAGE=([kube]=. [versitygw]=github.com/versity/versitygw/cmd/versitygw
  [helm]=helm.sh/helm/v3/cmd/helm [coredns]=github.com/coredns/coredns)
declare -A USUALLY=([kube]="7 to 12 minutes" [versitygw]="2 minutes" [helm]="2 minutes" [coredns]="4 minutes")

say() { printf '[tools %(%T)T] %s\n' -1 "$*" >&2; }
die() {
  say "FATAL: $*"
  exit 1
}

key() { # key TOOL
  { echo "$RECIPE $1 $GO_VERSION" && cat "tools/$1"/*; } | sha256sum | cut -c1-16
}
home_of() { echo "$CACHE/$1-${KEY[$1]}"; }
version_of() { # version_of TOOL MODULE: the version that go.mod pins
  awk -v module="$2" '$1 == "require" { sub(/^require /, "") }
    $1 == module { print $2; found = 1; exit }
    END { exit !found }' "tools/$1/go.mod"
}

link_flags() {
  local version=k8s.io/component-base/version pinned
  case $1 in
    kube) # without the stamp everything calls itself v0.0.0, and charts that ask for a Kubernetes version refuse
      pinned=$(version_of kube k8s.io/kubernetes)
      echo "-s -w -X $version.gitVersion=$pinned -X $version.gitMajor=1 -X $version.gitMinor=$(cut -d. -f2 <<<"$pinned")" \
        "-X $version.gitCommit=lab -X $version.gitTreeState=clean"
      ;;
    helm)
      pinned=$(version_of helm helm.sh/helm/v3)
      echo "-s -w -X helm.sh/helm/v3/internal/version.version=$pinned"
      ;;
    versitygw)
      pinned=$(version_of versitygw github.com/versity/versitygw)
      echo "-s -w -X main.Version=$pinned"
      ;;
    coredns) echo "-s -w" ;;
  esac
}

# Says every half minute that it still works, and stops by itself when we are gone.
heartbeat() {
  local began=$SECONDS
  while sleep 30 && kill -0 $$ 2>/dev/null; do say "$1: $((SECONDS - began)) s so far"; done
}

build() {
  local tool=$1 home log flags began=$SECONDS beat built=
  home=$(home_of "$tool")
  flags=$(link_flags "$tool")
  log=$CACHE/$tool.log
  say "building $tool (usually ${USUALLY[$tool]} on two cores when nothing is cached)"
  mkdir -p "$home"
  heartbeat "$tool" 9>&- &
  beat=$!
  (cd "tools/$tool" && go build -ldflags "$flags" -o "$home/.$tool.$$" "${PACKAGE[$tool]}") >"$log" 2>&1 && built=1
  kill "$beat" 2>/dev/null || :
  if [ -z "$built" ]; then
    tail -n 20 "$log" >&2
    die "$tool could not be built (all it said: $log)"
  fi
  mv "$home/.$tool.$$" "$home/$tool" # only whole files ever have this name
  say "built $tool in $((SECONDS - began)) s"
}

# One folder with all names, for PATH.
link_all() {
  local tool name
  mkdir -p "$BIN"
  for tool in "${TOOLS[@]}"; do ln -sfn "../$tool-${KEY[$tool]}/$tool" "$BIN/$tool"; done
  for name in "${KUBE_NAMES[@]}"; do ln -sfn "../kube-${KEY[kube]}/kube" "$BIN/$name"; done
}

missing() {
  local tool
  for tool in "${TOOLS[@]}"; do [ -x "$(home_of "$tool")/$tool" ] || echo "$tool"; done
}

command -v go >/dev/null || die "Go is missing: the lab's tools are built from source (1.26 is what we test with)"
export GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false"
GO_VERSION=$(go version)
declare -A KEY
for tool in "${TOOLS[@]}"; do KEY[$tool]=$(key "$tool"); done
BIN=$CACHE/bin-$(echo "${KEY[@]}" | sha256sum | cut -c1-16)

case ${1:-} in
  path) [ -z "$(missing)" ] && [ -e "$BIN/kubectl" ] || exit 3 ;;
  '')
    mkdir -p "$CACHE"
    exec 9>"$CACHE/lock"
    flock --nonblock 9 || { say "another build runs; waiting for it" && flock 9; }
    for tool in $(missing); do build "$tool"; done
    link_all
    ;;
  *) die "unknown argument '$1'" ;;
esac
echo "$BIN"
