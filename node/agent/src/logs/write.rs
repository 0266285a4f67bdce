//! The writing side of one attempt's log.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use copepod_runtime_wasm::{LogSink, LogStream};
use tokio::sync::Notify;

use super::{OPEN_FILES, line, lock};
use crate::clock::now;

/// A log file that grows beyond this is rotated; one rotated file is kept.
const ROTATE_AT: u64 = 10 << 20;

/// The log of one attempt.
pub(crate) struct LogFile {
    path: PathBuf,
    state: Mutex<State>,
    written: Notify,
    ended: AtomicBool,
    open: Arc<Mutex<Vec<Weak<LogFile>>>>,
    rotate_at: u64,
}

#[derive(Default)]
struct State {
    file: Option<File>,
    size: u64,
    /// Written to since the last look.
    busy: bool,
    rotations: u64,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, open: Arc<Mutex<Vec<Weak<LogFile>>>>) -> LogFile {
        LogFile {
            path,
            state: Mutex::default(),
            written: Notify::new(),
            ended: AtomicBool::new(false),
            open,
            rotate_at: ROTATE_AT,
        }
    }

    #[cfg(test)]
    pub(super) fn rotating_at(mut self, size: u64) -> LogFile {
        self.rotate_at = size;
        self
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How often it was rotated.
    pub fn rotations(&self) -> u64 {
        lock(&self.state).rotations
    }

    /// The container has ended: who follows the log may stop at its end.
    pub fn end(&self) {
        lock(&self.state).file = None;
        self.ended.store(true, Ordering::SeqCst);
        self.written.notify_waiters();
    }

    /// Whether the container has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Tells of the next write or of the end. Make it before looking.
    pub fn news(&self) -> tokio::sync::futures::Notified<'_> {
        self.written.notified()
    }

    /// Closes the file unless it was written to since the last call; `true` if it stays open.
    pub(super) fn close_if_idle(&self) -> bool {
        let mut state = lock(&self.state);
        if !std::mem::take(&mut state.busy) {
            state.file = None;
        }
        state.file.is_some()
    }

    fn append(self: &Arc<Self>, bytes: &[u8]) -> std::io::Result<()> {
        let mut state = lock(&self.state);
        let keep = if state.file.is_none() {
            let open = || File::options().create(true).append(true).open(&self.path);
            let file = match open() {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
                    open()?
                }
                other => other?,
            };
            state.size = file.metadata()?.len();
            state.file = Some(file);
            let mut all = lock(&self.open);
            let room = all.len() < OPEN_FILES;
            if room {
                all.push(Arc::downgrade(self));
            }
            room
        } else {
            true
        };
        if let Some(file) = &mut state.file {
            file.write_all(bytes)?;
        }
        state.busy = true;
        state.size += bytes.len() as u64;
        if state.size >= self.rotate_at {
            state.file = None;
            let mut rotated = self.path.clone().into_os_string();
            rotated.push(".1");
            std::fs::rename(&self.path, rotated)?;
            state.size = 0;
            state.rotations += 1;
        } else if !keep {
            state.file = None;
        }
        Ok(())
    }
}

/// What the runtime writes to.
pub(crate) struct Sink(pub Arc<LogFile>);

impl LogSink for Sink {
    fn write(&self, stream: LogStream, bytes: &[u8]) {
        let name = match stream {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
        };
        let mut lines = Vec::with_capacity(bytes.len() + 48);
        line::format(&mut lines, now(), name, bytes);
        if let Err(error) = self.0.append(&lines) {
            tracing::warn!(path = %self.0.path.display(), %error, "cannot write a container's log");
        }
        self.0.written.notify_waiters();
    }
}
