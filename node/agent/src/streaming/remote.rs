//! Exec and attach between a transport, which knows frames, and a guest, which knows bytes.

use bytes::Bytes;
use copepod_node_streams::status;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Wants, attach, exec};
use crate::dataplane::{Attached, Door, Target};

/// What a client sends.
#[derive(Debug)]
pub(super) enum In {
    Stdin(Bytes),
    /// The client closed its standard input and still listens.
    StdinEnd,
    /// Its terminal has another size: width, height.
    Resize(u16, u16),
}

/// What a client gets.
#[derive(Debug)]
pub(super) enum Out {
    Stdout(Bytes),
    Stderr(Bytes),
    /// How it ended; nothing follows.
    Done(Value),
}

/// A guest's side. `input` ends when the client is gone, and `output` is closed then.
pub(super) struct Session {
    pub input: mpsc::Receiver<In>,
    pub output: mpsc::Sender<Out>,
}

/// A transport's side.
pub(super) struct Transport {
    pub input: mpsc::Sender<In>,
    pub output: mpsc::Receiver<Out>,
}

/// What a client is connected to.
pub(super) enum Run {
    Exec(Target),
    Attach(Attached),
}

pub(super) fn session() -> (Session, Transport) {
    let (in_tx, in_rx) = mpsc::channel(8);
    let (out_tx, out_rx) = mpsc::channel(8);
    (Session { input: in_rx, output: out_tx }, Transport { input: in_tx, output: out_rx })
}

/// Runs to the end of the guest or of the client, whichever is first.
pub(super) async fn run(door: &Door, run: Run, wants: &Wants, session: Session) {
    let output = session.output.clone();
    let status = match run {
        Run::Exec(target) => exec::run(door, target, wants, session).await,
        Run::Attach(attached) => Some(
            attach::run(attached, wants, session)
                .await
                .map_or_else(|why| status::failure(&why), |()| status::success()),
        ),
    };
    if let Some(status) = status {
        // The client may be gone.
        let _ = output.send(Out::Done(status)).await;
    }
}
