//! What is on the wire, by tcpdump.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::until;

/// A running capture.
pub struct Capture {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    file: PathBuf,
}

impl Capture {
    /// Starts a prepared tcpdump that writes to `file`, and waits until it listens.
    pub(super) fn start(mut tcpdump: Command, file: &Path) -> Capture {
        // As root it would become another user, who may not write there.
        tcpdump.args(["-n", "-s", "0", "-B", "16384", "--immediate-mode", "-U", "-Z", "root", "-w"]).arg(file);
        let mut child = tcpdump.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("tcpdump starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(stderr.read_line(&mut line).expect("tcpdump speaks") > 0, "tcpdump did not listen");
        }
        Capture { child, stderr, file: file.into() }
    }

    /// Ends it once a packet was seen that is the last one that matters: all packets of TCP and UDP over IPv4.
    pub fn until(mut self, what: &str, last: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let packets = until(what, || {
            let frames = read(&std::fs::read(&self.file).expect("the capture"));
            let packets: Vec<Packet> = frames.iter().filter_map(|frame| Packet::read(frame)).collect();
            packets.iter().any(&last).then_some(packets)
        });
        let interrupt = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(interrupt.expect("kill runs").success());
        self.child.wait().expect("tcpdump ends");
        let said: Vec<String> = (&mut self.stderr).lines().map_while(Result::ok).collect();
        assert!(said.iter().any(|l| l.starts_with("0 packets dropped")), "tcpdump has not seen all: {said:?}");
        packets
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The frames of a pcap file in this machine's byte order (<https://www.ietf.org/archive/id/draft-gharris-opsawg-pcap-01.html>):
/// a header of 24 bytes; before each packet 16 bytes, the third four of which are its length in the file.
fn read(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = file.get(24..).unwrap_or_default();
    let mut packets = Vec::new();
    while let Some((head, body)) = rest.split_at_checked(16) {
        let length = u32::from_ne_bytes(head[8..12].try_into().expect("four bytes")) as usize;
        // The last one may be on its way.
        let Some((packet, after)) = body.split_at_checked(length) else { break };
        packets.push(packet.to_vec());
        rest = after;
    }
    packets
}

/// What a packet of TCP or UDP over IPv4 carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who has sent it.
    pub from: SocketAddrV4,
    /// To whom.
    pub to: SocketAddrV4,
    /// UDP; else it is TCP.
    pub udp: bool,
    /// What is in it.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Reads a frame of Ethernet; none if it is of something else (RFC 791, 768, 9293).
    fn read(frame: &[u8]) -> Option<Packet> {
        let ip = frame.get(14..).filter(|_| frame.get(12..14) == Some(&[8, 0]))?;
        let header = usize::from(ip.first()? & 15) * 4;
        // Frames may be longer than their packets.
        let whole = ip.get(..usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?])))?;
        let body = whole.get(header..)?;
        let udp = match ip.get(9)? {
            6 => false,
            17 => true,
            _ => return None,
        };
        let address = |at: usize, port: usize| {
            let ip = <[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?;
            Some(SocketAddrV4::new(ip.into(), u16::from_be_bytes([*body.get(port)?, *body.get(port + 1)?])))
        };
        let payload = body.get(if udp { 8 } else { usize::from(body.get(12)? >> 4) * 4 }..)?;
        Some(Packet { from: address(12, 0)?, to: address(16, 2)?, udp, payload: payload.to_vec() })
    }

    /// Whether it goes from one of two machines to the other.
    pub fn between(&self, one: IpAddr, other: IpAddr) -> bool {
        let ends = (IpAddr::from(*self.from.ip()), IpAddr::from(*self.to.ip()));
        ends == (one, other) || ends == (other, one)
    }

    /// Whether one of its ends has this port.
    pub fn is_of(&self, port: u16) -> bool {
        self.from.port() == port || self.to.port() == port
    }

    /// Whether a text is in it as it is.
    pub fn says(&self, wanted: &str) -> bool {
        self.payload.windows(wanted.len()).any(|w| w == wanted.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn frames_are_read() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let ethernet = "0200000000020200000000010800";
        let udp = hex(&format!("{ethernet}4500001e00000000401100000a0000010a000002003500071234000068690000"));
        let read = Packet::read(&udp).unwrap();
        let at = |last: u8, port: u16| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), port);
        // The last two bytes fill the frame.
        assert_eq!(read, Packet { from: at(1, 53), to: at(2, 7), udp: true, payload: b"hi".to_vec() });
        assert!(read.between([10, 0, 0, 2].into(), [10, 0, 0, 1].into()) && read.is_of(7) && read.says("h"));
        let tcp = hex(&format!(
            "{ethernet}4500002a00000000400600000a0000010a0000020035000700000001000000025018ffff000000006869"
        ));
        assert_eq!(Packet::read(&tcp), Some(Packet { udp: false, ..read }));
        for cut in 0..tcp.len() {
            assert_eq!(Packet::read(&tcp[..cut]), None, "{cut} bytes");
        }
    }
}
