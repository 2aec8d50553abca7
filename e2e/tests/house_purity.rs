//! Who may know whom, and that the crates which decide cannot touch the world.
//!
//! Four locks, because each alone can be forgotten: the arrows between our crates, a list of every foreign crate that a
//! pure one may reach, the clippy file that forbids files, clocks and threads, and `unsafe` forbidden by the workspace.
//! Each checker is shown something broken below, and must complain.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what is wrong by panicking"
)]

mod house;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cargo_metadata::{DependencyKind, MetadataCommand, Package, TargetKind};

/// The crates that decide: synchronous, deterministic, no I/O.
const PURE: [&str; 8] = [
    "lifeboat-wal",
    "lifeboat-ltx",
    "lifeboat-replica",
    "lifeboat-sim",
    "lifeboat-wire",
    "lifeboat-api",
    "lifeboat-inject",
    "lifeboat-plan",
];

/// Who may know whom among our own crates. Whoever is not listed may know nobody.
const ARROWS: [(&str, &[&str]); 8] = [
    ("lifeboat-ltx", &["lifeboat-wal"]),
    ("lifeboat-replica", &["lifeboat-wal", "lifeboat-ltx"]),
    ("lifeboat-sim", &["lifeboat-wal", "lifeboat-ltx", "lifeboat-replica"]),
    (
        "lifeboat",
        &[
            "lifeboat-wal",
            "lifeboat-ltx",
            "lifeboat-replica",
            "lifeboat-wal-index",
            "lifeboat-store",
            "lifeboat-wire",
        ],
    ),
    ("lifeboat-inject", &["lifeboat-api", "lifeboat-wire"]),
    ("lifeboat-plan", &["lifeboat-api", "lifeboat-inject", "lifeboat-wire"]),
    ("lifeboat-operator", &["lifeboat-api", "lifeboat-inject", "lifeboat-plan", "lifeboat-wire"]),
    ("lifeboat-e2e", &["lifeboat-api", "lifeboat-wire"]),
];

/// Every foreign crate that a pure crate may reach, and why it is harmless. What runs in the compiler does not count.
const FOREIGN: [(&str, &[&str]); 6] = [
    (
        "errors and words",
        &["thiserror", "derive_more", "itoa", "zmij", "memchr", "base64", "percent-encoding", "log"],
    ),
    ("checksums", &["crc-fast", "digest", "crypto-common", "generic-array", "typenum", "spin"]),
    ("compression of blocks in memory", &["lz4_flex", "twox-hash"]),
    (
        "JSON",
        &[
            "serde",
            "serde_core",
            "serde_json",
            "serde-value",
            "ordered-float",
            "num-traits",
            "json-patch",
            "jsonptr",
        ],
    ),
    (
        "the vocabulary of Kubernetes, without a client",
        &["k8s-openapi", "kube-core", "http", "bytes", "form_urlencoded"],
    ),
    ("schemas and points in time", &["schemars", "ref-cast", "dyn-clone", "jiff", "jiff-core"]),
];

/// What the clippy file of a pure crate has to forbid, at the least.
const FORBIDDEN: [&str; 12] = [
    "std::fs::File",
    "std::fs::read",
    "std::fs::write",
    "std::net::TcpStream",
    "std::env::var",
    "std::process::Command",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread::spawn",
    "std::thread::sleep",
    "std::collections::HashMap",
    "std::collections::HashSet",
];

/// The crate that talks to SQLite's shared memory, and therefore needs `unsafe`.
const UNSAFE: &str = "lifeboat-wal-index";

/// How the names of our own crates begin.
const OURS: &str = "lifeboat";

/// Crates and the crates that are linked into them, without what runs in the compiler. Ours go by their name, others by
/// name and version (`digest@0.10.7`), because two versions of one crate need not need the same.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn pure_crates_reach_only_harmless_crates() {
    let workspace = Workspace::read();
    let allowed: BTreeSet<&str> = FOREIGN.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    house::no_complaints(&strangers(&workspace.graph, &PURE, &allowed));
    house::no_complaints(&unused(&workspace.graph, &PURE, &allowed));
}

#[test]
fn our_crates_know_only_whom_they_may_know() {
    house::no_complaints(&forbidden_arrows(&Workspace::read().graph, &ARROWS));
}

#[test]
fn pure_crates_forbid_the_world_in_their_clippy_file() {
    let root = house::read("clippy.toml");
    let folders = Workspace::read().folders;
    let complaints = PURE.iter().flat_map(|name| {
        let path = folders[*name].join("clippy.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        open_doors(&text, &root).into_iter().map(move |what| format!("{}: {what}", path.display()))
    });
    house::no_complaints(&complaints.collect::<Vec<_>>());
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate_but_one() {
    let workspace = Workspace::read();
    let manifest = |folder: &PathBuf| std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let manifests = workspace.folders.iter().map(|(name, folder)| (name.clone(), manifest(folder)));
    house::no_complaints(&unguarded(&house::read("Cargo.toml"), &manifests.collect(), UNSAFE));
}

/// What `cargo metadata` says of this workspace.
struct Workspace {
    graph: Graph,
    folders: BTreeMap<String, PathBuf>,
}

impl Workspace {
    fn read() -> Self {
        let mut command = MetadataCommand::new();
        command.manifest_path(house::root().join("Cargo.toml"));
        // What is built for other machines never reaches one that we support.
        command.other_options(vec!["--filter-platform".to_owned(), "x86_64-unknown-linux-gnu".to_owned()]);
        let metadata = command.exec().expect("cargo metadata answers");
        let runs_in_compiler = |package: &Package| {
            package.targets.iter().any(|target| target.kind.contains(&TargetKind::ProcMacro))
        };
        let names: BTreeMap<_, _> = metadata
            .packages
            .iter()
            .filter(|package| !runs_in_compiler(package))
            .map(|package| (&package.id, node_name(package)))
            .collect();
        let mut graph = Graph::new();
        for node in &metadata.resolve.as_ref().expect("cargo metadata resolves").nodes {
            let Some(name) = names.get(&node.id) else { continue };
            let linked = node.deps.iter().filter(|dependency| {
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
            });
            let linked = linked.filter_map(|dependency| names.get(&dependency.pkg).cloned());
            graph.entry(name.clone()).or_default().extend(linked);
        }
        let folder =
            |package: &&Package| package.manifest_path.parent().expect("a manifest is in a folder").into();
        let members = metadata.workspace_packages();
        let folders = members.iter().map(|package| (package.name.to_string(), folder(package))).collect();
        Self { graph, folders }
    }
}

fn node_name(package: &Package) -> String {
    if package.name.starts_with(OURS) {
        return package.name.to_string();
    }
    format!("{}@{}", package.name, package.version)
}

fn without_version(node: &str) -> &str {
    node.split('@').next().unwrap_or(node)
}

/// Every crate that a pure one reaches and may not, with the way that leads there.
fn strangers(graph: &Graph, pure: &[&str], allowed: &BTreeSet<&str>) -> Vec<String> {
    let mut complaints = Vec::new();
    for start in pure {
        for (name, from) in reached(graph, start) {
            if !name.starts_with(OURS) && !allowed.contains(without_version(&name)) {
                complaints.push(format!(
                    "{start} is pure and reaches {name} through {from}: drop the dependency or the feature, or say in \
                     FOREIGN why it is harmless"
                ));
            }
        }
    }
    complaints
}

/// Entries of the list that nothing needs any more.
fn unused(graph: &Graph, pure: &[&str], allowed: &BTreeSet<&str>) -> Vec<String> {
    let needed: Vec<String> = pure.iter().flat_map(|start| reached(graph, start).into_keys()).collect();
    let idle = allowed.iter().filter(|name| !needed.iter().any(|node| without_version(node) == **name));
    idle.map(|name| format!("no pure crate reaches {name}: take it out of FOREIGN")).collect()
}

/// Every crate linked into `start`, and who of them asked for it.
fn reached(graph: &Graph, start: &str) -> BTreeMap<String, String> {
    let mut reached = BTreeMap::new();
    let mut waiting = vec![start.to_owned()];
    while let Some(from) = waiting.pop() {
        for name in graph.get(&from).into_iter().flatten() {
            if !reached.contains_key(name) {
                reached.insert(name.clone(), from.clone());
                waiting.push(name.clone());
            }
        }
    }
    reached
}

fn forbidden_arrows(graph: &Graph, arrows: &[(&str, &[&str])]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (from, known) in graph.iter().filter(|(name, _)| name.starts_with(OURS)) {
        let allowed = arrows.iter().find(|(name, _)| name == from).map_or(&[][..], |(_, allowed)| allowed);
        for to in known.iter().filter(|name| name.starts_with(OURS) && !allowed.contains(&name.as_str())) {
            complaints.push(format!("{from} may not know {to}: ARCHITECTURE.md says who may know whom"));
        }
    }
    complaints
}

/// What a pure crate's clippy file fails to forbid, or fails to repeat from the root's.
fn open_doors(text: &str, root: &str) -> Vec<String> {
    let settings = root.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let missing = settings.filter(|setting| !text.lines().any(|line| line == *setting));
    let mut complaints: Vec<_> =
        missing.map(|setting| format!("lacks the root's setting '{setting}'")).collect();
    for path in FORBIDDEN {
        let entry = format!("{{ path = \"{path}\", reason = \"");
        if !text.lines().any(|line| line.trim_start().starts_with(&entry)) {
            complaints.push(format!("does not forbid {path} with a reason"));
        }
    }
    complaints
}

/// Crates in which `unsafe` would compile, although they are not the one that needs it.
fn unguarded(root: &str, manifests: &BTreeMap<String, String>, exception: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !section(root, "[workspace.lints.rust]").contains(&"unsafe_code = \"forbid\"") {
        complaints.push("the workspace does not forbid unsafe_code".to_owned());
    }
    for (name, manifest) in manifests {
        let takes_lints = section(manifest, "[lints]").contains(&"workspace = true");
        if !takes_lints && name != exception {
            complaints.push(format!("{name} does not take the workspace's lints, so it may be unsafe"));
        }
    }
    complaints
}

/// The lines below a heading of a TOML file.
fn section<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let after = text.lines().skip_while(|line| *line != heading).skip(1);
    after.take_while(|line| !line.starts_with('[')).collect()
}

mod teeth {
    use super::*;

    fn graph(arrows: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::new();
        for (from, to) in arrows {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    }

    #[test]
    fn a_runtime_behind_a_harmless_crate_is_found_and_the_way_is_named() {
        let graph =
            graph(&[("lifeboat-api", "kube-core"), ("kube-core", "kube-client"), ("kube-client", "tokio")]);
        let complaints = strangers(&graph, &["lifeboat-api"], &BTreeSet::from(["kube-core", "kube-client"]));
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("lifeboat-api is pure and reaches tokio through kube-client"));
    }

    #[test]
    fn a_runtime_behind_one_of_our_own_crates_is_found() {
        let graph = graph(&[("lifeboat-plan", "lifeboat-store"), ("lifeboat-store", "tokio")]);
        assert_eq!(strangers(&graph, &["lifeboat-plan"], &BTreeSet::new()).len(), 1);
    }

    #[test]
    fn an_allowance_that_nobody_needs_is_found() {
        assert_eq!(
            unused(&graph(&[("lifeboat-wal", "a")]), &["lifeboat-wal"], &BTreeSet::from(["a", "b"])).len(),
            1
        );
    }

    #[test]
    fn an_arrow_against_the_stream_is_found() {
        let graph = graph(&[("lifeboat-ltx", "lifeboat-wal"), ("lifeboat-wal", "lifeboat-ltx")]);
        assert_eq!(forbidden_arrows(&graph, &ARROWS).len(), 1);
    }

    #[test]
    fn a_clippy_file_that_lets_a_clock_in_or_forgets_the_roots_settings_is_found() {
        let root = "too-many-lines-threshold = 70\n";
        let whole = house::read("sidecar/wal/clippy.toml");
        assert_eq!(open_doors(&whole, root), [""; 0]);
        assert_eq!(open_doors(&whole.replace("std::time::Instant", "std::time::Duration"), root).len(), 1);
        assert_eq!(open_doors(&whole.replace("= 70", "= 700"), root).len(), 1);
        assert!(open_doors("", root).len() > FORBIDDEN.len());
    }

    #[test]
    fn a_crate_without_the_workspaces_lints_is_found() {
        let root = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n[x]\n";
        let manifests = |text: &str| BTreeMap::from([("lifeboat-store".to_owned(), text.to_owned())]);
        assert_eq!(unguarded(root, &manifests("[lints]\nworkspace = true\n"), UNSAFE), [""; 0]);
        assert_eq!(unguarded(root, &manifests("[package]\nworkspace = true\n[lints]\n"), UNSAFE).len(), 1);
        assert_eq!(
            unguarded(
                "[workspace.lints.rust]\n[x]\nunsafe_code = \"forbid\"\n",
                &manifests("[lints]\nworkspace = true"),
                UNSAFE
            )
            .len(),
            1
        );
    }
}
