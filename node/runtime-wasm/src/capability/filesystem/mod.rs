//! `wasi:filesystem`: wasmtime-wasi's, over the directories that the container has mounted. They are opened when a guest
//! first asks for them and then shared by all of the container's instances: what has no mounts or does not look costs
//! nothing. No path of a guest leads out of them (cap-primitives sees to that), neither does a `subPath`. What guests open
//! in them is counted, and what they write to volumes in memory.

pub(crate) mod open;
pub(crate) mod preview1;
mod types;
pub(crate) mod volume;

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use cap_primitives::ambient_authority;
use cap_primitives::fs::{open_ambient_dir, open_dir};
use copepod_node_plan::Mount;
use tokio::runtime::Handle;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p2::bindings::filesystem;
use wasmtime_wasi::{FsPerms, OpenMode, WasiCtxBuilder};

use crate::counted::{Counter, Permit};
use crate::host::Host;
use open::Open;
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
    open: OnceLock<Opened>,
    /// Files that guests of the node have open.
    files: Arc<Counter>,
    /// For each mount, the volume if it is in memory.
    volumes: Vec<Option<Arc<Volume>>>,
}

/// The open directories, each with its mount and its name in the guest.
struct Opened {
    dirs: Vec<(usize, Dir, String)>,
    _permits: Vec<Permit>,
}

impl Preopens {
    pub(crate) fn new(
        mounts: &[Mount],
        working_dir: &str,
        files: Arc<Counter>,
        memory: Option<&Arc<PodMemory>>,
        runtime: &Handle,
    ) -> Self {
        let volume = |m: &Mount| Some(memory?.volume(&m.host, m.memory?, runtime));
        let volumes = mounts.iter().map(volume).collect();
        let (mounts, working_dir) = (mounts.to_vec(), working_dir.to_owned());
        Preopens { mounts, working_dir, open: OnceLock::new(), files, volumes }
    }

    /// Whether a volume in memory is among them.
    pub(crate) fn any_in_memory(&self) -> bool {
        self.volumes.iter().any(Option::is_some)
    }

    /// The open directories, each with its mount and its name in the guest.
    fn dirs(&self) -> Result<&[(usize, Dir, String)], NoVolume> {
        if self.mounts.is_empty() {
            return Ok(&[]);
        }
        if let Some(opened) = self.open.get() {
            return Ok(&opened.dirs);
        }
        let (mut dirs, mut permits) = (Vec::new(), Vec::new());
        for (at, mount) in self.mounts.iter().enumerate() {
            permits.push(self.permit(mount)?);
            dirs.push((at, dir(mount, "")?, mount.path.clone()));
        }
        // What is relative in preview 1 is resolved by the guest's library, against whatever is called `.`.
        if let Some((at, rest)) = self.home()
            && let Ok(dir) = dir(&self.mounts[at], rest)
        {
            permits.push(self.permit(&self.mounts[at])?);
            dirs.push((at, dir, ".".to_owned()));
        }
        Ok(&self.open.get_or_init(|| Opened { dirs, _permits: permits }).dirs)
    }

    /// Room for one of the node's open files.
    fn permit(&self, mount: &Mount) -> Result<Permit, NoVolume> {
        let none = || NoVolume { path: mount.path.clone(), error: io::Error::from(rustix::io::Errno::MFILE) };
        self.files.take().ok_or_else(none)
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
        for (at, dir, name) in self.dirs()? {
            opened.push((self.permit(&self.mounts[*at])?, self.volumes[*at].clone()));
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
        let preopens = &container.preopens;
        let mut list = Vec::new();
        for (at, dir, name) in preopens.dirs()? {
            let handle = table.push(Descriptor::Dir(dir.clone()))?;
            if let Some(volume) = &preopens.volumes[*at] {
                open.insert(handle.rep(), Open::of_mount(Some(volume.clone())));
            }
            list.push((handle, name.clone()));
        }
        Ok(list)
    }
}

pub(super) fn preopens(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    filesystem::preopens::add_to_linker::<Host, Directories>(linker, view)
}
