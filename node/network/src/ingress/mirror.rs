//! Copies of requests: a mirror gets what the backend gets, as fast as the backend takes it, and nobody waits for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::body::Body;

/// How many pieces of a body a mirror may be behind; one that is slower gets no more of it.
const BEHIND: usize = 64;

/// What goes from the one body to the other.
enum Piece {
    Frame(Frame<Bytes>),
    End,
}

/// Two bodies of one: the second has what is read of the first.
pub(super) fn tee(body: Body) -> (Body, Body) {
    let (out, pieces) = mpsc::channel(BEHIND);
    let copy = Copied { pieces, ended: body.is_end_stream() };
    (Tee { inner: body, out: Some(out) }.boxed(), copy.boxed())
}

struct Tee {
    inner: Body,
    out: Option<mpsc::Sender<Piece>>,
}

impl Tee {
    fn send(&mut self, piece: Piece) {
        // A mirror that does not keep up has its body cut.
        if self.out.as_ref().is_some_and(|out| out.try_send(piece).is_err()) {
            self.out = None;
        }
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let polled = std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                let copy = match (frame.data_ref(), frame.trailers_ref()) {
                    (Some(data), _) => Some(Frame::data(data.clone())),
                    (None, Some(trailers)) => Some(Frame::trailers(trailers.clone())),
                    (None, None) => None,
                };
                copy.into_iter().for_each(|frame| this.send(Piece::Frame(frame)));
                // Whoever knows that nothing follows does not ask again.
                if this.inner.is_end_stream() {
                    this.send(Piece::End);
                    this.out = None;
                }
            }
            Some(Err(_)) => this.out = None,
            None => {
                this.send(Piece::End);
                this.out = None;
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

struct Copied {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

impl HttpBody for Copied {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(this.pieces.poll_recv(cx));
        this.ended = !matches!(piece, Some(Piece::Frame(_)));
        Poll::Ready(match piece {
            Some(Piece::Frame(frame)) => Some(Ok(frame)),
            Some(Piece::End) => None,
            None => Some(Err(io::ErrorKind::BrokenPipe.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{empty, full};

    #[tokio::test]
    async fn a_copy_has_what_was_read() {
        let (body, copy) = tee(full("hello"));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(copy.collect().await.unwrap().to_bytes(), "hello");
        let (body, copy) = tee(empty());
        assert!(body.is_end_stream() && copy.is_end_stream());
        let (body, copy) = tee(full("hello"));
        drop(body);
        assert!(copy.collect().await.is_err(), "what was not read is not taken for nothing");
    }

    #[tokio::test]
    async fn a_copy_that_does_not_keep_up_is_cut() {
        let frames = (0..BEHIND + 2).map(|_| Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"x"))));
        let many = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let (body, copy) = tee(many);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), BEHIND + 2);
        assert!(copy.collect().await.is_err());
    }
}
