//! Mutual TLS between servers: both sides show a certificate of the cluster's CA that names their raft id.

use std::sync::Arc;

use copepod_client::tls::{Rotating, roots};
use copepod_model::certificate::SERVERS;
use rustls::client::Resumption;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::ServerName;

/// What a server's common name begins with; its raft id follows.
const USER: &str = "system:copepod:server:";

/// The DNS name in the certificate of server `id`, by which a client knows that it reached the one that it wanted.
pub fn dns_name(id: u64) -> String {
    format!("server-{id}.copepod.internal")
}

/// The user name in the certificate of server `id`.
pub fn user(id: u64) -> String {
    format!("{USER}{id}")
}

/// Both ends.
#[derive(Clone)]
pub struct PeerTls {
    pub(super) server: Arc<rustls::ServerConfig>,
    pub(super) client: Arc<rustls::ClientConfig>,
}

impl PeerTls {
    /// From this server's certificate, which may be replaced, and the CA's.
    pub fn new(own: Arc<Rotating>, ca_pem: &str) -> Result<PeerTls, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let roots = Arc::new(roots(ca_pem).map_err(|e| text(&e))?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| text(&e))?
            .with_client_cert_verifier(clients.build().map_err(|e| text(&e))?)
            .with_cert_resolver(own.clone());
        server.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| text(&e))?
            .with_root_certificates(roots)
            .with_client_cert_resolver(own);
        // A connection that resumes a session shows no certificate: the other side would go on with the first one.
        client.resumption = Resumption::disabled();
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(PeerTls { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// The name that the certificate of server `id` must have.
pub(super) fn server_name(id: u64) -> Result<ServerName<'static>, String> {
    ServerName::try_from(dns_name(id)).map_err(|e| e.to_string())
}

/// The raft id that a verified client certificate names, if it is a server's.
pub(super) fn peer_id(der: &[u8]) -> Option<u64> {
    let user = crate::auth::certificate::user(der)?;
    if !user.in_group(SERVERS) {
        return None;
    }
    user.name.strip_prefix(USER)?.parse().ok().filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::now;
    use crate::pki::{Credential, Pki};

    fn der(credential: &Credential) -> Vec<u8> {
        CertificateDer::from_pem_slice(credential.cert.as_bytes()).unwrap().to_vec()
    }

    fn shown(certificates: Option<&[CertificateDer<'_>]>) -> Vec<u8> {
        certificates.and_then(|c| c.first()).map(|c| c.to_vec()).unwrap_or_default()
    }

    #[tokio::test]
    async fn connections_after_a_renewal_show_the_new_certificate_of_the_same_server() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), now()).unwrap();
        // A folder keeps the certificate of one server, so each of these is a new one.
        let issue = || [1, 2].map(|id| pki.peer(id, now()).unwrap());
        let old = issue();
        let own = [Rotating::new(&old[0]).unwrap(), Rotating::new(&old[1]).unwrap()];
        let tls = own.clone().map(|own| PeerTls::new(own, pki.ca_pem()).unwrap());
        let acceptor = TlsAcceptor::from(tls[0].server.clone());
        let connector = TlsConnector::from(tls[1].client.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let connect = async |to: u64| {
            let tcp = TcpStream::connect(at).await.unwrap();
            let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await };
            let (near, far) = tokio::join!(connector.connect(server_name(to).unwrap(), tcp), accept);
            let near = shown(near.ok()?.get_ref().1.peer_certificates());
            Some((near, shown(far.ok()?.get_ref().1.peer_certificates())))
        };
        assert_eq!(connect(1).await, Some((der(&old[0]), der(&old[1]))));
        let new = issue();
        for (own, new) in own.iter().zip(&new) {
            own.set(new).unwrap();
        }
        let both = connect(1).await;
        assert_eq!(both, Some((der(&new[0]), der(&new[1]))));
        assert_ne!(both, Some((der(&old[0]), der(&old[1]))));
        assert_eq!(both.and_then(|(_, client)| peer_id(&client)), Some(2));
        assert_eq!(connect(3).await, None, "another server than was wanted");
    }
}
