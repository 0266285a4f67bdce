//! What a certificate is to say, and the certificate that a CA makes of it.

use std::net::IpAddr;

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Names, Request, Subject, der, pem, usage};
use crate::Time;

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
/// From here on times have four digits of the year (RFC 5280, 4.1.2.5).
const FOUR_DIGITS: &str = "2050";

/// What an end entity's certificate says. The CA adds its name, a serial number and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Whom it names.
    pub subject: Subject,
    /// The further names.
    pub names: Names,
    /// SubjectPublicKeyInfo, DER.
    pub key: Vec<u8>,
    /// The names of usages.
    pub usages: Vec<String>,
    /// The first moment of its validity, in whole seconds.
    pub not_before: Time,
    /// The last one.
    pub not_after: Time,
}

/// A CA, as its certificate tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its name, DER.
    name: Vec<u8>,
    /// Its key's identifier.
    key_id: Option<Vec<u8>>,
    /// When it ends.
    pub not_after: Time,
}

/// How a CA's key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// `ecdsa-with-SHA256`.
    EcdsaSha256,
    /// `ecdsa-with-SHA384`.
    EcdsaSha384,
    /// `id-Ed25519`.
    Ed25519,
    /// `sha256WithRSAEncryption`.
    RsaSha256,
}

impl SignatureAlgorithm {
    fn der(self) -> Vec<u8> {
        match self {
            SignatureAlgorithm::EcdsaSha256 => der::sequence(&[der::oid(&[1, 2, 840, 10_045, 4, 3, 2])]),
            SignatureAlgorithm::EcdsaSha384 => der::sequence(&[der::oid(&[1, 2, 840, 10_045, 4, 3, 3])]),
            SignatureAlgorithm::Ed25519 => der::sequence(&[der::oid(&[1, 3, 101, 112])]),
            SignatureAlgorithm::RsaSha256 => {
                der::sequence(&[der::oid(&[1, 2, 840, 113_549, 1, 1, 11]), der::tlv(der::NULL, &[])])
            }
        }
    }
}

/// When a certificate (the first of a PEM text) ends.
pub fn not_after(text: &[u8]) -> Option<Time> {
    let block = pem::blocks(text).into_iter().next()?;
    let (_, cert) = X509Certificate::from_der(&block.contents).ok()?;
    Some(end(&cert))
}

fn end(cert: &X509Certificate<'_>) -> Time {
    Time::from_secs(u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0).min(u64::MAX / 1_000_000_000))
}

impl Authority {
    /// Reads a CA's certificate, PEM.
    pub fn parse(text: &str) -> Option<Authority> {
        let block = pem::blocks(text.as_bytes()).into_iter().find(|b| b.label == pem::CERTIFICATE)?;
        let (_, cert) = X509Certificate::from_der(&block.contents).ok()?;
        let key_id = cert.iter_extensions().find_map(|e| match e.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Some(Authority { name: cert.subject().as_raw().to_vec(), key_id, not_after: end(&cert) })
    }
}

impl Template {
    /// What a request asks for, with these usages and times.
    pub fn of(request: Request, usages: Vec<String>, (not_before, not_after): (Time, Time)) -> Template {
        let Request { subject, names, key } = request;
        Template { subject, names, key, usages, not_before, not_after }
    }

    /// The certificate, PEM. `sign` signs bytes with the CA's key by `algorithm`; the serial number is of random bits.
    pub fn issue<E>(
        &self,
        authority: &Authority,
        algorithm: SignatureAlgorithm,
        serial: [u8; 16],
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<String, E> {
        let body = der::sequence(&[
            der::tlv(der::explicit(0), &der::unsigned(&[2])),
            der::unsigned(&serial),
            algorithm.der(),
            authority.name.clone(),
            der::sequence(&[time(self.not_before), time(self.not_after)]),
            self.subject.der(),
            self.key.clone(),
            der::tlv(der::explicit(3), &self.extensions(authority)),
        ]);
        let signature = sign(&body)?;
        let whole = der::sequence(&[body, algorithm.der(), der::bytes(&signature)]);
        Ok(pem::encode(pem::CERTIFICATE, &whole))
    }

    fn extensions(&self, authority: &Authority) -> Vec<u8> {
        let mut all = Vec::new();
        let mut add = |oid: &[u64], critical: bool, value: Vec<u8>| {
            let mut parts = vec![der::oid(oid)];
            if critical {
                parts.push(der::tlv(der::BOOLEAN, &[0xff]));
            }
            parts.push(der::tlv(der::OCTET_STRING, &value));
            all.push(der::sequence(&parts));
        };
        let (bits, extended) = usage::encode(&self.usages);
        if bits != 0 {
            add(KEY_USAGE, true, der::named_bits(bits));
        }
        if !extended.is_empty() {
            let oids: Vec<_> = extended.iter().map(|oid| der::oid(oid)).collect();
            add(EXTENDED_KEY_USAGE, false, der::sequence(&oids));
        }
        // Whatever was asked for, it is no CA.
        add(BASIC_CONSTRAINTS, true, der::sequence(&[]));
        if let Some(id) = &authority.key_id {
            add(AUTHORITY_KEY_IDENTIFIER, false, der::sequence(&[der::tlv(der::context(0), id)]));
        }
        if !self.names.is_empty() {
            add(SUBJECT_ALT_NAME, self.subject.is_empty(), names(&self.names));
        }
        der::sequence(&all)
    }
}

/// GeneralNames (RFC 5280, 4.2.1.6).
fn names(names: &Names) -> Vec<u8> {
    let text =
        |tag: u8, of: &[String]| of.iter().map(|n| der::tlv(der::context(tag), n.as_bytes())).collect::<Vec<_>>();
    let ip = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => der::tlv(der::context(7), &ip.octets()),
        IpAddr::V6(ip) => der::tlv(der::context(7), &ip.octets()),
    };
    let ips = names.ips.iter().map(ip).collect();
    der::sequence(&[text(2, &names.dns), text(1, &names.emails), ips, text(6, &names.uris)].concat())
}

fn time(t: Time) -> Vec<u8> {
    let text = t.rfc3339();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if &*digits < FOUR_DIGITS {
        der::tlv(der::UTC_TIME, format!("{}Z", &digits[2..]).as_bytes())
    } else {
        der::tlv(der::GENERALIZED_TIME, format!("{digits}Z").as_bytes())
    }
}
