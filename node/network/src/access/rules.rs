//! What the host's kernel is told, as text for `ip` and `nft`, and how it is told to forget it. All of it bears a name or a
//! number of ours, so that what a killed process has left is known by it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::pod::Interface;

/// An address and a prefix length.
pub type Range = (IpAddr, u8);

/// The tables of nftables, one of each family.
const TABLE: &str = "copepod";
/// Who has made a route or a rule (rtnetlink(7), `rtm_protocol`): nobody else's number in iproute2's list.
pub(super) const PROTOCOL: u8 = 107;
/// The mark of what a namespace sends, and the table of routes where all of that is this host's.
const MARK: u32 = 0xc09e;
/// The rule that leads there, before the routes of everybody.
const PREFERENCE: u32 = 107;

/// A family of addresses: each has routes and a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// The ports of the listeners at the loopback address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) tcp: u16,
    pub(super) udp: u16,
}

impl Family {
    pub(super) const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub(super) fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(super) fn loopback(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// How `ip` is told of it.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Family::V4 => "-4",
            Family::V6 => "-6",
        }
    }

    /// Tables and headers of it in nftables.
    fn name(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// The type of its addresses there.
    fn kind(self) -> &'static str {
        match self {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }

    /// What must be let in from the interfaces of namespaces lest the neighbour there be lost: over IPv4 that is ARP, no packet of IP.
    fn neighbours(self) -> &'static str {
        match self {
            Family::V4 => "",
            Family::V6 => "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n",
        }
    }

    /// What `ping` sends.
    fn icmp(self) -> &'static str {
        match self {
            Family::V4 => "icmp",
            Family::V6 => "icmpv6",
        }
    }
}

/// Removes everything, and is content where there is nothing.
pub(super) fn no_table(family: Family) -> String {
    let name = family.name();
    format!("table {name} {TABLE}\ndelete table {name} {TABLE}\n")
}

/// Routes: addresses of the family's ranges are this host's (AnyIP), and so is what bears the mark. They are in the main table, where
/// a route to one address comes before them as any narrower one does; the kernel's own local table would come before all.
pub(super) fn routes(family: Family, ranges: &[Range]) -> String {
    let mut out = String::new();
    let own = family.loopback();
    for (network, bits) in ranges.iter().filter(|range| Family::of(range.0) == family) {
        // The loopback address as the source, or it would be the destination's.
        let _ = writeln!(out, "route add local {network}/{bits} dev lo src {own} table main proto {PROTOCOL}");
    }
    let _ = writeln!(out, "route add local default dev lo table {MARK} proto {PROTOCOL}");
    let _ = writeln!(out, "rule add fwmark {MARK} lookup {MARK} preference {PREFERENCE} protocol {PROTOCOL}");
    out
}

/// Forgets the routes; to be gone on with where a line fails.
pub(super) fn no_routes() -> String {
    format!(
        "route flush table main proto {PROTOCOL}\nrule delete fwmark {MARK} lookup {MARK} preference {PREFERENCE}\nroute flush table {MARK} proto {PROTOCOL}\n"
    )
}

/// The table: what comes for the family's ranges goes to the listeners at `ports` of the loopback address, with its destination as
/// it is (the kernel's `tproxy.rst`). It comes from this host's own processes, by `lo` and with an address of none of the ranges, or
/// from a namespace that is known, by its interface and with its address; nothing else comes by such an interface. Nobody else may use
/// the ranges here.
pub(super) fn table(family: Family, ranges: &[Range], ports: Ports) -> String {
    let ranges: Vec<String> = ranges
        .iter()
        .filter(|range| Family::of(range.0) == family)
        .map(|(network, bits)| format!("{network}/{bits}"))
        .collect();
    let ranges = ranges.join(", ");
    let (name, kind, icmp, neighbours) = (family.name(), family.kind(), family.icmp(), family.neighbours());
    let to = |port| SocketAddr::new(family.loopback(), port);
    let (tcp, udp) = (to(ports.tcp), to(ports.udp));
    format!(
        "{}table {name} {TABLE} {{
set ranges {{ type {kind}; flags interval; elements = {{ {ranges} }} }}
set pods {{ type {kind} . ifname; }}
set doors {{ type ifname; }}
chain arrive {{
type filter hook prerouting priority mangle; policy accept;
iifname @doors goto from_pod
{name} daddr != @ranges accept
iifname != \"lo\" drop
{name} saddr @ranges drop
meta l4proto tcp tproxy to {tcp} accept
meta l4proto udp tproxy to {udp} accept
}}
chain from_pod {{
{neighbours}{name} saddr . iifname != @pods drop
meta l4proto tcp tproxy to {tcp} meta mark set {MARK} accept
tcp flags & (syn | ack) != syn accept
meta l4proto udp tproxy to {udp} meta mark set {MARK} accept
meta l4proto {icmp} {name} daddr @ranges accept
drop
}}
chain pass {{
type filter hook forward priority mangle; policy accept;
iifname @doors drop
}}
}}
",
        no_table(family)
    )
}

/// Who lives in which namespace, all of them.
pub(super) fn pods(family: Family, all: &BTreeSet<(IpAddr, Interface)>) -> String {
    let name = family.name();
    let mut out = format!("flush set {name} {TABLE} pods\nflush set {name} {TABLE} doors\n");
    for (ip, interface) in all.iter().filter(|(ip, _)| Family::of(*ip) == family) {
        let _ = writeln!(out, "add element {name} {TABLE} pods {{ {ip} . \"{}\" }}", interface.name());
    }
    // A namespace without an address of the family has its door all the same, and nothing comes by it.
    let doors: BTreeSet<&Interface> = all.iter().map(|(_, interface)| interface).collect();
    for interface in doors {
        let _ = writeln!(out, "add element {name} {TABLE} doors {{ \"{}\" }}", interface.name());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> Vec<Range> {
        let all = [("10.244.0.0", 16), ("10.96.0.0", 12), ("fd00:10:244::", 96), ("fd00:10:96::", 112)];
        all.map(|(ip, bits)| (ip.parse().unwrap(), bits)).to_vec()
    }

    #[test]
    fn what_is_added_can_be_told_from_what_others_have() {
        for (family, first, other) in [
            (Family::V4, "local 10.244.0.0/16 dev lo src 127.0.0.1 ", "local 10.96.0.0/12 "),
            (Family::V6, "local fd00:10:244::/96 dev lo src ::1 ", "local fd00:10:96::/112 "),
        ] {
            let added = routes(family, &ranges());
            assert!(added.starts_with(&format!("route add {first}table main proto 107\n")), "{added}");
            assert!(added.contains(other), "{added}");
            assert_eq!(added.lines().count(), 4, "nothing of the other family: {added}");
            for line in added.lines() {
                assert!(line.ends_with("proto 107") || line.ends_with("protocol 107"), "{line}");
            }
        }
        // As many as there are sorts of them.
        assert_eq!(no_routes().lines().count(), 3);
        assert!(no_routes().lines().all(|line| line.contains("107")));
    }

    #[test]
    fn tables_are_put_at_once_and_again() {
        let ports = Ports { tcp: 4321, udp: 1234 };
        for (family, head, elements, to) in [
            (Family::V4, "ip copepod", "10.244.0.0/16, 10.96.0.0/12", "127.0.0.1"),
            (Family::V6, "ip6 copepod", "fd00:10:244::/96, fd00:10:96::/112", "[::1]"),
        ] {
            let text = table(family, &ranges(), ports);
            assert!(text.starts_with(&format!("table {head}\ndelete table {head}\ntable {head} {{\n")), "{text}");
            assert!(text.contains(&format!("elements = {{ {elements} }}")), "{text}");
            for port in [4321, 1234] {
                assert_eq!(
                    text.matches(&format!("tproxy to {to}:{port} ")).count(),
                    2,
                    "the host's and namespaces': {text}"
                );
            }
        }
    }

    #[test]
    fn the_set_of_namespaces_is_written_as_a_whole() {
        let nobody = "flush set ip copepod pods\nflush set ip copepod doors\n";
        assert_eq!(pods(Family::V4, &BTreeSet::new()), nobody);
        let veth = |name: &str| Interface::new(name).unwrap();
        let all = [("10.244.0.9", "veth0"), ("fd00:10:244::af4:9", "veth0"), ("10.244.0.10", "veth1")];
        let all = BTreeSet::from(all.map(|(ip, name)| (ip.parse().unwrap(), veth(name))));
        let text = "add element ip copepod pods { 10.244.0.9 . \"veth0\" }
add element ip copepod pods { 10.244.0.10 . \"veth1\" }
add element ip copepod doors { \"veth0\" }
add element ip copepod doors { \"veth1\" }
";
        assert_eq!(pods(Family::V4, &all), format!("{nobody}{text}"));
        let text = "flush set ip6 copepod pods
flush set ip6 copepod doors
add element ip6 copepod pods { fd00:10:244::af4:9 . \"veth0\" }
add element ip6 copepod doors { \"veth0\" }
add element ip6 copepod doors { \"veth1\" }
";
        assert_eq!(pods(Family::V6, &all), text);
    }
}
