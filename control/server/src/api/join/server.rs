//! Servers: whoever joins as one gets every secret of the cluster, so its token is as good as an administrator's key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use copepod_client::join::{ServerAnswer, ServerRequest};
use copepod_model::kinds::names;
use copepod_model::{FieldError, Status};
use copepod_state::codec;

use super::Joining;
use crate::api::Api;
use crate::members::Joined;

fn check(request: &ServerRequest) -> Result<(), Status> {
    let mut errors = Vec::new();
    if let Err(why) = names::subdomain(&request.name) {
        errors.push(FieldError::invalid("name", request.name.as_str(), why));
    }
    for (field, text) in [("peer", &request.peer), ("api", &request.api)] {
        if let Err(why) = host_port(text) {
            errors.push(FieldError::invalid(field, text.as_str(), why));
        }
    }
    if request.log_version > codec::READS {
        let why = "this cluster cannot read what that release writes to the log: upgrade its servers first, one minor version \
                   at a time";
        errors.push(FieldError::invalid("logVersion", request.log_version, why));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid("copepod.dev", "ServerRequest", &request.name, &errors))
    }
}

/// Whether a text is `host:port`, as another machine can use it.
fn host_port(text: &str) -> Result<(), &'static str> {
    const SHAPE: &str = "must be HOST:PORT";
    let (host, port) = text.rsplit_once(':').ok_or(SHAPE)?;
    port.parse::<u16>().ok().filter(|p| *p > 0).ok_or(SHAPE)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => Err("must be the address of one host"),
        Ok(ip) if ip.is_ipv6() == (bare == host) => Err("an IPv6 address must be in brackets"),
        Ok(_) => Ok(()),
        Err(_) if names::subdomain(host).is_ok() => Ok(()),
        Err(_) => Err(SHAPE),
    }
}

impl Api {
    pub(super) async fn join_server(
        &self,
        joining: &Joining,
        request: ServerRequest,
    ) -> Result<ServerAnswer<Joined>, Status> {
        check(&request)?;
        let members = self.group()?;
        // What it needs comes first: who was taken in must be able to come in.
        let shared = joining.pki.shared().map_err(Status::internal)?;
        let ServerRequest { name, peer, api, learner, .. } = request;
        let joined = members.add(&name, &peer, &api, learner).await?;
        Ok(ServerAnswer {
            ca: shared.ca.cert,
            ca_key: shared.ca.key,
            service_account_key: shared.service_account_key,
            seal: STANDARD.encode(shared.seal),
            servers: joined.members.iter().filter(|m| m.name != name).map(|m| format!("https://{}", m.api)).collect(),
            joined,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, peer: &str, api: &str) -> ServerRequest {
        let log_version = codec::WRITES;
        ServerRequest { name: name.into(), peer: peer.into(), api: api.into(), learner: false, log_version }
    }

    #[test]
    fn who_writes_what_nobody_here_can_read_does_not_join() {
        let ask = |log_version| check(&ServerRequest { log_version, ..request("b", "10.0.0.2:2380", "10.0.0.2:6443") });
        assert_eq!((ask(0), ask(codec::WRITES), ask(codec::READS)), (Ok(()), Ok(()), Ok(())));
        let refused = ask(codec::READS + 1).unwrap_err();
        assert!(refused.code == 422 && refused.message.contains("upgrade its servers first"), "{refused}");
    }

    #[test]
    fn a_server_says_where_others_reach_it() {
        let ask = |name: &str, peer: &str, api: &str| check(&request(name, peer, api)).map_err(|e| e.message);
        assert_eq!(ask("b", "10.0.0.2:2380", "b.example:6443"), Ok(()));
        assert_eq!(ask("b", "[fd00::2]:2380", "127.0.0.1:6443"), Ok(()));
        for (name, peer, api, why) in [
            ("B", "10.0.0.2:2380", "10.0.0.2:6443", "name: Invalid value"),
            ("b", "10.0.0.2", "10.0.0.2:6443", "peer: Invalid value: \"10.0.0.2\": must be HOST:PORT"),
            (
                "b",
                "10.0.0.2:2380",
                "0.0.0.0:6443",
                "api: Invalid value: \"0.0.0.0:6443\": must be the address of one host",
            ),
            ("b", "10.0.0.2:0", "10.0.0.2:6443", "peer"),
            ("b", "fd00::2:2380", "10.0.0.2:6443", "peer"),
            ("b", "", "x y:1", "api"),
        ] {
            let message = ask(name, peer, api).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }
}
