//! Field selectors of queries.

use copepod_model::selector::FieldSelector;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "field_selector",
    run,
    seeds,
    words: &["=", "==", "!=", ",", "\\", "\\,", "\\=", "\\\\", "metadata.name", "!"],
    room: Room::BYTES,
};

fn run(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let selector = match FieldSelector::parse(&text) {
        Ok(selector) => selector,
        Err(e) => return Outcome::refused(e),
    };
    let printed = selector.to_string();
    assert_eq!(FieldSelector::parse(&printed).as_ref(), Ok(&selector), "{printed:?} is not what it was");
    assert!(selector.fields().count() <= input.len());
    let _ = selector.matches(str::to_string);
    Outcome::taken(printed.len()).and(selector.fields().count().min(4))
}

fn seeds() -> Vec<Seed> {
    let all = ["metadata.name=a", "status.phase!=Running", "a==b,c=d", r"a=x\,y\=z\\", "a=,b!="];
    all.iter().enumerate().map(|(i, text)| (format!("s{i}"), (*text).into())).collect()
}
