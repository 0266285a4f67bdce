use super::*;
use copepod_node_plan::VolumeFile;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

struct Bench {
    dir: tempfile::TempDir,
    volumes: Volumes,
    uid: Arc<str>,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().join("data"), allow_host_path: true };
        fs::create_dir(&config.data_dir).unwrap();
        Bench { volumes: Volumes::open(&config).unwrap(), dir, uid: "uid-1".into() }
    }
    fn mount(&self, content: &VolumeContent) -> Result<PathBuf, String> {
        self.volumes.mount(&self.uid, "v", content).map_err(|e| e.to_string())
    }
    fn host(&self, path: &str, kind: &str) -> Result<PathBuf, String> {
        self.mount(&VolumeContent::HostPath { path: self.dir.path().join(path), kind: kind.into() })
    }
    fn prepare(&self, mounts: &[(&str, &Path, &str, bool)]) -> Result<Vec<Mount>, String> {
        let mut list: Vec<Mount> = mounts
            .iter()
            .map(|(path, host, sub, read_only)| Mount {
                path: (*path).into(),
                host: host.into(),
                sub_path: (*sub).into(),
                read_only: *read_only,
                memory: None,
            })
            .collect();
        self.volumes.prepare("uid-1", "c", &mut list).map(|()| list).map_err(|e| e.to_string())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(memory) = &self.volumes.memory {
            let _ = fs::remove_dir_all(memory);
        }
    }
}

fn files(list: &[(&str, &str)]) -> BTreeMap<String, VolumeFile> {
    list.iter().map(|(p, d)| (p.to_string(), VolumeFile { data: d.as_bytes().into(), mode: 0o644 })).collect()
}

fn empty(memory: bool) -> VolumeContent {
    VolumeContent::EmptyDir { memory, size_limit: Some(1 << 20) }
}

#[test]
fn files_are_exchanged_all_at_once() {
    let b = Bench::new();
    let at = b.mount(&VolumeContent::ConfigMap(files(&[("a", "1"), ("d/b", "1")]))).unwrap();
    let read = |p: &str| fs::read_to_string(at.join(p)).ok();
    assert_eq!((read("a").as_deref(), read("d/b").as_deref()), (Some("1"), Some("1")));
    assert_eq!(fs::read_link(at.join("a")).unwrap(), Path::new("..data/a"));
    let first = fs::read_link(at.join("..data")).unwrap();
    let open = fs::File::open(at.join("..data")).unwrap();

    b.mount(&VolumeContent::ConfigMap(files(&[("a", "1"), ("d/b", "1")]))).unwrap();
    assert_eq!(fs::read_link(at.join("..data")).unwrap(), first, "what is the same is left alone");

    b.mount(&VolumeContent::ConfigMap(files(&[("a", "2"), ("c", "2")]))).unwrap();
    assert_eq!((read("a").as_deref(), read("c").as_deref(), read("d/b")), (Some("2"), Some("2"), None));
    assert!(fs::symlink_metadata(at.join("d")).is_err(), "what is gone has no link");
    assert!(!at.join(first).exists(), "the old files are gone");
    assert_eq!(fs::read_dir(&at).unwrap().count(), 4, "..data, its folder and two links");
    drop(open);
}

#[test]
fn hostile_paths_are_refused() {
    let b = Bench::new();
    let long = "x".repeat(256);
    for path in ["../x", "/x", "..", "a/../../x", "..x", "a//b", "", "a/./b", long.as_str()] {
        let e = b.mount(&VolumeContent::Secret(files(&[(path, "x")]))).unwrap_err();
        assert!(e.starts_with("invalid path"), "{path}: {e}");
    }
    for name in ["..", ".", "a/b", ""] {
        assert!(b.volumes.mount(&b.uid, name, &empty(false)).is_err(), "{name}");
        assert!(b.volumes.mount(&name.into(), "v", &empty(false)).is_err(), "{name}");
    }
    b.volumes.remove("..");
    assert!(b.dir.path().join("data").is_dir());
}

#[test]
fn what_is_secret_is_nobody_elses() {
    let b = Bench::new();
    let at = b.mount(&VolumeContent::Secret(files(&[("k", "hush")]))).unwrap();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&at.join("k")), 0o600);
    for folder in
        at.ancestors().take_while(|p| p.ends_with("v") || !p.ends_with("shm") && *p != b.dir.path().join("data"))
    {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    if let Some(memory) = &b.volumes.memory {
        assert!(at.starts_with(memory));
        let device = |p: &Path| fs::metadata(p).unwrap().dev();
        assert_ne!(device(&at), device(b.dir.path()), "it is not on disk");
    }
}

#[test]
fn an_empty_dir_lives_as_long_as_its_pod() {
    let b = Bench::new();
    let at = b.mount(&empty(false)).unwrap();
    fs::write(at.join("kept"), "x").unwrap();
    assert_eq!(b.mount(&empty(false)).unwrap(), at);
    assert!(at.join("kept").exists());
    let again = Volumes::open(&Config { data_dir: b.dir.path().join("data"), allow_host_path: false }).unwrap();
    let known = [b.uid.clone()].into();
    assert!(again.orphans(&known).is_empty());
    assert_eq!(again.orphans(&BTreeSet::new()), ["uid-1".to_string()].into());
    again.remove("uid-1");
    assert!(!at.exists());
    if b.volumes.memory.is_some() {
        let at = b.mount(&empty(true)).unwrap();
        assert!(at.starts_with("/dev/shm"));
        b.volumes.remove("uid-1");
        assert!(!at.exists());
    }
}

#[test]
fn too_much_is_seen() {
    let b = Bench::new();
    let at = b.mount(&empty(false)).unwrap();
    fs::File::create(at.join("sparse")).unwrap().set_len(1 << 30).unwrap();
    symlink("/", at.join("root")).unwrap();
    assert_eq!(b.volumes.overruns(), [], "holes and what links lead to do not count");
    fs::create_dir_all(at.join("a/b")).unwrap();
    fs::write(at.join("a/b/c"), vec![1; 2 << 20]).unwrap();
    let over = b.volumes.overruns();
    assert_eq!((over.len(), over[0].name.as_str(), over[0].bytes >= 2 << 20), (1, "v", true));
    let measured = b.volumes.measured();
    assert_eq!((measured.len(), measured[0].bytes, measured[0].bytes > measured[0].limit), (1, over[0].bytes, true));
    assert!(b.volumes.local_bytes("uid-1") >= over[0].bytes, "it is on disk");
    assert_eq!((b.volumes.local_bytes("uid-2"), b.volumes.local_bytes("..")), (0, 0));
    b.volumes.remove("uid-1");
    assert_eq!((b.volumes.overruns(), b.volumes.measured()), (vec![], vec![]));
}

#[test]
fn host_paths_are_checked_and_made() {
    let b = Bench::new();
    let path = |p: &str| b.dir.path().join(p);
    fs::write(path("file"), "x").unwrap();
    let not = |p: &str, what: &str| format!("hostPath type check failed: {} is not a {what}", path(p).display());
    assert_eq!(b.host("file", "Directory").unwrap_err(), not("file", "directory"));
    assert_eq!(b.host("none", "Directory").unwrap_err(), not("none", "directory"));
    assert_eq!(b.host("data", "File").unwrap_err(), not("data", "file"));
    assert_eq!(b.host("file", "Socket").unwrap_err(), not("file", "socket file"));
    assert_eq!(b.host("file", "CharDevice").unwrap_err(), not("file", "character device"));
    assert_eq!(b.host("file", "BlockDevice").unwrap_err(), not("file", "block device"));
    for (p, kind) in [
        ("data", ""),
        ("data", "Directory"),
        ("file", "File"),
        ("new/dir", "DirectoryOrCreate"),
        ("new/file", "FileOrCreate"),
    ] {
        assert_eq!(b.host(p, kind).unwrap(), path(p));
    }
    assert!(path("new/dir").is_dir() && path("new/file").is_file());
    assert!(b.host("none", "").unwrap_err().ends_with("does not exist"));
    assert!(b.host("data/../file", "").is_err());
    assert!(
        b.mount(&VolumeContent::HostPath { path: "/dev/null".into(), kind: "CharDevice".into() })
            .unwrap_err()
            .contains("no wasm guest")
    );
    let closed = Volumes::open(&Config { data_dir: path("data"), allow_host_path: false }).unwrap();
    let e =
        closed.mount(&b.uid, "v", &VolumeContent::HostPath { path: path("data"), kind: String::new() }).unwrap_err();
    assert_eq!(e.to_string(), "hostPath volumes are not allowed on this node");
}

#[test]
fn sub_paths_are_made_inside_and_nowhere_else() {
    let b = Bench::new();
    let at = b.mount(&empty(false)).unwrap();
    fs::create_dir(b.dir.path().join("outside")).unwrap();
    symlink(b.dir.path().join("outside"), at.join("absolute")).unwrap();
    symlink("../../../../../../outside", at.join("relative")).unwrap();
    assert_eq!(b.prepare(&[("/x", &at, "a/b", false)]).unwrap()[0].sub_path, "a/b");
    assert!(at.join("a/b").is_dir());
    for hostile in ["absolute/new", "relative/new", "../new", "a/../../new", "absolute", "relative"] {
        let e = b.prepare(&[("/x", &at, hostile, false)]).unwrap_err();
        assert!(e.starts_with("failed to prepare subPath"), "{hostile}: {e}");
    }
    assert_eq!(fs::read_dir(b.dir.path().join("outside")).unwrap().count(), 0);
}

#[test]
fn a_mounted_file_stands_in_a_directory_of_its_own() {
    let b = Bench::new();
    let config = b.volumes.mount(&b.uid, "m", &VolumeContent::ConfigMap(files(&[("a", "1"), ("b", "1")]))).unwrap();
    let data = b.mount(&empty(false)).unwrap();
    fs::write(data.join("f"), "old").unwrap();
    symlink("/etc/passwd", data.join("passwd")).unwrap();
    let m = b
        .prepare(&[
            ("/etc/app/one", &config, "a", true),
            ("/etc/app/two", &config, "b", true),
            ("/d/f", &data, "f", false),
        ])
        .unwrap();
    assert_eq!((m[0].path.as_str(), m[0].host == m[1].host, m[0].read_only), ("/etc/app", true, true));
    assert_eq!(fs::read_to_string(m[0].host.join("one")).unwrap(), "1");
    fs::write(m[2].host.join("f"), "new").unwrap();
    assert_eq!(fs::read_to_string(data.join("f")).unwrap(), "new", "it is the same file");
    b.volumes.mount(&b.uid, "m", &VolumeContent::ConfigMap(files(&[("a", "2")]))).unwrap();
    assert_eq!(fs::read_to_string(m[0].host.join("one")).unwrap(), "1", "a subPath does not follow");
    assert_eq!(fs::read_to_string(m[0].host.join("two")).unwrap(), "1");

    assert!(b.prepare(&[("/d/p", &data, "passwd", false)]).is_err());
    let e = b.prepare(&[("/d", &data, "", false), ("/d/one", &config, "a", true)]).unwrap_err();
    assert!(e.contains("not possible for wasm containers"), "{e}");
}

/// An attempt's file at `path`, among these mounts.
fn message(b: &Bench, path: &str, mounts: &[Mount]) -> MessageFile {
    let id = copepod_node_plan::ContainerId { pod_uid: b.uid.clone(), container: "c".into(), attempt: 0 };
    let own = b.volumes.message_dir(&id);
    let wanted = copepod_node_plan::TerminationMessage { path: path.into(), own, fallback_to_logs: false };
    MessageFile::of(&wanted, mounts).unwrap()
}

#[test]
fn a_message_is_the_end_of_a_file_of_its_own() {
    let b = Bench::new();
    let file = message(&b, "/dev/termination-log", &[]);
    assert_eq!(file.read(), Ok(Vec::new()), "nobody has looked for it");
    let dir = b.dir.path().join("data/pods/uid-1/messages/c/0");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("termination-log"), "x".repeat(5000) + "the end").unwrap();
    let left = file.read().unwrap();
    assert!(left.len() == 4096 && left.ends_with(b"xthe end"));
    assert_eq!(b.volumes.local_bytes("uid-1"), disk_usage(&b.dir.path().join("data/pods/uid-1/messages")));
    file.remove();
    assert!(!dir.exists());
}

#[test]
fn a_message_leads_nowhere_else() {
    let b = Bench::new();
    let file = message(&b, "/dev/log", &[]);
    let dir = b.dir.path().join("data/pods/uid-1/messages/c/0");
    fs::create_dir_all(&dir).unwrap();
    fs::write(b.dir.path().join("secret"), "secret").unwrap();
    for to in ["../../../../../../secret", "/etc/passwd"] {
        symlink(to, dir.join("log")).unwrap();
        assert!(file.read().is_err(), "{to}");
        fs::remove_file(dir.join("log")).unwrap();
    }
    fs::create_dir(dir.join("log")).unwrap();
    assert_eq!(file.read(), Err("not a regular file".into()));
    fs::remove_dir(dir.join("log")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("log"), fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert_eq!(file.read(), Err("not a regular file".into()), "and nobody waits for its other end");
}

#[test]
fn a_message_in_a_mount_is_what_was_written_since() {
    let b = Bench::new();
    let at = b.mount(&empty(false)).unwrap();
    fs::create_dir(at.join("sub")).unwrap();
    let mounts = b.prepare(&[("/data", &at, "sub", false)]).unwrap();
    let before = message(&b, "/data/log", &mounts);
    assert_eq!(before.read(), Ok(Vec::new()));
    fs::write(at.join("sub/log"), "first").unwrap();
    assert_eq!(before.read(), Ok(b"first".to_vec()));
    let next = message(&b, "/data/log", &mounts);
    assert_eq!(next.read(), Ok(Vec::new()), "that was another attempt's");
    fs::write(at.join("sub/log"), "second").unwrap();
    assert_eq!(next.read(), Ok(b"second".to_vec()));
    next.remove();
    assert!(at.join("sub/log").exists());
}
