//! What can go wrong with the store.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Why a store does not open. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder.
    #[error("another copepod is using {}{}", dir.display(), holder(*pid))]
    Locked {
        /// The folder.
        dir: PathBuf,
        /// Who, if it says so.
        pid: Option<u32>,
    },
    /// A later release wrote the folder.
    #[error("{} was written by a later release (storage format {found}, this one knows {known})", dir.display())]
    Newer {
        /// The folder.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this release.
        known: u32,
    },
    /// A state is to be restored into a folder that has something in it.
    #[error("{} is not empty", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// What is on disk is not what was written.
    #[error("{} is damaged: {what}", dir.display())]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// The operating system said no.
    #[error("{what}: {source}{}", hint(source))]
    Io {
        /// What was tried.
        what: String,
        /// The answer.
        source: io::Error,
    },
}

/// What whoever reads it has to know of a disk that takes no writes.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => " (the disk is full: nothing is damaged or lost, start again when there is room)",
        io::ErrorKind::QuotaExceeded => {
            " (the disk quota is used up: nothing is damaged or lost, start again when there is room)"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            " (the file system is read-only: nothing is damaged or lost, start again when it can be written)"
        }
        _ => "",
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|p| format!(" (process {p})")).unwrap_or_default()
}

/// What reading a database found, before the folder is known.
#[derive(Debug)]
pub(super) enum Fault {
    /// See [`OpenError::Damaged`].
    Damaged(String),
    /// See [`OpenError::Newer`].
    Newer(u32),
    /// The operating system or redb.
    Failed(redb::Error),
    /// Likewise, when the log was written.
    Log(redb::Error),
}

impl Fault {
    pub(super) fn at(self, dir: &std::path::Path, name: &str) -> OpenError {
        let dir = dir.to_path_buf();
        match self {
            Fault::Damaged(what) => OpenError::Damaged { dir, what: format!("{name}: {what}") },
            Fault::Newer(found) => OpenError::Newer { dir, found, known: super::FORMAT },
            Fault::Failed(redb::Error::Corrupted(what)) => OpenError::Damaged { dir, what: format!("{name}: {what}") },
            Fault::Failed(redb::Error::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                OpenError::Damaged { dir, what: format!("{name}: {e}") }
            }
            Fault::Failed(redb::Error::Io(source)) => {
                OpenError::Io { what: format!("{}", dir.join(name).display()), source }
            }
            Fault::Failed(e @ redb::Error::PreviousIo) => {
                OpenError::Io { what: format!("{}", dir.join(name).display()), source: io::Error::other(e.to_string()) }
            }
            Fault::Log(e) => Fault::Failed(e).at(&dir, name),
            Fault::Failed(other) => OpenError::Damaged { dir, what: format!("{name}: {other}") },
        }
    }
}

/// Runs what reads or writes a database. Where its pages are damaged redb panics, since it checks their sums only in a
/// repair; that is a fault like any other.
pub(super) fn guarded<T, E: From<Fault>>(f: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let panicked = |panic: Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Fault::Damaged(format!("it makes no sense ({text})")).into())
    };
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(panicked)
}

impl From<Fault> for String {
    fn from(fault: Fault) -> String {
        match fault {
            Fault::Damaged(what) => what,
            Fault::Newer(found) => format!("storage format {found}"),
            Fault::Failed(e) => e.to_string(),
            Fault::Log(e) => format!("log: {e}"),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(e: E) -> Fault {
        Fault::Failed(e.into())
    }
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Only the leader takes proposals. It was not applied and never will be.
    #[error("this server is not the leader")]
    NotLeader {
        /// The leader's member id, if one is known.
        leader: Option<u64>,
    },
    /// The store is closed. It was not applied and never will be.
    #[error("the store is closed")]
    Stopped,
    /// The store takes nothing any more, since it cannot keep it. It was not applied and never will be.
    #[error("the store failed: {0}")]
    Unhealthy(String),
    /// The objects have as many bytes as they may, and it would add some. It was not applied and never will be. (What
    /// an etcd says that is full, which clients and alerts know.)
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// It may have been applied, or may be found applied after a restart.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// Why a linearizable read is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader answered for now; try again.
    #[error("there is no leader")]
    NotReady,
    /// The store is closed.
    #[error("the store is closed")]
    Stopped,
    /// The store failed, and cannot prove what is current.
    #[error("the store failed: {0}")]
    Unhealthy(String),
}
