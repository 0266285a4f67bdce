//! Every target's corpus, and a bounded number of mutations of it.

use std::time::Duration;

use fuzz::targets::TARGETS;
use fuzz::{Limits, Target, corpus};

/// What a target has in a run of all tests. Time ends it and decides nothing: on a slow machine fewer inputs are tried.
const LIMITS: Limits = Limits { runs: 3000, time: Duration::from_millis(300) };
const SEED: u64 = 1;

fn fuzz(name: &str) {
    let target = Target::named(name).unwrap_or_else(|| panic!("no target {name}"));
    let inputs = corpus::read(&corpus::folder(), name).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(!inputs.is_empty(), "{name} has no corpus: cargo run -p fuzz -- --seed-corpus");
    let inputs = inputs.into_iter().map(|(_, bytes)| bytes).collect();
    let folder = std::env::temp_dir().join("copepod-fuzz");
    match fuzz::fuzz(target, inputs, SEED, LIMITS, &folder) {
        Ok(report) => println!("{} runs, {} taken, {} classes", report.runs, report.taken, report.classes),
        Err(found) => panic!("{found}"),
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            fuzz(stringify!($name));
        })*

        #[test]
        fn every_target_is_tested() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|t| t.name).collect::<Vec<_>>(), tested);
        }
    };
}

targets! {
    apply,
    artifact,
    capsule,
    certificate,
    certificate_request,
    client_hello,
    create,
    cron_schedule,
    dns_answer,
    dns_question,
    duration,
    field_selector,
    http_request,
    image_layer,
    image_manifest,
    image_reference,
    join_token,
    json,
    json_patch,
    kubeconfig,
    label_selector,
    log_line,
    managed_fields,
    merge_patch,
    protobuf,
    quantity,
    raft_frame,
    snapshot,
    spdy,
    strategic_merge_patch,
    time,
    transaction,
    tunnel_head,
    websocket,
    yaml,
}

/// What is committed is what the targets make: who changes a seed writes the corpus again.
#[test]
fn the_corpus_is_that_of_the_seeds() {
    for target in TARGETS {
        let mut kept = corpus::read(&corpus::folder(), target.name).unwrap_or_else(|e| panic!("{}: {e}", target.name));
        assert!(
            kept.len() <= 40 && kept.iter().all(|(_, bytes)| bytes.len() <= 4096),
            "{} has small seeds",
            target.name
        );
        kept.retain(|(name, _)| !name.starts_with(corpus::REGRESSION));
        let mut made = (target.seeds)();
        made.sort();
        assert!(kept == made, "{}: cargo run -p fuzz -- --seed-corpus", target.name);
    }
}
