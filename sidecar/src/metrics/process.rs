//! What the process itself uses, under the names that every Prometheus client gives it.

use std::fmt;

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, WithCurrentSystemInfo};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::{counter_of_floats, float, gauge};

/// Reads `/proc` at each scrape.
#[derive(Debug)]
pub(super) struct Usage;

/// The numbers.
struct Numbers {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: u64,
    start_seconds: f64,
    open_files: u64,
    open_files_max: Option<u64>,
}

fn read() -> ProcResult<Numbers> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = float(procfs::ticks_per_second());
    let limit = process.limits()?.max_open_files.soft_limit;
    Ok(Numbers {
        cpu_seconds: float(stat.utime + stat.stime) / ticks,
        resident_bytes: stat.rss_bytes().get(),
        virtual_bytes: stat.vsize,
        threads: u64::try_from(stat.num_threads).unwrap_or(0),
        start_seconds: float(procfs::boot_time_secs()?) + float(stat.starttime) / ticks,
        open_files: process.fd_count()? as u64,
        open_files_max: match limit {
            LimitValue::Value(max) => Some(max),
            LimitValue::Unlimited => None,
        },
    })
}

impl Collector for Usage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Where there is no /proc, these lines are missing and all others are there.
        let Ok(numbers) = read() else { return Ok(()) };
        let encoder = &mut encoder;
        let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
        let alone = |value: f64| [(Vec::new(), value)];
        counter_of_floats(encoder, "cpu", "Time of the processor used.", seconds, numbers.cpu_seconds)?;
        let help = "Memory that is resident.";
        gauge(encoder, "resident_memory", help, bytes, alone(float(numbers.resident_bytes)))?;
        let help = "Memory that is addressable.";
        gauge(encoder, "virtual_memory", help, bytes, alone(float(numbers.virtual_bytes)))?;
        let help = "When the process began, seconds since 1970.";
        gauge(encoder, "start_time", help, seconds, alone(numbers.start_seconds))?;
        gauge(encoder, "threads", "Threads.", None, alone(float(numbers.threads)))?;
        gauge(encoder, "open_fds", "Open files.", None, alone(float(numbers.open_files)))?;
        let max = numbers.open_files_max.map(|max| (Vec::new(), float(max)));
        gauge(encoder, "max_fds", "Files that may be open.", None, max)
    }
}
