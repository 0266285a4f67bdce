//! Files from the keys of a ConfigMap or a Secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::KeyToPath;

use super::{Making, Problem};
use crate::effect::VolumeFile;
use crate::refs::{Lookup, Reference};

/// Files by their path in the volume.
pub(crate) type Files = BTreeMap<String, VolumeFile>;

/// `defaultMode` where a volume has none.
pub(crate) const DEFAULT_MODE: i32 = 0o644;

/// Permission bits of a file.
pub(crate) fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(DEFAULT_MODE)).unwrap_or(0) & 0o777
}

/// A reference to an object of keys, as volumes have it.
pub(crate) struct Keys<'a> {
    /// `configmaps` or `secrets`.
    pub resource: &'static str,
    pub name: &'a str,
    pub items: Option<&'a [KeyToPath]>,
    pub mode: Option<i32>,
    pub optional: bool,
}

/// The files that a reference stands for.
pub(crate) fn of(making: &mut Making<'_>, keys: &Keys<'_>) -> Result<Files, Problem> {
    let values = match look(making, keys.resource, keys.name) {
        Lookup::Found(values) => values,
        Lookup::Missing if keys.optional => return Ok(Files::new()),
        Lookup::Missing => {
            let kind = keys.resource.trim_end_matches('s');
            return Err(format!("{kind} \"{}\" not found", keys.name).into());
        }
        Lookup::Unknown => return Err(Problem::Wait),
    };
    pick(&values, keys).map_err(Problem::Failed)
}

fn look(making: &mut Making<'_>, resource: &'static str, name: &str) -> Lookup {
    let source = making.source;
    let namespace = source.pod.metadata.namespace.as_deref().unwrap_or_default();
    // What a volume shows is followed for as long as the pod has it.
    making.out.follow.insert(Reference { resource, namespace: namespace.into(), name: name.into() });
    match resource {
        "configmaps" => source.refs.config_map(namespace, name, source.now),
        _ => source.refs.secret(namespace, name, source.now),
    }
}

fn pick(values: &Arc<BTreeMap<String, Vec<u8>>>, keys: &Keys<'_>) -> Result<Files, String> {
    let file = |data: &Vec<u8>, own| VolumeFile { data: data.clone(), mode: mode(own, keys.mode) };
    let Some(items) = keys.items.filter(|i| !i.is_empty()) else {
        return Ok(values.iter().map(|(k, v)| (k.clone(), file(v, None))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match values.get(&item.key) {
            Some(data) => drop(files.insert(item.path.clone(), file(data, item.mode))),
            None if keys.optional => {}
            None if keys.resource == "configmaps" => {
                return Err(format!("configmap references non-existent config key: {}", item.key));
            }
            None => return Err(format!("references non-existent secret key: {}", item.key)),
        }
    }
    Ok(files)
}
