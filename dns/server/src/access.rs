//! Who may ask what.

use std::net::{IpAddr, Ipv6Addr};

/// Who may ask for names outside the cluster. The cluster's own names are answered to everyone who can ask.
#[derive(Clone, Debug, Default)]
pub struct Access {
    networks: Vec<(IpAddr, u8)>,
}

impl Access {
    /// Allows the clients of these networks (address, prefix length), and the host itself by its loopback addresses.
    pub fn new(networks: impl IntoIterator<Item = (IpAddr, u8)>) -> Access {
        Access { networks: networks.into_iter().collect() }
    }

    /// Whether questions of `client` are forwarded.
    pub fn forwards(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        client.is_loopback() || self.networks.iter().any(|(network, bits)| contains(*network, *bits, client))
    }
}

/// A client as it is counted: an IPv6 network of a usual size is one, because everybody has a whole one.
pub(crate) fn counted(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

fn contains(network: IpAddr, bits: u8, ip: IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(n), IpAddr::V4(i)) => {
            let shift = 32u32.saturating_sub(bits.into());
            n.to_bits().checked_shr(shift) == i.to_bits().checked_shr(shift)
        }
        (IpAddr::V6(n), IpAddr::V6(i)) => {
            let shift = 128u32.saturating_sub(bits.into());
            n.to_bits().checked_shr(shift) == i.to_bits().checked_shr(shift)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_and_the_named_networks() {
        let access = Access::new([("10.244.0.0".parse().unwrap(), 16), ("fd00::".parse().unwrap(), 8)]);
        for (client, allowed) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.244.7.9", true),
            ("::ffff:10.244.7.9", true),
            ("fd12::1", true),
            ("10.245.0.1", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(access.forwards(client.parse().unwrap()), allowed, "{client}");
        }
        assert!(Access::new([("0.0.0.0".parse().unwrap(), 0)]).forwards("192.0.2.1".parse().unwrap()));
        assert!(!Access::default().forwards("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        assert_eq!(counted("2001:db8:1:2:3::4".parse().unwrap()), "2001:db8:1:2::".parse::<IpAddr>().unwrap());
        assert_eq!(counted("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
