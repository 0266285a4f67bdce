//! `wasi:filesystem`: wasmtime-wasi's, over the directories that the container has mounted. They are opened when a guest
//! first asks for them and then shared by all of the container's instances: what has no mounts or does not look costs
//! nothing. No path of a guest leads out of them (cap-primitives sees to that), neither does a `subPath`. The directory for
//! a container's last message is made when it is looked for, and open as long as the instance that has it.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cap_primitives::ambient_authority;
use cap_primitives::fs::{open_ambient_dir, open_dir};
use copepod_node_plan::message::{Place, place};
use copepod_node_plan::{ContainerSpec, Mount};
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem;
use wasmtime_wasi::{FsPerms, OpenMode, WasiCtxBuilder};

use crate::host::Host;

/// A mounted directory cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the volume at {path:?}: {error}")]
pub(crate) struct NoVolume {
    path: String,
    error: io::Error,
}

/// The directories that a container sees.
pub(crate) struct Preopens {
    mounts: Vec<Mount>,
    working_dir: String,
    message: Option<Message>,
    open: OnceLock<Vec<(Dir, String)>>,
}

/// The directory that a container's message file is in, if it is in no mount.
struct Message {
    dir: Mount,
    file: PathBuf,
}

impl Message {
    fn of(spec: &ContainerSpec) -> Option<Message> {
        let (Place::Own { dir, name }, host) =
            (place(&spec.termination.path, &spec.mounts)?, spec.termination.own.as_ref()?)
        else {
            return None;
        };
        let dir = Mount { path: dir.into(), host: host.clone(), sub_path: String::new(), read_only: false };
        Some(Message { file: host.join(name), dir })
    }

    /// Opens it, with an empty file to begin with.
    fn open(&self) -> io::Result<Dir> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir.host)?;
        // What a guest has put in its place is left alone, and not followed.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => dir(&self.dir, "").map_err(|e| e.error),
        }
    }
}

impl Preopens {
    pub(crate) fn new(spec: &ContainerSpec) -> Self {
        let (mounts, working_dir) = (spec.mounts.clone(), spec.working_dir.clone());
        Preopens { mounts, working_dir, message: Message::of(spec), open: OnceLock::new() }
    }

    /// All that a guest sees: the open directories, each with its name there.
    fn dirs(&self) -> Result<Vec<(Dir, String)>, NoVolume> {
        let mut dirs = self.mounted()?.to_vec();
        let Some(message) = &self.message else { return Ok(dirs) };
        match message.open() {
            Ok(dir) => {
                if message.dir.path == self.working_dir {
                    dirs.push((dir.clone(), ".".to_owned()));
                }
                dirs.push((dir, message.dir.path.clone()));
            }
            // As upstream: it runs all the same.
            Err(error) => tracing::warn!(file = %message.file.display(), %error, "no file for a container's message"),
        }
        Ok(dirs)
    }

    /// The mounted directories.
    fn mounted(&self) -> Result<&[(Dir, String)], NoVolume> {
        if self.mounts.is_empty() {
            return Ok(&[]);
        }
        if let Some(dirs) = self.open.get() {
            return Ok(dirs);
        }
        let dirs = self.mounts.iter().map(|m| dir(m, "").map(|dir| (dir, m.path.clone())));
        let mut dirs = dirs.collect::<Result<Vec<_>, _>>()?;
        // What is relative in preview 1 is resolved by the guest's library, against whatever is called `.`.
        if let Some((mount, rest)) = self.home()
            && let Ok(dir) = dir(mount, rest)
        {
            dirs.push((dir, ".".to_owned()));
        }
        Ok(self.open.get_or_init(|| dirs))
    }

    /// The mount that the working directory lies in, and where in it.
    fn home(&self) -> Option<(&Mount, &str)> {
        let inside = |m: &Mount| -> Option<&str> {
            let rest = self.working_dir.strip_prefix(m.path.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/'))
        };
        let mounts = self.mounts.iter().filter(|_| !self.working_dir.is_empty());
        mounts.filter_map(|m| Some((m, inside(m)?))).max_by_key(|(m, _)| m.path.len())
    }

    /// Gives them to a preview 1 module.
    pub(crate) fn add_to(&self, wasi: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
        for (dir, name) in self.dirs()? {
            // The builder takes paths only; this one names the very directory that was opened.
            wasi.preopened_dir(format!("/proc/self/fd/{}", dir.dir.as_raw_fd()), name, dir.perms)?;
        }
        Ok(())
    }
}

/// Opens what a mount shows, or a directory in it.
fn dir(mount: &Mount, inside: &str) -> Result<Dir, NoVolume> {
    let failed = |error| NoVolume { path: mount.path.clone(), error };
    let mut file = open_ambient_dir(&mount.host, ambient_authority()).map_err(failed)?;
    for sub in [mount.sub_path.as_str(), inside] {
        if !sub.is_empty() {
            file = open_dir(&file, Path::new(sub)).map_err(failed)?;
        }
    }
    let (perms, mode) = match mount.read_only {
        true => (FsPerms::ReadOnly, OpenMode::READ),
        false => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
    };
    Ok(Dir::new(file, perms, mode, false))
}

/// The host itself says which directories there are.
struct Directories;
impl HasData for Directories {
    type Data<'a> = View<'a>;
}

struct View<'a>(&'a mut Host);

fn view(host: &mut Host) -> View<'_> {
    View(host)
}

impl filesystem::preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let Host { container, table, .. } = &mut *self.0;
        let dirs = container.preopens.dirs()?;
        dirs.into_iter().map(|(dir, name)| Ok((table.push(Descriptor::Dir(dir))?, name))).collect()
    }
}

pub(super) fn preopens(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    filesystem::preopens::add_to_linker::<Host, Directories>(linker, view)
}

pub(super) fn types(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    filesystem::types::add_to_linker::<Host, WasiFilesystem>(linker, Host::filesystem)
}
