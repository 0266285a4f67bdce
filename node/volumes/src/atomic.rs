//! A directory of files whose change is seen at once and as a whole: the files are in a folder with a time for its name,
//! `..data` is a link to it, and what a guest sees are links through `..data`, whose exchange is one rename.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use copepod_node_plan::VolumeFile;

use crate::VolumeError;

const DATA: &str = "..data";
const NEW: &str = "..data_tmp";
/// Longest path of a file, and longest part of one.
const LONGEST: (usize, usize) = (4096, 255);

/// Makes `dir` show exactly these files.
pub(crate) fn write(dir: &Path, files: &BTreeMap<String, VolumeFile>) -> Result<(), VolumeError> {
    for path in files.keys() {
        check(path)?;
    }
    let failed = |what: &str, path: &Path| VolumeError::io(format!("{what} {}", path.display()));
    let old = fs::read_link(dir.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| same(&dir.join(old), files)) {
        return link(dir, files);
    }
    let name = fresh(dir);
    let payload = dir.join(&name);
    private(&payload).map_err(failed("mkdir", &payload))?;
    for (path, file) in files {
        let at = payload.join(path);
        if let Some(parent) = at.parent() {
            private(parent).map_err(failed("mkdir", parent))?;
        }
        put(&at, file).map_err(failed("write", &at))?;
    }
    let new = dir.join(NEW);
    let _ = fs::remove_file(&new);
    symlink(&name, &new).map_err(failed("symlink", &new))?;
    fs::rename(&new, dir.join(DATA)).map_err(failed("rename", &new))?;
    link(dir, files)?;
    // What else is there was shown before, or was being made when an earlier agent ended.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let at = entry.file_name();
        let leftover = at.to_str().is_some_and(|n| n.starts_with("..") && n != DATA && n != name);
        if leftover && entry.path().is_dir() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Links for the first parts of all paths; those of paths that are no more go.
fn link(dir: &Path, files: &BTreeMap<String, VolumeFile>) -> Result<(), VolumeError> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|p| p.split('/').next()).collect();
    for first in &wanted {
        let at = dir.join(first);
        let target = Path::new(DATA).join(first);
        if fs::read_link(&at).ok().as_ref() != Some(&target) {
            let _ = fs::remove_file(&at);
            symlink(&target, &at).map_err(VolumeError::io(format!("symlink {}", at.display())))?;
        }
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let stale = name.to_str().is_some_and(|n| !n.starts_with("..") && !wanted.contains(n));
        if stale && entry.file_type().is_ok_and(|t| t.is_symlink()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// A relative path that stays inside and hides nothing.
fn check(path: &str) -> Result<(), VolumeError> {
    let wrong = |why: &str| Err(VolumeError::Refused(format!("invalid path \"{path}\": {why}")));
    if path.is_empty() || path.len() > LONGEST.0 || path.contains('\0') {
        return wrong("must have between 1 and 4096 characters");
    }
    if path.starts_with('/') {
        return wrong("must be a relative path");
    }
    if path.starts_with("..") {
        return wrong("must not start with '..'");
    }
    for part in path.split('/') {
        if matches!(part, "" | "." | "..") || part.len() > LONGEST.1 {
            return wrong("must have proper parts");
        }
    }
    Ok(())
}

fn same(payload: &Path, files: &BTreeMap<String, VolumeFile>) -> bool {
    let equal = |(path, file): (&String, &VolumeFile)| {
        let at = payload.join(path);
        let mode = fs::metadata(&at).map(|m| m.permissions().mode() & 0o777).ok();
        mode == Some(owner(file.mode)) && fs::read(&at).is_ok_and(|data| data == file.data)
    };
    count(payload) == files.len() && files.iter().all(equal)
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| if e.file_type().is_ok_and(|t| t.is_dir()) { count(&e.path()) } else { 1 }).sum()
}

fn put(at: &Path, file: &VolumeFile) -> std::io::Result<()> {
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(at)?;
    out.write_all(&file.data)?;
    fs::set_permissions(at, fs::Permissions::from_mode(owner(file.mode)))
}

/// Guests are all this process: of a file's mode only its owner's part means something.
fn owner(mode: u32) -> u32 {
    mode & 0o700
}

fn private(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn fresh(dir: &Path) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut number = now.as_nanos();
    loop {
        let name = format!("..{number}");
        if fs::symlink_metadata(dir.join(&name)).is_err() {
            return name;
        }
        number += 1;
    }
}
