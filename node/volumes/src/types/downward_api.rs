//! `downwardAPI`: files on disk that follow the pod.

use super::Shown;

pub(super) const TYPE: Shown = Shown { plugin: "kubernetes.io~downward-api", memory: false };
