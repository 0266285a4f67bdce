//! The store on a disk in memory: what it promises, and what it does when the disk breaks the promise.

mod compact;
mod crash;
pub(crate) mod disk;
mod group;
mod offline;
mod open;
mod upgrade;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use copepod_model::{Key, object};
use copepod_state::{Interest, Op, Outcome, Require, Tables, Txn, WindowLimits};
use serde_json::json;

use super::folder::{LOG, MIRROR};
use super::guard::Guard;
use super::log::LogFile;
use super::mirror::Mirror;
use super::*;
use disk::Disk;

/// A store on `disk`, whose folder (lock and format) is a real one. No checkpoint comes by time.
pub(crate) fn options(dir: &tempfile::TempDir, disk: &Disk) -> StoreOptions {
    StoreOptions {
        backends: Arc::new(disk.clone()),
        checkpoint: CheckpointPolicy { bytes: usize::MAX, interval: Duration::from_secs(1 << 30) },
        ..StoreOptions::new(dir.path(), 1)
    }
}

pub(crate) fn put(name: &str, data: &str) -> Op {
    let value = json!({"metadata": {"name": name}, "data": data});
    Op::Put { key: Key::new("configmaps", "d", name), body: object::encode(&value), revised: true }
}

pub(crate) fn txn(ops: impl Into<Vec<Op>>) -> Txn {
    Txn { ops: ops.into(), ..Txn::default() }
}

pub(crate) fn data(tables: &Tables, name: &str) -> Option<String> {
    tables.find("configmaps", "d", name).map(|o| o.value()["data"].as_str().unwrap_or_default().to_string())
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_write_is_visible_when_it_is_acknowledged() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    assert!(store.is_leader() && store.leader() == Some(1) && store.health().is_ok());
    let before = store.snapshot();
    assert_eq!(store.propose(txn([put("a", "1"), put("b", "1")])).await, Ok(Outcome::Applied(vec![1, 2])));
    assert_eq!(data(&store.snapshot(), "a").as_deref(), Some("1"));
    assert_eq!(store.read_index().await.unwrap().revision(), 2);
    assert_eq!((before.revision(), data(&before, "a")), (0, None));
    let require = vec![Require::Absent(Key::new("configmaps", "d", "a"))];
    assert_eq!(store.propose(Txn { require, ..txn([put("c", "1")]) }).await, Ok(Outcome::Failed(0)));
    let fenced = Txn { fence: Some(store.term() + 1), ..txn([put("c", "1")]) };
    assert_eq!(store.propose(fenced).await, Ok(Outcome::Fenced));
    let fenced = Txn { fence: Some(store.term()), ..txn([put("c", "1")]) };
    assert_eq!(store.propose(fenced).await, Ok(Outcome::Applied(vec![3])));
    store.close().await.unwrap();
    assert_eq!(store.propose(txn([put("c", "1")])).await, Err(ProposeError::Stopped));
    assert!(!store.is_leader());
}

#[tokio::test]
async fn it_continues_where_it_was_closed_or_left() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut term = 0;
    for round in 1..=6u64 {
        let store = Store::open(options(&dir, &disk)).unwrap();
        assert!(store.term() > term, "each start is a term of its own");
        term = store.term();
        assert_eq!(store.snapshot().revision(), round - 1);
        store.propose(txn([put("a", &round.to_string())])).await.unwrap();
        if round == 3 {
            store.checkpoint().await;
            assert_eq!(store.stats().checkpoints, 1);
        }
        if round % 2 == 0 { store.close().await.unwrap() } else { store.abandon().await.unwrap() }
    }
    let store = Store::open(options(&dir, &disk)).unwrap();
    assert_eq!(data(&store.snapshot(), "a").as_deref(), Some("6"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_watch_can_begin_where_the_replayed_log_does() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    store.propose(txn([put("a", "1"), put("b", "1")])).await.unwrap();
    store.checkpoint().await;
    store.propose(txn([put("c", "1")])).await.unwrap();
    store.abandon().await.unwrap();
    let store = Store::open(options(&dir, &disk)).unwrap();
    assert_eq!(store.oldest_watch(), 2);
    assert!(store.watch(Interest::all("configmaps"), 1).is_err());
    let mut watch = store.watch(Interest::all("configmaps"), 2).unwrap();
    assert_eq!(watch.next().await.unwrap()[0].key, Key::new("configmaps", "d", "c"));
    store.close().await.unwrap();
    assert_eq!(watch.next().await.unwrap_err(), WatchError::Stopped);
}

#[tokio::test]
async fn writers_that_wait_together_share_a_commit() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    let before = store.stats();
    disk.hold(LOG);
    let mut first = Box::pin(store.propose(txn([put("first", "1")])));
    assert!(poll_once(&mut first).is_pending());
    disk.wait_for_sync();
    // The first is being made durable; these come meanwhile.
    let propose = |i| Box::pin(tokio::task::unconstrained(store.propose(txn([put(&format!("n{i}"), "1")]))));
    let mut others: Vec<_> = (0..500).map(propose).collect();
    for other in &mut others {
        assert!(poll_once(other).is_pending());
    }
    assert_eq!(store.snapshot().revision(), 0, "nothing is shown before it is durable");
    disk.release();
    first.await.unwrap();
    for other in others {
        other.await.unwrap();
    }
    let after = store.stats();
    assert_eq!(after.proposals - before.proposals, 501);
    assert_eq!(after.commits - before.commits, 2);
    assert!(after.log_syncs - before.log_syncs <= 4, "{after:?}");
    assert_eq!(store.snapshot().count("configmaps"), 501);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_broken_disk_ends_all_promises_and_nothing_else() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    store.propose(txn([put("a", "1")])).await.unwrap();
    let mut watch = store.watch(Interest::all("configmaps"), 1).unwrap();
    disk.fail_syncs();
    assert!(matches!(store.propose(txn([put("a", "2")])).await, Err(ProposeError::Unknown(_))));
    assert!(store.health().unwrap_err().contains("the disk is broken"), "{:?}", store.health());
    assert!(matches!(store.propose(txn([put("a", "3")])).await, Err(ProposeError::Unhealthy(_))));
    assert!(matches!(store.read_index().await, Err(ReadError::Unhealthy(_))));
    assert!(!store.is_leader());
    // What was acknowledged is still there to be looked at; what was not was never shown.
    assert_eq!(data(&store.snapshot(), "a").as_deref(), Some("1"));
    assert!(watch.try_next().unwrap().is_none());
    assert!(store.close().await.is_err());
    let store = Store::open(options(&dir, &disk.reboot(None))).unwrap();
    assert_eq!(data(&store.snapshot(), "a").as_deref(), Some("1"));
    store.close().await.unwrap();
}

async fn healthy(store: &Store) {
    let mended = async {
        while store.health().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), mended).await.expect("the store goes on");
}

#[tokio::test]
async fn it_goes_on_when_the_disk_is_mended_and_watchers_miss_nothing() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    store.propose(txn([put("a", "1")])).await.unwrap();
    let mut watch = store.watch(Interest::all("configmaps"), store.snapshot().revision()).unwrap();
    let term = store.term();
    disk.fail_syncs();
    let lost = store.propose(txn([put("b", "1")])).await;
    assert!(matches!(lost, Err(ProposeError::Unknown(_))), "{lost:?}");
    assert!(store.health().is_err() && !store.is_leader());
    assert_eq!(data(&store.snapshot(), "a").as_deref(), Some("1"), "what is proven can be read all the while");
    disk.mend_syncs();
    healthy(&store).await;
    assert!(store.is_leader() && store.term() > term);
    store.propose(txn([put("c", "1")])).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&"c".to_string()) {
        seen.extend(watch.next().await.unwrap().iter().map(|c| c.key.name.to_string()));
    }
    // Whether `b` came to be is unknown; that it is told once if it did is not.
    let expected: Vec<&str> = match data(&store.snapshot(), "b") {
        Some(_) => vec!["b", "c"],
        None => vec!["c"],
    };
    assert_eq!(seen, expected);
    store.close().await.unwrap();
    // What was replayed is on disk like all else, with the log behind it cut.
    let store = Store::open(options(&dir, &disk.reboot(None))).unwrap();
    assert_eq!(["a", "c"].map(|name| data(&store.snapshot(), name)), [Some("1".to_string()), Some("1".to_string())]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_is_full_or_read_only_while_it_serves_is_called_that_and_costs_nothing() {
    use std::io::ErrorKind::{ReadOnlyFilesystem, StorageFull};
    for (kind, says) in [
        (StorageFull, "the disk is full: nothing is damaged or lost, it goes on when there is room"),
        (
            ReadOnlyFilesystem,
            "the file system is read-only: nothing is damaged or lost, it goes on when it can be written",
        ),
    ] {
        taken_away(kind, says).await;
    }
}

/// What becomes of a store whose disk takes no writes for a while, which it calls so.
async fn taken_away(kind: std::io::ErrorKind, says: &str) {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    store.propose(txn([put("a", "1")])).await.unwrap();
    disk.fail_syncs_as(kind);
    let lost = store.propose(txn([put("a", "2")])).await;
    assert!(matches!(&lost, Err(ProposeError::Unknown(why)) if why.contains(says)), "{lost:?}");
    assert!(store.health().is_err_and(|why| why.contains(says)), "from the first failure on: {:?}", store.health());
    let refused = store.propose(txn([put("b", "1")])).await;
    assert!(matches!(&refused, Err(ProposeError::Unhealthy(why)) if why.contains(says)), "{refused:?}");
    assert!(matches!(store.read_index().await, Err(ReadError::Unhealthy(_))));
    assert_eq!(data(&store.snapshot(), "a").as_deref(), Some("1"), "what is proven can be read all the while");
    // It can be written again, and holds all that was promised.
    disk.mend_syncs();
    healthy(&store).await;
    assert!(data(&store.snapshot(), "a").is_some() && data(&store.snapshot(), "b").is_none());
    assert!(matches!(store.propose(txn([put("b", "1")])).await, Ok(Outcome::Applied(_))));
    store.close().await.unwrap();
    let store = Store::open(options(&dir, &disk.reboot(None))).unwrap();
    assert!(["a", "b"].iter().all(|name| data(&store.snapshot(), name).is_some()));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_comes_back_without_what_it_promised_is_not_believed() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    store.propose(txn([put("a", "1")])).await.unwrap();
    disk.fail_syncs();
    store.propose(txn([put("b", "1")])).await.unwrap_err();
    disk.exchange();
    let noticed = async {
        while !store.health().is_err_and(|why| why.contains("must be replaced")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed)
        .await
        .unwrap_or_else(|_| panic!("it is noticed: {:?}", store.health()));
    assert!(matches!(store.propose(txn([put("c", "1")])).await, Err(ProposeError::Unhealthy(_))));
    store.close().await.unwrap_err();
}

#[tokio::test]
async fn a_failed_checkpoint_is_a_failure() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    store.propose(txn([put("a", "1")])).await.unwrap();
    disk.fail_syncs();
    store.checkpoint().await;
    assert!(store.health().is_err());
    assert!(store.close().await.is_err());
    // All of it is in the log.
    let store = Store::open(options(&dir, &disk.reboot(None))).unwrap();
    assert_eq!(data(&store.snapshot(), "a").as_deref(), Some("1"));
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_log_is_cut_behind_checkpoints() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let policy = CheckpointPolicy { bytes: 64 << 10, ..options(&dir, &disk).checkpoint };
    let store = Store::open(StoreOptions { checkpoint: policy, ..options(&dir, &disk) }).unwrap();
    let text = "x".repeat(1000);
    for i in 0..600 {
        store.propose(txn([put(&format!("n{}", i % 40), &text)])).await.unwrap();
    }
    assert!(store.stats().checkpoints >= 5, "{:?}", store.stats());
    store.abandon().await.unwrap();
    let backend = Guard::open(disk.open(LOG).unwrap(), Arc::default()).unwrap();
    let (log, contents) = LogFile::open(backend, 1, Durability::Immediate).map_err(|e| format!("{e:?}")).unwrap();
    assert!(contents.entries.len() < 400 && contents.truncated.index > 200, "{}", contents.truncated.index);
    drop(log);
    let store = Store::open(options(&dir, &disk)).unwrap();
    assert_eq!((store.snapshot().revision(), store.snapshot().count("configmaps")), (600, 40));
    store.close().await.unwrap();
}

#[tokio::test]
async fn dropping_the_last_handle_gives_the_folder_back() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    let mut watch = store.watch(Interest::all("pods"), 0).unwrap();
    let other = store.clone();
    drop(store);
    other.propose(txn([put("a", "1")])).await.unwrap();
    drop(other);
    assert_eq!(watch.next().await.unwrap_err(), WatchError::Stopped);
}

#[tokio::test]
async fn the_window_is_bounded() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let window = WindowLimits { changes: 10, bytes: usize::MAX };
    let store = Store::open(StoreOptions { window, ..options(&dir, &disk) }).unwrap();
    let mut slow = store.watch(Interest::all("configmaps"), 0).unwrap();
    for i in 0..1000 {
        store.propose(txn([put("a", &i.to_string())])).await.unwrap();
    }
    assert_eq!(store.oldest_watch(), 990);
    // It had room for some; what came after that is gone.
    let got = slow.next().await.unwrap();
    assert!(got.windows(2).all(|w| w[0].revision + 1 == w[1].revision) && got[0].revision == 1);
    assert!(matches!(slow.next().await, Err(WatchError::Compacted(_))));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_full_store_refuses_what_adds_until_there_is_space_again() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    let text = "x".repeat(2000);
    for i in 0..50 {
        store.propose(txn([put(&format!("n{i}"), &text)])).await.unwrap();
    }
    let used = store.report().object_bytes;
    assert!((100_000..120_000).contains(&used), "{used}");
    assert_eq!((store.report().full, store.space()), (false, Ok(())));
    store.set_quota(used);
    assert!(store.report().full && store.space().unwrap_err().contains(&format!("the quota is {used}")));
    assert_eq!(store.propose(txn([put("new", "1")])).await, Err(ProposeError::NoSpace));
    // What is there may change, and go.
    store.propose(txn([put("n0", &"y".repeat(2100))])).await.unwrap();
    let delete = |i: u32| Op::Delete { key: Key::new("configmaps", "d", format!("n{i}")) };
    store.propose(txn([delete(0)])).await.unwrap();
    assert_eq!(store.propose(txn([put("new", "1")])).await, Err(ProposeError::NoSpace));
    for i in 1..4 {
        store.propose(txn([delete(i)])).await.unwrap();
    }
    store.propose(txn([put("new", "1")])).await.unwrap();
    assert_eq!(store.space(), Ok(()));
    store.close().await.unwrap();
}

#[tokio::test]
async fn commits_are_timed() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let store = Store::open(options(&dir, &disk)).unwrap();
    for i in 0..5 {
        store.propose(txn([put("a", &i.to_string())])).await.unwrap();
    }
    let mut text = String::new();
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("commits", "Durations", store.commit_durations());
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let count = text.lines().find_map(|l| l.strip_prefix("commits_count ")).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(count.parse(), Ok(store.stats().commits));
    store.close().await.unwrap();
}
