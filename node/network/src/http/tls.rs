//! TLS to servers outside the cluster.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::HttpError;
use crate::stream::Stream;

/// The client's TLS settings; the host's roots are read when first needed, and the cluster's own are trusted too.
pub(crate) struct Tls {
    connector: OnceLock<Result<TlsConnector, String>>,
    roots: Vec<CertificateDer<'static>>,
}

impl Tls {
    pub(crate) fn new(config: Option<Arc<ClientConfig>>, roots: Vec<CertificateDer<'static>>) -> Tls {
        let connector = OnceLock::new();
        if let Some(config) = config {
            let _ = connector.set(Ok(TlsConnector::from(config)));
        }
        Tls { connector, roots }
    }

    /// Speaks TLS over `stream` with `host`.
    pub(crate) async fn connect(&self, stream: Stream, host: &str) -> Result<TlsStream<Stream>, HttpError> {
        let connector = self.connector.get_or_init(|| self.native()).as_ref().map_err(|e| HttpError::Tls(e.clone()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let name = ServerName::try_from(host).map_err(|e| HttpError::Tls(e.to_string()))?;
        connector.connect(name, stream).await.map_err(|e| HttpError::Tls(e.to_string()))
    }

    fn native(&self) -> Result<TlsConnector, String> {
        client_config(self.roots.iter().cloned()).map(|config| TlsConnector::from(Arc::new(config)))
    }
}

/// A client's TLS settings that trust the host's root certificates and `extra` ones, such as the cluster's CA.
pub fn client_config(extra: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for root in extra {
        roots.add(root).map_err(|e| e.to_string())?;
    }
    if roots.is_empty() {
        return Err("the host has no root certificates".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
