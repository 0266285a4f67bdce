//! Orders of events, exactly as they are written here: those that a seed has found, and those that the store's rules are
//! for.

use std::time::Duration;

use crate::scenario::Scenario;

/// All of them, by name. Each panics when something is not as it should be.
pub const ALL: &[(&str, fn())] = &[
    (
        "a_leader_that_is_cut_off_acknowledges_nothing_and_steps_back",
        a_leader_that_is_cut_off_acknowledges_nothing_and_steps_back,
    ),
    ("what_was_acknowledged_survives_the_power_of_all", what_was_acknowledged_survives_the_power_of_all),
    (
        "a_member_that_is_far_behind_installs_the_state_and_a_crash_amid_it_leaves_the_old_one_or_the_new_one",
        a_member_that_is_far_behind_installs_the_state_and_a_crash_amid_it_leaves_the_old_one_or_the_new_one,
    ),
    (
        "a_full_disk_stops_its_own_server_only_and_until_there_is_room",
        a_full_disk_stops_its_own_server_only_and_until_there_is_room,
    ),
];

fn a_leader_that_is_cut_off_acknowledges_nothing_and_steps_back() {
    let run = Scenario::new(3);
    let old = run.leads();
    run.cut_off(old);
    let lost = run.write(old, "lost");
    assert!(lost.is_err(), "{lost:?}");
    let new = run.leads();
    assert_ne!(new, old);
    run.write(new, "kept").unwrap();
    assert_eq!(run.read(old, "kept"), None, "nothing is proven to who is cut off");
    run.heal();
    run.wait(Duration::from_secs(5));
    assert_eq!(run.read(old, "kept"), Some(true));
    assert_eq!(run.read(new, "lost"), Some(false));
    run.holds();
}

fn what_was_acknowledged_survives_the_power_of_all() {
    let run = Scenario::new(3);
    for name in ["a", "b", "c"] {
        run.write(run.leads(), name).unwrap();
    }
    (1..=3).for_each(|id| run.lose_power(id));
    run.heal();
    let leader = run.leads();
    for name in ["a", "b", "c"] {
        assert_eq!(run.read(leader, name), Some(true));
    }
    run.holds();
}

fn a_member_that_is_far_behind_installs_the_state_and_a_crash_amid_it_leaves_the_old_one_or_the_new_one() {
    // The crash comes at each of the moments of the installation, and once after it.
    for after in [0, 100, 200, 400, 700, 1000, 100_000] {
        let run = Scenario::new(3);
        let leader = run.leads();
        let behind = leader % 3 + 1;
        run.cut_off(behind);
        // Two checkpoints, so that the log is cut beyond what it has.
        for n in 0..14 {
            run.write(leader, &format!("n{n}")).unwrap();
            run.wait(Duration::from_millis(500));
        }
        run.heal();
        run.until_it_installs(behind);
        run.wait(Duration::from_micros(after));
        run.lose_power(behind);
        run.heal();
        run.wait(Duration::from_secs(8));
        assert_eq!(run.read(behind, "n13"), Some(true), "after {after} µs");
        run.holds();
    }
}

fn a_full_disk_stops_its_own_server_only_and_until_there_is_room() {
    let run = Scenario::new(3);
    let leader = run.leads();
    run.fill_disk(leader);
    let _ = run.write(leader, "full");
    let new = run.leads();
    assert_ne!(new, leader);
    run.write(new, "others").unwrap();
    run.heal();
    run.wait(Duration::from_secs(5));
    assert_eq!(run.read(leader, "others"), Some(true));
    run.holds();
}
