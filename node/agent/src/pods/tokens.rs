//! Tokens of pods' service accounts: asked for in the order in which pods need them, a few at a time.

use std::collections::VecDeque;

use copepod_client::{Client, Reply};
use copepod_model::request::Body;
use copepod_model::{Key, Time, Verb};
use copepod_node_plan::{Token, TokenKey};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Done, Pods, Uid};
use crate::clock::now;

/// How many are asked for at once. A token is the first thing that most pods need, and signing one is work: if all pods of many
/// got theirs at the same time, none would be ready before most of them are.
const AT_ONCE: usize = 16;

/// A token that is needed.
pub(super) struct Wish {
    pub pod: Key,
    pub account: String,
    pub uid: Uid,
    pub key: TokenKey,
}

/// What is wanted, of which so much at a time is under way, in the order in which it came.
pub(super) struct Turns<T> {
    room: usize,
    under_way: usize,
    waiting: VecDeque<T>,
}

/// Turns for tokens.
pub(super) type Tokens = Turns<Wish>;

impl Default for Tokens {
    fn default() -> Tokens {
        Turns::new(AT_ONCE)
    }
}

impl<T> Turns<T> {
    fn new(room: usize) -> Turns<T> {
        Turns { room, under_way: 0, waiting: VecDeque::new() }
    }

    /// One more.
    pub fn add(&mut self, what: T) {
        self.waiting.push_back(what);
    }

    /// What may begin now; [`Turns::end`] says when it is over.
    pub fn begin(&mut self) -> Option<T> {
        if self.under_way == self.room {
            return None;
        }
        let what = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(what)
    }

    /// Something that was begun is over.
    pub fn end(&mut self) {
        self.under_way -= 1;
    }

    /// Whether anything is under way, or waits.
    pub fn is_busy(&self) -> bool {
        self.under_way > 0 || !self.waiting.is_empty()
    }
}

impl Pods {
    /// Asks for as many tokens as may be under way.
    pub(super) fn ask_for_tokens(&mut self) {
        while let Some(wish) = self.tokens.begin() {
            if self.entries.contains_key(&wish.uid) {
                self.jobs.spawn(request(self.client.clone(), wish));
            } else {
                self.tokens.end();
            }
        }
    }

    /// A token has come, or why there is none.
    pub(super) fn token_came(&mut self, uid: Uid, key: &TokenKey, result: Result<Token, String>, at: Time) {
        self.tokens.end();
        if let Some(entry) = self.entries.get_mut(&uid) {
            entry.observed.token(key, result, at);
            self.dirty.insert(uid);
        }
        self.ask_for_tokens();
    }
}

/// The service account of a pod.
pub(super) fn service_account(pod: &Pod) -> String {
    let name = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    name.filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into())
}

/// Asks for a token that is bound to the pod (TokenRequest, KEP-1205).
async fn request(client: Client, wish: Wish) -> Done {
    let Wish { pod, account, uid, key } = wish;
    let asked = now();
    let audiences: Vec<&str> = Some(key.audience.as_str()).filter(|a| !a.is_empty()).into_iter().collect();
    let mut request = client.request(Verb::Create, "serviceaccounts", &pod.namespace, &account);
    request.subresource = Some("token".into());
    request.body = Body::Object(json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": audiences, "expirationSeconds": key.seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": &*pod.name, "uid": &*uid}},
    }));
    let result = match client.call(request).await {
        Ok(reply) => token(&reply, asked),
        Err(e) => Err(e.message),
    };
    Done::Token(uid, key, result)
}

fn token(reply: &Reply, asked: Time) -> Result<Token, String> {
    let value = match reply {
        Reply::Json(value) => value.clone(),
        Reply::Object(o) => o.value(),
        _ => return Err("the answer is no TokenRequest".into()),
    };
    let status = &value["status"];
    let expires = status["expirationTimestamp"].as_str().and_then(Time::parse);
    match (status["token"].as_str(), expires) {
        (Some(text), Some(expires)) => Ok(Token { text: text.into(), issued: asked, expires }),
        _ => Err("the answer has no token".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_under_way_at_once_in_the_order_in_which_they_came() {
        let mut turns = Turns::new(2);
        assert_eq!((turns.begin(), turns.is_busy()), (None, false), "nothing is wanted, and that takes no room");
        "abcd".chars().for_each(|what| turns.add(what));
        assert_eq!((turns.begin(), turns.begin(), turns.begin()), (Some('a'), Some('b'), None));
        turns.end();
        turns.add('e');
        assert_eq!((turns.begin(), turns.begin()), (Some('c'), None));
        turns.end();
        turns.end();
        assert_eq!((turns.begin(), turns.begin(), turns.begin()), (Some('d'), Some('e'), None));
        turns.end();
        assert!(turns.is_busy());
        turns.end();
        assert!(!turns.is_busy());
    }
}
