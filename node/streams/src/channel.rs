//! Kubernetes' WebSocket subprotocols: the first byte of a message says which stream it belongs to
//! (apiserver `util/wsstream`; KEP-4006 for version 5).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as B64;
use bytes::{BufMut as _, Bytes, BytesMut};

/// Standard input, from the client.
pub const STDIN: u8 = 0;
/// Standard output.
pub const STDOUT: u8 = 1;
/// Standard error.
pub const STDERR: u8 = 2;
/// How it ended.
pub const ERROR: u8 = 3;
/// Sizes of the client's terminal.
pub const RESIZE: u8 = 4;
/// Version 5: the stream named by the next byte is closed.
pub const CLOSE: u8 = 255;

/// A subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// What the client called it; empty if it named none.
    pub name: &'static str,
    /// 1, 4 or 5.
    pub version: u8,
    /// Messages are text: a digit and base64.
    pub base64: bool,
}

const fn protocol(name: &'static str, version: u8, base64: bool) -> Protocol {
    Protocol { name, version, base64 }
}

/// What the kubelet's exec and attach speak.
const REMOTE_COMMAND: [Protocol; 5] = [
    protocol("v5.channel.k8s.io", 5, false),
    protocol("v4.channel.k8s.io", 4, false),
    protocol("v4.base64.channel.k8s.io", 4, true),
    protocol("channel.k8s.io", 1, false),
    protocol("base64.channel.k8s.io", 1, true),
];

/// What port-forward speaks over channels, and the tunnel of SPDY.
pub const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PORT_FORWARD: [Protocol; 3] = [
    protocol(TUNNEL, 0, false),
    protocol("v4.channel.k8s.io", 4, false),
    protocol("v4.base64.channel.k8s.io", 4, true),
];

fn pick(known: &[Protocol], offered: &str, unnamed: Protocol) -> Option<Protocol> {
    let mut offers = offered.split(',').map(str::trim).filter(|o| !o.is_empty()).peekable();
    if offers.peek().is_none() {
        return Some(unnamed);
    }
    // The client's order is its preference (RFC 6455 §1.9).
    offers.find_map(|offer| known.iter().find(|p| p.name == offer).copied())
}

/// The subprotocol of exec or attach for a `Sec-WebSocket-Protocol`; `None` when none of those offered is known.
pub fn remote_command(offered: &str) -> Option<Protocol> {
    pick(&REMOTE_COMMAND, offered, protocol("", 1, false))
}

/// The same of port-forward.
pub fn port_forward(offered: &str) -> Option<Protocol> {
    pick(&PORT_FORWARD, offered, protocol("", 4, false))
}

/// The channel and the bytes of a message, which is not empty. Those in base64 may not be base64: nothing is known of them then.
pub fn split(mut message: Bytes, base64: bool) -> Option<(u8, Bytes)> {
    let first = *message.first()?;
    let rest = message.split_off(1);
    if !base64 {
        return Some((first, rest));
    }
    Some((first.wrapping_sub(b'0'), B64.decode(&rest).ok()?.into()))
}

/// The message of a channel's bytes; text where it is base64.
pub fn join(channel: u8, bytes: &[u8], base64: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len() + 1);
    if base64 {
        out.put_u8(b'0'.wrapping_add(channel));
        out.put_slice(B64.encode(bytes).as_bytes());
    } else {
        out.put_u8(channel);
        out.put_slice(bytes);
    }
    out.freeze()
}

/// A terminal's size in `{"Width":80,"Height":24}`.
pub fn resize(json: &[u8]) -> Option<(u16, u16)> {
    let v: serde_json::Value = serde_json::from_slice(json).ok()?;
    let side = |name: &str| v[name].as_u64().and_then(|n| u16::try_from(n).ok());
    Some((side("Width")?, side("Height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_first_known_protocol_is_spoken() {
        assert_eq!(remote_command("v5.channel.k8s.io").map(|p| p.version), Some(5));
        assert_eq!(remote_command("v9.channel.k8s.io, v4.channel.k8s.io").map(|p| p.version), Some(4));
        assert_eq!(remote_command("").map(|p| (p.name, p.version)), Some(("", 1)));
        assert_eq!(remote_command("chat"), None);
        assert_eq!(port_forward("SPDY/3.1+portforward.k8s.io").map(|p| p.name), Some(TUNNEL));
        assert!(port_forward("v4.base64.channel.k8s.io").is_some_and(|p| p.base64));
    }

    #[test]
    fn messages_carry_a_channel() {
        for base64 in [false, true] {
            let message = join(STDOUT, b"out", base64);
            assert_eq!(split(message, base64), Some((STDOUT, Bytes::from("out"))), "{base64}");
            assert_eq!(split(Bytes::new(), base64), None);
        }
        assert_eq!(join(STDOUT, b"out", true), "1b3V0");
        assert_eq!(split(Bytes::from("1b3V"), true), None);
    }

    #[test]
    fn sizes_are_read_or_ignored() {
        assert_eq!(resize(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(resize(br#"{"Width":99999999,"Height":24}"#), None);
        assert_eq!(resize(b"nonsense"), None);
    }
}
