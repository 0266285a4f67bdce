//! Machines for tests, as network namespaces: each has a network of its own, wired to the others by a switch. Links can be
//! taken down, packets lost, directions cut, and what is on the wire seen. A test needs nothing but root, iproute2 and
//! nftables, and leaves nothing behind.

mod client;
mod cluster;
mod talk;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use client::{Client, Sample, Seen, Written, now, seconds};
pub use cluster::{CLIENT, LabCluster};
pub use talk::Talk;
pub use wire::{Capture, Packet};

use crate::{has, needs, text};

/// What all namespaces' names begin with; the process that made them and a number follow.
const PREFIX: &str = "copepod-lab";
/// There where the kernel has IPv6.
pub const IPV6: &str = "/proc/sys/net/ipv6";
/// The machine that wires the others.
const SWITCH: &str = "switch";

/// Something that is wrong with a machine's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault<'a> {
    /// Nothing that this machine sends arrives here. The other direction is another machine's fault.
    Deaf(&'a str),
    /// So many of a hundred packets that should arrive here are lost.
    Loss(u8),
}

/// What addresses machines have, of one family alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// `10.0.0.0/24`.
    V4,
    /// `fd00::/64`.
    V6,
}

/// Machines on one network; they are gone when it is dropped, with all that runs on them.
pub struct Lab {
    prefix: String,
    addresses: Addresses,
    machines: Vec<String>,
    /// Namespaces beside machines.
    pods: Vec<String>,
    /// Nobody else's: two at once would be slow enough to break what they count. nextest, with a process for each test, has a
    /// group for that.
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// Makes the machines; `None` where that cannot be done.
    pub fn new(machines: &[&str], addresses: Addresses) -> Option<Lab> {
        let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if !needs("root", root) || !needs("iproute2 and nftables", has("ip") && has("nft")) {
            return None;
        }
        if addresses == Addresses::V6 && !needs("IPv6", Path::new("/proc/sys/net/ipv6").exists()) {
            return None;
        }
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        sweep();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("{PREFIX}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let may = Command::new("ip").args(["netns", "add", &format!("{prefix}-{SWITCH}")]).output();
        if !needs("a root who may make network namespaces", may.is_ok_and(|o| o.status.success())) {
            return None;
        }
        let mut lab = Lab { prefix, addresses, machines: Vec::new(), pods: Vec::new(), _alone: alone };
        let switch = lab.namespace(SWITCH);
        let commands = "link set lo up\nlink add br0 type bridge forward_delay 0 mcast_snooping 0\nlink set br0 up\n";
        ip(&["-n", &switch, "-batch", "-"], commands);
        for name in machines {
            lab.machines.push((*name).into());
            let own = lab.namespace(name);
            // One of IPv6 would first look whether somebody has it already.
            let at = match lab.ip(name) {
                IpAddr::V4(ip) => format!("{ip}/24"),
                IpAddr::V6(ip) => format!("{ip}/64 nodad"),
            };
            ip(&["netns", "add", &own], "");
            let commands = format!(
                "link set lo up\nlink add name eth0 type veth peer name {name} netns {switch}\naddr add {at} dev eth0\nlink set eth0 up\n"
            );
            ip(&["-n", &own, "-batch", "-"], &commands);
            ip(&["-n", &switch, "link", "set", name, "master", "br0", "up"], "");
        }
        Some(lab)
    }

    /// Makes a namespace beside a machine, as a container on it has one: an address of each family behind an interface of the machine,
    /// and whatever it asks for is asked of that. Programs run in it as on a machine of this name. Without IPv6 here it has
    /// none.
    pub fn pod(&mut self, machine: &str, name: &str, interface: &str, address: Ipv4Addr, second: Ipv6Addr) {
        let (host, own) = (self.namespace(machine), self.namespace(name));
        ip(&["netns", "add", &own], "");
        self.pods.push(name.into());
        let commands = format!(
            "link add name {interface} type veth peer name eth0 netns {own}\nlink set {interface} up\nroute add {address}/32 dev {interface}\n"
        );
        ip(&["-n", &host, "-batch", "-"], &commands);
        let commands = format!(
            "link set lo up\nlink set eth0 up\naddr add {address}/32 dev eth0\nroute add default via 10.244.0.1 dev eth0 onlink\n"
        );
        ip(&["-n", &own, "-batch", "-"], &commands);
        if Path::new(IPV6).exists() {
            // The way out has an address of the link alone: a host does not answer for neighbours by an address of no interface.
            let commands =
                format!("addr add fe80::1/64 dev {interface} nodad\nroute add {second}/128 dev {interface}\n");
            ip(&["-n", &host, "-batch", "-"], &commands);
            let commands = format!("addr add {second}/128 dev eth0 nodad\nroute add default via fe80::1 dev eth0\n");
            ip(&["-n", &own, "-batch", "-"], &commands);
        }
    }

    fn namespace(&self, machine: &str) -> String {
        format!("{}-{machine}", self.prefix)
    }

    /// A machine's address: the first has 10.0.0.1, or fd00::1.
    pub fn ip(&self, machine: &str) -> IpAddr {
        let place = self.machines.iter().position(|m| m == machine).unwrap_or_else(|| panic!("no machine {machine}"));
        let number = u8::try_from(place + 1).expect("few machines");
        match self.addresses {
            Addresses::V4 => Ipv4Addr::new(10, 0, 0, number).into(),
            Addresses::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// The same as it stands in a URL: that of IPv6 in brackets.
    pub fn host(&self, machine: &str) -> String {
        match self.ip(machine) {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }
    }

    /// A program on a machine; its process is the program's own.
    pub fn command(&self, machine: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(machine)]).arg(program);
        command
    }

    /// Runs a program on a machine to its end.
    pub fn run(&self, machine: &str, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Output {
        self.command(machine, program).args(args).stdin(Stdio::null()).output().expect("ip runs")
    }

    /// GET by curl on a machine: (code, body), and code 0 if nobody has answered. Brackets in the URL are brackets.
    pub fn curl(&self, machine: &str, url: &str, more: &[&str]) -> (u16, String) {
        let out =
            self.run(machine, "curl", &[&["-s", "-g", "-m", "10", "-w", "\n%{http_code}"], more, &[url]].concat());
        let all = text(&out.stdout);
        let (body, code) = all.rsplit_once('\n').unwrap_or(("", "0"));
        (code.parse().unwrap_or(0), body.into())
    }

    /// Takes a machine's cable out, or puts it in again.
    pub fn link(&self, machine: &str, up: bool) {
        let way = if up { "up" } else { "down" };
        // At the switch: a machine whose own end is down would know.
        ip(&["-n", &self.namespace(SWITCH), "link", "set", machine, way], "");
    }

    /// From now on this is what is wrong with a machine's network; nothing else is.
    pub fn faults(&self, machine: &str, faults: &[Fault<'_>]) {
        let mut hears = String::new();
        for fault in faults {
            match fault {
                Fault::Deaf(to) => {
                    let ip = self.ip(to);
                    let family = if ip.is_ipv4() { "ip" } else { "ip6" };
                    hears += &format!("{family} saddr {ip} drop\n");
                }
                // What a machine says to itself does not travel.
                Fault::Loss(percent) => {
                    hears += &format!("meta iifname eth0 numgen random mod 100 < {percent} drop\n");
                }
            }
        }
        let rules = format!(
            "table inet lab\ndelete table inet lab\ntable inet lab {{
chain hears {{ type filter hook input priority 0; {hears} }}
}}\n"
        );
        let mut nft = self.command(machine, "nft");
        feed(nft.args(["-f", "-"]), &rules);
    }

    /// Cuts all that is between two machines, or joins them again; other faults of theirs end.
    pub fn cut(&self, one: &str, other: &str) {
        self.faults(one, &[Fault::Deaf(other)]);
        self.faults(other, &[Fault::Deaf(one)]);
    }

    /// Nothing is wrong with any machine's network any more.
    pub fn heal(&self) {
        for machine in &self.machines {
            self.faults(machine, &[]);
            self.link(machine, true);
        }
    }

    /// Sees what goes in and out of a machine from now on.
    pub fn capture(&self, machine: &str, dir: &Path) -> Capture {
        let mut tcpdump = self.command(SWITCH, "tcpdump");
        tcpdump.args(["-i", machine]);
        Capture::start(tcpdump, &dir.join(format!("{machine}.pcap")))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for machine in self.machines.iter().chain(&self.pods).map(String::as_str).chain([SWITCH]) {
            remove(&self.namespace(machine));
        }
    }
}

/// Ends what still runs in a namespace and deletes it.
fn remove(namespace: &str) {
    let pids = Command::new("ip").args(["netns", "pids", namespace]).output();
    for pid in pids.iter().flat_map(|out| text(&out.stdout).lines().map(str::to_string).collect::<Vec<_>>()) {
        let _ = Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status();
    }
    let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
}

/// Removes what a test has left that was killed itself.
fn sweep() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.trim_start_matches('-').split('-').next());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

/// `ip`, which must succeed, with an input.
fn ip(args: &[&str], input: &str) {
    feed(Command::new("ip").args(args), input);
}

fn feed(command: &mut Command, input: &str) {
    use std::io::Write as _;
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // One that has failed already does not read; it says why.
    let _ = child.stdin.take().expect("stdin").write_all(input.as_bytes());
    let out = child.wait_with_output().expect("it ends");
    assert!(out.status.success(), "{command:?}: {}\n{input}", text(&out.stderr));
}
