//! The whole state, from one server to another.

use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use copepod_client::{Body, body};
use copepod_state::Tables;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::link::{Failure, Link};
use crate::store::snapshot::{self, Meta, SnapshotError};
use crate::store::{ReadError, Store};

/// How long the sender may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// Pieces between the network and what makes or reads them.
const PIECES: usize = 4;

/// Why a state did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not reached.
    #[error(transparent)]
    Request(#[from] Failure),
    /// Not given.
    #[error("server {0} answered {1}")]
    Refused(u64, StatusCode),
    /// Damaged or cut short.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// This process is ending.
    #[error("cut off")]
    Cut,
}

/// Asks the server `from` for everything that it has applied.
pub async fn fetch(link: &Link, from: u64) -> Result<(Meta, Tables), FetchError> {
    let request = Request::get("/snapshot").body(body("")).map_err(|e| Failure::Unsent(e.to_string()))?;
    let answer = tokio::time::timeout(SILENCE, link.send(request)).await;
    let answer = answer.map_err(|_| Failure::Unknown(format!("server {from} does not answer")))??;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Refused(from, answer.status()));
    }
    let (pieces, inbox) = mpsc::channel(PIECES);
    let reading = tokio::task::spawn_blocking(move || {
        let mut input = Pieces { inbox, piece: Bytes::new() };
        snapshot::read(&mut input)
    });
    let mut stream = answer.into_body();
    loop {
        let frame = match tokio::time::timeout(SILENCE, stream.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            // Whoever reads the pieces says what is missing.
            Ok(None) => break,
            Ok(Some(Err(e))) => {
                let _ = pieces.send(Err(io::Error::other(e))).await;
                break;
            }
            Err(_) => {
                let _ = pieces.send(Err(io::ErrorKind::TimedOut.into())).await;
                break;
            }
        };
        if let Ok(data) = frame.into_data()
            && pieces.send(Ok(data)).await.is_err()
        {
            break;
        }
    }
    drop(pieces);
    Ok(reading.await.map_err(|_| FetchError::Cut)??)
}

/// The state of `store`, streamed to the server `peer`; raft hears how that went.
pub(super) async fn answer(store: &Store, peer: u64) -> Response<Body> {
    let (meta, tables) = match store.applied_state().await {
        Ok(state) => state,
        Err(e) => {
            store.report_snapshot(peer, false);
            return refuse(&e);
        }
    };
    let (pieces, outbox) = mpsc::channel(PIECES);
    let store = store.clone();
    tokio::task::spawn_blocking(move || {
        let written = snapshot::write(&meta, &tables, &mut Sink(pieces));
        if let Err(e) = &written {
            tracing::warn!("server {peer} did not take the state: {e}");
        }
        store.report_snapshot(peer, written.is_ok());
    });
    let frames = stream::unfold(outbox, |mut outbox| async move {
        let piece: Bytes = outbox.recv().await?;
        Some((Ok(Frame::data(piece)), outbox))
    });
    Response::new(StreamBody::new(sync_wrapper::SyncStream::new(Box::pin(frames))).boxed())
}

fn refuse(why: &ReadError) -> Response<Body> {
    tracing::warn!("the state cannot be sent: {why}");
    let mut answer = Response::new(body(why.to_string()));
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

/// What is written goes to the network.
struct Sink(mpsc::Sender<Bytes>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Bytes::copy_from_slice(bytes)).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What comes from the network is read.
struct Pieces {
    inbox: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.inbox.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let n = out.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut out[..n]);
        Ok(n)
    }
}
