//! A container's `volumeMounts`, resolved.

use k8s_openapi::api::core::v1::{Container, Volume};

use super::Volumes;
use crate::effect::Mount;
use crate::env::Source;
use crate::memory;
use crate::text::clean_path;

/// What a container sees, or what is wrong in the kubelet's words. Its volumes are mounted.
pub(crate) fn resolve(
    source: &Source<'_>,
    container: &Container,
    env: &[(String, String)],
    volumes: &Volumes,
) -> Result<Vec<Mount>, String> {
    let spec = source.pod.spec.as_ref();
    let mut list = Vec::new();
    for m in container.volume_mounts.iter().flatten() {
        let volume = spec.and_then(|s| s.volumes.as_ref()).and_then(|v| v.iter().find(|v| v.name == m.name));
        let (Some(volume), Some(host)) = (volume, volumes.at(&m.name)) else {
            return Err(format!("mountPath \"{}\": volume \"{}\" not found", m.mount_path, m.name));
        };
        let sub_path = match (m.sub_path.as_deref(), m.sub_path_expr.as_deref()) {
            (_, Some(expr)) if !expr.is_empty() => substitute(expr, env)?,
            (sub, _) => sub.unwrap_or_default().into(),
        };
        if sub_path.starts_with('/') {
            return Err(format!("error SubPath `{sub_path}` must not be an absolute path"));
        }
        if sub_path.split('/').any(|part| part == "..") {
            return Err(format!("unable to provision SubPath `{sub_path}`: must not contain '..'"));
        }
        list.push(Mount {
            path: clean_path(&m.mount_path),
            host: host.into(),
            sub_path,
            read_only: m.read_only == Some(true) || shows_objects(volume),
            memory: memory::size(source.pod, volume, source.node.allocatable_memory),
        });
    }
    Ok(list)
}

/// What shows objects of the API is never written to.
fn shows_objects(v: &Volume) -> bool {
    v.config_map.is_some() || v.secret.is_some() || v.projected.is_some() || v.downward_api.is_some()
}

/// `$(NAME)` by the environment. Other than in arguments, a name without a value is an error.
fn substitute(expr: &str, env: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let value = |name: &str| {
        let found = env.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        if found.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_string());
        }
        found
    };
    let text = crate::args::expand(expr, value);
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for \"{name}\"")),
        None => Ok(text),
    }
}
