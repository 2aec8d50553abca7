//! The volumes that our containers bring along.

use k8s_openapi::api::core::v1::PodSpec;
use lifeboat_api::{Reason, SqliteReplica};
use serde_json::{Value, json};

use crate::user::User;
use crate::{Refusal, is_ours};

/// Hand-over file, control socket and pending data of our two containers.
pub(crate) const RUN: &str = "lifeboat-run";

/// The bucket's access key, as files.
pub(crate) const CREDENTIALS: &str = "lifeboat-credentials";

/// Nothing at all: it is mounted over the token of the pod's service account.
pub(crate) const NO_TOKEN: &str = "lifeboat-no-token";

/// What the run volume may hold at most. The kubelet evicts the pod beyond it, so it is far above what is ever written.
const RUN_SIZE_LIMIT: &str = "256Mi";

/// Refuses volumes of the application that have one of our names: ours would take their place.
///
/// Once our containers are in the pod, the volumes are ours, but even then nobody else may mount them: one of them holds
/// the bucket's key.
pub(crate) fn guard(spec: &PodSpec) -> Vec<Refusal> {
    let all = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let was_injected = spec.init_containers.iter().flatten().any(|container| is_ours(&container.name));
    let mut refusals = Vec::new();
    for name in [RUN, CREDENTIALS, NO_TOKEN] {
        let user = all()
            .filter(|container| !is_ours(&container.name))
            .find(|container| container.volume_mounts.iter().flatten().any(|mount| mount.name == name));
        let exists = spec.volumes.iter().flatten().any(|volume| volume.name == name);
        let who = match user {
            Some(container) => format!(", and container {} mounts it", container.name),
            None if exists && !was_injected => String::new(),
            None => continue,
        };
        refusals.push(Refusal::new(
            Reason::NameReserved,
            format!(
                "the name of volume {name} is reserved for Lifeboat{who}; rename the application's volume"
            ),
        ));
    }
    refusals
}

pub(crate) fn build(replica: &SqliteReplica, user: &User) -> Vec<Value> {
    vec![
        json!({ "name": RUN, "emptyDir": { "sizeLimit": RUN_SIZE_LIMIT } }),
        json!({
            "name": CREDENTIALS,
            "projected": {
                "defaultMode": credentials_mode(user),
                "sources": [{ "secret": secret(replica) }],
            },
        }),
        json!({ "name": NO_TOKEN, "emptyDir": { "sizeLimit": "1Mi" } }),
    ]
}

/// The kubelet writes these files as root and gives them to the pod's group if there is one. Without a group only the
/// mode for others lets us read them; no container but ours mounts the volume.
const fn credentials_mode(user: &User) -> u32 {
    if user.has_fs_group || user.is_root() { 0o440 } else { 0o444 }
}

fn secret(replica: &SqliteReplica) -> Value {
    let secret = &replica.spec.store.s3.auth.secret_ref;
    let mut items = vec![
        json!({ "key": secret.access_key_id_key, "path": "access-key-id" }),
        json!({ "key": secret.secret_access_key_key, "path": "secret-access-key" }),
    ];
    if let Some(key) = &secret.session_token_key {
        items.push(json!({ "key": key, "path": "session-token" }));
    }
    json!({ "name": secret.name, "items": items })
}
