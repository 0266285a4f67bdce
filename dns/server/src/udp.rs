//! Threads that wait for datagrams, one for each socket: the kernel spreads clients over the sockets, and a question that
//! takes the short way costs two system calls.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::handler::{Client, Handler, Quick, Transport};

/// Longer messages are no questions.
const LONGEST_QUESTION: usize = 4096;
/// What a socket may have waiting, in bytes, as far as the host lets us.
const RECEIVE_BUFFER: usize = 1 << 20;
/// How long a full send buffer is waited for.
const SEND_PATIENCE: Duration = Duration::from_millis(100);
/// How many sockets there are at most.
const SOCKETS: usize = 8;

/// Sockets at the same address and port, one for each core that may be busy with DNS. `at` must be a port that nobody has.
pub(crate) fn bind(at: SocketAddr) -> io::Result<Vec<UdpSocket>> {
    let wanted = std::thread::available_parallelism().map_or(1, usize::from).min(SOCKETS);
    let mut sockets = vec![socket(at)?];
    while sockets.len() < wanted {
        match socket(at) {
            Ok(one) => sockets.push(one),
            // One is enough.
            Err(error) => {
                tracing::debug!(%error, "further DNS sockets");
                break;
            }
        }
    }
    Ok(sockets)
}

fn socket(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!(%error, "receive buffer of DNS");
    }
    socket.set_write_timeout(Some(SEND_PATIENCE))?;
    socket.bind(&at.into())?;
    Ok(socket.into())
}

/// The threads. They end when they are told to.
pub(crate) struct Threads {
    stop: Arc<AtomicBool>,
    sockets: Vec<Arc<UdpSocket>>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Serves; what takes the long way goes on in `runtime`, as far as there is `room`.
    pub(crate) fn start(
        sockets: Vec<UdpSocket>,
        handler: &Arc<Handler>,
        runtime: &Handle,
        room: &Arc<Semaphore>,
    ) -> io::Result<Threads> {
        let sockets = sockets.into_iter().map(Arc::new).collect();
        let mut all = Threads { stop: Arc::default(), sockets, threads: Vec::new() };
        for socket in &all.sockets {
            let worker = Worker {
                socket: socket.clone(),
                handler: handler.clone(),
                runtime: runtime.clone(),
                room: room.clone(),
                stop: all.stop.clone(),
            };
            let thread = std::thread::Builder::new().name("dns".into()).spawn(move || worker.run())?;
            all.threads.push(thread);
        }
        Ok(all)
    }

    /// No threads.
    pub(crate) fn none() -> Threads {
        Threads { stop: Arc::default(), sockets: Vec::new(), threads: Vec::new() }
    }

    /// Tells them to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            // It wakes whoever waits, though the socket is connected to nobody and the call says so.
            let _ = SockRef::from(&**socket).shutdown(std::net::Shutdown::Read);
        }
    }

    /// Waits until they have ended.
    pub(crate) fn join(&mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of DNS has failed");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    socket: Arc<UdpSocket>,
    handler: Arc<Handler>,
    runtime: Handle,
    room: Arc<Semaphore>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(self) {
        let mut question = [0; LONGEST_QUESTION];
        let mut answer = Vec::with_capacity(LONGEST_QUESTION);
        loop {
            let received = self.socket.recv_from(&mut question);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            match received {
                // What fills the buffer may have been cut.
                Ok((n, from)) if n < LONGEST_QUESTION && answerable(from) => {
                    self.take(&question[..n], from, &mut answer);
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(%error, "DNS over UDP");
                    // Errors of single clients come once; whatever stays must not take a core.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    fn take(&self, question: &[u8], from: SocketAddr, answer: &mut Vec<u8>) {
        let client = Client { ip: from.ip(), over: Transport::Udp };
        match self.handler.quick(question, client, answer) {
            Quick::Answered => send(&self.socket, answer, from),
            Quick::Noise => {}
            // Without room the client asks again.
            Quick::Long => {
                let Ok(permit) = self.room.clone().try_acquire_owned() else { return };
                let (handler, socket, question) = (self.handler.clone(), self.socket.clone(), question.to_vec());
                self.runtime.spawn(async move {
                    if let Some(answer) = handler.answer(&question, client).await {
                        send(&socket, &answer, from);
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// Nobody asks from port 0 or from a group.
fn answerable(from: SocketAddr) -> bool {
    from.port() != 0 && !from.ip().is_unspecified() && !from.ip().is_multicast()
}

fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(answer, to) {
        tracing::debug!(%to, %error, "DNS response");
    }
}
