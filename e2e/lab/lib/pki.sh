# shellcheck shell=bash
# Certificates and kubeconfigs: one authority per lab, P-256, openssl only. Nothing here outlives the lab.

make_authority() {
  mkdir -p "$PKI" "$KUBE"
  [ ! -s "$PKI/sa.pub" ] || return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/ca.key"
  openssl req -x509 -new -key "$PKI/ca.key" -subj "/CN=$LAB_ID-ca" -days 365 -out "$PKI/ca.crt" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
  openssl genrsa -out "$PKI/sa.key" 2048 2>/dev/null # ServiceAccount tokens
  openssl rsa -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub" 2>/dev/null
}

# make_certificate NAME SUBJECT [NAMES]: for server and client use; RBAC knows the usual subjects already.
make_certificate() {
  local name=$1 subject=$2 names=${3:-}
  [ ! -s "$PKI/$name.crt" ] || return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$name.key"
  {
    echo "basicConstraints=CA:FALSE"
    echo "keyUsage=digitalSignature,keyEncipherment"
    echo "extendedKeyUsage=serverAuth,clientAuth"
    [ -z "$names" ] || echo "subjectAltName=$names"
  } >"$PKI/$name.ext"
  openssl req -new -key "$PKI/$name.key" -subj "$subject" -out "$PKI/$name.csr"
  openssl x509 -req -in "$PKI/$name.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -set_serial "0x$(openssl rand -hex 8)" \
    -days 365 -extfile "$PKI/$name.ext" -out "$PKI/$name.crt" 2>/dev/null
}

# make_kubeconfig NAME SUBJECT: with the client certificate inside.
make_kubeconfig() {
  local name=$1
  make_certificate "$name" "$2"
  cat >"$KUBE/$name.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://$(gateway 1):$API_PORT", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}}]
users: [{name: $name, user: {client-certificate-data: $(base64 -w0 "$PKI/$name.crt"), client-key-data: $(base64 -w0 "$PKI/$name.key")}}]
contexts: [{name: lab, context: {cluster: lab, user: $name}}]
current-context: lab
YAML
}
