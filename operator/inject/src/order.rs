//! Decides where among the init containers ours belong.
//!
//! After every network proxy: init containers start in order and end in reverse, so a proxy that started after the
//! sidecar would be gone when the sidecar stores the last commits. Before every init container of the application that
//! mounts a protected volume: a migration must find the restored database, and must be replicated.

use k8s_openapi::api::core::v1::{Container, Pod};
use lifeboat_api::Reason;

use crate::databases::Placed;
use crate::{Refusal, is_ours};

/// Init containers of service meshes and pod networks, by the names their injectors give.
const NETWORK_CONTAINERS: [&str; 12] = [
    "istio-init",
    "istio-validation",
    "istio-proxy",
    "linkerd-init",
    "linkerd-network-validator",
    "linkerd-proxy",
    "kuma-init",
    "kuma-sidecar",
    "kuma-validation",
    "consul-connect-inject-init",
    "consul-dataplane",
    "osm-init",
];

/// The index of our first container among the init containers that are not ours; `None` with a refusal if there is none.
pub(crate) fn position(pod: &Pod, placed: &Placed, refusals: &mut Vec<Refusal>) -> Option<usize> {
    let init = pod.spec.as_ref()?.init_containers.iter().flatten();
    let others: Vec<&Container> = init.filter(|container| !is_ours(&container.name)).collect();
    let network = others.iter().rposition(|container| NETWORK_CONTAINERS.contains(&container.name.as_str()));
    let position = network.map_or(0, |index| index + 1);
    let early = others.iter().take(position).find(|container| {
        placed.is_mounted_by(container) && !NETWORK_CONTAINERS.contains(&container.name.as_str())
    });
    match (early, network.and_then(|index| others.get(index))) {
        (Some(early), Some(network)) => {
            refusals.push(Refusal::new(
                Reason::InitOrderConflict,
                format!(
                    "init container {} uses a database's volume but runs before the network proxy {}, which has to run \
                     before the restore; list {} after it",
                    early.name, network.name, early.name
                ),
            ));
            None
        }
        (Some(_) | None, _) => Some(position),
    }
}
