//! Images: who waits for which, which are in use, and which are to be removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::EventType;
use copepod_model::{Object, Time};
use copepod_node_plan::{
    Disk, Effect, ImageGcPolicy, ImageUse, Observation, PodEvent, PullRequest, collect, listed, shortage,
};
use k8s_openapi::api::core::v1::ContainerImage;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use super::{Pods, Uid};
use crate::clock::now;

/// A pull that is under way.
pub(super) struct Pull {
    began: Time,
    waiting: BTreeSet<Uid>,
    /// What was said of it so far, for those who join later.
    said: Vec<Observation>,
}

impl Pull {
    fn begin() -> Pull {
        Pull { began: now(), waiting: BTreeSet::new(), said: Vec::new() }
    }
}

/// When images are looked at, and what came of it.
pub(crate) struct Collector {
    node: Arc<Object>,
    policy: ImageGcPolicy,
    ticks: Interval,
    listed: watch::Sender<Vec<ContainerImage>>,
    /// A report was asked for; and whether images may be removed when it comes.
    asked: bool,
    due: bool,
    /// Something was pulled since the last report.
    pulled: bool,
    /// The disk is short: every image that nobody uses is to go.
    all: bool,
    /// Another report is needed after the one that was asked for.
    again: bool,
    /// Bytes that the removal under way should free, and whether it is of all unused images; the next waits for its end.
    removing: Option<(u64, bool)>,
    /// The last collection has failed.
    failed: bool,
}

impl Collector {
    /// Looks at images every `period` and tells `listed` what the node's status shows.
    pub fn new(
        node: Arc<Object>,
        policy: ImageGcPolicy,
        period: Duration,
        listed: watch::Sender<Vec<ContainerImage>>,
    ) -> Collector {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Collector {
            node,
            policy,
            ticks,
            listed,
            asked: false,
            due: false,
            pulled: false,
            all: false,
            again: false,
            removing: None,
            failed: false,
        }
    }

    /// Waits until it is time.
    pub async fn tick(&mut self) {
        self.ticks.tick().await;
    }

    fn event(&self, reason: &'static str, message: String) -> PodEvent {
        PodEvent { kind: EventType::Warning, reason, message, field_path: None }
    }
}

impl Pods {
    /// It is time to collect.
    pub(super) fn collect_images(&mut self) {
        self.collector.due = true;
        self.report_images();
    }

    /// The disk is short: every image that nobody uses goes.
    pub(super) fn collect_all_images(&mut self) {
        self.collector.all = true;
        self.collect_images();
    }

    /// Asks what is in the store now, if something was pulled: once for all pulls of a second.
    pub(super) fn report_pulled(&mut self) {
        if std::mem::take(&mut self.collector.pulled) {
            self.report_images();
        }
    }

    fn report_images(&mut self) {
        if std::mem::replace(&mut self.collector.asked, true) {
            self.collector.again = true;
            return;
        }
        let in_use = self.images_in_use().into_iter().collect();
        let _ = self.effects.send(Effect::ReportImages { in_use });
    }

    fn images_in_use(&self) -> BTreeSet<String> {
        self.entries.values().flat_map(|e| e.observed.images_in_use().map(String::from)).collect()
    }

    /// The images that stay: those in use, and those that a pull under way may have brought, whose pods do not know of them
    /// yet.
    fn spared(&self, images: &[ImageUse]) -> BTreeSet<String> {
        let mut spared = self.images_in_use();
        if let Some(began) = self.pulling.values().map(|pull| pull.began).min() {
            spared.extend(images.iter().filter(|image| image.last_used >= began).map(|image| image.digest.clone()));
        }
        spared
    }

    /// Asks the data plane for an image, unless that has been done: then what was said is said again.
    pub(super) fn pull(&mut self, uid: &Uid, request: PullRequest) {
        let pull = self.pulling.entry(request.id()).or_insert_with(Pull::begin);
        let first = pull.waiting.is_empty();
        pull.waiting.insert(uid.clone());
        if first {
            let _ = self.effects.send(Effect::PullImage(request));
            return;
        }
        if let Some(entry) = self.entries.get_mut(uid)
            && !pull.said.is_empty()
        {
            for said in &pull.said {
                entry.observed.observe(said, now());
            }
            self.dirty.insert(uid.clone());
        }
    }

    /// Who hears of an observation about a pull.
    pub(super) fn pulled(&mut self, observation: &Observation) -> Vec<Uid> {
        match observation {
            Observation::ImagePulling { request }
            | Observation::ImageProgress { request, .. }
            | Observation::ImagePulled { request, .. } => {
                let Some(pull) = self.pulling.get_mut(request) else { return Vec::new() };
                // Who comes later hears how far it is, not how far it was.
                pull.said.retain(|said| !matches!(said, Observation::ImageProgress { .. }));
                pull.said.push(observation.clone());
                let waiting = pull.waiting.iter().cloned().collect();
                self.collector.pulled |=
                    matches!(observation, Observation::ImagePulled { took, .. } if !took.is_zero());
                waiting
            }
            Observation::ImageReady { request, .. } | Observation::ImageFailed { request, .. } => {
                self.pulling.remove(request).map(|p| p.waiting).into_iter().flatten().collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is in the store: for the node's status, and to remove what there is no room for.
    pub(super) fn images_seen(&mut self, images: Result<Vec<ImageUse>, String>, disk: Disk) {
        self.collector.asked = false;
        let due = std::mem::take(&mut self.collector.due);
        // While another removal is under way the wish stays.
        let busy = self.collector.removing.is_some();
        let all = !busy && std::mem::take(&mut self.collector.all);
        match images {
            Ok(images) => {
                let status = listed(&images);
                self.collector.listed.send_if_modified(|now| {
                    let different = *now != status;
                    *now = status;
                    different
                });
                if due && !busy {
                    if all {
                        self.remove_all_images(&images, disk, now());
                    } else {
                        self.remove_images(&images, disk, now());
                    }
                }
            }
            Err(why) if due => self.collection_failed(why),
            Err(error) => tracing::warn!(%error, "cannot see which images there are"),
        }
        if all && self.collector.removing.is_none() {
            self.all_images_collected();
        }
        if std::mem::take(&mut self.collector.again) {
            self.report_images();
        }
    }

    fn remove_all_images(&mut self, images: &[ImageUse], disk: Disk, at: Time) {
        let policy = ImageGcPolicy { high: 0, low: 0, budget: None, ..self.collector.policy };
        let gc = collect(images, disk, &self.spared(images), &policy, at);
        if !gc.remove.is_empty() {
            tracing::info!(images = gc.remove.len(), bytes = gc.found, "the disk is short: removing unused images");
            // As much as there is will do.
            self.collector.removing = Some((0, true));
            let _ = self.effects.send(Effect::RemoveImages { images: gc.remove });
        }
    }

    fn remove_images(&mut self, images: &[ImageUse], disk: Disk, at: Time) {
        if disk.capacity == 0 && self.collector.policy.budget.is_none() {
            let text = "invalid capacity 0 on image filesystem".to_string();
            let event = self.collector.event("InvalidDiskCapacity", text.clone());
            self.recorder.record(&self.collector.node, event);
            return self.collection_failed(text);
        }
        let gc = collect(images, disk, &self.spared(images), &self.collector.policy, at);
        if gc.wanted == 0 {
            self.collector.failed = false;
            return;
        }
        tracing::info!(wanted = gc.wanted, found = gc.found, images = gc.remove.len(), "removing unused images");
        self.collector.removing = Some((gc.wanted, false));
        let _ = self.effects.send(Effect::RemoveImages { images: gc.remove });
    }

    /// Images were removed: enough of them or not.
    pub(super) fn images_removed(&mut self, freed: u64, errors: &[String]) {
        let (wanted, all) = self.collector.removing.take().unwrap_or((0, false));
        if freed > 0 {
            self.report_images();
        }
        if !errors.is_empty() {
            self.collection_failed(errors.join("; "));
        } else if freed < wanted {
            let text = shortage(wanted, freed);
            let event = self.collector.event("FreeDiskSpaceFailed", text.clone());
            self.recorder.record(&self.collector.node, event);
            self.collection_failed(text);
        } else {
            self.collector.failed = false;
        }
        if all {
            self.all_images_collected();
        } else if self.collector.all {
            self.collect_images();
        }
    }

    /// The kubelet tells of it from the second time in a row.
    fn collection_failed(&mut self, why: String) {
        tracing::info!(why, "image garbage collection failed");
        if std::mem::replace(&mut self.collector.failed, true) {
            self.recorder.record(&self.collector.node, self.collector.event("ImageGCFailed", why));
        }
    }
}
