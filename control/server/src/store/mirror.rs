//! `objects.redb`: the objects as of an applied index, behind the log by as much as one checkpoint.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use bytes::Bytes;
use copepod_consensus::record::seal;
use copepod_consensus::{ConfState, Position, Snapshot, SnapshotMetadata};
use copepod_model::{Key, Object};
use copepod_state::{Tables, envelope};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::error::Fault;
use super::guard::Guard;
use super::meta;

const OBJECTS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("objects");
/// A [`Snapshot`]: applied index and term, the members there, and as its data the revision and how many objects there
/// are (redb would not notice that a damaged page hides some).
const APPLIED: &str = "applied";

/// The open mirror.
pub(super) struct Mirror {
    db: Database,
    id: u64,
}

/// Up to where a state goes, and who the members are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Applied {
    pub(super) at: Position,
    pub(super) members: ConfState,
}

impl Applied {
    pub(super) fn metadata(&self) -> SnapshotMetadata {
        SnapshotMetadata { conf_state: Some(self.members.clone()), index: self.at.index, term: self.at.term }
    }

    fn record(&self, tables: &Tables) -> Vec<u8> {
        let data = [tables.revision(), tables.len() as u64].map(u64::to_le_bytes).concat();
        seal(0, &Snapshot { data, metadata: Some(self.metadata()) })
    }
}

impl Mirror {
    /// Opens the mirror of member `id` and loads it. A new one begins empty, before the first entry.
    pub(super) fn open(backend: Guard, id: u64, members: &ConfState) -> Result<(Mirror, Tables, Applied), Fault> {
        let db = backend.database()?;
        if !meta::is_ready(&db)? {
            fill(&db, id, &Tables::default(), &Applied { members: members.clone(), ..Applied::default() })?;
        }
        let (tables, applied) = load(&db, id)?;
        Ok((Mirror { db, id }, tables, applied))
    }

    /// Makes a new one that holds `tables`.
    pub(super) fn create(backend: Guard, id: u64, tables: &Tables, applied: &Applied) -> Result<Mirror, Fault> {
        let db = backend.database()?;
        fill(&db, id, tables, applied)?;
        Ok(Mirror { db, id })
    }

    /// Opens one whose contents are known to be those of `applied`, without loading them.
    pub(super) fn reopen(backend: Guard, id: u64, applied: &Applied) -> Result<Mirror, Fault> {
        let db = backend.database()?;
        let txn = db.begin_read()?;
        let table = txn.open_table(meta::TABLE)?;
        meta::check(&table, id)?;
        let snapshot: Snapshot = meta::sealed(&table, APPLIED)?;
        if snapshot.metadata != Some(applied.metadata()) {
            return Err(Fault::Damaged(format!("it is not what was written at index {}", applied.at.index)));
        }
        drop((table, txn));
        Ok(Mirror { db, id })
    }

    /// How many bytes of its file are in use. Reads all of it.
    pub(super) fn used_bytes(&self) -> Result<u64, Fault> {
        let txn = self.db.begin_write()?;
        let stats = txn.stats()?;
        txn.abort()?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    }

    /// Brings the mirror to `tables`, of which `dirty` changed since the last time: all of it or nothing.
    pub(super) fn write(&self, tables: &Tables, dirty: &BTreeSet<Key>, applied: &Applied) -> Result<(), redb::Error> {
        let mut txn = self.db.begin_write()?;
        txn.set_quick_repair(true);
        {
            let mut table = txn.open_table(OBJECTS)?;
            for key in dirty {
                let row = (&*key.resource, &*key.namespace, &*key.name);
                match tables.at(key) {
                    Some(o) => table.insert(row, envelope::encode(key, o.revision, &o.body).as_slice())?,
                    None => table.remove(row)?,
                };
            }
            let mut table = txn.open_table(meta::TABLE)?;
            table.insert(APPLIED, applied.record(tables).as_slice())?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Puts `tables` in the place of everything: all of it or nothing.
    pub(super) fn replace(&self, tables: &Tables, applied: &Applied) -> Result<(), Fault> {
        fill(&self.db, self.id, tables, applied)
    }
}

/// Writes everything into a database, in the place of what is there.
fn fill(db: &Database, id: u64, tables: &Tables, applied: &Applied) -> Result<(), Fault> {
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    txn.delete_table(OBJECTS)?;
    {
        let mut table = txn.open_table(OBJECTS)?;
        for o in tables.all() {
            let row = (&*o.key.resource, &*o.key.namespace, &*o.key.name);
            table.insert(row, envelope::encode(&o.key, o.revision, &o.body).as_slice())?;
        }
        let mut table = txn.open_table(meta::TABLE)?;
        table.insert(APPLIED, applied.record(tables).as_slice())?;
        meta::init(&mut table, id)?;
    }
    txn.commit()?;
    Ok(())
}

fn load(db: &Database, id: u64) -> Result<(Tables, Applied), Fault> {
    let txn = db.begin_read()?;
    let table = txn.open_table(meta::TABLE)?;
    meta::check(&table, id)?;
    let snapshot: Snapshot = meta::sealed(&table, APPLIED)?;
    let damaged = |what: &str| Fault::Damaged(format!("`{APPLIED}`: {what}"));
    let (revision, count) = snapshot.data.split_at_checked(8).ok_or_else(|| damaged("it has no revision"))?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(|_| damaged("it is cut short"));
    let (revision, count) = (number(revision)?, number(count)?);
    let metadata = snapshot.metadata.ok_or_else(|| damaged("it has no metadata"))?;
    let mut tables = objects(&txn.open_table(OBJECTS)?, revision)?;
    if tables.len() as u64 != count {
        return Err(Fault::Damaged(format!("there are {} objects instead of {count}", tables.len())));
    }
    tables.set_revision(revision);
    let at = Position { index: metadata.index, term: metadata.term };
    Ok((tables, Applied { at, members: metadata.conf_state.unwrap_or_default() }))
}

/// Rows that are decoded together: their keys and values.
type Rows = Vec<(Key, Bytes)>;
/// How many bytes of values go from thread to thread at once.
const PIECE: usize = 1 << 20;

/// All objects of a mirror. This thread reads the rows and puts the objects in their place; others check and decode them,
/// which is most of the work.
fn objects(
    table: &impl ReadableTable<(&'static str, &'static str, &'static str), &'static [u8]>,
    revision: u64,
) -> Result<Tables, Fault> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let (to_worker, rows) = mpsc::sync_channel::<Rows>(2 * workers);
    let (to_here, decoded) = mpsc::channel();
    let rows = Mutex::new(rows);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (rows, to_here) = (&rows, to_here.clone());
            scope.spawn(move || {
                loop {
                    // The lock is held while it waits: the others wait for the same.
                    let next = rows.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(piece) = next else { return };
                    if to_here.send(decode(piece, revision)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(to_here);
        let mut tables = Tables::default();
        let mut put = |piece: Result<Vec<Object>, Fault>| -> Result<(), Fault> {
            piece?.into_iter().for_each(|object| drop(tables.put(Arc::new(object))));
            Ok(())
        };
        let read = (|| {
            let (mut piece, mut bytes) = (Rows::new(), 0);
            let mut last: Option<Key> = None;
            for row in table.iter()? {
                let (k, v) = row?;
                let (resource, namespace, name) = k.value();
                // Neighbours share what their keys have in common.
                let shared = |text: &str, of: fn(&Key) -> &Arc<str>| match last.as_ref().map(of) {
                    Some(same) if **same == *text => same.clone(),
                    _ => text.into(),
                };
                let resource = shared(resource, |key| &key.resource);
                let key = Key { resource, namespace: shared(namespace, |key| &key.namespace), name: name.into() };
                last = Some(key.clone());
                bytes += v.value().len();
                piece.push((key, Bytes::copy_from_slice(v.value())));
                if bytes >= PIECE {
                    bytes = 0;
                    to_worker
                        .send(std::mem::take(&mut piece))
                        .map_err(|_| Fault::Damaged("nobody decodes it".into()))?;
                    decoded.try_iter().try_for_each(&mut put)?;
                }
            }
            to_worker.send(piece).map_err(|_| Fault::Damaged("nobody decodes it".into()))
        })();
        drop(to_worker);
        let rest = read.and_then(|()| decoded.iter().try_for_each(&mut put));
        // Workers that have something left find nobody to give it to, and end.
        drop(decoded);
        rest.map(|()| tables)
    })
}

fn decode(rows: Rows, revision: u64) -> Result<Vec<Object>, Fault> {
    let one = |(key, value): (Key, Bytes)| {
        let (changed, body) =
            envelope::decode(&key, &value).map_err(|e| Fault::Damaged(format!("object {key}: {e}")))?;
        if changed > revision {
            return Err(Fault::Damaged(format!("object {key} has revision {changed} after {revision}")));
        }
        let body = value.slice_ref(body);
        Ok(Object::decode(key, changed, body))
    };
    rows.into_iter().map(one).collect()
}
