//! Requests for certificates: PKCS#10 (RFC 2986).

use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::{Names, Subject, pem};

/// What somebody wants a certificate for. Its signature is its own key's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whom it is to name.
    pub subject: Subject,
    /// The further names.
    pub names: Names,
    /// SubjectPublicKeyInfo, DER.
    pub key: Vec<u8>,
}

impl Request {
    /// Reads the first PEM block of a text; errors are upstream's where Go's have a text of their own.
    pub fn parse(text: &[u8]) -> Result<Request, String> {
        let block = pem::blocks(text).into_iter().next().filter(|b| b.label == pem::CERTIFICATE_REQUEST);
        let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
        let (rest, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|e| format!("asn1: structure error: {}", e.to_string().to_lowercase()))?;
        if !rest.is_empty() {
            return Err("asn1: syntax error: trailing data".into());
        }
        let info = &request.certification_request_info;
        request.verify_signature().map_err(|e| match (e, info.subject_pki.parsed()) {
            (X509Error::SignatureUnsupportedAlgorithm, _) => "x509: cannot verify signature: algorithm unimplemented",
            (_, Ok(PublicKey::RSA(_))) => "crypto/rsa: verification error",
            (_, Ok(PublicKey::EC(_))) => "x509: ECDSA verification failure",
            _ => "x509: Ed25519 verification failure",
        })?;
        let mut names = Names::default();
        for extension in request.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(all) => {
                    all.general_names.iter().try_for_each(|name| add(&mut names, name))?;
                }
                // What cannot be read must not pass for what is not there.
                ParsedExtension::ParseError { .. } => return Err("x509: invalid extension".into()),
                _ => {}
            }
        }
        Ok(Request { subject: Subject::read(&info.subject)?, names, key: info.subject_pki.raw.to_vec() })
    }
}

/// Adds a name of the sorts that count; Go passes over the others.
fn add(names: &mut Names, name: &GeneralName<'_>) -> Result<(), String> {
    let ascii = |text: &str, sort: &str| {
        text.is_ascii().then(|| text.to_string()).ok_or_else(|| format!("x509: SAN {sort} is malformed"))
    };
    match name {
        GeneralName::DNSName(name) => names.dns.push(ascii(name, "dNSName")?),
        GeneralName::RFC822Name(name) => names.emails.push(ascii(name, "rfc822Name")?),
        GeneralName::URI(name) => names.uris.push(ascii(name, "uniformResourceIdentifier")?),
        GeneralName::IPAddress(bytes) => names.ips.push(
            <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .map_err(|_| format!("x509: cannot parse IP address of length {}", bytes.len()))?,
        ),
        GeneralName::Invalid(..) => return Err("x509: invalid subject alternative names".into()),
        _ => {}
    }
    Ok(())
}
