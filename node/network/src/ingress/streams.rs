//! Connections that are no requests: those for which a TLSRoute or a TCPRoute is go as bytes to an endpoint of one of its
//! backends.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use copepod_node_routes::{Backend, Door, Greeting, HttpRule, Side};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::IngressConfig;
use super::access::{Came, Counted, StreamLine};
use crate::connect::{Conn, Source};
use crate::error::NetError;
use crate::network::Network;
use crate::protocol::hello::{UNRECOGNIZED_NAME, peek};
use crate::protocol::prefixed::Prefixed;
use crate::splice::{Client, splice};

/// What the way of a stream depends on.
pub(super) struct Streams<'a> {
    pub(super) network: &'a Network,
    pub(super) config: &'a IngressConfig,
    pub(super) peer: SocketAddr,
}

impl Streams<'_> {
    /// Reads whom a client wants to speak with, and carries its connection if that is for a route. It comes back if it is for
    /// requests.
    pub(super) async fn by_name(
        &self,
        tcp: TcpStream,
        tls: &Arc<rustls::ServerConfig>,
        door: Door,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<Option<Prefixed<TcpStream>>> {
        let patience = self.config.header_timeout;
        let (mut tcp, name) = timeout(patience, peek(tcp, self.config.max_header_bytes)).await??;
        match self.network.routes().match_tls(door, name.as_deref()) {
            Greeting::Requests => return Ok(Some(tcp)),
            Greeting::Stream { rule, ends_tls: false } => {
                let line = self.line(door.ports[0], Came::Tls(name));
                self.carry(tcp, &rule, line, shutdown).await?;
            }
            Greeting::Stream { rule, ends_tls: true } => {
                // What is spoken inside is nothing that the ingress could offer.
                let mut config = rustls::ServerConfig::clone(tls);
                config.alpn_protocols.clear();
                let tls = timeout(patience, TlsAcceptor::from(Arc::new(config)).accept(tcp)).await??;
                let line = self.line(door.ports[0], Came::Tls(name));
                self.carry(tls, &rule, line, shutdown).await?;
            }
            Greeting::Nobody => {
                timeout(patience, tcp.write_all(&UNRECOGNIZED_NAME)).await??;
                tcp.shutdown().await?;
            }
        }
        Ok(None)
    }

    /// Carries a connection to a port at which bytes are taken.
    pub(super) async fn bytes(
        &self,
        tcp: TcpStream,
        port: u16,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        match self.network.routes().match_tcp(port).cloned() {
            Some(rule) => self.carry(tcp, &rule, self.line(port, Came::Tcp), shutdown).await,
            None => {
                tcp.abort();
                Ok(())
            }
        }
    }

    /// Begins a stream's line where there is a log.
    fn line(&self, port: u16, came: Came) -> Option<StreamLine> {
        let log = self.config.access_log.as_ref()?;
        Some(StreamLine::begin(log, self.peer.ip().to_canonical(), port, came))
    }

    /// Carries a client's bytes until both sides have ended, or until the time after shutdown is over. What leads to no endpoint
    /// is reset.
    async fn carry(
        &self,
        client: impl Client,
        rule: &HttpRule,
        mut line: Option<StreamLine>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let _ = client.tcp().set_nodelay(true);
        let shown = client.tcp().local_addr()?;
        let chosen = rule.choose(self.network.turn()).and_then(|w| w.backend.as_ref());
        if let (Some(line), Some(backend)) = (&mut line, chosen) {
            line.leads_to(backend);
        }
        let opened = timeout(self.config.connect_timeout, self.open(chosen, shown)).await;
        let conn = match opened.unwrap_or(Err(NetError::Timeout)) {
            Ok(conn) => conn,
            Err(error) => {
                client.abort();
                return Err(error.into());
            }
        };
        let client = Counted::new(client, line.as_ref().and_then(StreamLine::carried));
        tokio::select! {
            done = splice(client, conn.stream) => {
                if let (Some(line), Ok(())) = (&mut line, &done) {
                    line.complete();
                }
                done
            }
            () = async { shutdown.await; sleep(self.config.drain).await } => Ok(()),
        }
    }

    /// Opens a connection to an endpoint of a backend. The endpoint sees the client, and NetworkPolicies are asked about it: nothing
    /// else in the stream could tell who it is.
    async fn open(&self, chosen: Option<&Backend>, shown: SocketAddr) -> Result<Conn, NetError> {
        let routes = self.network.routes();
        let port = chosen.and_then(|backend| routes.backend(backend)).cloned().ok_or(NetError::ConnectionRefused)?;
        let client = Source::Client(SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port()));
        self.network.connect_service(&client, Side::Inside, &port, shown).await
    }
}
