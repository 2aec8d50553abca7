#!/usr/bin/env bash
# Installs what build.sh has built into the running lab, as a user would: images into the nodes, Helm charts into the cluster.
# Again after a change: the operator is rolled out anew when its image has changed.
. "$(dirname "$0")/lab/lib/lab.sh"
NAMESPACE=lifeboat-system
CHARTS=$(cd "$LAB_SRC/../../charts" && pwd)
: "${LIFEBOAT_BINARIES:=$LAB_SRC/../../target/$(uname -m)-unknown-linux-gnu/debug}"
: "${LAB_IMAGE:=lab.local/lifeboat:dev}" "${LAB_OPERATOR_IMAGE:=lab.local/lifeboat-operator:dev}"

inside() { "$LAB_SRC/netns.sh" "$@"; }

load_images() {
  local root
  "$LAB_SRC/images.sh" ours
  root=$(mktemp -d)
  chmod 0755 "$root"
  strip -o "$root/app" "$LIFEBOAT_BINARIES/lifeboat-example-app"
  "$LAB_SRC/images.sh" add lab.local/app:dev "$root" '["/app"]' 65532:65532
  rm -rf "$root"
}

# release NAME CHART FLAGS…
release() {
  local name=$1 chart=$2
  shift 2
  inside helm upgrade --install "$name" "$CHARTS/$chart" --namespace "$NAMESPACE" --create-namespace \
    --wait --timeout 120s "$@" >/dev/null || explain "$name"
}

explain() {
  inside kubectl -n "$NAMESPACE" describe pods >&2 || :
  inside kubectl -n "$NAMESPACE" logs --tail=40 --selector=app.kubernetes.io/name=lifeboat-operator >&2 || :
  die "helm could not install $1"
}

build_id() { sha256sum "$LIFEBOAT_BINARIES/lifeboat-operator" | cut -c1-16; }

BEGAN=$(now_ms)
[ -e "$LAB_DIR/ready" ] || die "no lab is up in $LAB_DIR (start one: make lab-up)"
[ "$LAB" = existing ] || load_images
release lifeboat-crds lifeboat-crds
release lifeboat lifeboat \
  --set "image.repository=${LAB_OPERATOR_IMAGE%:*},image.tag=${LAB_OPERATOR_IMAGE##*:}" \
  --set "sidecar.image.repository=${LAB_IMAGE%:*},sidecar.image.tag=${LAB_IMAGE##*:}" \
  --set-string "podAnnotations.lifeboat\.dev/build=$(build_id)"
say "Lifeboat is installed in namespace $NAMESPACE ($(($(now_ms) - BEGAN)) ms)"
