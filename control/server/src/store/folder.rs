//! The folder: one process at a time, and a format that this release knows. Both are checked before anything is touched.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::upgrade::{self, STEPS, Step};
use super::{Backends, FORMAT, OpenError};

/// The file names of the two databases.
pub(super) const LOG: &str = "raft.redb";
pub(super) const MIRROR: &str = "objects.redb";

const FORMAT_FILE: &str = "format";
const LOCK: &str = "lock";
const HEAD: &str = "copepod store";

/// What the file `format` says of the folder, beside the format's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The databases hold what must not be lost.
    Ready,
    /// A first start is under way: nothing in it was ever acknowledged.
    New,
    /// A state is being restored into it.
    Restoring,
    /// There are whole copies of the databases, which are on their way to the next format.
    Upgrading,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ready => "",
            State::New => " new",
            State::Restoring => " restoring",
            State::Upgrading => " upgrading",
        }
    }
}

/// An open folder, locked as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Locks `dir` and checks its format; creates it when there is none, and brings an older one to this release's
    /// format.
    pub(super) fn open(dir: &Path, backends: &dyn Backends) -> Result<Folder, OpenError> {
        Folder::open_as(dir, backends, FORMAT, STEPS)
    }

    /// The same for a release whose format is `known`, and which has these steps to it.
    pub(super) fn open_as(
        dir: &Path,
        backends: &dyn Backends,
        known: u32,
        steps: &[Step],
    ) -> Result<Folder, OpenError> {
        create(dir).map_err(fail("cannot create", dir))?;
        let folder = Folder { _lock: lock(dir)?, dir: dir.to_path_buf() };
        let exists = |name| backends.exists(name).map_err(fail("cannot read", dir));
        let (log, mirror) = (exists(LOG)?, exists(MIRROR)?);
        match folder.read_format().map_err(fail("cannot read", dir))? {
            None if log || mirror => {
                return Err(folder.damaged(format!("there are databases but no file `{FORMAT_FILE}`")));
            }
            None => folder.mark(known, State::New)?,
            Some(text) => match parse(&text, known) {
                None => return Err(folder.damaged(format!("the file `{FORMAT_FILE}` is not copepod's"))),
                Some((found, _)) if found > known => {
                    return Err(OpenError::Newer { dir: folder.dir.clone(), found, known });
                }
                // A first start was cut off.
                Some((_, State::New)) => folder.clear(backends)?,
                Some((_, State::Restoring)) => {
                    return Err(folder.damaged("a restore into it was cut off; restore again".into()));
                }
                Some(_) if !log => {
                    return Err(folder.damaged(format!("{LOG} is missing")));
                }
                Some((found, State::Upgrading)) if found == known => {
                    let what = "its upgrade by a later release was cut off; start that release again";
                    return Err(folder.damaged(what.into()));
                }
                Some((found, state)) if found < known => {
                    upgrade::run(&folder, backends, (found, state), known, steps)?;
                }
                Some(_) => {}
            },
        }
        Ok(folder)
    }

    /// Whether a store was made in `dir` to its end.
    pub(super) fn is_ready(dir: &Path) -> bool {
        let text = fs::read_to_string(dir.join(FORMAT_FILE)).ok();
        text.as_deref()
            .and_then(|t| parse(t, FORMAT))
            .is_some_and(|(_, state)| matches!(state, State::Ready | State::Upgrading))
    }

    /// Locks `dir`, which must have a state; changes nothing.
    pub(super) fn existing(dir: &Path) -> Result<Folder, OpenError> {
        let no_state = |source| OpenError::Io { what: format!("there is no state in {}", dir.display()), source };
        fs::metadata(dir.join(FORMAT_FILE)).map_err(no_state)?;
        let folder = Folder { _lock: lock(dir)?, dir: dir.to_path_buf() };
        folder.must_be_ready()?;
        Ok(folder)
    }

    /// The format of a folder that holds a whole state in this release's format.
    pub(super) fn must_be_ready(&self) -> Result<u32, OpenError> {
        let text = self.read_format().map_err(fail("cannot read", &self.dir))?.unwrap_or_default();
        match parse(&text, FORMAT) {
            Some((found, _)) if found > FORMAT => Err(OpenError::Newer { dir: self.dir.clone(), found, known: FORMAT }),
            Some((FORMAT, State::Ready)) => Ok(FORMAT),
            Some((FORMAT, State::Restoring)) => {
                Err(self.damaged("a restore into it was cut off; restore again".into()))
            }
            Some(_) => {
                Err(self.damaged("its first start or its upgrade is not finished; start its server once".into()))
            }
            None => Err(self.damaged(format!("the file `{FORMAT_FILE}` is not copepod's"))),
        }
    }

    /// Locks a folder without writing anything: it shows whether somebody else has it.
    pub(super) fn look(dir: &Path) -> Result<Folder, OpenError> {
        let io = |source| OpenError::Io { what: format!("cannot read {}", dir.display()), source };
        // A copy of a folder need not have the file. Any other does as well, since nobody starts from it meanwhile.
        let lock = match File::open(dir.join(LOCK)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => File::open(dir.join(FORMAT_FILE)).map_err(io)?,
            other => other.map_err(io)?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(Folder { dir: dir.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_path_buf(), pid: holder(dir) }),
            Err(TryLockError::Error(e)) => Err(io(e)),
        }
    }

    /// Locks `dir` for a state to be restored into it: a new or empty folder, or one in which that was cut off.
    pub(super) fn restore(dir: &Path, backends: &dyn Backends) -> Result<Folder, OpenError> {
        let read = |source| OpenError::Io { what: format!("cannot read {}", dir.display()), source };
        // Before the lock, which is a file of its own.
        if !is_empty(dir).map_err(read)? && !dir.join(FORMAT_FILE).exists() {
            return Err(OpenError::NotEmpty { dir: dir.to_path_buf() });
        }
        create(dir).map_err(fail("cannot create", dir))?;
        let folder = Folder { _lock: lock(dir)?, dir: dir.to_path_buf() };
        match folder.read_format().map_err(read)?.as_deref().map(|text| parse(text, FORMAT)) {
            None if is_empty(dir).map_err(read)? => {}
            Some(Some((FORMAT, State::Restoring | State::New))) => {}
            _ => return Err(OpenError::NotEmpty { dir: dir.to_path_buf() }),
        }
        folder.mark(FORMAT, State::Restoring)?;
        folder.clear(backends)?;
        // The folder may be new, and those around it; one that cannot be opened was there before.
        for around in dir.ancestors().skip(1).take(3) {
            let _ = File::open(around).and_then(|d| d.sync_all());
        }
        Ok(folder)
    }

    /// Both databases are there: from now on they hold what must not be lost.
    pub(super) fn ready(&self) -> Result<(), OpenError> {
        let text = self.read_format().map_err(fail("cannot read", &self.dir))?;
        match text.as_deref().and_then(|t| parse(t, FORMAT)) {
            Some((FORMAT, State::Ready)) => Ok(()),
            _ => self.mark(FORMAT, State::Ready),
        }
    }

    /// Says durably what the folder is.
    pub(super) fn mark(&self, format: u32, state: State) -> Result<(), OpenError> {
        self.write_format(format, state).map_err(fail("cannot write", &self.dir))
    }

    fn clear(&self, backends: &dyn Backends) -> Result<(), OpenError> {
        for name in [LOG, MIRROR] {
            backends.remove(name).map_err(fail("cannot write", &self.dir))?;
        }
        Ok(())
    }

    pub(super) fn damaged(&self, what: String) -> OpenError {
        OpenError::Damaged { dir: self.dir.clone(), what }
    }

    fn read_format(&self) -> io::Result<Option<String>> {
        match fs::read(self.dir.join(FORMAT_FILE)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn write_format(&self, format: u32, state: State) -> io::Result<()> {
        let new = self.dir.join("format.new");
        let mut file = File::create(&new)?;
        file.write_all(format!("{HEAD} {format}{}\n", state.word()).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(FORMAT_FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// The format's number, and what the folder is, as a release reads it whose format is `known`.
fn parse(text: &str, known: u32) -> Option<(u32, State)> {
    let mut words = text.strip_prefix(HEAD)?.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let state = [State::Ready, State::New, State::Restoring, State::Upgrading];
    let word = words.next().unwrap_or_default();
    match state.into_iter().find(|s| s.word().trim() == word) {
        Some(state) if words.next().is_none() => Some((number, state)),
        // What a later release says there is its own affair.
        _ => (number > known).then_some((number, State::Ready)),
    }
}

fn fail(what: &str, dir: &Path) -> impl Fn(io::Error) -> OpenError + use<> {
    let what = format!("{what} {}", dir.display());
    move |source| OpenError::Io { what: what.clone(), source }
}

/// Whether there is nothing in a folder but what a lock leaves; also when there is no folder.
fn is_empty(dir: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if name != LOCK && name != "format.new" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holder(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join(LOCK)).ok()?.trim().parse().ok()
}

fn create(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
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
