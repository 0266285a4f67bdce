//! The servers as they are written down: internal objects, one for each.

use std::collections::BTreeSet;

use copepod_model::{Key, Object, object};
use copepod_state::{Op as Change, Tables};
use serde_json::{Value, json};

use super::Member;
use crate::store::Role;

/// What servers are stored as; like all such it is not served.
pub(crate) const RESOURCE: &str = "_members";

pub(super) fn key(id: u64) -> Key {
    // Keys order as text: digits in front keep ids in their order.
    Key::new(RESOURCE, "", format!("{id:020}"))
}

pub(super) fn put(key: Key, value: Value) -> Change {
    Change::Put { key, body: object::encode(&value), revised: true }
}

pub(super) fn row(member: &Member) -> Change {
    let Member { id, name, peer, api, learner, .. } = member;
    let key = key(*id);
    let value = json!({
        "metadata": {"name": key.name}, "id": id, "serverName": name, "peer": peer, "api": api, "learner": learner,
    });
    put(key, value)
}

fn member(object: &Object) -> Option<Member> {
    let value = object.value();
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_string();
    Some(Member {
        id: value["id"].as_u64()?,
        name: text("serverName"),
        peer: text("peer"),
        api: text("api"),
        voter: false,
        leader: false,
        reachable: false,
        learner: value["learner"].as_bool().unwrap_or(false),
    })
}

/// The servers as they are written down.
pub(crate) fn listed(view: &Tables) -> Vec<Member> {
    view.scan(RESOURCE, None).filter_map(|o| member(o)).collect()
}

/// The servers with what they are at the moment.
pub(super) fn described(view: &Tables, role: &Role, reachable: &BTreeSet<u64>) -> Vec<Member> {
    let now = |m: Member| Member {
        voter: role.members.voters.contains(&m.id),
        leader: role.leader == Some(m.id),
        reachable: reachable.contains(&m.id),
        ..m
    };
    listed(view).into_iter().map(now).collect()
}
