//! Manifests: YAML or JSON, files, folders or stdin, one document or many.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use copepod_model::yaml;
use serde_json::Value;

use crate::cmd::Error;

/// All objects of some files, in order. Items of a `List` count as objects of their own.
pub fn read(files: &[PathBuf]) -> Result<Vec<Value>, Error> {
    let mut out = Vec::new();
    for path in files {
        for (name, text) in texts(path)? {
            let documents = yaml::documents(&text).map_err(|e| format!("error: {name} is not valid YAML: {e}"))?;
            for value in documents {
                add(&mut out, &name, value)?;
            }
        }
    }
    if out.is_empty() {
        return Err("error: no objects passed to apply".into());
    }
    Ok(out)
}

fn add(out: &mut Vec<Value>, name: &str, value: Value) -> Result<(), Error> {
    if value.is_null() {
        return Ok(());
    }
    let text = |k: &str| value[k].as_str().filter(|s| !s.is_empty());
    let (Some(_), Some(kind)) = (text("apiVersion"), text("kind")) else {
        return Err(format!("error: {name}: every object needs an apiVersion and a kind").into());
    };
    if kind == "List" {
        for item in value["items"].as_array().cloned().unwrap_or_default() {
            add(out, name, item)?;
        }
        return Ok(());
    }
    out.push(value);
    Ok(())
}

fn texts(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let name = path.display().to_string();
    if name == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(vec![("stdin".into(), text)]);
    }
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("error: {}: {e}", path.display()));
    if !path.is_dir() {
        return Ok(vec![(name, read(path)?)]);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)?.flatten().map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|x| e == *x)));
    files.sort();
    files.iter().map(|p| Ok((p.display().to_string(), read(p)?))).collect()
}
