//! Which servers are asked for a name, and in which order.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::rr::{LowerName, Name};
use tokio::time::Instant;

/// How long a server that gave no answer is asked after its neighbours only.
const PENALTY: Duration = Duration::from_secs(10);
/// How many servers there may be for one domain.
pub const MOST_SERVERS: usize = 15;

/// A domain whose names other servers know than all the rest: `corp.example=10.0.0.53,10.0.1.53:5353`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StubDomain {
    /// The domain, in lower case and without the final dot.
    pub domain: String,
    /// Its servers, in the order in which they are asked; at least one.
    pub servers: Vec<SocketAddr>,
}

/// A text is no server or stub domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Neither an address nor an address with a port.
    #[error("{0:?} is not an IP address, with or without a port")]
    Server(String),
    /// Too many servers.
    #[error("{0} has more than {MOST_SERVERS} servers")]
    TooMany(String),
    /// Not of the form `DOMAIN=SERVER`.
    #[error("{0:?} is not of the form DOMAIN=SERVER[,SERVER…]")]
    Form(String),
    /// Not a domain.
    #[error("{0:?} is not a domain name")]
    Domain(String),
}

/// `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`; without a port it is 53.
pub fn server(text: &str) -> Result<SocketAddr, ParseError> {
    let text = text.trim();
    let plain = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    let found = plain.or_else(|_| text.parse::<SocketAddr>()).ok();
    let usable = |s: &SocketAddr| s.port() != 0 && !s.ip().is_unspecified() && !s.ip().is_multicast();
    found.filter(usable).ok_or_else(|| ParseError::Server(text.into()))
}

impl FromStr for StubDomain {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let form = || ParseError::Form(text.into());
        let (domain, servers) = text.split_once('=').ok_or_else(form)?;
        let domain = domain.trim().trim_end_matches('.').to_ascii_lowercase();
        let label = |l: &str| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !l.is_empty() && l.len() <= 63 && l.bytes().all(inner)
        };
        if domain.len() > 253 || !domain.split('.').all(label) {
            return Err(ParseError::Domain(domain));
        }
        let servers = servers.split(',').map(server).collect::<Result<Vec<_>, _>>()?;
        if servers.len() > MOST_SERVERS {
            return Err(ParseError::TooMany(domain));
        }
        Ok(StubDomain { domain, servers })
    }
}

impl fmt::Display for StubDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        write!(f, "{}={}", self.domain, servers.join(","))
    }
}

/// Servers that know the same.
pub(crate) struct Group {
    servers: Vec<SocketAddr>,
    /// When each was last silent.
    silent: Mutex<Vec<Option<Instant>>>,
}

impl Group {
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Group {
        let silent = Mutex::new(vec![None; servers.len()]);
        Group { servers, silent }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// The servers with their places, in the order in which to ask them.
    pub(crate) fn in_order(&self) -> Vec<(usize, SocketAddr)> {
        let now = Instant::now();
        let since: Vec<Option<Duration>> = self.lock().iter().map(|s| s.map(|at| now - at)).collect();
        order(&since).into_iter().map(|at| (at, self.servers[at])).collect()
    }

    /// Notes whether the server at a place has answered.
    pub(crate) fn note(&self, at: usize, answered: bool) {
        if let Some(silent) = self.lock().get_mut(at) {
            *silent = (!answered).then(Instant::now);
        }
    }
}

/// The places of servers in the order in which to ask them, by how long ago each was silent: as they are named, and then
/// those that were silent of late, the longest ago first.
fn order(silent: &[Option<Duration>]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..silent.len()).collect();
    places.sort_by_key(|at| silent[*at].filter(|ago| *ago < PENALTY).map_or(Duration::ZERO, |ago| PENALTY - ago));
    places
}

/// All servers: those of stub domains, and those for the rest.
pub(crate) struct Servers {
    /// The longest domains first.
    stubs: Vec<(LowerName, Arc<Group>)>,
    rest: RwLock<Arc<Group>>,
}

impl Servers {
    pub(crate) fn new(rest: Vec<SocketAddr>, stubs: &[StubDomain]) -> Servers {
        let group = |s: &StubDomain| {
            let mut name = Name::from_ascii(&s.domain).ok()?;
            name.set_fqdn(true);
            Some((LowerName::from(name), Arc::new(Group::new(s.servers.clone()))))
        };
        let mut stubs: Vec<_> = stubs.iter().filter_map(group).collect();
        stubs.sort_by_key(|(name, _)| std::cmp::Reverse(name.num_labels()));
        Servers { stubs, rest: RwLock::new(Arc::new(Group::new(rest))) }
    }

    /// The servers for names of no stub domain.
    pub(crate) fn rest(&self) -> Arc<Group> {
        self.rest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names of no stub domain are asked of these servers from now on.
    pub(crate) fn set_rest(&self, servers: Vec<SocketAddr>) {
        *self.rest.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Group::new(servers));
    }

    /// The servers of the longest stub domain that a name is in.
    pub(crate) fn stub(&self, name: &Name) -> Option<&Arc<Group>> {
        let name = LowerName::from(name);
        self.stubs.iter().find(|(domain, _)| domain.zone_of(&name)).map(|(_, group)| group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        for (text, want) in [
            ("192.0.2.1", "192.0.2.1:53"),
            (" 192.0.2.1:5353 ", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
        ] {
            assert_eq!(server(text).unwrap().to_string(), want);
        }
        for bad in ["", "x", "192.0.2.1:0", "192.0.2.1:", "0.0.0.0", "224.0.0.1", "ns.example.com", "192.0.2.1:99999"] {
            assert_eq!(server(bad), Err(ParseError::Server(bad.into())));
        }
    }

    #[test]
    fn stub_domains_are_read() {
        let stub: StubDomain = "Corp.Example.=10.0.0.53, 10.0.1.53:5353".parse().unwrap();
        assert_eq!(stub.to_string(), "corp.example=10.0.0.53:53,10.0.1.53:5353");
        for bad in
            ["", "corp.example", "=10.0.0.53", "a..b=10.0.0.53", "a b=10.0.0.53", "corp=", "corp=x", ".=10.0.0.53"]
        {
            assert!(bad.parse::<StubDomain>().is_err(), "{bad}");
        }
        let many = format!("corp={}", vec!["10.0.0.53"; MOST_SERVERS + 1].join(","));
        assert_eq!(many.parse::<StubDomain>(), Err(ParseError::TooMany("corp".into())));
    }

    #[test]
    fn the_longest_domain_decides() {
        let stubs = ["example=10.0.0.1", "corp.example=10.0.0.2"].map(|s| s.parse().unwrap());
        let servers = Servers::new(vec!["10.0.0.3:53".parse().unwrap()], &stubs);
        for (name, want) in [
            ("a.Corp.example.", "10.0.0.2:53"),
            ("corp.example.", "10.0.0.2:53"),
            ("xcorp.example.", "10.0.0.1:53"),
            ("example.com.", "10.0.0.3:53"),
            ("com.", "10.0.0.3:53"),
        ] {
            let of = servers.stub(&Name::from_ascii(name).unwrap()).cloned().unwrap_or_else(|| servers.rest());
            assert_eq!(of.in_order()[0].1.to_string(), want, "{name}");
        }
    }

    #[test]
    fn who_was_silent_is_asked_last() {
        let s = |n| Some(Duration::from_secs(n));
        assert_eq!(order(&[None, None, None]), [0, 1, 2]);
        assert_eq!(order(&[s(1), None, None]), [1, 2, 0]);
        assert_eq!(order(&[s(1), s(3), None]), [2, 1, 0]);
        assert_eq!(order(&[s(10), s(3), None]), [0, 2, 1]);
        assert_eq!(order(&[]), [0; 0]);
    }
}
