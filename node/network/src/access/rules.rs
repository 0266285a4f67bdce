//! What the host's kernel is told, as text for `ip` and `nft`, and how it is told to forget it. All of it bears a name or a
//! number of ours, so that what a killed process has left is known by it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::pod::Interface;

/// An address and a prefix length.
pub type Range = (Ipv4Addr, u8);

/// The table of nftables.
const TABLE: &str = "copepod";
/// Who has made a route or a rule (rtnetlink(7), `rtm_protocol`): nobody else's number in iproute2's list.
pub(super) const PROTOCOL: u8 = 107;
/// The mark of what a namespace sends over TCP, and the table of routes where all of that is this host's.
const MARK: u32 = 0xc09e;
/// The rule that leads there, before the routes of everybody.
const PREFERENCE: u32 = 107;

/// Removes everything, and is content where there is nothing.
pub(super) const NO_TABLE: &str = "table ip copepod\ndelete table ip copepod\n";

/// Routes: addresses of the ranges are this host's (AnyIP), and so is what bears the mark. They are in the main table, where a
/// route to one address comes before them as any narrower one does; the kernel's own local table would come before all.
pub(super) fn routes(ranges: &[Range]) -> String {
    let mut out = String::new();
    for (network, bits) in ranges {
        // The loopback address as the source, or it would be the destination's.
        let _ = writeln!(out, "route add local {network}/{bits} dev lo src 127.0.0.1 table main proto {PROTOCOL}");
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

/// The table: what comes for the ranges over TCP goes to the listener at `port` of the loopback address, with its destination as
/// it is (the kernel's `tproxy.rst`). It comes from this host's own processes, by `lo` and with an address of none of the ranges, or
/// from a namespace that is known, by its interface and with its address. Nobody else may use the ranges here.
pub(super) fn table(ranges: &[Range], port: u16) -> String {
    let ranges: Vec<String> = ranges.iter().map(|(network, bits)| format!("{network}/{bits}")).collect();
    let ranges = ranges.join(", ");
    format!(
        "{NO_TABLE}table ip {TABLE} {{
set ranges {{ type ipv4_addr; flags interval; elements = {{ {ranges} }} }}
set pods {{ type ipv4_addr . ifname; }}
chain arrive {{
type filter hook prerouting priority mangle; policy accept;
ip saddr . iifname @pods goto from_pod
ip daddr != @ranges accept
iifname != \"lo\" drop
ip saddr @ranges drop
meta l4proto tcp tproxy to 127.0.0.1:{port} accept
}}
chain from_pod {{
meta l4proto tcp tproxy to 127.0.0.1:{port} meta mark set {MARK} accept
tcp flags & (syn | ack) != syn accept
meta l4proto udp socket transparent 1 accept
meta l4proto icmp ip daddr @ranges accept
drop
}}
chain pass {{
type filter hook forward priority mangle; policy accept;
ip saddr . iifname @pods drop
}}
}}
"
    )
}

/// Who lives in which namespace, all of them.
pub(super) fn pods(all: &BTreeSet<(Ipv4Addr, Interface)>) -> String {
    let mut out = format!("flush set ip {TABLE} pods\n");
    for (ip, interface) in all {
        let _ = writeln!(out, "add element ip {TABLE} pods {{ {ip} . \"{}\" }}", interface.name());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGES: [Range; 2] = [(Ipv4Addr::new(10, 244, 0, 0), 16), (Ipv4Addr::new(10, 96, 0, 0), 12)];

    #[test]
    fn what_is_added_can_be_told_from_what_others_have() {
        let added = routes(&RANGES);
        assert!(
            added.starts_with("route add local 10.244.0.0/16 dev lo src 127.0.0.1 table main proto 107\n"),
            "{added}"
        );
        assert!(added.contains("local 10.96.0.0/12 "));
        for line in added.lines() {
            assert!(line.ends_with("proto 107") || line.ends_with("protocol 107"), "{line}");
        }
        // As many as there are sorts of them.
        assert_eq!(no_routes().lines().count(), 3);
        assert!(no_routes().lines().all(|line| line.contains("107")));
        let table = table(&RANGES, 4321);
        assert!(
            table.starts_with("table ip copepod\ndelete table ip copepod\ntable ip copepod {\n"),
            "at once, and again"
        );
        assert_eq!(table.matches("tproxy to 127.0.0.1:4321").count(), 2);
        assert!(table.contains("elements = { 10.244.0.0/16, 10.96.0.0/12 }"));
    }

    #[test]
    fn the_set_of_namespaces_is_written_as_a_whole() {
        assert_eq!(pods(&BTreeSet::new()), "flush set ip copepod pods\n");
        let one = BTreeSet::from([(Ipv4Addr::new(10, 244, 0, 9), Interface::new("veth0").unwrap())]);
        let text = "flush set ip copepod pods\nadd element ip copepod pods { 10.244.0.9 . \"veth0\" }\n";
        assert_eq!(pods(&one), text);
    }
}
