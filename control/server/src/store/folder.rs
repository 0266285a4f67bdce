//! The folder: one process at a time, and a format that this release knows. Both are checked before anything is touched.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{Backends, FORMAT, OpenError};

/// The file names of the two databases.
pub(super) const LOG: &str = "raft.redb";
pub(super) const MIRROR: &str = "objects.redb";

const FORMAT_FILE: &str = "format";
const HEAD: &str = "copepod store";

/// An open folder, locked as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Locks `dir` and checks its format; creates it when there is none.
    pub(super) fn open(dir: &Path, backends: &dyn Backends) -> Result<Folder, OpenError> {
        let fail = |what: &str| {
            let what = format!("{what} {}", dir.display());
            move |source| OpenError::Io { what, source }
        };
        create(dir).map_err(fail("cannot create"))?;
        let folder = Folder { _lock: lock(dir)?, dir: dir.to_path_buf() };
        let exists = |name| backends.exists(name).map_err(fail("cannot read"));
        let (log, mirror) = (exists(LOG)?, exists(MIRROR)?);
        match folder.read_format().map_err(fail("cannot read"))? {
            None if log || mirror => {
                return Err(folder.damaged(format!("there are databases but no file `{FORMAT_FILE}`")));
            }
            None => {
                folder.write_format(" new").map_err(fail("cannot write"))?;
            }
            Some(text) => match parse(&text) {
                None => return Err(folder.damaged(format!("the file `{FORMAT_FILE}` is not copepod's"))),
                Some((found, _)) if found > FORMAT => {
                    return Err(OpenError::Newer { dir: folder.dir.clone(), found, known: FORMAT });
                }
                // A first start was cut off: nothing in it was ever acknowledged.
                Some((_, true)) => {
                    for name in [LOG, MIRROR] {
                        backends.remove(name).map_err(fail("cannot write"))?;
                    }
                }
                Some((_, false)) if !log => {
                    return Err(folder.damaged(format!("{LOG} is missing")));
                }
                Some((_, false)) => {}
            },
        }
        Ok(folder)
    }

    /// Whether a store was made in `dir` to its end.
    pub(super) fn is_ready(dir: &Path) -> bool {
        let text = fs::read_to_string(dir.join(FORMAT_FILE)).ok();
        text.as_deref().and_then(parse).is_some_and(|(_, new)| !new)
    }

    /// Both databases are there: from now on they hold what must not be lost.
    pub(super) fn ready(&self) -> Result<(), OpenError> {
        let path = self.dir.join(FORMAT_FILE);
        let fail = |source| OpenError::Io { what: format!("cannot write {}", path.display()), source };
        if self.read_format().map_err(fail)?.as_deref().and_then(parse) != Some((FORMAT, false)) {
            self.write_format("").map_err(fail)?;
        }
        Ok(())
    }

    fn damaged(&self, what: String) -> OpenError {
        OpenError::Damaged { dir: self.dir.clone(), what }
    }

    fn read_format(&self) -> io::Result<Option<String>> {
        match fs::read(self.dir.join(FORMAT_FILE)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn write_format(&self, state: &str) -> io::Result<()> {
        let new = self.dir.join("format.new");
        let mut file = File::create(&new)?;
        file.write_all(format!("{HEAD} {FORMAT}{state}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(FORMAT_FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// The format's number, and whether a first start is under way.
fn parse(text: &str) -> Option<(u32, bool)> {
    let mut words = text.strip_prefix(HEAD)?.split_whitespace();
    let number = words.next()?.parse().ok()?;
    match (words.next(), words.next()) {
        (None, _) => Some((number, false)),
        (Some("new"), None) => Some((number, true)),
        // What a later release says there is its own affair.
        _ => (number > FORMAT).then_some((number, false)),
    }
}

fn create(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let fail = |source| OpenError::Io { what: format!("cannot lock {}", path.display()), source };
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut pid);
            return Err(OpenError::Locked { dir: dir.to_path_buf(), pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(e)) => return Err(fail(e)),
    }
    file.set_len(0).map_err(fail)?;
    file.write_all(std::process::id().to_string().as_bytes()).map_err(fail)?;
    Ok(file)
}
