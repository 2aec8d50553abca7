#!/usr/bin/env bash
# run.sh [PART-OF-A-NAME]: runs the tests that need a cluster, in the lab that is up, or else in one of their own that goes
# when they are done. KEEP_LAB=1 leaves that one up, to look around after a failure.
. "$(dirname "$0")/lab/lib/lab.sh"
cd "$LAB_SRC/../.." || exit
E2E=e2e
TESTS=(--package lifeboat-e2e --test 'admit_*' --test 'replicate_*' --test 'restore_*' --test 'operate_*')

# shellcheck disable=SC2317 # called by trap
take_down() {
  local code=$?
  trap - EXIT
  if [ -n "${KEEP_LAB:-}" ]; then
    say "the lab is still up: make lab-shell, make lab-down"
  else
    "$LAB_SRC/down.sh"
  fi
  exit "$code"
}

"$E2E/build.sh"
cargo test ${CI:+--locked} "${TESTS[@]}" --no-run # inside the lab nothing can be downloaded
if [ ! -e "$LAB_DIR/ready" ]; then
  trap take_down EXIT
  trap 'exit 130' INT TERM HUP
fi
"$LAB_SRC/up.sh"
"$E2E/install.sh"
"$LAB_SRC/netns.sh" kubectl delete namespace --selector=lifeboat-e2e --ignore-not-found --wait=false # of a run that was killed
# One after the other: some tests take the operator or the bucket away.
"$LAB_SRC/netns.sh" cargo test --offline --no-fail-fast "${TESTS[@]}" -- --test-threads=1 --nocapture "$@"
