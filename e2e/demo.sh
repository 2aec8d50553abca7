#!/usr/bin/env bash
# The demo: a real pod with a SQLite database loses its volume, twice, and comes back with its rows.
#
# It leaves the lab up, so that you can look around; the last lines say how, and how to clean up.
. "$(dirname "$0")/lab/lib/lab.sh"
HERE=$(cd "$LAB_SRC/.." && pwd)
EXAMPLE=$HERE/../docs/examples/shop
WORK=$(mktemp -d)
STEP=0 STEPS=7 DOING=begin
APPLIES=4 # the step from which on the cluster has something to say
# The example inserts a row every 100 ms and has a syncInterval of 1 s; one PUT may take 1 s on a busy machine.
MAY_LOSE=20
RESULTS=()
BOLD='' PLAIN=''
[ ! -t 1 ] || BOLD=$'\e[1m' PLAIN=$'\e[0m'

k() { "$LAB_SRC/netns.sh" kubectl --namespace shop "$@"; }
step() {
  STEP=$((STEP + 1)) DOING=${1% (*}
  printf '\n%s[%d/%d] %s%s\n' "$BOLD" "$STEP" "$STEPS" "$1" "$PLAIN"
}
show() { sed 's/^/      /'; }
note() { printf '      %s\n' "$*"; }
seconds_since() { # seconds_since MILLISECONDS
  local ms=$(($(now_ms) - $1))
  printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

# shellcheck disable=SC2317 # called by trap
finish() {
  local code=$?
  trap - EXIT
  # shellcheck disable=SC2046 # a list of numbers
  kill $(jobs -p) 2>/dev/null || :
  [ "$code" = 0 ] || explain
  rm -rf "$WORK"
  exit "$code"
}

explain() {
  printf '\n%sThe demo did not work: step %d, %s.%s\n' "$BOLD" "$STEP" "$DOING" "$PLAIN"
  [ "$STEP" -ge "$APPLIES" ] || return 0
  echo "What the cluster says:"
  {
    k get sqlitereplicas,statefulsets,pods -o wide
    k describe pods
    k describe sqlitereplicas
    k logs --all-containers --prefix --tail=30 --selector=app=shop --ignore-errors
    "$LAB_SRC/netns.sh" kubectl -n lifeboat-system logs --tail=40 --selector=app.kubernetes.io/name=lifeboat-operator
  } 2>&1 | show || :
  look_around
}

look_around() {
  local make=make
  [ "$LAB_DIR" = /tmp/lb-lab ] || make="LAB_DIR=$LAB_DIR make"
  cat <<HOW

  Look around:  $make lab-shell     (a shell inside the lab, with kubectl, helm and KUBECONFIG=$KUBE/admin.kubeconfig)
                $make lab-shell CMD='kubectl -n shop describe pod shop-0'
  Clean up:     $make lab-down
HOW
}

# await SECONDS WHAT COMMAND…: until the command succeeds; what it prints is shown whenever that changes.
await() {
  local limit=$1 what=$2 end seen='' now
  shift 2
  end=$(($(now_ms) + limit * 1000))
  until now=$("$@" 2>/dev/null); do
    [ -z "$now" ] || [ "$now" = "$seen" ] || note "$now"
    seen=${now:-$seen}
    [ "$(now_ms)" -lt "$end" ] || { note "gave up after $limit s: no $what" && exit 1; }
    sleep 0.4
  done
}

is_ready() {
  local conditions
  conditions=$(k get sqlitereplica shop -o 'jsonpath={range .status.conditions[*]}{.type}={.status} ({.reason}) {end}')
  echo "$conditions"
  [[ $conditions = *"Ready=True"* ]] && is_rolled_out
}
# The operator's label makes the StatefulSet replace its pod once.
is_rolled_out() {
  k get statefulset shop -o json |
    jq -e '.status | .currentRevision == .updateRevision and .readyReplicas == 1' >/dev/null
}
rows() { k get --raw "/api/v1/namespaces/shop/pods/shop-0:8080/proxy/rows"; }
has_rows() { # has_rows COUNT: of the present process
  local answer
  answer=$(rows)
  jq -r '"rows so far: \(.last)"' <<<"$answer"
  [ "$(jq '.last - .lastAtStart' <<<"$answer")" -ge "$1" ]
}
pod_uid() { k get pod shop-0 -o 'jsonpath={.metadata.uid}'; }
# is_replaced UID: another pod than that one is ready.
is_replaced() {
  local uid line
  uid=$(pod_uid) || { echo "no pod" && return 1; }
  line=$(k get pod shop-0 --no-headers | awk '{ print $1, $3, $2 " containers ready" }')
  if [ "$uid" = "$1" ]; then
    echo "old pod $line"
    return 1
  fi
  echo "new pod $line"
  [ "$(k get pod shop-0 -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]
}
restore_words() {
  k get pod shop-0 -o 'jsonpath={.status.initContainerStatuses[?(@.name=="lifeboat-restore")].state.terminated.message}' | jq -r .message
}

# lose_the_pod KIND FLAGS…: deletes the pod together with its volume, and compares what was committed with what came back.
lose_the_pod() {
  local kind=$1 uid log follower before after began took answer
  shift
  await 60 "rows" has_rows 30
  uid=$(pod_uid)
  log=$WORK/$kind.log
  k logs --follow --container=app shop-0 >"$log" &
  follower=$!
  await 30 "output of the application" test -s "$log"
  note "\$ kubectl delete pod shop-0${*:+ $*}"
  began=$(now_ms)
  k delete pod shop-0 --wait=false "$@" 2>/dev/null | show
  await 180 "replacement" is_replaced "$uid"
  took=$(seconds_since "$began")
  wait "$follower" || : # for the old application's last words
  before=$(awk '/^committed / { n = $2 } END { print n + 0 }' "$log")
  answer=$(rows)
  after=$(jq .lastAtStart <<<"$answer")
  note "restore step: $(restore_words)"
  note "now there:    $answer"
  [ "$(jq -r '"\(.gaps) \(.integrity)"' <<<"$answer")" = "0 ok" ] || { note "the rows are not whole" && exit 1; }
  [ "$before" -ge "$after" ] || { note "more came back than the application's output shows: $before rows" && exit 1; }
  RESULTS+=("$kind|$before|$after|$((before - after))|$took")
}

print_table() {
  {
    echo "delete|rows before|rows after|lost|seconds until ready"
    printf '%s\n' "${RESULTS[@]}"
  } | awk -F '|' '{ printf "      %-10s %12s %12s %8s %22s\n", $1, $2, $3, $4, $5 }'
}

lost() { # lost KIND
  printf '%s\n' "${RESULTS[@]}" | awk -F '|' -v kind="$1" '$1 == kind { print $4 }'
}

trap finish EXIT
trap 'exit 130' INT TERM HUP
[ "$LAB" != existing ] || die "the demo brings its own images and bucket: use LAB=native or LAB=kind"

step "build (the first time 5 to 10 minutes, then seconds)"
"$HERE/build.sh"

step "start the lab: Kubernetes and an S3 server (the first time 10 to 20 minutes to build them, then 20 seconds)"
"$LAB_SRC/up.sh"
# shellcheck source=/dev/null
. "$LAB_DIR/lab.env"

step "helm install lifeboat (10 seconds)"
"$HERE/install.sh"

step "apply docs/examples/shop: an application with a SQLite database on an emptyDir, and its SqliteReplica (20 seconds)"
k apply -f "$EXAMPLE/1-namespace.yaml" | show
k create secret generic s3-credentials --from-env-file="$LAB_S3_CREDENTIALS" --dry-run=client -o yaml | k apply -f - | show
k apply -f "$EXAMPLE/3-sqlitereplica.yaml" -f "$EXAMPLE/4-statefulset.yaml" | show
await 180 "protected database" is_ready
k get sqlitereplica | show

step "delete the pod; its volume goes with it (15 seconds)"
lose_the_pod graceful

step "delete the pod by force: Kubernetes forgets it at once, and starts the next while it may still run (15 seconds)"
lose_the_pod forced --grace-period=0 --force

step "what was lost"
print_table
look_around
echo
if [ "$(lost graceful)" != 0 ]; then
  note "the graceful delete lost rows" && exit 1
elif [ "$(lost forced)" -gt "$MAY_LOSE" ]; then
  note "the forced delete lost more than $MAY_LOSE rows (1 s syncInterval and one PUT, at 10 rows a second)" && exit 1
fi
echo "It worked: the pod lost its volume twice and came back with its rows (forced: at most $MAY_LOSE may be lost, $(lost forced) were)."
