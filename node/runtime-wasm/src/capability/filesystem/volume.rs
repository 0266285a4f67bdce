//! Volumes in memory (`emptyDir` of that medium): what is in them is memory of their pod, and of the node. Guests' writes are
//! counted as they come: before each of them room is taken for the most that it may need, and after it what it did not need is
//! given back. What guests delete is found by looking, at the latest when there is no room.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until};

/// A page of memory: what a file takes at least.
const PAGE: u64 = 4096;
/// How often it is looked what is in a volume, for those who ask what its pod uses.
const EVERY: Duration = Duration::from_secs(5);
/// A guest that fills a full volume again and again has it looked at no more often.
const AGAIN: Duration = Duration::from_millis(20);

/// There is no room in the volume, or in its pod's memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What a pod's containers and its volumes in memory take together.
pub(crate) struct PodMemory {
    total: Arc<Total>,
    volumes: Mutex<HashMap<PathBuf, Arc<Volume>>>,
}

struct Total {
    limit: u64,
    taken: AtomicU64,
}

impl Total {
    fn take(&self, bytes: u64) -> bool {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Relaxed);
    }
}

impl PodMemory {
    pub(crate) fn new(limit: Option<u64>) -> Arc<Self> {
        let total = Arc::new(Total { limit: limit.unwrap_or(u64::MAX), taken: AtomicU64::new(0) });
        Arc::new(PodMemory { total, volumes: Mutex::default() })
    }

    /// Bytes that all of it may take.
    pub(crate) fn limit(&self) -> u64 {
        self.total.limit
    }

    /// Takes memory for a container; `false` if there is none, even after a look at what the volumes have given back.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        self.total.take(bytes) || {
            self.all().iter().for_each(|volume| volume.look());
            self.total.take(bytes)
        }
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.total.give_back(bytes);
    }

    /// Bytes in the volumes.
    pub(crate) fn in_volumes(&self) -> u64 {
        self.all().iter().fold(0, |sum, volume| sum.saturating_add(volume.used()))
    }

    /// The volume at `root`, which may hold `size` bytes. It is looked at on `runtime`.
    pub(crate) fn volume(&self, root: &Path, size: u64, runtime: &Handle) -> Arc<Volume> {
        let new = || {
            let volume = Volume::new(root, size, self.total.clone());
            runtime.spawn(follow(Arc::downgrade(&volume)));
            volume
        };
        lock(&self.volumes).entry(root.to_owned()).or_insert_with(new).clone()
    }

    fn all(&self) -> Vec<Arc<Volume>> {
        lock(&self.volumes).values().cloned().collect()
    }
}

/// Looks at a volume now and then.
async fn follow(volume: Weak<Volume>) {
    let mut new = true;
    loop {
        let Some(volume) = volume.upgrade() else { return };
        if std::mem::replace(&mut new, false) || volume.used() > 0 {
            let _ = tokio::task::spawn_blocking(move || volume.look()).await;
        } else {
            drop(volume);
        }
        sleep(EVERY).await;
    }
}

/// A volume in memory, which all containers of its pod share.
pub(crate) struct Volume {
    root: PathBuf,
    size: u64,
    total: Arc<Total>,
    counted: Mutex<Counted>,
    /// Files in it that guests have opened: what was deleted is in none of its folders.
    opened: Mutex<Vec<Weak<File>>>,
    /// When somebody who found no room has looked last.
    looked: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    /// Bytes in it, and those taken for writes that are under way; never less.
    used: u64,
    /// The latter alone.
    under_way: u64,
}

impl Volume {
    fn new(root: &Path, size: u64, total: Arc<Total>) -> Arc<Self> {
        let (root, opened) = (root.to_owned(), Mutex::default());
        Arc::new(Volume { root, size, total, counted: Mutex::default(), opened, looked: Default::default() })
    }

    pub(crate) fn used(&self) -> u64 {
        lock(&self.counted).used
    }

    /// Bytes that can be written for sure.
    pub(crate) fn room(&self) -> u64 {
        let in_pod = self.total.limit.saturating_sub(self.total.taken.load(Relaxed));
        self.size.saturating_sub(self.used()).min(in_pod).saturating_sub(PAGE) / PAGE * PAGE
    }

    /// A guest has opened a file in it.
    pub(crate) fn opened(&self, file: &Arc<File>) {
        let mut opened = lock(&self.opened);
        if opened.len() == opened.capacity() {
            opened.retain(|file| file.strong_count() > 0);
        }
        opened.push(Arc::downgrade(file));
    }

    /// Takes room for `length` bytes that are about to be written to a file, at `offset` if that is known.
    pub(crate) async fn write(
        self: &Arc<Self>,
        file: Arc<File>,
        offset: Option<u64>,
        length: usize,
    ) -> Result<Writing, Full> {
        if let Some(writing) = self.try_write(&file, offset, length) {
            return Ok(writing);
        }
        self.look_again(|| self.try_write(&file, offset, length)).await.ok_or(Full)
    }

    /// The same if there is room without looking.
    pub(crate) fn try_write(self: &Arc<Self>, file: &Arc<File>, offset: Option<u64>, length: usize) -> Option<Writing> {
        let (blocks, size) = file.metadata().map_or((0, 0), |m| (m.blocks() * 512, m.len()));
        let bytes = needs(blocks, size, offset, length as u64);
        let mut counted = lock(&self.counted);
        if counted.used.saturating_add(bytes) > self.size || !self.total.take(bytes) {
            return None;
        }
        counted.used += bytes;
        counted.under_way += bytes;
        Some(Writing { volume: self.clone(), file: file.clone(), bytes, blocks })
    }

    /// Waits until there is room for another page, or it is certain that there is none.
    pub(crate) async fn wait(self: &Arc<Self>) {
        self.look_again(|| (self.room() > 0).then_some(())).await;
    }

    /// Looks at what is in it, unless somebody has just done so and `found` answers.
    async fn look_again<T>(self: &Arc<Self>, found: impl Fn() -> Option<T>) -> Option<T> {
        let mut looked = self.looked.lock().await;
        if let Some(found) = found() {
            return Some(found);
        }
        if let Some(at) = *looked {
            sleep_until(at + AGAIN).await;
        }
        let volume = self.clone();
        let _ = tokio::task::spawn_blocking(move || volume.look()).await;
        *looked = Some(Instant::now());
        found()
    }

    /// Looks at what is in it. What is written meanwhile counts on top, at worst twice until the next look.
    fn look(&self) {
        let before = *lock(&self.counted);
        let Some(found) = self.found() else { return };
        let mut counted = lock(&self.counted);
        let now = (found + before.under_way + counted.used).saturating_sub(before.used);
        self.total.taken.fetch_add(now, Relaxed);
        self.total.give_back(counted.used);
        counted.used = now;
    }

    /// Bytes of all files in it, in folders or only open. `None` if it cannot be told: a guest can hide things in a path that
    /// is too long.
    fn found(&self) -> Option<u64> {
        let (mut folders, mut bytes, mut seen) = (vec![self.root.clone()], 0, HashSet::new());
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => return None,
            };
            for entry in entries {
                let entry = entry.ok()?;
                let meta = match entry.metadata() {
                    Ok(meta) => meta,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(_) => return None,
                };
                if meta.is_dir() {
                    folders.push(entry.path());
                } else if meta.nlink() == 1 || seen.insert(meta.ino()) {
                    bytes += meta.blocks() * 512;
                }
            }
        }
        for file in lock(&self.opened).iter().filter_map(Weak::upgrade) {
            let Ok(meta) = file.metadata() else { continue };
            if meta.nlink() == 0 && seen.insert(meta.ino()) {
                bytes += meta.blocks() * 512;
            }
        }
        Some(bytes)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.total.give_back(self.used());
    }
}

/// Bytes that a write may bring to a file of so many bytes in blocks. What is not sparse is only written over up to its end.
fn needs(blocks: u64, size: u64, offset: Option<u64>, length: u64) -> u64 {
    let most = (length.div_ceil(PAGE) + 1) * PAGE;
    match offset {
        Some(offset) if blocks >= size && offset <= size => {
            offset.saturating_add(length).div_ceil(PAGE).saturating_mul(PAGE).saturating_sub(blocks).min(most)
        }
        _ => most,
    }
}

/// A write that is under way. When it is dropped, what the file has not grown by is given back.
pub(crate) struct Writing {
    volume: Arc<Volume>,
    file: Arc<File>,
    bytes: u64,
    blocks: u64,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let blocks = self.file.metadata().map_or(u64::MAX, |m| m.blocks() * 512);
        let spare = self.bytes.saturating_sub(blocks.saturating_sub(self.blocks));
        let mut counted = lock(&self.volume.counted);
        counted.used = counted.used.saturating_sub(spare);
        counted.under_way -= self.bytes;
        self.volume.total.give_back(spare);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn volume(size: u64, limit: u64) -> (tempfile::TempDir, Arc<PodMemory>, Arc<Volume>) {
        let dir = tempfile::tempdir().unwrap();
        let pod = PodMemory::new(Some(limit));
        let volume = Volume::new(dir.path(), size, pod.total.clone());
        lock(&pod.volumes).insert(dir.path().to_owned(), volume.clone());
        (dir, pod, volume)
    }

    fn file(dir: &tempfile::TempDir, volume: &Volume, name: &str) -> Arc<File> {
        let file = Arc::new(File::create(dir.path().join(name)).unwrap());
        volume.opened(&file);
        file
    }

    async fn write(volume: &Arc<Volume>, file: &Arc<File>, pages: usize) -> Result<(), Full> {
        let size = file.metadata().unwrap().len();
        let _writing = volume.write(file.clone(), Some(size), pages * 4096).await?;
        (&**file).write_all(&vec![1; pages * 4096]).unwrap();
        file.sync_all().unwrap(); // a file system on disk allocates then
        Ok(())
    }

    #[tokio::test]
    async fn writes_count_until_their_files_are_gone() {
        let (dir, pod, volume) = volume(10 * PAGE, u64::MAX);
        let (one, two) = (file(&dir, &volume, "one"), file(&dir, &volume, "two"));
        write(&volume, &one, 6).await.unwrap();
        write(&volume, &two, 4).await.unwrap();
        assert_eq!((volume.used(), pod.in_volumes(), volume.room()), (10 * PAGE, 10 * PAGE, 0));
        assert_eq!(write(&volume, &two, 1).await, Err(Full));
        // In place there is room, whatever is full.
        drop(volume.write(one.clone(), Some(0), 6 * 4096).await.unwrap());
        std::fs::remove_file(dir.path().join("one")).unwrap();
        assert_eq!(write(&volume, &two, 1).await, Err(Full), "it is open");
        drop(one);
        write(&volume, &two, 6).await.unwrap();
        assert_eq!(volume.used(), 10 * PAGE);
    }

    #[tokio::test]
    async fn they_count_to_the_pods_memory() {
        let (dir, pod, volume) = volume(u64::MAX, 10 * PAGE);
        let one = file(&dir, &volume, "one");
        assert!(pod.take(4 * PAGE));
        write(&volume, &one, 5).await.unwrap();
        assert!(!pod.take(2 * PAGE));
        assert_eq!(write(&volume, &one, 2).await, Err(Full));
        std::fs::remove_file(dir.path().join("one")).unwrap();
        drop(one);
        assert!(pod.take(6 * PAGE), "what was deleted is looked for");
        pod.give_back(10 * PAGE);
        assert_eq!((pod.in_volumes(), pod.total.taken.load(Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn what_was_there_before_counts_and_what_cannot_be_seen_stays_counted() {
        let (dir, _pod, volume) = volume(10 * PAGE, u64::MAX);
        let deep = dir.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("old"), vec![1; 4096 * 3]).unwrap();
        std::fs::hard_link(deep.join("old"), dir.path().join("same")).unwrap();
        File::open(deep.join("old")).unwrap().sync_all().unwrap();
        volume.look();
        assert_eq!(volume.used(), 3 * PAGE);
        let gone = Volume::new(Path::new("/nowhere/at/all"), 10, volume.total.clone());
        gone.look();
        assert_eq!(gone.used(), 0);
        let unreadable = Volume::new(&PathBuf::from("x/".repeat(4096)), PAGE * 4, volume.total.clone());
        let one = file(&dir, &unreadable, "one");
        std::mem::forget(unreadable.try_write(&one, None, 1).unwrap());
        unreadable.look();
        assert_eq!(unreadable.used(), 2 * PAGE);
    }

    #[test]
    fn what_a_write_needs() {
        for (blocks, size, offset, length, want) in [
            (0, 0, Some(0), 1, 1),
            (2, 8192, Some(0), 8192, 0),
            (2, 8192, Some(8192), 1, 1),
            (2, 5000, Some(5000), 3192, 0),
            (2, 8192, Some(4096), 8192, 1),
            (2, 8192, Some(20_000), 4096, 2), // at the end of a hole
            (1, 8192, Some(0), 8192, 3),      // in a hole
            (2, 8192, None, 1, 2),
        ] {
            assert_eq!(needs(blocks * PAGE, size, offset, length), want * PAGE, "{offset:?}, {length}");
        }
    }
}
