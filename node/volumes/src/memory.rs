//! Where the node has files in memory.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const SHM: &str = "/dev/shm";
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: u64 = 0x0102_1994;
/// With less room than this the tokens of a node's pods would soon fill it.
const LEAST: u64 = 128 << 20;

/// A folder in memory for the node with this data folder, which nobody else can enter. It outlives the agent.
pub(crate) fn root(data_dir: &Path) -> Option<PathBuf> {
    let fs = rustix::fs::statfs(SHM).ok()?;
    let room = fs.f_bavail.saturating_mul(u64::try_from(fs.f_bsize).unwrap_or(0));
    if u64::try_from(fs.f_type) != Ok(TMPFS) || room < LEAST {
        tracing::info!("no room in {SHM}: Secrets in volumes are kept on disk, and there is no emptyDir in memory");
        return None;
    }
    let mut hasher = DefaultHasher::new();
    data_dir.canonicalize().unwrap_or_else(|_| data_dir.into()).hash(&mut hasher);
    let user = rustix::process::geteuid();
    let dir = Path::new(SHM).join(format!("copepod-{}-{:016x}", user.as_raw(), hasher.finish()));
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(_) => return None,
    }
    // Anyone can make names in /dev/shm: this one must be ours, a folder, and closed.
    let meta = std::fs::symlink_metadata(&dir).ok()?;
    let ours = meta.is_dir() && meta.uid() == user.as_raw() && meta.permissions().mode() & 0o077 == 0;
    ours.then_some(dir)
}
