#!/usr/bin/env bash
# What runs in the lab: its processes with their memory, its nodes, its pods. Exit 1 when no lab runs.
. "$(dirname "$0")/lib/lab.sh"

if [ ! -e "$LAB_DIR/ready" ]; then
  echo "no lab is up in $LAB_DIR" >&2
  exit 1
fi
enter_lab "$@"
echo "LAB_DIR=$LAB_DIR LAB_ID=$LAB_ID"
for name in $(running); do
  printf '  %-26s %6d MiB  pid %s\n' "$name" $(($(awk '/^VmRSS/ { print $2 }' "/proc/$(pid_of "$name")/status") / 1024)) "$(pid_of "$name")"
done
[ "$LAB_LEVEL" = api ] || kc get nodes
kc get pods --all-namespaces
