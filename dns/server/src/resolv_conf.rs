//! The host's name servers.

use std::net::{IpAddr, SocketAddr};

/// The name servers of a resolv.conf, at most the three that the C library asks too.
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let server = words.next().filter(|w| *w == "nameserver").and(words.next())?;
        // A scope (fe80::1%eth0) needs the interface's index, which the address alone does not tell.
        Some(SocketAddr::new(server.parse::<IpAddr>().ok()?, 53))
    };
    text.lines().filter_map(address).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_name_servers_count() {
        let text = "# comment\nsearch a.b\n nameserver 192.0.2.1 \nnameserver 2001:db8::1\nnameserver bad\n\
                    options ndots:5\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameservers 192.0.2.9";
        let found: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
    }
}
