//! What the host says of itself.

use std::path::Path;

/// The host, read once at start.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub cpu_millis: i64,
    pub memory: i64,
    pub storage: i64,
    pub machine_id: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
    pub architecture: &'static str,
}

impl Host {
    /// Reads the host. What cannot be read is empty or the least.
    pub fn read(data_dir: &Path) -> Host {
        let text = |path: &str| std::fs::read_to_string(path).map(|s| s.trim().to_string()).unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let total = meminfo("MemTotal:").unwrap_or(0);
        // A container's limit is what its processes really have.
        let limit = text("/sys/fs/cgroup/memory.max").parse::<i64>().unwrap_or(i64::MAX);
        let release = text("/etc/os-release");
        let os = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
        Host {
            cpu_millis: i64::try_from(cpus).unwrap_or(1) * 1000,
            memory: total.min(limit),
            storage: disk(data_dir).map_or(0, |(total, _)| total),
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: os.trim_matches('"').to_string(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
        }
    }
}

/// Bytes of memory that are available now.
pub(crate) fn memory_available() -> Option<i64> {
    meminfo("MemAvailable:")
}

/// Total and available bytes of the file system that `path` is on.
pub(crate) fn disk(path: &Path) -> Option<(i64, i64)> {
    let s = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(s.f_frsize)).unwrap_or(i64::MAX);
    Some((bytes(s.f_blocks), bytes(s.f_bavail)))
}

fn meminfo(field: &str) -> Option<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(field))?;
    line.trim().trim_end_matches("kB").trim().parse::<i64>().ok().map(|kb| kb * 1024)
}
