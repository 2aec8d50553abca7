# shellcheck shell=bash
# The steps of the teardown. Mounts, bridges, rules and routes are not among them: they belong to the lab's namespaces, and
# the kernel drops those with the last process.

must_be_ours() {
  local other pid
  [ "$(id -u)" = 0 ] || die "taking a lab down needs root"
  ! is_inside || die "you are inside the lab; leave its shell first"
  if [ -d "$LAB_DIR" ] && [ ! -e "$LAB_DIR/lab.env" ]; then
    [ -z "$(ls -A "$LAB_DIR")" ] || die "$LAB_DIR is not a lab's; nothing was touched"
  fi
  [ ! -e "$LAB_DIR/lab.env" ] || return 0
  # No file says which lab the cgroup belongs to, but its processes do.
  for pid in $(cg_pids "$LAB_ID"); do
    other=$(tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | sed -n 's/^LAB_HOME=//p')
    [ -z "$other" ] || [ "$other" = "$LAB_DIR" ] || die "the lab called $LAB_ID is in $other, not in $LAB_DIR; say LAB_DIR=$other"
  done
}

end_processes() {
  local guests
  guests=$(cg_pids "$LAB_ID/guests" | wc -l)
  [ "$guests" = 0 ] || say "ending $guests processes that are still inside the lab (shells, tests)"
  cg_kill "$LAB_ID"
  cg_remove "$LAB_ID"
}

# rmdir would also tear off what another lab has mounted there.
remove_made_folders() {
  local path
  [ -s "$LAB_DIR/made-folders" ] || return 0
  while read -r path; do
    grep -qs " $path .* tmpfs lifeboat-lab " /proc/[0-9]*/mountinfo || rmdir "$path" 2>/dev/null || :
  done <"$LAB_DIR/made-folders"
}

wipe() {
  [ -d "$LAB_DIR" ] || return 0
  case $1 in
    --keep-logs)
      find "$LAB_DIR" -mindepth 1 -maxdepth 1 ! -name logs ! -name lab.env -exec rm -rf --one-file-system {} +
      say "logs are kept in $LAB_DIR/logs (make lab-down removes them)"
      ;;
    '') rm -rf --one-file-system "$LAB_DIR" ;;
    *) die "unknown argument '$1'" ;;
  esac
}
