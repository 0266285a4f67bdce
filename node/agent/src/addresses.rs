//! Addresses for pods, from /24 blocks that the node leases one at a time.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use copepod_model::networks;

/// A network of the pod range: address and prefix length.
pub type Cidr = (Ipv4Addr, u8);

/// Bits of a block.
const BLOCK_BITS: u8 = 24;

/// The node's part of the pod range. Pure: whoever owns it writes leases down.
#[derive(Clone, Debug)]
pub struct AddressPool {
    range: Cidr,
    /// First addresses of the blocks that this node has leased.
    blocks: Vec<Ipv4Addr>,
    /// Of those that others have.
    foreign: BTreeSet<Ipv4Addr>,
    taken: BTreeSet<Ipv4Addr>,
    /// Where the last search ended: an address that was freed rests as long as there are others.
    last: Option<Ipv4Addr>,
}

impl AddressPool {
    /// A pool over `range` with the blocks that the node already has.
    pub fn new(range: Cidr, blocks: impl IntoIterator<Item = Ipv4Addr>) -> AddressPool {
        let blocks = blocks.into_iter().map(block_of).filter(|b| contains(range, *b)).collect();
        AddressPool { range, blocks, foreign: BTreeSet::new(), taken: BTreeSet::new(), last: None }
    }

    /// A block that another node has.
    pub fn exclude(&mut self, block: Ipv4Addr) {
        self.foreign.insert(block_of(block));
    }

    /// The leased blocks as CIDR texts, in the order of their lease.
    pub fn cidrs(&self) -> Vec<String> {
        self.blocks.iter().map(|b| format!("{b}/{BLOCK_BITS}")).collect()
    }

    /// The first block, and what stands beside it for IPv6: what `spec.podCIDRs` has room for.
    pub fn pod_cidrs(&self) -> Option<[String; 2]> {
        let block = self.blocks.first()?;
        let (v6, bits) = networks::part_beside(*block, BLOCK_BITS);
        Some([format!("{block}/{BLOCK_BITS}"), format!("{v6}/{bits}")])
    }

    /// Takes the address that a pod already has; `false` if it is not ours to give or another pod has it.
    pub fn reserve(&mut self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        self.blocks.contains(&block_of(ip)) && usable(ip) && self.taken.insert(ip)
    }

    /// Gives an address back.
    pub fn free(&mut self, ip: IpAddr) {
        if let IpAddr::V4(ip) = ip {
            self.taken.remove(&ip);
        }
    }

    /// A free address of the leased blocks; `None` asks for [`AddressPool::lease`].
    pub fn take(&mut self) -> Option<IpAddr> {
        let all =
            || self.blocks.iter().flat_map(|b| (0..=255u8).map(move |n| with_last(*b, n))).filter(|ip| usable(*ip));
        let is_free = |ip: &Ipv4Addr| !self.taken.contains(ip);
        let position = self.last.and_then(|last| all().position(|ip| ip == last)).map_or(0, |i| i + 1);
        let found = all().skip(position).find(is_free).or_else(|| all().find(is_free))?;
        self.taken.insert(found);
        self.last = Some(found);
        Some(found.into())
    }

    /// Leases the next block that nobody has; `None` if the range is used up.
    pub fn lease(&mut self) -> Option<Ipv4Addr> {
        let (network, bits) = self.range;
        let count = 1u32.checked_shl(u32::from(BLOCK_BITS.saturating_sub(bits))).unwrap_or(0);
        let start = network.to_bits();
        let blocks = (0..count).map(|i| Ipv4Addr::from_bits(start + (i << (32 - BLOCK_BITS))));
        let free = { blocks }.find(|b| !self.blocks.contains(b) && !self.foreign.contains(b))?;
        self.blocks.push(free);
        Some(free)
    }
}

fn block_of(ip: Ipv4Addr) -> Ipv4Addr {
    with_last(ip, 0)
}

fn with_last(ip: Ipv4Addr, n: u8) -> Ipv4Addr {
    let [a, b, c, _] = ip.octets();
    Ipv4Addr::new(a, b, c, n)
}

/// The block's first address names it, the second is the node's own, the last would be its broadcast.
fn usable(ip: Ipv4Addr) -> bool {
    (2..=254).contains(&ip.octets()[3])
}

fn contains((network, bits): Cidr, ip: Ipv4Addr) -> bool {
    let shift = 32 - u32::from(bits.min(32));
    network.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Cidr = (Ipv4Addr::new(10, 244, 0, 0), 16);

    #[test]
    fn blocks_are_leased_on_demand_and_never_twice() {
        let mut pool = AddressPool::new(RANGE, []);
        assert_eq!(pool.take(), None, "a node begins without a block");
        pool.exclude(Ipv4Addr::new(10, 244, 0, 77));
        assert_eq!(pool.lease(), Some(Ipv4Addr::new(10, 244, 1, 0)));
        let first: BTreeSet<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(first.len(), 253);
        assert_eq!(pool.lease(), Some(Ipv4Addr::new(10, 244, 2, 0)));
        assert_eq!(pool.take(), Some(Ipv4Addr::new(10, 244, 2, 2).into()));
        assert_eq!(pool.cidrs(), ["10.244.1.0/24", "10.244.2.0/24"]);
        assert_eq!(pool.pod_cidrs(), Some(["10.244.1.0/24".into(), "fd00:10:244::af4:100/120".into()]));
        let small = (Ipv4Addr::new(10, 1, 0, 0), 23);
        let mut pool = AddressPool::new(small, []);
        assert_eq!([pool.lease(), pool.lease(), pool.lease()].map(|b| b.is_some()), [true, true, false]);
    }

    #[test]
    fn freed_addresses_rest_and_reserved_ones_stay() {
        let mut pool = AddressPool::new(RANGE, [Ipv4Addr::new(10, 244, 3, 0)]);
        let ip = |n| IpAddr::from([10, 244, 3, n]);
        assert!(pool.reserve(ip(2)));
        assert!(!pool.reserve(ip(2)), "one pod, one address");
        assert!(!pool.reserve([10, 244, 9, 2].into()), "not our block");
        assert_eq!(pool.take(), Some(ip(3)));
        pool.free(ip(3));
        assert_eq!(pool.take(), Some(ip(4)));
        while pool.take().is_some() {}
        pool.free(ip(2));
        assert_eq!(pool.take(), Some(ip(2)));
    }
}
