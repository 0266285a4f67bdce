//! A block of seeds in CI, and that a seed is a seed.

#[test]
fn a_block_of_seeds_holds() {
    for seed in 0..40 {
        match sim::run(seed) {
            Ok(report) => println!("seed {seed}: {report:?}"),
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    assert_eq!(sim::run(7), sim::run(7));
    assert_ne!(sim::run(7).unwrap().digest, sim::run(8).unwrap().digest);
}

#[test]
fn the_invariants_find_faults() {
    for fault in sim::fault::Fault::ALL {
        let found = (0..20).find_map(|seed| sim::run_with(seed, Some(fault)).err());
        println!("{fault:?}: {}", found.unwrap_or_else(|| panic!("{fault:?} is not found in twenty runs")));
    }
}
