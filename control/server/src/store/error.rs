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
    #[error("{what}: {source}{}", hint(source, START))]
    Io {
        /// What was tried.
        what: String,
        /// The answer.
        source: io::Error,
    },
}

/// What comes of it when the disk takes writes again: of a start that was refused, and of a store that runs and tries by itself.
const START: &str = "start again";
const RUN: &str = "it goes on";

/// What whoever reads it has to know of a disk that takes no writes; `then` is [`START`] or [`RUN`].
fn hint(source: &io::Error, then: &str) -> String {
    let (what, when) = match source.kind() {
        io::ErrorKind::StorageFull => ("the disk is full", "there is room"),
        io::ErrorKind::QuotaExceeded => ("the disk quota is used up", "there is room"),
        io::ErrorKind::ReadOnlyFilesystem => ("the file system is read-only", "it can be written"),
        _ => return String::new(),
    };
    format!(" ({what}: nothing is damaged or lost, {then} when {when})")
}

impl OpenError {
    /// The same as a store says it that runs, and opens its files again and again.
    pub(super) fn while_running(&self) -> String {
        match self {
            OpenError::Io { what, source } => format!("{what}: {source}{}", hint(source, RUN)),
            other => other.to_string(),
        }
    }
}

/// What a store that runs says of a failure of redb.
fn told(error: &redb::Error) -> String {
    match error {
        redb::Error::Io(source) => format!("{error}{}", hint(source, RUN)),
        other => other.to_string(),
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
            Fault::Failed(e) => told(&e),
            Fault::Log(e) => format!("log: {}", told(&e)),
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
    /// The leader holds as much as it may that no majority has yet. It was not applied and never will be; it may be tried again.
    #[error("too many writes wait for a majority of the servers")]
    Busy,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_no_writes_is_called_that_at_the_start_and_afterwards() {
        use io::ErrorKind::{Other, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        for (kind, what, when) in [
            (StorageFull, "the disk is full", "there is room"),
            (QuotaExceeded, "the disk quota is used up", "there is room"),
            (ReadOnlyFilesystem, "the file system is read-only", "it can be written"),
        ] {
            let error = || io::Error::new(kind, "no");
            let start = OpenError::Io { what: "x".into(), source: error() };
            let (first, then) = (start.to_string(), start.while_running());
            assert_eq!(first, format!("x: no ({what}: nothing is damaged or lost, start again when {when})"));
            let tail = format!("no ({what}: nothing is damaged or lost, it goes on when {when})");
            assert_eq!(then, format!("x: {tail}"));
            for fault in [Fault::Failed(redb::Error::Io(error())), Fault::Log(redb::Error::Io(error()))] {
                let text = String::from(fault);
                assert!(text.ends_with(&tail), "{text}");
            }
        }
        let other = OpenError::Io { what: "x".into(), source: io::Error::new(Other, "no") };
        assert_eq!((other.to_string(), other.while_running()), ("x: no".to_string(), "x: no".to_string()));
    }
}
