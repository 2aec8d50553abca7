#!/usr/bin/env bash
# Ends the lab in LAB_DIR and leaves nothing behind. Safe to call twice, and after a crash of anything at any time.
#
#   down.sh                wipes everything
#   down.sh --keep-logs    keeps $LAB_DIR/logs, for whoever wants to know why
. "$(dirname "$0")/lib/lab.sh"
. "$LAB_SRC/lib/bring-down.sh"

case $LAB in
  native) ;;
  *) exec "$LAB_SRC/$LAB.sh" down ;;
esac
BEGAN=$(now_ms)
if [ ! -d "$LAB_DIR" ] && [ ! -d "$(cg_count_tree)/$LAB_ID" ]; then
  say "nothing to take down: no lab in $LAB_DIR"
  exit 0
fi
must_be_ours
end_processes
remove_made_folders
wipe "${1:-}"
say "down in $(($(now_ms) - BEGAN)) ms"
