#!/usr/bin/env bash
# Counts tests over several runs of cargo and of the lab's own test, and ends with one line.
#
#   tally.sh run LOG COMMAND…    runs it, keeps what it prints in LOG, says how many tests passed and failed, ends as it did
#   tally.sh sum WHAT LOG…       adds them up
set -euo pipefail

count() { # count WHAT LOG…
  local what=$1
  shift
  awk -v what="$what" '/^test result: / { passed += $4; failed += $6; ignored += $8 }
    /^lab: [0-9]+ passed, / { passed += $2; failed += $4 }
    END { printf "%s: %d passed, %d failed%s\n", what, passed, failed, ignored ? ", " ignored " ignored" : "" }' "$@"
}

case ${1:-} in
  run)
    LOG=$2
    shift 2
    mkdir -p "$(dirname "$LOG")"
    # A tee that outlives Ctrl-C, so that the last words of the tests are heard.
    set +e
    "$@" 2>&1 | tee -i "$LOG"
    CODE=${PIPESTATUS[0]}
    set -e
    count "$(basename "$LOG" .log)" "$LOG"
    exit "$CODE"
    ;;
  sum)
    shift
    count "$@"
    ;;
  *) sed -n '2,5s/^# \?//p' "$0" >&2 && exit 2 ;;
esac
