//! `projected`: files in memory, since tokens and Secrets may be among them.

use super::Shown;

pub(super) const TYPE: Shown = Shown { plugin: "kubernetes.io~projected", memory: true };
