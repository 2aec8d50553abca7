#!/usr/bin/env bash
# LAB=existing: a cluster of your own, named by its context and confirmed by you. up.sh and down.sh come here by themselves.
#
#   existing.sh up      shows the context, asks, and writes lab.env and a kubeconfig that knows this context only
#   existing.sh down    forgets it; what tests made in the cluster is theirs to delete
#
# Needed in the environment: LAB_CONTEXT; LAB_S3_ENDPOINT, LAB_S3_BUCKET, LAB_S3_REGION; LAB_S3_CREDENTIALS, a file with
# AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…; LAB_IMAGE and LAB_OPERATOR_IMAGE, pushed to where the cluster pulls.
. "$(dirname "$0")/lib/lab.sh"
. "$LAB_SRC/lib/lab-env.sh"

demand_variables() {
  local name missing=
  for name in LAB_CONTEXT LAB_S3_ENDPOINT LAB_S3_BUCKET LAB_S3_REGION LAB_S3_CREDENTIALS LAB_IMAGE LAB_OPERATOR_IMAGE; do
    [ -n "${!name:-}" ] || missing+=" $name"
  done
  [ -z "$missing" ] || die "LAB=existing needs these variables:$missing (e2e/lab/existing.sh says what they mean)"
}

# Only a person at a terminal can say yes, and by the name of the context.
confirm() {
  local server answer=
  server=$(kubectl config view --minify --context "$LAB_CONTEXT" -o 'jsonpath={.clusters[0].cluster.server}') ||
    die "there is no context '$LAB_CONTEXT' in your kubeconfig"
  say "context $LAB_CONTEXT, API server $server"
  say "the tests create and delete namespaces, webhooks, CustomResourceDefinitions and pods there"
  [ -t 0 ] || die "nobody is at the terminal to confirm; nothing was done"
  read -r -p "type the name of the context to use it: " answer
  [ "$answer" = "$LAB_CONTEXT" ] || die "not confirmed; nothing was done"
}

up() {
  [ ! -e "$LAB_DIR/ready" ] || { say "already up in $LAB_DIR" && exit 0; }
  demand_variables
  LAB_BIN=$("$LAB_SRC/tools.sh")
  PATH=$LAB_BIN:$PATH
  confirm
  must_be_free
  make_state_folder
  write_lab_env
  mkdir "$LAB_DIR"/{kube,tmp}
  (umask 077 && kubectl config view --minify --flatten --context "$LAB_CONTEXT" >"$KUBE/admin.kubeconfig")
  kc get nodes
  touch "$LAB_DIR/ready"
}

case ${1:-} in
  up) up ;;
  down) rm -rf --one-file-system "$LAB_DIR" ;;
  *) sed -n '2,8s/^# \?//p' "$0" >&2 && exit 2 ;;
esac
