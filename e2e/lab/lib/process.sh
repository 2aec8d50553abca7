# shellcheck shell=bash
# The lab's background processes: started clean, found again by name, ended for sure.

# Process ids are used again by the kernel; one that is not in our cgroup is somebody else's.
is_ours() { grep -q ":/$LAB_ID/" "/proc/$1/cgroup" 2>/dev/null; }
pid_of() { cat "$LAB_DIR/pids/$1" 2>/dev/null; }
alive() {
  local pid
  pid=$(pid_of "$1") && [ -n "$pid" ] && is_ours "$pid" && kill -0 "$pid" 2>/dev/null
}

# spawn NAME GROUP COMMAND…: a background process in cgroup $LAB_ID/GROUP, with log logs/NAME.log and process id pids/NAME.
#
# It gets none of our environment: a proxy or a kubeconfig set by the caller is honoured by every component. Signals are
# put back to their defaults, because a shell's background jobs ignore SIGINT, and containers would inherit that.
spawn() {
  local name=$1 group=$LAB_ID/$2 pid
  mkdir -p "$LAB_DIR/logs" "$LAB_DIR/pids" "$LAB_DIR/cmd"
  { printf '%q ' "$@" && echo; } >"$LAB_DIR/cmd/$name" # so that proc.sh can start it again, word for word
  shift 2
  cg_make "$group"
  (
    cg_join "$group"
    exec setsid env -i --default-signal PATH="$CLEAN_PATH" HOME="$LAB_DIR" LAB_HOME="$LAB_DIR" TMPDIR="$LAB_DIR/tmp" "$@" \
      </dev/null >>"$LAB_DIR/logs/$name.log" 2>&1
  ) &
  pid=$!
  disown "$pid" 2>/dev/null || :
  echo "$pid" >"$LAB_DIR/pids/$name"
  until grep -q ":/$group$" "/proc/$pid/cgroup" 2>/dev/null || ! kill -0 "$pid" 2>/dev/null; do sleep 0.005; done
}

# send SIGNAL NAME
send() {
  local pid
  alive "$2" || die "$2 is not running (running: $(running | tr '\n' ' '))"
  pid=$(pid_of "$2")
  kill "-$1" "$pid"
}

# halt NAME [SECONDS]: SIGTERM, then SIGKILL.
halt() {
  local pid
  pid=$(pid_of "$1") || return 0
  ! is_ours "$pid" || kill "$pid"
  for _ in $(seq $((${2:-10} * 20))); do
    is_ours "$pid" || break
    sleep 0.05
  done
  if is_ours "$pid"; then
    say "$1 ignores SIGTERM: SIGKILL"
    kill -KILL "$pid" 2>/dev/null || :
  fi
  rm -f "$LAB_DIR/pids/$1"
}

running() {
  local file
  for file in "$LAB_DIR"/pids/*; do
    [ ! -e "$file" ] || ! alive "${file##*/}" || echo "${file##*/}"
  done
}

# wait_for SECONDS WHAT NAME COMMAND…: until the command succeeds, while process NAME lives (`-`: no process to watch).
wait_for() {
  local what=$2 process=$3 seconds=$1 end
  end=$(($(now_ms) + seconds * 1000))
  shift 3
  until "$@" >/dev/null 2>&1; do
    if [ "$process" != - ] && ! alive "$process"; then
      tail -n 15 "$LAB_DIR/logs/$process.log" >&2
      die "$process died while we waited for $what (its log: $LAB_DIR/logs/$process.log)"
    fi
    if [ "$(now_ms)" -ge "$end" ]; then
      [ "$process" = - ] || tail -n 15 "$LAB_DIR/logs/$process.log" >&2
      die "no $what after $seconds s"
    fi
    sleep 0.1
  done
}
