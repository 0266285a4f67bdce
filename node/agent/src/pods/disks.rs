//! Disk-pressure eviction: first every image goes that nobody uses, and if that is not enough, one pod at a time.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copepod_model::Time;
use copepod_node_plan::eviction::Pressure;
use copepod_node_plan::eviction::disk::{Candidate, Met, evict, met};
use copepod_node_plan::{Effect, PodStorage};
use k8s_openapi::api::core::v1::Pod;

use super::{Pods, Uid};
use crate::clock::now;
use crate::host;

/// How long to wait before what did not help is tried again (the kubelet's monitoring interval).
const AGAIN: Duration = Duration::from_secs(10);
/// The same after a pod was told to go: it ends, and its volumes are deleted.
const SETTLE: Duration = Duration::from_secs(3);

/// How the node's disks stand, and what is being done about it.
pub(crate) struct Disks {
    /// Where volumes and logs are.
    node: PathBuf,
    /// Where images are.
    images: PathBuf,
    seen: Pressure,
    /// Whether the node reports pressure.
    pub(super) pressure: bool,
    step: Step,
    /// When to begin anew.
    again: Time,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Unused images are being removed.
    Images,
    /// It is being measured what pods hold.
    Pods,
}

impl Disks {
    /// Looks at the file systems of the agent's data folder and of its images.
    pub fn new(data_dir: &Path) -> Disks {
        Disks {
            node: data_dir.into(),
            images: data_dir.join("images"),
            seen: Pressure::default(),
            pressure: false,
            step: Step::Nothing,
            again: Time::from_secs(0),
        }
    }
}

impl Pods {
    /// The threshold that is met, if one is.
    fn short_of(&self) -> Option<Met> {
        let node = host::file_system(&self.disks.node)?;
        let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
        let own = device(&self.disks.images).is_some_and(|d| Some(d) != device(&self.disks.node));
        let images = if own { host::file_system(&self.disks.images) } else { None };
        met(node, images, &self.facts.eviction_disk)
    }

    /// Begins to make room if a disk is short.
    pub(super) fn look_at_disks(&mut self) {
        let (at, short) = (now(), self.short_of());
        self.disks.pressure = self.disks.seen.observe(short.is_some(), at);
        let Some(short) = short else { return };
        // Before the pods are known nobody can tell which images they use and what they hold. Then one after the other: the
        // end of one may be enough.
        if !self.listed || self.disks.step != Step::Nothing || at < self.disks.again || self.is_any_leaving() {
            return;
        }
        self.disks.again = at + AGAIN;
        if short.images {
            self.disks.step = Step::Images;
            self.collect_all_images();
        } else {
            self.measure_pods();
        }
    }

    /// All images that could go have gone.
    pub(super) fn all_images_collected(&mut self) {
        if self.disks.step != Step::Images {
            return;
        }
        match self.short_of() {
            Some(Met { pods: true, .. }) => self.measure_pods(),
            _ => self.disks.step = Step::Nothing,
        }
    }

    fn measure_pods(&mut self) {
        self.disks.step = Step::Pods;
        let _ = self.effects.send(Effect::MeasureStorage);
    }

    /// It is known what pods hold: one of them goes, if the disk is still short.
    pub(super) fn evict_for_disk(&mut self, held: Vec<(Uid, PodStorage)>) {
        self.disks.step = Step::Nothing;
        let Some(short) = self.short_of().filter(|met| met.pods) else { return };
        // What is over needs no logs as much as others need room.
        let over = |uid: &Uid| self.entries.get(uid).is_some_and(|e| e.observed.is_over());
        let logs: Vec<Uid> = held.iter().filter(|(_, h)| !h.used.logs.is_empty()).map(|(u, _)| u.clone()).collect();
        let logs: Vec<Uid> = logs.into_iter().filter(over).collect();
        if !logs.is_empty() {
            tracing::info!(pods = logs.len(), "the disk is short: removing the logs of pods that are over");
            logs.into_iter().for_each(|uid| drop(self.effects.send(Effect::RemoveLogs { uid })));
            self.disks.again = now() + SETTLE;
            return;
        }
        let candidates = held.into_iter().filter_map(|(uid, held)| {
            let entry = self.entries.get(&uid).filter(|e| !e.gone && !e.is_static && !e.observed.is_over())?;
            Some(Candidate::new(uid, &entry.object.typed::<Pod>()?, &held))
        });
        let mut candidates: Vec<_> = candidates.collect();
        // Equals go in a fixed order.
        candidates.sort_by(|a, b| a.id.cmp(&b.id));
        match evict(short, candidates) {
            Some(eviction) => {
                self.disks.again = now() + SETTLE;
                self.carry_out_eviction(eviction);
            }
            None => tracing::warn!(?short, "the disk is short, and no pod may go"),
        }
    }
}
