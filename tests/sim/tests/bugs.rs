//! The simulation is proved by bugs that are put in: with one, a seed fails by the invariant that is there for it, and the
//! same run without it holds. Which seed and which invariant stands in `bugs.txt`, a line for each bug. Whoever changes the
//! order in which a run draws changes which seeds those are: `cargo run -p sim -- --bugs > tests/sim/tests/bugs.txt`.

use sim::bug::Bug;

const FOUND: &str = include_str!("bugs.txt");
const RENEW: &str = "renew the table: cargo run -p sim -- --bugs > tests/sim/tests/bugs.txt";

/// The seed and the invariant that find a bug.
fn found(bug: Bug) -> Option<(u64, &'static str)> {
    FOUND.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [name, seed, invariant] => (Bug::named(name) == Some(bug)).then_some((seed.parse().ok()?, invariant)),
        _ => None,
    })
}

fn finds(bug: Bug) {
    let (seed, invariant) = found(bug).unwrap_or_else(|| panic!("{bug:?} has no line: {RENEW}"));
    assert!(bug.found_by().contains(&invariant), "{invariant} is not there for {bug:?}");
    // Raft says that its contract is broken by a panic, which is caught and would fill the output.
    std::panic::set_hook(Box::new(|_| {}));
    let result = sim::run_with(seed, bug);
    let _ = std::panic::take_hook();
    let failure = result.err().unwrap_or_else(|| panic!("seed {seed} does not find {bug:?}: {RENEW}"));
    println!("{bug:?}: {failure}");
    assert_eq!(failure.invariant, invariant, "{failure}\n{RENEW}");
    if let Err(e) = sim::run_shaped(seed, bug) {
        panic!("the same run without {bug:?} fails, too: {e}");
    }
}

#[test]
fn the_table_has_each_bug_once() {
    let mut names: Vec<&str> = FOUND.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut all = Bug::ALL.map(|bug| format!("{bug:?}"));
    names.sort_unstable();
    all.sort_unstable();
    assert_eq!(names, all, "{RENEW}");
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
