//! Requests to pods of other nodes: sent as they are, streaming both ways. One that the other node has not let through
//! comes back whole, since nobody has read its body.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use copepod_node_routes::Neighbour;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::WINDOW;
use super::carry::{Cut, broken, send_some, was_reset};
use super::session::{Begun, Lease, claim};
use super::wire::{self, Refusal, hop_by_hop};
use crate::body::{Body, Progress, empty};
use crate::connect::Source;
use crate::error::{HttpError, NetError};
use crate::http::HttpOptions;
use crate::http::client::{Failure, guarded, in_time, text};
use crate::network::Network;
use crate::pod::Scope;

/// A request that the other node has not answered.
pub(crate) enum Undelivered {
    /// It leads to a port that takes byte streams: this is the request, untouched.
    StreamsOnly(Request<Body>),
    /// As with any other endpoint.
    Failed(Failure),
}

impl From<Failure> for Undelivered {
    fn from(failure: Failure) -> Undelivered {
        Undelivered::Failed(failure)
    }
}

/// Most frames of a body that are kept to be sent again.
const KEPT: usize = 1024;

/// A body on its way out.
pub(super) struct Outflow {
    body: Body,
    send: SendStream<Bytes>,
    /// Taken from the body and not sent yet.
    pending: Bytes,
    sent: usize,
    /// Everything that was taken, while the other side can have read none of it.
    kept: Option<Vec<Frame<Bytes>>>,
    /// The body has come to its end.
    ended: bool,
    /// There is nothing left to do, for whatever reason.
    done: bool,
}

/// Why a body was not sent to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The other side does not want it.
    Unwanted,
    /// It has failed.
    Body(io::ErrorKind),
}

impl From<Cut> for Stop {
    fn from(_: Cut) -> Stop {
        Stop::Unwanted
    }
}

impl Outflow {
    /// One that nobody will want back.
    pub(super) fn new(body: Body, send: SendStream<Bytes>) -> Outflow {
        Outflow { body, send, pending: Bytes::new(), sent: 0, kept: None, ended: false, done: false }
    }

    /// Sends to the end. May be given up while it waits, and called again.
    pub(super) async fn run(&mut self) -> Result<(), Stop> {
        let result = self.flow().await;
        self.done = true;
        result
    }

    async fn flow(&mut self) -> Result<(), Stop> {
        loop {
            while !self.pending.is_empty() {
                self.sent += send_some(&mut self.send, &mut self.pending).await?;
                if self.sent > WINDOW as usize {
                    self.kept = None;
                }
            }
            let Outflow { body, send, .. } = self;
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = was_reset(send) => return Err(Stop::Unwanted),
            };
            match frame {
                None => {
                    self.ended = true;
                    return self.send.send_data(Bytes::new(), true).map_err(|_| Stop::Unwanted);
                }
                Some(Err(e)) => {
                    self.send.send_reset(Reason::INTERNAL_ERROR);
                    return Err(Stop::Body(e.kind()));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.keep(|| Frame::data(data.clone()));
                        self.pending = data;
                    }
                    Err(frame) => {
                        if let Ok(mut trailers) = frame.into_trailers() {
                            hop_by_hop(&mut trailers);
                            self.keep(|| Frame::trailers(trailers.clone()));
                            self.ended = true;
                            return self.send.send_trailers(trailers).map_err(|_| Stop::Unwanted);
                        }
                    }
                },
            }
        }
    }

    fn keep(&mut self, frame: impl FnOnce() -> Frame<Bytes>) {
        match &mut self.kept {
            Some(kept) if kept.len() < KEPT => kept.push(frame()),
            // So many small frames would take more room than what is in them.
            kept => *kept = None,
        }
    }

    /// The body as it was, if nobody can have read any of it.
    fn whole(self) -> Option<Body> {
        let kept = self.kept?;
        if kept.is_empty() && !self.ended {
            return Some(self.body);
        }
        Some(Again { first: kept.into(), rest: (!self.ended).then_some(self.body) }.boxed())
    }
}

/// A body that begins with what was taken from it before.
struct Again {
    first: VecDeque<Frame<Bytes>>,
    rest: Option<Body>,
}

impl HttpBody for Again {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match (self.first.pop_front(), &mut self.rest) {
            (Some(frame), _) => Poll::Ready(Some(Ok(frame))),
            (None, Some(rest)) => Pin::new(rest).poll_frame(cx),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.iter().filter_map(|f| f.data_ref()).map(|d| d.len() as u64).sum::<u64>();
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(first));
        }
        hint
    }
}

/// Ends the sending of a request's body when its response is given up. After a whole answer the body is sent on, as far as the
/// service reads it.
struct Sending(Option<AbortHandle>);

impl Sending {
    fn go_on(mut self) {
        self.0 = None;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// A body that comes from another node; reading it makes room for more.
pub(super) struct Inflow {
    recv: RecvStream,
    data: bool,
    sending: Option<Sending>,
    _lease: Option<Arc<Lease>>,
}

impl Inflow {
    /// The body of what was received.
    pub(super) fn body(recv: RecvStream) -> Body {
        Inflow::with(recv, None, None)
    }

    fn with(recv: RecvStream, sending: Option<Sending>, lease: Option<Arc<Lease>>) -> Body {
        if recv.is_end_stream() {
            sending.into_iter().for_each(Sending::go_on);
            return empty();
        }
        Inflow { recv, data: true, sending, _lease: lease }.boxed()
    }

    fn look_for_end(&mut self) {
        if self.recv.is_end_stream() {
            self.sending.take().into_iter().for_each(Sending::go_on);
        }
    }
}

impl HttpBody for Inflow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.data {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    let released = self.recv.flow_control().release_capacity(bytes.len());
                    self.look_for_end();
                    return Poll::Ready(Some(released.map(|()| Frame::data(bytes)).map_err(broken)));
                }
                Some(Err(e)) => return Poll::Ready(Some(Err(broken(e)))),
                None => self.data = false,
            }
        }
        let trailers: Result<Option<HeaderMap>, _> = ready!(self.recv.poll_trailers(cx));
        self.look_for_end();
        match trailers {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(e) => Poll::Ready(Some(Err(broken(e)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.recv.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Whether the other side has not looked at a stream.
fn unprocessed(error: &h2::Error) -> bool {
    let reason = error.reason();
    reason == Some(Reason::REFUSED_STREAM) || error.is_go_away() && reason == Some(Reason::NO_ERROR)
}

impl Network {
    /// Sends a request in origin form to a pod of another node.
    pub(crate) async fn send_remote(
        &self,
        from: &Source,
        node: &Neighbour,
        to: SocketAddr,
        request: Request<Body>,
        options: &HttpOptions,
    ) -> Result<Response<Body>, Undelivered> {
        let progress: Option<Arc<Progress>> = request.extensions().get().cloned();
        let peer = self.peer(from, Scope::Pod, to, &request);
        let (parts, body) = request.into_parts();
        let claim = claim(from, SocketAddr::new(from.ip_for(self, to.ip()), peer.port()));
        let Some(claim) = claim else {
            let error = HttpError::Connect(NetError::AccessDenied);
            return Err(Failure::NotSent(error, Box::new(Request::from_parts(parts, body))).into());
        };
        let Some(head) = wire::request(&parts, to, &claim, peer) else {
            return Err(Undelivered::StreamsOnly(Request::from_parts(parts, body)));
        };
        let begun = timeout(options.connect_timeout, self.begin(node, &head, body.is_end_stream())).await;
        let Begun { mut response, send, lease } = match begun.unwrap_or(Err(NetError::Timeout)) {
            Ok(begun) => begun,
            Err(e) => {
                let back = Box::new(Request::from_parts(parts, body));
                return Err(Failure::NotSent(HttpError::Connect(e), back).into());
            }
        };
        let done = body.is_end_stream();
        let mut outflow = Outflow { kept: Some(Vec::new()), ..Outflow::new(body, send) };
        let answer = async {
            let mut sending = !done;
            loop {
                tokio::select! {
                    biased;
                    response = &mut response => return Ok(response),
                    sent = outflow.run(), if sending => {
                        sending = false;
                        if let Err(Stop::Body(kind)) = sent {
                            return Err(kind);
                        }
                    }
                }
            }
        };
        let answered = in_time(options, progress.as_ref(), answer).await?;
        let answered = answered.map_err(|kind| Failure::Final(HttpError::RequestBody(kind)))?;
        let again = |outflow: Outflow, error: HttpError| match if done { Some(empty()) } else { outflow.whole() } {
            Some(body) => Failure::NotSent(error, Box::new(Request::from_parts(parts.clone(), body))),
            None => Failure::Final(error),
        };
        let response = match answered {
            Ok(response) => response,
            Err(e) => {
                let error = HttpError::Protocol(text(&e));
                return Err(if unprocessed(&e) { again(outflow, error) } else { Failure::Final(error) }.into());
            }
        };
        match wire::refusal(response.headers()) {
            None => {}
            Some((Refusal::Failed, message)) => return Err(Failure::Final(HttpError::Service(message)).into()),
            Some((Refusal::StreamsOnly, _)) => {
                self.0.tunnel.note(to, false);
                return Err(match again(outflow, HttpError::Connect(NetError::ConnectionRefused)) {
                    Failure::NotSent(_, request) => Undelivered::StreamsOnly(*request),
                    last => last.into(),
                });
            }
            Some((refusal, _)) => return Err(again(outflow, HttpError::Connect(refusal.into())).into()),
        }
        let lease = Arc::new(lease);
        let sending = (!done && !outflow.done).then(|| {
            let lease = lease.clone();
            let task = self.0.runtime.spawn(async move {
                // Whoever has answered may still read.
                outflow.kept = None;
                drop(outflow.run().await);
                drop(lease);
            });
            task.abort_handle()
        });
        let (parts, recv) = response.into_parts();
        let body = Inflow::with(recv, sending.map(|task| Sending(Some(task))), Some(lease));
        Ok(guarded(Response::from_parts(parts, body), options))
    }
}
