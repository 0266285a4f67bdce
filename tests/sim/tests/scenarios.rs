//! The scenarios hold.

#[test]
fn every_scenario_holds() {
    for (name, run) in sim::scenarios::ALL {
        println!("{name}");
        run();
    }
}
