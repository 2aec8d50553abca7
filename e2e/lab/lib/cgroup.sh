# shellcheck shell=bash
# Bookkeeping by cgroup: whatever a lab starts, containers included, lives in the group /$LAB_ID or below it.
#
# So "everything we started" is a list that the kernel keeps, and it stays right when our scripts are killed half-way.
# The same code serves cgroup v1 (one tree per controller; `pids` is the one we count by) and v2 (one tree).

CG=/sys/fs/cgroup

cg_is_v2() { [ "$(stat -fc %T "$CG")" = cgroup2fs ]; }

# The roots of all trees a group must exist in. The kubelet looks for its root in every v1 tree, named ones included.
cg_trees() {
  ! cg_is_v2 || { echo "$CG" && return; }
  local tree
  for tree in "$CG"/*/; do
    tree=${tree%/}
    [ -L "$tree" ] || [ "$tree" = "$CG/unified" ] || [ ! -e "$tree/cgroup.procs" ] || echo "$tree"
  done
}

cg_count_tree() { if cg_is_v2; then echo "$CG"; else echo "$CG/pids"; fi; }

# cg_make PATH: makes a group and its parents in every tree, ready to hold processes and children.
cg_make() {
  local tree group part
  for tree in $(cg_trees); do
    group=$tree
    for part in ${1//\// }; do
      if cg_is_v2; then cg_delegate "$group"; fi
      mkdir -p "$group/$part"
      cg_fill_cpuset "$group" "$group/$part"
      group=$group/$part
    done
  done
}

# A v2 group's children have only the controllers that it hands down.
cg_delegate() {
  local controller
  for controller in $(<"$1/cgroup.controllers"); do
    echo "+$controller" 2>/dev/null >"$1/cgroup.subtree_control" || :
  done
}

# A new v1 cpuset group has no CPU and no memory node, and refuses processes until it is given some.
cg_fill_cpuset() {
  local parent=$1 group=$2 file
  [ -e "$group/cpuset.cpus" ] && ! cg_is_v2 || return 0
  for file in cpuset.cpus cpuset.mems; do
    [ -n "$(cat "$group/$file")" ] || cat "$parent/$file" >"$group/$file"
  done
}

# cg_join GROUP: moves the calling (sub)shell into the group, in the trees whose limits and counters matter to us.
cg_join() {
  local tree
  for tree in $(cg_trees); do
    case ${tree##*/} in
      cgroup | *pids* | *memory* | cpu | cpuacct | cpu,cpuacct | *freezer*) echo "$BASHPID" >"$tree/$1/cgroup.procs" ;;
      *) ;;
    esac
  done
}

# cg_adopt GROUP: counts the calling (sub)shell as ours, and leaves its limits as they are.
cg_adopt() {
  mkdir -p "$(cg_count_tree)/$1"
  echo "$BASHPID" >"$(cg_count_tree)/$1/cgroup.procs"
}

cg_pids() {
  local group
  group=$(cg_count_tree)/$1
  [ ! -d "$group" ] || find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un
}

# SIGKILL waits as long as its target is frozen (v1), so a hung node must be thawed before it can be ended.
cg_thaw() {
  ! cg_is_v2 || return 0
  local state
  while read -r state; do
    echo THAWED 2>/dev/null >"$state" || :
  done < <(find "$CG/freezer/$1" -name freezer.state 2>/dev/null)
}

# cg_kill GROUP: SIGKILL to exactly the processes of the group, until none is left (they may fork meanwhile).
cg_kill() {
  local pids
  for _ in {1..200}; do
    pids=$(cg_pids "$1")
    [ -n "$pids" ] || return 0
    cg_thaw "$1"
    # shellcheck disable=SC2086 # a list of numbers
    kill -KILL $pids 2>/dev/null || :
    sleep 0.05
  done
  die "processes survive in cgroup $1: $(cg_pids "$1" | tr '\n' ' ')"
}

# cg_remove GROUP: removes the emptied group everywhere. The kernel lets go of a group a moment after its last process.
cg_remove() {
  local tree left
  for _ in {1..40}; do
    left=
    for tree in $(cg_trees) "$CG/unified"; do
      [ ! -d "$tree/$1" ] || find "$tree/$1" -depth -type d -delete 2>/dev/null || :
      [ ! -d "$tree/$1" ] || left="$tree/$1"
    done
    [ -n "$left" ] || return 0
    sleep 0.05
  done
  die "cannot remove cgroup $left"
}
