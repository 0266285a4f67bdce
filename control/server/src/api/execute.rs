//! Requests as plain values, whoever sent them: authorize, decide, propose, answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copepod_machine::View as _;
use copepod_model::kinds::Kind;
use copepod_model::selector::FieldSelector;
use copepod_model::{ApiRequest, Object, Status, UserInfo, Verb};
use copepod_registry::{Attributes, Decision, Env, Page, Reply, Write};
use copepod_state::{Outcome, Tables};
use serde_json::{Value, json};

use super::turns::Turn;
use super::{Api, components, discovery, usage};
use crate::store::{ProposeError, ReadError};
use crate::{SystemIds, now};

/// How long a server that is behind waits for a revision that a client has seen elsewhere: kube-apiserver's
/// `blockTimeout`.
const FRESH: Duration = Duration::from_secs(3);
/// Of those who change the same object, who has lost so often takes turns with the others.
const LOSSES: u32 = 4;
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);

/// What a request came to.
pub(super) enum Answer {
    /// A stored object: its bytes are served as they are.
    Object(u16, Arc<Object>, Vec<String>),
    /// Something that is not stored.
    Value(u16, Value, Vec<String>),
    /// A collection.
    List(Page),
}

impl crate::images::Authorizer for Api {
    fn allowed(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        Api::allowed(self, attributes)
    }
}

impl Api {
    /// Whether a user may do something to a resource; the error is upstream's 403.
    pub(super) fn authorize(&self, request: &ApiRequest) -> Result<(), Status> {
        let mut attributes = Attributes::of(request);
        // A list or watch of one name is a request for that name, so that roles with resourceNames allow it.
        let fields = FieldSelector::parse(&request.list.field_selector).ok();
        if request.name.is_empty()
            && matches!(request.verb, Verb::List | Verb::Watch)
            && let Some(name) = fields.as_ref().and_then(|f| f.exact("metadata.name"))
        {
            attributes.name = name;
        }
        self.allowed(&attributes)
    }

    /// Whether something may be done; the error is upstream's 403.
    pub(super) fn allowed(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let answer = self.registry.authorize(&*self.store.snapshot(), attributes);
        if answer.allowed { Ok(()) } else { Err(attributes.forbidden(&answer.reason)) }
    }

    /// Whether a user may use a path that is no resource.
    pub(super) fn authorize_url(&self, user: &UserInfo, verb: &str, path: &str) -> Result<(), Status> {
        self.allowed(&Attributes::of_path(user, verb, path))
    }

    /// The kind that a request is for; 404 when nothing serves it.
    pub(super) fn kind(&self, request: &ApiRequest) -> Result<Arc<Kind>, Status> {
        let kind = self.registry.kinds.served(&request.group, &request.resource, &request.version);
        kind.cloned().ok_or_else(Status::no_such_path)
    }

    /// Does what an authorized request asks, watches apart. With a `fence` what it writes counts in that term only.
    pub(super) async fn execute(&self, request: &ApiRequest, fence: Option<u64>) -> Result<Answer, Status> {
        if (&*request.group, &*request.version, &*request.resource) == ("authentication.k8s.io", "v1", "tokenreviews") {
            return self.review_token(request).map(|v| Answer::Value(201, v, vec![]));
        }
        if discovery::VIRTUAL
            .iter()
            .any(|(g, v, r, ..)| (*g, *v, *r) == (&request.group, &request.version, &request.resource))
        {
            return self.write(request, fence).await;
        }
        if usage::serves(request) {
            return self.usage(request).await.map(|v| Answer::Value(200, v, vec![]));
        }
        self.kind(request)?;
        if components::serves(request) {
            return self.components(request).await;
        }
        if request.subresource.as_deref() == Some("token") {
            return self.token(request).await.map(|v| Answer::Value(201, v, vec![]));
        }
        match request.verb {
            Verb::Get => self.get(request).await,
            Verb::List => self.list(request).await.map(Answer::List),
            Verb::DeleteCollection => self.delete_collection(request, fence).await,
            Verb::Watch => Err(Status::bad_request("a watch has no single answer")),
            _ => self.write(request, fence).await,
        }
    }

    /// A snapshot that has every write that was acknowledged before, by whichever server.
    pub(super) async fn current(&self) -> Result<Arc<Tables>, Status> {
        self.store.read_index().await.map_err(|e| match e {
            ReadError::NotReady => Status::unavailable("no leader answers"),
            other => Status::unavailable(other.to_string()),
        })
    }

    /// The snapshot that a reader asks for by its `resourceVersion`: none is the newest, `0` is any, and a number is one at
    /// least that new, for which a server that is behind waits a moment.
    pub(super) async fn view(&self, asked: Option<&str>) -> Result<Arc<Tables>, Status> {
        let Some(asked) = asked.filter(|a| !a.is_empty()) else { return self.current().await };
        let asked = asked.parse::<u64>().unwrap_or(0);
        let mut view = self.store.snapshot();
        if asked > view.revision() && !self.store.is_sovereign() {
            let deadline = tokio::time::Instant::now() + FRESH;
            view = self.current().await?;
            while asked > view.revision() && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(LOOK).await;
                view = self.store.snapshot();
            }
        }
        if asked > view.revision() {
            return Err(Status::resource_version_too_large(asked, view.revision()));
        }
        Ok(view)
    }

    async fn get(&self, request: &ApiRequest) -> Result<Answer, Status> {
        let view = self.view(request.list.resource_version.as_deref()).await?;
        if request.subresource.as_deref() == Some("scale") {
            return self.registry.get_scale(&*view, request).map(|v| Answer::Value(200, v, vec![]));
        }
        let object = self.registry.get(&*view, request)?;
        Ok(Answer::Object(200, object, vec![]))
    }

    async fn list(&self, request: &ApiRequest) -> Result<Page, Status> {
        copepod_registry::check_list_options(&request.list)?;
        let view = self.list_snapshot(request).await?;
        let page = self.registry.list(&*view, request)?;
        if !page.continue_token.is_empty() {
            self.pages.keep(&view, now());
        }
        Ok(page)
    }

    /// The snapshot that a list is taken from: the newest, that of its `continue` token, or the one it names.
    async fn list_snapshot(&self, request: &ApiRequest) -> Result<Arc<Tables>, Status> {
        let options = &request.list;
        let of_page = !options.continue_token.is_empty();
        let newest = match of_page {
            true => self.store.snapshot(),
            false => self.view(options.resource_version.as_deref()).await?,
        };
        if of_page {
            let revision = copepod_registry::continue_revision(&options.continue_token)?;
            return if revision == newest.revision() { Some(newest) } else { self.pages.at(revision) }.ok_or_else(|| {
                Status::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a new list \
                     without the continue parameter.",
                )
            });
        }
        let asked = options.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        let exact = options.resource_version_match.as_deref() == Some("Exact");
        if exact && asked != newest.revision() {
            return self.pages.at(asked).ok_or_else(|| {
                Status::expired(format!("The resourceVersion for the provided list is too old: {asked}"))
            });
        }
        Ok(newest)
    }

    async fn write(&self, request: &ApiRequest, fence: Option<u64>) -> Result<Answer, Status> {
        let mut attempt = 0;
        let mut turn: Option<Turn> = None;
        let stuck = |turn: &Option<Turn>| turn.iter().for_each(Turn::break_up);
        // A leader of several may have lost its office without knowing: what it proposes then comes to nothing, but what it
        // answers without proposing must be proven first. Who follows, or leads alone, knows before it decides.
        let mut proven = self.store.is_sovereign() || !self.store.is_leader();
        loop {
            attempt += 1;
            let view = match proven {
                true => self.current().await.inspect_err(|_| stuck(&turn))?,
                false => self.store.snapshot(),
            };
            let (decided, evaluations) = {
                let mut ids = SystemIds;
                let mut env = Env::new(&*view, now(), &mut ids);
                (self.registry.decide(&mut env, request), env.evaluations)
            };
            let mut write = match decided {
                Ok(Decision::Write(write)) => write,
                _ if !proven => {
                    proven = true;
                    continue;
                }
                Ok(Decision::Answer(a)) => {
                    self.metrics.evaluated(evaluations);
                    return Ok(Answer::Value(a.code, a.object, a.warnings));
                }
                Err(e) => {
                    self.metrics.evaluated(evaluations);
                    return Err(e);
                }
            };
            let namespace = write.key.namespace.clone();
            let races = write.retry.contended && turn.is_none();
            if races && self.turns.wanted(&namespace) {
                turn = Some(self.turns.take(&namespace).await);
                continue;
            }
            write.txn.fence = fence;
            // The ops are needed for the answer, whose bytes are those that are stored; bodies are shared, not copied.
            match self.propose(write.txn.clone()).await.inspect_err(|_| stuck(&turn))? {
                Outcome::Applied(revisions) => {
                    self.metrics.evaluated(evaluations);
                    let warnings = std::mem::take(&mut write.warnings);
                    return Ok(match write.reply {
                        Reply::Stored => Answer::Object(write.code, self.stored(&write, &revisions), warnings),
                        _ => Answer::Value(write.code, write.response_value(&revisions), warnings),
                    });
                }
                Outcome::Fenced => return Err(Status::unavailable("the leader changed")),
                Outcome::OutOfRange(_) | Outcome::Failed(_) if attempt >= write.retry.attempts => {
                    return Err(write.retry.exhausted());
                }
                Outcome::OutOfRange(_) | Outcome::Failed(_) if races => {
                    turn = Some(self.turns.take(&namespace).await);
                }
                Outcome::OutOfRange(_) | Outcome::Failed(_) if attempt >= LOSSES && turn.is_none() => {
                    turn = Some(self.turns.take(&write.key.to_string().into()).await);
                }
                Outcome::OutOfRange(_) | Outcome::Failed(_) => {}
            }
        }
    }

    /// The object that a write has stored: the cache's own, unless a later write has replaced it already.
    fn stored(&self, write: &Write, revisions: &[u64]) -> Arc<Object> {
        let (key, revision) = (&write.key, write.revision(revisions));
        let newest = self.store.snapshot().get(&key.resource, &key.namespace, &key.name);
        newest
            .filter(|o| o.revision == revision)
            .unwrap_or_else(|| Arc::new(Object::decode(key.clone(), revision, write.response(revisions))))
    }

    pub(super) async fn propose(&self, txn: copepod_state::Txn) -> Result<Outcome, Status> {
        self.store.propose(txn).await.map_err(|e| match e {
            // As upstream passes on what its etcd says: 500 without a reason.
            ProposeError::NoSpace => Status { code: 500, reason: "", message: e.to_string(), details: None },
            ProposeError::Unknown(why) => Status::timeout(format!("the outcome of the write is unknown: {why}")),
            ProposeError::Busy => Status::too_many_requests(e.to_string(), 1),
            other => Status::unavailable(other.to_string()),
        })
    }

    async fn delete_collection(&self, request: &ApiRequest, fence: Option<u64>) -> Result<Answer, Status> {
        let listing = ApiRequest { verb: Verb::List, ..request.clone() };
        let page = self.list(&listing).await?;
        let view = self.store.snapshot();
        for one in self.registry.deletions(&*view, request)? {
            match self.write(&one, fence).await {
                Ok(_) => {}
                Err(e) if e.code == 404 => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Answer::List(page))
    }

    /// Whether the objects that a request is about have values that are stored sealed.
    pub(super) fn is_sealed(&self, request: &ApiRequest) -> bool {
        self.registry.is_sealed(&request.group_resource())
    }

    /// The bytes of an object as its reader sees them: Secrets unsealed.
    pub(super) fn bytes(&self, object: &Object) -> Result<Bytes, Status> {
        if !self.registry.is_sealed(&object.key.resource) {
            return Ok(object.body.clone());
        }
        self.registry.unseal(&*self.store.snapshot(), object).map(|v| v.to_string().into())
    }

    /// Metadata of a list; what is not stored has no version.
    pub(super) fn list_meta(page: &Page) -> Value {
        let mut meta = json!({});
        if page.revision > 0 {
            meta["resourceVersion"] = page.revision.to_string().into();
        }
        if !page.continue_token.is_empty() {
            meta["continue"] = page.continue_token.as_str().into();
        }
        if let Some(n) = page.remaining {
            meta["remainingItemCount"] = n.into();
        }
        meta
    }
}
