//! The store's files. Each becomes visible complete and on disk, or not at all.
//!
//! ```text
//! DIR/blobs/<hex>                        content of blobs and manifests, by SHA-256
//! DIR/repositories/NAME/_blobs/<hex>     the repository has this blob (empty)
//! DIR/repositories/NAME/_manifests/<hex> the repository has this manifest; holds its media type
//! DIR/repositories/NAME/_tags/TAG        holds the digest of a manifest
//! DIR/uploads/<id>                       an upload under way; its first line in <id>.name is the repository
//! ```
//!
//! No part of a repository's name begins with `_`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::path::Digest;

/// Content that nothing refers to is kept this long, since a push sends blobs before what refers to them.
const ORPHANS: Duration = Duration::from_secs(24 * 3600);
/// An upload that nobody has added to for this long is given up.
const IDLE: Duration = Duration::from_secs(3600);

/// What a repository has under a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Blob,
    Manifest,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Kind::Blob => "_blobs",
            Kind::Manifest => "_manifests",
        }
    }
}

pub(super) struct Files {
    dir: PathBuf,
    /// Held while links are made or taken away, so that content is not removed between its arrival and its link.
    links: Mutex<()>,
}

impl Files {
    pub(super) fn open(dir: PathBuf) -> io::Result<Files> {
        for sub in ["blobs", "repositories", "uploads"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let files = Files { dir, links: Mutex::default() };
        files.sweep(SystemTime::now())?;
        Ok(files)
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.hex())
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.dir.join("repositories").join(name)
    }

    fn link_path(&self, name: &str, kind: Kind, digest: &Digest) -> PathBuf {
        self.repository(name).join(kind.folder()).join(digest.hex())
    }

    /// Whether a repository exists.
    pub(super) fn exists(&self, name: &str) -> bool {
        [Kind::Blob, Kind::Manifest].iter().any(|k| self.repository(name).join(k.folder()).is_dir())
    }

    /// The media type of what a repository has under a digest (empty for blobs); `None` if it has not.
    pub(super) fn link(&self, name: &str, kind: Kind, digest: &Digest) -> io::Result<Option<String>> {
        match fs::read_to_string(self.link_path(name, kind, digest)) {
            Ok(text) if self.blob(digest).exists() => Ok(Some(text)),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Gives a repository what is in the store already.
    pub(super) fn add_link(&self, name: &str, kind: Kind, digest: &Digest, media_type: &str) -> io::Result<bool> {
        let _held = self.hold();
        if !self.blob(digest).exists() {
            return Ok(false);
        }
        self.write(&self.link_path(name, kind, digest), media_type.as_bytes())?;
        Ok(true)
    }

    /// Keeps a complete file, whose digest the caller has computed, and gives it to a repository.
    pub(super) fn keep(
        &self,
        file: &Path,
        name: &str,
        kind: Kind,
        digest: &Digest,
        media_type: &str,
    ) -> io::Result<()> {
        File::open(file)?.sync_all()?;
        let _held = self.hold();
        fs::rename(file, self.blob(digest))?;
        sync_dir(&self.dir.join("blobs"))?;
        self.write(&self.link_path(name, kind, digest), media_type.as_bytes())
    }

    /// A new file for an upload.
    pub(super) fn upload(&self, id: &str) -> PathBuf {
        self.dir.join("uploads").join(id)
    }

    /// How many uploads are under way.
    pub(super) fn uploads(&self) -> io::Result<usize> {
        Ok(fs::read_dir(self.dir.join("uploads"))?.count())
    }

    /// Sets a tag.
    pub(super) fn set_tag(&self, name: &str, tag: &str, digest: &Digest) -> io::Result<()> {
        let _held = self.hold();
        self.write(&self.repository(name).join("_tags").join(tag), digest.to_string().as_bytes())
    }

    /// What a tag stands for.
    pub(super) fn tag(&self, name: &str, tag: &str) -> io::Result<Option<Digest>> {
        match fs::read_to_string(self.repository(name).join("_tags").join(tag)) {
            Ok(text) => Ok(Digest::parse(text.trim()).ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All tags of a repository, in order.
    pub(super) fn tags(&self, name: &str) -> io::Result<Vec<String>> {
        names(&self.repository(name).join("_tags"))
    }

    /// The digests of all manifests of a repository.
    pub(super) fn manifests(&self, name: &str) -> io::Result<Vec<Digest>> {
        let all = names(&self.repository(name).join(Kind::Manifest.folder()))?;
        Ok(all.iter().filter_map(|hex| Digest::parse(&format!("sha256:{hex}")).ok()).collect())
    }

    /// Takes a tag away; `false` if there is none.
    pub(super) fn remove_tag(&self, name: &str, tag: &str) -> io::Result<bool> {
        let _held = self.hold();
        remove(&self.repository(name).join("_tags").join(tag))
    }

    /// Takes something away from a repository, with the tags that stand for it, and the content if no other has it.
    pub(super) fn remove_link(&self, name: &str, kind: Kind, digest: &Digest) -> io::Result<bool> {
        if kind == Kind::Manifest {
            for tag in self.tags(name)? {
                if self.tag(name, &tag)?.as_ref() == Some(digest) {
                    self.remove_tag(name, &tag)?;
                }
            }
        }
        let _held = self.hold();
        if !remove(&self.link_path(name, kind, digest))? {
            return Ok(false);
        }
        let mut links = BTreeSet::new();
        collect_links(&self.dir.join("repositories"), &mut links)?;
        if !links.contains(digest.hex()) {
            remove(&self.blob(digest))?;
        }
        Ok(true)
    }

    /// Every repository, in order.
    pub(super) fn repositories(&self) -> io::Result<Vec<String>> {
        let mut out = Vec::new();
        find_repositories(&self.dir.join("repositories"), "", &mut out)?;
        out.sort();
        Ok(out)
    }

    /// Removes uploads that were given up, and content that no repository has.
    pub(super) fn sweep(&self, now: SystemTime) -> io::Result<()> {
        let old = |path: &Path, age: Duration| {
            let modified = fs::metadata(path).and_then(|m| m.modified()).ok();
            modified.and_then(|m| now.duration_since(m).ok()).is_some_and(|d| d > age)
        };
        for name in names(&self.dir.join("uploads"))? {
            let path = self.upload(&name);
            if old(&path, IDLE) {
                remove(&path)?;
            }
        }
        let _held = self.hold();
        let mut links = BTreeSet::new();
        collect_links(&self.dir.join("repositories"), &mut links)?;
        for hex in names(&self.dir.join("blobs"))? {
            let path = self.dir.join("blobs").join(&hex);
            if !links.contains(&hex) && old(&path, ORPHANS) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Writes a small file at once.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder)?;
        // In the folder of uploads, so that what a crash leaves is swept.
        let tmp = self.upload(&format!("small-{}", crate::random_name()));
        let mut file = File::create(&tmp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&tmp, path)?;
        // The folder may be new, and its parents.
        let mut at = Some(folder);
        while let Some(dir) = at.filter(|d| d.starts_with(&self.dir)) {
            sync_dir(dir)?;
            at = dir.parent();
        }
        Ok(())
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The names in a folder, in order; none if there is no folder.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut out = Vec::new();
    for entry in entries {
        out.extend(entry?.file_name().into_string().ok());
    }
    out.sort();
    Ok(out)
}

fn collect_links(dir: &Path, out: &mut BTreeSet<String>) -> io::Result<()> {
    for name in names(dir)? {
        match name.as_str() {
            "_blobs" | "_manifests" => out.extend(names(&dir.join(name))?),
            "_tags" => {}
            _ => collect_links(&dir.join(name), out)?,
        }
    }
    Ok(())
}

fn find_repositories(dir: &Path, prefix: &str, out: &mut Vec<String>) -> io::Result<()> {
    let all = names(dir)?;
    if !prefix.is_empty() && dir.join("_manifests").is_dir() {
        out.push(prefix.to_string());
    }
    for name in all.into_iter().filter(|n| !n.starts_with('_')) {
        let below = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        find_repositories(&dir.join(name), &below, out)?;
    }
    Ok(())
}
