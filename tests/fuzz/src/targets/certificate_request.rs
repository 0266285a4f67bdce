//! Requests for certificates (PKCS#10), and the certificates that are made of them. An input is the part that is signed, which
//! has a key that is known here: so what is behind the check of the signature is reached.

use copepod_model::Time;
use copepod_model::certificate::{Authority, Request, SignatureAlgorithm, Template, pem};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "certificate_request",
    run,
    seeds,
    words: &[
        "\u{c}\u{4}name",
        "\u{13}\u{1}a",
        "\u{6}\u{3}U\u{4}\u{3}",
        "0\0",
        "1\0",
        "\u{4}\0",
        "\u{3}\u{1}\0",
        "a.test",
        "\u{1e}\u{2}",
    ],
    room: Room { base: 1 << 20, each: 512 },
};

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed")
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(length as u8),
        0x80..0x100 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// `id-Ed25519`.
const ALGORITHM: [u8; 7] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70];

/// A request whose signed part this is, PEM.
fn signed(info: &[u8]) -> String {
    let signature = [&[0][..], key().sign(info).as_ref()].concat();
    pem::encode(pem::CERTIFICATE_REQUEST, &sequence(&[info, &ALGORITHM, &tlv(3, &signature)]))
}

fn run(input: &[u8]) -> Outcome {
    // As it is, too: PEM, or none.
    let _ = Request::parse(input);
    let request = match Request::parse(signed(input).as_bytes()) {
        Ok(request) => request,
        Err(why) => return Outcome::refused(why),
    };
    let (names, subject) = (request.names.clone(), request.subject.clone());
    let authority = Authority::parse(super::certificate::CA).expect("a CA");
    let times = (Time::from_secs(1_800_000_000), Time::from_secs(4_102_444_800));
    let usages = vec!["client auth".into(), "digital signature".into()];
    let template = Template::of(request, usages, times);
    let issued = template.issue(&authority, SignatureAlgorithm::Ed25519, [9; 16], |body| {
        Ok::<_, ()>(key().sign(body).as_ref().to_vec())
    });
    let issued = issued.unwrap_or_default();
    let block = pem::blocks(issued.as_bytes()).pop().expect("a block");
    let (rest, certificate) = X509Certificate::from_der(&block.contents).unwrap_or_else(|e| panic!("{issued}: {e}"));
    assert!(rest.is_empty(), "bytes after the certificate");
    let common: Vec<&str> = certificate.subject().iter_common_name().filter_map(|n| n.as_str().ok()).collect();
    assert_eq!(common.last().copied().unwrap_or_default(), subject.common_name(), "it names somebody else");
    assert!(!certificate.is_ca(), "it is a CA's");
    let said = certificate.subject_alternative_name().unwrap_or_else(|e| panic!("{issued}: {e}"));
    let said = said.map_or(0, |names| names.value.general_names.len());
    let wanted = names.dns.len() + names.ips.len() + names.emails.len() + names.uris.len();
    assert_eq!(said, wanted, "{names:?}");
    Outcome::taken(issued.len()).and((wanted.min(6), subject.organizations().count().min(4)))
}

fn seeds() -> Vec<Seed> {
    let attribute =
        |last: u8, text: &str| tlv(0x31, &sequence(&[&tlv(6, &[0x55, 4, last]), &tlv(0x0c, text.as_bytes())]));
    let info = |subject: &[u8], attributes: &[u8]| {
        let public = tlv(3, &[&[0][..], key().public_key().as_ref()].concat());
        sequence(&[&tlv(2, &[0]), subject, &sequence(&[&ALGORITHM, &public]), &tlv(0xa0, attributes)])
    };
    let node = sequence(&[&attribute(10, "system:nodes"), &attribute(3, "system:node:n")]);
    let names = sequence(&[
        &tlv(0x82, b"a.test"),
        &tlv(0x87, &[10, 0, 0, 1]),
        &tlv(0x87, &[0xfd; 16]),
        &tlv(0x81, b"m@a.test"),
        &tlv(0x86, b"spiffe://a/b"),
    ]);
    let extension = sequence(&[&tlv(6, &[0x55, 0x1d, 0x11]), &tlv(4, &names)]);
    let request = tlv(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14]);
    let extensions = sequence(&[&request, &tlv(0x31, &sequence(&[&extension]))]);
    vec![
        ("node".into(), info(&node, b"")),
        ("names".into(), info(&node, &extensions)),
        ("empty".into(), info(&sequence(&[]), b"")),
        ("pem".into(), signed(&info(&node, &extensions)).into()),
    ]
}
