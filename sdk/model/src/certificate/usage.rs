//! What keys may be used for: `certificates/v1.KeyUsage`.

/// What a usage is in a certificate.
enum Meaning {
    /// A named bit of the key usage, counted from the most significant one.
    Bit(u32),
    /// An extended usage, and its place in Go's order.
    Extended(u8, &'static [u64]),
}
use Meaning::{Bit, Extended};

/// All usages, sorted.
const ALL: [(&str, Meaning); 23] = [
    ("any", Extended(0, &[2, 5, 29, 37, 0])),
    ("cert sign", Bit(5)),
    ("client auth", Extended(2, &[1, 3, 6, 1, 5, 5, 7, 3, 2])),
    ("code signing", Extended(3, &[1, 3, 6, 1, 5, 5, 7, 3, 3])),
    ("content commitment", Bit(1)),
    ("crl sign", Bit(6)),
    ("data encipherment", Bit(3)),
    ("decipher only", Bit(8)),
    ("digital signature", Bit(0)),
    ("email protection", Extended(4, &[1, 3, 6, 1, 5, 5, 7, 3, 4])),
    ("encipher only", Bit(7)),
    ("ipsec end system", Extended(5, &[1, 3, 6, 1, 5, 5, 7, 3, 5])),
    ("ipsec tunnel", Extended(6, &[1, 3, 6, 1, 5, 5, 7, 3, 6])),
    ("ipsec user", Extended(7, &[1, 3, 6, 1, 5, 5, 7, 3, 7])),
    ("key agreement", Bit(4)),
    ("key encipherment", Bit(2)),
    ("microsoft sgc", Extended(10, &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3])),
    ("netscape sgc", Extended(11, &[2, 16, 840, 1, 113_730, 4, 1])),
    ("ocsp signing", Extended(9, &[1, 3, 6, 1, 5, 5, 7, 3, 9])),
    ("s/mime", Extended(4, &[1, 3, 6, 1, 5, 5, 7, 3, 4])),
    ("server auth", Extended(1, &[1, 3, 6, 1, 5, 5, 7, 3, 1])),
    ("signing", Bit(0)),
    ("timestamping", Extended(8, &[1, 3, 6, 1, 5, 5, 7, 3, 8])),
];

/// The client's side of TLS.
pub const CLIENT_AUTH: &str = "client auth";
/// The server's side of TLS.
pub const SERVER_AUTH: &str = "server auth";
/// Signatures.
pub const DIGITAL_SIGNATURE: &str = "digital signature";
/// Key transport.
pub const KEY_ENCIPHERMENT: &str = "key encipherment";

/// The names of all usages, sorted.
pub fn names() -> [&'static str; 23] {
    ALL.map(|(name, _)| name)
}

/// The bits of the key usage and the extended usages, each once. Unknown names are nothing: validation refuses them.
pub(super) fn encode(usages: &[String]) -> (u16, Vec<&'static [u64]>) {
    let (mut bits, mut extended) = (0, Vec::new());
    for (_, meaning) in ALL.iter().filter(|(name, _)| usages.iter().any(|u| u == name)) {
        match meaning {
            Bit(n) => bits |= 0x8000 >> n,
            Extended(place, oid) => extended.push((*place, *oid)),
        }
    }
    extended.sort_unstable();
    extended.dedup();
    (bits, extended.into_iter().map(|(_, oid)| oid).collect())
}
