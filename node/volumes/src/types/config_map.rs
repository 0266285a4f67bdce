//! `configMap`: files on disk that follow their ConfigMap.

use super::Shown;

pub(super) const TYPE: Shown = Shown { plugin: "kubernetes.io~configmap", memory: false };
