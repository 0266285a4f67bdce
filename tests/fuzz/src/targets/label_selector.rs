//! Label selectors of queries.

use copepod_model::selector::LabelSelector;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "label_selector",
    run,
    seeds,
    words: &["=", "==", "!=", " in (", " notin (", ")", ",", "!", ">", "<", "()", "a/b", "in", "notin", " ", "\t", "1"],
    room: Room::BYTES,
};

fn run(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    let selector = match LabelSelector::parse(&text) {
        Ok(selector) => selector,
        Err(e) => return Outcome::refused(e),
    };
    let printed = selector.to_string();
    assert_eq!(LabelSelector::parse(&printed).as_ref(), Ok(&selector), "{printed:?} is not what it was");
    for label in [None, Some(""), Some("a"), Some("1"), Some("9223372036854775808")] {
        let _ = selector.matches_with(|_| label);
    }
    Outcome::taken(printed.len()).and(selector.is_empty())
}

fn seeds() -> Vec<Seed> {
    let all = ["a=b", "a==b,c!=d", "e in (f,g)", "h notin (i)", "j,!k", "l>1,m<2", "x.test/n in (,a)", "a="];
    all.iter().enumerate().map(|(i, text)| (format!("s{i}"), (*text).into())).collect()
}
