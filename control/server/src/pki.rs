//! The cluster's certificate authority and what it issues, kept in one folder that only its owner can read.
//!
//! Names follow kubeadm's: `ca`, `apiserver`, `admin`, `sa`. Certificates live a year and are reissued after two thirds of
//! it; the CA lives ten years.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use copepod_client::tls::{Rotating, Validity};
use copepod_model::Time;
use copepod_model::certificate::usage::{CLIENT_AUTH, DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, SERVER_AUTH};
use copepod_model::certificate::{Authority, Names, Request, SERVERS, SignatureAlgorithm, Subject, Template};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    SigningKey as _,
};

pub use copepod_client::tls::Credential;

const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// The keys that a CA may have, and how they sign.
static ALGORITHMS: [(&rcgen::SignatureAlgorithm, SignatureAlgorithm); 4] = [
    (&rcgen::PKCS_ECDSA_P256_SHA256, SignatureAlgorithm::EcdsaSha256),
    (&rcgen::PKCS_ECDSA_P384_SHA384, SignatureAlgorithm::EcdsaSha384),
    (&rcgen::PKCS_ED25519, SignatureAlgorithm::Ed25519),
    (&rcgen::PKCS_RSA_SHA256, SignatureAlgorithm::RsaSha256),
];

/// The cluster's CA, on disk under `DIR/pki`.
pub struct Pki {
    dir: PathBuf,
    ca: Credential,
}

/// Why the folder of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// A file does not hold what it should.
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
    /// A file that nothing can make anew is not there.
    #[error("{0} is missing")]
    Missing(PathBuf),
    /// What asks for a certificate is no request (PKCS#10), or asks for what there is not.
    #[error("not a request for a certificate: {0}")]
    Request(String),
}

/// What all servers of a cluster share.
#[derive(Clone)]
pub struct Shared {
    /// The CA.
    pub ca: Credential,
    /// The key that signs service account tokens, PEM.
    pub service_account_key: String,
    /// The key that seals Secrets.
    pub seal: [u8; 32],
}

impl Pki {
    /// Opens the folder, making the CA on first use. Half a CA (certificate or key alone) is an error: a new one would
    /// silently lock every client out.
    pub fn open(dir: &Path, now: Time) -> Result<Pki, PkiError> {
        fs::create_dir_all(dir).map_err(|e| PkiError::Io(dir.into(), e))?;
        let ca = match load(dir, "ca")? {
            Some(ca) => ca,
            None => {
                let mut params = CertificateParams::default();
                params.distinguished_name = DistinguishedName::new();
                params.distinguished_name.push(DnType::CommonName, "copepod-ca");
                params.not_before = date(a_day_before(now));
                params.not_after = date(now + 10 * YEAR);
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages =
                    vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
                let key = KeyPair::generate().map_err(|e| damaged(dir, e))?;
                let cert = params.self_signed(&key).map_err(|e| damaged(dir, e))?;
                let ca = Credential { cert: cert.pem(), key: key.serialize_pem() };
                store(dir, "ca", &ca)?;
                ca
            }
        };
        Ok(Pki { dir: dir.into(), ca })
    }

    /// The CA's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca.cert
    }

    /// A serving certificate for these names and addresses, kept as `name` and reissued when they change or it ages.
    pub fn serving(&self, name: &str, dns: &[String], ips: &[IpAddr], now: Time) -> Result<Credential, PkiError> {
        let wanted = self.names(dns, ips)?;
        let mark = format!("{dns:?}{ips:?}");
        let mark_path = self.dir.join(format!("{name}.names"));
        if let Some(old) = self.issued(name, now)?
            && fs::read_to_string(&mark_path).ok().as_deref() == Some(&mark)
        {
            return Ok(old);
        }
        let made = self.make(Subject::new(name, &[]), wanted, &[SERVER_AUTH], now)?;
        store(&self.dir, name, &made)?;
        write(&mark_path, mark.as_bytes())?;
        Ok(made)
    }

    /// A certificate for both ends of the connections between servers, kept as `peer` and reissued when it ages or is another
    /// server's.
    pub fn peer(&self, id: u64, now: Time) -> Result<Credential, PkiError> {
        let mark = id.to_string();
        let mark_path = self.dir.join("peer.id");
        if let Some(old) = self.issued("peer", now)?
            && fs::read_to_string(&mark_path).ok().as_deref() == Some(&mark)
        {
            return Ok(old);
        }
        let subject = Subject::new(&crate::peers::user(id), &[SERVERS]);
        let names = self.names(&[crate::peers::dns_name(id)], &[])?;
        let made = self.make(subject, names, &[SERVER_AUTH, CLIENT_AUTH], now)?;
        store(&self.dir, "peer", &made)?;
        write(&mark_path, mark.as_bytes())?;
        Ok(made)
    }

    /// A client certificate for a user and groups, kept as `name` and reissued when it ages.
    pub fn client(&self, name: &str, user: &str, groups: &[&str], now: Time) -> Result<Credential, PkiError> {
        if let Some(old) = self.issued(name, now)? {
            return Ok(old);
        }
        let made = self.make(Subject::new(user, groups), Names::default(), &[CLIENT_AUTH], now)?;
        store(&self.dir, name, &made)?;
        Ok(made)
    }

    /// A PKCS#8 document of an ECDSA P-256 key kept as `name.key`, made on first use.
    pub fn signing_key(&self, name: &str) -> Result<Vec<u8>, PkiError> {
        if let Some(key) = signing_key(&self.dir, name)? {
            return Ok(key);
        }
        let path = self.dir.join(format!("{name}.key"));
        let key = KeyPair::generate().map_err(|e| damaged(&path, e))?;
        write(&path, key.serialize_pem().as_bytes())?;
        Ok(key.serialize_der())
    }

    /// 32 random bytes kept as `name.secret`, made on first use.
    pub fn secret(&self, name: &str) -> Result<[u8; 32], PkiError> {
        if let Some(bytes) = secret(&self.dir, name)? {
            return Ok(bytes);
        }
        let mut bytes = [0u8; 32];
        crate::random(&mut bytes);
        write(&self.dir.join(format!("{name}.secret")), &bytes)?;
        Ok(bytes)
    }

    /// A certificate (PEM) for the key of a PKCS#10 request, whose own wishes do not count: a client's if it is for no names
    /// and addresses, else a server's.
    pub fn sign(
        &self,
        request: &str,
        (user, groups): (&str, &[&str]),
        dns: &[String],
        ips: &[IpAddr],
        now: Time,
    ) -> Result<String, PkiError> {
        let asked = Request::parse(request.as_bytes()).map_err(PkiError::Request)?;
        let names = self.names(dns, ips)?;
        let side = if names.is_empty() { CLIENT_AUTH } else { SERVER_AUTH };
        self.issue(&template(Subject::new(user, groups), names, &[side], asked.key, now))
    }

    /// The certificate (PEM) that is so described.
    pub fn issue(&self, template: &Template) -> Result<String, PkiError> {
        let (at, of_key) = (self.dir.join("ca.crt"), self.dir.join("ca.key"));
        let authority = Authority::parse(&self.ca.cert).ok_or_else(|| damaged(&at, "not a certificate"))?;
        let key = KeyPair::from_pem(&self.ca.key).map_err(|e| damaged(&of_key, e))?;
        let algorithm = ALGORITHMS.iter().find(|(of, _)| key.algorithm() == *of);
        let (_, algorithm) = algorithm.ok_or_else(|| damaged(&of_key, "a key of an unknown sort"))?;
        let mut serial = [0; 16];
        crate::random(&mut serial);
        template.issue(&authority, *algorithm, serial, |bytes| key.sign(bytes)).map_err(|e| damaged(&of_key, e))
    }

    /// Whether the folder has, whole, what a state was made with and nothing can make anew: the CA, the key that signs
    /// service account tokens and the one that seals Secrets.
    pub fn complete(dir: &Path) -> Result<(), PkiError> {
        let missing = |file: &str| PkiError::Missing(dir.join(file));
        load(dir, "ca")?.ok_or_else(|| missing("ca.key"))?;
        signing_key(dir, "sa")?.ok_or_else(|| missing("sa.key"))?;
        secret(dir, "seal")?.ok_or_else(|| missing("seal.secret"))?;
        Ok(())
    }

    /// What another server needs to be one of this cluster.
    pub fn shared(&self) -> Result<Shared, PkiError> {
        let path = self.dir.join("sa.key");
        let service_account_key = fs::read_to_string(&path).map_err(|e| PkiError::Io(path, e))?;
        // Never a new one: the state is sealed with what this server started with.
        let seal = secret(&self.dir, "seal")?.ok_or_else(|| PkiError::Missing(self.dir.join("seal.secret")))?;
        Ok(Shared { ca: self.ca.clone(), service_account_key, seal })
    }

    /// Whether the folder has a CA already.
    pub fn exists(dir: &Path) -> bool {
        dir.join("ca.key").exists()
    }

    /// Fills the folder of a server that joins, before [`Pki::open`]. The CA's key comes last: while it is missing, nothing
    /// was done.
    pub fn install(dir: &Path, shared: &Shared) -> Result<(), PkiError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| PkiError::Io(dir.into(), e))?;
        write(&dir.join("seal.secret"), &shared.seal)?;
        write(&dir.join("sa.key"), shared.service_account_key.as_bytes())?;
        write(&dir.join("ca.crt"), shared.ca.cert.as_bytes())?;
        write(&dir.join("ca.key"), shared.ca.key.as_bytes())
    }

    fn names(&self, dns: &[String], ips: &[IpAddr]) -> Result<Names, PkiError> {
        match dns.iter().find(|d| !d.is_ascii()) {
            Some(bad) => Err(damaged(&self.dir, format!("{bad:?} is no DNS name"))),
            None => Ok(Names { dns: dns.to_vec(), ips: ips.to_vec(), ..Names::default() }),
        }
    }

    /// A new key with its certificate.
    fn make(&self, subject: Subject, names: Names, sides: &[&str], now: Time) -> Result<Credential, PkiError> {
        let key = KeyPair::generate().map_err(|e| damaged(&self.dir, e))?;
        let cert = self.issue(&template(subject, names, sides, key.subject_public_key_info(), now))?;
        Ok(Credential { cert, key: key.serialize_pem() })
    }

    /// What was issued as `name`, unless another is to be issued: it is not there, damaged, has aged, or is not this CA's.
    fn issued(&self, name: &str, now: Time) -> Result<Option<Credential>, PkiError> {
        match load(&self.dir, name) {
            Ok(found) => Ok(found.filter(|c| !self.stale(c, now))),
            Err(PkiError::Damaged(..) | PkiError::Missing(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether it is time for another certificate, or it is not this CA's.
    fn stale(&self, credential: &Credential, now: Time) -> bool {
        let parse = |pem: &str| x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok().map(|(_, p)| p.contents);
        let (Some(der), Some(ca)) = (parse(&credential.cert), parse(&self.ca.cert)) else { return true };
        let (Ok((_, cert)), Ok((_, ca))) =
            (x509_parser::parse_x509_certificate(&der), x509_parser::parse_x509_certificate(&ca))
        else {
            return true;
        };
        cert.verify_signature(Some(ca.public_key())).is_err()
            || Validity::of(&credential.cert).is_none_or(|v| v.renew_at() <= now)
    }
}

/// What the cluster's own certificates say, whatever is asked for: so and so, for these sides of TLS, for a year.
fn template(subject: Subject, names: Names, sides: &[&str], key: Vec<u8>, now: Time) -> Template {
    let usages = [&[DIGITAL_SIGNATURE, KEY_ENCIPHERMENT][..], sides].concat().into_iter().map(String::from).collect();
    let not_after = now + YEAR;
    Template { subject, names, key, usages, not_before: a_day_before(now), not_after }
}

/// For clocks that are behind.
fn a_day_before(now: Time) -> Time {
    Time::from_secs(now.secs().saturating_sub(86_400))
}

fn date(t: Time) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(t.secs() as i64).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

fn damaged(path: &Path, e: impl std::fmt::Display) -> PkiError {
    PkiError::Damaged(path.into(), e.to_string())
}

/// A file's text; none if there is no file.
fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(damaged(path, "it is no text")),
        Err(e) => Err(PkiError::Io(path.into(), e)),
    }
}

fn signing_key(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, PkiError> {
    let path = dir.join(format!("{name}.key"));
    let Some(pem) = read(&path)? else { return Ok(None) };
    let key = KeyPair::from_pem(&pem).map_err(|e| damaged(&path, e))?.serialize_der();
    crate::auth::token::Tokens::new(&key).map_err(|e| damaged(&path, e))?;
    Ok(Some(key))
}

fn secret(dir: &Path, name: &str) -> Result<Option<[u8; 32]>, PkiError> {
    let path = dir.join(format!("{name}.secret"));
    match fs::read(&path) {
        Ok(bytes) => bytes.try_into().map(Some).map_err(|_| damaged(&path, "not 32 bytes")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(PkiError::Io(path, e)),
    }
}

/// The certificate and the key that are kept as `name`; none if there is neither.
fn load(dir: &Path, name: &str) -> Result<Option<Credential>, PkiError> {
    let path = |suffix: &str| dir.join(format!("{name}.{suffix}"));
    let (cert, key) = (read(&path("crt"))?, read(&path("key"))?);
    let fit = |cert: &str, key: &str| Rotating::new(&Credential { cert: cert.into(), key: key.into() }).map(drop);
    // A crash may have come between the key and its certificate (see `store`): then this is what it did not come to.
    if let (Some(key), Some(pending)) = (&key, read(&path("crt.tmp"))?)
        && cert.as_deref().is_none_or(|cert| fit(cert, key).is_err())
        && fit(&pending, key).is_ok()
    {
        fs::rename(path("crt.tmp"), path("crt")).map_err(|e| PkiError::Io(path("crt"), e))?;
        return Ok(Some(Credential { cert: pending, key: key.clone() }));
    }
    match (cert, key) {
        (Some(cert), Some(key)) => {
            // Which of the two it is can be told only where it is no key at all.
            let wrong = if KeyPair::from_pem(&key).is_err() { path("key") } else { path("crt") };
            fit(&cert, &key).map_err(|e| damaged(&wrong, e))?;
            Ok(Some(Credential { cert, key }))
        }
        (None, None) => Ok(None),
        (cert, _) => Err(PkiError::Missing(path(if cert.is_some() { "key" } else { "crt" }))),
    }
}

fn store(dir: &Path, name: &str, credential: &Credential) -> Result<(), PkiError> {
    // The certificate is on disk before its key is, and `load` ends what a crash has cut off.
    let tmp = dir.join(format!("{name}.crt.tmp"));
    write(&tmp, credential.cert.as_bytes())?;
    write(&dir.join(format!("{name}.key")), credential.key.as_bytes())?;
    let to = dir.join(format!("{name}.crt"));
    fs::rename(&tmp, &to).map_err(|e| PkiError::Io(to, e))
}

/// Writes a file that only its owner may read, durably.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let io = |e| PkiError::Io(path.into(), e);
    let tmp = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&tmp, path).map_err(io)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_kept_and_reissued_in_the_last_third_of_their_life() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::from_secs(1_800_000_000);
        let pki = Pki::open(dir.path(), now).unwrap();
        let a = pki.client("admin", "admin", &["system:masters"], now).unwrap();
        let later = now + std::time::Duration::from_secs(240 * 86_400);
        let pki = Pki::open(dir.path(), later).unwrap();
        assert_eq!(pki.client("admin", "admin", &["system:masters"], later).unwrap().cert, a.cert);
        let late = now + std::time::Duration::from_secs(245 * 86_400);
        assert_ne!(pki.client("admin", "admin", &["system:masters"], late).unwrap().cert, a.cert);
        let s = pki.serving("apiserver", &["localhost".into()], &[], now).unwrap();
        assert_eq!(pki.serving("apiserver", &["localhost".into()], &[], now).unwrap().cert, s.cert);
        assert_ne!(pki.serving("apiserver", &["other".into()], &[], now).unwrap().cert, s.cert);
        assert_eq!(pki.secret("a").unwrap(), pki.secret("a").unwrap());
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(dir.path().join("ca.key")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_request_gets_what_the_ca_says_and_not_what_it_asks_for() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::from_secs(1_800_000_000);
        let pki = Pki::open(dir.path(), now).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(vec!["kubernetes".into()]).unwrap();
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = wish.serialize_request(&key).unwrap().pem().unwrap();
        let pem = pki.sign(&request, ("system:node:n", &["system:nodes"]), &[], &[], now).unwrap();
        let (_, der) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let user = crate::auth::certificate::user(&der.contents).unwrap();
        assert_eq!((user.name.as_str(), user.groups[0].as_str()), ("system:node:n", "system:nodes"));
        let cert = der.parse_x509().unwrap();
        assert!(!cert.is_ca());
        assert!(cert.subject_alternative_name().unwrap().is_none());
        let usage = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        let ip = [[10, 0, 0, 1].into()];
        let pem = pki.sign(&request, ("system:node:n", &[]), &["n".into()], &ip, now).unwrap();
        let (_, der) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let cert = der.parse_x509().unwrap();
        assert_eq!(cert.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
        assert!(cert.extended_key_usage().unwrap().unwrap().value.server_auth);
        let broken = request.replacen('M', "N", 1);
        assert!(matches!(pki.sign(&broken, ("n", &[]), &[], &[], now), Err(PkiError::Request(_))));
    }

    #[test]
    fn what_is_issued_is_a_user_with_all_groups_and_checks_out() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::from_secs(1_800_000_000);
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let mut pki = Pki::open(dir.path(), now).unwrap();
            // Another CA's key, as an operator may bring along.
            let key = KeyPair::generate_for(algorithm).unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            pki.ca = Credential { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() };
            let made = pki.make(Subject::new("eve", &["a", "b"]), Names::default(), &[CLIENT_AUTH], now).unwrap();
            assert!(!pki.stale(&made, now), "{algorithm:?}: the CA's signature");
            Rotating::new(&made).unwrap().client_config(pki.ca_pem()).unwrap();
            let (_, der) = x509_parser::pem::parse_x509_pem(made.cert.as_bytes()).unwrap();
            let user = crate::auth::certificate::user(&der.contents).unwrap();
            assert_eq!((user.name.as_str(), user.groups.join(" ")), ("eve", "a b system:authenticated".into()));
            let (a, b) = (pki.issue(&like(&made, now)).unwrap(), pki.issue(&like(&made, now)).unwrap());
            let serial = |pem: &str| {
                let (_, der) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
                der.parse_x509().unwrap().raw_serial().to_vec()
            };
            assert_ne!(serial(&a), serial(&b));
        }
    }

    fn like(made: &Credential, now: Time) -> Template {
        let key = KeyPair::from_pem(&made.key).unwrap().subject_public_key_info();
        template(Subject::new("eve", &[]), Names::default(), &[CLIENT_AUTH], key, now)
    }

    #[test]
    fn a_server_that_joins_has_the_secrets_of_the_others() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = Time::from_secs(1_800_000_000);
        let pki = Pki::open(first.path(), now).unwrap();
        let signing = pki.signing_key("sa").unwrap();
        assert!(matches!(pki.shared(), Err(PkiError::Missing(_))), "no key is made for another server");
        pki.secret("seal").unwrap();
        let folder = second.path().join("pki");
        assert!(!Pki::exists(&folder));
        Pki::install(&folder, &pki.shared().unwrap()).unwrap();
        let joined = Pki::open(&folder, now).unwrap();
        assert_eq!(joined.ca_pem(), pki.ca_pem());
        assert_eq!(joined.signing_key("sa").unwrap(), signing);
        assert_eq!(joined.secret("seal").unwrap(), pki.secret("seal").unwrap());
    }

    #[test]
    fn half_a_ca_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        Pki::open(dir.path(), Time::from_secs(1_800_000_000)).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(matches!(Pki::open(dir.path(), Time::from_secs(1_800_000_000)), Err(PkiError::Missing(_))));
    }

    #[test]
    fn what_the_ca_has_issued_is_issued_anew_where_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::from_secs(1_800_000_000);
        let pki = Pki::open(dir.path(), now).unwrap();
        let issue = || {
            pki.client("admin", "admin", &["system:masters"], now).unwrap();
            pki.serving("apiserver", &["localhost".into()], &[], now).unwrap();
            pki.peer(1, now).unwrap();
        };
        issue();
        for name in ["admin", "apiserver", "peer"] {
            for (suffix, bytes) in [("key", &b"garbled"[..]), ("crt", b"\xff"), ("key", b"")] {
                fs::write(dir.path().join(format!("{name}.{suffix}")), bytes).unwrap();
                issue();
                let found = load(dir.path(), name).unwrap().unwrap();
                assert!(!pki.stale(&found, now), "{name}.{suffix}");
            }
            fs::remove_file(dir.path().join(format!("{name}.key"))).unwrap();
            issue();
            assert!(load(dir.path(), name).unwrap().is_some(), "{name}");
        }
    }
}
