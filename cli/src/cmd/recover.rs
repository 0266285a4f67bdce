//! `copepod recover`: a group of servers that has lost its majority goes on with one of those that are left.

use std::path::PathBuf;

use clap::Args;
use copepod_server::store::offline::{self, BUMP};

use super::{Error, default_data_dir};
use crate::say::say;

/// Let one server that survived go on alone, when most servers of its group are lost for good.
///
/// Stop it first. It forgets the other servers: everything in its own log counts, and what only others had is lost. The
/// others must never start again with the folders that they have; new ones can join it afterwards.
#[derive(Debug, Args)]
pub struct Recover {
    /// The data folder of the server that survived. Default: the XDG data folder.
    #[arg(long, env = "COPEPOD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Really do it.
    #[arg(long)]
    yes: bool,
    /// What is added to the revision, so that no revision that the others gave out means something else now.
    #[arg(long, value_name = "N", default_value_t = BUMP)]
    bump_revision: u64,
}

impl Recover {
    /// Does it, or says what it would do.
    pub fn run(self) -> Result<(), Error> {
        let dir = self.data_dir.unwrap_or_else(default_data_dir);
        let state = dir.join("server/state");
        let found = offline::inspect(&state)?;
        let others: Vec<u64> = found.members.voters.iter().copied().filter(|id| *id != found.member).collect();
        eprintln!(
            "{}: member {}, {} objects, revision {}, log up to index {}; the other members are {others:?}",
            state.display(),
            found.member,
            found.objects,
            found.revision,
            found.last
        );
        eprintln!(
            "WARNING: this server forgets the others. What they had acknowledged and it never got is lost. Of the servers \
             that are left take the one with the highest log index. Remove the data folders of all others before any of them \
             starts again, or there are two clusters that both take themselves for this one."
        );
        if !self.yes {
            return Err("nothing was changed; say --yes to do it".into());
        }
        let done = offline::recover(&state, self.bump_revision)?;
        say(format!(
            "{}: member {} is alone; {} objects, revision {}\n",
            state.display(),
            done.member,
            done.objects,
            done.revision
        ))
    }
}
