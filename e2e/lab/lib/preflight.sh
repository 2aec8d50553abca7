# shellcheck shell=bash
# Says everything that is missing on this machine at once, before anything is touched.

preflight() {
  local problems
  problems=$(machine_problems)
  [ -n "$problems" ] || return 0
  say "this machine cannot run the lab (LAB=native):"
  printf '  - %s\n' "${problems//$'\n'/$'\n  - '}" >&2
  if command -v docker kind >/dev/null; then
    say "docker and kind are here: LAB=kind uses those instead"
  else
    say "another way is LAB=kind, with docker and kind on the machine (missing:$(missing_of docker kind))"
  fi
  die "or name a cluster of your own: LAB=existing LAB_CONTEXT=<context>; see e2e/lab/README.md"
}

missing_of() {
  local name
  for name in "$@"; do command -v "$name" >/dev/null || printf ' %s' "$name"; done
}

machine_problems() {
  [ "$(uname -s)" = Linux ] || { echo "it runs $(uname -s); nodes need Linux" && return; }
  case $(uname -m) in x86_64 | aarch64) ;; *) echo "processor $(uname -m): only x86_64 was tested, aarch64 may work" ;; esac
  [ "$(id -u)" = 0 ] || { echo "you are $(id -un): nodes need root (containers, mounts, networks)" && return; }
  cgroup_problems
  kernel_problems
}

cgroup_problems() {
  local name missing=
  if cg_is_v2; then
    for name in cpu memory pids; do grep -qw "$name" "$CG/cgroup.controllers" || missing+=" $name"; done
  else
    for name in cpu cpuacct cpuset memory pids freezer devices; do [ -e "$CG/$name/cgroup.procs" ] || missing+=" $name"; done
  fi
  [ -z "$missing" ] || echo "cgroup controllers are missing in $CG:$missing"
  if mkdir "$(cg_count_tree)/${LAB_ID}probe" 2>/dev/null; then
    rmdir "$(cg_count_tree)/${LAB_ID}probe"
  else
    echo "cgroups cannot be made in $(cg_count_tree) (a container without its own cgroup tree?)"
  fi
}

kernel_problems() {
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || echo "the kernel has no overlayfs (containers' root file systems)"
  [ -e /proc/sys/net/bridge ] || modprobe br_netfilter 2>/dev/null || echo "the kernel has no br_netfilter (Services between pods of one node)"
  unshare --net --mount true 2>/dev/null || { echo "network and mount namespaces cannot be made (CAP_SYS_ADMIN?)" && return; }
  unshare --net ip link add "${LAB_ID}0" type bridge 2>/dev/null || echo "the kernel has no network bridges, or CAP_NET_ADMIN is missing"
  unshare --net nft add table ip probe 2>/dev/null || echo "the kernel has no nf_tables, or CAP_NET_ADMIN is missing"
}
