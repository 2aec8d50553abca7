# shellcheck shell=bash
# What a lab tells its callers: $LAB_DIR/lab.env, and the keys of its S3 server.

# For `source` and for reading line by line: no quotes, no spaces, no secrets.
write_lab_env() {
  cat >"$LAB_DIR/lab.env" <<ENV
LAB=$LAB
LAB_DIR=$LAB_DIR
LAB_ID=$LAB_ID
LAB_LEVEL=$LAB_LEVEL
LAB_NODES=$LAB_NODES
LAB_GRACE=$LAB_GRACE
LAB_TOLERATION=$LAB_TOLERATION
LAB_BIN=$LAB_BIN
LAB_IMAGE=${LAB_IMAGE:-lab.local/lifeboat:dev}
LAB_OPERATOR_IMAGE=${LAB_OPERATOR_IMAGE:-lab.local/lifeboat-operator:dev}
LAB_S3_ENDPOINT=$LAB_S3_ENDPOINT
LAB_S3_ENDPOINT_OUTSIDE=${LAB_S3_ENDPOINT_OUTSIDE:-$LAB_S3_ENDPOINT}
LAB_S3_BUCKET=$LAB_S3_BUCKET
LAB_S3_REGION=$LAB_S3_REGION
LAB_S3_CREDENTIALS=$LAB_S3_CREDENTIALS
KUBECONFIG=$KUBE/admin.kubeconfig
ENV
}

# New keys for every lab, in a file that only its owner can read.
write_s3_keys() {
  (
    umask 077
    printf 'AWS_ACCESS_KEY_ID=lab%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$(openssl rand -hex 8)" "$(openssl rand -hex 20)" \
      >"$LAB_S3_CREDENTIALS"
  )
}

must_be_free() {
  [ ! -e "$LAB_DIR" ] || [ -z "$(find "$LAB_DIR" -mindepth 1 -maxdepth 1 -print -quit)" ] ||
    die "$LAB_DIR is not empty and not a lab's; choose another LAB_DIR"
}

make_state_folder() {
  mkdir -p "$LAB_DIR"
  chmod 0700 "$LAB_DIR"
}
