//! Questions over TCP: several at once on a connection, answered as they are ready (RFC 7766), until it is silent.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::Access;
use crate::handler::{Client, Handler, Quick, Transport};
use crate::room::{Place, Room};

/// How long a client may be silent between two questions, and how long it may take for taking its answers.
const IDLE: Duration = Duration::from_secs(10);
/// How long a question may take from its first byte on.
const QUESTION: Duration = Duration::from_secs(2);
/// Questions of one connection that are under way.
const PIPELINED: usize = 32;
/// The part of all connections that strangers may have: everyone but the host and pods, whose questions are forwarded.
const OF_STRANGERS: usize = 8;
/// The part of theirs that one client may have: of those who are known, and of strangers.
const OF_ONE: (usize, usize) = (4, 8);
/// Longer messages are no questions, and end the connection.
const LONGEST_QUESTION: usize = 4096;

/// Room for connections: strangers have one of their own, so that they take no place from those who depend on this server.
struct Rooms {
    known: Arc<Room>,
    strangers: Arc<Room>,
}

impl Rooms {
    /// Rooms for so many connections together.
    fn new(connections: usize) -> Rooms {
        let strangers = connections.div_ceil(OF_STRANGERS);
        let known = connections.saturating_sub(strangers);
        Rooms {
            known: Room::new(known, known.div_ceil(OF_ONE.0)),
            strangers: Room::new(strangers, strangers.div_ceil(OF_ONE.1)),
        }
    }

    /// A place for a connection of `client`, if there is one.
    fn enter(&self, client: IpAddr, access: &Access) -> Option<Place> {
        let room = if access.forwards(client) { &self.known } else { &self.strangers };
        room.enter(client)
    }
}

/// Accepts connections until it is told to stop, and serves them until they end or have nothing under way.
pub(crate) async fn serve(
    listener: TcpListener,
    handler: Arc<Handler>,
    long: Arc<Semaphore>,
    connections: usize,
    mut stop: watch::Receiver<bool>,
) {
    let rooms = Rooms::new(connections);
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
        let Some(place) = rooms.enter(from.ip(), &handler.access) else { continue };
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

/// The next question; none at the end, and of a client that is silent or slow.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match timeout(IDLE, stream.read(&mut length[..1])).await {
        Ok(Ok(1)) => {}
        Ok(Ok(_)) | Err(_) => return Ok(None),
        Ok(Err(e)) => return Err(e),
    }
    let rest = async {
        stream.read_exact(&mut length[1..]).await?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > LONGEST_QUESTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        Ok(Some(question))
    };
    timeout(QUESTION, rest).await.unwrap_or(Ok(None))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[test]
    fn strangers_take_no_place_of_those_who_are_known() {
        let access = Access::new([("10.244.0.0".parse().unwrap(), 16)]);
        let rooms = Rooms::new(584);
        const KNOWN: (usize, usize) = (511, 128);
        const STRANGERS: (usize, usize) = (73, 10);
        let enter = |client: IpAddr, times: usize| -> Vec<Place> {
            (0..times).map_while(|_| rooms.enter(client, &access)).collect()
        };
        let stranger = |n| IpAddr::from([192, 0, 2, n]);
        let of_one = enter(stranger(0), STRANGERS.0);
        assert_eq!(of_one.len(), STRANGERS.1, "one stranger leaves room for others");
        let all: Vec<Vec<Place>> = (1..=100).map(|n| enter(stranger(n), STRANGERS.1)).collect();
        assert_eq!(of_one.len() + all.iter().flatten().count(), STRANGERS.0);
        for known in ["127.0.0.1", "10.244.0.7", "10.244.0.8"] {
            assert_eq!(enter(known.parse().unwrap(), KNOWN.0).len(), KNOWN.1, "{known}");
        }
        drop(all);
        assert_eq!(enter(stranger(1), STRANGERS.0).len(), STRANGERS.1, "places come back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_has_a_deadline_from_its_first_byte_on() {
        let (mut client, mut server) = tokio::io::duplex(64);
        // A quick one, after a silence.
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
        client.write_all(&[0, 3, 1, 2, 3]).await.unwrap();
        assert_eq!(read(&mut server).await.unwrap(), Some(vec![1, 2, 3]));
        // One whose bytes come one by one, each in time, would hold its place for ever.
        let began = Instant::now();
        let slow = tokio::spawn(async move {
            for byte in [0, 200].into_iter().chain([7; 200]) {
                if client.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(IDLE / 20).await;
            }
        });
        assert_eq!(read(&mut server).await.unwrap(), None);
        assert_eq!(began.elapsed(), QUESTION);
        drop(server);
        slow.await.unwrap();
        // One that is silent is let go, too.
        let (_client, mut server) = tokio::io::duplex(64);
        let began = Instant::now();
        assert_eq!(read(&mut server).await.unwrap(), None);
        assert_eq!(began.elapsed(), IDLE);
    }
}
