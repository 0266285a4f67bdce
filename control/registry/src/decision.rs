//! What a decision says.

use bytes::Bytes;
use copepod_model::{Key, Status, object};
use copepod_state::{Op, Txn};
use serde_json::Value;

/// The decision of a request.
#[derive(Debug)]
pub enum Decision {
    /// Propose the transaction, then answer.
    Write(Box<Write>),
    /// Nothing to write: a dry run, or a change that changes nothing.
    Answer(Answer),
}

/// An answer that is already complete.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status code.
    pub code: u16,
    /// The body.
    pub object: Value,
    /// Texts of `Warning` headers.
    pub warnings: Vec<String>,
}

/// A transaction and what to answer once it is applied.
#[derive(Debug)]
pub struct Write {
    /// What to propose.
    pub txn: Txn,
    /// The object that the request is about.
    pub key: Key,
    /// Which op's revision is the object's.
    pub op_index: usize,
    /// What to answer; `metadata.resourceVersion` is not yet in it when `reply` says so.
    pub object: Value,
    /// How `object` becomes the answer.
    pub reply: Reply,
    /// HTTP status code.
    pub code: u16,
    /// Texts of `Warning` headers.
    pub warnings: Vec<String>,
    /// What to do when a precondition fails.
    pub retry: Retry,
}

/// How a [`Write`] is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `object` is what the op stores: its body with the revision spliced in is the answer as it is.
    Stored,
    /// `object` with the revision as its `metadata.resourceVersion`.
    Revised,
    /// `object` as it is.
    Fixed,
}

/// Every decision may be made again on a newer view when `Outcome::Failed` says that it read something stale: then it
/// finds the right error itself, such as `AlreadyExists` or a stale resourceVersion.
#[derive(Clone, Debug)]
pub struct Retry {
    /// How often to decide in all. Each time that it is of no use another writer has written, so that all of many come to an end:
    /// upstream's `GuaranteedUpdate` has no bound.
    pub attempts: u32,
    /// Whether many writers of the namespace are expected to want the same, of whom one wins at a time: then they had better
    /// take turns.
    pub contended: bool,
    /// The resource, for the error after that.
    resource: std::sync::Arc<str>,
    /// The name, likewise.
    name: std::sync::Arc<str>,
}

impl Retry {
    pub(crate) fn of(key: &Key, contended: bool) -> Retry {
        Retry { attempts: 4096, contended, resource: key.resource.clone(), name: key.name.clone() }
    }
    /// What to answer when every attempt lost a race.
    pub fn exhausted(&self) -> Status {
        Status::stale(&self.resource, &self.name)
    }
}

impl Write {
    /// The revision of the object, from those of the ops.
    pub fn revision(&self, revisions: &[u64]) -> u64 {
        revisions.get(self.op_index).copied().unwrap_or_default()
    }

    /// The JSON to answer, given the revision of each op.
    pub fn response(&self, revisions: &[u64]) -> Bytes {
        let revision = self.revision(revisions);
        match (self.reply, self.txn.ops.get(self.op_index)) {
            (Reply::Stored, Some(Op::Put { body, .. })) => object::with_revision(body, revision),
            (Reply::Fixed, _) => self.object.to_string().into(),
            _ => object::with_revision(&object::encode(&self.object), revision),
        }
    }

    /// The same as a value, for Tables and protobuf.
    pub fn response_value(mut self, revisions: &[u64]) -> Value {
        if self.reply != Reply::Fixed {
            let revision = self.revision(revisions);
            self.object["metadata"]["resourceVersion"] = revision.to_string().into();
        }
        self.object
    }
}
