# shellcheck shell=bash
# The configuration files of node N: CNI, containerd, kubelet. `N` and `HOME_N` (its folder) are set by node.sh.

write_cni_config() {
  # No default route and no masquerading: a pod that tries to leave the lab is told "unreachable" at once.
  cat >"$HOME_N/cni/net.d/10-lab.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "$LAB_ID-node$N", "plugins": [{
  "type": "bridge", "bridge": "$LAB_ID$N", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "$HOME_N/cni/ipam",
    "ranges": [[{"subnet": "$NET.$N.0/24", "rangeStart": "$NET.$N.10"}]],
    "routes": [{"dst": "$NET.0.0/16"}, {"dst": "$SERVICES"}]}}]}
JSON
}

# restrict_oom_score_adj: without CAP_SYS_RESOURCE runc may not lower the value that the kubelet asks for, and no
# sandbox would start.
write_containerd_config() {
  cat >"$HOME_N/containerd.toml" <<TOML
version = 2
root = "$HOME_N/containerd/root"
state = "$HOME_N/containerd/state"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "$HOME_N/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "lab.local/pause:1"
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$(cni_plugins)"
    conf_dir = "$HOME_N/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "$HOME_N/runc"
TOML
}

# cgroupRoot: one per node, or two kubelets would remove each other's pods. resolvConf: an empty file, or pods would see
# the machine's resolver. volumeStatsAggPeriod: an emptyDir over its sizeLimit is evicted in seconds instead of a minute.
write_kubelet_config() {
  : >"$HOME_N/resolv.conf"
  cat >"$HOME_N/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $(gateway "$N")
port: 10250
readOnlyPort: 0
healthzBindAddress: $(gateway "$N")
healthzPort: 10248
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet-node$N.crt
tlsPrivateKeyFile: $PKI/kubelet-node$N.key
containerRuntimeEndpoint: unix://$HOME_N/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$LAB_ID/node$N
cgroupsPerQOS: true
enforceNodeAllocatable: [pods]
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
protectKernelDefaults: false
resolvConf: $HOME_N/resolv.conf
clusterDomain: cluster.local
clusterDNS: [$(gateway 1)]
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
podLogsDir: $HOME_N/pods-log
volumePluginDir: $HOME_N/plugins
maxPods: 200
syncFrequency: 10s
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 10s
nodeLeaseDurationSeconds: $LAB_GRACE
registryPullQPS: 0
eventRecordQPS: 0
kubeAPIQPS: 200
kubeAPIBurst: 400
volumeStatsAggPeriod: 5s
shutdownGracePeriod: 0s
logging: {verbosity: 1}
YAML
}

cni_plugins() {
  local folder
  for folder in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
    [ ! -x "$folder/bridge" ] || { echo "$folder" && return; }
  done
}
