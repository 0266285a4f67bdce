//! The walls that the compiler does not police.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use tidy::{BANNED, EXCEPTIONS, FLOORS, IMPURE, PURE, has_word, metadata, root, says};

struct Crate {
    folder: String,
    /// (name, folder inside the workspace if any), of normal dependencies.
    dependencies: Vec<(String, Option<String>)>,
}

fn crates() -> Vec<Crate> {
    let root = root();
    let meta = metadata(&["--no-deps"]);
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
            if let Some(word) = says(&text, BANNED).filter(|_| !path.ends_with("tests.rs")) {
                wrong.push(format!("{path} uses {word}"));
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

/// A folder of which every entry is a module, and one line of a list.
struct Listed<'a> {
    folder: &'a str,
    /// Where its modules are declared.
    list: &'a str,
    /// What stands beside the entries and is none.
    beside: &'a [&'a str],
    /// What is before an entry's name where it is listed, and the file in which that is: the list, unless it is named.
    used: (&'a str, Option<&'a str>),
}

impl Listed<'_> {
    fn check(&self) -> Vec<String> {
        let folder = self.folder;
        let dir = root().join(folder);
        let beside = root().join(format!("{folder}.rs"));
        let text = fs::read_to_string(dir.join(self.list)).or_else(|_| fs::read_to_string(beside)).unwrap_or_default();
        let listing = match self.used.1 {
            Some(file) => fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}")),
            None => text.clone(),
        };
        let mut wrong = Vec::new();
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{folder}: {e}")).flatten() {
            let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_string();
            let is_code = entry.path().is_dir() || entry.path().extension().is_some_and(|e| e == "rs");
            if !is_code || ["mod", "lib", "tests"].contains(&name.as_str()) || self.beside.contains(&name.as_str()) {
                continue;
            }
            let declared = text.lines().any(|l| l.split("mod ").nth(1) == Some(&format!("{name};")));
            let used = has_word(&listing, &format!("{}{name}::", self.used.0));
            if !declared || !used {
                wrong.push(format!("{folder}/{name}: declared {declared}, used {used}"));
            }
        }
        wrong
    }
}

/// A registration list and the folder that it lists: every file is a module of the list's file, and used there again.
#[test]
fn lists_and_folders_agree() {
    let lists: [(&str, &str, &[&str]); 10] = [
        ("control/controllers/src", "lib.rs", &["support"]),
        ("control/scheduler/src/plugins", "mod.rs", &[]),
        ("node/plan/src/volumes", "mod.rs", &["files", "mounts", "token"]),
        ("node/runtime-wasm/src/capability", "mod.rs", &[]),
        ("node/volumes/src/types", "mod.rs", &[]),
        ("cli/src/cmd", "mod.rs", &[]),
        ("control/registry/src/admission", "mod.rs", &[]),
        // What these look at is no history of changes: the simulation's parts ask them themselves.
        ("tests/sim/src/invariants", "mod.rs", &["balanced", "list_watch", "settled"]),
        ("tests/sim/src/faults", "mod.rs", &[]),
        ("tests/fuzz/src/targets", "mod.rs", &[]),
    ];
    let mut wrong = Vec::new();
    for (folder, list, beside) in lists {
        wrong.extend(Listed { folder, list, beside, used: ("", None) }.check());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every fuzz target has a corpus of its name, small enough for the repository, and there is no corpus of something else.
#[test]
fn fuzz_targets_and_corpora_agree() {
    let names = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
        let names = entries.flatten().map(|e| e.file_name().to_string_lossy().trim_end_matches(".rs").to_string());
        names.filter(|n| n != "mod").collect::<BTreeSet<_>>()
    };
    let corpora = names("tests/fuzz/corpus");
    assert_eq!(names("tests/fuzz/src/targets"), corpora);
    let mut bytes = 0;
    for target in corpora {
        let folder = root().join("tests/fuzz/corpus").join(&target);
        let sizes: Vec<u64> = fs::read_dir(&folder)
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .flatten()
            .map(|e| e.metadata().map_or(0, |m| m.len()))
            .collect();
        assert!(!sizes.is_empty(), "{target} has an empty corpus");
        bytes += sizes.iter().sum::<u64>();
    }
    assert!(bytes < 1 << 20, "{bytes} bytes");
}

/// Every kind is a file of its group's folder and a line of the registry of kinds.
#[test]
fn every_kind_is_listed() {
    const KINDS: &str = "sdk/model/src/kinds";
    // What several kinds of a group, or one large one, have beside them.
    const BESIDE: &[&str] = &[
        "access_modes",
        "job_spec",
        "job_status",
        "match_resources",
        "metrics",
        "podspec",
        "resource_names",
        "route",
        "rules",
        "schedule",
        "success_policy",
        "suggested",
        "time_zone",
        "v1",
        "volume_sources",
        "webhook",
    ];
    let mut wrong = Vec::new();
    let list = format!("{KINDS}/mod.rs");
    for entry in fs::read_dir(root().join(KINDS)).expect("the kinds' folder").flatten() {
        let group = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && group != "tests" {
            let (folder, prefix) = (format!("{KINDS}/{group}"), format!("{group}::"));
            let used = (prefix.as_str(), Some(list.as_str()));
            wrong.extend(Listed { folder: &folder, list: "mod.rs", beside: BESIDE, used }.check());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a disk or a network does to a start is over some day: systemd must not have given up by then, nor spin meanwhile.
#[test]
fn units_are_started_again_for_ever() {
    for unit in ["copepod-server", "copepod-agent"] {
        let path = root().join(format!("packaging/{unit}.service"));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        assert!(["always", "on-failure"].map(Some).contains(&value("Restart")), "{unit}");
        assert_eq!(value("StartLimitIntervalSec"), Some("0"), "{unit}");
        let rest = value("RestartSec").and_then(|s| s.parse::<u32>().ok());
        assert!(rest.is_some_and(|s| (2..=10).contains(&s)), "{unit}: {rest:?}");
    }
}

/// The text of every file of the command line.
fn command_line(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut out = String::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            out.push_str(&command_line(&path));
        } else {
            out.push_str(&fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        }
    }
    out
}

/// What a unit starts is a verb, and the variables that it names, also in its comments, are those of flags.
#[test]
fn units_say_what_the_command_line_knows() {
    let cli = command_line(&root().join("cli/src"));
    for unit in ["copepod-server", "copepod-agent"] {
        let path = root().join(format!("packaging/{unit}.service"));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let start = text.lines().find_map(|l| l.strip_prefix("ExecStart=")).unwrap_or_default();
        let mut words = start.split_whitespace();
        assert!(words.next().is_some_and(|program| program.ends_with("/copepod")), "{unit}: {start}");
        let verb = words.next().unwrap_or_default();
        assert!(
            !verb.is_empty() && cli.contains(&format!("Verb::{}{}(", verb[..1].to_uppercase(), &verb[1..])),
            "{unit}: {start}"
        );
        let named: BTreeSet<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("COPEPOD_"))
            .collect();
        assert!(named.contains("COPEPOD_DATA_DIR"), "{unit}: {named:?}");
        let unknown: Vec<&&str> = named.iter().filter(|name| !cli.contains(&format!("env = \"{name}\""))).collect();
        assert!(unknown.is_empty(), "{unit}: no flag has {unknown:?}");
    }
}
