//! `secret`: files in memory that follow their Secret.

use super::Shown;

pub(super) const TYPE: Shown = Shown { plugin: "kubernetes.io~secret", memory: true };
