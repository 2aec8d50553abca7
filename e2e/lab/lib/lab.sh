# shellcheck shell=bash
# Settings, messages, and the way into a running lab. Every script of the lab sources this first.
#
# It defines variables and functions and changes nothing on the machine.
# shellcheck disable=SC2034 # variables are for those who source this

set -euo pipefail
umask 022

LAB_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${LAB_DIR:=/tmp/lb-lab}"

say() { printf '[lab %(%T)T] %s\n' -1 "$*" >&2; }
die() {
  say "FATAL: $*"
  exit 1
}
now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# We run as root, wipe LAB_DIR and source a file in it: it must be a plain path, and nobody else's.
# The length is what fits into a socket address together with what containerd appends.
[[ $LAB_DIR =~ ^/[A-Za-z0-9._/-]{1,50}$ && $LAB_DIR != *..* ]] ||
  die "LAB_DIR must be an absolute path of at most 50 plain characters, is '$LAB_DIR'"
if [ -e "$LAB_DIR" ] && { [ -L "$LAB_DIR" ] || [ ! -O "$LAB_DIR" ]; }; then
  die "$LAB_DIR belongs to somebody else or is a link; choose another LAB_DIR"
fi

# What a lab was started with is written down; it wins over the caller's environment, so that the scripts that follow
# (node.sh, down.sh, …) need LAB_DIR and nothing else.
ASKED_LAB=${LAB:-}
# shellcheck source=/dev/null
[ ! -f "$LAB_DIR/lab.env" ] || . "$LAB_DIR/lab.env"
[ -z "$ASKED_LAB" ] || [ "$ASKED_LAB" = "$LAB" ] || die "the lab in $LAB_DIR is LAB=$LAB, not LAB=$ASKED_LAB; end it first, or choose another LAB_DIR"

: "${LAB:=native}"       # native: on this machine; kind: kind.sh; existing: existing.sh
: "${LAB_ID:=lblab}"     # names our cgroup, bridges and CNI networks; a second lab needs another one
: "${LAB_LEVEL:=nodes}"  # api: etcd and API server only; control: the whole control plane; nodes: with nodes
: "${LAB_NODES:=1}"      # how many nodes
: "${LAB_GRACE:=12}"     # seconds of silence before a node is NotReady
: "${LAB_TOLERATION:=5}" # seconds a pod stays bound to a node that is NotReady
: "${LAB_BIN:=}"         # where tools.sh linked the built tools; up.sh fills it in

[[ $LAB_ID =~ ^[a-z][a-z0-9]{0,9}$ ]] || die "LAB_ID must be a letter and at most nine letters or digits, is '$LAB_ID'"
[[ $LAB_LEVEL =~ ^(api|control|nodes)$ ]] || die "LAB_LEVEL must be api, control or nodes, is '$LAB_LEVEL'"
[[ $LAB_NODES =~ ^[1-9]$ ]] || die "LAB_NODES must be 1 to 9, is '$LAB_NODES' (for none: LAB_LEVEL=control)"

# Addresses can be fixed because every lab has a network namespace of its own.
NET=10.88               # node N and its pods: 10.88.N.0/24
SERVICES=10.89.0.0/24   # Service addresses
SERVICE_API=10.89.0.1   # the first of them: Service default/kubernetes
API_PORT=6443
ETCD_PORT=23790
S3_PORT=7070
S3_NAME=s3.lab.local

KUBE=$LAB_DIR/kube # kubeconfigs
PKI=$LAB_DIR/pki   # keys and certificates
# Scratch files of tools that are killed half-way must lie where the teardown finds them.
[ ! -d "$LAB_DIR/tmp" ] || export TMPDIR=$LAB_DIR/tmp
# The caller's own folders stay in PATH: netns.sh runs cargo.
export PATH=${LAB_BIN:+$LAB_BIN:}$PATH:/usr/local/sbin:/usr/sbin:/sbin
# What the lab's processes get instead of the caller's environment.
CLEAN_PATH=${LAB_BIN:+$LAB_BIN:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

gateway() { echo "$NET.$1.1"; } # the address of node N, and of the bridge its pods are on
kc() { kubectl --kubeconfig "$KUBE/admin.kubeconfig" "$@"; }
nctr() { # nctr N ARGS…: containerd's client on node N
  local n=$1
  shift
  ctr -a "$LAB_DIR/node$n/containerd.sock" -n k8s.io "$@"
}

# shellcheck source=cgroup.sh
. "$LAB_SRC/lib/cgroup.sh"
# shellcheck source=process.sh
. "$LAB_SRC/lib/process.sh"

is_inside() { [ "$(readlink /proc/self/ns/net)" = "$(cat "$LAB_DIR/netns" 2>/dev/null)" ]; }

# enter_lab ARGS…: goes on in the running lab's network and mount namespace, by starting the calling script there again.
# Its processes are counted as guests of the lab, so that the teardown finds them too.
enter_lab() {
  ! is_inside || return 0
  [ "$LAB" = native ] || die "this needs LAB=native; the lab in $LAB_DIR is LAB=$LAB"
  alive namespaces || die "no lab runs in $LAB_DIR (start one: make lab-up)"
  cg_adopt "$LAB_ID/guests"
  exec nsenter -t "$(pid_of namespaces)" -n -m --wd="$PWD" "$0" "$@"
}
