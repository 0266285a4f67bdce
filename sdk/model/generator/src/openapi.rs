//! Reads k8s-openapi: OpenAPI names, JSON names, descriptions, what is required, and which kinds there are.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Result;

/// One OpenAPI definition.
#[derive(Clone, Default)]
pub struct Schema {
    /// `io.k8s.api.apps.v1.Deployment`.
    pub name: String,
    pub description: String,
    /// JSON name → description.
    pub properties: BTreeMap<String, String>,
    pub required: Vec<String>,
    /// (apiVersion, kind) when it is one.
    pub kind: Option<(String, String)>,
}

/// By `module.name` in lower case, where module is the Rust path.
pub type Schemas = BTreeMap<String, Schema>;

pub fn read(src: &Path) -> Result<Schemas> {
    let mut files = vec![];
    crate::pb::walk(src, &mut files)?;
    let mut all = Schemas::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let Some(name) = text.strip_prefix("// Generated from definition ").and_then(|t| t.lines().next()) else {
            continue;
        };
        let parts = file.strip_prefix(src)?.parent().map(|p| p.iter().filter_map(|s| s.to_str()).collect::<Vec<_>>());
        let last = name.rsplit('.').next().unwrap_or_default();
        let key = format!("{}.{last}", parts.unwrap_or_default().join(".")).to_lowercase();
        all.insert(key, schema(name, &text)?);
    }
    Ok(all)
}

fn schema(name: &str, text: &str) -> Result<Schema> {
    let mut out = Schema { name: name.into(), ..Schema::default() };
    let constant = |what: &str| {
        let start = format!("    const {what}: &'static str = \"");
        text.lines().find_map(|l| l.strip_prefix(&start)).and_then(|l| l.strip_suffix("\";")).map(String::from)
    };
    out.kind = constant("API_VERSION").zip(constant("KIND"));
    // The JSON schema at the end of each file, by indentation.
    let Some(block) = text.split("json_schema!({").nth(1) else { return Ok(out) };
    let (mut at, mut in_required) = (None, false);
    for line in block.lines() {
        let depth = line.len() - line.trim_start().len();
        let line = line.trim();
        if let (12, Some(text)) = (depth, line.strip_prefix("\"description\": ")) {
            out.description = literal(text)?;
        } else if depth == 12 && line == "\"required\": [" {
            in_required = true;
        } else if depth == 12 {
            in_required = false;
        } else if depth == 16 && in_required {
            out.required.push(literal(line)?);
        } else if let (16, Some((key, _))) = (depth, line.split_once("\": ")) {
            let key = key.trim_start_matches('"').to_string();
            out.properties.insert(key.clone(), String::new());
            at = Some(key);
        } else if depth == 20
            && let Some(key) = &at
            && let Some(text) = line
                .strip_prefix("\"description\": ")
                .or_else(|| line.strip_prefix("schema_obj.ensure_object().insert(\"description\".into(), "))
        {
            out.properties.insert(key.clone(), literal(text)?);
        }
    }
    Ok(out)
}

/// The value of a Rust string literal, which is a JSON one in all that these files hold.
fn literal(text: &str) -> Result<String> {
    let end = text.rfind('"').ok_or("no literal")?;
    Ok(serde_json::from_str(text.get(..=end).ok_or("no literal")?).map_err(|e| format!("{text}: {e}"))?)
}
