//! What a leader's control loops decide counts in its term only: a deposed one changes nothing.

use copepod_state::Outcome;

use super::Broken;
use crate::group::Origin;

/// Checks what was applied at `term`.
pub fn check(term: u64, origin: &Origin, outcome: &Option<Outcome>) -> Result<(), Broken> {
    let applied = matches!(outcome, Some(Outcome::Applied(_)));
    match origin.term.filter(|decided| applied && *decided != term) {
        Some(decided) => Err(("fenced", format!("{} of term {decided} wrote in term {term}", origin.actor))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deposed_leaders_write_is_found() {
        let origin = Origin { term: Some(2), ..Origin::of("deployment") };
        let applied = Some(Outcome::Applied(Vec::new()));
        check(2, &origin, &applied).unwrap();
        check(3, &origin, &Some(Outcome::Fenced)).unwrap();
        check(3, &Origin::of("user"), &applied).unwrap();
        assert!(check(3, &origin, &applied).is_err());
    }
}
