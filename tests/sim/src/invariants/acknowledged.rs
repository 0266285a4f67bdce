//! What was acknowledged is there and stays; what was refused never comes; nothing is half there.

use std::collections::BTreeMap;

use copepod_state::Outcome;

use super::Broken;
use super::canon::Canon;
use crate::group::process::ProposeError;

/// What clients were told.
#[derive(Default)]
pub struct Acknowledged {
    yes: BTreeMap<u64, (Outcome, u64)>,
    no: BTreeMap<u64, ProposeError>,
}

impl Acknowledged {
    /// A client was answered.
    pub fn answered(
        &mut self,
        canon: &Canon,
        tag: u64,
        answer: &Result<(Outcome, u64), ProposeError>,
    ) -> Result<(), Broken> {
        match answer {
            Ok((outcome, index)) => {
                self.yes.insert(tag, (outcome.clone(), *index));
                let found = canon.of(tag);
                if found != Some((*index, outcome)) {
                    let how = format!("transaction {tag} was acknowledged as {outcome:?} at {index}, and is {found:?}");
                    return Err(("acknowledged", how));
                }
            }
            Err(ProposeError::Unknown) => {}
            Err(refused) => {
                self.no.insert(tag, refused.clone());
                if canon.of(tag).is_some() {
                    return Err(("acknowledged", format!("transaction {tag} was refused ({refused:?}) and applied")));
                }
            }
        }
        Ok(())
    }

    /// At the end everything is still so.
    pub fn settled(&self, canon: &Canon) -> Result<(), Broken> {
        for (tag, (outcome, index)) in &self.yes {
            if canon.of(*tag) != Some((*index, outcome)) {
                return Err(("acknowledged", format!("transaction {tag} was acknowledged at {index} and is gone")));
            }
        }
        match self.no.keys().find(|tag| canon.of(**tag).is_some()) {
            Some(tag) => Err(("acknowledged", format!("transaction {tag} was refused, and was applied later"))),
            None => Ok(()),
        }
    }

    /// How many were acknowledged.
    pub fn count(&self) -> usize {
        self.yes.len()
    }
}

#[cfg(test)]
mod tests {
    use copepod_consensus::{ConfState, Position};
    use copepod_state::Tables;

    use super::*;
    use crate::group::disk::Applied;

    fn done() -> Outcome {
        Outcome::Applied(Vec::new())
    }

    fn apply(canon: &mut Canon, index: u64, tag: u64) -> Result<bool, Broken> {
        let at = Position { index, term: 1 };
        canon.applied(at, tag, &Some(done()), &[], &Tables::default(), &ConfState::default())
    }

    #[test]
    fn what_is_not_as_it_was_answered_is_found() {
        let applied = Applied { at: Position { index: 1, term: 1 }, ..Applied::default() };
        let mut canon = Canon::new(&applied, Tables::default());
        apply(&mut canon, 2, 5).unwrap();
        let wrong = |tag: u64, answer: Result<(Outcome, u64), ProposeError>| {
            Acknowledged::default().answered(&canon, tag, &answer).is_err()
        };
        assert!(!wrong(5, Ok((done(), 2))));
        assert!(!wrong(5, Err(ProposeError::Unknown)));
        assert!(wrong(5, Ok((done(), 3))), "at another place");
        assert!(wrong(5, Ok((Outcome::Fenced, 2))), "another outcome");
        assert!(wrong(6, Ok((done(), 3))), "not there");
        assert!(wrong(5, Err(ProposeError::NotLeader)), "there");
        let mut all = Acknowledged::default();
        all.answered(&canon, 6, &Err(ProposeError::NotLeader)).unwrap();
        all.settled(&canon).unwrap();
        apply(&mut canon, 3, 6).unwrap();
        assert!(all.settled(&canon).is_err(), "it comes later");
        assert!(apply(&mut canon, 4, 6).is_err(), "and again");
    }
}
