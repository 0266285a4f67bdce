//! Folders that are made, checked and changed while no store is open.

use copepod_consensus::record::Record as _;
use copepod_consensus::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState};

use super::*;
use crate::store::offline::{BUMP, recover_on, restore, restore_alone_on, restore_on, verify};
use crate::store::snapshot::{self, Meta};

fn voters(ids: &[u64]) -> ConfState {
    ConfState { voters: ids.to_vec(), ..ConfState::default() }
}

fn all(t: &Tables) -> Vec<(Key, u64, bytes::Bytes)> {
    t.all().map(|o| (o.key.clone(), o.revision, o.body.clone())).collect()
}

/// The state of a store with some objects and a history, through a snapshot's bytes.
async fn saved() -> (Meta, Tables) {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    for i in 0..50 {
        store.propose(txn([put(&format!("n{}", i % 20), &i.to_string())])).await.unwrap();
    }
    let (meta, tables) = store.state().await.unwrap();
    assert_eq!((meta.revision, meta.objects, &meta.members), (50, 20, &voters(&[1])));
    assert!(meta.index >= 50 && meta.term >= 1, "{meta:?}");
    let mut bytes = Vec::new();
    snapshot::write(&meta, &tables, &mut bytes).unwrap();
    store.close().await.unwrap();
    assert_eq!(store.state().await.unwrap_err(), ReadError::Stopped);
    snapshot::read(&mut bytes.as_slice()).unwrap()
}

#[tokio::test]
async fn a_store_goes_on_from_a_snapshot() {
    let (meta, mut tables) = saved().await;
    tables.set_revision(meta.revision + BUMP);
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    restore_on(dir.path(), &disk, 1, voters(&[1]), &meta, &tables).unwrap();
    let store = Store::open(options(&dir, &disk)).unwrap();
    assert!(store.is_leader() && store.term() > meta.term);
    assert_eq!(all(&store.snapshot()), all(&tables));
    // Nobody who watched the old cluster waits for revisions that mean something else here.
    assert!(store.watch(Interest::all("configmaps"), meta.revision).is_err());
    let next = meta.revision + BUMP + 1;
    assert_eq!(store.propose(txn([put("new", "1")])).await, Ok(Outcome::Applied(vec![next])));
    store.abandon().await.unwrap();
    let store = Store::open(options(&dir, &disk)).unwrap();
    assert_eq!((store.snapshot().revision(), store.snapshot().count("configmaps")), (next, 21));
    let (later, _) = store.state().await.unwrap();
    assert!(later.index > meta.index && later.objects == 21, "{later:?}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_restore_that_was_cut_off_is_refused_and_begun_again() {
    let (meta, tables) = saved().await;
    let (mut refused, mut disk) = (0, Disk::default());
    for crash_after in 0.. {
        let dir = tempfile::tempdir().unwrap();
        disk.crash_after(crash_after);
        let restored = restore_on(dir.path(), &disk, 1, voters(&[1]), &meta, &tables);
        disk = disk.reboot(None);
        if restored.is_err() {
            refused += 1;
            let error = Store::open(options(&dir, &disk)).unwrap_err();
            assert!(error.to_string().contains("restore again"), "after {crash_after} operations: {error}");
            restore_on(dir.path(), &disk, 1, voters(&[1]), &meta, &tables).unwrap();
        }
        let store = Store::open(options(&dir, &disk)).unwrap();
        assert!(all(&store.snapshot()) == all(&tables), "after {crash_after} operations");
        store.close().await.unwrap();
        if restored.is_ok() {
            break;
        }
        disk = Disk::default();
    }
    assert!(refused > 10, "only {refused} moments were tried");
}

#[tokio::test]
async fn a_restore_leaves_alone_what_is_there() {
    let (meta, tables) = saved().await;
    let dir = tempfile::tempdir().unwrap();
    let attempt = |at: &std::path::Path| restore(at, 1, voters(&[1]), &meta, &tables).unwrap_err();
    std::fs::write(dir.path().join("letter"), "dear").unwrap();
    let error = attempt(dir.path());
    assert!(matches!(error, OpenError::NotEmpty { .. }), "{error:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was put beside the letter");
    // A state, in use and not.
    let inside = dir.path().join("state");
    let store = Store::open(StoreOptions::new(&inside, 1)).unwrap();
    assert!(matches!(attempt(&inside), OpenError::Locked { .. }));
    store.propose(txn([put("a", "1")])).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(attempt(&inside), OpenError::NotEmpty { .. }));
    let store = Store::open(StoreOptions::new(&inside, 1)).unwrap();
    assert_eq!(data(&store.snapshot(), "a").as_deref(), Some("1"));
    store.close().await.unwrap();
}

/// A member of three whose log has these entries behind the snapshot; of so many it knows that they are committed.
fn member_2(
    dir: &tempfile::TempDir,
    on: &dyn Backends,
    (meta, tables): (&Meta, &Tables),
    commit: u64,
    log: Vec<Entry>,
) {
    restore_on(dir.path(), on, 2, voters(&[1, 2, 3]), meta, tables).unwrap();
    let backend = Guard::open(on.open(LOG).unwrap(), Arc::default()).unwrap();
    let (mut file, contents) = LogFile::open(backend, 2, Durability::Immediate).map_err(String::from).unwrap();
    let at = |(i, entry): (usize, Entry)| Entry { index: meta.index + 1 + i as u64, term: meta.term, ..entry };
    let entries: Vec<Entry> = log.into_iter().enumerate().map(at).collect();
    file.persist(&contents.hard_state, &entries, None).unwrap();
    // A commit index of its own row: what comes with entries may be left out.
    file.persist(&HardState { commit: meta.index + commit, ..contents.hard_state }, &[], None).unwrap();
}

fn written(name: &str) -> Entry {
    Entry { data: codec::encode(&txn([put(name, "tail")])), ..Entry::default() }
}

fn changed(kind: ConfChangeType, node_id: u64) -> Entry {
    let single = ConfChangeSingle { change_type: kind as i32, node_id };
    let change = ConfChangeV2 { changes: vec![single], ..ConfChangeV2::default() };
    let mut entry = Entry { data: change.write_to_bytes().unwrap(), ..Entry::default() };
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    entry
}

/// A member of three whose log has something that nobody knows to be committed, and a change of members.
fn survivor(dir: &tempfile::TempDir, disk: &Disk, meta: &Meta, tables: &Tables) {
    let log = vec![written("first"), changed(ConfChangeType::AddLearnerNode, 9), written("second")];
    member_2(dir, disk, (meta, tables), 0, log);
}

fn options_of_2(dir: &tempfile::TempDir, disk: &Disk) -> StoreOptions {
    StoreOptions { member: 2, ..options(dir, disk) }
}

#[tokio::test]
async fn one_survivor_goes_on_alone_with_everything_it_has() {
    let (meta, tables) = saved().await;
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    survivor(&dir, &disk, &meta, &tables);
    let store = Store::open(options_of_2(&dir, &disk)).unwrap();
    assert!(!store.is_leader(), "one of three does not lead by itself");
    assert!(matches!(recover_on(dir.path(), &disk, BUMP), Err(OpenError::Locked { .. })));
    store.abandon().await.unwrap();

    let done = recover_on(dir.path(), &disk, BUMP).unwrap();
    assert_eq!((done.member, done.members, done.last), (2, voters(&[1, 2, 3]), meta.index + 3));
    assert_eq!((done.objects, done.revision), (22, meta.revision + 2 + BUMP));
    let store = Store::open(options_of_2(&dir, &disk)).unwrap();
    assert!(store.is_leader());
    assert_eq!(data(&store.snapshot(), "second").as_deref(), Some("tail"));
    assert_eq!(store.propose(txn([put("new", "1")])).await, Ok(Outcome::Applied(vec![done.revision + 1])));
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_others_are_those_behind_the_last_change_of_members_and_not_behind_the_checkpoint() {
    use ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
    let (meta, tables) = saved().await;
    let changes =
        [(RemoveNode, 3), (AddLearnerNode, 4), (AddNode, 4), (RemoveNode, 1), (AddNode, 5), (AddLearnerNode, 6)];
    let committed = [
        (0, voters(&[1, 2, 3])),
        (1, voters(&[1, 2])),
        (2, ConfState { learners: vec![4], ..voters(&[1, 2]) }),
        (5, voters(&[2, 4, 5])),
    ];
    for (commit, expected) in committed {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let log = changes.map(|(kind, id)| changed(kind, id)).to_vec();
        member_2(&dir, &files, (&meta, &tables), commit, log);
        let found = verify(dir.path()).unwrap();
        assert_eq!((found.checkpoint, found.last), (meta.index, meta.index + 6));
        assert_eq!(found.members, expected, "with {commit} changes committed");
        assert_eq!(recover_on(dir.path(), &files, BUMP).unwrap().members, expected);
        // The members are itself, whoever they were.
        assert_eq!(verify(dir.path()).unwrap().members, voters(&[2]));
    }
}

/// What is stored of a server, and the count of their ids, as objects of the revision `at`.
fn server_rows(tables: &mut Tables, ids: &[u64], at: u64) {
    let rows = ids.iter().map(|id| (Key::new("_members", "", format!("{id:020}")), *id));
    for (key, id) in rows.chain([(Key::new("_cluster", "", "last-member"), 3)]) {
        let value = json!({"metadata": {"name": key.name}, "id": id});
        let body = object::with_revision(&object::encode(&value), at);
        tables.put(Arc::new(copepod_model::Object::decode(key, at, body)));
    }
}

#[tokio::test]
async fn who_goes_on_alone_has_nothing_written_down_of_the_servers_but_their_count() {
    let (meta, mut tables) = saved().await;
    server_rows(&mut tables, &[1, 2], meta.revision);
    let left = |store: &Store| {
        let found = store.snapshot();
        let count = found.find("_cluster", "", "last-member").map(|o| o.value()["id"].clone());
        (found.count("_members"), count, found.count("configmaps"))
    };
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    survivor(&dir, &disk, &meta, &tables);
    let store = Store::open(options_of_2(&dir, &disk)).unwrap();
    assert_eq!(left(&store).0, 2);
    store.abandon().await.unwrap();
    let done = recover_on(dir.path(), &disk, BUMP).unwrap();
    for _ in 0..2 {
        let store = Store::open(options_of_2(&dir, &disk)).unwrap();
        assert_eq!(left(&store), (0, Some(3.into()), 22));
        store.close().await.unwrap();
    }
    assert_eq!(done.objects, 23);

    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    restore_alone_on(dir.path(), &disk, &meta, &mut tables).unwrap();
    let store = Store::open(options(&dir, &disk)).unwrap();
    assert_eq!((store.is_leader(), left(&store)), (true, (0, Some(3.into()), 20)));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_recovery_that_was_cut_off_can_be_done_again() {
    let (meta, tables) = saved().await;
    let (dir, clean) = (tempfile::tempdir().unwrap(), Disk::default());
    survivor(&dir, &clean, &meta, &tables);
    let contents = [LOG, MIRROR].map(|name| (name, clean.contents(name)));
    for crash_after in 0.. {
        let disk = Disk::default();
        contents.iter().for_each(|(name, bytes)| disk.put(name, bytes.clone()));
        disk.crash_after(crash_after);
        let recovered = recover_on(dir.path(), &disk, 1000);
        let disk = disk.reboot(None);
        // What is there opens, alone already or not yet.
        let store = Store::open(options_of_2(&dir, &disk)).unwrap();
        let alone = store.is_leader();
        store.abandon().await.unwrap();
        if recovered.is_ok() {
            assert!(alone);
            break;
        }
        recover_on(dir.path(), &disk, 1000).unwrap();
        let store = Store::open(options_of_2(&dir, &disk)).unwrap();
        let found = store.snapshot();
        assert!(store.is_leader() && found.count("configmaps") == 22, "after {crash_after} operations");
        assert_eq!(data(&found, "second").as_deref(), Some("tail"));
        // Twice, if the first time had come that far.
        let bumped = found.revision() - meta.revision - 2;
        assert!([1000, 2000].contains(&bumped), "after {crash_after} operations: {bumped}");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_recovery_needs_a_state() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let error = recover_on(&dir.path().join("none"), &disk, BUMP).unwrap_err();
    assert!(error.to_string().contains("there is no state in"), "{error}");
    assert!(!dir.path().join("none").exists());
}

#[tokio::test]
async fn a_folder_is_verified_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = Store::open(StoreOptions::new(&state, 1)).unwrap();
    for i in 0..100 {
        store.propose(txn([put(&format!("n{i}"), &"x".repeat(500))])).await.unwrap();
    }
    store.checkpoint().await;
    for i in 0..50 {
        store.propose(txn([put(&format!("later{i}"), "1")])).await.unwrap();
    }
    assert!(matches!(verify(&state), Err(OpenError::Locked { .. })));
    store.abandon().await.unwrap();
    let files = || {
        let read = |name: &str| std::fs::read(state.join(name)).unwrap();
        ["format", "lock", LOG, MIRROR].map(|name| (name, read(name)))
    };
    let before = files();
    let found = verify(&state).unwrap();
    assert_eq!((found.member, found.objects, found.revision, found.format), (1, 150, 150, 1));
    assert!(found.checkpoint >= 100 && found.last >= found.checkpoint + 50, "{found:?}");
    assert!(before == files(), "something was written");

    let mut damaged = 0;
    for seed in 0..100 {
        let mut ids = copepod_machine::SeededIds(seed);
        let (name, mut bytes) = before[2 + disk::draw(&mut ids, 2) as usize].clone();
        let at = 4096 + disk::draw(&mut ids, bytes.len() as u64 - 4096) as usize;
        bytes[at] ^= 1 << disk::draw(&mut ids, 8);
        std::fs::write(state.join(name), &bytes).unwrap();
        match verify(&state) {
            Err(_) => damaged += 1,
            Ok(again) => assert_eq!(again, found, "seed {seed}: it is whole and says something else"),
        }
        for (name, bytes) in &before {
            std::fs::write(state.join(name), bytes).unwrap();
        }
    }
    assert!(damaged > 0, "no flip hit anything that mattered");
    // A copy of a folder has no lock.
    std::fs::remove_file(state.join("lock")).unwrap();
    assert_eq!(verify(&state).unwrap(), found);
    std::fs::remove_file(state.join(LOG)).unwrap();
    assert!(verify(&state).unwrap_err().to_string().contains("raft.redb is missing"));
}
