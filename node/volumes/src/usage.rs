//! What a directory takes on its file system.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of blocks that are allocated to all files below `dir`; links are not followed, holes count nothing. Without a
/// recursion, since a guest decides how deep it is.
pub fn disk_usage(dir: &Path) -> u64 {
    disk_usage_with_inodes(dir).0
}

/// The same, and how many files and folders there are.
pub fn disk_usage_with_inodes(dir: &Path) -> (u64, u64) {
    let mut open = vec![dir.to_path_buf()];
    let (mut blocks, mut inodes): (u64, u64) = (0, 0);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            blocks = blocks.saturating_add(meta.blocks());
            inodes += 1;
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
    (blocks.saturating_mul(512), inodes)
}
