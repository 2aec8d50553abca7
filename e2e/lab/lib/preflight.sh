# shellcheck shell=bash
# Says everything that is missing on this machine at once, before anything is touched.

GO_OLDEST=go1.25.0 # what the newest of the tools' go.mod files asks for

preflight() {
  local problems
  problems=$(machine_problems)
  [ -n "$problems" ] || return 0
  say "this machine cannot run the lab (LAB=native):"
  printf '  - %s\n' "${problems//$'\n'/$'\n  - '}" >&2
  if [ -z "$(missing_of docker kind)" ]; then
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
  case $(uname -m) in x86_64 | aarch64) ;; *) echo "processor $(uname -m): x86_64 was tested, aarch64 may work" ;; esac
  program_problems
  [ "$(id -u)" = 0 ] || { echo "you are $(id -un): nodes need root (containers, mounts, networks)" && return; }
  cgroup_problems
  kernel_problems
}

program_problems() {
  local missing version
  missing=$("$LAB_SRC/packages.sh" check)
  if [ -n "$missing" ] && { [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; }; then
    echo "programs are missing, by Debian's package names: $missing"
  fi
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || :)
  if [ -z "$version" ]; then
    echo "Go is missing: the lab's tools are built from source ($GO_OLDEST or newer)"
  elif [ "$(printf '%s\n' "$GO_OLDEST" "$version" | sort -V | head -n 1)" != "$GO_OLDEST" ]; then
    echo "Go is $version: the lab's tools need $GO_OLDEST or newer"
  fi
}

cgroup_problems() {
  local name missing=
  if cg_is_v2; then
    for name in cpu memory pids; do grep -qw "$name" "$CG/cgroup.controllers" || missing+=" $name"; done
    echo "+cpu +memory +pids" 2>/dev/null >"$CG/cgroup.subtree_control" ||
      echo "cgroup controllers cannot be handed down from $CG (a container whose own processes sit in the root group?)"
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
  # what is not installed yet cannot be asked
  ! command -v ip >/dev/null || unshare --net ip link add "${LAB_ID}0" type bridge 2>/dev/null || echo "the kernel has no network bridges, or CAP_NET_ADMIN is missing"
  ! command -v nft >/dev/null || unshare --net nft add table ip probe 2>/dev/null || echo "the kernel has no nf_tables, or CAP_NET_ADMIN is missing"
}
