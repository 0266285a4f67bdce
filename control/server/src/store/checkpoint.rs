//! The thread that brings the mirror up to date, so that the log can be cut. It works on a snapshot; the driver goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use copepod_model::Key;
use copepod_state::Tables;

use super::compact::Compactor;
use super::driver::Command;
use super::error::{Fault, guarded};
use super::mirror::{Applied, Mirror};

/// What to write.
pub(super) struct Job {
    pub(super) tables: Arc<Tables>,
    pub(super) dirty: BTreeSet<Key>,
    pub(super) applied: Applied,
    /// Nothing of what is there stays: these are another member's objects.
    pub(super) all: bool,
}

/// The thread and the way to it.
pub(super) struct Checkpointer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread; it answers each job with a [`Command::Checkpointed`].
    pub(super) fn start(
        mirror: Mirror,
        mut compactor: Compactor,
        done: Sender<Command>,
    ) -> std::io::Result<Checkpointer> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(move || {
            compactor.forget();
            let mut mirror = Some(mirror);
            for job in inbox {
                let write = || match &mirror {
                    Some(mirror) if job.all => mirror.replace(&job.tables, &job.applied),
                    Some(mirror) => mirror.write(&job.tables, &job.dirty, &job.applied).map_err(Fault::from),
                    None => Err(Fault::Damaged("the objects' file is closed".into())),
                };
                let result = guarded(write).map(|()| job.applied.clone()).map_err(String::from);
                let written = result.is_ok();
                // A driver that has gone wants no answer.
                let _ = done.send(Command::Checkpointed(result));
                // The log can be cut meanwhile.
                if written && let Some(open) = mirror.take() {
                    match guarded(|| compactor.after(open, &job.tables, &job.applied)) {
                        Ok(open) => mirror = Some(open),
                        Err(fault) => {
                            let _ = done.send(Command::Checkpointed(Err(fault.into())));
                        }
                    }
                }
            }
        })?;
        Ok(Checkpointer { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands over a job. The driver waits for one before it gives the next.
    pub(super) fn submit(&self, job: Job) -> Result<(), String> {
        let gone = || "the checkpoint thread ended".to_string();
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())
    }
}

impl Drop for Checkpointer {
    /// Waits for the job at hand, and closes the mirror.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It answers for its panics itself.
            let _ = thread.join();
        }
    }
}
