//! Who writes an object that is kept and acts on nothing is told so.

use copepod_model::Status;
use serde_json::Value;

use super::{Operation, Review};

pub(super) fn validate(review: &mut Review<'_>, object: &Value) -> Result<(), Status> {
    if review.operation == Operation::Delete || !review.whole() {
        return Ok(());
    }
    if let Some(why) = review.kind.strategy.unenforced(object) {
        review.effects.warnings.push(format!("{why}: {} is kept and has no effect", review.kind.kind));
    }
    Ok(())
}
