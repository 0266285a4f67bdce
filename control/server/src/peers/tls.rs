//! Mutual TLS between servers: both sides show a certificate of the cluster's CA that names their raft id.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::pki::Credential;

/// The organization of servers' certificates.
pub const ORGANIZATION: &str = "system:copepod:servers";
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
    /// From this server's certificate and the CA's.
    pub fn new(own: &Credential, ca_pem: &str) -> Result<PeerTls, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut roots = rustls::RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(cert.map_err(|e| text(&e))?).map_err(|e| text(&e))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_slice_iter(own.cert.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|e| text(&e))?;
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|e| text(&e))?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| text(&e))?
            .with_client_cert_verifier(clients.build().map_err(|e| text(&e))?)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|e| text(&e))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| text(&e))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|e| text(&e))?;
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
    if !user.groups.iter().any(|g| g == ORGANIZATION) {
        return None;
    }
    user.name.strip_prefix(USER)?.parse().ok().filter(|id| *id != 0)
}
