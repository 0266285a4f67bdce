use std::convert::Infallible;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::samples::{CA, ED25519, MANY, NODE, P521};
use super::*;
use crate::Time;

/// The text with the last byte of what is in it changed: the signature's.
fn tampered(text: &str) -> String {
    let mut block = pem::blocks(text.as_bytes()).remove(0);
    *block.contents.last_mut().unwrap() ^= 1;
    pem::encode(&block.label, &block.contents)
}

#[test]
fn requests_are_read_with_one_answer_to_who_it_is() {
    let request = Request::parse(MANY.as_bytes()).unwrap();
    assert_eq!(request.subject.common_name(), "j\u{fc}rgen");
    assert_eq!(request.subject.organizations().collect::<Vec<_>>(), ["a", "b"]);
    let names = Names {
        dns: vec!["a.example".into()],
        ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        emails: vec!["m@a.example".into()],
        uris: vec!["spiffe://a/b".into()],
    };
    assert_eq!(request.names, names);
    let node = Request::parse(format!("a word before\n{NODE}").as_bytes()).unwrap();
    assert_eq!(node.subject, Subject::new("system:node:n", &["system:nodes"]));
    assert!(node.names.is_empty());
    assert_eq!(Request::parse(ED25519.as_bytes()).unwrap().subject.common_name(), "ed");
}

#[test]
fn what_is_no_request_is_refused_in_gos_words() {
    for (text, want) in [
        ("", "PEM block type must be CERTIFICATE REQUEST"),
        ("MIHq", "PEM block type must be CERTIFICATE REQUEST"),
        (CA, "PEM block type must be CERTIFICATE REQUEST"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nMIHq\n-----END CERTIFICATE REQUEST-----\n", "asn1: structure error: "),
        (&tampered(NODE), "x509: ECDSA verification failure"),
        (&tampered(MANY), "crypto/rsa: verification error"),
        (&tampered(ED25519), "x509: Ed25519 verification failure"),
        (P521, "x509: cannot verify signature: algorithm unimplemented"),
    ] {
        let why = Request::parse(text.as_bytes()).unwrap_err();
        assert!(why.starts_with(want), "{text}: {why}");
    }
    let mut block = pem::blocks(NODE.as_bytes()).remove(0);
    block.contents.push(0);
    let longer = pem::encode(pem::CERTIFICATE_REQUEST, &block.contents);
    assert_eq!(Request::parse(longer.as_bytes()), Err("asn1: syntax error: trailing data".into()));
}

#[test]
fn a_certificate_says_what_its_template_does_and_no_more() {
    let authority = Authority::parse(CA).unwrap();
    assert_eq!(authority.not_after.rfc3339(), "2126-11-03T17:59:55Z");
    let usages = ["server auth", "key encipherment", "client auth", "signing", "s/mime", "email protection"];
    let (from, to) = (Time::parse("2049-12-31T23:55:00Z").unwrap(), Time::parse("2050-01-01T00:00:00Z").unwrap());
    let request = Request::parse(MANY.as_bytes()).unwrap();
    let template = Template::of(request.clone(), usages.map(String::from).to_vec(), (from, to));
    let mut signed = Vec::new();
    let sign = |bytes: &[u8]| -> Result<Vec<u8>, Infallible> {
        signed = bytes.to_vec();
        Ok(vec![7; 300])
    };
    let Ok(text) = template.issue(&authority, SignatureAlgorithm::EcdsaSha256, [0x80; 16], sign);
    assert_eq!(not_after(text.as_bytes()), Some(to));
    let block = pem::blocks(text.as_bytes()).remove(0);
    let (rest, cert) = X509Certificate::from_der(&block.contents).unwrap();
    assert!(rest.is_empty() && block.label == pem::CERTIFICATE);
    assert_eq!((cert.tbs_certificate.as_ref(), &*cert.signature_value.data), (&*signed, &[7; 300][..]));
    assert_eq!(cert.raw_serial(), [&[0], &[0x80; 16][..]].concat());
    let (subject, issuer) = (cert.subject().to_string(), cert.issuer().to_string());
    assert_eq!((&*subject, &*issuer), ("C=DE, O=a, O=b, CN=j\u{fc}rgen", "CN=ca"));
    assert_eq!(cert.public_key().raw, request.key);
    let at = |t: x509_parser::time::ASN1Time| Time::from_secs(t.timestamp() as u64);
    assert_eq!((at(cert.validity().not_before), at(cert.validity().not_after)), (from, to));
    assert!(!cert.is_ca() && cert.basic_constraints().unwrap().unwrap().critical);
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
    assert!(!usage.value.key_cert_sign());
    let extended = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && extended.email_protection && !extended.any);
    let names = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.len(), 5);
    assert!(
        names.contains(&GeneralName::DNSName("a.example")) && names.contains(&GeneralName::IPAddress(&[10, 0, 0, 1]))
    );
    let (_, ca) = X509Certificate::from_der(&pem::blocks(CA.as_bytes())[0].contents)
        .map(|(r, c)| (r.len(), c.subject().as_raw().to_vec()))
        .unwrap();
    assert_eq!(cert.issuer().as_raw(), ca);
    assert_eq!(cert.extensions().len(), 5);
}

#[test]
fn all_usages_are_sorted_and_mean_something() {
    assert!(usage::names().is_sorted());
    for name in usage::names() {
        let (bits, extended) = usage::encode(&[name.to_string()]);
        assert!((bits == 0) == (extended.len() == 1), "{name}");
    }
    assert_eq!(usage::encode(&["decipher only".into(), "digital signature".into()]).0, 0x8080);
    assert_eq!(usage::encode(&["nonsense".into()]), (0, vec![]));
}

#[test]
fn der_is_minimal() {
    assert_eq!(der::unsigned(&[0, 0, 1]), [2, 1, 1]);
    assert_eq!(der::unsigned(&[]), [2, 1, 0]);
    assert_eq!(der::tlv(der::OCTET_STRING, &[1; 128])[..3], [4, 0x81, 128]);
    assert_eq!(der::tlv(der::OCTET_STRING, &[1; 300])[..4], [4, 0x82, 1, 44]);
    assert_eq!(der::oid(&[1, 2, 840, 113_549]), [6, 6, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]);
    assert_eq!(der::oid(&[2, 5, 29, 37, 0]), [6, 4, 0x55, 0x1d, 0x25, 0]);
    assert_eq!(der::named_bits(0xa000), [3, 2, 5, 0xa0]);
    assert_eq!(der::named_bits(0x8080), [3, 3, 7, 0x80, 0x80]);
    assert_eq!((der::text("a b")[0], der::text("a*b")[0]), (0x13, 0x0c));
}

#[test]
fn pem_is_read_as_leniently_as_go_does() {
    let text = "x\n-----BEGIN A-----\nProc-Type: 4\n\nAQ\n I=\r\n-----END A-----\n-----BEGIN B-----\n!\n-----END B-----\n\
        -----BEGIN C-----\nAQI=\n-----BEGIN D-----\n-----END D-----\n-----BEGIN E-----\nAQI=\n-----END F-----\n";
    let block = |label: &str, headers, contents: &[u8]| pem::Block {
        label: label.into(),
        headers,
        contents: contents.to_vec(),
    };
    assert_eq!(pem::blocks(text.as_bytes()), [block("A", true, &[1, 2]), block("D", false, &[])]);
    let long = pem::encode("A", &[9; 49]);
    assert!(long.lines().all(|l| l.len() <= 64) && long.ends_with("-----END A-----\n"));
    assert_eq!(pem::blocks(long.as_bytes()), [block("A", false, &[9; 49])]);
}
