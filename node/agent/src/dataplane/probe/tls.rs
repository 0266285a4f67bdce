//! TLS as probes and the API's proxy speak it: whatever certificate the container has is fine (as in the kubelet and
//! kube-apiserver), since a probe sends no secret and asks only whether someone answers, and nobody vouches for pods.

use std::sync::{Arc, OnceLock};

use copepod_node_network::Stream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Speaks TLS over `stream` with `host`.
pub(crate) async fn connect(stream: Stream, host: &str) -> Result<TlsStream<Stream>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let config = CONFIG.get_or_init(config).clone()?;
    let name = ServerName::try_from(host.to_string()).map_err(|e| e.to_string())?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|e| e.to_string())
}

fn config() -> Result<Arc<ClientConfig>, String> {
    let mut config = copepod_client::tls::unverified().map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
