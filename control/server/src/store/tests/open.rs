//! Folders that are not what they should be.

use redb::{Database, ReadableTable, TableDefinition};

use super::*;

async fn filled(dir: &tempfile::TempDir, disk: &Disk, checkpoint: bool) {
    let store = Store::open(options(dir, disk)).unwrap();
    store.propose(txn([put("a", "1"), put("b", "1")])).await.unwrap();
    if checkpoint { store.close().await.unwrap() } else { store.abandon().await.unwrap() }
}

fn refused(dir: &tempfile::TempDir, disk: &Disk) -> OpenError {
    Store::open(options(dir, disk)).expect_err("it opened")
}

fn damaged(dir: &tempfile::TempDir, disk: &Disk, what: &str) {
    let error = refused(dir, disk);
    assert!(matches!(&error, OpenError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains(what), "{error}");
}

fn edit(disk: &Disk, name: &str, f: impl FnOnce(&Database)) {
    let backend = Guard::open(disk.open(name).unwrap(), Arc::default()).unwrap();
    f(&backend.database().unwrap());
}

#[tokio::test]
async fn one_process_at_a_time() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    let error = refused(&dir, &disk);
    assert!(matches!(error, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()));
    assert!(error.to_string().starts_with("another copepod is using "), "{error}");
    store.close().await.unwrap();
    Store::open(options(&dir, &disk)).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_later_format_is_refused_and_untouched() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    filled(&dir, &disk, true).await;
    let format = dir.path().join("format");
    std::fs::write(&format, "copepod store 2 with more to say\n").unwrap();
    let (log, mirror) = (disk.contents(LOG), disk.contents(MIRROR));
    assert!(matches!(refused(&dir, &disk), OpenError::Newer { found: 2, known: 1, .. }));
    assert!(log == disk.contents(LOG) && mirror == disk.contents(MIRROR));
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "copepod store 2 with more to say\n");
    std::fs::write(&format, "copepod store 1\n").unwrap();
    // The databases say it themselves, too.
    for name in [LOG, MIRROR] {
        let before = disk.contents(name);
        edit(&disk, name, |db| {
            let txn = db.begin_write().unwrap();
            txn.open_table(meta::TABLE).unwrap().insert("format", 9u32.to_le_bytes().as_slice()).unwrap();
            txn.commit().unwrap();
        });
        assert!(matches!(refused(&dir, &disk), OpenError::Newer { found: 9, .. }));
        disk.put(name, before);
    }
    Store::open(options(&dir, &disk)).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_folder_says_what_is_wrong() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    filled(&dir, &disk, true).await;
    let (log, mirror) = (disk.contents(LOG), disk.contents(MIRROR));

    let format = dir.path().join("format");
    std::fs::write(&format, "something else").unwrap();
    damaged(&dir, &disk, "`format` is not copepod's");
    std::fs::remove_file(&format).unwrap();
    damaged(&dir, &disk, "no file `format`");
    assert!(!format.exists());
    std::fs::write(&format, "copepod store 1\n").unwrap();

    disk.remove(LOG).unwrap();
    damaged(&dir, &disk, "raft.redb is missing");
    assert!(!disk.exists(LOG).unwrap());
    disk.put(LOG, b"this was a database once".to_vec());
    damaged(&dir, &disk, "raft.redb");
    disk.put(LOG, log);

    // The log was cut, so that it alone is not enough.
    disk.remove(MIRROR).unwrap();
    damaged(&dir, &disk, "objects.redb is missing");
    disk.put(MIRROR, vec![7; 100_000]);
    damaged(&dir, &disk, "objects.redb");
    disk.put(MIRROR, mirror);
    let error = Store::open(StoreOptions { member: 2, ..options(&dir, &disk) }).unwrap_err();
    assert!(error.to_string().contains("it is of member 1, not 2"), "{error}");
    Store::open(options(&dir, &disk)).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn objects_are_rebuilt_from_a_whole_log() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    filled(&dir, &disk, false).await;
    disk.remove(MIRROR).unwrap();
    let store = Store::open(options(&dir, &disk)).unwrap();
    assert_eq!(data(&store.snapshot(), "b").as_deref(), Some("1"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_value_is_named() {
    const OBJECTS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("objects");
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    filled(&dir, &disk, true).await;
    let good = disk.contents(MIRROR);
    edit(&disk, MIRROR, |db| {
        let txn = db.begin_write().unwrap();
        {
            let mut table = txn.open_table(OBJECTS).unwrap();
            let mut bytes = table.get(("configmaps", "d", "b")).unwrap().unwrap().value().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            table.insert(("configmaps", "d", "b"), bytes.as_slice()).unwrap();
        }
        txn.commit().unwrap();
    });
    damaged(&dir, &disk, "object configmaps/d/b: the checksum does not match");
    disk.put(MIRROR, good);
    Store::open(options(&dir, &disk)).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_or_missing_log_entry_is_named() {
    const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    filled(&dir, &disk, false).await;
    let good = disk.contents(LOG);
    edit(&disk, LOG, |db| {
        let txn = db.begin_write().unwrap();
        txn.open_table(ENTRIES).unwrap().insert(2, b"\x01nonsense".as_slice()).unwrap();
        txn.commit().unwrap();
    });
    damaged(&dir, &disk, "log entry 2: the checksum does not match");
    disk.put(LOG, good);
    edit(&disk, LOG, |db| {
        let txn = db.begin_write().unwrap();
        txn.open_table(ENTRIES).unwrap().remove(1).unwrap();
        txn.commit().unwrap();
    });
    damaged(&dir, &disk, "entry 2 follows entry 0");
}

/// Whatever is flipped: the store either refuses or has everything; it neither panics nor forgets. Also where it was not
/// closed, so that redb repairs, and where the last commit alone is hit.
#[tokio::test]
async fn flipped_bits_never_go_unnoticed() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    for i in 0..200 {
        store.propose(txn([put(&format!("n{i}"), &"x".repeat(100))])).await.unwrap();
    }
    store.checkpoint().await;
    for i in 0..199 {
        store.propose(txn([put(&format!("n{}", i * 2), "later")])).await.unwrap();
    }
    let before_the_last = disk.contents(LOG);
    store.propose(txn([put("n398", "later")])).await.unwrap();
    let all = |t: &Tables| t.all().map(|o| (o.key.clone(), o.revision, o.body.clone())).collect::<Vec<_>>();
    let expected = all(&store.snapshot());
    let killed = [LOG, MIRROR].map(|name| (name, disk.contents(name)));
    let pages = |file: &[u8]| file.chunks(4096).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (before, after) = (pages(&before_the_last), pages(&killed[0].1));
    let of_the_last: Vec<usize> = (1..after.len()).filter(|&i| before.get(i) != Some(&after[i])).collect();
    store.abandon().await.unwrap();
    let ended = [LOG, MIRROR].map(|name| (name, disk.contents(name)));
    let (mut refused, mut of_header, mut of_last) = (0, 0, 0);
    for seed in 0..900 {
        let mut ids = copepod_machine::SeededIds(seed);
        let disk = Disk::default();
        let clean = if seed % 3 == 0 { &ended } else { &killed };
        for (name, bytes) in clean {
            disk.put(name, bytes.clone());
        }
        let (name, mut bytes) = clean[disk::draw(&mut ids, 2) as usize].clone();
        match seed % 3 {
            // Of one flip the header's copy makes good.
            1 => {
                let at = disk::draw(&mut ids, 4096) as usize;
                bytes[at] ^= 1 << disk::draw(&mut ids, 8);
                of_header += u32::from(at < 320);
            }
            2 if name == LOG => {
                let page = of_the_last[disk::draw(&mut ids, of_the_last.len() as u64) as usize];
                bytes[page * 4096 + disk::draw(&mut ids, 4096) as usize] ^= 1 << disk::draw(&mut ids, 8);
                of_last += 1;
            }
            _ => {
                for _ in 0..1 + disk::draw(&mut ids, 3) {
                    let at = 4096 + disk::draw(&mut ids, bytes.len() as u64 - 4096) as usize;
                    bytes[at] ^= 1 << disk::draw(&mut ids, 8);
                }
            }
        }
        disk.put(name, bytes);
        match Store::open(options(&dir, &disk)) {
            Ok(store) => {
                assert!(all(&store.snapshot()) == expected, "seed {seed}: it opened with something else");
                store.abandon().await.unwrap();
            }
            Err(e) => {
                assert!(seed % 3 != 1, "seed {seed}: a header that can be mended: {e}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && of_header > 10 && of_last > 100, "{refused}, {of_header}, {of_last}");
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_begins_again() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    for crash_after in 0.. {
        // The power fails at every single operation of a first start.
        let disk = Disk::default();
        disk.crash_after(crash_after);
        let dir = tempfile::tempdir().unwrap();
        let opened = Store::open(options(&dir, &disk));
        let done = opened.is_ok();
        if let Ok(store) = opened {
            store.abandon().await.unwrap();
        }
        let store = Store::open(options(&dir, &disk.reboot(None))).unwrap();
        store.propose(txn([put("a", "1")])).await.unwrap();
        store.close().await.unwrap();
        if done {
            break;
        }
    }
    // And what is left of it may be anything.
    std::fs::write(dir.path().join("format"), "copepod store 1 new\n").unwrap();
    disk.put(LOG, vec![1; 5000]);
    Store::open(options(&dir, &disk)).unwrap().close().await.unwrap();
    filled(&dir, &disk, true).await;
}

#[tokio::test]
async fn a_disk_that_takes_no_writes_is_called_that_and_not_damage() {
    use std::io::ErrorKind::{Other, ReadOnlyFilesystem, StorageFull};
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    filled(&dir, &disk, false).await;
    for (kind, says) in [
        (StorageFull, "the disk is full: nothing is damaged or lost"),
        (ReadOnlyFilesystem, "the file system is read-only: nothing is damaged or lost"),
        (Other, "the disk is broken"),
    ] {
        disk.fail_syncs_as(kind);
        let error = refused(&dir, &disk);
        assert!(matches!(&error, OpenError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains(says) && !error.to_string().contains(" is damaged: "), "{error}");
    }
    disk.mend_syncs();
    let store = Store::open(options(&dir, &disk)).unwrap();
    assert_eq!(data(&store.snapshot(), "b").as_deref(), Some("1"));
    store.close().await.unwrap();
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Store::open(StoreOptions::new(file.join("store"), 1)).unwrap_err();
    assert!(matches!(&error, OpenError::Io { .. }), "{error:?}");
}
