//! `/copepod.dev/v1/members`: the servers of the cluster, for administrators (RBAC on the path), and their URLs under
//! `/copepod.dev/v1/servers`, for nodes as well.

use copepod_client::Body;
use copepod_client::join::{MEMBERS, SERVERS, ServerList};
use copepod_model::{Status, UserInfo};
use http::{Method, Request, Response};
use serde_json::json;

use super::path::Query;
use super::{Api, respond};
use crate::members::{Member, Members};

/// The group of all nodes.
const NODES: &str = "system:nodes";

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Servers,
    List,
    Promote(u64),
    Remove(u64),
}

/// Whether a path is one of these.
pub(super) fn serves(path: &str) -> bool {
    path == SERVERS || path == MEMBERS || path.strip_prefix(MEMBERS).is_some_and(|rest| rest.starts_with('/'))
}

fn route(method: &Method, path: &str) -> Result<Route, Status> {
    let wrong_method = || Status::method_not_supported("members", method.as_str());
    if path == SERVERS {
        return if *method == Method::GET { Ok(Route::Servers) } else { Err(wrong_method()) };
    }
    let rest = path.strip_prefix(MEMBERS).unwrap_or_default().trim_matches('/');
    let id = |text: &str| text.parse::<u64>().map_err(|_| Status::not_found("members", text));
    match (rest.split_once('/'), rest) {
        (None, "") if *method == Method::GET => Ok(Route::List),
        (None, "") => Err(wrong_method()),
        (None, one) if *method == Method::DELETE => Ok(Route::Remove(id(one)?)),
        (None, _) => Err(wrong_method()),
        (Some((one, "promote")), _) if *method == Method::POST => Ok(Route::Promote(id(one)?)),
        (Some((_, "promote")), _) => Err(wrong_method()),
        (Some(_), _) => Err(Status::no_such_path()),
    }
}

impl Api {
    pub(super) async fn members_request(
        &self,
        request: Request<Body>,
        user: &UserInfo,
        verb: &str,
    ) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        // Nodes may know where the servers are, and no more.
        if !(path == SERVERS && user.in_group(NODES)) {
            self.authorize_url(user, verb, path)?;
        }
        let success =
            || respond::json(200, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}));
        match route(request.method(), path)? {
            Route::Servers => {
                let list = ServerList { servers: self.servers().await };
                Ok(respond::json(200, &serde_json::to_value(list).map_err(Status::internal)?))
            }
            Route::List => Ok(respond::json(200, &json!({"members": self.listed().await?}))),
            Route::Promote(id) => {
                let query = Query::parse(request.uri().query().unwrap_or_default())?;
                let bad = |_| Status::bad_request("replacing: not the ID of a server");
                let replacing = query.get("replacing").map(|old| old.parse().map_err(bad)).transpose()?;
                self.group()?.promote(id, replacing).await.map(|()| success())
            }
            Route::Remove(id) => self.group()?.remove(id).await.map(|()| success()),
        }
    }

    /// The group of servers; 409 where there is none that could change.
    pub(super) fn group(&self) -> Result<&Members, Status> {
        let why = "this cluster has one server, which was not started to have others (copepod server)";
        self.members.get().ok_or_else(|| Status::conflict("members", "", why))
    }

    /// All servers, by id.
    pub(super) async fn listed(&self) -> Result<Vec<Member>, Status> {
        match self.members.get() {
            Some(members) => members.list().await,
            None => Ok(vec![Member {
                id: self.store.member(),
                name: "copepod".into(),
                peer: String::new(),
                api: self.address.clone(),
                voter: true,
                leader: self.store.is_leader(),
                reachable: true,
                learner: false,
            }]),
        }
    }

    /// URLs of all servers' APIs, as far as they are known. One that listens on every address has no URL of its own.
    pub(crate) async fn servers(&self) -> Vec<String> {
        let own = || self.joining.get().map(|j| j.url.clone()).filter(|u| !u.is_empty()).into_iter().collect();
        match self.members.get() {
            None => own(),
            Some(members) => match members.list().await {
                Ok(all) if !all.is_empty() => all.into_iter().map(|m| format!("https://{}", m.api)).collect(),
                Ok(_) => own(),
                Err(e) => {
                    tracing::debug!("the servers are not known: {e}");
                    own()
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for (method, path, want) in [
            (Method::GET, "/copepod.dev/v1/servers", Ok(Route::Servers)),
            (Method::POST, "/copepod.dev/v1/servers", Err(405)),
            (Method::GET, "/copepod.dev/v1/members", Ok(Route::List)),
            (Method::POST, "/copepod.dev/v1/members", Err(405)),
            (Method::DELETE, "/copepod.dev/v1/members/7", Ok(Route::Remove(7))),
            (Method::DELETE, "/copepod.dev/v1/members/b", Err(404)),
            (Method::GET, "/copepod.dev/v1/members/7", Err(405)),
            (Method::POST, "/copepod.dev/v1/members/7/promote", Ok(Route::Promote(7))),
            (Method::GET, "/copepod.dev/v1/members/7/promote", Err(405)),
            (Method::POST, "/copepod.dev/v1/members/7/demote", Err(404)),
        ] {
            assert!(serves(path));
            assert_eq!(route(&method, path).map_err(|e| e.code), want, "{method} {path}");
        }
        assert!(!serves("/copepod.dev/v1/membership") && !serves("/copepod.dev/v1/ca"));
    }
}
