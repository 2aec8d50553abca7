#!/usr/bin/env bash
# Faults for one process of the lab: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, coredns,
# s3, containerd-node1, kubelet-node1, …
#
#   proc.sh kill NAME             SIGKILL
#   proc.sh stop NAME             SIGTERM, then SIGKILL after 10 s
#   proc.sh start NAME            starts it again, word for word as it was started
#   proc.sh pause|resume NAME     SIGSTOP, SIGCONT: it hangs, and goes on
#   proc.sh list                  the names of those that run
. "$(dirname "$0")/lib/lab.sh"

usage() {
  sed -n '2,9s/^# \?//p' "$0" >&2
  exit 2
}
[ $# -ge 1 ] || usage
enter_lab "$@"
[ "$1" != list ] || { running && exit; }
[ $# = 2 ] || usage
[ -s "$LAB_DIR/cmd/$2" ] || die "no process of this lab is called '$2' (see: proc.sh list)"

case $1 in
  kill) send KILL "$2" ;;
  stop) halt "$2" ;;
  start)
    ! alive "$2" || die "$2 is running"
    eval "spawn $(cat "$LAB_DIR/cmd/$2")" # spawn quoted it word by word
    ;;
  pause) send STOP "$2" ;;
  resume) send CONT "$2" ;;
  *) usage ;;
esac
