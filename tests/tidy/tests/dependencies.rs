//! What `deny.toml` asks of all that the workspace depends on, checked without `cargo deny`: licences, bans and sources.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tidy::{metadata, root};

/// What of the file is checked here.
struct Rules {
    targets: Vec<String>,
    licenses: Vec<String>,
    banned: Vec<String>,
}

impl Rules {
    fn read() -> Rules {
        let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim_start().starts_with('#')).collect();
        let section = |name: &str| -> String {
            let head = format!("[{name}]");
            let inside = lines.iter().skip_while(|l| **l != head).skip(1).take_while(|l| !l.starts_with('['));
            inside.copied().collect::<Vec<_>>().join("\n")
        };
        let sources = section("sources");
        for rule in ["unknown-registry = \"deny\"", "unknown-git = \"deny\""] {
            assert!(sources.contains(rule), "the check of sources is for {rule}");
        }
        let bans = section("bans");
        let banned = bans.lines().filter_map(|l| l.split_once("name = ")).map(|(_, l)| quoted(l)[0].clone());
        let of =
            |name, key: &str| quoted(section(name).split_once(key).expect(key).1.split(']').next().expect("a list"));
        Rules { targets: of("graph", "targets"), licenses: of("licenses", "allow"), banned: banned.collect() }
    }

    fn allows(&self, license: &str) -> bool {
        self.licenses.iter().any(|l| l == license.trim_end_matches('+'))
    }
}

fn quoted(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(String::from).collect()
}

/// Whether an SPDX expression can be met with allowed licences alone. `/` is how crates said OR once.
fn met(expression: &str, allows: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest, allows) && rest.is_empty()
}

fn any(rest: &mut &[&str], allows: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all(rest, allows);
    while let ["OR", more @ ..] = *rest {
        *rest = more;
        met |= all(rest, allows);
    }
    met
}

fn all(rest: &mut &[&str], allows: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(rest, allows);
    while let ["AND", more @ ..] = *rest {
        *rest = more;
        met &= one(rest, allows);
    }
    met
}

fn one(rest: &mut &[&str], allows: &dyn Fn(&str) -> bool) -> bool {
    match *rest {
        ["(", more @ ..] => {
            *rest = more;
            let met = any(rest, allows);
            *rest = rest.strip_prefix(&[")"]).unwrap_or(&[]);
            met
        }
        [license, "WITH", exception, more @ ..] => {
            *rest = more;
            allows(&format!("{license} WITH {exception}"))
        }
        [license, more @ ..] => {
            *rest = more;
            allows(license)
        }
        [] => false,
    }
}

/// What is wrong with a package of `cargo metadata`.
fn wrong(package: &Value, rules: &Rules) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let mut out = Vec::new();
    let license = package["license"].as_str().unwrap_or_default();
    if !met(license, &|l| rules.allows(l)) {
        out.push(format!("{name}: the licence {license:?} is not allowed"));
    }
    if rules.banned.iter().any(|b| b == name) {
        out.push(format!("{name} is banned"));
    }
    // Without one it is of this workspace.
    if let Some(source) =
        package["source"].as_str().filter(|s| *s != "registry+https://github.com/rust-lang/crates.io-index")
    {
        out.push(format!("{name} comes from {source}"));
    }
    out
}

#[test]
fn all_dependencies_are_as_deny_toml_has_it() {
    let rules = Rules::read();
    assert!(!rules.targets.is_empty() && !rules.banned.is_empty());
    let mut found = BTreeMap::new();
    for target in &rules.targets {
        let meta = metadata(&["--filter-platform", target]);
        let packages = meta["packages"].as_array().expect("packages");
        assert!(packages.len() > 100, "the whole graph");
        found.extend(packages.iter().map(|p| (p["id"].to_string(), wrong(p, &rules))));
    }
    let wrong: Vec<String> = found.into_values().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_wrong_is_found() {
    let rules = Rules::read();
    let package = |name: &str, license: &str, source: &str| {
        wrong(&serde_json::json!({"name": name, "license": license, "source": source}), &rules)
    };
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    assert!(package("a", "MIT", registry).is_empty());
    assert_eq!(package("openssl", "Apache-2.0", registry), ["openssl is banned"]);
    assert_eq!(package("a", "GPL-3.0", registry), ["a: the licence \"GPL-3.0\" is not allowed"]);
    assert_eq!(package("a", "MIT", "git+https://example.com/a"), ["a comes from git+https://example.com/a"]);
    for (expression, want) in [
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Zlib", true),
        ("GPL-3.0 OR MIT AND Zlib", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("MPL-2.0+", true),
        ("", false),
        ("MIT MIT", false),
    ] {
        assert_eq!(met(expression, &|l| rules.allows(l)), want, "{expression}");
    }
}
