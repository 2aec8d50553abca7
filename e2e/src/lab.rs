//! The running lab: its cluster, its bucket, its processes.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Once;

use anyhow::{Context as _, Result, bail, ensure};
use kube::Client;
use tokio::process::Command;

use crate::bucket::Bucket;

/// Namespace of the operator, as `e2e/install.sh` installs it.
pub const OPERATOR_NAMESPACE: &str = "lifeboat-system";

/// The lab this test runs in, with Lifeboat installed.
#[derive(Clone)]
pub struct Lab {
    /// Talks to the API server as the administrator.
    pub client: Client,
    /// The lab's bucket.
    pub bucket: Bucket,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl Lab {
    /// Joins the lab that the environment names.
    ///
    /// # Errors
    /// When the test does not run inside a lab, or its API server does not answer.
    pub async fn join() -> Result<Self> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // Fails only when somebody else has installed one, which is as good.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        });
        ensure!(
            env::var_os("LAB_DIR").is_some() && env::var_os("LAB_S3_ENDPOINT").is_some(),
            "these tests run inside a lab with Lifeboat installed: say `make e2e`, or `make e2e TEST=<part of a name>` for some of them"
        );
        let client = Client::try_default().await.context("read the lab's kubeconfig")?;
        client.apiserver_version().await.context("ask the lab's API server for its version")?;
        Ok(Self { client, bucket: Bucket::of_the_lab()? })
    }

    /// Runs kubectl and returns what it printed; for what a user would look at.
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        run(Path::new("kubectl"), args).await
    }

    /// Does something to one of the lab's processes, as `e2e/lab/proc.sh` does: `stop`, `start`, `kill`, `pause`, `resume`.
    ///
    /// # Errors
    /// When the lab has no such process, or the script fails.
    pub async fn process(&self, verb: &str, name: &str) -> Result<()> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/proc.sh");
        run(&script, &[verb, name]).await.map(drop)
    }
}

/// One of our binaries, of the build that the images were made from.
///
/// # Errors
/// When it was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match env::var_os("LIFEBOAT_BINARIES") {
        Some(folder) => PathBuf::from(folder),
        // target/<triple>/debug/deps/<test>
        None => env::current_exe()?.ancestors().nth(2).context("find the folder of the binaries")?.to_owned(),
    };
    let path = folder.join(name);
    ensure!(path.exists(), "{} is missing: build it with `cargo build --bins`", path.display());
    Ok(path)
}

/// Runs a program to its end.
pub(crate) async fn run(program: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("run {}", program.display()))?;
    if !output.status.success() {
        bail!("{} {}: {}", program.display(), args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
