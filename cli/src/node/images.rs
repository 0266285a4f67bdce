//! How a node treats images and the room on the disk.

use std::path::{Path, PathBuf};

use clap::Args;
use copepod_agent::AgentConfig;
use copepod_images::Registries;
use copepod_node_plan::ImageGcPolicy;
use copepod_node_plan::eviction::Thresholds;

use crate::cmd::Error;

/// Flags about images and the room on the disk.
#[derive(Debug, Args)]
pub struct ImageFlags {
    /// Mirrors, certificates and credentials of registries, as in k3s' registries.yaml. Default: registries.yaml in the
    /// data folder, if it exists.
    #[arg(long, env = "COPEPOD_REGISTRIES", value_name = "FILE")]
    registries: Option<PathBuf>,
    /// Percent of the disk in use from which on unused images are removed; 100 never removes any.
    #[arg(long, env = "COPEPOD_IMAGE_GC_HIGH_THRESHOLD", default_value_t = 85, value_name = "PERCENT",
        value_parser = clap::value_parser!(u8).range(0..=100))]
    image_gc_high_threshold: u8,
    /// Percent of the disk in use down to which unused images are removed.
    #[arg(long, env = "COPEPOD_IMAGE_GC_LOW_THRESHOLD", default_value_t = 80, value_name = "PERCENT",
        value_parser = clap::value_parser!(u8).range(0..=100))]
    image_gc_low_threshold: u8,
    /// Bytes that images may take, instead of the size of the disk.
    #[arg(long, env = "COPEPOD_IMAGE_BUDGET", value_name = "BYTES")]
    image_budget: Option<u64>,
    /// With less left than this, unused images are removed and pods are evicted; what is not named keeps its default, 0% is
    /// none. The signals are those of the kubelet.
    #[arg(
        long,
        env = "COPEPOD_EVICTION_HARD",
        value_name = "SIGNAL<AMOUNT,…",
        default_value = EVICTION_HARD,
        value_parser = Thresholds::parse,
        overrides_with = "eviction_hard"
    )]
    eviction_hard: Thresholds,
}

/// [`DiskThresholds`](copepod_node_plan::eviction::DiskThresholds)' defaults.
const EVICTION_HARD: &str =
    "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%";

impl ImageFlags {
    /// Sets an agent up; `dir` is the data folder.
    pub fn set(&self, config: &mut AgentConfig, dir: &Path) -> Result<(), Error> {
        let (high, low) = (self.image_gc_high_threshold, self.image_gc_low_threshold);
        if low >= high {
            return Err(
                format!("--image-gc-low-threshold {low} must be less than --image-gc-high-threshold {high}").into()
            );
        }
        config.image_gc = ImageGcPolicy { high, low, budget: self.image_budget, ..ImageGcPolicy::default() };
        config.eviction_memory = self.eviction_hard.memory;
        config.eviction_disk = self.eviction_hard.disk;
        config.registries = self.read(dir)?;
        config.cluster_registry = Some(copepod_server::images::HOST.into());
        Ok(())
    }

    fn read(&self, dir: &Path) -> Result<Registries, Error> {
        let path = self.registries.clone().unwrap_or_else(|| dir.join("registries.yaml"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.registries.is_none() => String::new(),
            Err(e) => return Err(format!("{}: {e}", path.display()).into()),
        };
        Registries::parse(&text).map_err(|e| format!("{}: {e}", path.display()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_that_are_shown_are_the_defaults() {
        assert_eq!(Thresholds::parse(EVICTION_HARD), Ok(Thresholds::default()));
    }
}
