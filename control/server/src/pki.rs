//! The cluster's certificate authority and what it issues, kept in one folder that only its owner can read.
//!
//! Names follow kubeadm's: `ca`, `apiserver`, `admin`, `sa`. Certificates live a year and are reissued after two thirds of
//! it; the CA lives ten years.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use copepod_client::tls::{Rotating, Validity};
use copepod_model::Time;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

pub use copepod_client::tls::Credential;

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
                let mut params = params("copepod-ca", &[], now, 10 * 365);
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
        let mut wanted: Vec<SanType> = Vec::new();
        for d in dns {
            wanted.push(SanType::DnsName(d.as_str().try_into().map_err(|e| damaged(&self.dir, e))?));
        }
        wanted.extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
        let mark = format!("{dns:?}{ips:?}");
        let mark_path = self.dir.join(format!("{name}.names"));
        if let Some(old) = load(&self.dir, name)?
            && fs::read_to_string(&mark_path).ok().as_deref() == Some(&mark)
            && !self.stale(&old, now)
        {
            return Ok(old);
        }
        let mut params = params(name, &[], now, 365);
        params.subject_alt_names = wanted;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = self.issue(params)?;
        store(&self.dir, name, &made)?;
        write(&mark_path, mark.as_bytes())?;
        Ok(made)
    }

    /// A certificate for both ends of the connections between servers, kept as `peer` and reissued when it ages or is another
    /// server's.
    pub fn peer(&self, id: u64, now: Time) -> Result<Credential, PkiError> {
        let mark = id.to_string();
        let mark_path = self.dir.join("peer.id");
        if let Some(old) = load(&self.dir, "peer")?
            && fs::read_to_string(&mark_path).ok().as_deref() == Some(&mark)
            && !self.stale(&old, now)
        {
            return Ok(old);
        }
        let name = crate::peers::dns_name(id);
        let mut params = params(&crate::peers::user(id), &[crate::peers::ORGANIZATION], now, 365);
        params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into().map_err(|e| damaged(&self.dir, e))?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let made = self.issue(params)?;
        store(&self.dir, "peer", &made)?;
        write(&mark_path, mark.as_bytes())?;
        Ok(made)
    }

    /// A client certificate for a user and groups, kept as `name` and reissued when it ages.
    pub fn client(&self, name: &str, user: &str, groups: &[&str], now: Time) -> Result<Credential, PkiError> {
        if let Some(old) = load(&self.dir, name)?
            && !self.stale(&old, now)
        {
            return Ok(old);
        }
        let mut params = params(user, groups, now, 365);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let made = self.issue(params)?;
        store(&self.dir, name, &made)?;
        Ok(made)
    }

    /// A PKCS#8 document of an ECDSA P-256 key kept as `name.key`, made on first use.
    pub fn signing_key(&self, name: &str) -> Result<Vec<u8>, PkiError> {
        let path = self.dir.join(format!("{name}.key"));
        let pem = match fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let pem = KeyPair::generate().map_err(|e| damaged(&path, e))?.serialize_pem();
                write(&path, pem.as_bytes())?;
                pem
            }
            Err(e) => return Err(PkiError::Io(path, e)),
        };
        let key = KeyPair::from_pem(&pem).map_err(|e| damaged(&path, e))?;
        Ok(key.serialize_der())
    }

    /// 32 random bytes kept as `name.secret`, made on first use.
    pub fn secret(&self, name: &str) -> Result<[u8; 32], PkiError> {
        let path = self.dir.join(format!("{name}.secret"));
        match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map_err(|_| damaged(&path, "not 32 bytes")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0u8; 32];
                crate::random(&mut bytes);
                write(&path, &bytes)?;
                Ok(bytes)
            }
            Err(e) => Err(PkiError::Io(path, e)),
        }
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
        let bad = |e: rcgen::Error| PkiError::Request(e.to_string());
        let asked = CertificateSigningRequestParams::from_pem(request).map_err(bad)?;
        let mut params = params(user, groups, now, 365);
        for d in dns {
            params.subject_alt_names.push(SanType::DnsName(d.as_str().try_into().map_err(bad)?));
        }
        params.subject_alt_names.extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
        let client = params.subject_alt_names.is_empty();
        params.extended_key_usages =
            vec![if client { ExtendedKeyUsagePurpose::ClientAuth } else { ExtendedKeyUsagePurpose::ServerAuth }];
        Ok(params.signed_by(&asked.public_key, &self.issuer()?).map_err(bad)?.pem())
    }

    /// What another server needs to be one of this cluster.
    pub fn shared(&self) -> Result<Shared, PkiError> {
        let path = self.dir.join("sa.key");
        let service_account_key = fs::read_to_string(&path).map_err(|e| PkiError::Io(path, e))?;
        Ok(Shared { ca: self.ca.clone(), service_account_key, seal: self.secret("seal")? })
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

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        let ca_key = KeyPair::from_pem(&self.ca.key).map_err(|e| damaged(&self.dir.join("ca.key"), e))?;
        Issuer::from_ca_cert_pem(&self.ca.cert, ca_key).map_err(|e| damaged(&self.dir.join("ca.crt"), e))
    }

    fn issue(&self, params: CertificateParams) -> Result<Credential, PkiError> {
        let issuer = self.issuer()?;
        let key = KeyPair::generate().map_err(|e| damaged(&self.dir, e))?;
        let cert = params.signed_by(&key, &issuer).map_err(|e| damaged(&self.dir, e))?;
        Ok(Credential { cert: cert.pem(), key: key.serialize_pem() })
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

fn params(common_name: &str, organizations: &[&str], now: Time, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    for o in organizations {
        name.push(DnType::OrganizationName, *o);
    }
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    // A day's slack for clocks that are behind.
    params.not_before = date(Time::from_secs(now.secs().saturating_sub(86_400)));
    params.not_after = date(Time::from_secs(now.secs() + days * 86_400));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params
}

fn date(t: Time) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(t.secs() as i64).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

fn damaged(path: &Path, e: impl std::fmt::Display) -> PkiError {
    PkiError::Damaged(path.into(), e.to_string())
}

fn load(dir: &Path, name: &str) -> Result<Option<Credential>, PkiError> {
    let read = |suffix: &str| {
        let path = dir.join(format!("{name}.{suffix}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(PkiError::Io(path, e)),
        }
    };
    let (cert, key) = (read("crt")?, read("key")?);
    // A crash may have come between the key and its certificate (see `store`): then this is what it did not come to.
    if let (Some(key), Some(pending)) = (&key, read("crt.tmp")?) {
        let fits = |cert: &str| Rotating::new(&Credential { cert: cert.into(), key: key.clone() }).is_ok();
        if !cert.as_deref().is_some_and(fits) && fits(&pending) {
            let to = dir.join(format!("{name}.crt"));
            fs::rename(dir.join(format!("{name}.crt.tmp")), &to).map_err(|e| PkiError::Io(to, e))?;
            return Ok(Some(Credential { cert: pending, key: key.clone() }));
        }
    }
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(Credential { cert, key })),
        (None, None) => Ok(None),
        (cert, _) => {
            let missing = if cert.is_some() { "key" } else { "crt" };
            Err(damaged(dir, format!("{name}.{missing} is missing")))
        }
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
    fn a_server_that_joins_has_the_secrets_of_the_others() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = Time::from_secs(1_800_000_000);
        let pki = Pki::open(first.path(), now).unwrap();
        let signing = pki.signing_key("sa").unwrap();
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
        assert!(matches!(Pki::open(dir.path(), Time::from_secs(1_800_000_000)), Err(PkiError::Damaged(..))));
    }
}
