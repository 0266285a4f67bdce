//! The writing side of one attempt's log.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use copepod_runtime_wasm::{LogSink, LogStream};
use tokio::sync::{Notify, mpsc};

use super::{OPEN_FILES, line, lock};
use crate::clock::now;

/// A log file that grows beyond this is rotated; one rotated file is kept.
const ROTATE_AT: u64 = 10 << 20;

/// The longest termination message that comes from a log, in bytes.
const LONGEST_MESSAGE: usize = 2048;
/// And in lines.
const LONGEST_LINES: usize = 80;

type Tap = mpsc::Sender<(LogStream, Bytes)>;

/// The log of one attempt.
pub(crate) struct LogFile {
    path: PathBuf,
    state: Mutex<State>,
    written: Notify,
    ended: AtomicBool,
    open: Arc<Mutex<Vec<Weak<LogFile>>>>,
    rotate_at: u64,
    /// Who is attached.
    taps: Mutex<Vec<Tap>>,
    tapped: AtomicBool,
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
            taps: Mutex::default(),
            tapped: AtomicBool::new(false),
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
        lock(&self.taps).clear();
        self.written.notify_waiters();
    }

    /// The output from now on as it comes, until the container ends. Whoever is more than `behind` pieces behind misses some.
    pub fn tap(&self, behind: usize) -> mpsc::Receiver<(LogStream, Bytes)> {
        let (tap, output) = mpsc::channel(behind);
        let mut taps = lock(&self.taps);
        if !self.has_ended() {
            taps.push(tap);
            self.tapped.store(true, Ordering::SeqCst);
        }
        output
    }

    /// Whether the container has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The end of what was said, as a termination message takes it from the log: at most 80 lines and 2048 bytes.
    pub fn last_words(&self) -> String {
        let mut tail = Vec::new();
        // Each line of text carries some 45 bytes of its own.
        let want = LONGEST_MESSAGE + LONGEST_LINES * 64;
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let from = file.metadata()?.len().saturating_sub(want as u64);
            file.seek(std::io::SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(want as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        // Without a log nothing was said.
        let bytes = read().unwrap_or_default();
        let lines: Vec<_> = bytes.split(|b| *b == b'\n').filter_map(line::Line::parse).collect();
        for line in &lines[lines.len().saturating_sub(LONGEST_LINES)..] {
            tail.extend_from_slice(line.text);
            if !line.part {
                tail.push(b'\n');
            }
        }
        let from = tail.len().saturating_sub(LONGEST_MESSAGE);
        String::from_utf8_lossy(&tail[from..]).into_owned()
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
    fn live(&self, stream: LogStream, bytes: &[u8]) {
        if !self.0.tapped.load(Ordering::Relaxed) {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let mut taps = lock(&self.0.taps);
        taps.retain(|tap| !matches!(tap.try_send((stream, bytes.clone())), Err(mpsc::error::TrySendError::Closed(_))));
        self.0.tapped.store(!taps.is_empty(), Ordering::SeqCst);
    }

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
