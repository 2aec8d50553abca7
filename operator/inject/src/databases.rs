//! Finds the container and the volume mount behind the path of every database.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume, VolumeMount};
use lifeboat_api::{Database, Reason, SqliteReplica};

use crate::Refusal;
use crate::containers::RESERVED_PATHS;

/// Where the databases of a pod lie.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    /// The mounts that our containers repeat, by mount path.
    pub(crate) mounts: BTreeMap<String, Mount>,
    /// Names of the containers that use the databases, in the order of the databases.
    pub(crate) containers: Vec<String>,
}

impl Placed {
    /// Whether a container mounts a volume that holds a database.
    pub(crate) fn is_mounted_by(&self, container: &Container) -> bool {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| self.mounts.values().any(|ours| ours.volume == mount.name))
    }
}

/// A volume mount that our containers repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) volume: String,
    pub(crate) sub_path: Option<String>,
}

/// Finds the places of all databases; what cannot be found is added to `refusals`.
pub(crate) fn place(pod: &Pod, replica: &SqliteReplica, refusals: &mut Vec<Refusal>) -> Placed {
    let Some(spec) = &pod.spec else { return Placed::default() };
    let mut placed = Placed::default();
    let mut found = Vec::new();
    for database in &replica.spec.databases {
        match place_one(spec, database) {
            Ok((container, path, mount)) => {
                placed.containers.push(container.name.clone());
                found.push((database, path, mount));
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    refusals.extend(listed_twice(spec, &found));
    for (database, path, mount) in &found {
        refusals.extend(reserved(database, path));
        let known = placed.mounts.entry(path.clone()).or_insert_with(|| mount.clone());
        if known != mount {
            refusals.push(collision(database, path));
        }
    }
    // A mount of one database must not hide the folder of another.
    for (database, path, _) in &found {
        let deepest = placed
            .mounts
            .keys()
            .filter(|other| is_under(folder(&database.path), other))
            .max_by_key(|p| p.len());
        if deepest.is_some_and(|deepest| deepest != path) {
            refusals.push(collision(database, path));
        }
    }
    placed
}

fn place_one<'a>(spec: &'a PodSpec, database: &Database) -> Result<(&'a Container, String, Mount), Refusal> {
    let (container, mount) = find_mount(spec, database)?;
    let path = clean(&mount.mount_path);
    let which = || format!("database {} ({}) in container {}", database.name, database.path, container.name);
    if path == database.path {
        return Err(Refusal::new(
            Reason::UnsupportedVolume,
            format!(
                "{}: the file itself is mounted, so its -wal would lie elsewhere; mount its folder",
                which()
            ),
        ));
    }
    if mount.read_only == Some(true) {
        return Err(Refusal::new(
            Reason::ReadOnlyVolume,
            format!("{}: the volume mount at {path} is read-only; SQLite needs to write there", which()),
        ));
    }
    if mount.sub_path_expr.as_deref().is_some_and(|expression| !expression.is_empty()) {
        return Err(Refusal::new(
            Reason::UnsupportedVolume,
            format!("{}: the volume mount at {path} uses subPathExpr; use subPath", which()),
        ));
    }
    let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name).ok_or_else(|| {
        Refusal::new(
            Reason::NoVolumeForPath,
            format!("{}: the pod has no volume {}; add it", which(), mount.name),
        )
    })?;
    check_volume(volume).map_err(|(reason, why)| Refusal::new(reason, format!("{}: {why}", which())))?;
    let sub_path = mount.sub_path.clone().filter(|path| !path.is_empty());
    Ok((container, path, Mount { volume: mount.name.clone(), sub_path }))
}

/// The container of the database and its deepest mount that covers the database's folder.
fn find_mount<'a>(
    spec: &'a PodSpec,
    database: &Database,
) -> Result<(&'a Container, &'a VolumeMount), Refusal> {
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let Some(name) = &database.container else {
        return find_only_mount(spec, database);
    };
    let container = all.find(|container| &container.name == name).ok_or_else(|| {
        let names: Vec<_> = spec.containers.iter().map(|container| container.name.as_str()).collect();
        Refusal::new(
            Reason::ContainerNotFound,
            format!(
                "database {}: the pod has no container {name}; it has {}",
                database.name,
                names.join(", ")
            ),
        )
    })?;
    let mount = covering(container, database).ok_or_else(|| {
        Refusal::new(
            Reason::NoVolumeForPath,
            format!(
                "database {} ({}): container {name} mounts no volume over {}; add a volumeMount there",
                database.name,
                database.path,
                folder(&database.path)
            ),
        )
    })?;
    Ok((container, mount))
}

/// As [`find_mount`] for a database that names no container: all that could be meant must mean the same file.
fn find_only_mount<'a>(
    spec: &'a PodSpec,
    database: &Database,
) -> Result<(&'a Container, &'a VolumeMount), Refusal> {
    let which = || format!("database {} ({})", database.name, database.path);
    let mut all = spec.containers.iter().filter_map(|one| Some((one, covering(one, database)?)));
    let first = all.next().ok_or_else(|| {
        Refusal::new(
            Reason::NoVolumeForPath,
            format!(
                "{}: no container mounts a volume over {}; add a volumeMount there",
                which(),
                folder(&database.path)
            ),
        )
    })?;
    let Some(other) = all.find(|(_, mount)| !is_same_place(mount, first.1)) else { return Ok(first) };
    Err(Refusal::new(
        Reason::MountConflict,
        format!(
            "{}: several containers mount different volumes over {} (such as {} and {}); set databases[].container to \
             the one that uses the database",
            which(),
            folder(&database.path),
            first.0.name,
            other.0.name
        ),
    ))
}

/// Whether two mounts show the same folder at the same path, so that a path below is the same file in both.
fn is_same_place(one: &VolumeMount, other: &VolumeMount) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    one.name == other.name
        && clean(&one.mount_path) == clean(&other.mount_path)
        && text(&one.sub_path) == text(&other.sub_path)
        && text(&one.sub_path_expr) == text(&other.sub_path_expr)
}

fn covering<'a>(container: &'a Container, database: &Database) -> Option<&'a VolumeMount> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .filter(|mount| is_under(&database.path, &mount.mount_path))
        .max_by_key(|mount| clean(&mount.mount_path).len())
}

/// Only kinds of volumes on which SQLite's shared memory works, and that a restored database outlives as expected.
fn check_volume(volume: &Volume) -> Result<(), (Reason, String)> {
    let read_only =
        volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only == Some(true))
            || volume.csi.as_ref().is_some_and(|csi| csi.read_only == Some(true));
    if read_only {
        return Err((
            Reason::ReadOnlyVolume,
            format!("volume {} is read-only; SQLite needs to write", volume.name),
        ));
    }
    let is_usable = volume.empty_dir.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.ephemeral.is_some()
        || volume.csi.is_some();
    if is_usable {
        return Ok(());
    }
    Err((
        Reason::UnsupportedVolume,
        format!(
            "volume {} must be an emptyDir, a persistentVolumeClaim, an ephemeral or a csi volume, because SQLite's WAL \
             needs a local filesystem that belongs to this pod; use one of those",
            volume.name
        ),
    ))
}

/// Refuses entries that are one file under two paths: two histories of it would each be taken for the whole.
fn listed_twice(spec: &PodSpec, found: &[(&Database, String, Mount)]) -> Vec<Refusal> {
    let mut files = BTreeMap::new();
    let mut refusals = Vec::new();
    for (database, path, mount) in found {
        let Some(first) = files.insert(file(spec, database, path, mount), database) else { continue };
        refusals.push(Refusal::new(
            Reason::MountConflict,
            format!(
                "databases {} ({}) and {} ({}) are the same file on volume {}; list it once",
                first.name, first.path, database.name, database.path, mount.volume
            ),
        ));
    }
    refusals
}

/// The file of a database, whatever it is called in a container: its volume and the path from the volume's root.
fn file<'a>(
    spec: &'a PodSpec,
    database: &'a Database,
    mount_path: &str,
    mount: &'a Mount,
) -> ((bool, &'a str), Vec<&'a str>) {
    // Two volumes of a pod may be the same claim.
    let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.volume);
    let claim = volume.and_then(|volume| volume.persistent_volume_claim.as_ref());
    let source = claim.map_or((false, mount.volume.as_str()), |claim| (true, claim.claim_name.as_str()));
    let below = database.path.strip_prefix(mount_path).unwrap_or(&database.path);
    let parts = mount.sub_path.as_deref().unwrap_or_default().split('/').chain(below.split('/'));
    (source, parts.filter(|part| !part.is_empty() && *part != ".").collect())
}

fn reserved(database: &Database, path: &str) -> Option<Refusal> {
    let taken = RESERVED_PATHS.iter().find(|taken| is_under(path, taken) || is_under(taken, path))?;
    Some(Refusal::new(
        Reason::MountConflict,
        format!(
            "database {}: its volume is mounted at {path}, which collides with {taken} in our containers; mount it \
             elsewhere",
            database.name
        ),
    ))
}

fn collision(database: &Database, path: &str) -> Refusal {
    Refusal::new(
        Reason::MountConflict,
        format!(
            "database {}: another database's volume is mounted over {path} in another container, and one sidecar cannot \
             mount both; use different mount paths",
            database.name
        ),
    )
}

/// Whether `path` is `folder` or lies below it.
fn is_under(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder })
}

fn clean(mount_path: &str) -> String {
    let trimmed = mount_path.trim_end_matches('/');
    if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() }
}
