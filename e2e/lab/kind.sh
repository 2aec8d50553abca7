#!/usr/bin/env bash
# LAB=kind: the lab on Docker and kind instead of our own processes. up.sh and down.sh come here by themselves.
#
#   kind.sh up      cluster, images, S3 server as a pod
#   kind.sh down    deletes the cluster
#
# Written for machines with Docker and kind, and never run on the one it was written on, which has neither.
. "$(dirname "$0")/lib/lab.sh"
. "$LAB_SRC/lib/lab-env.sh"

cluster_config() {
  local n
  printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n'
  printf '  extraPortMappings: [{containerPort: 30070, hostPort: %s, listenAddress: 127.0.0.1}]\n' "$S3_PORT"
  for n in $(seq 2 "$LAB_NODES"); do echo "- role: worker # node $n"; done
}

s3_objects() {
  cat <<YAML
apiVersion: v1
kind: Service
metadata: {name: s3, namespace: lab-s3}
spec: {type: NodePort, selector: {app: s3}, ports: [{port: $S3_PORT, nodePort: 30070}]}
---
apiVersion: v1
kind: Pod
metadata: {name: s3, namespace: lab-s3, labels: {app: s3}}
spec:
  containers:
  - name: s3
    image: lab.local/versitygw:1
    args: [--port, ":$S3_PORT", --region, $LAB_S3_REGION, --quiet, posix, /data]
    env:
    - {name: ROOT_ACCESS_KEY, valueFrom: {secretKeyRef: {name: s3, key: AWS_ACCESS_KEY_ID}}}
    - {name: ROOT_SECRET_KEY, valueFrom: {secretKeyRef: {name: s3, key: AWS_SECRET_ACCESS_KEY}}}
    volumeMounts: [{name: bucket, mountPath: /data/$LAB_S3_BUCKET}] # a bucket is a folder
  volumes: [{name: bucket, emptyDir: {}}]
YAML
}

start_s3_pod() {
  local root
  root=$(mktemp -d)
  chmod 0755 "$root"
  cp -L "$LAB_BIN/versitygw" "$root/versitygw"
  "$LAB_SRC/image.sh" lab.local/versitygw:1 "$root" "$LAB_DIR/images/versitygw.tar" '["/versitygw"]'
  rm -rf "$root"
  kind load image-archive "$LAB_DIR/images/versitygw.tar" --name "$LAB_ID"
  kc create namespace lab-s3
  kc --namespace lab-s3 create secret generic s3 --from-env-file "$LAB_S3_CREDENTIALS"
  s3_objects | kc apply -f -
  kc --namespace lab-s3 wait pod/s3 --for=condition=Ready --timeout=120s
}

up() {
  [ ! -e "$LAB_DIR/ready" ] || { say "already up in $LAB_DIR" && exit 0; }
  command -v docker >/dev/null || die "LAB=kind needs docker in PATH"
  command -v kind >/dev/null || die "LAB=kind needs kind in PATH"
  docker info >/dev/null || die "LAB=kind needs a Docker daemon that answers"
  LAB_BIN=$("$LAB_SRC/tools.sh")
  PATH=$LAB_BIN:$PATH
  must_be_free
  make_state_folder
  LAB_S3_ENDPOINT=http://s3.lab-s3.svc.cluster.local:$S3_PORT LAB_S3_ENDPOINT_OUTSIDE=http://127.0.0.1:$S3_PORT
  LAB_S3_BUCKET=lifeboat LAB_S3_REGION=us-east-1 LAB_S3_CREDENTIALS=$LAB_DIR/s3.env
  write_lab_env
  mkdir "$LAB_DIR"/{images,kube,tmp}
  write_s3_keys
  cluster_config | kind create cluster --name "$LAB_ID" --kubeconfig "$KUBE/admin.kubeconfig" --config - --wait 120s
  start_s3_pod
  touch "$LAB_DIR/ready"
}

case ${1:-} in
  up) up ;;
  down)
    kind delete cluster --name "$LAB_ID" --kubeconfig "$KUBE/admin.kubeconfig"
    rm -rf --one-file-system "$LAB_DIR"
    ;;
  *) sed -n '2,7s/^# \?//p' "$0" >&2 && exit 2 ;;
esac
