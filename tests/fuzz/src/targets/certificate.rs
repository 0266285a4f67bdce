//! Certificates and PEM texts.

use copepod_model::certificate::{Authority, not_after, pem};

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "certificate",
    run,
    seeds,
    words: &[
        "-----BEGIN CERTIFICATE-----\n",
        "-----END CERTIFICATE-----\n",
        "-----BEGIN ",
        "-----",
        "\n",
        "Proc-Type: 4\n",
        "AAAA",
        "=",
        "\u{18}\u{f}99991231235959Z",
        "\u{17}\r",
    ],
    room: Room { base: 256 << 10, each: 512 },
};

/// `CN=ca`, for a hundred years; made by openssl.
pub(super) const CA: &str = "\
-----BEGIN CERTIFICATE-----
MIIBcDCCARegAwIBAgIUZDS8XMAD94i40zTAtH9T2oDrXbUwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI3MTc1OTU1WhgPMjEyNjExMDMxNzU5NTVa
MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEInZe75aH
FMxnohCGXrClaWwuTdMphun/CHZj8HtvvgRQPbYDoNyaVRzpHCQJFJLcsyK0bfMF
1a9opwfDN3O1KKNTMFEwHQYDVR0OBBYEFOKn7sSpGzTnXBkJBzP2IIp7T8wiMB8G
A1UdIwQYMBaAFOKn7sSpGzTnXBkJBzP2IIp7T8wiMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDRwAwRAIgKLDrnZdboHuP/EsYUwsvP+URnjul2wWI37oAkTHr
NRMCIFcUk2cR7qpkaSdAJLgduEqZXDFLxPKqKnAycxSmdfSf
-----END CERTIFICATE-----
";

fn run(input: &[u8]) -> Outcome {
    // A text of blocks, or else what is in one.
    let text = if input.starts_with(b"0") { pem::encode(pem::CERTIFICATE, input).into_bytes() } else { input.to_vec() };
    let blocks = pem::blocks(&text);
    let size: usize = blocks.iter().map(|b| b.contents.len()).sum();
    assert!(size <= text.len());
    for block in &blocks {
        let again = pem::blocks(pem::encode(&block.label, &block.contents).as_bytes());
        // Labels are what is between two dashes; the spaces at their end are the line's.
        let same = again.first().is_some_and(|b| b.contents == block.contents && b.label == block.label);
        assert!(same, "{block:?} {again:?}");
    }
    let end = not_after(&text);
    let authority = Authority::parse(&String::from_utf8_lossy(&text));
    if let (Some(end), Some(authority), 1) = (end, &authority, blocks.len()) {
        assert_eq!(authority.not_after, end);
    }
    match (&authority, end) {
        (None, None) => Outcome::refused("no certificate").and(blocks.len().min(4)),
        _ => {
            Outcome::taken(size).and((blocks.len().min(4), authority.is_some(), end.map(|e| e.secs() / 1_000_000_000)))
        }
    }
}

fn seeds() -> Vec<Seed> {
    let contents = pem::blocks(CA.as_bytes()).pop().map(|b| b.contents).unwrap_or_default();
    vec![
        ("pem".into(), CA.into()),
        ("der".into(), contents),
        ("two".into(), format!("text\n{CA}\n{}", pem::encode("X Y", b"more")).into()),
    ]
}
