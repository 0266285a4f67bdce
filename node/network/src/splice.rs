//! Bytes between a client's connection and an endpoint's: half-close and resets go through both ways.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::protocol::prefixed::Prefixed;
use crate::stream::Stream;

/// A client's connection over TCP, whatever is around it.
pub(crate) trait Client: AsyncRead + AsyncWrite + Unpin + Send {
    /// The connection itself.
    fn tcp(&self) -> &TcpStream;

    /// Has it end by a reset when it is dropped.
    fn abort(&self) {
        let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }
}

impl Client for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Client for Prefixed<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.inner()
    }
}

impl Client for TlsStream<Prefixed<TcpStream>> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0.inner()
    }
}

/// Carries until both directions have ended, or one was broken off, which breaks off the other.
pub(crate) async fn splice(mut client: impl Client, mut stream: Stream) -> io::Result<()> {
    let done = copy_bidirectional(&mut client, &mut stream).await.map(drop);
    // Over TLS many clients leave without a word: then what they have said is still to be read. And who reads no more may have
    // answered.
    let whole = |e: &io::Error| matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe);
    if done.as_ref().is_err_and(|e| !whole(e)) {
        stream.reset();
        client.abort();
    }
    done
}
