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
