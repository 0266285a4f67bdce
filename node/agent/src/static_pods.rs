//! The folder of static pods: one manifest a file, as YAML or JSON. What is bad is logged and left out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copepod_node_plan::{StaticOrigin, static_pod};
use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::clock::now;

/// How often the folder is read though nobody said that it has changed: the kubelet's `fileCheckFrequency`.
const CHECK: Duration = Duration::from_secs(20);
/// The largest manifest.
const LARGEST: u64 = 1 << 20;
/// The most manifests.
const MOST: usize = 1000;

/// Static pods by namespace and name.
pub(crate) type Set = BTreeMap<(String, String), Value>;

/// Follows the folder until nobody listens any more: all pods, whenever they are others than before.
pub(crate) async fn follow(dir: PathBuf, node: String, to: mpsc::Sender<Set>) {
    if let Err(error) = std::fs::create_dir_all(&dir) {
        tracing::warn!(dir = %dir.display(), %error, "cannot make the folder of static pods");
    }
    let mut watch = watch(&dir).map_err(|error| {
        tracing::warn!(dir = %dir.display(), %error, "cannot watch the folder of static pods, looking now and then");
    });
    let mut ticks = tokio::time::interval(CHECK);
    let mut files = BTreeMap::new();
    let mut sent = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = changed(watch.as_mut().ok()) => {}
            () = to.closed() => return,
        }
        match read(&dir, &files) {
            Ok(found) if found == files && sent => {}
            Ok(found) => {
                files = found;
                if to.send(pods(&files, &node)).await.is_err() {
                    return;
                }
                sent = true;
            }
            // What was there before goes on.
            Err(error) => tracing::warn!(dir = %dir.display(), %error, "cannot read the folder of static pods"),
        }
    }
}

fn watch(dir: &Path) -> io::Result<EventStream<[u8; 4096]>> {
    let inotify = Inotify::init()?;
    let what = WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::DELETE;
    inotify.watches().add(dir, what)?;
    inotify.into_event_stream([0; 4096])
}

/// Until something has changed, which is found by reading the folder; for ever without a watch.
async fn changed(watch: Option<&mut EventStream<[u8; 4096]>>) {
    let event = match watch {
        Some(watch) => watch.next().await,
        None => None,
    };
    if event.is_none_or(|e| e.is_err()) {
        std::future::pending().await
    }
}

/// The files and what they say. A file that cannot be read says what it said before.
fn read(dir: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
        let Ok(about) = std::fs::metadata(&path) else { continue };
        if hidden || !about.is_file() {
            continue;
        }
        if about.len() > LARGEST || files.len() >= MOST {
            tracing::warn!(file = %path.display(), "too large or one too many for a static pod, ignored");
            continue;
        }
        match std::fs::read(&path) {
            Ok(text) => drop(files.insert(path, text)),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "cannot read a static pod");
                if let Some(text) = before.get(&path) {
                    files.insert(path, text.clone());
                }
            }
        }
    }
    Ok(files)
}

fn pods(files: &BTreeMap<PathBuf, Vec<u8>>, node: &str) -> Set {
    let mut set = Set::new();
    for (path, text) in files {
        let pod = copepod_model::yaml::from_slice(text).and_then(|manifest| {
            let origin = StaticOrigin { node, uid: &uid(node, path, text), now: now() };
            static_pod(manifest, origin)
        });
        let pod = match pod {
            Ok(pod) => pod,
            Err(error) => {
                tracing::warn!(file = %path.display(), error, "not a static pod, ignored");
                continue;
            }
        };
        let part = |name: &str| pod["metadata"][name].as_str().unwrap_or_default().to_string();
        let key = (part("namespace"), part("name"));
        if set.contains_key(&key) {
            tracing::warn!(file = %path.display(), "another file asks for a pod of this name, ignored");
            continue;
        }
        set.insert(key, pod);
    }
    set
}

/// A UUID that is another one when the node, the file's path or its content is.
fn uid(node: &str, path: &Path, text: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [node.as_bytes(), path.as_os_str().as_encoded_bytes(), text] {
        hash.update(u64::try_from(part.len()).unwrap_or(0).to_be_bytes());
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_come_change_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let (to, mut sets) = mpsc::channel(1);
        let following = tokio::spawn(follow(dir.path().into(), "n".into(), to));
        assert!(sets.recv().await.unwrap().is_empty(), "an empty folder is said too");
        let put = |name: &str, text: &str| {
            // Moved into place, so that nobody reads a half.
            std::fs::write(dir.path().join(".new"), text).unwrap();
            std::fs::rename(dir.path().join(".new"), dir.path().join(name)).unwrap();
        };
        let pod = |image: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n"
            )
        };
        let key = ("default".to_string(), "web-n".to_string());
        put("web.yaml", &pod("a"));
        let first = sets.recv().await.unwrap()[&key].clone();
        put("web.yaml", &pod("b"));
        let second = sets.recv().await.unwrap()[&key].clone();
        assert_ne!(first["metadata"]["uid"], second["metadata"]["uid"]);
        put("bad.yaml", "kind: [");
        assert_eq!(sets.recv().await.unwrap().len(), 1, "a bad file harms nobody");
        std::fs::remove_file(dir.path().join("web.yaml")).unwrap();
        assert!(sets.recv().await.unwrap().is_empty());
        drop(sets);
        following.await.unwrap();
    }
}
