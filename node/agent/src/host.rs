//! What the host says of itself.

use std::path::Path;
use std::time::Duration;

use copepod_model::Time;
use copepod_node_plan::usage::{FileSystem, Process};

/// Ticks per second in what `/proc` tells of processes: `USER_HZ`, the same on every Linux.
const TICKS: u64 = 100;

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

/// The file system that `path` is on.
pub(crate) fn file_system(path: &Path) -> Option<FileSystem> {
    let s = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(s.f_frsize);
    Some(FileSystem {
        capacity: bytes(s.f_blocks),
        available: bytes(s.f_bavail),
        used: bytes(s.f_blocks.saturating_sub(s.f_bfree)),
        inodes: s.f_files,
        inodes_free: s.f_ffree,
    })
}

/// CPU time of everything on the host so far; inside a container, of everything in it.
pub(crate) fn cpu_time() -> Option<Duration> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let v2 = || {
        let stat = read("/sys/fs/cgroup/cpu.stat")?;
        let micros = stat.lines().find_map(|l| l.strip_prefix("usage_usec "))?;
        micros.trim().parse().ok().map(Duration::from_micros)
    };
    let v1 = || read("/sys/fs/cgroup/cpuacct/cpuacct.usage")?.trim().parse().ok().map(Duration::from_nanos);
    v2().or_else(v1).or_else(|| busy(&read("/proc/stat")?))
}

/// The busy time of all processors in `/proc/stat`: everything but idle, waiting for disks, and what guests of a hypervisor
/// took, which counts among user already.
fn busy(stat: &str) -> Option<Duration> {
    let all = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = all.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let &[user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks.as_slice() else { return None };
    Some(of_ticks(user + nice + system + irq + softirq))
}

fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS))
}

/// This process.
pub(crate) fn process() -> Process {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (stat, status, host) = (read("/proc/self/stat"), read("/proc/self/status"), read("/proc/stat"));
    let (cpu, since_boot) = times(&stat).unzip();
    let boot = host.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok()).map(Time::from_secs);
    let bytes = |field: &str| kilobytes(&status, field).and_then(|b| u64::try_from(b).ok());
    Process {
        cpu,
        resident: bytes("VmRSS:"),
        virtual_memory: bytes("VmSize:"),
        started: boot.zip(since_boot).map(|(boot, later)| boot + later),
    }
}

/// CPU time, and start after the host's own, from `/proc/PID/stat` (proc_pid_stat(5)).
fn times(stat: &str) -> Option<(Duration, Duration)> {
    // The name in front may hold anything, parentheses too.
    let rest = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields 14, 15 and 22, where the first here is number 3.
    let ticks = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((of_ticks(ticks(14)? + ticks(15)?), of_ticks(ticks(22)?)))
}

fn meminfo(field: &str) -> Option<i64> {
    kilobytes(&std::fs::read_to_string("/proc/meminfo").ok()?, field)
}

/// Bytes of a field that is told in kB.
fn kilobytes(text: &str, field: &str) -> Option<i64> {
    let line = text.lines().find_map(|l| l.strip_prefix(field))?;
    line.trim().trim_end_matches("kB").trim().parse::<i64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_host_and_of_a_process() {
        let stat = "cpu  100 10 50 9999 7777 5 5 3 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\nbtime 1000\n";
        assert_eq!(busy(stat), Some(Duration::from_millis(1700)));
        assert_eq!((busy("cpu  1 2"), busy("")), (None, None));
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 4 0 12345 1000 5 0";
        assert_eq!(times(stat), Some((Duration::from_secs(3), Duration::from_millis(123_450))));
        assert_eq!(kilobytes("VmSize:\t  8 kB\nVmRSS:\t    2 kB\n", "VmRSS:"), Some(2048));
    }
}
