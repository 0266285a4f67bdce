//! A whole state out of a running store.

use std::sync::Arc;

use copepod_state::Tables;
use tokio::sync::oneshot;

use super::driver::Command;
use super::mirror::Applied;
use super::snapshot::Meta;
use super::{ReadError, Store};

/// The answer to a question for the state.
pub(super) type StateReply = oneshot::Sender<(Arc<Tables>, Applied)>;

impl Store {
    /// Everything that was acknowledged, anywhere, before this call, with what [`super::snapshot::write`] says of it.
    pub async fn state(&self) -> Result<(Meta, Arc<Tables>), ReadError> {
        // What the driver has applied is at least what the read index asks for.
        self.read_index().await?;
        self.applied_state().await
    }

    /// The state as it is applied here, which may be behind.
    pub async fn applied_state(&self) -> Result<(Meta, Arc<Tables>), ReadError> {
        self.health().map_err(ReadError::Unhealthy)?;
        let (reply, state) = oneshot::channel();
        self.send(Command::State(reply)).map_err(|()| ReadError::Stopped)?;
        let (tables, applied) = state.await.map_err(|_| ReadError::Stopped)?;
        Ok((applied.describe(&tables), tables))
    }
}

impl Applied {
    /// What a snapshot of these tables says about itself.
    pub(super) fn describe(&self, tables: &Tables) -> Meta {
        Meta {
            index: self.at.index,
            term: self.at.term,
            members: self.members.clone(),
            revision: tables.revision(),
            objects: tables.len() as u64,
        }
    }
}
