//! The host's name servers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

/// How long what the file said counts: it is looked at again for a question that comes later.
pub(crate) const TRUSTED: Duration = Duration::from_secs(3);

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

/// A resolv.conf that is read again and again.
pub(crate) struct Followed {
    /// Our own address: asking there would be a loop.
    own: SocketAddr,
    /// When somebody has last gone to read it.
    looked: Option<Instant>,
    servers: Vec<SocketAddr>,
}

impl Followed {
    /// One that nobody has read.
    pub(crate) fn new(own: SocketAddr) -> Followed {
        Followed { own, looked: None, servers: Vec::new() }
    }

    /// Whether it is time to read it, and for whoever asks to do so.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.looked.is_none_or(|looked| now >= looked + TRUSTED);
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// The servers to ask from now on, if they are others than before. Where there is no text, or none that names a server,
    /// somebody may be about to write one: then it stays as it was.
    pub(crate) fn read(&mut self, text: Option<&str>) -> Option<Vec<SocketAddr>> {
        let mut found = name_servers(text?);
        found.retain(|server| *server != self.own);
        if found.is_empty() || found == self.servers {
            return None;
        }
        self.servers.clone_from(&found);
        Some(found)
    }
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

    #[test]
    fn a_file_is_looked_at_seldom_and_what_says_nothing_changes_nothing() {
        let mut file = Followed::new("192.0.2.9:53".parse().unwrap());
        let began = Instant::now();
        for (after, due) in [(0, true), (0, false), (2999, false), (3000, true), (5999, false), (9000, true)] {
            assert_eq!(file.is_due(began + Duration::from_millis(after)), due, "{after}");
        }
        let mut says = |text| file.read(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(says(None), None);
        let first = Some("nameserver 192.0.2.9\nnameserver 192.0.2.1\n");
        assert_eq!(says(first), Some(vec!["192.0.2.1:53".into()]), "without us");
        for same in
            [first, Some("# again\nnameserver 192.0.2.1"), None, Some(""), Some("nameserver 192.0.2"), Some("\0")]
        {
            assert_eq!(says(same), None, "{same:?}");
        }
        assert_eq!(says(Some("nameserver 192.0.2.9")), None, "us alone");
        assert_eq!(says(Some("nameserver 192.0.2.2")), Some(vec!["192.0.2.2:53".into()]));
        assert_eq!(says(first), Some(vec!["192.0.2.1:53".into()]));
    }
}
