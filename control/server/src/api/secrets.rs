//! `POST /copepod.dev/v1/secrets/rotate-key`: another key to seal Secrets with, and all of them sealed with it. Only who may
//! post to every path may post to this one: no default role but `cluster-admin` has it.
//!
//! The key is stored before it seals anything, in the same log as what it seals, so that every server has it that has such a
//! Secret. From then on no other key seals what is stored. What is cut off in between leaves Secrets that older keys have
//! sealed, and these keys; the next rotation seals them anew.

use std::sync::Arc;

use copepod_client::Body;
use copepod_model::{Key, Status};
use copepod_registry::Env;
use copepod_state::{Outcome, Tables, Txn};
use http::{Method, Response};
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Api, respond};
use crate::{SystemIds, now};

/// Where it is.
pub(super) const PATH: &str = "/copepod.dev/v1/secrets/rotate-key";

/// One rotation at a time is enough; what two servers do at the same time is no harm.
static TURN: Semaphore = Semaphore::const_new(1);
/// How many of the Secrets that cannot be read are named.
const NAMED: usize = 100;

/// What a rotation came to.
struct Rotated {
    /// The id of the new key.
    key: u64,
    /// How many objects were sealed anew.
    resealed: usize,
    /// Why others were not: they cannot be read.
    unreadable: Vec<String>,
}

impl Api {
    /// Rotates the key that seals Secrets.
    pub(super) async fn rotate_key(self: &Arc<Self>, method: &Method) -> Result<Response<Body>, Status> {
        if *method != Method::POST {
            return Err(Status::method_not_supported("secrets", method.as_str()));
        }
        let busy = |_| Status::too_many_requests("the key is being rotated; try again later", 10);
        let turn = TURN.try_acquire().map_err(busy)?;
        let api = self.clone();
        // It goes on when the client is gone.
        let rotating = tokio::spawn(async move {
            let _turn = turn;
            let done = api.rotate().await;
            match &done {
                Ok(r) => tracing::info!(key = r.key, resealed = r.resealed, "Secrets are sealed with a new key"),
                Err(e) => tracing::warn!("the rotation of the key was not ended: {}", e.message),
            }
            done
        });
        let Rotated { key, resealed, unreadable } = rotating.await.map_err(Status::internal)??;
        Ok(respond::json(200, &json!({"key": key, "resealed": resealed, "unreadable": unreadable})))
    }

    async fn rotate(&self) -> Result<Rotated, Status> {
        let key = loop {
            let view = self.current().await?;
            let (key, txn) = self.new_key(&view)?;
            if let Outcome::Applied(_) = self.propose(txn).await? {
                break key;
            }
        };
        let mut rotated = Rotated { key, resealed: 0, unreadable: Vec::new() };
        // What is written later is sealed with the new key anyway.
        let view = self.current().await?;
        let places = self.registry.sealed(&*view);
        for place in &places {
            self.reseal(place, &mut rotated).await?;
        }
        Ok(rotated)
    }

    /// Seals one object anew, if another key has sealed it.
    async fn reseal(&self, place: &Key, rotated: &mut Rotated) -> Result<(), Status> {
        let mut view = self.store.snapshot();
        loop {
            let txn = self.resealed(&view, place);
            match txn {
                Ok(None) => return Ok(()),
                Ok(Some(txn)) => match self.propose(txn).await? {
                    Outcome::Applied(_) => {
                        rotated.resealed += 1;
                        return Ok(());
                    }
                    // Somebody has changed it meanwhile.
                    _ => view = self.current().await?,
                },
                Err(e) => {
                    if rotated.unreadable.len() < NAMED {
                        rotated.unreadable.push(e.message);
                    }
                    return Ok(());
                }
            }
        }
    }

    fn new_key(&self, view: &Tables) -> Result<(u64, Txn), Status> {
        let mut ids = SystemIds;
        self.registry.add_seal_key(&mut Env::new(view, now(), &mut ids))
    }

    fn resealed(&self, view: &Tables, place: &Key) -> Result<Option<Txn>, Status> {
        let Some(object) = view.at(place) else { return Ok(None) };
        let mut ids = SystemIds;
        self.registry.reseal(&mut Env::new(view, now(), &mut ids), object)
    }
}
