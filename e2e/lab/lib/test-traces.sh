# shellcheck shell=bash
# What a lab could leave behind on a machine, as sorted lines; and the proof that each kind of it would be seen.

# shellcheck disable=SC2016 # single quotes: names in awk
traces() {
  {
    find /sys/fs/cgroup -type d 2>/dev/null | grep -E "/(lbt|lbu)(/|$)|^/sys/fs/cgroup/([^/]+/)?kubepods" | sed 's/^/cgroup /' || :
    awk '{ print "mount", $5, $(NF - 2) }' /proc/self/mountinfo
    ip -o link | awk -F': ' '{ print "link", $2 }'
    ip route | sed 's/^/route /'
    ip rule | sed 's/^/rule /'
    nft list tables | sed 's/^/nft /'
    sed 's/^/ip_forward /' /proc/sys/net/ipv4/ip_forward
    find /run/containerd /run/netns /run/runc /var/lib/cni /var/lib/kubelet /var/log/containers /var/log/pods /etc/cni \
      2>/dev/null | sed 's/^/path /' || : # most of them do not exist
    find /tmp -maxdepth 1 -name 'lb-lab-test*' | sed 's/^/path /'
    process_traces
  } | LC_ALL=C sort -u
}

# Processes of our labs by their environment, and namespaces that somebody lives in who belongs to no lab's cgroup.
process_traces() {
  local process
  for process in /proc/[0-9]*; do
    grep -qsE '/(lbt|lbu)/' "$process/cgroup" && echo "process in our cgroup: ${process#/proc/}"
    grep -qszE '^LAB_HOME=/tmp/lb-lab-test' "$process/environ" && echo "process of ours: ${process#/proc/}"
    grep -qsE ':/[^/]+/(control|guests|node[1-9])' "$process/cgroup" || readlink "$process/ns/net" "$process/ns/mnt"
  done 2>/dev/null || :
}

# The kernel takes namespaces apart a moment after their last process; 10 s is generous.
leaves_no_trace() {
  local i
  for i in {1..40}; do
    [ "$(traces)" != "$(cat "$BEFORE")" ] || return 0
    sleep 0.25
  done
  echo "    left behind (>) or missing (<) after $i looks:"
  diff "$BEFORE" <(traces)
}

# Plants a leak of each kind, and wants to see it.
each_plant_shows() {
  local kind
  for kind in cgroup mount link nft folder state process namespace; do
    "plant_$kind"
    [ "$(traces)" != "$(cat "$BEFORE")" ] || { echo "    a planted leak was not seen: $kind" && return 1; }
    "uproot_$kind"
    leaves_no_trace
  done
}

plant_cgroup() { mkdir "$(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs -path '*pids*' -printf '%h' | grep . || echo /sys/fs/cgroup)/lbt"; }
uproot_cgroup() { find /sys/fs/cgroup -maxdepth 2 -type d -name lbt -delete; }
plant_mount() { mount -t tmpfs planted /mnt; }
uproot_mount() { umount /mnt; }
plant_link() { ip link add lbt1 type bridge; }
uproot_link() { ip link delete lbt1; }
plant_nft() { nft add table ip lbt; }
uproot_nft() { nft delete table ip lbt; }
plant_folder() {
  HAD_FOLDER=$([ ! -d /run/netns ] || echo yes)
  mkdir -p /run/netns/lbt
}
uproot_folder() {
  rmdir /run/netns/lbt
  [ -n "$HAD_FOLDER" ] || rmdir /run/netns
}
plant_state() { mkdir /tmp/lb-lab-test; }
uproot_state() { rmdir /tmp/lb-lab-test; }
plant_process() {
  LAB_HOME=$LAB_DIR sleep 1000 &
  PLANTED=$!
  until grep -qsz '^LAB_HOME=' "/proc/$PLANTED/environ"; do sleep 0.01; done
}
uproot_process() { kill "$PLANTED"; }
plant_namespace() {
  unshare --net sleep 1000 &
  PLANTED=$!
  until [ "$(readlink "/proc/$PLANTED/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
}
uproot_namespace() { kill "$PLANTED"; }
