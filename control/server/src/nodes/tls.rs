//! TLS to nodes: the API server's client certificate, and the node's certificate checked by the cluster's CA.

use std::sync::Arc;

use copepod_client::tls::{Rotating, roots};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What connections to any node have in common.
pub(super) struct Identity {
    verifier: Arc<WebPkiServerVerifier>,
    own: Arc<Rotating>,
}

impl Identity {
    /// Shows `own` to nodes whose certificates come from the CA.
    pub fn new(own: Arc<Rotating>, ca_pem: &str) -> Result<Identity, String> {
        let roots = Arc::new(roots(ca_pem).map_err(text)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(text)?;
        Ok(Identity { verifier, own })
    }

    /// How to speak to the node `name` at `host`, and the name to ask for. Its certificate must be for its name or for its
    /// address.
    pub fn to(&self, name: &str, host: &str) -> Result<(Arc<rustls::ClientConfig>, ServerName<'static>), String> {
        let address = ServerName::try_from(host.to_string()).map_err(text)?;
        // Nodes may have names that no host has.
        let asked = ServerName::try_from(name.to_string()).unwrap_or_else(|_| address.clone());
        let verifier = NodeVerifier { inner: self.verifier.clone(), address };
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(text)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.own.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((Arc::new(config), asked))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// Everything is verified as for any server; what is not for the node's name may be for its address.
#[derive(Debug)]
struct NodeVerifier {
    inner: Arc<WebPkiServerVerifier>,
    address: ServerName<'static>,
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify =
            |name: &ServerName<'_>| self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        verify(server_name).or_else(|error| match error {
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => verify(&self.address),
            other => Err(other),
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
