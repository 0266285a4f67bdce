//! The addresses that an operator has set aside for Services of type LoadBalancer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The pod network and that of the Services: what leads there is decided already.
const CLUSTER: [Range; 2] = [
    Range { first: IpAddr::V4(Ipv4Addr::new(10, 244, 0, 0)), last: IpAddr::V4(Ipv4Addr::new(10, 244, 255, 255)) },
    Range { first: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), last: IpAddr::V4(Ipv4Addr::new(10, 96, 255, 255)) },
];

/// Addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: IpAddr,
    last: IpAddr,
}

/// Networks and ranges: `192.0.2.0/24,10.0.0.10-10.0.0.20`. Of a network of IPv4 the first and the last address are left out,
/// and of one of IPv6 the first, since hosts and routers take them for something else; a range is what it says. The empty
/// text is no pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerPool(Vec<Range>);

impl BalancerPool {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|r| r.contains(ip))
    }

    /// Those of one family, each range in its order.
    pub(super) fn addresses(&self, ipv4: bool) -> impl Iterator<Item = IpAddr> + '_ {
        self.0.iter().filter(move |r| r.first.is_ipv4() == ipv4).flat_map(Range::addresses)
    }
}

impl Range {
    fn contains(&self, ip: IpAddr) -> bool {
        self.first.is_ipv4() == ip.is_ipv4() && (self.first..=self.last).contains(&ip)
    }

    fn overlaps(&self, other: &Range) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.first.is_ipv4();
        let ip = move |bits: u128| match u32::try_from(bits) {
            Ok(bits) if v4 => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        (bits(self.first)..=bits(self.last)).map(ip)
    }

    fn parse(text: &str) -> Result<Range, String> {
        let none = || format!("{text:?} is neither a network (192.0.2.0/24) nor a range (10.0.0.10-10.0.0.20)");
        let range = match (text.split_once('/'), text.split_once('-')) {
            (Some((first, length)), None) => Range::of_network(parsed(first).ok_or_else(none)?, length),
            (None, Some((first, last))) => {
                let (first, last) = (parsed(first).ok_or_else(none)?, parsed(last).ok_or_else(none)?);
                Some(Range { first, last }).filter(|r| r.first.is_ipv4() == r.last.is_ipv4())
            }
            _ => None,
        };
        let range = range.ok_or_else(none)?;
        if range.first > range.last {
            return Err(format!("{text:?}: the last address comes before the first"));
        }
        let nobodys = |ip: IpAddr| ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        if [range.first, range.last].into_iter().any(nobodys) {
            return Err(format!("{text:?}: no Service can have all of these addresses"));
        }
        if CLUSTER.iter().any(|c| c.overlaps(&range)) {
            return Err(format!("{text:?} overlaps the networks of pods and Services"));
        }
        Ok(range)
    }

    fn of_network(ip: IpAddr, length: &str) -> Option<Range> {
        let length: u32 = length.trim().parse().ok()?;
        let all: u32 = if ip.is_ipv4() { 32 } else { 128 };
        let free = all.checked_sub(length).filter(|free| *free < 128)?;
        let host = (1u128 << free) - 1;
        let (mut first, mut last) = (bits(ip) & !host, bits(ip) | host);
        if free > 1 {
            first += 1;
            last -= u128::from(ip.is_ipv4());
        }
        let of = |bits: u128| match ip {
            IpAddr::V4(_) => u32::try_from(bits).ok().map(|b| IpAddr::V4(Ipv4Addr::from_bits(b))),
            IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::from_bits(bits))),
        };
        Some(Range { first: of(first)?, last: of(last)? })
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn parsed(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok()
}

impl FromStr for BalancerPool {
    type Err = String;

    fn from_str(text: &str) -> Result<BalancerPool, String> {
        let mut out: Vec<Range> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let range = Range::parse(part)?;
            if out.iter().any(|r| r.overlaps(&range)) {
                return Err(format!("{part:?} is in the pool already"));
            }
            out.push(range);
        }
        Ok(BalancerPool(out))
    }
}

impl fmt::Display for BalancerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|r| format!("{}-{}", r.first, r.last)).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_ranges() {
        let pool = |text: &str| text.parse::<BalancerPool>().map(|p| p.to_string());
        for (text, want) in [
            ("", ""),
            (" 192.0.2.0/24 , 10.0.0.10-10.0.0.20,", "192.0.2.1-192.0.2.254,10.0.0.10-10.0.0.20"),
            ("192.0.2.77/30", "192.0.2.77-192.0.2.78"),
            ("192.0.2.7/31", "192.0.2.6-192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7-192.0.2.7"),
            ("2001:db8::/126", "2001:db8::1-2001:db8::3"),
            ("127.0.1.1-127.0.1.9", "127.0.1.1-127.0.1.9"),
        ] {
            assert_eq!(pool(text).as_deref(), Ok(want), "{text}");
        }
        for (text, why) in [
            ("192.0.2.1", "neither a network"),
            ("192.0.2.0/33", "neither"),
            ("::/0", "neither"),
            ("x/24", "neither"),
            ("192.0.2.1-2001:db8::1", "neither"),
            ("192.0.2.9-192.0.2.1", "comes before"),
            ("0.0.0.0-0.0.0.9", "no Service"),
            ("224.0.0.0/24", "no Service"),
            ("10.0.0.0/8", "overlaps the networks"),
            ("10.96.3.0/24", "overlaps the networks"),
            ("192.0.2.0/24,192.0.2.9-192.0.2.10", "already"),
        ] {
            let message = pool(text).unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
    }

    #[test]
    fn what_is_in_it() {
        let pool: BalancerPool = "192.0.2.8/30,2001:db8::1-2001:db8::2".parse().unwrap();
        let all = |v4| pool.addresses(v4).map(|ip| ip.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!((all(true), all(false)), ("192.0.2.9 192.0.2.10".into(), "2001:db8::1 2001:db8::2".into()));
        for (ip, inside) in [("192.0.2.8", false), ("192.0.2.9", true), ("192.0.2.11", false), ("2001:db8::2", true)] {
            assert_eq!(pool.contains(ip.parse().unwrap()), inside, "{ip}");
        }
    }
}
