#!/usr/bin/env bash
# The part of up.sh that runs inside the lab's own network and mount namespace. Not to be called by hand.
. "$(dirname "$0")/lab.sh"
. "$LAB_SRC/lib/pki.sh"
. "$LAB_SRC/lib/lab-env.sh"
. "$LAB_SRC/lib/control-plane.sh"

# Paths that containerd, CNI and the kubelet do not let us choose. In here they are the lab's own and vanish with it;
# only the folders to mount on must exist outside, and those that we made are noted for the teardown.
FIXED_PATHS=(/run/containerd /var/lib/cni /var/lib/kubelet /var/log/containers)

cover_fixed_paths() {
  local path
  for path in "${FIXED_PATHS[@]}"; do
    # made by us, or by another lab that may end before us
    if [ ! -d "$path" ] || grep -qs " $path .* tmpfs lifeboat-lab " /proc/[0-9]*/mountinfo; then
      echo "$path" >>"$LAB_DIR/made-folders"
    fi
    mkdir -p "$path"
    mount -t tmpfs -o mode=0755 lifeboat-lab "$path"
  done
}

# Who is inside resolves names as pods do.
cover_resolver() {
  local file
  echo "nameserver $(gateway 1)" >"$LAB_DIR/resolv.conf"
  file=$(readlink -e /etc/resolv.conf) || return 0
  mount --bind "$LAB_DIR/resolv.conf" "$file"
}

start_nodes() {
  local n jobs=()
  for n in $(seq "$LAB_NODES"); do
    "$LAB_SRC/node.sh" up "$n" &
    jobs+=($!)
  done
  for n in "${jobs[@]}"; do wait "$n"; done
}

name_resolves() { getent hosts "$S3_NAME"; }

cover_fixed_paths
cover_resolver
spawn namespaces control sleep infinity # holds the namespaces, whatever a test does to the others
readlink /proc/self/ns/net >"$LAB_DIR/netns"
make_network
"$LAB_SRC/images.sh" base &
BASE_IMAGES=$!
start_s3
make_authority
start_etcd
start_api_server
start_dns
[ "$LAB_LEVEL" = api ] || start_controllers
wait "$BASE_IMAGES"
if [ "$LAB_LEVEL" = nodes ]; then
  start_nodes
  start_proxy
  wait_for 30 "Service addresses" kube-proxy api_ready "$SERVICE_API"
fi
[ "$LAB_LEVEL" = api ] || wait_for 30 "the default ServiceAccount" kube-controller-manager default_account
wait_for 30 "DNS" coredns name_resolves
wait_for 30 "S3" s3 s3_answers
