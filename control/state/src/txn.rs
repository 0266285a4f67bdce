//! The one thing that the log carries: a transaction.

use bytes::Bytes;
use copepod_model::Key;

/// Puts and deletes that happen together or not at all, with what must hold for them to happen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Txn {
    /// Only in this term: what a deposed leader's controllers still send fails on it.
    pub fence: Option<u64>,
    /// Preconditions, all of which must hold.
    pub require: Vec<Require>,
    /// Changes, each of which gets a revision of its own, in this order.
    pub ops: Vec<Op>,
}

/// A precondition: the transaction's read set.
#[derive(Clone, Debug, PartialEq)]
pub enum Require {
    /// The key has no value.
    Absent(Key),
    /// The key's value was last changed at this revision.
    At(Key, u64),
    /// The key has a value, at whatever revision.
    Exists(Key),
    /// No key of this resource (in this namespace, if one is given) has a value.
    PrefixEmpty {
        /// GroupResource.
        resource: String,
        /// Namespace, or all of them.
        namespace: Option<String>,
    },
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Stores a value.
    Put {
        /// Where.
        key: Key,
        /// What. Made by `copepod_model::object::encode` when `revised` is set.
        body: Bytes,
        /// Whether apply splices its revision into the body (`copepod_model::object::with_revision`).
        revised: bool,
    },
    /// Removes a value; it is not an error if there is none (then it is no change and gets no revision).
    Delete {
        /// Which.
        key: Key,
    },
    /// Adds to a counter stored as decimal text (0 when absent); the transaction fails if the sum leaves `0..=max`.
    /// Commutes with others of its kind, so that racing clients do not conflict.
    CheckedAdd {
        /// Which counter.
        key: Key,
        /// How much.
        delta: i64,
        /// The greatest sum allowed.
        max: i64,
    },
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied. The revision of each op, in order; an op that changed nothing has the revision before it.
    Applied(Vec<u64>),
    /// The precondition with this index in `require` did not hold; nothing changed.
    Failed(usize),
    /// The op with this index is a `CheckedAdd` out of its range; nothing changed.
    OutOfRange(usize),
    /// The fence did not match; nothing changed.
    Fenced,
}
