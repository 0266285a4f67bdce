//! The walls that the compiler does not police.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tidy::{EXCEPTIONS, FLOORS, IMPURE, PURE};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace's folder")
}

struct Crate {
    folder: String,
    /// (name, folder inside the workspace if any), of normal dependencies.
    dependencies: Vec<(String, Option<String>)>,
}

fn crates() -> Vec<Crate> {
    let root = root();
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(&root)
        .output()
        .expect("cargo metadata runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let meta: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let inside = |path: &str| Path::new(path).strip_prefix(&root).ok().map(|p| p.to_string_lossy().into_owned());
    let list = meta["packages"].as_array().expect("packages");
    list.iter()
        .map(|p| {
            let manifest = Path::new(p["manifest_path"].as_str().expect("path")).parent().expect("folder");
            let dependencies =
                p["dependencies"].as_array().expect("dependencies").iter().filter(|d| d["kind"].is_null());
            Crate {
                folder: inside(&manifest.to_string_lossy()).expect("inside the workspace"),
                dependencies: dependencies
                    .map(|d| (d["name"].as_str().unwrap_or_default().into(), d["path"].as_str().and_then(inside)))
                    .collect(),
            }
        })
        .collect()
}

#[test]
fn no_edge_runs_upward() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for c in crates() {
        let Some(own) = floors.get(c.folder.as_str()) else {
            let beside = ["tests/", "sdk/model/generator"].iter().any(|p| c.folder.starts_with(p));
            assert!(beside, "{} has no floor: add it to FLOORS", c.folder);
            continue;
        };
        for folder in c.dependencies.iter().filter_map(|(_, f)| f.as_deref()) {
            match floors.get(folder) {
                Some(floor) if floor < own => {}
                _ => wrong.push(format!("{} -> {folder}", c.folder)),
            }
        }
    }
    assert!(wrong.is_empty(), "edges that do not run downward: {wrong:?}");
}

#[test]
fn pure_crates_are_pure() {
    let mut wrong = Vec::new();
    for c in crates() {
        if !FLOORS.iter().any(|(f, n)| *f == c.folder && *n <= PURE) {
            continue;
        }
        for (name, _) in &c.dependencies {
            let listed = EXCEPTIONS.contains(&(c.folder.as_str(), name.as_str()));
            if IMPURE.contains(&name.as_str()) && !listed {
                wrong.push(format!("{} depends on {name}", c.folder));
            }
        }
        let clippy = fs::read_to_string(root().join(&c.folder).join("clippy.toml")).unwrap_or_default();
        for banned in ["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::sleep"] {
            if !clippy.contains(banned) {
                wrong.push(format!("{}/clippy.toml does not ban {banned}", c.folder));
            }
        }
        let lib = fs::read_to_string(root().join(&c.folder).join("src/lib.rs")).expect("lib.rs");
        if !lib.contains("#![deny(clippy::iter_over_hash_type)]") {
            wrong.push(format!("{} does not deny clippy::iter_over_hash_type", c.folder));
        }
        for (path, text) in sources(&root().join(&c.folder).join("src")) {
            for word in
                ["Instant::now(", "SystemTime::now(", "thread_rng", "SystemRandom::new", "std::net::Tcp", "std::fs::"]
            {
                if text.lines().any(|l| l.contains(word) && !l.trim_start().starts_with("//"))
                    && !path.ends_with("tests.rs")
                {
                    wrong.push(format!("{path} uses {word}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn sources(dir: &Path) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            out.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push((path.to_string_lossy().into_owned(), fs::read_to_string(&path).expect("source")));
        }
    }
    out
}

/// A registration list and the folder that it lists: every file is a module of the list's file, and used there again.
#[test]
fn lists_and_folders_agree() {
    // With what stands beside the entries and is none.
    let lists: [(&str, &str, &[&str]); 6] = [
        ("control/controllers/src", "lib.rs", &["support"]),
        ("control/scheduler/src/plugins", "mod.rs", &[]),
        ("node/runtime-wasm/src/capability", "mod.rs", &[]),
        ("node/volumes/src/types", "mod.rs", &[]),
        ("cli/src/cmd", "mod.rs", &[]),
        ("control/registry/src/admission", "mod.rs", &[]),
    ];
    let mut wrong = Vec::new();
    for (folder, list, beside_entries) in lists {
        let dir = root().join(folder);
        let beside = root().join(format!("{folder}.rs"));
        let text = fs::read_to_string(dir.join(list)).or_else(|_| fs::read_to_string(beside)).unwrap_or_default();
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{folder}: {e}")).flatten() {
            let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_string();
            if ["mod", "lib", "tests"].contains(&name.as_str()) || beside_entries.contains(&name.as_str()) {
                continue;
            }
            let declared = text.lines().any(|l| l.split("mod ").nth(1) == Some(&format!("{name};")));
            let used = text.matches(&format!("{name}::")).count() > 0;
            if !declared || !used {
                wrong.push(format!("{folder}/{name}: declared {declared}, used {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
