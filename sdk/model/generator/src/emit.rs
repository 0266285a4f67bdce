//! Joins the three sources and writes the table.
//!
//! `= name [apiVersion kind]` begins a message; ` typed` follows when its JSON has apiVersion and kind. Then one line
//! per field: number, JSON name, type, flags and `key=value`s, separated by blanks. Types: `s` string, `b` bool, `i`
//! int32, `l` int64, `d` double, `y` bytes, `#n` the n-th message; `[` before it a list, `{` a map by string. Flags: the
//! codes of `go.facts`, `!` required. Keys: `lt` listType, `lk` listMapKey (each), `pk` patchMergeKey, `ps`
//! patchStrategy, `st` structType or mapType, `df` default as JSON, `go` Go type.
//!
//! The descriptions file has a line per message and per field, in the table's order, and at the end those of `apiVersion`
//! and `kind`; `@n` repeats line n.

use std::collections::{BTreeMap, BTreeSet};

use crate::Result;
use crate::facts::Facts;
use crate::openapi::{Schema, Schemas};
use crate::pb::{Message, Shape};

/// The files' text.
pub struct Made {
    pub table: String,
    pub descriptions: String,
}

/// Groups that k8s-openapi does not have.
const EXTRA: [(&str, &str); 1] = [("metrics.pkg.apis.metrics.v1beta1", "metrics.k8s.io/v1beta1")];
const META: &str = "apimachinery.pkg.apis.meta.v1";
/// Kinds of the meta group that are sent on the wire, with the version they say.
const META_KINDS: [(&str, &str); 8] = [
    ("DeleteOptions", "v1"),
    ("CreateOptions", "v1"),
    ("UpdateOptions", "v1"),
    ("PatchOptions", "v1"),
    ("WatchEvent", "v1"),
    ("List", "v1"),
    ("PartialObjectMetadata", "meta.k8s.io/v1"),
    ("PartialObjectMetadataList", "meta.k8s.io/v1"),
];

pub fn emit(mut messages: Vec<Message>, schemas: &Schemas, facts: &Facts) -> Result<Made> {
    // Which modules are served at this level, and as which group and version.
    let mut versions: BTreeMap<String, String> = EXTRA.iter().map(|(m, v)| (m.to_string(), v.to_string())).collect();
    for (path, schema) in schemas {
        let module = path.rsplit_once('.').map(|(m, _)| m.to_string()).unwrap_or_default();
        match &schema.kind {
            Some((version, _)) => drop(versions.insert(module, version.clone())),
            None => drop(versions.entry(module).or_default()),
        }
    }
    versions.insert(META.into(), String::new());
    messages.retain(|m| versions.contains_key(&m.module));
    reachable(&mut messages, schemas, &versions);
    let index: BTreeMap<String, usize> =
        messages.iter().enumerate().map(|(i, m)| (format!("{}.{}", m.module, m.name), i)).collect();
    let visible = visible(&messages, schemas, facts, &index);

    let (mut table, mut descriptions) = (String::new(), Descriptions::default());
    for (at, message) in messages.iter().enumerate() {
        let path = format!("{}.{}", message.module, message.name).to_lowercase();
        let own = schemas.get(&path);
        let fields = facts.get(&path);
        let name = own.map_or_else(|| openapi_name(message), |s| s.name.clone());
        table.push_str(&format!("= {name}"));
        if let Some((version, kind)) = kind(message, schemas, &versions[&message.module]) {
            table.push_str(&format!(" {version} {kind}"));
        }
        table.push('\n');
        descriptions.add(own.map_or("", |s| &s.description));
        for field in &message.fields {
            // Inlined fields have protobuf names only.
            let inline = fields.and_then(|f| f.iter().find(|(k, v)| v.code == "i" && same(k, &field.name)));
            let (json, description) = match (inline, &visible[at]) {
                (Some((name, _)), _) => (name.clone(), ""),
                (None, Some(schema)) if !schema.properties.is_empty() => {
                    let found = schema.properties.iter().find(|(k, _)| same(k, &field.name));
                    let (k, d) = found.ok_or_else(|| format!("{path}.{} has no JSON name", field.name))?;
                    (k.clone(), d.as_str())
                }
                (None, _) => (camel(&field.name), field.doc.trim()),
            };
            let fact = fields.and_then(|f| f.get(&json)).cloned().unwrap_or_default();
            let required = match own {
                Some(s) => s.required.contains(&json) && !field.has("optional"),
                None => json == "items" && field.shape == Shape::List,
            };
            table.push_str(&format!("{} {json} ", field.tag));
            table.push_str(match field.shape {
                Shape::One => "",
                Shape::List => "[",
                Shape::Map => "{",
            });
            if field.message {
                let i = index.get(&field.ty).ok_or_else(|| format!("{path}.{json}: no {}", field.ty))?;
                table.push_str(&format!("#{i}"));
            } else {
                table.push(match field.ty.as_str() {
                    "string" => 's',
                    "bool" => 'b',
                    "int32" => 'i',
                    "int64" => 'l',
                    "double" => 'd',
                    "bytes" => 'y',
                    other => return Err(format!("{path}.{json}: {other}").into()),
                });
            }
            if required || !fact.code.is_empty() {
                table.push_str(&format!(" {}{}", fact.code, if required { "!" } else { "" }));
            }
            let mut key = |name: &str, value: &str| {
                if !value.is_empty() {
                    table.push_str(&format!(" {name}={value}"));
                }
            };
            key("lt", field.marker("listType").first().unwrap_or(&""));
            key("lk", &field.marker("listMapKey").join(","));
            key("pk", field.marker("patchMergeKey").first().unwrap_or(&""));
            key("ps", field.marker("patchStrategy").first().unwrap_or(&""));
            let granularity = [field.marker("structType"), field.marker("mapType")].concat();
            key("st", granularity.first().unwrap_or(&""));
            key("df", field.marker("default").first().filter(|d| !d.starts_with("ref(")).unwrap_or(&""));
            key("go", &fact.go);
            table.push('\n');
            descriptions.add(description);
        }
    }
    // The fields that every kind has stand at the end.
    for field in ["apiVersion", "kind"] {
        let pod = schemas.get("api.core.v1.pod").and_then(|s| s.properties.get(field));
        descriptions.add(pod.ok_or("no Pod")?);
    }
    Ok(Made { table, descriptions: descriptions.text })
}

/// Keeps the kinds, and what they refer to.
fn reachable(messages: &mut Vec<Message>, schemas: &Schemas, versions: &BTreeMap<String, String>) {
    let full = |m: &Message| format!("{}.{}", m.module, m.name);
    let is_root = |m: &Message| kind(m, schemas, &versions[&m.module]).is_some() || full(m) == format!("{META}.Patch");
    let mut wanted: BTreeSet<String> = messages.iter().filter(|m| is_root(m)).map(full).collect();
    let mut before = 0;
    while wanted.len() > before {
        before = wanted.len();
        let of_wanted = messages.iter().filter(|m| wanted.contains(&full(m))).flat_map(|m| &m.fields);
        let more: Vec<String> = of_wanted.filter(|f| f.message).map(|f| f.ty.clone()).collect();
        wanted.extend(more);
    }
    messages.retain(|m| wanted.contains(&full(m)));
}

/// For each message, the properties its JSON has: its own definition's, or those of the messages it is inlined into.
fn visible(
    messages: &[Message],
    schemas: &Schemas,
    facts: &Facts,
    index: &BTreeMap<String, usize>,
) -> Vec<Option<Schema>> {
    let path = |m: &Message| format!("{}.{}", m.module, m.name).to_lowercase();
    let mut out: Vec<Option<Schema>> = messages.iter().map(|m| schemas.get(&path(m)).cloned()).collect();
    // Inlining nests twice at most; one round more changes nothing.
    for _ in 0..3 {
        for (at, message) in messages.iter().enumerate() {
            let (Some(facts), Some(schema)) = (facts.get(&path(message)), out[at].clone()) else { continue };
            for field in &message.fields {
                let inline = facts.iter().any(|(k, v)| v.code == "i" && same(k, &field.name));
                if let (true, Some(i)) = (inline, index.get(&field.ty))
                    && !schemas.contains_key(&path(&messages[*i]))
                {
                    out[*i].get_or_insert_default().properties.extend(schema.properties.clone());
                }
            }
        }
    }
    out
}

fn kind(message: &Message, schemas: &Schemas, version: &str) -> Option<(String, String)> {
    let own = schemas.get(&format!("{}.{}", message.module, message.name).to_lowercase());
    if message.module == META {
        let named = META_KINDS.iter().find(|(k, _)| *k == message.name).map(|(k, v)| (v.to_string(), k.to_string()));
        return own.and_then(|s| s.kind.clone()).or(named);
    }
    // A list is a kind where what it lists is one at this level.
    let list = match message.fields.as_slice() {
        [meta, items] if meta.ty.ends_with(".ListMeta") && items.name == "items" => {
            let extra = EXTRA.iter().any(|(m, _)| items.ty.starts_with(m));
            extra || schemas.get(&items.ty.to_lowercase()).is_some_and(|s| s.kind.is_some())
        }
        _ => false,
    };
    let extra =
        EXTRA.iter().any(|(m, _)| *m == message.module) && message.fields.iter().any(|f| f.ty.ends_with(".ObjectMeta"));
    own.and_then(|s| s.kind.clone()).or_else(|| (list || extra).then(|| (version.to_string(), message.name.clone())))
}

/// Whether two names are one, spelled by JSON and by prost.
fn same(a: &str, b: &str) -> bool {
    let plain = |s: &str| s.chars().filter(|c| !matches!(c, '_' | '-' | '$')).collect::<String>().to_lowercase();
    plain(a) == plain(b)
}

fn camel(name: &str) -> String {
    let mut up = false;
    let step = |c: char| {
        if c == '_' {
            up = true;
            return None;
        }
        Some(if std::mem::take(&mut up) { c.to_ascii_uppercase() } else { c })
    };
    name.chars().filter_map(step).collect()
}

fn openapi_name(message: &Message) -> String {
    format!("io.k8s.{}.{}", message.module.replace('_', "-"), message.name)
}

#[derive(Default)]
struct Descriptions {
    text: String,
    lines: usize,
    seen: BTreeMap<String, usize>,
}

impl Descriptions {
    fn add(&mut self, text: &str) {
        let line = text.replace('\\', "\\\\").replace('\n', "\\n");
        match self.seen.get(&line) {
            Some(n) if line.len() > 6 => self.text.push_str(&format!("@{n}")),
            _ => {
                self.text.push_str(&line);
                self.seen.insert(line, self.lines);
            }
        }
        self.text.push('\n');
        self.lines += 1;
    }
}
