//! Makes the schema table of the built-in kinds.
//!
//! `schema-generator` rewrites `sdk/model/src/schema/{table,descriptions}.txt`; `schema-generator --check` fails when they
//! are not what it would write. The sources are the versions of k8s-pb and k8s-openapi that the workspace resolves, found
//! by `cargo metadata`, and `go.facts` beside this crate, which holds what neither of them tells and which `go-facts.py`
//! makes from upstream's Go sources.

mod emit;
mod facts;
mod openapi;
mod pb;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let check = std::env::args().any(|a| a == "--check");
    match run(check) {
        Ok(stale) if stale.is_empty() => ExitCode::SUCCESS,
        Ok(stale) => {
            eprintln!("not what the generator makes: {}", stale.join(", "));
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("schema-generator: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the files, or names those that differ.
fn run(check: bool) -> Result<Vec<&'static str>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = generate(here)?;
    let target = here.join("../src/schema");
    let mut stale = vec![];
    for (name, text) in [("table.txt", made.table), ("descriptions.txt", made.descriptions)] {
        let path = target.join(name);
        if check {
            if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
                stale.push(name);
            }
        } else {
            std::fs::write(path, text)?;
        }
    }
    Ok(stale)
}

fn generate(here: &Path) -> Result<emit::Made> {
    let (pb, openapi) = sources(here)?;
    let messages = pb::read(&pb.join("src"))?;
    let schemas = openapi::read(&openapi.join("src/v1_35"))?;
    let facts = facts::read(&here.join("go.facts"))?;
    emit::emit(messages, &schemas, &facts)
}

/// Where cargo keeps the sources of (k8s-pb, k8s-openapi).
fn sources(here: &Path) -> Result<(PathBuf, PathBuf)> {
    let out = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()))
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(here.join("Cargo.toml"))
        .output()?;
    if !out.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout)?;
    let find = |name: &str| -> Result<PathBuf> {
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let manifest = packages.filter(|p| p["name"] == name).find_map(|p| p["manifest_path"].as_str());
        let manifest = manifest.ok_or_else(|| format!("{name} is not resolved"))?;
        Ok(Path::new(manifest).parent().ok_or("no folder")?.into())
    };
    Ok((find("k8s-pb")?, find("k8s-openapi")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_table_is_what_the_generator_makes() {
        assert_eq!(super::run(true).unwrap(), Vec::<&str>::new());
    }
}
