//! A replica, an operator and pods to try them on.

use lifeboat_api::{
    Database, S3Auth, S3Store, SecretRef, SqliteReplica, SqliteReplicaSpec, Store, WorkloadKind, WorkloadRef,
};
use lifeboat_inject::Defaults;
use serde_json::{Value, json};

pub(crate) fn replica() -> SqliteReplica {
    let mut replica = SqliteReplica::new(
        "shop",
        SqliteReplicaSpec {
            workload_ref: WorkloadRef {
                api_version: "apps/v1".to_owned(),
                kind: WorkloadKind::StatefulSet,
                name: "shop".to_owned(),
            },
            databases: vec![database("main", "/data/app.db")],
            store: Store {
                s3: S3Store {
                    bucket: "acme-sqlite".to_owned(),
                    prefix: None,
                    region: Some("eu-central-1".to_owned()),
                    endpoint: Some("http://s3.lab.local:7070".to_owned()),
                    allow_insecure_endpoint: true,
                    force_path_style: None,
                    auth: S3Auth {
                        secret_ref: SecretRef {
                            name: "s3-credentials".to_owned(),
                            access_key_id_key: "AWS_ACCESS_KEY_ID".to_owned(),
                            secret_access_key_key: "AWS_SECRET_ACCESS_KEY".to_owned(),
                            session_token_key: None,
                        },
                    },
                },
            },
            replication: lifeboat_api::Replication::default(),
            retention: None,
        },
    );
    replica.metadata.namespace = Some("prod".to_owned());
    replica
}

pub(crate) fn database(name: &str, path: &str) -> Database {
    Database { name: name.to_owned(), path: path.to_owned(), container: None }
}

pub(crate) fn defaults() -> Defaults {
    Defaults {
        image: "lab.local/lifeboat:dev".to_owned(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        version: "0.1.0".to_owned(),
        cluster: "11111111-2222-3333-4444-555555555555".to_owned(),
    }
}

/// A pod as a StatefulSet makes it.
pub(crate) fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "shop-0",
            "namespace": "prod",
            "labels": { "app": "shop", "lifeboat.dev/replica": "shop" },
            "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "shop", "uid": "u-1", "controller": true },
            ],
        },
        "spec": {
            "securityContext": { "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532 },
            "containers": [{
                "name": "app",
                "image": "lab.local/app:dev",
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            }],
            "volumes": [{ "name": "data", "emptyDir": {} }],
        },
    })
}

/// Applies a patch as the API server does: all or nothing.
pub(crate) fn apply(pod: &Value, patch: &json_patch::Patch) -> Value {
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, patch).expect("the patch applies");
    patched
}
