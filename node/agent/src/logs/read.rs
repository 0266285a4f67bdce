//! The reading side: what `kubectl logs` shows.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use copepod_client::Body;
use copepod_model::Time;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::line::Line;
use super::write::LogFile;

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// What of a log is wanted: `v1.PodLogOptions`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogOptions {
    /// Go on with what is written later.
    pub follow: bool,
    /// The attempt before.
    pub previous: bool,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Only what was said at or after this.
    pub since: Option<Time>,
    /// Begin every line with its time.
    pub timestamps: bool,
    /// Only so many bytes.
    pub limit: Option<u64>,
}

/// Streams the log at `path`. With `live`, what is written later follows, until the container ends or the reader leaves.
pub(crate) fn stream(path: PathBuf, live: Option<Arc<LogFile>>, options: LogOptions) -> Body {
    let (tx, rx) = mpsc::channel::<io::Result<Bytes>>(8);
    tokio::spawn(async move {
        let printer = Printer::new(&options, tx.clone());
        if let Err(e) = read(&path, live.filter(|_| options.follow), options.tail, printer).await {
            let _ = tx.send(Err(e)).await;
        }
    });
    let frames = futures_util::stream::unfold(rx, |mut rx| async move { rx.recv().await.map(|b| (b, rx)) });
    BodyExt::boxed(StreamBody::new(frames.map(|b| b.map(Frame::data))))
}

async fn read(path: &Path, live: Option<Arc<LogFile>>, tail: Option<u64>, mut printer: Printer) -> io::Result<()> {
    let mut rotated = path.as_os_str().to_os_string();
    rotated.push(".1");
    let (old, mut current) = (open(Path::new(&rotated)).await?, open(path).await?);
    let mut rotations = live.as_ref().map_or(0, |l| l.rotations());
    // The tail may begin in the rotated file.
    let (mut skip_old, mut skip_current) = (0, 0);
    if let Some(n) = tail {
        let (found, at) = tail_start(&mut current, n).await?;
        skip_current = at;
        let mut old = open(Path::new(&rotated)).await?;
        skip_old = match (&mut old, found < n) {
            (Some(_), true) => tail_start(&mut old, n - found).await?.1,
            (Some(f), false) => f.seek(SeekFrom::End(0)).await?,
            (None, _) => 0,
        };
    }
    if let Some(mut file) = old {
        file.seek(SeekFrom::Start(skip_old)).await?;
        if !printer.copy(&mut file).await? {
            return Ok(());
        }
    }
    if let Some(file) = &mut current {
        file.seek(SeekFrom::Start(skip_current)).await?;
    }
    loop {
        // Registered before looking, so that no write is missed.
        let news = live.as_ref().map(|l| {
            let mut news = Box::pin(l.news());
            news.as_mut().enable();
            (news, l.has_ended(), l.rotations())
        });
        if current.is_none() {
            current = open(path).await?;
        }
        if let Some(file) = &mut current
            && !printer.copy(file).await?
        {
            return Ok(());
        }
        let Some((news, ended, now_rotations)) = news else { break };
        if now_rotations != rotations {
            // What was read to its end is the rotated file now; the new one comes next.
            rotations = now_rotations;
            current = None;
            continue;
        }
        if ended {
            break;
        }
        tokio::select! {
            () = news => {}
            () = printer.to.closed() => return Ok(()),
        }
    }
    Ok(())
}

async fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path).await {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// How many of the last `n` lines a file has, and where they begin.
async fn tail_start(file: &mut Option<File>, n: u64) -> io::Result<(u64, u64)> {
    let Some(file) = file else { return Ok((0, 0)) };
    let mut at = file.seek(SeekFrom::End(0)).await?;
    if n == 0 {
        return Ok((0, at));
    }
    let mut newlines = 0;
    let mut buffer = vec![0; CHUNK];
    let end = at;
    while at > 0 {
        let size = at.min(CHUNK as u64);
        at -= size;
        file.seek(SeekFrom::Start(at)).await?;
        let piece = &mut buffer[..size as usize];
        file.read_exact(piece).await?;
        for (i, _) in piece.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
            let position = at + i as u64;
            // The newline at the very end closes the last line.
            if position + 1 == end {
                continue;
            }
            newlines += 1;
            if newlines == n {
                return Ok((n, position + 1));
            }
        }
    }
    Ok((newlines + u64::from(end > 0), 0))
}

/// Turns log lines into what the reader wants to see.
struct Printer {
    since: Option<String>,
    timestamps: bool,
    left: Option<u64>,
    /// The last line goes on.
    within: bool,
    rest: Vec<u8>,
    to: mpsc::Sender<io::Result<Bytes>>,
}

impl Printer {
    fn new(options: &LogOptions, to: mpsc::Sender<io::Result<Bytes>>) -> Printer {
        Printer {
            since: options.since.map(Time::rfc3339_nanos),
            timestamps: options.timestamps,
            left: options.limit,
            within: false,
            rest: Vec::new(),
            to,
        }
    }

    /// Passes on everything up to the file's end; `false` when no more is wanted.
    async fn copy(&mut self, file: &mut File) -> io::Result<bool> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = file.read(&mut buffer).await?;
            if n == 0 {
                return Ok(!self.to.is_closed());
            }
            self.rest.extend_from_slice(&buffer[..n]);
            let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else { continue };
            let rest = self.rest.split_off(end + 1);
            let whole = std::mem::replace(&mut self.rest, rest);
            let mut out = Vec::with_capacity(whole.len());
            for line in whole[..end].split(|b| *b == b'\n') {
                self.print(line, &mut out);
            }
            if let Some(left) = &mut self.left {
                out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= out.len() as u64;
            }
            if !out.is_empty() && self.to.send(Ok(out.into())).await.is_err() || self.left == Some(0) {
                return Ok(false);
            }
        }
    }

    fn print(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(line) = Line::parse(line) else { return };
        if self.since.as_ref().is_some_and(|since| line.stamp < since.as_str()) {
            return;
        }
        if self.timestamps && !self.within {
            out.extend_from_slice(line.stamp.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        self.within = line.part;
        if !line.part {
            out.push(b'\n');
        }
    }
}
