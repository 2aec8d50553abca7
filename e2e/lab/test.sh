#!/usr/bin/env bash
# Proves that the lab works, and that it goes without a trace: after lab-down, after kill -9 and Ctrl-C in the middle of its
# start, with a frozen node, with a guest still inside, with a second lab beside it. About two minutes.
#
#   test.sh [WORDS]    all cases, or those whose name contains WORDS
#
# It uses labs of its own (ids lbt and lbu), so a lab that you have up stays as it is. Do not start or stop others meanwhile.
set -euo pipefail
cd "$(dirname "$0")"
. lib/test-traces.sh

ONLY=${1:-} PASSED=0 FAILED=0
export LAB=native LAB_ID=lbt LAB_DIR=/tmp/lb-lab-test LAB_LEVEL=nodes LAB_NODES=1
SECOND=(env LAB_ID=lbu LAB_DIR=/tmp/lb-lab-test2)
LOG=$(mktemp)
BEFORE=$(mktemp)
trap 'rm -f "$LOG" "$BEFORE"; "${SECOND[@]}" ./down.sh 2>/dev/null; ./down.sh 2>/dev/null' EXIT

fail() {
  echo "    $*"
  return 1
}
lab_make() { make --no-print-directory -C ../.. "$@"; }
inside() { ./netns.sh "$@"; }
# As a terminal starts a command: in a process group of its own, and heeding Ctrl-C, which a script's background jobs ignore.
in_own_group() { exec setsid env --default-signal "$@"; }

# check NAME FUNCTION: runs one case in a shell of its own, where the first command that fails ends it.
check() {
  local began=$SECONDS
  [[ $1 == *"$ONLY"* ]] || return 0
  set +e
  (
    set -e
    "$2"
  ) >"$LOG" 2>&1
  local code=$?
  set -e
  if [ "$code" = 0 ]; then
    echo "ok   $1 ($((SECONDS - began)) s)"
    PASSED=$((PASSED + 1))
  else
    echo "FAIL $1 ($((SECONDS - began)) s)"
    sed 's/^/    /' "$LOG"
    FAILED=$((FAILED + 1))
    "${SECOND[@]}" ./down.sh 2>/dev/null || :
    ./down.sh 2>/dev/null || :
  fi
}

# put_new KEY: creates an object if it is not there; prints the HTTP status. The keys go to curl by its standard input.
put_new() {
  # shellcheck disable=SC2016 # for the inner shell
  inside bash -c '. "$LAB_S3_CREDENTIALS" && curl --silent --output /dev/null --write-out "%{http_code}" --config - \
    --request PUT --data-binary hello --header "If-None-Match: *" --aws-sigv4 "aws:amz:$LAB_S3_REGION:s3" \
    --header "x-amz-content-sha256: $(printf hello | sha256sum | cut -d" " -f1)" "$LAB_S3_ENDPOINT/$LAB_S3_BUCKET/$1" \
    <<<"user = \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\""' - "$1"
}

bucket_creates_once() {
  local first again
  first=$(put_new once)
  again=$(put_new once)
  [ "$first $again" = "200 412" ] || fail "conditional create answered $first, then $again, instead of 200, then 412"
}

node_is_ready() {
  inside kubectl wait node/node1 --for=condition=Ready --timeout=30s
}

pod_reaches_services_names_and_s3() {
  # shellcheck disable=SC2016 # for the shell in the pod
  inside kubectl run probe --image=lab.local/busybox:1 --restart=Never --command -- sh -c \
    'nslookup s3.lab.local && nslookup kubernetes.default.svc.cluster.local &&
     nc -w 3 "$KUBERNETES_SERVICE_HOST" "$KUBERNETES_SERVICE_PORT" </dev/null && nc -w 3 s3.lab.local 7070 </dev/null &&
     ! nc -w 3 192.0.2.1 80 </dev/null'
  inside kubectl wait pod/probe --for=jsonpath='{.status.phase}'=Succeeded --timeout=30s || {
    inside kubectl logs probe
    fail "the pod could not reach what it should"
  }
  inside kubectl logs probe | grep s3.lab.local # the kubelet serves logs, under a certificate that the API server trusts
}

pod_writes_to_a_volume() {
  ./volumes.sh 1 1
  inside kubectl apply -f - <<'YAML'
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1000, runAsNonRoot: true, fsGroup: 1000}
  containers: [{name: writer, image: "lab.local/busybox:1", command: [touch, /data/file], volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
YAML
  inside kubectl wait pod/writer --for=jsonpath='{.status.phase}'=Succeeded --timeout=30s
  [ -e "$LAB_DIR/node1/pv/1/file" ] || fail "what the pod wrote is not in the volume"
}

traces_show_what_is_planted() { each_plant_shows; }

comes_up_works_and_goes() {
  lab_make lab-up
  node_is_ready
  bucket_creates_once
  pod_reaches_services_names_and_s3
  pod_writes_to_a_volume
  ! grep -rqF "$(sed -n 's/^AWS_SECRET_ACCESS_KEY=//p' "$LAB_DIR/s3.env")" /proc/[0-9]*/cmdline "$LAB_DIR/cmd" "$LAB_DIR/logs" ||
    fail "the S3 secret is in arguments or logs"
  lab_make lab-up # again: says so, and changes nothing
  node_is_ready
  lab_make lab-down
  leaves_no_trace
  lab_make lab-down # again: nothing to do
}

two_nodes_and_their_faults() {
  LAB_NODES=2 lab_make lab-up
  inside kubectl wait node/node1 node/node2 --for=condition=Ready --timeout=30s
  ./node.sh kill 2
  inside kubectl wait node/node2 --for=condition=Ready=Unknown --timeout=60s
  ./node.sh up 2
  ./proc.sh kill kube-apiserver
  ./proc.sh start kube-apiserver
  inside kubectl wait node/node1 node/node2 --for=condition=Ready --timeout=60s
  ./node.sh freeze 1
  ./proc.sh pause etcd
  lab_make lab-down
  leaves_no_trace
}

ends_guests_too() {
  local guest
  lab_make lab-up LAB_LEVEL=api
  ./netns.sh sleep 1000 &
  guest=$!
  for _ in {1..100}; do
    [ "$(readlink "/proc/$guest/ns/net")" != "$(cat "$LAB_DIR/netns")" ] || break
    sleep 0.1
  done
  lab_make lab-down
  leaves_no_trace
}

two_labs_side_by_side() {
  lab_make lab-up
  "${SECOND[@]}" make --no-print-directory -C ../.. lab-up
  lab_make lab-down
  "${SECOND[@]}" ./netns.sh kubectl run probe --image=lab.local/busybox:1 --restart=Never --command -- true
  "${SECOND[@]}" ./netns.sh kubectl wait pod/probe --for=jsonpath='{.status.phase}'=Succeeded --timeout=30s ||
    fail "the second lab suffered when the first went down"
  "${SECOND[@]}" ./down.sh
  leaves_no_trace
}

killed_in_the_middle() { # killed_in_the_middle SECONDS WHOM: WHOM is `script` or `group`
  local up
  in_own_group ./up.sh &
  up=$!
  sleep "$1"
  [ ! -e "$LAB_DIR/ready" ] || fail "too late, the lab is up"
  case $2 in
    script) kill -KILL "$up" ;;
    group) kill -KILL -- "-$up" ;;
  esac
  lab_make lab-down
  sleep 1 # whoever survived would go on now
  leaves_no_trace
}
up_script_killed() { killed_in_the_middle 2 script; }
up_group_killed_at_once() { killed_in_the_middle 0.4 group; }
up_group_killed_late() { killed_in_the_middle 4 group; }

starts_over_after_a_crash() {
  local up
  in_own_group ./up.sh &
  up=$!
  sleep 3
  kill -KILL -- "-$up"
  # shellcheck disable=SC2016,SC2031 # for the inner shell
  bash -c '. lib/lab.sh && cg_kill "$LAB_ID"' # as after a crash of everything
  lab_make lab-up LAB_LEVEL=api
  lab_make lab-down
  leaves_no_trace
}

interrupted() {
  local up code=0
  in_own_group make --no-print-directory -C ../.. lab-up &
  up=$!
  sleep 2
  [ ! -e "$LAB_DIR/ready" ] || fail "too late, the lab is up"
  kill -INT -- "-$up"
  wait "$up" || code=$?
  [ "$code" != 0 ] || fail "an interrupted start said that all is well"
  leaves_no_trace # without lab-down
}

[ "$(id -u)" = 0 ] || { echo "FAIL the lab and its tests need root" && exit 1; }
./packages.sh
./tools.sh >/dev/null
./down.sh 2>/dev/null
"${SECOND[@]}" ./down.sh 2>/dev/null
traces >"$BEFORE"

check "what we look for is seen when it is there" traces_show_what_is_planted
check "it comes up, works, and goes" comes_up_works_and_goes
check "two nodes, a power cut, a restart, a frozen node, and gone" two_nodes_and_their_faults
check "who is still inside is ended" ends_guests_too
check "two labs side by side do not disturb each other" two_labs_side_by_side
check "kill -9 of up.sh after 2 s" up_script_killed
check "kill -9 of all of up.sh after 0.4 s" up_group_killed_at_once
check "kill -9 of all of up.sh after 4 s" up_group_killed_late
check "a crashed lab is cleared away by the next start" starts_over_after_a_crash
check "Ctrl-C on make lab-up after 2 s" interrupted

echo "lab: $PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
