//! PEM (RFC 7468), as leniently as Go reads it: what is around blocks does not count, and what is no block is passed over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The label of certificates.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of PKCS#10 requests.
pub const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
/// Characters of a line.
const LINE: usize = 64;

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it is said to be.
    pub label: String,
    /// Whether it has headers (RFC 1421).
    pub headers: bool,
    /// What it holds.
    pub contents: Vec<u8>,
}

/// The blocks of a text, in order.
pub fn blocks(text: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(text);
    let (mut out, mut open) = (Vec::new(), None::<(Block, String)>);
    for line in text.lines().map(str::trim_end) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) {
            open = Some((Block { label: label.into(), headers: false, contents: Vec::new() }, String::new()));
            continue;
        }
        let Some((block, body)) = &mut open else { continue };
        if let Some(label) = line.strip_prefix("-----END ").and_then(|l| l.strip_suffix("-----")) {
            let decoded = STANDARD.decode(&*body).ok().filter(|_| label == block.label);
            out.extend(decoded.map(|contents| Block { contents, ..block.clone() }));
            open = None;
        } else if body.is_empty() && line.contains(':') {
            block.headers = true;
        } else {
            body.extend(line.chars().filter(|c| !c.is_whitespace()));
        }
    }
    out
}

/// A block of this label.
pub fn encode(label: &str, contents: &[u8]) -> String {
    let body = STANDARD.encode(contents);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}
