//! What is done to a store's folder while no server has it: making one from a snapshot, verifying one, and letting one
//! member of a group go on alone.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use copepod_consensus::{
    ConfState, Entry, EntryType, Error, HardState, Machine, Options, Position, Restored, SnapshotMetadata,
};
use copepod_model::Key;
use copepod_state::{Tables, apply, codec};
use redb::Durability;

use super::error::{Fault, guarded};
use super::folder::{Folder, LOG, MIRROR};
use super::guard::Guard;
use super::load::{Databases, cannot_open};
use super::log::{LogContents, LogFile};
use super::mirror::{Applied, Mirror};
use super::overlay::Overlays;
use super::snapshot::Meta;
use super::{Backends, Files, OpenError, meta as about};
use crate::members::RESOURCE as SERVERS;

/// What is added to the revision of a state that goes on elsewhere than where it was: more than any cluster commits
/// between a backup and its loss (`etcdutl snapshot restore --bump-revision` has the same example). So no revision that
/// the lost cluster gave out is given out again for something else, and watches from such a one get 410.
pub const BUMP: u64 = 1_000_000_000;

/// The member id of a cluster's first server.
const FIRST: u64 = 1;

/// Whether there is a whole store in `dir`. One whose making was cut off is none.
pub fn is_store(dir: &Path) -> bool {
    Folder::is_ready(dir)
}

/// Makes a fresh folder from a snapshot: the log of `member` begins at the snapshot's index and term in a group of
/// `members`, and the objects are those of `tables`. The folder must be empty, or not there, or one in which this was
/// cut off. A crash leaves one that no store opens and that this begins anew.
pub fn restore(dir: &Path, member: u64, members: ConfState, meta: &Meta, tables: &Tables) -> Result<(), OpenError> {
    restore_on(dir, &Files::new(dir), member, members, meta, tables)
}

/// The same for the first and only member of a new cluster, in which no server of the old one is written down.
/// `tables` may have a higher revision than `meta` says.
pub fn restore_alone(dir: &Path, meta: &Meta, tables: &mut Tables) -> Result<(), OpenError> {
    restore_alone_on(dir, &Files::new(dir), meta, tables)
}

pub(super) fn restore_alone_on(
    dir: &Path,
    backends: &dyn Backends,
    meta: &Meta,
    tables: &mut Tables,
) -> Result<(), OpenError> {
    forget_servers(tables);
    let members = ConfState { voters: vec![FIRST], ..ConfState::default() };
    restore_on(dir, backends, FIRST, members, meta, tables)
}

/// Takes out who the servers were and gives their keys: each writes itself down when it starts. The count of the ids that
/// were given out stays, so that none comes again.
fn forget_servers(tables: &mut Tables) -> Vec<Key> {
    let keys: Vec<Key> = tables.scan(SERVERS, None).map(|o| o.key.clone()).collect();
    keys.iter().for_each(|key| drop(tables.remove(key)));
    keys
}

pub(super) fn restore_on(
    dir: &Path,
    backends: &dyn Backends,
    member: u64,
    members: ConfState,
    meta: &Meta,
    tables: &Tables,
) -> Result<(), OpenError> {
    let folder = Folder::restore(dir, backends)?;
    let applied = Applied { at: Position { index: meta.index, term: meta.term }, members };
    let backend = open(dir, backends, MIRROR)?;
    guarded(|| Mirror::create(backend, member, tables, &applied)).map_err(|f: Fault| f.at(dir, MIRROR))?;
    let backend = open(dir, backends, LOG)?;
    guarded(|| -> Result<(), Fault> {
        let (mut log, _) = LogFile::open(backend, member, Durability::Immediate)?;
        let state = HardState { term: meta.term, commit: meta.index, ..HardState::default() };
        log.persist(&state, &[], Some(&applied.metadata()))?;
        Ok(())
    })
    .map_err(|f| f.at(dir, LOG))?;
    folder.ready()
}

/// A folder that was found whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The storage format.
    pub format: u32,
    /// Whose it is.
    pub member: u64,
    /// The members once what the folder knows to be committed is applied: as a start takes them to be. Changes behind that,
    /// which may have come to be all the same, are not in it.
    pub members: ConfState,
    /// The revision and the number of objects once the log is replayed.
    pub revision: u64,
    /// How many objects there are then.
    pub objects: u64,
    /// The last checkpoint's index.
    pub checkpoint: u64,
    /// The log's last index.
    pub last: u64,
}

/// Reads everything in a folder and checks it: every page's and every value's checksum, and whatever a start checks.
/// Writes nothing, not even what a start would repair; a folder that a server has is `Locked`.
pub fn verify(dir: &Path) -> Result<Verified, OpenError> {
    let folder = Folder::look(dir)?;
    folder.must_be_ready()?;
    let overlays = Overlays::new(dir);
    for name in [LOG, MIRROR] {
        if overlays.exists(name).map_err(cannot_open(dir, name))? {
            let backend = open(dir, &overlays, name)?;
            guarded(|| pages(backend)).map_err(|f: Fault| f.at(dir, name))?;
        }
    }
    look_into(&folder)
}

/// What is in a folder: as [`verify`], as far as a start looks.
pub fn inspect(dir: &Path) -> Result<Verified, OpenError> {
    look_into(&Folder::look(dir)?)
}

fn look_into(folder: &Folder) -> Result<Verified, OpenError> {
    let dir = &folder.dir;
    let format = folder.must_be_ready()?;
    let mut found = load(dir, &Overlays::new(dir))?;
    let (checkpoint, last) = (found.applied.at.index, found.last().index);
    found.replay(dir)?;
    let (revision, objects) = (found.tables.revision(), found.tables.len() as u64);
    Ok(Verified { format, member: found.member, members: found.members, revision, objects, checkpoint, last })
}

/// Checks a database's pages, whose sums redb looks at only when it is asked to.
fn pages(backend: Guard) -> Result<(), Fault> {
    let mut db = backend.database()?;
    if db.check_integrity()? { Ok(()) } else { Err(Fault::Damaged("its pages are not what they should be".into())) }
}

/// Lets the member whose folder this is go on alone: everything in its log counts as committed, the members are
/// forgotten (what is stored of them, too), and `bump` is added to the revision. What others had acknowledged and this one never got is lost. When it
/// is cut off it can be done again.
pub fn recover(dir: &Path, bump: u64) -> Result<Verified, OpenError> {
    recover_on(dir, &Files::new(dir), bump)
}

pub(super) fn recover_on(dir: &Path, backends: &dyn Backends, bump: u64) -> Result<Verified, OpenError> {
    let folder = Folder::existing(dir)?;
    let format = folder.must_be_ready()?;
    let mut found = load(dir, backends)?;
    let (checkpoint, last) = (found.applied.at.index, found.last());
    let mut dirty = found.replay(dir)?;
    let Found { member, contents, mut log, mirror, mut tables, members: before, .. } = found;
    dirty.extend(forget_servers(&mut tables));
    let revision = tables.revision().saturating_add(bump);
    tables.set_revision(revision);
    let members = ConfState { voters: vec![member], ..ConfState::default() };
    let applied = Applied { at: last, members };
    let state = HardState { commit: last.index, ..contents.hard_state };
    let persist = |log: &mut LogFile, cut: Option<&SnapshotMetadata>| {
        guarded(|| log.persist(&state, &[], cut).map_err(Fault::from)).map_err(|f| f.at(dir, LOG))
    };
    // In this order, since objects must not be ahead of the commit index. Each of the three is a folder that opens.
    persist(&mut log, None)?;
    guarded(|| mirror.write(&tables, &dirty, &applied).map_err(Fault::from)).map_err(|f| f.at(dir, MIRROR))?;
    persist(&mut log, Some(&applied.metadata()))?;
    while log.has_garbage() {
        persist(&mut log, None)?;
    }
    let objects = tables.len() as u64;
    Ok(Verified { format, member, members: before, revision, objects, checkpoint, last: last.index })
}

/// What a start finds.
struct Found {
    member: u64,
    contents: LogContents,
    log: LogFile,
    mirror: Mirror,
    tables: Tables,
    applied: Applied,
    /// See [`Verified::members`].
    members: ConfState,
}

/// Opens both databases and checks what a start checks.
fn load(dir: &Path, backends: &dyn Backends) -> Result<Found, OpenError> {
    let damaged = |what: String| OpenError::Damaged { dir: dir.to_path_buf(), what };
    if !backends.exists(LOG).map_err(cannot_open(dir, LOG))? {
        return Err(damaged(format!("{LOG} is missing")));
    }
    let backend = open(dir, backends, LOG)?;
    let member = guarded(|| owner(backend)).map_err(|f: Fault| f.at(dir, LOG))?;
    let found = Databases::open(dir, backends, member, Durability::Immediate, Arc::default())?;
    let Databases { log, contents, mirror, tables, applied } = found;
    let restored = contents.clone().restored(&applied);
    let members = members(member, restored).map_err(|e| damaged(format!("{LOG}: {e}")))?;
    Ok(Found { member, contents, log, mirror, tables, applied, members })
}

/// The members behind the last change that is known to be committed, found as a start finds them.
fn members(member: u64, restored: Restored) -> Result<ConfState, Error> {
    let mut machine = Machine::new(&Options::new(member), restored)?;
    while let Some(work) = machine.work() {
        let done = machine.persisted(work)?;
        if let Some(last) = done.committed.last() {
            machine.applied(last.at.index);
        }
    }
    Ok(machine.members().clone())
}

impl Found {
    /// The end of the log.
    fn last(&self) -> Position {
        let truncated = Position { index: self.contents.truncated.index, term: self.contents.truncated.term };
        self.contents.entries.last().map_or(truncated, |e| Position { index: e.index, term: e.term })
    }

    /// Applies what the objects do not have yet, all of it; gives the keys that changed.
    fn replay(&mut self, dir: &Path) -> Result<BTreeSet<Key>, OpenError> {
        let mut dirty = BTreeSet::new();
        for entry in self.contents.entries.iter().filter(|e| e.index > self.applied.at.index) {
            take(entry, &mut self.tables, &mut dirty).map_err(|f| f.at(dir, LOG))?;
        }
        Ok(dirty)
    }
}

fn take(entry: &Entry, tables: &mut Tables, dirty: &mut BTreeSet<Key>) -> Result<(), Fault> {
    // A new leader's first entry is empty; what changes the members changes no object.
    if entry.get_entry_type() != EntryType::EntryNormal || entry.data.is_empty() {
        return Ok(());
    }
    let txn = codec::decode(&entry.data).map_err(|e| Fault::Damaged(format!("log entry {}: {e}", entry.index)))?;
    let (_, changes) = apply(tables, entry.term, &txn);
    dirty.extend(changes.into_iter().map(|c| c.key));
    Ok(())
}

/// The member whose database this is.
fn owner(backend: Guard) -> Result<u64, Fault> {
    let db = backend.database()?;
    about::member(&db)
}

fn open(dir: &Path, backends: &dyn Backends, name: &str) -> Result<Guard, OpenError> {
    backends.open(name).and_then(|b| Guard::open(b, Arc::default())).map_err(cannot_open(dir, name))
}
