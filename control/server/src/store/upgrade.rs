//! From one storage format to the next.
//!
//! A release opens every format before its own. What it finds is copied first; then each step changes both databases,
//! each in one transaction, and only then the folder says that it has the next format. A crash on the way puts the
//! copies back and begins again. The copies stay (`raft.redb.format-N`, `objects.redb.format-N`): with them a release
//! before can be gone back to.

use redb::{Database, WriteTransaction};

use super::error::{Fault, guarded};
use super::folder::{Folder, LOG, MIRROR, State};
use super::guard::Guard;
use super::{Backends, OpenError, meta};

/// From a format to the one after it.
pub(super) struct Step {
    /// The format that it finds.
    pub(super) from: u32,
    /// Changes what is in the log's database and in that of the objects; the numbers of the formats are not its affair.
    pub(super) run: fn(log: &WriteTransaction, objects: &WriteTransaction) -> Result<(), Fault>,
}

/// The steps to this release's format, one for each format that ever was, in order.
pub(super) const STEPS: &[Step] = &[];

/// The steps from one format to another; none where one is missing.
fn plan(found: u32, known: u32, steps: &[Step]) -> Option<&[Step]> {
    let first = steps.iter().position(|s| s.from == found)?;
    let way = steps.get(first..first + known.checked_sub(found)? as usize)?;
    way.iter().zip(found..).all(|(step, from)| step.from == from).then_some(way)
}

/// Brings a locked folder of an earlier format (and in this state) to the format `known`.
pub(super) fn run(
    folder: &Folder,
    backends: &dyn Backends,
    (found, state): (u32, State),
    known: u32,
    steps: &[Step],
) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { what: format!("cannot upgrade {}", folder.dir.display()), source };
    let Some(way) = plan(found, known, steps) else {
        return Err(folder.damaged(format!("it has the storage format {found}, which no release had")));
    };
    if !backends.exists(MIRROR).map_err(io)? {
        let what = format!("{MIRROR} is missing; start the release that wrote it once before the upgrade");
        return Err(folder.damaged(what));
    }
    let mut cut_off = state == State::Upgrading;
    for step in way {
        for name in [LOG, MIRROR] {
            let copy = format!("{name}.format-{}", step.from);
            let (from, to) = if cut_off { (&*copy, name) } else { (name, &*copy) };
            backends.copy(from, to).map_err(io)?;
        }
        if !cut_off {
            folder.mark(step.from, State::Upgrading)?;
        }
        cut_off = false;
        guarded(|| take(step, backends)).map_err(|fault: Fault| fault.at(&folder.dir, "upgrade"))?;
        folder.mark(step.from + 1, State::Ready)?;
        tracing::info!(from = step.from, "the storage format was brought to the next one");
    }
    Ok(())
}

fn take(step: &Step, backends: &dyn Backends) -> Result<(), Fault> {
    let open = |name| -> Result<Database, Fault> {
        let guard = backends.open(name).and_then(|b| Guard::open(b, Default::default())).map_err(redb::Error::Io)?;
        Ok(guard.database()?)
    };
    let (log, objects) = (open(LOG)?, open(MIRROR)?);
    let (log, mut objects) = (log.begin_write()?, objects.begin_write()?);
    objects.set_quick_repair(true);
    (step.run)(&log, &objects)?;
    for txn in [&log, &objects] {
        meta::set_format(txn, step.from + 1)?;
    }
    // Where the second one fails, the copies are put back.
    log.commit()?;
    objects.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &WriteTransaction, _: &WriteTransaction) -> Result<(), Fault> {
        Ok(())
    }

    #[test]
    fn the_way_has_every_step_or_there_is_none() {
        let steps = [1, 2, 4].map(|from| Step { from, run: nothing });
        let way = |found, known| plan(found, known, &steps).map(|w| w.iter().map(|s| s.from).collect::<Vec<_>>());
        assert_eq!(way(1, 3), Some(vec![1, 2]));
        assert_eq!(way(2, 3), Some(vec![2]));
        assert_eq!(way(4, 5), Some(vec![4]));
        for (found, known) in [(1, 4), (2, 5), (3, 4), (4, 6), (0, 1), (2, 1)] {
            assert_eq!(way(found, known), None, "{found} to {known}");
        }
    }

    #[test]
    fn every_format_that_ever_was_has_its_step() {
        let from: Vec<u32> = STEPS.iter().map(|s| s.from).collect();
        assert_eq!(from, (1..).take(super::super::FORMAT as usize - 1).collect::<Vec<u32>>());
    }
}
