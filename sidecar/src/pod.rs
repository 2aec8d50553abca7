//! Who we are: a container of a pod, or a process on some machine.

use std::path::Path;

use lifeboat_replica::head::{Nonce, Owner};
use lifeboat_wire::Termination;

use crate::exit::Failure;

/// A new claim's owner: this process, by 128 fresh random bits.
///
/// # Errors
/// A bug where the kernel gives no random bits.
pub fn new_owner() -> Result<Owner, Failure> {
    let pod_uid = variable("LIFEBOAT_POD_UID");
    let name = if pod_uid.is_empty() {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    } else {
        variable("LIFEBOAT_NAME")
    };
    Ok(Owner {
        nonce: Nonce::new(random_bits()?),
        cluster: variable("LIFEBOAT_CLUSTER"),
        namespace: variable("LIFEBOAT_NAMESPACE"),
        name,
        pod_uid,
    })
}

/// How `kubectl` is told of this pod: `-n prod shop-0`.
#[must_use]
pub fn for_kubectl() -> String {
    format!("-n {} {}", variable("LIFEBOAT_NAMESPACE"), variable("LIFEBOAT_POD_NAME"))
}

/// 128 random bits.
///
/// # Errors
/// A bug where the kernel gives none.
pub fn random_bits() -> Result<[u8; 16], Failure> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| Failure::bug(format!("no random bits: {error}")))?;
    Ok(bits)
}

/// Whether this is a container of a pod.
#[must_use]
pub fn is_pod() -> bool {
    !variable("LIFEBOAT_POD_UID").is_empty()
}

/// Leaves the last words where the kubelet finds them; outside a pod there is no such place.
pub fn say_last_words(termination: &Termination) {
    let path = Path::new("/dev/termination-log");
    if is_pod()
        && path.exists()
        && let Err(error) = std::fs::write(path, termination.encode())
    {
        tracing::warn!("the termination message cannot be written to {}: {error}", path.display());
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
