#!/usr/bin/env bash
# image.sh REF DIRECTORY OUT.tar [ENTRYPOINT [USER]]: an image of one layer from a directory, FROM scratch, without Docker.
#
# ENTRYPOINT is a JSON list ('["/app","serve"]'), USER is uid:gid. The result is a docker-archive that `ctr images import`
# and `kind load image-archive` take. Equal input gives an equal file, byte for byte.
# REF needs a dot in its host part (lab.local/app:dev), or containerd takes it for docker.io/library/….
. "$(dirname "$0")/lib/lab.sh"
[ $# -ge 3 ] || { sed -n '2,6s/^# \?//p' "$0" >&2 && exit 2; }
REF=$1 DIRECTORY=$2 OUT=$3 ENTRYPOINT=${4:-null} IMAGE_USER=${5:-}

plain_tar() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu "$@"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }

case $(uname -m) in
  x86_64) ARCH=amd64 ;;
  aarch64) ARCH=arm64 ;;
  *) die "no image architecture is known for $(uname -m)" ;;
esac
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

plain_tar -C "$DIRECTORY" -cf "$WORK/layer.tar" .
jq -nc --arg layer "sha256:$(digest "$WORK/layer.tar")" --arg user "$IMAGE_USER" --arg arch "$ARCH" --argjson entrypoint "$ENTRYPOINT" '
  {architecture: $arch, os: "linux", created: "1970-01-01T00:00:00Z",
   config: {Entrypoint: $entrypoint, User: $user, Env: ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"], WorkingDir: "/"},
   rootfs: {type: "layers", diff_ids: [$layer]}}' >"$WORK/config"
CONFIG=$(digest "$WORK/config").json
mv "$WORK/config" "$WORK/$CONFIG"
jq -nc --arg config "$CONFIG" --arg ref "$REF" '[{Config: $config, RepoTags: [$ref], Layers: ["layer.tar"]}]' >"$WORK/manifest.json"
mkdir -p "$(dirname "$OUT")"
plain_tar -C "$WORK" -cf "$OUT.part" manifest.json "$CONFIG" layer.tar
mv "$OUT.part" "$OUT"
