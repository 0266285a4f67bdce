//! Reads k8s-pb: messages, field numbers, types, and upstream's markers in the doc comments. The files are made by prost
//! and formatted by rustfmt, so reading them line by line is enough; what does not fit is an error.

use std::path::Path;

use crate::Result;

/// A protobuf message.
pub struct Message {
    /// Module, such as `api.apps.v1`.
    pub module: String,
    /// Rust name.
    pub name: String,
    pub fields: Vec<Field>,
}

/// A field of a message.
#[derive(Default)]
pub struct Field {
    /// Rust name without `r#`.
    pub name: String,
    pub tag: u32,
    pub shape: Shape,
    /// `string`, `int32`, `int64`, `bool`, `double`, `bytes`, or `module.Name` of a message.
    pub ty: String,
    pub message: bool,
    /// Upstream's markers without the `+`, such as `listType=map`.
    pub markers: Vec<String>,
    /// Doc text without markers.
    pub doc: String,
}

#[derive(Clone, Copy, Default, PartialEq)]
pub enum Shape {
    #[default]
    One,
    List,
    Map,
}

impl Field {
    /// The values of a marker, in order.
    pub fn marker(&self, name: &str) -> Vec<&str> {
        self.markers.iter().filter_map(|m| m.strip_prefix(name)?.strip_prefix('=')).collect()
    }
    pub fn has(&self, marker: &str) -> bool {
        self.markers.iter().any(|m| m == marker)
    }
}

pub fn read(src: &Path) -> Result<Vec<Message>> {
    let mut files = vec![];
    walk(src, &mut files)?;
    files.sort();
    let mut out = vec![];
    for file in files {
        let parts = file.strip_prefix(src)?.parent().map(|p| p.iter().filter_map(|s| s.to_str()).collect::<Vec<_>>());
        file_messages(&parts.unwrap_or_default(), &std::fs::read_to_string(&file)?, &mut out)?;
    }
    Ok(out)
}

/// The `.rs` files below a folder.
pub fn walk(dir: &Path, out: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    Ok(())
}

fn file_messages(module: &[&str], text: &str, out: &mut Vec<Message>) -> Result<()> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("pub struct ") else { continue };
        let name = name.trim_end_matches([' ', '{', '}']).to_string();
        let mut message = Message { module: module.join("."), name, fields: vec![] };
        let (mut attribute, mut field) = (String::new(), Field::default());
        while !line.ends_with('}') {
            let line = lines.next().ok_or("unclosed struct")?;
            if line == "}" {
                break;
            }
            let line = line.trim();
            if let Some(doc) = line.strip_prefix("///") {
                match doc.trim().strip_prefix('+') {
                    Some(marker) => field.markers.push(marker.trim().into()),
                    None => {
                        field.doc.push_str(doc.trim());
                        field.doc.push(' ');
                    }
                }
            } else if line.starts_with("#[") || (!attribute.is_empty() && !attribute.ends_with(")]")) {
                attribute.push_str(line);
            } else if line.starts_with("pub ") {
                let mut declared = line.to_string();
                let open = |d: &str| d.matches('<').count() > d.matches('>').count();
                while !declared.ends_with(',') || open(&declared) {
                    declared.push_str(lines.next().ok_or("unclosed field")?.trim());
                }
                let mut done = std::mem::take(&mut field);
                fill(&mut done, module, &std::mem::take(&mut attribute), &declared)?;
                message.fields.push(done);
            }
        }
        out.push(message);
    }
    Ok(())
}

fn fill(field: &mut Field, module: &[&str], attribute: &str, declared: &str) -> Result<()> {
    let bad = || format!("{}: {attribute} {declared}", module.join("."));
    let (name, ty) =
        declared.strip_prefix("pub ").and_then(|d| d.split_once(": ").or_else(|| d.split_once(':'))).ok_or_else(bad)?;
    field.name = name.trim_start_matches("r#").into();
    let tag = attribute.split("tag = \"").nth(1).and_then(|t| t.split('"').next()).ok_or_else(bad)?;
    field.tag = tag.parse()?;
    let inner = attribute.strip_prefix("#[prost(").ok_or_else(bad)?;
    let mut scalar = inner.split([',', ')', ' ']).next().ok_or_else(bad)?;
    if let Some(map) = inner.strip_prefix("btree_map = \"string, ") {
        field.shape = Shape::Map;
        scalar = map.split('"').next().ok_or_else(bad)?;
    } else if inner.contains(" repeated") {
        field.shape = Shape::List;
    }
    field.message = scalar == "message";
    field.ty = if field.message { resolve(module, ty) } else { scalar.into() };
    Ok(())
}

/// The message that a Rust type is about: its last path, resolved from the module it stands in.
fn resolve(module: &[&str], ty: &str) -> String {
    let path = ty.split(['<', '>', ',', ' ']).rfind(|p| !p.is_empty()).unwrap_or_default();
    let mut at: Vec<&str> = module.to_vec();
    for part in path.split("::") {
        if part == "super" {
            at.pop();
        } else {
            at.push(part);
        }
    }
    at.join(".")
}
