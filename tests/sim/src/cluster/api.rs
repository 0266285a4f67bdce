//! A server's API without transport: the registry's decisions on what the server shows, proposed to the group, by the
//! rules of `control/server/src/api/execute.rs`; and the way of a client to it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use copepod_model::kinds::Kinds;
use copepod_model::{ApiRequest, Key, Status, Time, UserInfo, Verb};
use copepod_registry::{Config, Decision, Env, Registry, Sealer};
use copepod_state::{Outcome, Tables};

use crate::chance::Chance;
use crate::counts::Event;
use crate::exec::oneshot;
use crate::faults::{Fault, struck};
use crate::group::net::Place;
use crate::group::process::ProposeError;
use crate::group::{Group, Origin};
use crate::shape::Shape;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API of all servers.
pub struct Api {
    /// The servers.
    pub group: Rc<Group>,
    /// What is run.
    pub shape: Shape,
    registry: Registry,
    chance: RefCell<Chance>,
    /// One request in so many is answered 429; 0 for none.
    pub busy: Cell<u64>,
}

/// Who sends a request, and with what in mind.
#[derive(Clone)]
pub struct Sender {
    /// Which component.
    pub actor: &'static str,
    /// The term in which it counts, if in one only.
    pub fence: Option<u64>,
    /// The term in which it was decided.
    pub term: Option<u64>,
    /// What was seen when it was decided.
    pub view: Option<Tables>,
    /// When it was decided by control loops, by a clock that nobody sets.
    pub decided: Option<Time>,
    /// Whether its process still runs.
    pub lives: Option<Rc<Cell<bool>>>,
}

impl Sender {
    /// Somebody outside of the control plane.
    pub fn outside(actor: &'static str) -> Sender {
        Sender { actor, fence: None, term: None, view: None, decided: None, lives: None }
    }
}

/// A request for a resource in GroupResource form.
pub fn request(user: &Arc<UserInfo>, verb: Verb, resource: &str, namespace: &str, name: &str) -> ApiRequest {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    let mut r = ApiRequest::new(user.clone(), verb, group, "v1", plural);
    r.namespace = namespace.into();
    r.name = name.into();
    r.field_manager = user.name.clone();
    r
}

/// What a refusal is called when it does not matter: the object is gone or has moved on, or nobody is there to answer.
pub fn benign(status: &Status) -> bool {
    matches!(status.code, 404 | 409) || absent(status)
}

/// Nobody answered, or nobody knows: it is tried again.
pub fn absent(status: &Status) -> bool {
    matches!(status.code, 429 | 503 | 504)
}

impl Api {
    /// The API of these servers.
    pub fn new(group: Rc<Group>, shape: Shape, chance: Chance) -> Rc<Api> {
        let registry = Registry::new(Arc::new(Kinds::builtin()), Config::new(Sealer::new(&[7; 32])));
        Rc::new(Api { group, shape, registry, chance: RefCell::new(chance), busy: Cell::new(0) })
    }

    /// The kinds that are served.
    pub fn kinds(&self) -> Arc<Kinds> {
        self.registry.kinds.clone()
    }

    /// A write at a server, as its API does it: what was written, if anything had to be.
    pub async fn write(&self, server: u64, sender: &Sender, request: &ApiRequest) -> Result<Option<Key>, Status> {
        let done = self.answer(server, sender, request).await;
        match &done {
            Err(e) if e.code == 409 => self.group.counts.add(Event::Conflict),
            Err(e) if e.code == 403 && e.message.contains("exceeded quota") => {
                self.group.counts.add(Event::OverQuota);
            }
            _ => {}
        }
        done
    }

    async fn answer(&self, server: u64, sender: &Sender, request: &ApiRequest) -> Result<Option<Key>, Status> {
        let unavailable = || Status::unavailable("no leader answers");
        let (leads, sovereign) =
            self.group.ask(server, |p| (p.role.leader == Some(server), p.role.sovereign)).ok_or_else(unavailable)?;
        let mut proven = sovereign || !leads;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let view = match proven {
                true => self.group.read_index(server).await,
                false => self.group.snapshot(server),
            };
            let view = view.ok_or_else(unavailable)?;
            let decided = {
                let mut ids = self.chance.borrow_mut();
                let mut env = Env::new(&view, self.group.clock(server), &mut *ids);
                self.registry.decide(&mut env, request)
            };
            let mut write = match decided {
                Ok(Decision::Write(write)) => write,
                _ if !proven => {
                    proven = true;
                    continue;
                }
                Ok(Decision::Answer(_)) => return Ok(None),
                Err(e) => return Err(e),
            };
            write.txn.fence = sender.fence;
            let Sender { actor, term, view, decided, lives, .. } = sender.clone();
            let origin = Origin { actor, term, view, decided, lives };
            match self.group.propose(server, origin, &write.txn).await {
                Ok((Outcome::Applied(_), _)) => return Ok(Some(write.key)),
                Ok((Outcome::Fenced, _)) => return Err(Status::unavailable("the leader changed")),
                Ok(_) if attempt >= write.retry.attempts => return Err(write.retry.exhausted()),
                Ok(_) => {}
                Err((ProposeError::Unknown, _)) => return Err(Status::timeout("the outcome of the write is unknown")),
                Err((ProposeError::NoSpace, _)) => return Err(Status::too_many_requests("the space quota", 1)),
                Err((ProposeError::NotLeader, _)) => return Err(unavailable()),
            }
        }
    }

    /// A client's way to a server's API and back. Where the answer is lost the outcome is unknown: 504.
    pub async fn call(
        self: &Rc<Self>,
        from: Place,
        server: u64,
        sender: Sender,
        request: ApiRequest,
    ) -> Result<(), Status> {
        self.ask(from, server, move |api| async move {
            if api.busy.get() > 0 && api.chance.borrow_mut().one_in(api.busy.get()) {
                struck(&api.group, Fault::Busy);
                api.group.counts.add(Event::TooMany);
                return Err(Status::too_many_requests("too many requests", 1));
            }
            api.write(server, &sender, &request).await.map(drop)
        })
        .await
    }

    /// A proven read over the same way.
    pub async fn read(self: &Rc<Self>, from: Place, server: u64) -> Result<Tables, Status> {
        self.ask(from, server, move |api| async move {
            api.group.read_index(server).await.ok_or_else(|| Status::unavailable("no leader answers"))
        })
        .await
    }

    async fn ask<T: 'static, F: Future<Output = Result<T, Status>> + 'static>(
        self: &Rc<Self>,
        from: Place,
        server: u64,
        f: impl FnOnce(Rc<Api>) -> F,
    ) -> Result<T, Status> {
        let group = &self.group;
        let there = group.net.borrow_mut().arrivals(from, server).into_iter().next();
        let Some(there) = there else {
            group.exec.sleep(Duration::from_millis(200)).await;
            return Err(Status::unavailable("not reached"));
        };
        group.exec.sleep(there).await;
        let life = group.servers.borrow().get(&server).filter(|s| s.process.is_some()).map(|s| s.life);
        let Some(life) = life else { return Err(Status::unavailable("nobody listens")) };
        let (reply, answer) = oneshot();
        let (api, work) = (self.clone(), f(self.clone()));
        group.exec.spawn(Group::owner(server, life), async move {
            let done = work.await;
            let back = api.group.net.borrow_mut().arrivals(server, from).into_iter().next();
            if let Some(back) = back {
                api.group.exec.sleep(back).await;
                reply.send(done);
            }
        });
        group.exec.timeout(PATIENCE, answer).await.flatten().unwrap_or_else(|| {
            group.counts.add(Event::Unknown);
            Err(Status::timeout("the answer was lost"))
        })
    }
}
