//! Which certificate a TLS client is shown, by the name it asks for. Certificates can be replaced at any time: handshakes
//! that begin later see the new ones, open connections stay as they are.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::sync::{read, write};

/// A certificate chain with its key.
pub type Certificate = Arc<CertifiedKey>;

/// The certificate chain and the key of a Secret of type `kubernetes.io/tls`, both PEM. They must belong together.
pub fn certificate(chain: &[u8], key: &[u8]) -> Result<Certificate, String> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| format!("tls.crt: {e}"))?;
    if chain.is_empty() {
        return Err("tls.crt: no certificate in it".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("tls.key: {e}"))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| format!("tls.key: {e}"))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(pair)),
        Err(e) => Err(format!("tls.crt and tls.key do not belong together: {e}")),
    }
}

#[derive(Debug, Default)]
struct ByName {
    exact: HashMap<String, Certificate>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Certificate>,
    any: Option<Certificate>,
}

impl ByName {
    fn find(&self, name: &str) -> Option<&Certificate> {
        let name = name.to_ascii_lowercase();
        // A Gateway's wildcard stands for any number of labels. Where the certificate's does not, the client says so.
        let suffixes = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        let wildcard = || suffixes.clone().find_map(|rest| self.wildcard.get(rest));
        self.exact.get(&name).or_else(wildcard)
    }
}

/// The certificates of the hosts of Ingresses and Gateways, and the one for everybody else.
pub struct Certificates {
    table: RwLock<Arc<ByName>>,
    default: Arc<dyn ResolvesServerCert>,
}

impl Certificates {
    /// The same server with certificates by name; `base`'s own one stays the default.
    pub fn over(base: &ServerConfig) -> (Arc<Certificates>, Arc<ServerConfig>) {
        let own = Certificates { table: RwLock::default(), default: base.cert_resolver.clone() };
        let own = Arc::new(own);
        let mut config = base.clone();
        config.cert_resolver = own.clone();
        (own, Arc::new(config))
    }

    /// Replaces all certificates. Each comes with the host names it is for, possibly wildcards, or with none
    /// if it is for all hosts without one; of two for the same name the first wins.
    pub fn set<S: AsRef<str>>(&self, all: impl IntoIterator<Item = (Vec<S>, Certificate)>) {
        let mut table = ByName::default();
        for (hosts, certificate) in all {
            if hosts.is_empty() {
                table.any.get_or_insert_with(|| certificate.clone());
            }
            for host in &hosts {
                let (map, name) = match host.as_ref().strip_prefix("*.") {
                    Some(rest) => (&mut table.wildcard, rest),
                    None => (&mut table.exact, host.as_ref()),
                };
                map.entry(name.to_ascii_lowercase()).or_insert_with(|| certificate.clone());
            }
        }
        *write(&self.table) = Arc::new(table);
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Certificate> {
        let table = read(&self.table).clone();
        let named = hello.server_name().and_then(|name| table.find(name));
        named.or(table.any.as_ref()).cloned().or_else(|| self.default.resolve(hello))
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let table = read(&self.table);
        write!(f, "Certificates({} hosts)", table.exact.len() + table.wildcard.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> (String, String) {
        let pair = rcgen::generate_simple_self_signed(vec![name.to_string()]).unwrap();
        (pair.cert.pem(), pair.signing_key.serialize_pem())
    }

    #[test]
    fn names_find_their_certificate() {
        let [a, b, c] = ["a", "b", "c"].map(|n| {
            let (cert, key) = made(n);
            certificate(cert.as_bytes(), key.as_bytes()).unwrap()
        });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let base = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let base =
            base.with_no_client_auth().with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let (certificates, _) = Certificates::over(&base);
        certificates.set([
            (vec!["shop.test"], a.clone()),
            (vec!["*.Shop.test", "shop.test"], b.clone()),
            (vec![], c.clone()),
        ]);
        let table = read(&certificates.table).clone();
        let is = |name: &str, want: &Certificate| table.find(name).is_some_and(|found| Arc::ptr_eq(found, want));
        assert!(is("SHOP.test", &a), "the first one for a name wins");
        assert!(is("x.shop.test", &b) && is("x.y.shop.test", &b));
        assert!(table.find("test").is_none() && table.find("other").is_none());
        assert!(Arc::ptr_eq(table.any.as_ref().unwrap(), &c));
        certificates.set::<&str>([]);
        assert!(read(&certificates.table).find("shop.test").is_none());
    }

    #[test]
    fn bad_pairs_say_what_is_wrong() {
        let ((cert, key), (_, other)) = (made("a"), made("b"));
        for (cert, key, why) in [
            ("", key.as_str(), "tls.crt: no certificate"),
            ("-----BEGIN CERTIFICATE-----\n!", &key, "tls.crt"),
            (&cert, "", "tls.key"),
            (&cert, &other, "do not belong together"),
        ] {
            let error = certificate(cert.as_bytes(), key.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
