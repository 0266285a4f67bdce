//! TLS with credentials that are replaced while they are in use: whoever listens or connects shares a [`Rotating`], and
//! every handshake after [`Rotating::set`] shows the new certificate. Connections that are open stay open.

use std::sync::{Arc, PoisonError, RwLock};

use copepod_model::{Time, join_token};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// A certificate chain and its key, in PEM.
#[derive(Clone)]
pub struct Credential {
    /// Certificate, PEM.
    pub cert: String,
    /// PKCS#8 key, PEM.
    pub key: String,
}

/// Why something cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate that is none.
    #[error("not a certificate: {0}")]
    Certificate(String),
    /// A key that is none, or another certificate's.
    #[error("not the key of the certificate: {0}")]
    Key(String),
    /// The rest.
    #[error("no TLS: {0}")]
    Setup(String),
}

/// Whose certificates a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients<'a> {
    /// Nobody is asked for one.
    Unasked,
    /// Those of this CA (PEM), from who has one.
    Optional(&'a str),
    /// Those of this CA (PEM), from everyone.
    Required(&'a str),
}

/// A credential that can be replaced.
#[derive(Debug)]
pub struct Rotating(RwLock<Arc<CertifiedKey>>);

impl Rotating {
    /// Begins with `credential`.
    pub fn new(credential: &Credential) -> Result<Arc<Rotating>, TlsError> {
        Ok(Arc::new(Rotating(RwLock::new(certified(credential)?))))
    }

    /// Shows `credential` from the next handshake on. One that is not usable changes nothing.
    pub fn set(&self, credential: &Credential) -> Result<(), TlsError> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified(credential)?;
        Ok(())
    }

    /// TLS for a listener of HTTP/2 and HTTP/1.1.
    pub fn server_config(self: &Arc<Self>, clients: Clients<'_>) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(setup)?;
        let verifier = |ca: &str| -> Result<_, TlsError> {
            Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider()))
        };
        let builder = match clients {
            Clients::Unasked => builder.with_no_client_auth(),
            Clients::Optional(ca) => {
                builder.with_client_cert_verifier(verifier(ca)?.allow_unauthenticated().build().map_err(setup)?)
            }
            Clients::Required(ca) => builder.with_client_cert_verifier(verifier(ca)?.build().map_err(setup)?),
        };
        let mut config = builder.with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// TLS for who connects to servers of the CA `ca` (PEM).
    pub fn client_config(self: &Arc<Self>, ca: &str) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        Ok(builder.map_err(setup)?.with_root_certificates(roots(ca)?).with_client_cert_resolver(self.clone()))
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Rotating {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Rotating {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// TLS for who connects without a certificate of its own to servers of the CA `ca` (PEM).
pub fn anonymous(ca: &str) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    Ok(builder.map_err(setup)?.with_root_certificates(roots(ca)?).with_no_client_auth())
}

/// TLS that takes any server for what it says to be. Only to ask for what is checked by other means.
pub fn unverified() -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(setup)?.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider())));
    Ok(builder.with_no_client_auth())
}

/// The certificates of a CA's PEM.
pub fn roots(ca: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(cert.map_err(certificate)?).map_err(certificate)?;
    }
    if roots.is_empty() { Err(TlsError::Certificate("there is none".into())) } else { Ok(roots) }
}

fn certified(credential: &Credential) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(credential.cert.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(credential.key.as_bytes()).map_err(|e| TlsError::Key(e.to_string()))?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| TlsError::Key(e.to_string()))?;
    Ok(Arc::new(key))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificate(e: impl std::fmt::Display) -> TlsError {
    TlsError::Certificate(e.to_string())
}

fn setup(e: impl std::fmt::Display) -> TlsError {
    TlsError::Setup(e.to_string())
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub not_before: Time,
    /// Until then.
    pub not_after: Time,
}

impl Validity {
    /// That of the first certificate in a PEM; none where there is none to read.
    pub fn of(pem: &str) -> Option<Validity> {
        with_certificate(pem, |cert| {
            // What is later than a Time can say is its last moment.
            let nanos = |t: x509_parser::time::ASN1Time| {
                u64::try_from(t.timestamp()).unwrap_or(0).saturating_mul(1_000_000_000)
            };
            let time = |t| Time(nanos(t));
            Validity { not_before: time(cert.validity().not_before), not_after: time(cert.validity().not_after) }
        })
    }

    /// When it is time for the next one: after two thirds of its life.
    pub fn renew_at(&self) -> Time {
        self.not_before + self.not_after.since(self.not_before) / 3 * 2
    }
}

/// SHA-256, in hex, of the public key (SubjectPublicKeyInfo, DER) of the first certificate in a PEM: what a join token
/// pins a CA by.
pub fn public_key_hash(pem: &str) -> Option<String> {
    with_certificate(pem, |cert| join_token::hash(cert.public_key().raw))
}

fn with_certificate<T>(pem: &str, read: impl FnOnce(&x509_parser::certificate::X509Certificate<'_>) -> T) -> Option<T> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, cert) = x509_parser::parse_x509_certificate(&der).ok()?;
    Some(read(&cert))
}

/// Takes every certificate, but not every signature: who answers has the key of what it shows.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A CA's certificate, and credentials of it for `localhost`.
    fn ca(count: usize) -> (String, Vec<Credential>) {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let issued = (0..count).map(|_| {
            let key = KeyPair::generate().unwrap();
            let cert = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
            Credential { cert: cert.pem(), key: key.serialize_pem() }
        });
        (pem, issued.collect())
    }

    fn shown(certs: Option<&[CertificateDer<'_>]>) -> Vec<u8> {
        certs.and_then(|c| c.first()).map(|c| c.to_vec()).unwrap_or_default()
    }

    fn der(credential: &Credential) -> Vec<u8> {
        CertificateDer::from_pem_slice(credential.cert.as_bytes()).unwrap().to_vec()
    }

    #[tokio::test]
    async fn both_sides_show_what_is_set_last_and_open_connections_stay() {
        let (ca, issued) = ca(4);
        let (server, client) = (Rotating::new(&issued[0]).unwrap(), Rotating::new(&issued[1]).unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(server.server_config(Clients::Required(&ca)).unwrap());
        let mut config = client.client_config(&ca).unwrap();
        // A resumed session does not show certificates again.
        config.resumption = rustls::client::Resumption::disabled();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let connect = async || {
            let tcp = tokio::net::TcpStream::connect(at).await.unwrap();
            let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await.unwrap() };
            let name = ServerName::try_from("localhost").unwrap();
            let (near, far) = tokio::join!(connector.connect(name, tcp), accept);
            (near.unwrap(), far)
        };
        let (mut near, mut far) = connect().await;
        assert_eq!(shown(near.get_ref().1.peer_certificates()), der(&issued[0]));
        assert_eq!(shown(far.get_ref().1.peer_certificates()), der(&issued[1]));
        server.set(&issued[2]).unwrap();
        client.set(&issued[3]).unwrap();
        let (later, other) = connect().await;
        assert_eq!(shown(later.get_ref().1.peer_certificates()), der(&issued[2]));
        assert_eq!(shown(other.get_ref().1.peer_certificates()), der(&issued[3]));
        near.write_all(b"still").await.unwrap();
        near.flush().await.unwrap();
        let mut got = [0; 5];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"still");
    }

    #[test]
    fn what_does_not_fit_together_changes_nothing() {
        let (_, issued) = ca(2);
        let rotating = Rotating::new(&issued[0]).unwrap();
        let mixed = Credential { cert: issued[1].cert.clone(), key: issued[0].key.clone() };
        assert!(matches!(rotating.set(&mixed), Err(TlsError::Key(_))));
        let empty = Credential { cert: String::new(), key: issued[0].key.clone() };
        assert!(rotating.set(&empty).is_err());
        assert_eq!(rotating.current().cert[0].to_vec(), der(&issued[0]));
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let at = Time::from_secs;
        let year = Validity { not_before: at(1000), not_after: at(1300) };
        assert_eq!(year.renew_at(), at(1200));
        assert_eq!(Validity::of("x"), None);
        let (ca, _) = ca(0);
        assert!(Validity::of(&ca).is_some_and(|v| v.not_before < v.not_after));
        assert_eq!(public_key_hash(&ca).map(|h| h.len()), Some(64));
    }
}
