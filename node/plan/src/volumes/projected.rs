//! `projected`: several sources in one directory.

use k8s_openapi::api::core::v1::{Volume, VolumeProjection};

use super::files::{Files, mode};
use super::{Making, Problem, config_map, downward_api, secret};
use crate::effect::{VolumeContent, VolumeFile};

pub(super) fn make(making: &mut Making<'_>, volume: &Volume) -> Option<Result<VolumeContent, Problem>> {
    let v = volume.projected.as_ref()?;
    let (mut files, mut wrong, mut wait) = (Files::new(), Vec::new(), false);
    for s in v.sources.iter().flatten() {
        match project(making, s, v.default_mode) {
            Ok(mut more) => files.append(&mut more),
            Err(Problem::Wait) => wait = true,
            Err(Problem::Failed(why)) => wrong.push(why),
        }
    }
    Some(match wrong.as_slice() {
        [] if wait => Err(Problem::Wait),
        [] => Ok(VolumeContent::Projected(files)),
        [one] => Err(Problem::Failed(one.clone())),
        more => Err(Problem::Failed(format!("[{}]", more.join(", ")))),
    })
}

fn project(making: &mut Making<'_>, s: &VolumeProjection, default: Option<i32>) -> Result<Files, Problem> {
    if let Some(v) = &s.secret {
        return secret::project(making, v, default);
    }
    if let Some(v) = &s.config_map {
        return config_map::project(making, v, default);
    }
    if let Some(v) = &s.downward_api {
        return downward_api::project(making, v.items.as_deref().unwrap_or_default(), default);
    }
    if let Some(v) = &s.service_account_token {
        let text = making.tokens.of(v, making.source.now, making.out)?;
        return Ok([(v.path.clone(), VolumeFile { data: text.into_bytes(), mode: mode(None, default) })].into());
    }
    let value = serde_json::to_value(s).unwrap_or_default();
    let kind = value.as_object().and_then(|o| o.keys().next().cloned()).unwrap_or_default();
    Err(format!("projected sources of type {kind} are not supported on this node").into())
}
