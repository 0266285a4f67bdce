//! A range of IP addresses, and which of them Services get.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use copepod_machine::Ids;
use copepod_model::networks;

/// An IP range in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    prefix: u8,
}

/// Text that is no CIDR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of IP addresses such as 10.96.0.0/16")]
pub struct ParseError(String);

impl std::str::FromStr for Cidr {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Cidr, ParseError> {
        let parse = || {
            let (base, prefix) = text.split_once('/')?;
            let (base, prefix): (IpAddr, u8) = (base.parse().ok()?, prefix.parse().ok()?);
            (prefix <= width(base)).then_some(Cidr { base, prefix })
        };
        let cidr = parse().ok_or_else(|| ParseError(text.into()))?;
        Ok(Cidr { base: cidr.at(0), ..cidr })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Cidr {
    /// The networks that Services have their addresses from, that of the first family first.
    pub const DEFAULT: [Cidr; 2] = [
        Cidr { base: IpAddr::V4(networks::SERVICES.0), prefix: networks::SERVICES.1 },
        Cidr { base: IpAddr::V6(networks::SERVICES_V6.0), prefix: networks::SERVICES_V6.1 },
    ];

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.base.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// Whether a Service may have this address: in the range, and neither the network's own nor, of IPv4, the broadcast
    /// address.
    pub fn usable(&self, ip: IpAddr) -> bool {
        if ip.is_ipv4() != self.base.is_ipv4() {
            return false;
        }
        let offset = bits(ip).wrapping_sub(bits(self.base));
        offset >= 1 && offset <= self.last()
    }

    /// The n-th address of the range; the host bits of the base do not count.
    pub fn at(&self, n: u128) -> IpAddr {
        let network = bits(self.base) & !self.host_mask();
        let all = network | (n & self.host_mask());
        match self.base {
            IpAddr::V4(_) => Ipv4Addr::from(all as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(all).into(),
        }
    }

    fn host_mask(&self) -> u128 {
        let host = u32::from(width(self.base) - self.prefix);
        if host >= 128 { u128::MAX } else { (1 << host) - 1 }
    }

    /// The offset of the last usable address.
    fn last(&self) -> u128 {
        if self.base.is_ipv4() { self.host_mask().saturating_sub(1) } else { self.host_mask() }
    }

    /// A usable address that `taken` says is free. As upstream, the lower end of the range (a sixteenth of it, from 16 to
    /// 256 addresses) is left to those who choose their address, as long as there are others.
    pub fn pick(&self, ids: &mut dyn Ids, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let last = self.last();
        let band = ((last + 1) / 16).clamp(16, 256);
        let band = if last <= band { 0 } else { band };
        let mut random = [0u8; 8];
        ids.fill(&mut random);
        let dynamic = last - band;
        let from_random = u128::from(u64::from_le_bytes(random)) % dynamic.max(1);
        let upper = (0..dynamic).map(|i| band + 1 + (from_random + i) % dynamic);
        upper.chain(1..=band).map(|n| self.at(n)).find(|ip| !taken(*ip))
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use copepod_machine::SeededIds;
    use std::collections::BTreeSet;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn knows_its_usable_addresses() {
        let c: Cidr = "10.96.3.0/24".parse().unwrap();
        for (text, want) in [
            ("10.96.3.0", false),
            ("10.96.3.1", true),
            ("10.96.3.254", true),
            ("10.96.3.255", false),
            ("10.96.4.1", false),
            ("::1", false),
        ] {
            assert_eq!(c.usable(ip(text)), want, "{text}");
        }
        let six: Cidr = "fd00::/112".parse().unwrap();
        assert!(six.usable(ip("fd00::ffff")) && !six.usable(ip("fd00::")) && !six.usable(ip("fd00::1:0")));
        assert_eq!("10.1.2.3/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", ""] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn picks_every_address_once_and_the_static_band_last() {
        let c: Cidr = "10.0.0.0/26".parse().unwrap();
        let mut ids = SeededIds(3);
        let mut taken = BTreeSet::new();
        while let Some(ip) = c.pick(&mut ids, |ip| taken.contains(&ip)) {
            assert!(c.usable(ip));
            let low = c.at(16);
            assert!(ip > low || taken.len() >= 62 - 16, "{ip} from the static band");
            assert!(taken.insert(ip));
        }
        assert_eq!(taken.len(), 62);
    }

    #[test]
    fn a_network_of_ipv6_is_picked_from_as_well() {
        let [_, six] = Cidr::DEFAULT;
        let mut ids = SeededIds(3);
        let (one, two) = (six.pick(&mut ids, |_| false).unwrap(), six.pick(&mut ids, |_| false).unwrap());
        assert!(one != two && six.usable(one) && six.usable(two), "{one} {two}");
        assert_eq!((six.family(), six.to_string().as_str()), ("IPv6", "fd00:10:96::/112"));
        let small: Cidr = "fd00::/126".parse().unwrap();
        let mut taken = BTreeSet::new();
        while let Some(ip) = small.pick(&mut ids, |ip| taken.contains(&ip)) {
            assert!(taken.insert(ip));
        }
        assert_eq!(taken.len(), 3, "all but the network's own");
    }
}
