//! What a guest reaches of its mounts, and what it does not.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use copepod_node_plan::Mount;

use super::fixture::Node;
use crate::Reason;

/// Opens a path under its first directory, following symbolic links, and ends with preview 1's error number.
fn opens(path: &str, create: bool) -> String {
    let (oflags, length) = (i32::from(create), path.len());
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "{path}")
        (func (export "_start")
            (call $exit (call $open (i32.const 3) (i32.const 1) (i32.const 64) (i32.const {length}) (i32.const {oflags})
                (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 8)))))"#
    )
}

/// A volume among things that are none of its guest's business.
struct Volume {
    dir: tempfile::TempDir,
}

impl Volume {
    fn new() -> Volume {
        let dir = tempfile::tempdir().unwrap();
        let at = |p: &str| dir.path().join(p);
        std::fs::create_dir_all(at("volume/sub/deep")).unwrap();
        std::fs::create_dir(at("outside")).unwrap();
        for file in ["volume/file", "volume/sub/file", "outside/secret"] {
            std::fs::write(at(file), file).unwrap();
        }
        symlink("../outside", at("volume/out")).unwrap();
        symlink(at("outside"), at("volume/absolute")).unwrap();
        symlink("/", at("volume/root")).unwrap();
        symlink("../../outside/secret", at("volume/sub/secret")).unwrap();
        symlink("sub/file", at("volume/inner")).unwrap();
        Volume { dir }
    }

    fn mount(&self, sub_path: &str, read_only: bool) -> Mount {
        Mount { path: "/data".into(), host: self.host(), sub_path: sub_path.into(), read_only, memory: None }
    }

    fn host(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    fn outside(&self) -> Vec<PathBuf> {
        let list = std::fs::read_dir(self.dir.path().join("outside")).unwrap();
        list.map(|e| e.unwrap().path()).collect()
    }
}

async fn open(node: &Node, mounts: Vec<Mount>, path: &str, create: bool) -> i32 {
    let module = node.wat(&opens(path, create)).await;
    node.start_module(module, |spec| spec.mounts = mounts).exit().await.code
}

const PERM: i32 = 63;
const NOSPC: i32 = 51;
const XDEV: i32 = 75;
const BADF: i32 = 8;

#[tokio::test]
async fn a_mount_is_read_and_written() {
    let (node, volume) = (Node::new(), Volume::new());
    for path in ["file", "sub/file", "inner", "sub/../file", "./file"] {
        assert_eq!(open(&node, vec![volume.mount("", false)], path, false).await, 0, "{path}");
    }
    assert_eq!(open(&node, vec![volume.mount("", false)], "new", true).await, 0);
    assert!(volume.host().join("new").is_file());
    assert_eq!(open(&node, vec![volume.mount("sub", false)], "other", true).await, 0);
    assert!(volume.host().join("sub/other").is_file());
    assert_eq!(open(&node, vec![], "file", false).await, BADF, "nothing is preopened where nothing is mounted");
}

#[tokio::test]
async fn a_read_only_mount_is_only_read() {
    let (node, volume) = (Node::new(), Volume::new());
    assert_eq!(open(&node, vec![volume.mount("", true)], "file", false).await, 0);
    assert_eq!(open(&node, vec![volume.mount("", true)], "new", true).await, PERM);
    assert!(!volume.host().join("new").exists());
}

#[tokio::test]
async fn no_path_leads_out_of_a_mount() {
    let (node, volume) = (Node::new(), Volume::new());
    let absolute = volume.dir.path().join("outside/secret").display().to_string();
    let hostile = [
        "..",
        "../outside/secret",
        "sub/../../outside/secret",
        "out/secret",
        "absolute/secret",
        "root/etc/passwd",
        "sub/secret",
        "/etc/passwd",
        "root",
        &absolute,
        "sub/deep/../../../outside/secret",
        "./.././outside/secret",
    ];
    for path in hostile {
        assert_ne!(open(&node, vec![volume.mount("", false)], path, false).await, 0, "{path}");
    }
    for path in ["../outside/new", "out/new", "absolute/new", "sub/../../outside/new"] {
        assert_ne!(open(&node, vec![volume.mount("", false)], path, true).await, 0, "{path}");
    }
    assert_eq!(volume.outside(), [volume.dir.path().join("outside/secret")]);
}

#[tokio::test]
async fn no_sub_path_leads_out_of_its_volume() {
    let (node, volume) = (Node::new(), Volume::new());
    for sub_path in ["..", "out", "absolute", "root", "../outside", "sub/../../outside", "/etc", "file", "missing"] {
        let module = node.wat(&opens("secret", false)).await;
        let exit = node.start_module(module, |spec| spec.mounts = vec![volume.mount(sub_path, false)]).exit().await;
        assert_eq!(exit.reason, Reason::StartError, "{sub_path}: {exit:?}");
        assert!(exit.message.contains("cannot open the volume at \"/data\""), "{}", exit.message);
    }
}

#[tokio::test]
async fn the_working_directory_is_where_relative_paths_begin() {
    let (node, volume) = (Node::new(), Volume::new());
    // Descriptor 4, after the mount, is the working directory.
    let module = node.wat(&opens("file", false).replace("i32.const 3", "i32.const 4")).await;
    for (dir, code) in [("/data/sub", 0), ("/data", 0), ("/data/sub/deep", 44), ("/database", BADF), ("", BADF)] {
        let set = |spec: &mut copepod_node_plan::ContainerSpec| {
            spec.mounts = vec![volume.mount("", false)];
            spec.working_dir = dir.into();
        };
        assert_eq!(node.start_module(module.clone(), set).exit().await.code, code, "{dir}");
    }
}

/// The same through `wasi:filesystem`, with a real program.
#[tokio::test]
async fn a_component_sees_the_same() {
    let (node, volume) = (Node::new(), Volume::new());
    let run = async |read_only: bool, words: &str| {
        let mut container = node
            .start("files", |spec| {
                spec.mounts = vec![volume.mount("", read_only)];
                spec.args = words.split(' ').map(str::to_owned).collect();
            })
            .await;
        let code = container.exit().await.code;
        (code, container.logs.text())
    };
    assert_eq!(
        run(false, "cat /data/inner , ls /data/sub").await,
        (0, "out: /data/inner: volume/sub/file\nout: /data/sub: deep file secret\n".into())
    );
    assert_eq!(run(false, "mkdir /data/a/b , write /data/a/b/c hi , mv /data/a/b/c /data/d , cat /data/d").await.0, 0);
    assert_eq!(std::fs::read_to_string(volume.host().join("d")).unwrap(), "hi");
    for hostile in [
        "cat /data/../outside/secret",
        "cat /data/out/secret",
        "cat /data/absolute/secret",
        "cat /data/root/etc/passwd",
        "cat /etc/passwd",
        "ls /",
        "write /data/out/new x",
        "mv /data/file /data/out/file",
        "rm /data/out/secret",
        "mkdir /data/out/dir",
        "link /etc/passwd /data/link",
        "link ../outside/secret /data/link , cat /data/link",
    ] {
        let (code, log) = run(false, hostile).await;
        assert_eq!(code, 1, "{hostile}: {log}");
        assert!(!log.contains("outside/secret\nout") && !log.contains("root:"), "{hostile}: {log}");
    }
    assert_eq!(volume.outside(), [volume.dir.path().join("outside/secret")]);
    for change in
        ["write /data/file x", "rm /data/file", "mkdir /data/x", "mv /data/file /data/x", "append /data/file 1"]
    {
        assert_eq!(run(true, change).await.0, 1, "{change}");
    }
    assert_eq!(std::fs::read_to_string(volume.host().join("file")).unwrap(), "volume/file");
}

#[tokio::test]
async fn a_message_is_left_in_a_directory_of_its_own() {
    let (node, volume) = (Node::new(), Volume::new());
    let own = volume.dir.path().join("messages/c/0");
    let run = async |words: &str, mounts: Vec<Mount>| {
        let mut container = node
            .start("files", |spec| {
                spec.args = words.split(' ').map(str::to_owned).collect();
                spec.mounts = mounts;
                (spec.termination.path, spec.termination.own) = ("/dev/termination-log".into(), Some(own.clone()));
            })
            .await;
        (container.exit().await.code, container.logs.text())
    };
    assert_eq!(run("sleep 0", Vec::new()).await.0, 0);
    assert!(!own.exists(), "who does not look for it costs nothing");
    assert_eq!(run("size /dev/termination-log , ls /dev", Vec::new()).await, {
        (0, "out: /dev/termination-log: 0 bytes\nout: /dev: termination-log\n".into())
    });
    assert_eq!(run("write /dev/termination-log bye", vec![volume.mount("", false)]).await.0, 0);
    assert_eq!(std::fs::read_to_string(own.join("termination-log")).unwrap(), "bye");
    for hostile in ["cat /dev/../../../outside/secret", "write /dev/../1 x", "cat /etc/passwd", "ls /"] {
        assert_eq!(run(hostile, Vec::new()).await.0, 1, "{hostile}");
    }
    // What a guest has put in its place is not followed by whoever makes the file.
    let words = "rm /dev/termination-log , link ../../../outside/new /dev/termination-log";
    assert_eq!(run(words, Vec::new()).await.0, 0);
    assert_eq!(run("ls /dev", Vec::new()).await.0, 0);
    assert_eq!(volume.outside(), [volume.dir.path().join("outside/secret")]);
    // In a mount there is no other directory.
    let mount = Mount { path: "/dev".into(), ..volume.mount("sub/deep", false) };
    assert_eq!(run("ls /dev", vec![mount]).await, (0, "out: /dev: \n".into()));
}

#[tokio::test]
async fn preview_1_leaves_a_message_too() {
    let (node, volume) = (Node::new(), Volume::new());
    let own = volume.dir.path().join("messages/c/0");
    let module = node.wat(&opens("message", false)).await;
    let set = |spec: &mut copepod_node_plan::ContainerSpec| {
        (spec.termination.path, spec.termination.own) = ("/message".into(), Some(own.clone()));
    };
    assert_eq!(node.start_module(module, set).exit().await.code, 0);
    assert!(own.join("message").is_file());
}

/// Bytes of blocks of a volume's files.
fn held(volume: &Volume) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(volume.host()).unwrap();
    files.map(|f| f.unwrap().metadata().unwrap()).filter(|m| m.is_file()).map(|m| m.blocks() * 512).sum()
}

/// Creates `big`, writes a page at every `step` bytes until that fails, and ends with the error number.
fn fills(step: u64) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_pwrite" (func $write (param i32 i32 i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 32) "\00\00\00\00\00\00\00\00\00\10\00\00\00\10\00\00")
        (data (i32.const 64) "big")
        (func (export "_start") (local i64 i32)
            (drop (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 3) (i32.const 1)
                (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 8)))
            (loop $l
                (local.set 1 (call $write (i32.const 4) (i32.const 32) (i32.const 2) (local.get 0) (i32.const 8)))
                (local.set 0 (i64.add (local.get 0) (i64.const {step})))
                (br_if $l (i32.eqz (local.get 1))))
            (call $exit (local.get 1))))"#
    )
}

#[tokio::test]
async fn a_volume_in_memory_holds_no_more_than_it_may() {
    const SIZE: u64 = 1 << 20;
    let node = Node::new();
    let mount = |volume: &Volume| Mount { memory: Some(SIZE), ..volume.mount("", false) };
    // Page after page, and pages with holes between them.
    for step in [4096, 1 << 20] {
        let volume = Volume::new();
        let module = node.wat(&fills(step)).await;
        let exit = node.start_module(module, |spec| spec.mounts = vec![mount(&volume)]).exit().await;
        assert_eq!(exit.code, NOSPC, "{}", exit.message);
        assert!((SIZE * 3 / 4..=SIZE).contains(&held(&volume)), "{}", held(&volume));
    }
    let volume = Volume::new();
    let full = "append /data/big 2 , append /data/small 1 , rm /data/big , append /data/next 1";
    let change = |spec: &mut copepod_node_plan::ContainerSpec| {
        spec.mounts = vec![Mount { memory: Some(3 << 19), ..volume.mount("", false) }];
        spec.args = full.split(' ').map(str::to_owned).collect();
    };
    let mut guest = node.start("files", change).await;
    assert_eq!(guest.exit().await.code, 1);
    let errors: Vec<_> = guest.logs.text().lines().map(str::to_owned).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    for (error, verb) in errors.iter().zip(["append /data/big 2", "append /data/small 1"]) {
        // The guest's C library asks no stream why it has failed.
        assert!(error.starts_with(&format!("err: {verb}: I/O error")), "{error}");
    }
    assert!(!volume.host().join("big").exists() && volume.host().join("next").metadata().unwrap().len() == 1 << 20);
}

#[tokio::test]
async fn nothing_is_moved_out_of_a_volume_in_memory() {
    let (node, one, other) = (Node::new(), Volume::new(), Volume::new());
    let moves = r#"(module
        (import "wasi_snapshot_preview1" "path_rename" (func $move (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (data (i32.const 64) "filenew")
        (func (export "_start") (call $exit
            (call $move (i32.const 3) (i32.const 64) (i32.const 4) (i32.const 4) (i32.const 68) (i32.const 3)))))"#;
    let module = node.wat(moves).await;
    let within = Mount { path: "/same".into(), ..one.mount("", false) };
    let other = Mount { path: "/other".into(), ..other.mount("", false) };
    for (memory, to, code) in [(Some(1 << 20), &other, XDEV), (None, &other, 0), (Some(1 << 20), &within, 0)] {
        std::fs::write(one.host().join("file"), "content").unwrap();
        let to_memory = to.memory.or(memory).filter(|_| to.path == "/same");
        let mounts = vec![Mount { memory, ..one.mount("", false) }, Mount { memory: to_memory, ..to.clone() }];
        let exit = node.start_module(module.clone(), |spec| spec.mounts = mounts).exit().await;
        assert_eq!(exit.code, code, "{to:?}");
    }
}
