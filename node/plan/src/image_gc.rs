//! Which images to remove: the kubelet's image garbage collection (`pkg/kubelet/images/image_gc_manager.go`).

use std::collections::BTreeSet;
use std::time::Duration;

use copepod_model::Time;
use k8s_openapi::api::core::v1::ContainerImage;

use crate::effect::{Disk, ImageUse};

/// When images are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGcPolicy {
    /// Percent of the disk in use from which on images are removed: `imageGCHighThresholdPercent`. 100 never does.
    pub high: u8,
    /// Percent of the disk in use down to which they are: `imageGCLowThresholdPercent`.
    pub low: u8,
    /// What was used less long ago stays: `imageMinimumGCAge`.
    pub min_age: Duration,
    /// A disk of this many bytes, all of it for images, instead of the real one.
    pub budget: Option<u64>,
}

impl Default for ImageGcPolicy {
    fn default() -> ImageGcPolicy {
        ImageGcPolicy { high: 85, low: 80, min_age: Duration::from_secs(120), budget: None }
    }
}

/// What is to be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageGc {
    /// Digests with when they were last used, in the order of removal.
    pub remove: Vec<(String, Time)>,
    /// Bytes that should become free; 0 when there is room.
    pub wanted: u64,
    /// Bytes that removing these frees.
    pub found: u64,
}

/// Decides what to remove. What is in use stays, whatever the disk says.
pub fn collect(
    images: &[ImageUse],
    disk: Disk,
    in_use: &BTreeSet<String>,
    policy: &ImageGcPolicy,
    now: Time,
) -> ImageGc {
    let (capacity, available) = match policy.budget {
        Some(budget) => {
            let used = images.iter().map(|i| i.size).fold(0, u64::saturating_add);
            (budget, budget.saturating_sub(used))
        }
        None => (disk.capacity, disk.available.min(disk.capacity)),
    };
    let over =
        policy.budget.map_or(0, |b| images.iter().map(|i| i.size).fold(0, u64::saturating_add).saturating_sub(b));
    if capacity == 0 || policy.high >= 100 {
        return ImageGc::default();
    }
    // In percent as the kubelet counts: rounded down, so that what is used is rounded up.
    let used = 100 - u128::from(available) * 100 / u128::from(capacity);
    if used < u128::from(policy.high) {
        return ImageGc::default();
    }
    let free = u128::from(capacity) * u128::from(100 - policy.low.min(100)) / 100;
    let wanted = u64::try_from(free).unwrap_or(u64::MAX).saturating_sub(available).saturating_add(over);
    let mut unused: Vec<&ImageUse> = images
        .iter()
        .filter(|i| !in_use.contains(&i.digest) && now.since(i.last_used) >= policy.min_age && i.last_used <= now)
        .collect();
    unused.sort_by(|a, b| (a.last_used, &a.digest).cmp(&(b.last_used, &b.digest)));
    let mut out = ImageGc { wanted, ..ImageGc::default() };
    for image in unused {
        if out.found >= wanted {
            break;
        }
        out.found = out.found.saturating_add(image.size);
        out.remove.push((image.digest.clone(), image.last_used));
    }
    out
}

/// The kubelet's words when not enough can be removed.
pub fn shortage(wanted: u64, freed: u64) -> String {
    format!(
        "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
    )
}

/// How many images a node's status lists, and how many names of each (`nodeStatusMaxImages`, `MaxNamesPerImageInNodeStatus`).
const LISTED: usize = 50;
const NAMES: usize = 5;

/// `status.images` of a node: the largest first.
pub fn listed(images: &[ImageUse]) -> Vec<ContainerImage> {
    let mut all: Vec<&ImageUse> = images.iter().filter(|i| !i.names.is_empty()).collect();
    all.sort_by(|a, b| (b.size, &a.names).cmp(&(a.size, &b.names)));
    let one = |i: &&ImageUse| ContainerImage {
        names: Some(i.names.iter().take(NAMES).cloned().collect()),
        size_bytes: i64::try_from(i.size).ok(),
    };
    all.iter().take(LISTED).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time::from_secs(10_000);

    fn image(digest: &str, size: u64, age: u64) -> ImageUse {
        ImageUse {
            digest: digest.into(),
            size,
            names: vec![format!("r.io/{digest}")],
            last_used: Time::from_secs(10_000 - age),
        }
    }

    fn removed(
        images: &[ImageUse],
        available: u64,
        in_use: &[&str],
        policy: &ImageGcPolicy,
    ) -> (Vec<String>, u64, u64) {
        let in_use = in_use.iter().map(ToString::to_string).collect();
        let gc = collect(images, Disk { capacity: 1000, available }, &in_use, policy, NOW);
        (gc.remove.into_iter().map(|(d, _)| d).collect(), gc.wanted, gc.found)
    }

    #[test]
    fn the_oldest_go_until_there_is_room() {
        let images = [image("a", 30, 500), image("b", 30, 700), image("c", 30, 600), image("d", 30, 60)];
        let policy = ImageGcPolicy::default();
        assert_eq!(removed(&images, 160, &[], &policy), (vec![], 0, 0), "84 percent");
        assert_eq!(removed(&images, 150, &[], &policy), (vec!["b".into(), "c".into()], 50, 60));
        assert_eq!(removed(&images, 150, &["b"], &policy), (vec!["c".into(), "a".into()], 50, 60));
        // What was used a minute ago stays though it does not suffice.
        assert_eq!(removed(&images, 0, &["b"], &policy), (vec!["c".into(), "a".into()], 200, 60));
        let never = ImageGcPolicy { high: 100, ..policy };
        assert_eq!(removed(&images, 0, &[], &never), (vec![], 0, 0));
    }

    #[test]
    fn a_budget_stands_for_the_disk() {
        let images = [image("a", 60, 500), image("b", 60, 700)];
        let policy = ImageGcPolicy { budget: Some(100), ..ImageGcPolicy::default() };
        assert_eq!(removed(&images, 1000, &[], &policy), (vec!["b".into()], 40, 60));
        let roomy = ImageGcPolicy { budget: Some(200), ..policy };
        assert_eq!(removed(&images, 0, &[], &roomy), (vec![], 0, 0));
    }

    #[test]
    fn the_status_lists_the_largest() {
        let mut images: Vec<ImageUse> = (0..60).map(|i| image(&format!("d{i}"), i, 0)).collect();
        images[59].names = (0..9).map(|i| i.to_string()).collect();
        images.push(ImageUse { names: vec![], ..image("nameless", 999, 0) });
        let all = listed(&images);
        assert_eq!((all.len(), all[0].size_bytes, all[0].names.as_ref().unwrap().len()), (50, Some(59), 5));
    }

    proptest! {
        #[test]
        fn never_more_nor_other_than_needed(
            sizes in prop::collection::vec((0u64..500, 0u64..1000, any::<bool>()), 0..30),
            available in 0u64..2000, high in 0u8..=100, low in 0u8..=100, budget in prop::option::of(0u64..2000),
        ) {
            let images: Vec<ImageUse> = sizes.iter().enumerate().map(|(i, (s, a, _))| image(&format!("{i:02}"), *s, *a)).collect();
            let in_use: BTreeSet<String> = sizes.iter().enumerate().filter(|(_, (_, _, u))| *u).map(|(i, _)| format!("{i:02}")).collect();
            let policy = ImageGcPolicy { high, low: low.min(high), min_age: Duration::from_secs(120), budget };
            let gc = collect(&images, Disk { capacity: 2000, available }, &in_use, &policy, NOW);
            let get = |d: &str| images.iter().find(|i| i.digest == d).unwrap();
            let mut freed = 0;
            for (at, (digest, last)) in gc.remove.iter().enumerate() {
                let i = get(digest);
                prop_assert!(!in_use.contains(digest), "in use");
                prop_assert!(NOW.since(i.last_used) >= policy.min_age, "too young");
                prop_assert!(*last == i.last_used);
                prop_assert!(freed < gc.wanted, "there was room already");
                freed += i.size;
                if at > 0 {
                    prop_assert!(get(&gc.remove[at - 1].0).last_used <= i.last_used, "oldest first");
                }
            }
            prop_assert_eq!(freed, gc.found);
            if gc.found < gc.wanted {
                let left = images.iter().filter(|i| !in_use.contains(&i.digest) && NOW.since(i.last_used) >= policy.min_age);
                prop_assert_eq!(left.count(), gc.remove.len(), "everything that may go goes");
            }
        }
    }
}
