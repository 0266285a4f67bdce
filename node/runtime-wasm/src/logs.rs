//! Standard output and error of guests, line by line.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where a container's output goes.
pub trait LogSink: Send + Sync + 'static {
    /// Takes output: whole lines, each with its newline, except that a line longer than 16 KiB comes in parts and that
    /// the last one of an instance may lack the newline. Called on guest threads: must be quick and must not wait.
    fn write(&self, stream: LogStream, bytes: &[u8]);

    /// Sees output at once as it comes, for whoever is attached. As quick as `write`.
    fn live(&self, stream: LogStream, bytes: &[u8]);
}

/// A line longer than this is passed on in parts.
const LONGEST_LINE: usize = 16 * 1024;
/// How much a guest may write at once.
const PERMIT: usize = 64 * 1024;

/// One output of one instance. Clones are the same output.
#[derive(Clone)]
pub(crate) struct LineStream(Arc<Inner>);

struct Inner {
    sink: Arc<dyn LogSink>,
    stream: LogStream,
    /// The line that has no newline yet.
    rest: Mutex<Vec<u8>>,
}

impl LineStream {
    pub(crate) fn new(sink: Arc<dyn LogSink>, stream: LogStream) -> Self {
        LineStream(Arc::new(Inner { sink, stream, rest: Mutex::default() }))
    }

    /// Passes on what has no newline.
    pub(crate) fn end_line(&self) {
        let Inner { sink, stream, rest } = &*self.0;
        let mut rest = rest.lock().unwrap_or_else(PoisonError::into_inner);
        if !rest.is_empty() {
            sink.write(*stream, &rest);
            rest.clear();
        }
    }

    pub(crate) fn push(&self, bytes: &[u8]) {
        let Inner { sink, stream, rest } = &*self.0;
        sink.live(*stream, bytes);
        let mut rest = rest.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, tail) = bytes.split_at(bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1));
        if !lines.is_empty() {
            if rest.is_empty() {
                sink.write(*stream, lines);
            } else {
                rest.extend_from_slice(lines);
                sink.write(*stream, &rest);
                rest.clear();
            }
        }
        rest.extend_from_slice(tail);
        while rest.len() >= LONGEST_LINE {
            sink.write(*stream, &rest[..LONGEST_LINE]);
            rest.drain(..LONGEST_LINE);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let rest = self.rest.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !rest.is_empty() {
            self.sink.write(self.stream, rest);
        }
    }
}

#[async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);
    impl LogSink for Lines {
        fn live(&self, _: LogStream, _: &[u8]) {}

        fn write(&self, _: LogStream, bytes: &[u8]) {
            self.0.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
        }
    }

    #[test]
    fn a_line_is_passed_on_when_it_is_whole() {
        let lines = Arc::new(Lines::default());
        let out = LineStream::new(lines.clone(), LogStream::Stdout);
        out.push(b"one ");
        assert!(lines.0.lock().unwrap().is_empty());
        out.push(b"line\ntwo\nthr");
        assert_eq!(*lines.0.lock().unwrap(), ["one line\ntwo\n"]);
        drop(out);
        assert_eq!(lines.0.lock().unwrap()[1], "thr");
    }

    #[test]
    fn an_endless_line_does_not_pile_up() {
        let lines = Arc::new(Lines::default());
        let out = LineStream::new(lines.clone(), LogStream::Stdout);
        out.push(&[b'x'; LONGEST_LINE + 5]);
        assert_eq!(lines.0.lock().unwrap()[0].len(), LONGEST_LINE);
        assert_eq!(out.0.rest.lock().unwrap().len(), 5);
    }
}
