//! A folder of an earlier format is brought to the next one, whenever the power fails on the way.

use redb::{Database, ReadableTable, WriteTransaction};

use super::*;
use crate::store::error::Fault;
use crate::store::folder::State;
use crate::store::upgrade::Step;

const COUNT: &str = "times";

/// Counts how often it was done to a database.
fn count(log: &WriteTransaction, objects: &WriteTransaction) -> Result<(), Fault> {
    for txn in [log, objects] {
        let mut table = txn.open_table(meta::TABLE)?;
        let times = table.get(COUNT)?.map_or(0, |v| v.value()[0]);
        table.insert(COUNT, [times + 1].as_slice())?;
    }
    Ok(())
}

fn fails(_: &WriteTransaction, objects: &WriteTransaction) -> Result<(), Fault> {
    objects.open_table(meta::TABLE)?.remove("format")?;
    Err(Fault::Damaged("this step cannot be taken".into()))
}

const STEPS: [Step; 2] = [Step { from: 1, run: count }, Step { from: 2, run: count }];

/// The format and the count that a database says.
fn says(disk: &Disk, name: &str) -> (u32, u8) {
    use redb::ReadableDatabase as _;
    let backend = Guard::open(disk.open(name).unwrap(), Arc::default()).unwrap();
    let db: Database = backend.database().unwrap();
    let table = db.begin_read().unwrap().open_table(meta::TABLE).unwrap();
    let format = table.get("format").unwrap().unwrap().value().try_into().map(u32::from_le_bytes).unwrap();
    (format, table.get(COUNT).unwrap().map_or(0, |v| v.value()[0]))
}

async fn filled() -> [(&'static str, Vec<u8>); 2] {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    store.propose(txn([put("a", "1")])).await.unwrap();
    store.close().await.unwrap();
    [LOG, MIRROR].map(|name| (name, disk.contents(name)))
}

fn folder(databases: &[(&'static str, Vec<u8>)]) -> (tempfile::TempDir, Disk) {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    std::fs::write(dir.path().join("format"), "copepod store 1\n").unwrap();
    databases.iter().for_each(|(name, bytes)| disk.put(name, bytes.clone()));
    (dir, disk)
}

#[tokio::test]
async fn every_step_is_taken_once_whenever_the_power_fails() {
    let databases = filled().await;
    let mut cut_off = 0;
    for crash_after in 0.. {
        let (dir, disk) = folder(&databases);
        disk.crash_after(crash_after);
        let opened = Folder::open_as(dir.path(), &disk, 3, &STEPS);
        let done = opened.is_ok();
        drop(opened);
        let disk = disk.reboot(None);
        drop(Folder::open_as(dir.path(), &disk, 3, &STEPS).unwrap());
        for name in [LOG, MIRROR] {
            assert_eq!(says(&disk, name), (3, 2), "{name} after {crash_after} operations");
            // The way back.
            assert_eq!(says(&disk, &format!("{name}.format-1")), (1, 0));
            assert_eq!(says(&disk, &format!("{name}.format-2")), (2, 1));
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("format")).unwrap(), "copepod store 3\n");
        if done {
            break;
        }
        cut_off += 1;
    }
    assert!(cut_off > 10, "only {cut_off} moments were tried");
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_way_back() {
    let (dir, disk) = folder(&filled().await);
    let steps = [Step { from: 1, run: fails }];
    let error = Folder::open_as(dir.path(), &disk, 2, &steps).unwrap_err();
    assert!(error.to_string().contains("this step cannot be taken"), "{error}");
    assert_eq!([says(&disk, LOG), says(&disk, MIRROR)], [(1, 0), (1, 0)]);
    // This release has not this step, and must not take what is there for whole.
    let error = Store::open(options(&dir, &disk)).unwrap_err();
    assert!(error.to_string().contains("its upgrade by a later release was cut off"), "{error}");
    drop(Folder::open_as(dir.path(), &disk, 2, &STEPS[..1]).unwrap());
    assert_eq!([says(&disk, LOG), says(&disk, MIRROR)], [(2, 1), (2, 1)]);
}

#[tokio::test]
async fn a_format_without_a_way_is_refused_and_untouched() {
    let databases = filled().await;
    let (dir, disk) = folder(&databases);
    let error = Folder::open_as(dir.path(), &disk, 3, &STEPS[1..]).unwrap_err();
    assert!(error.to_string().contains("storage format 1"), "{error}");
    for (name, bytes) in &databases {
        assert!(disk.contents(name) == *bytes, "{name} was changed");
    }
    // Without the objects there would be nothing to go back to.
    disk.remove(MIRROR).unwrap();
    let error = Folder::open_as(dir.path(), &disk, 3, &STEPS).unwrap_err();
    assert!(error.to_string().contains("objects.redb is missing"), "{error}");
    assert_eq!(std::fs::read_to_string(dir.path().join("format")).unwrap(), "copepod store 1\n");
}

#[tokio::test]
async fn a_new_folder_takes_no_steps() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let folder = Folder::open_as(dir.path(), &disk, 3, &STEPS).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("format")).unwrap(), "copepod store 3 new\n");
    folder.mark(3, State::Ready).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("format")).unwrap(), "copepod store 3\n");
}
