//! Storage formats of the past: a folder that a release wrote is opened by every later one.

use std::path::{Path, PathBuf};

use copepod_server::store::{Store, StoreOptions, offline};

/// A copy of the folder that a release of this format left when it was killed, with some writes in its log alone.
fn copy(format: u32) -> (tempfile::TempDir, PathBuf) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/format-{format}"));
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("state");
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    (dir, to)
}

#[tokio::test]
async fn a_folder_of_format_1_opens() {
    let (_dir, state) = copy(1);
    let store = Store::open(StoreOptions::new(&state, 1)).unwrap();
    let tables = store.snapshot();
    let data = |name: &str| tables.find("configmaps", "default", name).unwrap().value()["data"].clone();
    let expected = serde_json::json!({"written-by": "storage format 1"});
    assert_eq!((data("fixture"), data("tail")), (expected.clone(), expected));
    assert!(tables.find("secrets", "default", "sealed").is_some());
    let count = tables.len() as u64;
    store.close().await.unwrap();
    // What it has become is whole, too.
    let found = offline::verify(&state).unwrap();
    assert_eq!((found.member, found.objects, found.format), (1, count, copepod_server::store::FORMAT));
}

#[test]
fn a_folder_that_was_killed_verifies_as_it_is() {
    let (_dir, state) = copy(1);
    let found = offline::verify(&state).unwrap();
    assert!(found.objects > 10 && found.revision > 10 && found.last > found.checkpoint, "{found:?}");
}
