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
        let limit = cgroups().into_iter().map(|(limit, _)| limit).min().unwrap_or(i64::MAX);
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

/// Bytes of memory that are available now: on the host, and in each control group that this process is in.
pub(crate) fn memory_available() -> Option<i64> {
    let groups = cgroups().into_iter().map(|(limit, used)| (limit - used).max(0));
    meminfo("MemAvailable:").into_iter().chain(groups).min()
}

/// Limit and working set, in bytes, of the control groups around this process that have a memory limit.
fn cgroups() -> Vec<(i64, i64)> {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        // Version 2 has no controllers in this line; in version 1 memory is a hierarchy of its own.
        let files = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "),
            c if c.split(',').any(|c| c == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
            }
            _ => continue,
        };
        let (root, limit, usage, inactive) = files;
        // Inside a container the path may be the host's: then its root is what there is.
        for part in Path::new(path).ancestors() {
            let dir = Path::new(root).join(part.strip_prefix("/").unwrap_or(part));
            let number = |name: &str| std::fs::read_to_string(dir.join(name)).ok()?.trim().parse::<i64>().ok();
            // "max", or in version 1 a number beyond all memory, is no limit.
            let Some(limit) = number(limit).filter(|l| *l < i64::MAX / 2) else { continue };
            let stat = std::fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
            let cache = stat.lines().find_map(|l| l.strip_prefix(inactive)?.trim().parse::<i64>().ok());
            found.push((limit, (number(usage).unwrap_or(0) - cache.unwrap_or(0)).max(0)));
        }
    }
    found
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
