//! Orders of events, exactly as they are written here: those that a seed has found, and those that the store's rules are
//! for.

use std::time::Duration;

use crate::group::process::{LITTLE, MUCH, ProposeError};
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
        "a_member_that_installs_the_state_while_others_write_goes_on_from_the_log_behind_it",
        a_member_that_installs_the_state_while_others_write_goes_on_from_the_log_behind_it,
    ),
    ("a_member_that_is_away_goes_on_from_the_log", a_member_that_is_away_goes_on_from_the_log),
    (
        "a_full_disk_stops_its_own_server_only_and_until_there_is_room",
        a_full_disk_stops_its_own_server_only_and_until_there_is_room,
    ),
    (
        "a_leader_whose_disk_is_slow_finds_that_others_have_gone_on_without_it",
        a_leader_whose_disk_is_slow_finds_that_others_have_gone_on_without_it,
    ),
    (
        "who_has_not_seen_that_the_quota_is_reached_is_told_so_by_the_leader",
        who_has_not_seen_that_the_quota_is_reached_is_told_so_by_the_leader,
    ),
    ("a_group_that_rested_goes_on_with_the_leader_it_has", a_group_that_rested_goes_on_with_the_leader_it_has),
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
        run.keeps(LITTLE);
        let leader = run.leads();
        let behind = leader % 3 + 1;
        run.cut_off(behind);
        fall_behind(&run, leader);
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

/// Two checkpoints, so that the log is cut beyond what whoever is cut off has.
fn fall_behind(run: &Scenario, leader: u64) {
    for n in 0..14 {
        run.write(leader, &format!("n{n}")).unwrap();
        run.wait(Duration::from_millis(500));
    }
}

fn a_member_that_installs_the_state_while_others_write_goes_on_from_the_log_behind_it() {
    let run = Scenario::new(3);
    run.keeps(LITTLE);
    let leader = run.leads();
    let behind = leader % 3 + 1;
    run.cut_off(behind);
    fall_behind(&run, leader);
    run.keeps(MUCH);
    run.heal();
    // It is silent for four seconds, in which the others make checkpoints.
    run.slow_disk(behind, 2000);
    run.until_it_installs(behind);
    for n in 0..30 {
        run.write(leader, &format!("m{n}")).unwrap();
        run.wait(Duration::from_millis(200));
    }
    run.heal();
    run.wait(Duration::from_secs(8));
    assert_eq!(run.read(behind, "m29"), Some(true));
    assert_eq!(run.installations(behind), 1, "one state is enough");
    run.holds();
}

fn a_member_that_is_away_goes_on_from_the_log() {
    let run = Scenario::new(3);
    run.keeps(MUCH);
    let leader = run.leads();
    let away = leader % 3 + 1;
    run.cut_off(away);
    fall_behind(&run, leader);
    run.heal();
    run.wait(Duration::from_secs(4));
    assert_eq!((run.read(away, "n13"), run.installations(away)), (Some(true), 0));
    run.holds();
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

/// Seed 3072.
fn a_leader_whose_disk_is_slow_finds_that_others_have_gone_on_without_it() {
    let run = Scenario::new(3);
    let first = run.leads();
    let (slow, term) = (first % 3 + 1, run.term(first));
    run.slow_disk(slow, 1500);
    run.hand_over(first, slow);
    // Once its vote for itself is written it is elected, and begins to write the first entry of its term. Nobody hears of
    // it meanwhile, and another one is elected and commits more entries than it has.
    run.wait(Duration::from_millis(2700));
    let next = run.leads();
    assert!(next != slow && run.term(next) == term + 2, "the term between is that of the slow one");
    run.write(next, "kept").unwrap();
    // The entry is written: now it is seen to lead, in a term that is over.
    run.wait(Duration::from_secs(5));
    run.heal();
    run.wait(Duration::from_secs(2));
    assert_eq!(run.read(slow, "kept"), Some(true));
    run.holds();
}

/// Seed 7450: a server let in what its tables had room for, which were behind, and the leader took it.
fn who_has_not_seen_that_the_quota_is_reached_is_told_so_by_the_leader() {
    let run = Scenario::with_quota(3, 500);
    let leader = run.leads();
    let behind = leader % 3 + 1;
    run.write(leader, "first").unwrap();
    run.wait(Duration::from_secs(1));
    // Long enough that it still stands and waits when it is asked, and too short for it to look for another leader.
    run.slow_disk(behind, 400);
    let refused = (0..100).map(|i| run.write(leader, &format!("n{i}"))).find(Result::is_err);
    assert_eq!(refused, Some(Err(ProposeError::NoSpace)));
    let used = |id| run.group.ask(id, |p| p.shown.total_bytes()).unwrap_or_default();
    assert!(used(leader) >= 500 && used(behind) < 500, "{} {}", used(leader), used(behind));
    assert_eq!(run.write(behind, "late"), Err(ProposeError::NoSpace));
    run.heal();
    run.wait(Duration::from_secs(5));
    assert_eq!(run.read(leader, "late"), Some(false));
    run.holds();
}

/// Seed 51121: while the simulation lets raft's clock rest, each server's rest begins and ends at its own time.
fn a_group_that_rested_goes_on_with_the_leader_it_has() {
    for apart in 0..20 {
        let run = Scenario::new(3);
        let leader = run.leads();
        run.write(leader, "first").unwrap();
        let term = run.term(leader);
        run.group.calm();
        run.wait(Duration::from_secs(5));
        // Whoever is asked for something meanwhile ticks, and rests later than the others.
        for i in 0..10 {
            run.wait(Duration::from_millis(1300 + 97 * apart));
            run.write(leader % 3 + 1, &format!("n{i}")).unwrap();
        }
        run.group.stir();
        run.wait(Duration::from_secs(5));
        assert_eq!((run.leads(), run.term(leader)), (leader, term), "{apart}");
        run.holds();
    }
}
