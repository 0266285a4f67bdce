//! Compiled modules on disk, by digest. They are machine code that will be run, so each is authenticated with a key
//! that only this node has, and one that fails is compiled again.

pub(crate) mod seal;

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ring::rand::{SecureRandom, SystemRandom};

use seal::Seal;

/// The folder of one compatible kind of artifacts.
pub(crate) struct Artifacts {
    folder: PathBuf,
    seal: Seal,
}

/// An artifact whose content is proven to be ours.
pub(crate) struct Authentic(pub(crate) File);

/// Length of the tag file.
const TAG: usize = 32;

impl Artifacts {
    /// Opens `<data_dir>/compiled`. Artifacts of other versions and settings of wasmtime lie in other folders.
    pub(crate) fn open(data_dir: &Path, engine: &wasmtime::Engine) -> io::Result<Self> {
        let root = data_dir.join("compiled");
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility = hasher.finish();
        let folder = root.join(format!("{compatibility:016x}"));
        fs::create_dir_all(&folder)?;
        let seal = Seal::new(&secret(&root.join("key"))?, compatibility);
        Ok(Artifacts { folder, seal })
    }

    /// The artifact of `digest`, if there is one and it is authentic.
    pub(crate) fn load(&self, digest: &str) -> Option<Authentic> {
        match self.check(digest) {
            Ok(file) => Some(Authentic(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(digest, %error, "compiled artifact refused; compiling again");
                None
            }
        }
    }

    fn check(&self, digest: &str) -> io::Result<File> {
        let path = self.path(digest)?;
        let mut file = File::open(&path)?;
        let tag = fs::read(path.with_extension("tag"))?;
        if !self.seal.is_authentic(digest, &mut file, &tag)? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its tag does not match"));
        }
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// Keeps an artifact for the next start. A crash in between leaves one that fails its check.
    pub(crate) fn store(&self, digest: &str, artifact: &[u8]) -> io::Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = self.path(digest)?;
        let tag = self.seal.tag(digest, artifact);
        let temporary =
            path.with_extension(format!("tmp-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        // The tag comes last: without it the artifact counts as absent.
        for (bytes, path) in [(artifact, path.clone()), (tag.as_ref(), path.with_extension("tag"))] {
            let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
            if written.is_err() {
                let _ = fs::remove_file(&temporary);
            }
            written?;
        }
        Ok(())
    }

    /// Bytes on disk for `digest`.
    pub(crate) fn size(&self, digest: &str) -> u64 {
        let Ok(path) = self.path(digest) else { return 0 };
        [path.with_extension("tag"), path].iter().filter_map(|p| fs::metadata(p).ok()).map(|m| m.len()).sum()
    }

    /// Deletes what is kept for `digest`: the bytes that were.
    pub(crate) fn remove(&self, digest: &str) -> io::Result<u64> {
        let (path, size) = (self.path(digest)?, self.size(digest));
        for path in [path.with_extension("tag"), path] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(size)
    }

    /// Deletes artifacts whose digest is not wanted, and those of other versions and settings of wasmtime.
    pub(crate) fn sweep(&self, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let hex = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_string();
            // Half-written files have another extension, and their own digest in front of it.
            if !wanted(&format!("sha256:{hex}")) {
                fs::remove_file(path)?;
            }
        }
        let root = self.folder.parent().unwrap_or(&self.folder);
        for entry in fs::read_dir(root)? {
            let path = entry?.path();
            if path.is_dir() && path != self.folder {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: &str) -> io::Result<PathBuf> {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a digest"));
        }
        Ok(self.folder.join(format!("{hex}.cwasm")))
    }
}

/// Reads the node's key, or makes one that nobody else can read.
fn secret(path: &Path) -> io::Result<Vec<u8>> {
    loop {
        match fs::read(path) {
            Ok(key) if key.len() == TAG => return Ok(key),
            Ok(_) => fs::remove_file(path)?, // damaged; its artifacts will be refused and compiled again
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let mut key = [0; TAG];
        SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("no randomness"))?;
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                file.write_all(&key)?;
                return Ok(key.to_vec());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(dir: &Path) -> Artifacts {
        Artifacts::open(dir, &wasmtime::Engine::default()).unwrap()
    }

    #[test]
    fn what_was_stored_is_loaded_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).store("sha256:aa", b"code").unwrap();
        let mut text = String::new();
        open(dir.path()).load("sha256:aa").unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "code");
        assert!(open(dir.path()).load("sha256:bb").is_none());
        let mode = fs::metadata(dir.path().join("compiled/key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_changed_or_exchanged_artifact_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = open(dir.path());
        artifacts.store("sha256:aa", b"code").unwrap();
        artifacts.store("sha256:bb", b"other").unwrap();
        let (a, b) = (artifacts.path("sha256:aa").unwrap(), artifacts.path("sha256:bb").unwrap());
        fs::write(&a, b"evil").unwrap();
        assert!(artifacts.load("sha256:aa").is_none());
        // Somebody else's artifact with its own valid tag is not this one.
        fs::copy(&b, &a).unwrap();
        fs::copy(b.with_extension("tag"), a.with_extension("tag")).unwrap();
        assert!(artifacts.load("sha256:aa").is_none());
        assert!(artifacts.load("sha256:bb").is_some());
        // Nor is one that another node has made.
        fs::write(dir.path().join("compiled/key"), [7; TAG]).unwrap();
        assert!(open(dir.path()).load("sha256:bb").is_none());
    }

    #[test]
    fn what_is_not_wanted_goes() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = open(dir.path());
        fs::create_dir(dir.path().join("compiled/0000000000000000")).unwrap();
        artifacts.store("sha256:aa", b"code").unwrap();
        artifacts.store("sha256:bb", b"code").unwrap();
        assert_eq!(artifacts.size("sha256:aa"), 4 + TAG as u64);
        artifacts.sweep(|digest| digest == "sha256:aa").unwrap();
        assert!(artifacts.load("sha256:aa").is_some() && artifacts.load("sha256:bb").is_none());
        assert_eq!(artifacts.remove("sha256:aa").unwrap(), 4 + TAG as u64);
        assert_eq!(artifacts.remove("sha256:aa").unwrap(), 0);
        let left: Vec<_> = fs::read_dir(dir.path().join("compiled")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left.len(), 2, "the key and one empty folder: {left:?}");
    }

    #[test]
    fn a_digest_is_not_a_path() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).store("sha256:../../x", b"code").is_err());
    }
}
