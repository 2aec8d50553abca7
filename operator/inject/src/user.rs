//! Finds out as which user our containers have to run: the application's, because both sides write the same files.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use lifeboat_api::Reason;

use crate::Refusal;
use crate::databases::Placed;

/// The user of our image, used where the application's is not known but the volumes belong to a group.
const IMAGE_USER: i64 = 65_532;

/// The identity of our containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: i64,
    /// `None` leaves the group to the image.
    pub(crate) gid: Option<i64>,
    /// Whether the pod's volumes are given to a group of which every container is a member.
    pub(crate) has_fs_group: bool,
}

impl User {
    pub(crate) const fn is_root(self) -> bool {
        self.uid == 0
    }

    /// What the author of the pod should know about the identity.
    pub(crate) fn notices(self) -> Vec<String> {
        if !self.is_root() {
            return Vec::new();
        }
        vec![
            "lifeboat runs as root in this pod, because the application does; set runAsUser to give up root"
                .to_owned(),
        ]
    }
}

/// The identity of the application; what cannot be known is added to `refusals`.
pub(crate) fn resolve(pod: &Pod, placed: &Placed, refusals: &mut Vec<Refusal>) -> Option<User> {
    let spec = pod.spec.as_ref()?;
    let fs_group = spec.security_context.as_ref().and_then(|security| security.fs_group);
    let mut users = BTreeSet::new();
    for name in &placed.containers {
        match user_of(spec, name) {
            Some(uid) => {
                users.insert(uid);
            }
            None if fs_group.is_some() => {
                users.insert(IMAGE_USER);
            }
            None => refusals.push(unknown(name)),
        }
    }
    if users.len() > 1 {
        refusals.push(conflict(&users));
    }
    let gid = placed.containers.first().and_then(|name| group_of(spec, name));
    users.first().map(|uid| User { uid: *uid, gid, has_fs_group: fs_group.is_some() })
}

fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.find(|container| container.name == name)
}

fn user_of(spec: &PodSpec, container: &str) -> Option<i64> {
    let own = find(spec, container)?.security_context.as_ref().and_then(|security| security.run_as_user);
    own.or_else(|| spec.security_context.as_ref()?.run_as_user)
}

fn group_of(spec: &PodSpec, container: &str) -> Option<i64> {
    let own = find(spec, container)?.security_context.as_ref().and_then(|security| security.run_as_group);
    own.or_else(|| spec.security_context.as_ref()?.run_as_group)
}

fn unknown(container: &str) -> Refusal {
    Refusal::new(
        Reason::UserUnknown,
        format!(
            "it cannot be known as which user container {container} opens its database; set securityContext.runAsUser to \
             the user of its image, or securityContext.fsGroup for the pod"
        ),
    )
}

fn conflict(users: &BTreeSet<i64>) -> Refusal {
    let users: Vec<_> = users.iter().map(ToString::to_string).collect();
    Refusal::new(
        Reason::UserConflict,
        format!(
            "the databases belong to the users {}, and one sidecar cannot be all of them; use the same runAsUser, or one \
             SqliteReplica and one pod for each",
            users.join(" and ")
        ),
    )
}
