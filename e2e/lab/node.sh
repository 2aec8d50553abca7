#!/usr/bin/env bash
# One node: a bridge, a containerd, a kubelet, one cgroup subtree. Its faults are found here.
#
#   node.sh up N              starts it (also after kill or stop: what was on its disk is still there)
#   node.sh kill N            power cut: kubelet, containerd and every container die at once; disks stay
#   node.sh stop N            stops the kubelet, then everything else on the node
#   node.sh freeze|thaw N     the node hangs, and comes back
#   node.sh import N TAR…     loads images
. "$(dirname "$0")/lib/lab.sh"
. "$LAB_SRC/lib/pki.sh"
. "$LAB_SRC/lib/control-plane.sh"
. "$LAB_SRC/lib/node-config.sh"

if [ $# -lt 2 ] || [[ ! $2 =~ ^[1-9]$ ]]; then
  sed -n '2,8s/^# \?//p' "$0" >&2
  exit 2
fi
enter_lab "$@"
VERB=$1 N=$2
shift 2
HOME_N=$LAB_DIR/node$N
GROUP=$LAB_ID/node$N

node_ready() { [ "$(kc get node "node$N" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]; }

up() {
  local began image
  began=$(now_ms)
  ! alive "kubelet-node$N" || die "node$N is up"
  make_bridge "$N"
  mkdir -p "$HOME_N"/{containerd/root,containerd/state,cni/net.d,cni/ipam,kubelet,pods-log,plugins}
  make_certificate "kubelet-node$N" "/O=system:nodes/CN=system:node:node$N" "IP:$(gateway "$N"),DNS:node$N" # it serves, too
  make_kubeconfig "kubelet-node$N" "/O=system:nodes/CN=system:node:node$N"
  write_cni_config
  write_containerd_config
  write_kubelet_config
  spawn "containerd-node$N" "node$N/sys" containerd --config "$HOME_N/containerd.toml" --log-level warn
  wait_for 30 "containerd" "containerd-node$N" nctr "$N" version
  for image in "$LAB_DIR"/images/*.tar; do nctr "$N" images import "$image" >/dev/null; done
  spawn "kubelet-node$N" "node$N/sys" kubelet --config "$HOME_N/kubelet.yaml" \
    --kubeconfig "$KUBE/kubelet-node$N.kubeconfig" --hostname-override "node$N" --node-ip "$(gateway "$N")" \
    --root-dir "$HOME_N/kubelet" --cert-dir "$HOME_N/kubelet/pki"
  wait_for 90 "Ready of node$N" "kubelet-node$N" node_ready
  say "node$N Ready in $(($(now_ms) - began)) ms"
}

# Drops what a power cut would: processes, mounts, network ends, and what was in memory only.
power_cut() {
  cg_kill "$GROUP"
  rm -f "$LAB_DIR/pids/kubelet-node$N" "$LAB_DIR/pids/containerd-node$N"
  unmount_below "$HOME_N"
  unlink_pods "$LAB_ID$N"
  rm -rf "$HOME_N/runc" "$HOME_N"/containerd/state/*
  say "node$N: power cut"
}

# Deepest first; lazily, because a busy mount must not stop a fault.
unmount_below() {
  local target
  while read -r target; do
    umount --lazy "$(printf '%b' "$target")" || :
  done < <(awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
}

unlink_pods() {
  local link
  for link in $(ip -o link show master "$1" 2>/dev/null | awk -F'[:@] *' '{ print $2 }'); do
    ip link delete "$link" 2>/dev/null || :
  done
}

freezer() {
  if cg_is_v2; then
    case $1 in FROZEN) echo 1 ;; *) echo 0 ;; esac >"$CG/$GROUP/cgroup.freeze"
  else
    echo "$1" >"$CG/freezer/$GROUP/freezer.state"
  fi
}

case $VERB in
  up) up ;;
  kill) power_cut ;;
  stop)
    halt "kubelet-node$N"
    cg_kill "$GROUP"
    rm -f "$LAB_DIR/pids/containerd-node$N"
    ;;
  freeze) freezer FROZEN ;;
  thaw) freezer THAWED ;;
  import) for tar in "$@"; do nctr "$N" images import "$tar" >/dev/null; done ;;
  *) die "unknown verb '$VERB'" ;;
esac
