//! A Deployment's status and conditions.

use std::time::Duration;

use copepod_machine::{Action, Plan};
use copepod_model::Time;
use serde_json::Value;

use super::Deployment;
use super::replica_sets::{ReplicaSets, Rs};
use crate::support::conditions::{self, Wanted};
use crate::support::{int, nonzero, status_patch};

const PROGRESSING: &str = "Progressing";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const DONE: &str = "NewReplicaSetAvailable";

/// The conditions in the making.
pub(super) struct Status {
    now: Time,
    conditions: Vec<Value>,
    collisions: Value,
}

impl Status {
    /// Starts from what is there; pausing and resuming stops and restarts the progress clock.
    pub(super) fn begin(d: &Deployment, now: Time) -> Status {
        let conditions = conditions::of(&d.value);
        let mut status = Status { now, conditions, collisions: d.value["status"]["collisionCount"].clone() };
        let reason = status.progress()["reason"].as_str().unwrap_or_default().to_string();
        if d.deadline.is_some() && reason != TIMED_OUT {
            if d.paused && reason != "DeploymentPaused" {
                status.set(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused".into());
            } else if !d.paused && reason == "DeploymentPaused" {
                status.set(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".into());
            }
        }
        status
    }

    /// Another object has the new ReplicaSet's name.
    pub(super) fn collided(&mut self, count: i64) {
        self.collisions = count.into();
    }

    fn progress(&self) -> &Value {
        conditions::find(&self.conditions, PROGRESSING).unwrap_or(&Value::Null)
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        conditions::set(&mut self.conditions, &Wanted { kind, status, reason, message }, true, self.now);
    }

    /// Computes the status and writes it if it differs. `rollout`: whether progress is to be judged.
    pub(super) fn write(mut self, d: &Deployment, sets: &ReplicaSets, rollout: bool, plan: &mut Plan) {
        let sum = |f: fn(&Rs) -> i64| -> i64 { sets.iter().map(f).sum() };
        let available = sum(|rs| rs.available);
        let replicas = sum(|rs| rs.actual);
        let updated = sets.new.as_ref().map_or(0, |rs| rs.actual);
        let ready = sum(|rs| rs.ready);
        if available >= d.replicas - d.unavailable {
            let message = "Deployment has minimum availability.".into();
            self.set("Available", "True", "MinimumReplicasAvailable", message);
        } else {
            let message = "Deployment does not have minimum availability.".into();
            self.set("Available", "False", "MinimumReplicasUnavailable", message);
        }
        let counts = [replicas, updated, ready, available];
        if rollout {
            self.judge(d, sets, counts);
        }
        let fields = [
            ("observedGeneration", nonzero(d.object.meta.generation)),
            ("replicas", nonzero(replicas)),
            ("updatedReplicas", nonzero(updated)),
            ("readyReplicas", nonzero(ready)),
            ("availableReplicas", nonzero(available)),
            ("unavailableReplicas", nonzero((sets.total() - available).max(0))),
            ("terminatingReplicas", sum(|rs| rs.terminating).into()),
            ("collisionCount", self.collisions.clone()),
            ("conditions", self.conditions.clone().into()),
        ];
        if let Some(action) = status_patch(&d.object, &d.value, fields) {
            plan.push(action, "as observed");
        }
        if rollout && let Some(wait) = self.deadline(d, counts) {
            plan.push(Action::After(wait), "the progress deadline");
        }
    }

    fn judge(&mut self, d: &Deployment, sets: &ReplicaSets, counts: [i64; 4]) {
        let failed =
            sets.new.iter().chain(&sets.old).find_map(|rs| conditions::find(rs.conditions()?, "ReplicaFailure"));
        match failed {
            Some(c) => {
                let (status, reason) = (c["status"].as_str().unwrap_or("True"), c["reason"].as_str().unwrap_or(""));
                let message = c["message"].as_str().unwrap_or_default().to_string();
                self.set("ReplicaFailure", status, reason, message);
            }
            None => conditions::remove(&mut self.conditions, "ReplicaFailure"),
        }
        let Some(deadline) = d.deadline else {
            conditions::remove(&mut self.conditions, PROGRESSING);
            return;
        };
        let subject = match &sets.new {
            Some(rs) => format!("ReplicaSet \"{}\"", rs.name),
            None => format!("Deployment \"{}\"", d.object.name()),
        };
        match &sets.new {
            Some(new) if new.object.is_none() => {
                let message = format!("Created new replica set \"{}\"", new.name);
                self.set(PROGRESSING, "True", "NewReplicaSetCreated", message);
            }
            Some(new) if self.progress().is_null() => {
                let message = format!("Found new replica set \"{}\"", new.name);
                self.set(PROGRESSING, "True", "FoundNewReplicaSet", message);
            }
            _ => {}
        }
        let [replicas, updated, ready, available] = counts;
        let current = self.progress();
        if replicas == updated && current["reason"] == DONE {
            return;
        }
        let old = |field: &str| int(&d.value["status"][field]);
        let progressing = updated > old("updatedReplicas")
            || replicas - updated < old("replicas") - old("updatedReplicas")
            || ready > old("readyReplicas")
            || available > old("availableReplicas");
        if [replicas, updated, available] == [d.replicas; 3] {
            self.set(PROGRESSING, "True", DONE, format!("{subject} has successfully progressed."));
        } else if progressing {
            let message = format!("{subject} is progressing.");
            let wanted = Wanted { kind: PROGRESSING, status: "True", reason: "ReplicaSetUpdated", message };
            // Written anew each time, because the deadline counts from the last update.
            conditions::replace(&mut self.conditions, &wanted, true, self.now);
        } else if current["reason"] != DONE
            && current["reason"] != TIMED_OUT
            && updated_at(current).is_some_and(|t| self.now > t + Duration::from_secs(deadline))
        {
            self.set(PROGRESSING, "False", TIMED_OUT, format!("{subject} has timed out progressing."));
        }
    }

    /// How long until the rollout may have timed out.
    fn deadline(&self, d: &Deployment, [replicas, updated, _, available]: [i64; 4]) -> Option<Duration> {
        let current = self.progress();
        let over = current["reason"] == TIMED_OUT || current["reason"] == DONE || d.paused;
        if over || [replicas, updated, available] == [d.replicas; 3] {
            return None;
        }
        let at = updated_at(current)? + Duration::from_secs(d.deadline?) + Duration::from_secs(1);
        Some(at.since(self.now).max(Duration::from_secs(1)))
    }
}

fn updated_at(condition: &Value) -> Option<Time> {
    condition["lastUpdateTime"].as_str().and_then(Time::parse)
}

/// Whether everything asked for is there, by a status.
pub(super) fn complete(d: &Deployment, status: &Value) -> bool {
    ["updatedReplicas", "replicas", "availableReplicas"].iter().all(|f| int(&status[*f]) == d.replicas)
        && int(&status["observedGeneration"]) >= d.object.meta.generation
}
