//! `GET /copepod.dev/v1/snapshot`: all that is stored, as one stream, for a backup. Secret values are sealed in it.
//! Only who may get every path may get this one: no default role but `cluster-admin` has it.

use std::io::{self, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use copepod_client::Body;
use copepod_model::Status;
use futures_util::stream::poll_fn;
use http::{Method, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender};

use super::{Api, respond};
use crate::store::{ReadError, snapshot};

/// Where it is.
pub const PATH: &str = "/copepod.dev/v1/snapshot";

/// How many are sent at the same time: each holds on to the objects as they were.
static SENDING: Semaphore = Semaphore::const_new(2);
/// What is sent at once.
const PART: usize = 256 << 10;
/// How many parts wait for the client.
const AHEAD: usize = 4;
/// How long a client may take for one of them.
const PATIENCE: Duration = Duration::from_secs(60);

impl Api {
    /// Streams a state that has every write acknowledged before the request.
    pub(super) async fn snapshot(&self, method: &Method) -> Result<Response<Body>, Status> {
        let busy = |_| Status::too_many_requests("two snapshots are being sent; try again later", 10);
        let permit = SENDING.try_acquire().map_err(busy)?;
        let state = tokio::time::timeout(PATIENCE, self.store.state()).await;
        let state = state.map_err(|_| Status::timeout("there is no leader"))?;
        let (meta, tables) = state.map_err(|e| match e {
            ReadError::Unhealthy(why) => Status::internal(why),
            other => Status::unavailable(other.to_string()),
        })?;
        let mut response = respond::bytes(200, "application/octet-stream", Bytes::new());
        if *method == Method::HEAD {
            return Ok(response);
        }
        let (parts, mut received) = mpsc::channel(AHEAD);
        let mut out = Parts { parts, runtime: Handle::current(), buffer: BytesMut::with_capacity(PART) };
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            if let Err(e) = snapshot::write(&meta, &tables, &mut out) {
                tracing::warn!("a snapshot was not sent to its end: {e}");
                // The answer breaks off, and a client that does not see it misses the snapshot's end.
                let _ = out.parts.try_send(Err(e));
            }
        });
        let frames = poll_fn(move |context| received.poll_recv(context).map(|p| p.map(|p| p.map(Frame::data))));
        *response.body_mut() = StreamBody::new(frames).boxed();
        Ok(response)
    }
}

/// Gives what is written to the client, who sets the pace.
struct Parts {
    parts: Sender<io::Result<Bytes>>,
    runtime: Handle,
    buffer: BytesMut,
}

impl Parts {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let part = self.buffer.split().freeze();
        let sent = self.runtime.block_on(async { self.parts.send_timeout(Ok(part), PATIENCE).await });
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone or too slow"))
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PART {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
