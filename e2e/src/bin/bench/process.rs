//! What a process has used, from `/proc`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Seconds on a CPU, in its own code and in the kernel's.
    pub(crate) cpu_s: f64,
    /// The most memory it ever had at once (`VmHWM`), mapped files included.
    pub(crate) peak_rss_mb: f64,
    /// The memory that it has now (`VmRSS`).
    pub(crate) rss_mb: f64,
    /// How often one of its threads that live gave up a CPU by itself: how often it had been woken.
    pub(crate) wakeups: u64,
}

/// Reads it.
///
/// # Errors
/// When there is no such process.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let status = read(pid, "status")?;
    let kilobytes = |key| field(&status, key).unwrap_or(0) as f64 / 1024.0;
    Ok(Usage {
        cpu_s: cpu_s(&read(pid, "stat")?, OWN).context("understand /proc/<pid>/stat")?,
        peak_rss_mb: kilobytes("VmHWM:"),
        rss_mb: kilobytes("VmRSS:"),
        wakeups: wakeups(pid)?,
    })
}

/// Bytes on disk of files that have no name any more and live only as long as the process.
///
/// # Errors
/// When there is no such process.
pub(crate) fn unnamed_bytes(pid: u32) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed while we look.
        let Ok(path) = entry.map(|entry| entry.path()) else { continue };
        let Ok(target) = fs::read_link(&path) else { continue };
        let is_file_without_name =
            target.to_string_lossy().ends_with(" (deleted)") && !target.starts_with("/memfd:");
        if is_file_without_name && let Ok(metadata) = fs::metadata(&path) {
            bytes += metadata.blocks() * BLOCK_BYTES;
        }
    }
    Ok(bytes)
}

/// What the children of this process that have ended used, seconds on a CPU.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn ended_children_cpu_s() -> Result<f64> {
    cpu_s(&read(std::process::id(), "stat")?, CHILDREN).context("understand /proc/<pid>/stat")
}

fn wakeups(pid: u32) -> Result<u64> {
    let mut wakeups = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while we look.
        if let Ok(status) = fs::read_to_string(task?.path().join("status")) {
            wakeups += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        }
    }
    Ok(wakeups)
}

fn read(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path).with_context(|| format!("read {path}: has the process ended?"))
}

fn field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Two fields, in hundredths of a second on every Linux machine, so many behind the second field, which is a name in
/// parentheses and may hold blanks.
fn cpu_s(stat: &str, skip: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(skip);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some((next()? + next()?) as f64 / 100.0)
}

/// Of the process: fields 14 and 15.
const OWN: usize = 11;
/// Of its children that were waited for: fields 16 and 17.
const CHILDREN: usize = 13;
/// The unit of `st_blocks`, whatever the file system's own blocks are.
pub(crate) const BLOCK_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_a_name_with_blanks() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 30 20 20 0 1 0";
        assert_eq!(cpu_s(stat, OWN), Some(3.0));
        assert_eq!(cpu_s(stat, CHILDREN), Some(0.5));
        assert_eq!(cpu_s("7 (a", OWN), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.rss_mb > 0.0 && usage.peak_rss_mb >= usage.rss_mb);
    }

    #[test]
    fn a_file_without_a_name_is_counted() {
        let before = unnamed_bytes(std::process::id()).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        assert!(unnamed_bytes(std::process::id()).unwrap() >= before + (1 << 20));
    }
}
