use copepod_model::{Key, Object};
use copepod_state::seat::{QUEUE, STRIDE};
use proptest::prelude::*;

use super::*;

fn change(revision: u64, namespace: &str, node: Option<&str>) -> Change {
    let key = Key::new("pods", namespace, "x");
    let mut object = Object::decode(key.clone(), revision, bytes::Bytes::new());
    object.meta.node_name = node.map(Into::into);
    Change { revision, key, new: Some(Arc::new(object)), old: None }
}

fn interest(namespace: Option<&str>, node: Option<&str>) -> Interest {
    Interest { namespace: namespace.map(Into::into), node_name: node.map(Into::into), ..Interest::all("pods") }
}

fn limits(changes: usize) -> WindowLimits {
    WindowLimits { changes, bytes: usize::MAX }
}

fn revisions(found: Vec<Arc<Change>>) -> Vec<u64> {
    found.iter().map(|c| c.revision).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<(u8, u8)>),
    Burst(u16),
    Poll(usize),
    Watch(u8, u8, u64),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec((0u8..3, 0u8..3), 1..5).prop_map(Step::Publish),
        1 => (1u16..900).prop_map(Step::Burst),
        4 => any::<usize>().prop_map(Step::Poll),
        2 => (0u8..3, 0u8..3, 0u64..50).prop_map(|(ns, node, back)| Step::Watch(ns, node, back)),
        1 => any::<usize>().prop_map(Step::Drop),
    ]
}

fn name(n: u8, names: [&'static str; 2]) -> Option<&'static str> {
    names.get(n as usize).copied()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// However publishing, polling, watching and falling behind are mixed: each watcher gets what interests it, once, in
    /// order, without gaps, or is told that it was too slow.
    #[test]
    fn watchers_get_everything_once(steps in proptest::collection::vec(step(), 1..60), size in 1usize..2000) {
        let hub = Arc::new(Hub::new(limits(size), 0));
        let mut log: Vec<Change> = Vec::new();
        // With each: up to where it got everything.
        let mut watchers: Vec<(Watcher, u64)> = Vec::new();
        let poll = |w: &mut Watcher, got: &mut u64, log: &[Change], oldest: u64| -> Result<bool, TestCaseError> {
            let progress = w.progress();
            prop_assert!(progress >= *got);
            let wanted = |c: &&Change| w.interest().matches(c) && c.revision > *got;
            let missing: Vec<u64> = log.iter().filter(wanted).map(|c| c.revision).collect();
            prop_assert!(missing.first().is_none_or(|first| progress < *first));
            match w.try_next() {
                Ok(Some(found)) => {
                    let found = revisions(found);
                    prop_assert!(!found.is_empty());
                    prop_assert_eq!(&found[..], &missing[..found.len()]);
                    *got = found[found.len() - 1];
                    Ok(true)
                }
                Ok(None) => {
                    prop_assert!(missing.is_empty());
                    *got = w.progress();
                    prop_assert_eq!(*got, log.len() as u64);
                    Ok(true)
                }
                Err(e) => {
                    prop_assert!(matches!(e, WatchError::Compacted(_)) && *got < oldest);
                    Ok(false)
                }
            }
        };
        for s in steps {
            match s {
                Step::Publish(changes) => {
                    let make = |(i, (ns, node)): (usize, &(u8, u8))| {
                        let ns = name(*ns, ["a", "b"]).unwrap_or("c");
                        change(log.len() as u64 + 1 + i as u64, ns, name(*node, ["n1", "n2"]))
                    };
                    let new: Vec<Change> = changes.iter().enumerate().map(make).collect();
                    log.extend(new.clone());
                    hub.publish(new);
                }
                Step::Burst(n) => {
                    let new: Vec<Change> = (1..=u64::from(n)).map(|i| change(log.len() as u64 + i, "a", Some("n1"))).collect();
                    log.extend(new.clone());
                    hub.publish(new);
                }
                Step::Watch(ns, node, back) => {
                    let from = (log.len() as u64).saturating_sub(back);
                    match hub.watch(interest(name(ns, ["a", "b"]), name(node, ["n1", "n2"])), from) {
                        Ok(w) => watchers.push((w, from)),
                        Err(e) => prop_assert!(from < hub.oldest() && e.asked == from),
                    }
                }
                Step::Poll(i) if !watchers.is_empty() => {
                    let i = i % watchers.len();
                    let (w, got) = &mut watchers[i];
                    if !poll(w, got, &log, hub.oldest())? {
                        watchers.swap_remove(i);
                    }
                }
                Step::Drop(i) if !watchers.is_empty() => drop(watchers.swap_remove(i % watchers.len())),
                Step::Poll(_) | Step::Drop(_) => {}
            }
            prop_assert_eq!(hub.watchers(), watchers.len());
        }
        for (w, got) in &mut watchers {
            while *got < log.len() as u64 && poll(w, got, &log, hub.oldest())? {}
        }
        drop(watchers);
        prop_assert!(lock(&hub.inner).index.is_empty());
    }
}

#[test]
fn a_slow_watcher_holds_a_bounded_queue() {
    let hub = Arc::new(Hub::new(limits(100_000), 0));
    let mut slow = hub.watch(interest(None, None), 0).unwrap();
    (1..=50_000).for_each(|r| hub.publish(vec![change(r, "a", None)]));
    assert_eq!(lock(&slow.seat.state).at.len(), QUEUE);
    let mut got = Vec::new();
    while let Some(found) = slow.try_next().unwrap() {
        assert!(found.len() <= STRIDE);
        got.extend(revisions(found));
    }
    assert_eq!(got, (1..=50_000).collect::<Vec<_>>());
    // It is in step again, and then costs nothing but its seat.
    assert!(!lock(&slow.seat.state).at.is_aside());
    assert!(lock(&slow.seat.state).at.is_empty());
    hub.publish(vec![change(50_001, "a", None)]);
    assert_eq!(revisions(slow.try_next().unwrap().unwrap()), [50_001]);
}

#[test]
fn other_changes_do_not_wake_a_watcher() {
    struct Count(AtomicU64);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let hub = Arc::new(Hub::new(limits(100), 0));
    let watch = hub.watch(interest(None, Some("n1")), 0).unwrap();
    let count = Arc::new(Count(AtomicU64::new(0)));
    let waker = Waker::from(count.clone());
    assert!(watch.poll(&waker).is_pending());
    (1..=10).for_each(|r| hub.publish(vec![change(r, "a", Some("n2"))]));
    assert_eq!((count.0.load(Ordering::Relaxed), watch.progress()), (0, 10));
    hub.publish(vec![change(11, "a", Some("n1")), change(12, "a", Some("n1"))]);
    assert_eq!((count.0.load(Ordering::Relaxed), watch.progress()), (1, 10));
    assert!(matches!(watch.poll(&waker), Poll::Ready(Ok(found)) if revisions(found.clone()) == [11, 12]));
    assert!(watch.poll(&waker).is_pending());
    hub.stop();
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    assert!(matches!(watch.poll(&waker), Poll::Ready(Err(WatchError::Stopped))));
    // Whoever comes later is told at once.
    assert!(matches!(hub.watch(interest(None, None), 12).unwrap().try_next(), Err(WatchError::Stopped)));
}

#[test]
fn a_watch_from_the_future_begins_there() {
    let hub = Arc::new(Hub::new(limits(100), 5));
    let mut watch = hub.watch(interest(None, None), 7).unwrap();
    (6..=8).for_each(|r| hub.publish(vec![change(r, "a", None)]));
    assert_eq!(revisions(watch.try_next().unwrap().unwrap()), [8]);
    assert_eq!(hub.watch(interest(None, None), 4).unwrap_err(), Compacted { asked: 4, oldest: 5 });
}

#[test]
fn a_watch_from_an_installed_state_goes_on_though_it_begins_before_the_reset() {
    let hub = Arc::new(Hub::new(limits(100), 5));
    // The new state is shown a moment before the hub hears of it.
    let mut early = hub.watch(interest(None, None), 9).unwrap();
    let mut old = hub.watch(interest(None, None), 5).unwrap();
    hub.reset(9);
    hub.publish(vec![change(10, "a", None)]);
    assert_eq!(revisions(early.try_next().unwrap().unwrap()), [10]);
    assert!(matches!(old.try_next(), Err(WatchError::Compacted(_))));
}
