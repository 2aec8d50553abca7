//! The closed lists of words in a `SqliteReplica`'s conditions and events.
//!
//! `docs/errors.md` has one entry for each [`Reason`] that asks for an action. Reasons that come from the sidecar (the
//! bucket is unreachable, the database is not in WAL mode, …) are words of `lifeboat-wire` and appear beside these.

use std::fmt;

/// One statement about a replica that can be true, false or unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Every live pod of the workload carries the present containers.
    Injected,
    /// The last start of the pod rebuilt or proved the local databases.
    Restored,
    /// Commits reach the bucket within the promised time.
    Replicating,
    /// All of the above: the database is protected.
    Ready,
}

impl ConditionType {
    /// Every condition, in the order of the status.
    pub const ALL: [Self; 4] = [Self::Injected, Self::Restored, Self::Replicating, Self::Ready];

    /// The word as it stands in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "Injected",
            Self::Restored => "Restored",
            Self::Replicating => "Replicating",
            Self::Ready => "Ready",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares an enum of words together with its spelling and its list, so that the three cannot differ.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident, $list:literal { $($(#[$doc:meta])* $word:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $word,)+
        }

        impl $name {
            #[doc = $list]
            pub const ALL: &[Self] = &[$(Self::$word,)+];

            /// The word as users see it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => stringify!($word),)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Why a condition is what it is, or why the webhook refuses a pod.
    Reason, "Every reason, in the order of the documentation." {
        /// The condition is true and there is nothing to do.
        AsExpected,
        /// The bucket was proved empty and the application began its first database.
        FirstStart,
        /// The workload that `workloadRef` names does not exist.
        WorkloadNotFound,
        /// More than one pod could write the database at once.
        TooManyReplicas,
        /// A rollout or schedule starts the new pod beside the old one.
        RolloutOverlap,
        /// `databases[].container` names a container that the pod does not have.
        ContainerNotFound,
        /// No volume mount of the container covers the database's folder.
        NoVolumeForPath,
        /// The volume is mounted read-only.
        ReadOnlyVolume,
        /// The volume is of a kind on which SQLite's WAL or its recovery cannot be trusted, or mounted in a way we cannot repeat.
        UnsupportedVolume,
        /// Two mounts that we would have to repeat collide, or leave open which file a database is.
        MountConflict,
        /// It cannot be known as which user the application opens its database.
        UserUnknown,
        /// The databases belong to different users.
        UserConflict,
        /// A container or a volume of the application has one of our names.
        NameReserved,
        /// A container of the application uses our port.
        PortConflict,
        /// The pod uses the network of its node.
        HostNetworkUnsupported,
        /// An init container that uses the volume runs before a network proxy that must come before us.
        InitOrderConflict,
        /// The pod is not shaped like a pod.
        MalformedPod,
        /// A pod asks for a `SqliteReplica` that protects another workload.
        WorkloadMismatch,
        /// A pod asks for a `SqliteReplica` that does not exist.
        ReplicaNotFound,
        /// The webhook could not read the `SqliteReplica` in time.
        ReplicaUnreadable,
        /// Another field manager holds our label with another value.
        FieldConflict,
        /// The template of this kind of workload cannot be changed; the user has to set the label.
        LabelMissing,
        /// The API server refused or failed our change of the pod template.
        ApplyFailed,
        /// The pod template is labelled; the workload has not yet replaced its pods.
        RolloutPending,
        /// A pod that should carry our containers does not.
        InjectionMissing,
        /// A pod carries our containers, but not as we made them.
        ContainersTampered,
        /// The workload has no pod at the moment.
        NoPod,
        /// The restore step is running.
        RestoreRunning,
        /// The restore step failed without telling why.
        RestoreFailed,
        /// The sidecar is not running.
        SidecarDown,
        /// The operator cannot read the sidecar's status.
        StatusUnreachable,
        /// Commits wait longer for the bucket than promised.
        Lagging,
    }
}

words! {
    /// Why an event was written.
    EventReason, "Every reason of an event." {
        /// The pod template was labelled; new pods will be protected.
        InjectionEnabled,
        /// The workload or one of its pods cannot be protected as it is.
        InjectionRefused,
        /// A pod started on a restored or proved database.
        Restored,
        /// A pod waits, because its databases cannot be restored.
        RestoreBlocked,
        /// Commits no longer reach the bucket in time.
        ReplicationLagging,
        /// Commits reach the bucket again.
        ReplicationRecovered,
        /// A writer was stopped, because a newer one owns the replica.
        Fenced,
        /// The SqliteReplica of a labelled workload is gone: new pods are refused.
        ReplicaGone,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_is_fit_for_a_condition() {
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(word.len() <= 128 && word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
            assert!(word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
        }
    }

    #[test]
    fn no_word_is_listed_twice() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
