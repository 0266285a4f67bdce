//! `wasi:filesystem`: wasmtime-wasi's, over the directories that the container has mounted. They are opened when a guest
//! first asks for them and then shared by all of the container's instances: what has no mounts or does not look costs
//! nothing. No path of a guest leads out of them (cap-primitives sees to that), neither does a `subPath`. The directory for
//! a container's last message is made when it is looked for, and open as long as the instance that has it. What guests open
//! is counted, and what they write to volumes in memory.

pub(crate) mod open;
pub(crate) mod preview1;
mod types;
pub(crate) mod volume;

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cap_primitives::ambient_authority;
use cap_primitives::fs::{open_ambient_dir, open_dir};
use copepod_node_plan::message::{Place, place};
use copepod_node_plan::{ContainerSpec, Mount};
use tokio::runtime::Handle;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p2::bindings::filesystem;
use wasmtime_wasi::{FsPerms, OpenMode, WasiCtxBuilder};

use crate::counted::Permit;
use crate::host::Host;
use open::{Files, Open, OpenFile};
use volume::{PodMemory, Volume};

pub(super) use types::types;

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
    open: OnceLock<Opened>,
    files: Files,
    /// For each mount, the volume if it is in memory.
    volumes: Vec<Option<Arc<Volume>>>,
}

/// The open directories, each with its mount and its name in the guest.
struct Opened {
    dirs: Vec<(usize, Dir, String)>,
    _permits: Vec<Permit>,
}

/// A directory as an instance is shown it.
struct Shown<'a> {
    dir: Dir,
    name: String,
    /// The volume that it is of, if that is in memory.
    volume: Option<&'a Arc<Volume>>,
    /// Keeps it counted, where the instances do not share it.
    counted: Option<Arc<OpenFile>>,
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
        let (path, file) = (dir.into(), host.join(name));
        let dir = Mount { path, host: host.clone(), sub_path: String::new(), read_only: false, memory: None };
        Some(Message { file, dir })
    }

    /// Opens it, with an empty file to begin with.
    fn open(&self, files: &Files) -> io::Result<(Dir, OpenFile)> {
        let counted = files.take().ok_or(rustix::io::Errno::MFILE)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir.host)?;
        // What a guest has put in its place is left alone, and not followed.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => dir(&self.dir, "").map(|dir| (dir, counted)).map_err(|e| e.error),
        }
    }
}

impl Preopens {
    pub(crate) fn new(spec: &ContainerSpec, files: Files, memory: Option<&Arc<PodMemory>>, runtime: &Handle) -> Self {
        let volume = |m: &Mount| Some(memory?.volume(&m.host, m.memory?, runtime));
        let volumes = spec.mounts.iter().map(volume).collect();
        let (mounts, working_dir) = (spec.mounts.clone(), spec.working_dir.clone());
        Preopens { mounts, working_dir, message: Message::of(spec), open: OnceLock::new(), files, volumes }
    }

    /// Whether a volume in memory is among them.
    pub(crate) fn any_in_memory(&self) -> bool {
        self.volumes.iter().any(Option::is_some)
    }

    /// All that an instance sees.
    fn dirs(&self) -> Result<Vec<Shown<'_>>, NoVolume> {
        let of_mount = |(at, dir, name): &(usize, Dir, String)| Shown {
            dir: dir.clone(),
            name: name.clone(),
            volume: self.volumes[*at].as_ref(),
            counted: None,
        };
        let mut dirs: Vec<_> = self.mounted()?.iter().map(of_mount).collect();
        let Some(message) = &self.message else { return Ok(dirs) };
        match message.open(&self.files) {
            Ok((dir, counted)) => {
                let counted = Arc::new(counted);
                let here = (message.dir.path == self.working_dir).then_some(".");
                for name in here.into_iter().chain([message.dir.path.as_str()]) {
                    let (dir, name, counted) = (dir.clone(), name.to_owned(), Some(counted.clone()));
                    dirs.push(Shown { dir, name, volume: None, counted });
                }
            }
            // As upstream: it runs all the same.
            Err(error) => tracing::warn!(file = %message.file.display(), %error, "no file for a container's message"),
        }
        Ok(dirs)
    }

    /// The mounted directories, each with its mount and its name in the guest.
    fn mounted(&self) -> Result<&[(usize, Dir, String)], NoVolume> {
        if self.mounts.is_empty() {
            return Ok(&[]);
        }
        if let Some(opened) = self.open.get() {
            return Ok(&opened.dirs);
        }
        let (mut dirs, mut permits) = (Vec::new(), Vec::new());
        for (at, mount) in self.mounts.iter().enumerate() {
            permits.push(self.permit(&mount.path)?);
            dirs.push((at, dir(mount, "")?, mount.path.clone()));
        }
        // What is relative in preview 1 is resolved by the guest's library, against whatever is called `.`.
        if let Some((at, rest)) = self.home()
            && let Ok(dir) = dir(&self.mounts[at], rest)
        {
            permits.push(self.permit(&self.mounts[at].path)?);
            dirs.push((at, dir, ".".to_owned()));
        }
        Ok(&self.open.get_or_init(|| Opened { dirs, _permits: permits }).dirs)
    }

    /// Room for one of the node's open files.
    fn permit(&self, path: &str) -> Result<Permit, NoVolume> {
        let none = || NoVolume { path: path.to_owned(), error: rustix::io::Errno::MFILE.into() };
        self.files.node.take().ok_or_else(none)
    }

    /// The mount that the working directory lies in, and where in it.
    fn home(&self) -> Option<(usize, &str)> {
        let inside = |m: &Mount| -> Option<&str> {
            let rest = self.working_dir.strip_prefix(m.path.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_matches('/'))
        };
        let mounts = self.mounts.iter().enumerate().filter(|_| !self.working_dir.is_empty());
        let homes = mounts.filter_map(|(at, m)| Some((at, m, inside(m)?)));
        homes.max_by_key(|(_, m, _)| m.path.len()).map(|(at, _, rest)| (at, rest))
    }

    /// Gives them to a preview 1 module, which opens them anew: what keeps each counted, and the volume if that is in memory.
    pub(crate) fn add_to(&self, wasi: &mut WasiCtxBuilder) -> wasmtime::Result<Vec<(Permit, Option<Arc<Volume>>)>> {
        let mut opened = Vec::new();
        for Shown { dir, name, volume, .. } in self.dirs()? {
            opened.push((self.permit(&name)?, volume.cloned()));
            // The builder takes paths only; this one names the very directory that was opened.
            wasi.preopened_dir(format!("/proc/self/fd/{}", dir.dir.as_raw_fd()), name, dir.perms)?;
        }
        Ok(opened)
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
        let Host { container, table, open, .. } = &mut *self.0;
        let mut list = Vec::new();
        for Shown { dir, name, volume, counted } in container.preopens.dirs()? {
            let handle = table.push(Descriptor::Dir(dir))?;
            if volume.is_some() || counted.is_some() {
                open.insert(handle.rep(), Open { _counted: counted, ..Open::of_mount(volume.cloned()) });
            }
            list.push((handle, name));
        }
        Ok(list)
    }
}

pub(super) fn preopens(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    filesystem::preopens::add_to_linker::<Host, Directories>(linker, view)
}
