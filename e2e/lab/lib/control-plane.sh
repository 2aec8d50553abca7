# shellcheck shell=bash
# The control plane and the lab's services, as processes on node 1's bridge: etcd, API server, controller manager,
# scheduler, kube-proxy, CoreDNS, S3.

# make_bridge N: made before the processes that listen on its address; the CNI plugin adopts it.
make_bridge() {
  local bridge=$LAB_ID$1
  ip link show "$bridge" >/dev/null 2>&1 && return 0
  ip link add "$bridge" type bridge
  ip address add "$(gateway "$1")/24" dev "$bridge"
  ip link set "$bridge" up
}

make_network() {
  ip link set lo up
  make_bridge 1
  # kube-proxy rewrites Service addresses only on the way out, and without a route there is no way out.
  ip route replace "$SERVICES" dev "${LAB_ID}1"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  # pod -> Service -> pod on one bridge must pass the rules too
  echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
}

api_ready() { curl -sf -m 2 --cacert "$PKI/ca.crt" "https://$1/readyz"; }
default_namespace() { kc get namespace default; }
default_account() { kc get serviceaccount default; }

start_etcd() {
  local url=http://127.0.0.1:$ETCD_PORT peer=http://127.0.0.1:$((ETCD_PORT + 1)) progress
  # The API server needs progress notices; up to 3.4 the flag was experimental.
  case $(etcd --version | sed -n 's/^etcd Version: //p') in
    3.[0-4].*) progress=--experimental-watch-progress-notify-interval=5s ;;
    *) progress=--watch-progress-notify-interval=5s ;;
  esac
  spawn etcd control etcd --name lab --data-dir "$LAB_DIR/etcd" --log-level warn "$progress" \
    --listen-client-urls "$url" --advertise-client-urls "$url" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "lab=$peer"
  wait_for 30 "etcd" etcd curl -sf -m 1 "$url/health"
}

start_api_server() {
  local address
  address=$(gateway 1)
  make_certificate apiserver "/CN=kube-apiserver" "IP:$address,IP:$SERVICE_API,IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  make_certificate apiserver-kubelet-client "/O=system:masters/CN=kube-apiserver-kubelet-client"
  make_kubeconfig admin "/O=system:masters/CN=admin"
  spawn kube-apiserver control kube-apiserver \
    --etcd-servers="http://127.0.0.1:$ETCD_PORT" \
    --bind-address="$address" --advertise-address="$address" --secure-port="$API_PORT" \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" \
    --service-cluster-ip-range="$SERVICES" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" \
    --kubelet-client-key="$PKI/apiserver-kubelet-client.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --default-not-ready-toleration-seconds="$LAB_TOLERATION" \
    --default-unreachable-toleration-seconds="$LAB_TOLERATION" \
    --profiling=false --shutdown-delay-duration=0s
  wait_for 90 "kube-apiserver to be ready" kube-apiserver api_ready "$address:$API_PORT"
  wait_for 30 "namespace default" kube-apiserver default_namespace
}

start_controllers() {
  make_kubeconfig controllers "/CN=system:kube-controller-manager"
  make_kubeconfig scheduler "/CN=system:kube-scheduler"
  spawn kube-controller-manager control kube-controller-manager --kubeconfig "$KUBE/controllers.kubeconfig" \
    --leader-elect=false --secure-port=0 --use-service-account-credentials=true \
    --service-account-private-key-file "$PKI/sa.key" --root-ca-file "$PKI/ca.crt" \
    --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" \
    --allocate-node-cidrs=false --node-monitor-period=1s --node-monitor-grace-period="${LAB_GRACE}s" \
    --node-startup-grace-period=30s --kube-api-qps=200 --kube-api-burst=400 --controllers='*'
  spawn kube-scheduler control kube-scheduler --kubeconfig "$KUBE/scheduler.kubeconfig" --leader-elect=false \
    --secure-port=0 --kube-api-qps=200 --kube-api-burst=400
}

# One kube-proxy serves all nodes, because all bridges are in one network namespace.
start_proxy() {
  make_kubeconfig proxy "/CN=system:kube-proxy"
  cat >"$LAB_DIR/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: node1
bindAddress: $(gateway 1)
healthzBindAddress: ""
metricsBindAddress: 127.0.0.1:10249
clientConnection: {kubeconfig: $KUBE/proxy.kubeconfig}
clusterCIDR: $NET.0.0/16
nodePortAddresses: [$NET.0.0/16]
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {syncPeriod: 30s, minSyncPeriod: 100ms}
YAML
  spawn kube-proxy control kube-proxy --config "$LAB_DIR/kube-proxy.yaml"
}

# Three blocks, because in one block `template` would answer before `kubernetes` and `hosts` are asked.
# Nothing is forwarded: a name that the lab does not know does not exist.
start_dns() {
  make_kubeconfig coredns "/CN=lab:coredns"
  kc create clusterrolebinding lab-coredns --clusterrole=view --user=lab:coredns >/dev/null
  cat >"$LAB_DIR/Corefile" <<CORE
cluster.local {
  bind $(gateway 1)
  errors
  kubernetes {
    kubeconfig $KUBE/coredns.kubeconfig
    ttl 1
  }
}
lab.local {
  bind $(gateway 1)
  hosts {
    $(gateway 1) $S3_NAME
  }
}
. {
  bind $(gateway 1)
  template ANY ANY {
    rcode NXDOMAIN
  }
}
CORE
  spawn coredns control coredns -conf "$LAB_DIR/Corefile" -dns.port 53
}

# A bucket is a directory. The keys reach the server by its environment: arguments are for all to see.
start_s3() {
  mkdir -p "$LAB_DIR/s3/$LAB_S3_BUCKET"
  write_s3_keys
  # shellcheck disable=SC2016 # for the inner shell
  spawn s3 control bash -c '. "$1"; export ROOT_ACCESS_KEY=$AWS_ACCESS_KEY_ID ROOT_SECRET_KEY=$AWS_SECRET_ACCESS_KEY
    exec versitygw --port "$2" --region "$3" --quiet posix "$4"' \
    - "$LAB_S3_CREDENTIALS" "$(gateway 1):$S3_PORT" "$LAB_S3_REGION" "$LAB_DIR/s3"
}
s3_answers() { curl -s -o /dev/null -m 2 "http://$(gateway 1):$S3_PORT/"; } # 403: we did not sign, but it answers
