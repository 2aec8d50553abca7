#!/usr/bin/env bash
# Starts the lab, or says that it runs already. Variables: README.md. Whatever goes wrong, nothing is left running.
. "$(dirname "$0")/lib/lab.sh"
. "$LAB_SRC/lib/preflight.sh"
. "$LAB_SRC/lib/lab-env.sh"

# A lab of the same name or place may run, be half there, or have crashed.
meet_predecessor() {
  if [ -e "$LAB_DIR/ready" ] && alive kube-apiserver; then
    say "already up in $LAB_DIR"
    exit 0
  elif [ -n "$(cg_pids "$LAB_ID")" ]; then
    die "processes of a lab called $LAB_ID run already: end it (make lab-down), or choose another LAB_ID and LAB_DIR"
  elif [ -e "$LAB_DIR/lab.env" ] || [ -d "$(cg_count_tree)/$LAB_ID" ]; then
    say "clearing away what an earlier lab left behind"
    "$LAB_SRC/down.sh"
  fi
  must_be_free
}

furnish() {
  make_state_folder
  LAB_S3_ENDPOINT=http://$S3_NAME:$S3_PORT LAB_S3_ENDPOINT_OUTSIDE=http://$S3_NAME:$S3_PORT
  LAB_S3_BUCKET=lifeboat LAB_S3_REGION=us-east-1 LAB_S3_CREDENTIALS=$LAB_DIR/s3.env
  write_lab_env
  mkdir "$LAB_DIR"/{images,logs,tmp}
}

# shellcheck disable=SC2317 # called by trap
give_up() {
  local code=$1
  trap '' INT TERM HUP
  trap - EXIT
  [ "$code" != 0 ] || exit 0
  if [ "$code" -gt 128 ]; then
    say "interrupted: taking everything down again"
    "$LAB_SRC/down.sh"
  else
    say "failed: taking everything down again"
    "$LAB_SRC/down.sh" --keep-logs
  fi
  exit "$code"
}

case $LAB in
  native) ;;
  kind | existing) exec "$LAB_SRC/$LAB.sh" up ;;
  *) die "LAB must be native, kind or existing, is '$LAB'" ;;
esac

BEGAN=$(now_ms)
meet_predecessor
preflight
"$LAB_SRC/packages.sh"
LAB_BIN=$("$LAB_SRC/tools.sh")
STARTED=$(now_ms)
# The cgroup is what makes a lab exist, and mkdir makes it for one caller only. From here on it is ours to take down.
mkdir "$(cg_count_tree)/$LAB_ID" || die "another lab called $LAB_ID is being started"
trap 'give_up $?' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
furnish
# In the background, because bash hears signals while it waits for a job, but not while a command runs.
(
  cg_adopt "$LAB_ID/control"
  exec unshare --net --mount --propagation private "$LAB_SRC/lib/bring-up.sh"
) &
wait $!
touch "$LAB_DIR/ready"
say "the lab is up, $(($(now_ms) - STARTED)) ms after the tools were there ($(($(now_ms) - BEGAN)) ms in all)"
say "look around: make lab-shell; end it: make lab-down"
