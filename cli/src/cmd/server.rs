//! `copepod server`: the control plane without a node, alone or as one of several.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use copepod_client::join::{self, ServerAnswer, ServerRequest};
use copepod_client::tls::Credential;
use copepod_node_plan::Descriptors;
use copepod_server::members::Joined;
use copepod_server::pki::{Pki, Shared, write};
use copepod_server::store::offline;
use copepod_server::{PeerConfig, Server as ControlPlane, ServerConfig};

use super::{Error, default_data_dir};
use crate::descriptors;
use crate::joining::{JoinFlags, host_name};
use crate::node::api_alias;
use crate::stop::Stop;

/// Run a server: the API, the controllers and the cluster's state. The first one makes a cluster, others join it.
#[derive(Debug, Args)]
pub struct Server {
    #[command(flatten)]
    join: JoinFlags,
    /// Where everything is kept. Default: the XDG data folder.
    #[arg(long, env = "COPEPOD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address that the API and the port for other servers listen on.
    #[arg(long, env = "COPEPOD_BIND", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "IP")]
    bind: IpAddr,
    /// Port of the Kubernetes API.
    #[arg(long, env = "COPEPOD_API_PORT", default_value_t = 6443, value_name = "PORT",
        value_parser = clap::value_parser!(u16).range(1..))]
    api_port: u16,
    /// Port for the other servers.
    #[arg(long, env = "COPEPOD_PEER_PORT", default_value_t = 2380, value_name = "PORT",
        value_parser = clap::value_parser!(u16).range(1..))]
    peer_port: u16,
    /// Address or name by which others reach this server. Default: the address that it listens on.
    #[arg(long, env = "COPEPOD_ADVERTISE", value_name = "HOST")]
    advertise: Option<String>,
    /// Name of this server, unique among the servers. Default: the host's.
    #[arg(long, env = "COPEPOD_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Join as a learner, which has all of the state and no vote, and stay one (until `copepod members promote`).
    #[arg(long, env = "COPEPOD_LEARNER")]
    learner: bool,
    /// Bytes that all objects may have together; above that nothing new is stored. 0 for any number.
    #[arg(long, env = "COPEPOD_QUOTA_BYTES", default_value_t = copepod_server::store::DEFAULT_QUOTA, value_name = "BYTES")]
    quota_bytes: u64,
    /// Addresses for Services of type LoadBalancer, each its own: networks and ranges, such as
    /// `192.0.2.0/24,10.0.0.10-10.0.0.20`. They must lead to the nodes. Default: the nodes' own addresses.
    #[arg(
        long,
        env = "COPEPOD_LOAD_BALANCER_POOL",
        default_value = "",
        hide_default_value = true,
        value_name = "NETWORK|FIRST-LAST,…"
    )]
    load_balancer_pool: copepod_server::BalancerPool,
}

/// What a group answered to a server that has not started since; in the folder `server`.
pub(super) const JOINED: &str = "joined.json";

impl Server {
    /// Runs the server until it is told to stop.
    pub async fn run(self) -> Result<(), Error> {
        let started = Instant::now();
        let dir = self.data_dir.clone().unwrap_or_else(default_data_dir);
        let dir = std::path::absolute(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let name = self.name.clone().filter(|n| !n.is_empty()).map_or_else(host_name, Ok)?;
        copepod_model::kinds::names::subdomain(&name).map_err(|e| format!("--name {name:?}: {e}"))?;
        let host = self.host()?;
        let say = |text: &str| eprintln!("{:>6.2}s  {text}", started.elapsed().as_secs_f64());
        say(&format!("starting in {}", dir.display()));
        // Signals first: a Ctrl-C during the start must stop cleanly too.
        let mut stop = Stop::new()?;

        let (peer, api) = (format!("{host}:{}", self.peer_port), format!("{host}:{}", self.api_port));
        let joined = tokio::select! {
            joined = self.joined(&dir, &name, &peer, &api) => joined?,
            () = stop.wait() => return Err("stopped before the server had joined".into()),
        };
        if let Some(joined) = &joined {
            say(&format!("member {} of {} servers", joined.id, joined.members.len()));
        }
        let seen = host.trim_matches(['[', ']']).parse().unwrap_or(self.bind);
        let config = ServerConfig {
            data_dir: dir.clone(),
            api: SocketAddr::new(self.bind, self.api_port),
            advertise: Some(api_alias(seen).unwrap_or(seen)),
            peer: Some(PeerConfig {
                name,
                listen: SocketAddr::new(self.bind, self.peer_port),
                advertise: peer,
                api,
                joined,
            }),
            quota_bytes: self.quota_bytes,
            balancer_pool: self.load_balancer_pool.clone(),
            connections: Descriptors::of_server(descriptors::raise()).api as usize,
        };
        let server = tokio::select! {
            server = ControlPlane::start(config) => server?,
            // One that joins may wait for the others' state.
            () = stop.wait() => return Err("stopped before the server had started".into()),
        };
        let _ = std::fs::remove_file(dir.join("server").join(JOINED));
        say("the API is ready");
        println!("API      https://{host}:{}", self.api_port);
        println!("Config   {}", server.kubeconfig().display());
        println!("\n  export KUBECONFIG={}", server.kubeconfig().display());
        tokio::select! {
            () = stop.wait() => eprintln!("stopping"),
            () = server.removed() => eprintln!("stopping: this server was taken out of the cluster"),
        }
        tokio::select! {
            () = server.stop() => Ok(()),
            // Whoever asks twice has no more patience; what was acknowledged is on disk all the same.
            () = stop.wait() => Err("stopped at once, without waiting for what was under way".into()),
        }
    }

    /// The host by which others reach this server, as it stands in a URL.
    fn host(&self) -> Result<String, Error> {
        match self.advertise.as_deref().map(str::trim).filter(|a| !a.is_empty()) {
            None if self.bind.is_unspecified() => Err(format!(
                "--bind {} says nothing about how others reach this server: say it with --advertise HOST",
                self.bind
            )
            .into()),
            None => Ok(bracketed(self.bind)),
            Some(given) => match given.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(ip) if ip.is_unspecified() => {
                    Err(format!("--advertise {given}: must be the address of one host").into())
                }
                Ok(ip) => Ok(bracketed(ip)),
                Err(_) => match copepod_model::kinds::names::subdomain(given) {
                    Ok(()) => Ok(given.into()),
                    Err(why) => {
                        Err(format!("--advertise {given:?}: an IP address or a name without a port: {why}").into())
                    }
                },
            },
        }
    }

    /// What the group says of this server, until it has started once; none for the first server and for one that is known.
    async fn joined(&self, dir: &Path, name: &str, peer: &str, api: &str) -> Result<Option<Joined>, Error> {
        let dir = dir.join("server");
        let (pki, file) = (dir.join("pki"), dir.join(JOINED));
        if Pki::exists(&pki) {
            return match std::fs::read(&file) {
                Ok(bytes) => {
                    Ok(Some(serde_json::from_slice(&bytes).map_err(|e| format!("{} is damaged: {e}", file.display()))?))
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(format!("{}: {e}", file.display()).into()),
            };
        }
        if offline::is_store(&dir.join("state")) {
            // It is a server already, whose start says that its keys are lost.
            return Ok(None);
        }
        let Some(url) = self.join.url() else {
            if file.exists() {
                return Err(
                    "this server had begun to join a cluster and did not get its keys: say --join and --token again"
                        .into(),
                );
            }
            return Ok(None);
        };
        let token = self.join.token()?;
        let ca = join::fetch_ca(url, &token).await?;
        let (name, peer, api, learner) = (name.into(), peer.into(), api.into(), self.learner);
        let request = ServerRequest { name, peer, api, learner, log_version: copepod_server::LOG_VERSION };
        let answer: ServerAnswer<Joined> = join::join(url, &ca, &token, join::JOIN_SERVER, &request).await?;
        let seal = STANDARD.decode(&answer.seal).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let shared = Shared {
            // The CA that the token pins, whatever the answer calls so.
            ca: Credential { cert: ca, key: answer.ca_key },
            service_account_key: answer.service_account_key,
            seal: seal.ok_or_else(|| format!("{url} answered with a seal that is none"))?,
        };
        {
            use std::os::unix::fs::DirBuilderExt as _;
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        write(&file, &serde_json::to_vec(&answer.joined)?)?;
        Pki::install(&pki, &shared)?;
        Ok(Some(answer.joined))
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        server: Server,
    }

    fn parsed(flags: &[&str]) -> Server {
        Line::try_parse_from(["server"].iter().chain(flags)).unwrap().server
    }

    #[tokio::test]
    async fn what_the_group_answered_counts_until_the_server_has_started() {
        let dir = std::env::temp_dir().join(format!("copepod-joined-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let pki = dir.join("server/pki");
        std::fs::create_dir_all(&pki).unwrap();
        let file = dir.join("server").join(JOINED);
        let ask = async |flags: &[&str]| {
            let found = parsed(flags).joined(&dir, "b", "127.0.0.1:1", "127.0.0.1:2").await;
            found.map(|j| j.map(|j| j.id)).map_err(|e| e.to_string())
        };
        assert_eq!(ask(&[]).await, Ok(None), "the first one");
        let message = ask(&["--join", "https://127.0.0.1:1"]).await.unwrap_err();
        assert!(message.contains("joining takes a token"), "{message}");
        std::fs::write(&file, r#"{"id": 2, "members": []}"#).unwrap();
        let message = ask(&["--join", "https://127.0.0.1:1"]).await.unwrap_err();
        assert!(message.contains("joining takes a token"), "an answer without the secrets is none: {message}");
        std::fs::write(pki.join("ca.key"), "").unwrap();
        for flags in [&[][..], &["--join", "https://127.0.0.1:1"]] {
            assert_eq!(ask(flags).await, Ok(Some(2)), "{flags:?}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(ask(&["--join", "https://127.0.0.1:1"]).await, Ok(None), "it has started once");
        std::fs::remove_file(pki.join("ca.key")).unwrap();
        std::fs::create_dir(dir.join("server/state")).unwrap();
        std::fs::write(dir.join("server/state/format"), "copepod store 1\n").unwrap();
        assert_eq!(ask(&["--join", "https://127.0.0.1:1"]).await, Ok(None), "with a state it does not join anew");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn others_must_be_able_to_reach_it() {
        let host = |flags: &[&str]| {
            let line = Line::try_parse_from(["server"].iter().chain(flags)).map_err(|e| e.to_string())?;
            line.server.host().map_err(|e| e.to_string())
        };
        for (flags, want) in [
            (&[][..], "127.0.0.1"),
            (&["--bind", "10.0.0.1"], "10.0.0.1"),
            (&["--bind", "::1"], "[::1]"),
            (&["--bind", "0.0.0.0", "--advertise", "a.example"], "a.example"),
            (&["--advertise", "fd00::1"], "[fd00::1]"),
        ] {
            assert_eq!(host(flags).as_deref(), Ok(want), "{flags:?}");
        }
        for (flags, why) in [
            (&["--bind", "0.0.0.0"][..], "--advertise HOST"),
            (&["--advertise", "0.0.0.0"], "must be the address of one host"),
            (&["--advertise", "a:6443"], "without a port"),
            (&["--api-port", "0"], "0 is not in 1..=65535"),
        ] {
            let message = host(flags).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }
}
