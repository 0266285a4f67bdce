//! Known bugs, put in one at a time: a run with one must fail by the invariant that is there for it, or the simulation
//! sees nothing. They exist here only.

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A member promises what its disk does not have yet.
    AcknowledgeBeforeSync,
    /// After a restart the last entries are applied once more.
    ApplyTwice,
    /// A leader answers reads by itself, without asking whether it still leads.
    StaleRead,
    /// A watch goes on over a snapshot as if nothing had happened meanwhile.
    WatchSkips,
    /// What a leader's controllers write carries no fence, and they do not stop when it is deposed.
    Unfenced,
    /// Who scales a ReplicaSet writes into its status how many pods it has, too.
    TwoWriters,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 6] =
        [Bug::AcknowledgeBeforeSync, Bug::ApplyTwice, Bug::StaleRead, Bug::WatchSkips, Bug::Unfenced, Bug::TwoWriters];

    /// The bug of a name, as `{:?}` gives it.
    pub fn named(name: &str) -> Option<Bug> {
        Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
    }

    /// The invariants that may find it first.
    pub fn found_by(self) -> &'static [&'static str] {
        match self {
            Bug::AcknowledgeBeforeSync => &["raft", "acknowledged"],
            Bug::ApplyTwice => &["raft"],
            Bug::StaleRead => &["linearizable"],
            Bug::WatchSkips => &["list_watch"],
            Bug::Unfenced => &["fenced"],
            Bug::TwoWriters => &["one_writer"],
        }
    }
}
