//! The objects' file is written anew while it is in use, and is whole whenever the power fails.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use copepod_consensus::{ConfState, Position};
use copepod_machine::SeededIds;
use copepod_model::Object;

use super::*;
use crate::store::compact::{Compactor, NEW};
use crate::store::mirror::Applied;

fn backend(disk: &Disk) -> Guard {
    Guard::open(disk.open(MIRROR).unwrap(), Arc::default()).unwrap()
}

fn all(t: &Tables) -> Vec<(Key, u64, bytes::Bytes)> {
    t.all().map(|o| (o.key.clone(), o.revision, o.body.clone())).collect()
}

const SMALL: usize = 100;

/// A mirror that has grown in as many checkpoints, each with 100 small objects and a large one, and then lost the small
/// ones. The large ones lie in pages of their own, all over its file, so that it does not get shorter by itself.
fn half_free(disk: &Disk, checkpoints: u64, size: usize) -> (Tables, Applied) {
    let members = ConfState { voters: vec![1], ..ConfState::default() };
    let mut applied = Applied { at: Position { index: 1, term: 1 }, members };
    let mut tables = Tables::default();
    let mut small = BTreeSet::new();
    let mirror = Mirror::create(backend(disk), 1, &tables, &applied).map_err(String::from).unwrap();
    let mut revision = 0;
    for n in 0..checkpoints {
        let mut dirty = BTreeSet::new();
        let names = (0..SMALL).map(|i| (format!("a{n:04}-{i:04}"), size)).chain([(format!("z{n:04}"), 5000)]);
        for (name, size) in names {
            revision += 1;
            let key = Key::new("configmaps", "d", name);
            tables.put(Arc::new(Object::decode(key.clone(), revision, vec![b'x'; size].into())));
            if size < 5000 {
                small.insert(key.clone());
            }
            dirty.insert(key);
        }
        tables.set_revision(revision);
        applied.at.index += 1;
        mirror.write(&tables, &dirty, &applied).unwrap();
    }
    for key in &small {
        tables.remove(key);
    }
    tables.set_revision(revision + small.len() as u64);
    applied.at.index += 1;
    mirror.write(&tables, &small, &applied).unwrap();
    (tables, applied)
}

#[test]
fn a_file_that_is_half_free_is_written_anew() {
    let disk = Disk::default();
    let (tables, applied) = half_free(&disk, 30, 1000);
    let before = disk.len(MIRROR).unwrap();
    assert!(before > 2_000_000, "the file has shrunk by itself: {before}");
    let mut compactor = Compactor::new(Arc::new(disk.clone()), 1, 1 << 20);
    let mirror = Mirror::reopen(backend(&disk), 1, &applied).map_err(String::from).unwrap();
    let mirror = compactor.after(mirror, &tables, &applied).map_err(String::from).unwrap();
    let after = disk.len(MIRROR).unwrap();
    assert!(after < before / 2, "{before} bytes before, {after} after");
    assert!(!disk.exists(NEW).unwrap());
    // It goes on with the new one.
    let later = Applied { at: Position { index: applied.at.index + 1, ..applied.at }, ..applied.clone() };
    mirror.write(&tables, &BTreeSet::new(), &later).unwrap();
    drop(mirror);
    let (_, loaded, found) = Mirror::open(backend(&disk), 1, &ConfState::default()).map_err(String::from).unwrap();
    assert_eq!((all(&loaded), loaded.revision(), found.at), (all(&tables), tables.revision(), later.at));
}

#[test]
fn a_small_file_is_left_alone() {
    let disk = Disk::default();
    let (tables, applied) = half_free(&disk, 12, 300);
    let before = disk.len(MIRROR).unwrap();
    let mirror = Mirror::reopen(backend(&disk), 1, &applied).map_err(String::from).unwrap();
    let mut compactor = Compactor::new(Arc::new(disk.clone()), 1, before + 1);
    drop(compactor.after(mirror, &tables, &applied).map_err(String::from).unwrap());
    assert!(disk.len(MIRROR).unwrap() > before / 2);
}

#[test]
fn whenever_the_power_fails_there_is_one_whole_file() {
    let clean = Disk::default();
    let (tables, applied) = half_free(&clean, 20, 1000);
    let contents = clean.contents(MIRROR);
    let mut ids = SeededIds(7);
    let mut cut_off = 0;
    for crash_after in 0.. {
        let disk = Disk::default();
        disk.put(MIRROR, contents.clone());
        let mirror = Mirror::reopen(backend(&disk), 1, &applied).map_err(String::from).unwrap();
        disk.crash_after(crash_after);
        let mut compactor = Compactor::new(Arc::new(disk.clone()), 1, 1 << 10);
        // Its last pages are written when it is closed, which is here, too.
        drop(crate::store::error::guarded(|| compactor.after(mirror, &tables, &applied)));
        let crashed = disk.has_crashed();
        let torn = (crash_after % 2 == 0).then_some(&mut ids);
        let disk = disk.reboot(torn);
        let (_, loaded, found) = Mirror::open(backend(&disk), 1, &ConfState::default())
            .map_err(|f| format!("after {crash_after} operations: {}", String::from(f)))
            .unwrap();
        assert_eq!((loaded.revision(), found.at), (tables.revision(), applied.at), "after {crash_after} operations");
        assert!(all(&loaded) == all(&tables), "after {crash_after} operations");
        if !crashed {
            assert!(disk.len(MIRROR).unwrap() < contents.len() as u64 / 2 && !disk.exists(NEW).unwrap());
            break;
        }
        cut_off += 1;
    }
    assert!(cut_off > 10, "only {cut_off} moments were tried");
}

#[tokio::test]
async fn what_an_attempt_left_is_removed() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    disk.put(NEW, vec![1; 100]);
    let store = Store::open(options(&dir, &disk)).unwrap();
    store.close().await.unwrap();
    assert!(!disk.exists(NEW).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_written_anew_while_the_store_serves() {
    const ROUNDS: usize = 30;
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let open = |disk: &Disk| Store::open(StoreOptions { compact_from: 1 << 20, ..options(&dir, disk) }).unwrap();
    let store = open(&disk);
    let small = |n: usize| (0..SMALL).map(move |i| format!("a{n:04}-{i:04}"));
    for n in 0..ROUNDS {
        let mut ops: Vec<Op> = small(n).map(|name| put(&name, &"x".repeat(1000))).collect();
        ops.push(put(&format!("z{n:04}"), &"x".repeat(5000)));
        store.propose(txn(ops)).await.unwrap();
        store.checkpoint().await;
    }
    let before = disk.len(MIRROR).unwrap();
    assert!(before > 2_000_000, "{before}");

    let over = Arc::new(AtomicBool::new(false));
    let write_on = |writer: usize| {
        let (store, over) = (store.clone(), over.clone());
        tokio::spawn(async move {
            let (name, mut acknowledged) = (format!("w{writer}"), 0u64);
            while !over.load(Ordering::Relaxed) {
                let outcome = store.propose(txn([put(&name, &(acknowledged + 1).to_string())])).await;
                assert!(matches!(outcome, Ok(Outcome::Applied(_))), "{outcome:?}");
                acknowledged += 1;
            }
            (name, acknowledged)
        })
    };
    let writers: Vec<_> = (0..4).map(write_on).collect();
    for n in 0..ROUNDS {
        let delete = |name: String| Op::Delete { key: Key::new("configmaps", "d", name) };
        store.propose(txn(small(n).map(delete).collect::<Vec<Op>>())).await.unwrap();
    }
    let shrunk = async {
        // A few of them pass between two looks.
        while disk.len(MIRROR).unwrap() >= before / 2 {
            store.checkpoint().await;
        }
    };
    timeout(Duration::from_secs(60), shrunk).await.expect("the file shrinks");
    // From here on into the new file.
    store.checkpoint().await;
    over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.await.unwrap());
    }
    let view = store.snapshot();
    for (name, n) in &acknowledged {
        assert!(*n > 0 && data(&view, name) == Some(n.to_string()), "{name}: {n} was acknowledged");
    }
    assert_eq!(view.count("configmaps"), ROUNDS + acknowledged.len());

    // With what the log has behind the new file, after the power has failed; and then from the new file alone.
    store.abandon().await.unwrap();
    let disk = disk.reboot(None);
    for _ in 0..2 {
        let store = open(&disk);
        assert!(all(&store.snapshot()) == all(&view) && store.snapshot().revision() == view.revision());
        store.close().await.unwrap();
    }
    assert!(disk.len(MIRROR).unwrap() < before / 2 && !disk.exists(NEW).unwrap());
}
