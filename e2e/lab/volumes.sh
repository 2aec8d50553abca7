#!/usr/bin/env bash
# volumes.sh NODE [COUNT]: COUNT (default 10) empty volumes on node NODE, in StorageClass lab-local, the default class.
#
# They are static local volumes: tied to their node, and fsGroup applies, as with real disks. Make them before the claims
# (the scheduler's retry costs 9 s). A used one is spent; a further call adds COUNT new ones.
. "$(dirname "$0")/lib/lab.sh"
[[ ${1:-} =~ ^[1-9]$ && ${2:-10} =~ ^[0-9]+$ ]] || { echo "usage: volumes.sh NODE [COUNT]" >&2 && exit 2; }
enter_lab "$@"
N=$1 COUNT=${2:-10}

storage_class() {
  cat <<YAML
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: lab-local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
YAML
}

volume() { # volume NAME DIRECTORY
  cat <<YAML
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: $1, labels: {lab.local/node: node$N}}
spec:
  storageClassName: lab-local
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {path: $2}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node$N]}]}]}}
YAML
}

# Numbers go on where the last call ended, so that no data of an earlier claim is ever handed out again.
mkdir -p "$LAB_DIR/node$N/pv"
LAST=$(find "$LAB_DIR/node$N/pv" -mindepth 1 -maxdepth 1 | wc -l)
{
  storage_class
  for i in $(seq $((LAST + 1)) $((LAST + COUNT))); do
    mkdir -p "$LAB_DIR/node$N/pv/$i"
    volume "node$N-$i" "$LAB_DIR/node$N/pv/$i"
  done
} | kc apply -f - >/dev/null
