//! TLS to servers outside the cluster.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::HttpError;
use crate::stream::Stream;

/// The client's TLS settings; the host's roots are read when first needed.
pub(crate) struct Tls(OnceLock<Result<TlsConnector, String>>);

impl Tls {
    pub(crate) fn new(config: Option<Arc<ClientConfig>>) -> Tls {
        let cell = OnceLock::new();
        if let Some(config) = config {
            let _ = cell.set(Ok(TlsConnector::from(config)));
        }
        Tls(cell)
    }

    /// Speaks TLS over `stream` with `host`.
    pub(crate) async fn connect(&self, stream: Stream, host: &str) -> Result<TlsStream<Stream>, HttpError> {
        let connector = self.0.get_or_init(native).as_ref().map_err(|e| HttpError::Tls(e.clone()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let name = ServerName::try_from(host).map_err(|e| HttpError::Tls(e.to_string()))?;
        connector.connect(name, stream).await.map_err(|e| HttpError::Tls(e.to_string()))
    }
}

fn native() -> Result<TlsConnector, String> {
    client_config([]).map(|config| TlsConnector::from(Arc::new(config)))
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
