//! How the descriptors of a node's process are shared out, so that neither guests nor clients take those without which the
//! store, the listeners and the API cannot go on.

/// More connections of one kind are of no use however many descriptors there are.
const MOST_CONNECTIONS: u64 = 8192;

/// What may be open at once, for each kind that others decide the number of. What is in none of them, an eighth of all
/// descriptors at least, is for the store, listeners, logs, images and the other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Files that guests have open, the directories that are mounted for them included.
    pub files: u32,
    /// Sockets to the world outside the cluster, most of them guests'.
    pub outgoing: u32,
    /// Connections from outside, at the ingress and at the host's other ports.
    pub incoming: u32,
    /// Connections to the API.
    pub api: u32,
    /// Connections to the node's own API.
    pub node_api: u32,
    /// Connections to DNS.
    pub dns: u32,
}

impl Descriptors {
    /// The shares of a process that may have `nofile` descriptors (`RLIMIT_NOFILE`).
    pub fn split(nofile: u64) -> Descriptors {
        let share = |of: u64, most: u64| u32::try_from((nofile / of).clamp(1, most)).unwrap_or(u32::MAX);
        Descriptors {
            files: share(4, u32::MAX.into()),
            outgoing: share(8, u32::MAX.into()),
            incoming: share(4, MOST_CONNECTIONS),
            api: share(8, MOST_CONNECTIONS),
            node_api: share(16, 2048),
            dns: share(32, 512),
        }
    }

    /// The same for a process that serves the API and runs no node: connections to it are what there is most of.
    pub fn of_server(nofile: u64) -> Descriptors {
        let api = (nofile / 2).clamp(1, MOST_CONNECTIONS);
        Descriptors { api: u32::try_from(api).unwrap_or(u32::MAX), ..Descriptors::split(nofile) }
    }
}

impl Default for Descriptors {
    /// Those of a process that may have as many as systemd's usual hard limit.
    fn default() -> Self {
        Descriptors::split(524_288)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(d: Descriptors) -> u64 {
        [d.files, d.outgoing, d.incoming, d.api, d.node_api, d.dns].into_iter().map(u64::from).sum()
    }

    #[test]
    fn an_eighth_is_left_whatever_there_is() {
        for nofile in [256, 1024, 4096, 20_000, 65_536, 1 << 20, 1 << 30] {
            let all = Descriptors::split(nofile);
            assert!(sum(all) <= nofile - nofile / 8, "{nofile}: {all:?}");
            assert!(u64::from(Descriptors::of_server(nofile).api) <= nofile / 2, "{nofile}");
        }
    }

    #[test]
    fn few_are_shared_out_and_many_are_enough() {
        let few = Descriptors { files: 256, outgoing: 128, incoming: 256, api: 128, node_api: 64, dns: 32 };
        assert_eq!(Descriptors::split(1024), few);
        let many = Descriptors::split(1 << 20);
        assert_eq!((many.incoming, many.api, many.node_api, many.dns), (8192, 8192, 2048, 512));
        assert_eq!(many.files, 1 << 18);
        assert_eq!(Descriptors::of_server(1024).api, 512);
        let none = Descriptors::split(0);
        assert!(none.files == 1 && none.api == 1, "nothing works with none, but nothing divides by it either");
    }
}
