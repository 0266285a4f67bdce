//! Asks the API who somebody is and what they may; what to ask is decided in [`copepod_node_plan::access`].

// A refusal is made at most once per request: its size does not matter.
#![allow(clippy::result_large_err)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use copepod_client::{Body, Client, Reply};
use copepod_model::request::Body as Payload;
use copepod_model::{Status, UserInfo, Verb};
use copepod_node_plan::access::{self, Cache};
use http::{HeaderMap, Method, Response, StatusCode, header};
use ring::digest;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::api::text;
use crate::clock::now;
use crate::logs::lock;

/// How long the API may take for a review.
const DEADLINE: Duration = Duration::from_secs(10);
/// Reviews at once: strangers shall not keep the API busy.
const REVIEWS: usize = 32;
/// Tokens whose users are remembered.
const TOKENS: usize = 1024;
/// Answers that are remembered.
const ANSWERS: usize = 4096;

/// What is asked of the authorizer, as far as it differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: Vec<(String, Vec<String>)>,
    verb: &'static str,
    subresource: &'static str,
}

/// Who may ask a node what. Anonymous requests are refused.
pub(crate) struct Auth {
    client: Client,
    node: String,
    /// Users by their tokens' digest.
    tokens: Mutex<Cache<[u8; 32], Arc<UserInfo>>>,
    answers: Mutex<Cache<Question, bool>>,
    reviews: Semaphore,
}

impl Auth {
    /// Of the node `node`, which asks by `client`.
    pub fn new(client: Client, node: String) -> Auth {
        let (tokens, answers) = (Mutex::new(Cache::new(TOKENS)), Mutex::new(Cache::new(ANSWERS)));
        Auth { client, node, tokens, answers, reviews: Semaphore::new(REVIEWS) }
    }

    /// Lets a request pass, or answers it: 401, 403, or 500 where nobody could say. `certificate` is the user of the client
    /// certificate, if there was one.
    pub async fn admit(
        &self,
        method: &Method,
        headers: &HeaderMap,
        path: &[&str],
        certificate: Option<Arc<UserInfo>>,
    ) -> Result<(), Response<Body>> {
        let user = match certificate {
            Some(user) => Some(user),
            None => self.user(headers).await,
        };
        let Some(user) = user else { return Err(text(StatusCode::UNAUTHORIZED, "Unauthorized")) };
        let wanted = access::attributes(method.as_str(), path);
        for subresource in wanted.subresources {
            match self.may(&user, wanted.verb, subresource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(user = user.name, %error, "cannot find out what a client of the node's API may");
                    return Err(text(StatusCode::INTERNAL_SERVER_ERROR, &wanted.undecided(&user.name, subresource)));
                }
            }
        }
        Err(text(StatusCode::FORBIDDEN, &wanted.forbidden(&user.name)))
    }

    /// The user of a bearer token.
    async fn user(&self, headers: &HeaderMap) -> Option<Arc<UserInfo>> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (_, token) = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))?;
        let token = token.trim();
        if token.is_empty() {
            return None;
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let known = lock(&self.tokens).get(&key, now());
        if known.is_some() {
            return known;
        }
        match self.review("tokenreviews.authentication.k8s.io", access::token_review(token)).await {
            Ok(review) => {
                // Who is not known may be in a moment, so that is not remembered.
                let (user, at) = (Arc::new(access::reviewed(&review)?), now());
                lock(&self.tokens).put(key, user.clone(), at + access::AUTHENTICATED, at);
                Some(user)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot find out whose token a client of the node's API has");
                None
            }
        }
    }

    async fn may(&self, user: &UserInfo, verb: &'static str, subresource: &'static str) -> Result<bool, Status> {
        let question = Question {
            user: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
            verb,
            subresource,
        };
        let known = lock(&self.answers).get(&question, now());
        if let Some(known) = known {
            return Ok(known);
        }
        let review = access::subject_access_review(&self.node, user, verb, subresource);
        let review = self.review("subjectaccessreviews.authorization.k8s.io", review).await?;
        let (allowed, at) = (access::allowed(&review), now());
        let until = at + if allowed { access::ALLOWED } else { access::REFUSED };
        lock(&self.answers).put(question, allowed, until, at);
        Ok(allowed)
    }

    /// Creates a review; the answer is the same with its status.
    async fn review(&self, resource: &str, review: Value) -> Result<Value, Status> {
        let mut request = self.client.request(Verb::Create, resource, "", "");
        request.body = Payload::Object(review);
        let ask = async {
            // It is never closed.
            let _permit = self.reviews.acquire().await;
            match self.client.call(request).await? {
                Reply::Json(value) => Ok(value),
                Reply::Object(object) => Ok(object.value()),
                Reply::List(_) => Err(Status::internal("a review was answered by a list")),
            }
        };
        tokio::time::timeout(DEADLINE, ask).await.unwrap_or_else(|_| Err(Status::timeout("the API does not answer")))
    }
}
