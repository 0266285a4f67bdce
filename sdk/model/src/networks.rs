//! The networks inside the cluster: which addresses pods and Services have (KEP-563). IPv6 comes beside IPv4, in networks of
//! unique local addresses (RFC 4193), which collide with nobody's since both are virtual. The prefixes are those of kind.
//!
//! Who hands out a pod's IPv4 address hands out its IPv6 address with it: that is the former behind a prefix, as RFC 6052
//! embeds it. So one pool, one lease of a block and one part of a node stand for both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Pods: address and prefix length.
pub const PODS: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 244, 0, 0), 16);
/// Pods' IPv6 addresses: fd00:10:244::/96 and the IPv4 address behind it.
pub const PODS_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0), 96);
/// Services.
pub const SERVICES: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);
/// Services' IPv6 addresses.
pub const SERVICES_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);

/// The IPv6 address of the pod (or the node) whose IPv4 address in the pod network this is.
pub fn beside(ip: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(PODS_V6.0.to_bits() | u128::from(ip.to_bits()))
}

/// The same for a part of the pod network: the IPv6 addresses beside `network`/`bits`.
pub fn part_beside(network: Ipv4Addr, bits: u8) -> (Ipv6Addr, u8) {
    (beside(network), PODS_V6.1 + bits.min(32))
}

/// The name of an address' family, as Kubernetes has it.
pub fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_the_addresses_beside_theirs() {
        let ip = beside([10, 244, 3, 7].into());
        assert_eq!(ip.to_string(), "fd00:10:244::af4:307");
        let (network, bits) = part_beside([10, 244, 3, 0].into(), 24);
        assert_eq!((network.to_string().as_str(), bits), ("fd00:10:244::af4:300", 120));
        let prefix = |ip: Ipv6Addr| ip.to_bits() >> (128 - u32::from(bits));
        assert_eq!(prefix(ip), prefix(network));
        assert_ne!(prefix(beside([10, 244, 4, 7].into())), prefix(network));
    }
}
