//! Loads the generated table; its format is described in `sdk/model/generator/src/emit.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::{Elem, Field, ListType, Schema, Shape, Special, Type, TypeId, Wire, WireTo};

pub(super) const TABLE: &str = include_str!("table.txt");
const DESCRIPTIONS: &str = include_str!("descriptions.txt");

/// The types made by hand: upstream gives them their own JSON methods.
const SPECIAL: [(&str, Special); 15] = [
    ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", Special::IntOrString),
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", Special::Quantity),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", Special::Time),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", Special::MicroTime),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Duration", Special::Duration),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", Special::Json),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", Special::Json),
    ("io.k8s.apimachinery.pkg.runtime.RawExtension", Special::RawExtension),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool", Special::SchemaOrBool),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray", Special::SchemaOrArray),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        Special::SchemaOrStringArray,
    ),
    ("io.k8s.api.authentication.v1.ExtraValue", Special::Strings),
    ("io.k8s.api.authorization.v1.ExtraValue", Special::Strings),
    ("io.k8s.api.certificates.v1.ExtraValue", Special::Strings),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.Verbs", Special::Strings),
];

/// The types that are atomic wherever they stand (`+structType=atomic`).
const ATOMIC: [&str; 27] = [
    "io.k8s.api.admissionregistration.v1.MatchResources",
    "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations",
    "io.k8s.api.admissionregistration.v1.ParamKind",
    "io.k8s.api.admissionregistration.v1.ParamRef",
    "io.k8s.api.admissionregistration.v1.Variable",
    "io.k8s.api.autoscaling.v1.CrossVersionObjectReference",
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.EndpointAddress",
    "io.k8s.api.core.v1.EndpointPort",
    "io.k8s.api.core.v1.FileKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.ScopeSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.TopologySelectorTerm",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.discovery.v1.EndpointPort",
    "io.k8s.api.networking.v1.ServiceBackendPort",
    "io.k8s.api.rbac.v1.RoleRef",
    "io.k8s.api.rbac.v1.Subject",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// A message as its lines say, before inlined ones are flattened.
#[derive(Default)]
struct Raw {
    name: &'static str,
    gvk: Option<(&'static str, &'static str)>,
    fields: Vec<(u32, Field, bool)>,
    line: u32,
}

pub(super) fn load(text: &'static str) -> Schema {
    let mut raws: Vec<Raw> = vec![];
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split(' ');
        if let Some(head) = line.strip_prefix("= ") {
            let mut words = head.split(' ');
            let name = words.next().unwrap_or_default();
            raws.push(Raw { name, gvk: words.next().zip(words.next()), fields: vec![], line: number as u32 });
        } else if let (Some(tag), Some(name), Some(ty), Some(raw)) =
            (words.next().and_then(|t| t.parse().ok()), words.next(), words.next(), raws.last_mut())
        {
            let (mut field, mut inline) = (parse_type(ty), false);
            field.name = name.into();
            field.line = Some(number as u32);
            words.for_each(|w| inline |= parse_word(&mut field, w));
            raw.fields.push((tag, field, inline));
        }
    }
    let lines = text.lines().count() as u32;
    let special: BTreeMap<&str, Special> = SPECIAL.into_iter().collect();
    let mut schema = Schema::default();
    for (at, raw) in raws.iter().enumerate() {
        let mut fields = vec![];
        flatten(&raws, raw, &mut fields);
        if raw.gvk.is_some() {
            fields.extend(type_meta(lines));
        }
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let mut wire: Vec<Wire> = vec![];
        for (tag, field, inline) in &raw.fields {
            let to = match field.elem {
                Elem::Message(id) if *inline => WireTo::Inline(id),
                _ => WireTo::Field(fields.partition_point(|f| f.name < field.name) as u16),
            };
            wire.push(Wire { tag: *tag, to });
        }
        wire.sort_by_key(|w| w.tag);
        if let Some((version, kind)) = raw.gvk {
            schema.kinds.entry(version.into()).or_default().insert(kind.into(), TypeId(at as u32));
        }
        schema.types.push(Arc::new(Type {
            name: raw.name.into(),
            fields,
            special: special.get(raw.name).copied().unwrap_or_default(),
            gvk: raw.gvk.map(|(v, k)| (v.into(), k.into())),
            atomic: ATOMIC.contains(&raw.name),
            wire,
            line: Some(raw.line),
            ..Type::default()
        }));
    }
    schema
}

/// The fields that every kind has; their descriptions follow the table's.
fn type_meta(lines: u32) -> [Field; 2] {
    [("apiVersion", 0), ("kind", 1)].map(|(n, at)| Field { name: n.into(), line: Some(lines + at), ..Field::default() })
}

/// The same for custom resources.
pub(super) fn builtin_type_meta() -> [Field; 2] {
    type_meta(TABLE.lines().count() as u32)
}

fn flatten(raws: &[Raw], raw: &Raw, out: &mut Vec<Field>) {
    for (_, field, inline) in &raw.fields {
        match field.elem {
            Elem::Message(id) if *inline => flatten(raws, &raws[id.0 as usize], out),
            _ => out.push(field.clone()),
        }
    }
}

fn parse_type(text: &'static str) -> Field {
    let shape = match text.as_bytes().first() {
        Some(b'[') => Shape::List,
        Some(b'{') => Shape::Map,
        _ => Shape::One,
    };
    let elem = match text.trim_start_matches(['[', '{']) {
        "b" => Elem::Bool,
        "i" => Elem::Int32,
        "l" => Elem::Int64,
        "d" => Elem::Double,
        "y" => Elem::Bytes,
        other => match other.strip_prefix('#').and_then(|n| n.parse().ok()) {
            Some(n) => Elem::Message(TypeId(n)),
            None => Elem::String,
        },
    };
    Field { shape, elem, ..Field::default() }
}

/// Whether the field is inlined.
fn parse_word(field: &mut Field, word: &'static str) -> bool {
    let Some((key, value)) = word.split_once('=') else {
        field.pointer |= word.contains('p');
        field.always |= word.contains('r');
        field.value |= word.contains('v');
        field.required |= word.contains('!');
        return word.contains('i');
    };
    match key {
        "lt" if value == "map" => field.list_type = ListType::Map,
        "lt" if value == "set" => field.list_type = ListType::Set,
        "lk" => field.list_keys = value.split(',').map(Into::into).collect(),
        "pk" => field.patch_key = Some(value.into()),
        "ps" => field.patch_strategy = value.into(),
        "st" => field.atomic = value == "atomic",
        "df" => field.default = Some(value.into()),
        "go" => field.go = Some(value.into()),
        _ => {}
    }
    false
}

/// The description that stands at a line.
pub(super) fn description(line: Option<u32>) -> &'static str {
    static LINES: OnceLock<Vec<String>> = OnceLock::new();
    let lines = LINES.get_or_init(|| {
        let raw: Vec<&str> = DESCRIPTIONS.lines().collect();
        let target = |l: &'static str| l.strip_prefix('@').and_then(|n| n.parse::<usize>().ok());
        let text = |l: &str| l.replace("\\n", "\n").replace("\\\\", "\\");
        raw.iter().map(|l| text(target(l).and_then(|n| raw.get(n)).unwrap_or(l))).collect()
    });
    line.and_then(|l| lines.get(l as usize)).map_or("", String::as_str)
}
