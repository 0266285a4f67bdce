//! A store's folder made from a whole state, without opening the store.

use std::path::Path;
use std::sync::Arc;

use copepod_consensus::{ConfState, HardState, Position, SnapshotMetadata};
use copepod_state::Tables;
use redb::Durability;

use super::backend::{Backends, Counted, Files};
use super::error::{Fault, OpenError, guarded};
use super::folder::{Folder, LOG, MIRROR};
use super::log::LogFile;
use super::mirror::{Applied, Mirror};
use super::snapshot::Meta;

/// Whether there is a whole store in `dir`. One whose making was cut off is none.
pub fn is_store(dir: &Path) -> bool {
    Folder::is_ready(dir)
}

/// Makes the folder of member `id` in a group of `members`: [`super::Store::open`] goes on behind `meta`'s place in the log.
/// A folder that holds a store already is refused; one whose making was cut off is made anew.
pub fn restore(dir: &Path, id: u64, members: ConfState, meta: &Meta, tables: &Tables) -> Result<(), OpenError> {
    if is_store(dir) {
        return Err(OpenError::Damaged { dir: dir.into(), what: "there is a store already".into() });
    }
    let files = Files::new(dir);
    let folder = Folder::open(dir, &files)?;
    let open = |name: &str| {
        let what = format!("cannot open {}", dir.join(name).display());
        files.open(name).map(|b| Counted::new(b, Arc::default())).map_err(|source| OpenError::Io { what, source })
    };
    let (log, mirror) = (open(LOG)?, open(MIRROR)?);
    let metadata = SnapshotMetadata { conf_state: Some(members.clone()), index: meta.index, term: meta.term };
    let applied = Applied { at: Position { index: meta.index, term: meta.term }, members };
    guarded(|| {
        let (mirror, ..) = Mirror::open(mirror, id, &applied.members)?;
        mirror.replace(tables, &applied).map_err(Fault::from)
    })
    .map_err(|fault: Fault| fault.at(dir, MIRROR))?;
    guarded(|| {
        let (mut log, _) = LogFile::open(log, id, Durability::Immediate)?;
        let state = HardState { term: meta.term, vote: 0, commit: meta.index };
        log.finish_install(&state, &metadata).map_err(Fault::from)
    })
    .map_err(|fault: Fault| fault.at(dir, LOG))?;
    folder.ready()
}
