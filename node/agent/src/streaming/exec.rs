//! Exec: a command in a fresh instance, connected to a client.

use bytes::Bytes;
use copepod_node_streams::{status, tty};
use copepod_runtime_wasm::{LogStream, Stdin};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Wants;
use super::remote::{In, Out, Session};
use crate::dataplane::{Door, Target};

/// Pieces of output that wait for a slow client before the guest does.
pub(super) const OUTPUT: usize = 16;
/// 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Runs the command; the status for the client, or nothing if it is gone.
pub(super) async fn run(door: &Door, target: Target, wants: &Wants, session: Session) -> Option<Value> {
    let (feed, stdin) = Stdin::new(wants.tty);
    let (to, from) = mpsc::channel(OUTPUT);
    let stdin = if wants.stdin { stdin } else { Stdin::closed() };
    let mut exec = match door.exec(&target, wants.command.clone(), stdin, to, wants.tty).await {
        Ok(exec) => exec,
        Err(why) => return Some(status::failure(&format!("error executing command in container: {why}"))),
    };
    let Session { input, output } = session;
    let feed = wants.stdin.then_some(feed);
    let mut typing = std::pin::pin!(type_into(input, feed, output.clone(), wants.tty, || {}));
    let mut said = std::pin::pin!(say(from, output.clone(), wants));
    tokio::select! {
        // Its output ends with it: all of it is on its way to the client when its exit is known.
        () = &mut said => Some(status::exit_code(exec.exit().await.code)),
        ended = &mut typing => (ended == Ended::Interrupted).then(|| status::exit_code(INTERRUPTED)),
        () = output.closed() => None,
    }
}

/// Why the typing ended.
#[derive(Debug, PartialEq)]
pub(super) enum Ended {
    /// The client is gone.
    Gone,
    /// ^C.
    Interrupted,
}

/// Carries a client's input to a guest. `over` is called when that input ends though the client stays.
pub(super) async fn type_into(
    mut input: mpsc::Receiver<In>,
    mut feed: Option<mpsc::Sender<Bytes>>,
    echo: mpsc::Sender<Out>,
    tty: bool,
    over: impl Fn(),
) -> Ended {
    let mut discipline = tty::Discipline::default();
    while let Some(message) = input.recv().await {
        let bytes = match message {
            In::Stdin(bytes) if tty => {
                let typed = discipline.type_keys(&bytes);
                if !typed.echo.is_empty() {
                    let _ = echo.send(Out::Stdout(typed.echo.into())).await;
                }
                if typed.interrupt {
                    return Ended::Interrupted;
                }
                if let Some(to) = feed.as_ref().filter(|_| !typed.lines.is_empty()) {
                    let _ = to.send(typed.lines.into()).await;
                }
                if typed.end {
                    feed = None;
                    over();
                }
                continue;
            }
            In::Stdin(bytes) => bytes,
            In::StdinEnd => {
                feed = None;
                over();
                continue;
            }
            In::Resize(width, height) => {
                // WASI has no terminal size to tell the guest.
                tracing::trace!(width, height, "a terminal was resized");
                continue;
            }
        };
        if let Some(to) = &feed
            && !bytes.is_empty()
            && to.send(bytes).await.is_err()
        {
            feed = None;
        }
    }
    Ended::Gone
}

/// Carries a guest's output to a client until it ends.
pub(super) async fn say(mut from: mpsc::Receiver<(LogStream, Bytes)>, to: mpsc::Sender<Out>, wants: &Wants) {
    while let Some((stream, bytes)) = from.recv().await {
        let message = match stream {
            _ if wants.tty && wants.stdout => Out::Stdout(tty::output(&bytes).into()),
            LogStream::Stdout if wants.stdout => Out::Stdout(bytes),
            LogStream::Stderr if wants.stderr => Out::Stderr(bytes),
            _ => continue,
        };
        if to.send(message).await.is_err() {
            return;
        }
    }
}
