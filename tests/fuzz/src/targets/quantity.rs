//! Quantities of resources.

use copepod_model::quantity::Quantity;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target {
    name: "quantity",
    run,
    seeds,
    words: &["n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ei", "e", "E-", "+", "-", ".", "0", "9"],
    room: Room::BYTES,
};

fn run(input: &[u8]) -> Outcome {
    let [one, two] = crate::support::parts(input);
    let parse = |bytes| String::from_utf8_lossy(bytes).parse::<Quantity>();
    let quantity = match parse(one) {
        Ok(quantity) => quantity,
        Err(e) => return Outcome::refused(e),
    };
    let printed = quantity.to_string();
    let again = parse(printed.as_bytes());
    assert_eq!(again, Ok(quantity), "{printed:?} is not what it was");
    assert_eq!(again.map(|q| q.to_string()), Ok(printed.clone()), "there is one form");
    assert!(printed.len() <= 32, "{printed}");
    assert_eq!(quantity.is_negative(), printed.starts_with('-'), "{printed}");
    assert!(quantity.value() <= quantity.millis() || quantity.is_negative(), "{printed}");
    if let Ok(other) = parse(two) {
        let sum = quantity + other;
        assert_eq!(sum, other + quantity);
        assert_eq!(parse(sum.to_string().as_bytes()), Ok(sum));
        let _ = quantity - other;
        assert_eq!(quantity.cmp(&other), other.cmp(&quantity).reverse());
    }
    let suffix = printed.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-').to_string();
    Outcome::taken(printed.len()).and(suffix)
}

fn seeds() -> Vec<Seed> {
    let all = ["0", "500m", "1.5Gi", "-1", "+.5", "12e6", "1E", "1n", "9223372036854775807", "0.1Ki", "1e-3\n===\n1Mi"];
    all.iter().enumerate().map(|(i, text)| (format!("s{i}"), (*text).into())).collect()
}
