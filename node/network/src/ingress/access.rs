//! The access log: a line of JSON for each request and for each stream. A thread of its own writes; nobody ever waits for it, and
//! lines for which it has no room are counted and given up.

mod stream;

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use copepod_model::Time;
use copepod_node_routes::{Backend, BackendPort, Door};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::body::{Body, Received};
pub(super) use stream::{Came, Counted, StreamLine};

/// How many lines may wait to be written.
const ROOM: usize = 8192;
/// So many bytes are written at once, or a line more.
const BATCH: usize = 64 * 1024;
/// How long the last lines may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The status of a request whose client has left before there was an answer; nginx has it so.
const CLIENT_LEFT: u16 = 499;

/// Where an access log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTo {
    /// The standard output.
    Stdout,
    /// The end of a file. When it has been moved away or removed, a new one is made.
    File(PathBuf),
}

impl AccessLogTo {
    /// `-`, or the path of a file.
    pub fn parse(text: &str) -> Result<AccessLogTo, String> {
        match text {
            "" => Err("must be a file, or - for the standard output".into()),
            "-" => Ok(AccessLogTo::Stdout),
            path => Ok(AccessLogTo::File(path.into())),
        }
    }
}

/// An access log. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct AccessLog(Arc<Shared>);

struct Shared {
    lines: SyncSender<Message>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
}

enum Message {
    Line(Box<Entry>),
    Stream(Box<stream::StreamEntry>),
    /// To be answered when everything before it was written.
    Flush(oneshot::Sender<()>),
}

impl AccessLog {
    /// Opens one. A file that cannot be opened is an error.
    pub fn open(to: &AccessLogTo) -> io::Result<AccessLog> {
        match to {
            AccessLogTo::Stdout => AccessLog::over(io::stdout(), ROOM),
            AccessLogTo::File(path) => AccessLog::over(Moving::open(path)?, ROOM),
        }
    }

    /// One that writes to `sink`, with room for so many lines that wait.
    pub(super) fn over(sink: impl Write + Send + 'static, room: usize) -> io::Result<AccessLog> {
        let (lines, receiver) = sync_channel(room);
        let counts = Arc::new(Counts::default());
        let own = counts.clone();
        let thread = std::thread::Builder::new().name("access-log".into());
        thread.spawn(move || write(&receiver, sink, &own))?;
        Ok(AccessLog(Arc::new(Shared { lines, counts })))
    }

    /// How many lines were written.
    pub fn written(&self) -> u64 {
        self.0.counts.written.load(Ordering::Relaxed)
    }

    /// How many lines were given up: there was no room for them, or they could not be written.
    pub fn dropped(&self) -> u64 {
        self.0.counts.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was logged is written, for a second at most.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.0.lines.try_send(Message::Flush(done)).is_ok() {
            let _ = timeout(PATIENCE, written).await;
        }
    }

    /// Begins the line of a request; it is written when the answer has been sent, or when the client has left.
    pub(super) fn begin(&self, request: &Request<Incoming>, client: IpAddr, door: Door) -> Line {
        let header = |name| request.headers().get(name).cloned();
        let entry = Entry {
            began: Instant::now(),
            at: SystemTime::now(),
            took: Duration::ZERO,
            client,
            port: door.ports[0],
            tls: door.tls,
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: header(header::HOST),
            version: request.version(),
            user_agent: header(header::USER_AGENT),
            referer: header(header::REFERER),
            status: CLIENT_LEFT,
            received: Arc::default(),
            sent: 0,
            complete: false,
            backend: None,
        };
        Line { log: self.clone(), entry: Some(Box::new(entry)) }
    }

    fn send(&self, line: Message) {
        if self.0.lines.try_send(line).is_err() {
            self.0.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessLog({} written, {} dropped)", self.written(), self.dropped())
    }
}

/// Writes what comes until nobody can log any more.
fn write(lines: &Receiver<Message>, mut sink: impl Write, counts: &Counts) {
    let (mut text, mut failing) = (Vec::new(), false);
    while let Ok(first) = lines.recv() {
        let (mut next, mut count, mut waiting) = (Some(first), 0, Vec::new());
        // What has come meanwhile goes in one piece.
        while let Some(message) = next {
            match message {
                Message::Line(entry) => {
                    entry.write(&mut text);
                    count += 1;
                }
                Message::Stream(entry) => {
                    entry.write(&mut text);
                    count += 1;
                }
                Message::Flush(done) => waiting.push(done),
            }
            next = if text.len() < BATCH { lines.try_recv().ok() } else { None };
        }
        let done = sink.write_all(&text).and_then(|()| sink.flush());
        text.clear();
        match done {
            Ok(()) => counts.written.fetch_add(count, Ordering::Relaxed),
            Err(ref error) => {
                if !failing {
                    tracing::warn!(%error, "the access log cannot be written");
                }
                counts.dropped.fetch_add(count, Ordering::Relaxed)
            }
        };
        failing = done.is_err();
        for done in waiting {
            let _ = done.send(());
        }
    }
}

/// A file that may be moved away, as those do who rotate logs.
struct Moving {
    path: PathBuf,
    file: File,
}

impl Moving {
    fn open(path: &Path) -> io::Result<Moving> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Moving { path: path.into(), file })
    }
}

impl Write for Moving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    /// Besides, looks whether the file is still where it was.
    fn flush(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let there = std::fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == (own.dev(), own.ino()));
        if !there {
            self.file = Moving::open(&self.path)?.file;
        }
        Ok(())
    }
}

/// What a line says.
struct Entry {
    began: Instant,
    at: SystemTime,
    took: Duration,
    client: IpAddr,
    port: u16,
    tls: bool,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    version: Version,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    status: u16,
    received: Arc<Received>,
    sent: u64,
    complete: bool,
    backend: Option<Backend>,
}

impl Entry {
    fn write(&self, out: &mut Vec<u8>) {
        let time = stamp(self.at);
        let host: Cow<'_, str> = match (self.uri.authority(), &self.host) {
            (Some(authority), _) => authority.as_str().into(),
            (None, Some(host)) => String::from_utf8_lossy(host.as_bytes()),
            (None, None) => "".into(),
        };
        let path = self.uri.path_and_query().map_or("", |p| p.as_str());
        let scheme = if self.tls { "https" } else { "http" };
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "{{\"time\":\"{time}\",\"client\":\"{}\",\"scheme\":\"{scheme}\",\"port\":{},\"method\":{},\"host\":{},\
             \"path\":{},\"protocol\":\"{:?}\",\"status\":{},\"requestBytes\":{},\"responseBytes\":{},\
             \"duration\":{}.{:06},\"complete\":{}",
            self.client,
            self.port,
            quoted(self.method.as_str()),
            quoted(&host),
            quoted(path),
            self.version,
            self.status,
            self.received.bytes(),
            self.sent,
            self.took.as_secs(),
            self.took.subsec_micros(),
            self.complete,
        );
        if let Some(backend) = &self.backend {
            write_service(out, backend);
        }
        for (name, value) in [("userAgent", &self.user_agent), ("referer", &self.referer)] {
            if let Some(value) = value {
                let _ = write!(out, ",\"{name}\":{}", quoted(&String::from_utf8_lossy(value.as_bytes())));
            }
        }
        out.extend(b"}\n");
    }
}

/// When a line began, as it says it.
fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)).rfc3339_micros()
}

/// Where a line says that something went.
fn write_service(out: &mut Vec<u8>, Backend { service, port }: &Backend) {
    let port: &dyn std::fmt::Display = match port {
        BackendPort::Number(number) => number,
        BackendPort::Name(name) => name,
    };
    let service = quoted(&format!("{}/{}:{port}", service.namespace, service.name));
    // Writing to memory does not fail.
    let _ = write!(out, ",\"service\":{service}");
}

/// A text of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The line of a request that is being answered.
pub(super) struct Line {
    log: AccessLog,
    entry: Option<Box<Entry>>,
}

impl Line {
    /// Where the request goes.
    pub(super) fn leads_to(&mut self, backend: &Backend) {
        if let Some(entry) = &mut self.entry {
            entry.backend = Some(backend.clone());
        }
    }

    /// Where to tell what comes of the request's body.
    pub(super) fn received(&self) -> Option<Arc<Received>> {
        self.entry.as_ref().map(|e| e.received.clone())
    }

    /// The answer, whose end is the line's.
    pub(super) fn answer(mut self, response: Response<Body>) -> Response<Body> {
        let Some(entry) = &mut self.entry else { return response };
        entry.status = response.status().as_u16();
        // What an answer to HEAD says of its body is never sent, and what follows a switch of protocols is no body.
        let bare = entry.method == Method::HEAD || response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if bare || response.body().is_end_stream() {
            entry.complete = true;
            return response;
        }
        response.map(|body| Logged { length: body.size_hint().exact(), body, line: Some(self) }.boxed())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.took = entry.began.elapsed();
            self.log.send(Message::Line(entry));
        }
    }
}

/// A response's body on its way.
struct Logged {
    body: Body,
    /// How long it says that it is: nobody asks for more once so much has come.
    length: Option<u64>,
    line: Option<Line>,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let Some(entry) = this.line.as_mut().and_then(|l| l.entry.as_mut()) else { return polled };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            entry.sent += frame.data_ref().map_or(0, |d| d.len() as u64);
        }
        let ended = matches!(polled, Poll::Ready(None)) || this.body.is_end_stream();
        entry.complete = ended || this.length == Some(entry.sent);
        if ended || matches!(polled, Poll::Ready(Some(Err(_)))) {
            this.line = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(AccessLogTo::parse("-"), Ok(AccessLogTo::Stdout));
        assert_eq!(AccessLogTo::parse("/var/log/a"), Ok(AccessLogTo::File("/var/log/a".into())));
        assert!(AccessLogTo::parse("").is_err());
    }

    #[test]
    fn a_file_that_was_moved_is_made_anew() {
        let dir = std::env::temp_dir().join(format!("copepod-access-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (path, moved) = (dir.join("log"), dir.join("log.1"));
        let mut file = Moving::open(&path).unwrap();
        let mut say = |text: &str| {
            file.write_all(text.as_bytes()).unwrap();
            file.flush().unwrap();
        };
        say("one\n");
        std::fs::rename(&path, &moved).unwrap();
        say("two\n");
        say("three\n");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("one\ntwo\n", "three\n"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
