//! The simulation is proved by bugs that are put in: with one, the invariant that is there for it fails within a few
//! seeds; the same seeds without it hold.

use sim::bug::Bug;

/// How many seeds a bug may need.
const WITHIN: u64 = 40;

fn finds(bug: Bug) {
    // Raft says that its contract is broken by a panic, which is caught and would fill the output.
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..WITHIN).find_map(|seed| sim::run_with(seed, Some(bug)).err());
    let _ = std::panic::take_hook();
    let found = found.unwrap_or_else(|| panic!("{bug:?} is not found within {WITHIN} seeds"));
    println!("{bug:?}: {found}");
    assert!(bug.found_by().contains(&found.invariant), "{bug:?} is found as {found}");
    if let Err(e) = sim::run_shaped(found.seed, bug) {
        panic!("the same run without {bug:?} fails, too: {e}");
    }
}

#[test]
fn a_member_that_promises_before_its_disk_is_synced_is_found() {
    finds(Bug::AcknowledgeBeforeSync);
}

#[test]
fn entries_that_are_applied_twice_after_a_restart_are_found() {
    finds(Bug::ApplyTwice);
}

#[test]
fn a_stale_read_from_a_deposed_leader_is_found() {
    finds(Bug::StaleRead);
}

#[test]
fn a_watch_that_skips_what_a_snapshot_brings_is_found() {
    finds(Bug::WatchSkips);
}

#[test]
fn a_controller_that_writes_after_it_was_deposed_is_found() {
    finds(Bug::Unfenced);
}

#[test]
fn a_controller_that_writes_what_is_anothers_is_found() {
    finds(Bug::TwoWriters);
}
