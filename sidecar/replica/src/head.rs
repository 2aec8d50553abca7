//! What `lifeboat/head.json` says about the one writer of a replica.
//!
//! The object is changed by compare-and-swap only. `revision` grows with every write, so that no two bodies are ever
//! equal: a store's ETag may be a hash of the body.

use std::collections::BTreeMap;
use std::fmt;

use lifeboat_ltx::{Checksum, Txid};
use serde::{Deserialize, Serialize};

use crate::epoch::Epoch;
use crate::error::HeadError;
use crate::layout::Level;

/// The newest layout this release reads and the one it writes.
pub const FORMAT_VERSION: u32 = 1;

/// The largest `head.json` that is read, in bytes; ours are under 1 KiB.
pub const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// Who may write a replica, and since where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The layout of the whole prefix. A newer one is refused.
    pub format_version: u32,
    /// Names the chain of epochs: 32 hexadecimal digits, drawn at creation.
    pub lineage: String,
    /// Grows by one with every write of this object.
    pub revision: u64,
    /// The current writer's number.
    pub epoch: Epoch,
    /// The current writer.
    pub owner: Owner,
    /// How far the current writer has come.
    pub state: HeadState,
    /// Where the current writer began: its seal, or 0 for a creator.
    pub base: Base,
    /// One entry for each level that has been pruned; a file of the level with a maximum at or below it is dead.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub floors: BTreeMap<u8, u64>,
}

/// A process that writes, or wrote.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// 128 random bits for each claim: the only thing a process may know itself by.
    pub nonce: Nonce,
    /// UID of the cluster's `kube-system` namespace; empty outside Kubernetes.
    #[serde(default)]
    pub cluster: String,
    /// Namespace of the `SqliteReplica`; empty outside Kubernetes.
    #[serde(default)]
    pub namespace: String,
    /// Name of the `SqliteReplica`; outside Kubernetes the host's name.
    #[serde(default)]
    pub name: String,
    /// UID of the pod; empty outside Kubernetes.
    #[serde(default, rename = "podUID")]
    pub pod_uid: String,
}

impl Owner {
    /// Whether both belong to the same resource of the same cluster, or are both outside Kubernetes.
    #[must_use]
    pub fn is_same_resource(&self, other: &Self) -> bool {
        self.cluster == other.cluster
            && self.namespace == other.namespace
            && (self.cluster.is_empty() || self.name == other.name)
    }

    /// Whether this owner runs in a pod.
    #[must_use]
    pub fn is_pod(&self) -> bool {
        !self.pod_uid.is_empty()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_pod() {
            write!(f, "{}/{} (pod {}, cluster {})", self.namespace, self.name, self.pod_uid, self.cluster)
        } else {
            write!(f, "a process on {}", self.name)
        }
    }
}

/// 128 random bits that name one claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

impl Nonce {
    /// The nonce of these bits.
    #[must_use]
    pub fn new(bits: [u8; 16]) -> Self {
        Self(hex(bits))
    }
}

/// 32 lower-case hexadecimal digits.
#[must_use]
pub fn hex(bits: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bits))
}

/// How far the current writer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadState {
    /// It has the epoch, but not yet its seal.
    Claiming,
    /// It writes.
    Open,
    /// It ended in order: everything it committed is stored.
    Closed,
}

/// Where an epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Base {
    /// TXID of the seal; 0 when the epoch began with nothing.
    pub txid: u64,
    /// Rolling checksum of the database there; `None` where nothing says.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "checksum_text")]
    pub checksum: Option<Checksum>,
}

impl Base {
    /// Where a replica's creator begins.
    pub const NOTHING: Self = Self { txid: 0, checksum: None };
}

impl Head {
    /// The head that creates a replica: epoch 1, no predecessor.
    #[must_use]
    pub const fn create(lineage: String, owner: Owner) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            lineage,
            revision: 1,
            epoch: Epoch::FIRST,
            owner,
            state: HeadState::Claiming,
            base: Base::NOTHING,
            floors: BTreeMap::new(),
        }
    }

    /// The head by which `owner` takes the replica over.
    #[must_use]
    pub fn claim(&self, owner: Owner) -> Self {
        Self {
            revision: self.revision + 1,
            epoch: self.epoch.next(),
            owner,
            state: HeadState::Claiming,
            ..self.clone()
        }
    }

    /// The head by which `owner`, who holds this claim, begins to write.
    #[must_use]
    pub fn open(&self, owner: Owner, base: Base) -> Self {
        Self { revision: self.revision + 1, owner, state: HeadState::Open, base, ..self.clone() }
    }

    /// The head by which the writer ends in order.
    #[must_use]
    pub fn close(&self) -> Self {
        Self { revision: self.revision + 1, state: HeadState::Closed, ..self.clone() }
    }

    /// The head by which the writer gives files up: those up to these floors are dead from then on.
    #[must_use]
    pub fn raise(&self, floors: BTreeMap<u8, u64>) -> Self {
        Self { revision: self.revision + 1, floors, ..self.clone() }
    }

    /// Files of `level` up to this TXID are dead; 0 for none.
    #[must_use]
    pub fn floor(&self, level: Level) -> u64 {
        self.floors.get(&level.get()).copied().unwrap_or(0)
    }

    /// Whether a file of `level` that ends at `max` may be counted on.
    #[must_use]
    pub fn is_live(&self, level: Level, max: Txid) -> bool {
        max.get() > self.floor(level)
    }

    /// Whether both are of one claim, in one state of it. Only its owner's nonce tells.
    #[must_use]
    pub fn is_by_the_same_writer(&self, other: &Self) -> bool {
        (&self.owner.nonce, self.epoch, self.state) == (&other.owner.nonce, other.epoch, other.state)
    }

    /// The bytes of the object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Reads the object's bytes.
    ///
    /// # Errors
    /// [`HeadError`] for what is not a head, and for a layout newer than [`FORMAT_VERSION`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HeadError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            format_version: u32,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(HeadError::from_json)?;
        if version.format_version != FORMAT_VERSION {
            return Err(HeadError::FormatVersion { found: version.format_version, known: FORMAT_VERSION });
        }
        let head: Self = serde_json::from_slice(bytes).map_err(HeadError::from_json)?;
        if head.epoch.get() == 0 || head.revision == 0 {
            return Err(HeadError::Malformed { why: "epoch and revision count from 1".to_owned() });
        }
        Ok(head)
    }
}

pub(crate) mod checksum_text {
    use lifeboat_ltx::Checksum;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde fixes the signature")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Checksum>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(checksum) => to.collect_str(checksum),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Checksum>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| text.parse().map_err(|_| D::Error::custom("a checksum is 16 hexadecimal digits")))
            .transpose()
    }
}

/// Whatever the bytes are, decoding does not panic, and what is accepted is encoded to something that decodes to the same.
#[doc(hidden)]
pub fn fuzz_head(bytes: &[u8]) {
    if let Ok(head) = Head::decode(bytes) {
        assert_eq!(Head::decode(&head.encode()).ok(), Some(head), "BUG: encoding changes a head");
    }
}

/// A head of nobody in particular, with these floors.
#[cfg(test)]
pub(crate) fn test_head(floors: &[(u8, u64)]) -> Head {
    let owner = Owner {
        nonce: Nonce::new([0; 16]),
        cluster: String::new(),
        namespace: String::new(),
        name: String::new(),
        pod_uid: String::new(),
    };
    let mut head = Head::create(String::new(), owner);
    head.floors = floors.iter().copied().collect();
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            nonce: Nonce::new([7; 16]),
            cluster: "c".to_owned(),
            namespace: "prod".to_owned(),
            name: "shop".to_owned(),
            pod_uid: "p".to_owned(),
        }
    }

    #[test]
    fn a_head_survives_the_bucket() {
        let mut head = Head::create("ab".repeat(16), owner())
            .open(owner(), Base { txid: 3, checksum: Some(Checksum::EMPTY) });
        head.floors.insert(0, 2);
        assert_eq!(Head::decode(&head.encode()), Ok(head));
    }

    #[test]
    fn a_newer_layout_is_refused_even_when_nothing_else_is_understood() {
        let error = Head::decode(br#"{"formatVersion":2,"moons":[]}"#).unwrap_err();
        assert_eq!(error, HeadError::FormatVersion { found: 2, known: 1 });
    }

    #[test]
    fn half_a_head_is_not_a_head() {
        let whole = Head::create("ab".repeat(16), owner()).encode();
        for end in 0..whole.len() - 2 {
            assert!(Head::decode(&whole[..end]).is_err(), "{end} bytes were taken for a head");
        }
    }

    #[test]
    fn every_write_changes_the_body_even_when_nothing_else_changes() {
        let head = Head::create(String::new(), owner());
        assert_ne!(
            head.open(owner(), Base::NOTHING).encode(),
            head.open(owner(), Base::NOTHING).close().encode()
        );
    }
}
