//! Where and with what it was measured.

use std::path::Path;

use tokio::process::Command;

use crate::cluster::binary;

/// Prints it.
pub async fn print(dir: &Path, etcd: Result<&str, &String>) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = value(&read("/proc/cpuinfo"), "model name");
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    println!("{cores} cores ({cpu}), memory {memory}, Linux {},", read("/proc/sys/kernel/osrelease").trim());
    println!("{} on {},", dir.display(), filesystem(&read("/proc/mounts"), dir));
    let ours = Command::new(binary()).arg("--version").output().await;
    let ours = ours.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_string());
    let ours = ours.unwrap_or_else(|e| format!("{}: {e}", binary().display()));
    let etcd = etcd.map_or_else(Clone::clone, |version| format!("etcd {version}"));
    println!("{ours}, {etcd}.");
}

/// What follows a name and a colon.
fn value(text: &str, name: &str) -> String {
    let found = text.lines().find_map(|l| l.strip_prefix(name)?.trim_start().strip_prefix(':'));
    found.unwrap_or("?").trim().into()
}

/// Type and device of the file system that a path is on: of the longest mount point above it, the last one of several.
fn filesystem(mounts: &str, path: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, at, kind) = (words.next()?, words.next()?, words.next()?);
        path.starts_with(at).then(|| (at.len(), format!("{kind} ({device})")))
    });
    mounts.max_by_key(|(length, _)| *length).map_or("an unknown file system".into(), |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_nearest_mount_point() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nother /tm nfs rw 0 0\n";
        assert_eq!(filesystem(mounts, Path::new("/tmp/a")), "tmpfs (tmpfs)");
        assert_eq!(filesystem(mounts, Path::new("/var/tmp")), "ext4 (/dev/vda)");
        assert_eq!(filesystem("", Path::new("/")), "an unknown file system");
    }

    #[test]
    fn values_are_found_by_name() {
        assert_eq!(value("processor\t: 0\nmodel name\t: Some CPU\n", "model name"), "Some CPU");
        assert_eq!(value("MemTotal:       1 kB\n", "MemTotal"), "1 kB");
        assert_eq!(value("", "MemTotal"), "?");
    }
}
