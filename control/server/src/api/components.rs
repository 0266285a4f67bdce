//! `componentstatuses` (upstream's `pkg/registry/core/componentstatus`): what there is to say of the scheduler, the controllers and
//! the servers' stores. Nothing of it is stored: it is said when somebody asks.

use std::sync::Arc;

use copepod_machine::View;
use copepod_model::kinds::core::component_status::{self, RESOURCE};
use copepod_model::{ApiRequest, Key, Object, Status, Verb};

use super::Api;
use super::execute::Answer;
use crate::members::Member;

/// Whether a request asks for them.
pub(super) fn serves(request: &ApiRequest) -> bool {
    matches!(request.verb, Verb::Get | Verb::List) && request.group.is_empty() && request.resource == RESOURCE
}

impl Api {
    /// The one that a request names, or those that it selects.
    pub(super) async fn components(&self, request: &ApiRequest) -> Result<Answer, Status> {
        let all = statuses(self.ruled(), &self.listed().await?, (self.store.member(), self.store.health()));
        if request.verb == Verb::List {
            return self.registry.list(&all, request).map(Answer::List);
        }
        self.registry.get(&all, request).map(|object| Answer::Object(200, object, vec![])).map_err(|e| match e.code {
            // As upstream has it: 500 without a reason.
            404 if e != Status::no_such_path() => {
                let message = format!("Component not found: {}", request.name);
                Status { code: 500, reason: "", message, details: None }
            }
            _ => e,
        })
    }

    /// Whether somebody runs the scheduler and the controllers: whoever leads does.
    fn ruled(&self) -> Result<(), String> {
        match (self.store.leader(), self.store.is_leader()) {
            (None, _) => Err("no leader is known".into()),
            (_, true) => self.store.health(),
            _ => Ok(()),
        }
    }
}

/// The statuses, given whether somebody leads, all servers, and this one with its store's health.
fn statuses(ruled: Result<(), String>, servers: &[Member], (own, health): (u64, Result<(), String>)) -> Statuses {
    let mut all = vec![("controller-manager".to_string(), ruled.clone()), ("scheduler".into(), ruled)];
    if servers.is_empty() {
        all.push(("etcd-0".into(), health.clone()));
    }
    for (i, server) in servers.iter().enumerate() {
        let health = match server.reachable {
            _ if server.id == own => health.clone(),
            true => Ok(()),
            false => Err(format!("no leader has heard of the server {:?} lately", server.name)),
        };
        all.push((format!("etcd-{i}"), health));
    }
    all.sort();
    let object = |(name, health): (String, Result<(), String>)| {
        let body = component_status::status(&name, health).to_string();
        Arc::new(Object::decode(Key::new(RESOURCE, "", name), 0, body.into()))
    };
    Statuses(all.into_iter().map(object).collect())
}

/// The statuses as if they were stored, at no revision.
struct Statuses(Vec<Arc<Object>>);

impl View for Statuses {
    fn revision(&self) -> u64 {
        0
    }
    fn get(&self, _: &str, _: &str, name: &str) -> Option<Arc<Object>> {
        self.0.iter().find(|o| o.name() == name).cloned()
    }
    fn list(&self, _: &str, _: Option<&str>) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        Box::new(self.0.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: u64, reachable: bool) -> Member {
        let (peer, api) = (String::new(), String::new());
        Member { id, name: format!("s{id}"), peer, api, voter: true, leader: id == 1, reachable, learner: false }
    }

    fn said(all: &Statuses) -> Vec<String> {
        let one = |o: &Arc<Object>| {
            let condition = &o.value()["conditions"][0];
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_string();
            [o.name().to_string(), text("status"), text("message"), text("error")].join(" ")
        };
        all.0.iter().map(one).collect()
    }

    #[test]
    fn each_server_is_a_store() {
        let servers = [server(1, true), server(2, false), server(5, true)];
        assert_eq!(
            said(&statuses(Ok(()), &servers, (5, Err("no disk".into())))),
            [
                "controller-manager True ok ",
                "etcd-0 True ok ",
                "etcd-1 False  no leader has heard of the server \"s2\" lately",
                "etcd-2 False  no disk",
                "scheduler True ok ",
            ]
        );
        let lost = Err("no leader is known".to_string());
        assert_eq!(
            said(&statuses(lost, &[], (1, Ok(())))),
            ["controller-manager False  no leader is known", "etcd-0 True ok ", "scheduler False  no leader is known"]
        );
    }
}
