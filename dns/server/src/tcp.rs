//! Questions over TCP: several at once on a connection, answered as they are ready (RFC 7766), until it is silent.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::handler::{Client, Handler, Quick, Transport};
use crate::room::Room;

/// How long a client may be silent, and how long it may take for a question or for taking its answers.
const IDLE: Duration = Duration::from_secs(10);
/// Questions of one connection that are under way.
const PIPELINED: usize = 32;
/// The part of all connections that one client may have.
const OF_ONE: usize = 4;
/// Longer messages are no questions, and end the connection.
const LONGEST_QUESTION: usize = 4096;

/// Accepts connections until it is told to stop, and serves them until they end or have nothing under way.
pub(crate) async fn serve(
    listener: TcpListener,
    handler: Arc<Handler>,
    long: Arc<Semaphore>,
    connections: usize,
    mut stop: watch::Receiver<bool>,
) {
    let room = Room::new(connections, connections.div_ceil(OF_ONE));
    let mut connections = JoinSet::new();
    let stopped = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|s| *s) => break,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "DNS over TCP");
                // No file descriptor is left, say.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Without a place it is closed.
        let Some(place) = room.enter(from.ip()) else { continue };
        let (handler, long, stopped) = (handler.clone(), long.clone(), stopped.clone());
        connections.spawn(async move {
            if let Err(error) = connection(stream, from.ip(), handler, long, stopped).await {
                tracing::debug!(%from, %error, "DNS over TCP");
            }
            drop(place);
        });
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    ip: IpAddr,
    handler: Arc<Handler>,
    long: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut questions, answers) = stream.into_split();
    let (tx, rx) = mpsc::channel(PIPELINED);
    let client = Client { ip, over: Transport::Tcp };
    let own = Arc::new(Semaphore::new(PIPELINED));
    let reading = async move {
        // Dropped at the end, so that the writer ends once everything under way is answered.
        let tx = tx;
        loop {
            let question = tokio::select! {
                question = read(&mut questions) => question?,
                _ = stop.wait_for(|s| *s) => None,
            };
            let Some(question) = question else { return Ok(()) };
            let mut answer = Vec::new();
            match handler.quick(&question, client, &mut answer) {
                Quick::Noise => continue,
                Quick::Answered => {
                    if tx.send(answer).await.is_err() {
                        return Ok(());
                    }
                }
                Quick::Long => {
                    // Who asks for more waits, and the kernel makes the client wait.
                    let Ok(mine) = own.clone().acquire_owned().await else { return Ok(()) };
                    let Ok(ours) = long.clone().acquire_owned().await else { return Ok(()) };
                    let (handler, tx) = (handler.clone(), tx.clone());
                    tokio::spawn(async move {
                        if let Some(answer) = handler.answer(&question, client).await {
                            let _ = tx.send(answer).await;
                        }
                        drop((mine, ours));
                    });
                }
            }
        }
    };
    let writing = write(answers, rx);
    tokio::pin!(reading, writing);
    tokio::select! {
        read = &mut reading => {
            let written = writing.await;
            read.and(written)
        }
        written = &mut writing => written,
    }
}

/// The next question; none at the end.
async fn read(stream: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let whole = async {
        let length = match stream.read_u16().await {
            Ok(length) => usize::from(length),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        };
        if length > LONGEST_QUESTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        Ok(Some(question))
    };
    timeout(IDLE, whole).await.unwrap_or(Ok(None))
}

async fn write(mut stream: OwnedWriteHalf, mut answers: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut out = Vec::new();
    while let Some(answer) = answers.recv().await {
        out.clear();
        let mut next = Some(answer);
        // What is ready goes out together.
        while let Some(answer) = next {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            out.extend(length.to_be_bytes());
            out.extend(answer);
            next = if out.len() < LONGEST_QUESTION { answers.try_recv().ok() } else { None };
        }
        timeout(IDLE, stream.write_all(&out)).await??;
    }
    stream.shutdown().await
}
