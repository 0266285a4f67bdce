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
