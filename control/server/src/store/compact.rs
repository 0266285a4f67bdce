//! Gives back what a database's file does not need any more: files of redb shrink at their end, and not by what is free
//! before it.
//!
//! Only the objects' file needs it: when it is more than half free the checkpoint thread writes a new one beside it,
//! puts it in the old one's place and goes on with it, while the store serves. At every moment one whole file has the
//! name. The log's file is as large as the log ever was between two checkpoints (16 MiB of entries and their pages), and
//! its pages are used again.

use std::sync::Arc;

use copepod_state::Tables;

use super::Backends;
use super::error::{Fault, guarded};
use super::folder::MIRROR;
use super::guard::Guard;
use super::mirror::{Applied, Mirror};

/// The file that is being written.
pub(super) const NEW: &str = "objects.new.redb";
/// A smaller file is never worth it.
pub(super) const LEAST: u64 = 64 << 20;
/// After a look that read the whole file, or an attempt, as many checkpoints pass before the next.
const REST: u32 = 16;
/// About what an object takes beside its body: key, envelope, its place in a page.
const ROW: u64 = 128;

/// Looks after the mirror's file.
pub(super) struct Compactor {
    backends: Arc<dyn Backends>,
    member: u64,
    least: u64,
    rest: u32,
}

impl Compactor {
    /// For the mirror of a member. Files below `least` bytes are left alone.
    pub(super) fn new(backends: Arc<dyn Backends>, member: u64, least: u64) -> Compactor {
        Compactor { backends, member, least, rest: 0 }
    }

    /// After a checkpoint that brought `mirror` to these tables: the mirror to go on with. An error means that there is
    /// none any more.
    pub(super) fn after(&mut self, mirror: Mirror, tables: &Tables, applied: &Applied) -> Result<Mirror, Fault> {
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(mirror);
        }
        let Ok(before) = self.backends.len(MIRROR) else { return Ok(mirror) };
        if !may_be_half_free(before, self.least, tables.total_bytes() as u64 + tables.len() as u64 * ROW) {
            return Ok(mirror);
        }
        self.rest = REST;
        if !is_half_free(before, mirror.used_bytes()?) {
            return Ok(mirror);
        }
        if let Err(fault) = guarded(|| self.write(tables, applied)) {
            // A full disk, perhaps. The old file is as good as ever.
            tracing::warn!("{MIRROR} was not compacted: {}", String::from(fault));
            self.forget();
            return Ok(mirror);
        }
        drop(mirror);
        if let Err(e) = self.backends.rename(NEW, MIRROR) {
            tracing::warn!("{MIRROR} was not compacted: {e}");
        }
        let guard = self.backends.open(MIRROR).and_then(|b| Guard::open(b, Arc::default())).map_err(redb::Error::Io)?;
        let mirror = Mirror::reopen(guard, self.member, applied)?;
        tracing::info!(before, after = self.backends.len(MIRROR).unwrap_or_default(), "{MIRROR} was compacted");
        Ok(mirror)
    }

    fn write(&self, tables: &Tables, applied: &Applied) -> Result<(), Fault> {
        // What an attempt left that was cut off.
        self.backends.remove(NEW).map_err(redb::Error::Io)?;
        let guard = self.backends.open(NEW).and_then(|b| Guard::open(b, Arc::default())).map_err(redb::Error::Io)?;
        Mirror::create(guard, self.member, tables, applied)?;
        Ok(())
    }

    /// Removes what an attempt left.
    pub(super) fn forget(&self) {
        if let Err(e) =
            self.backends.exists(NEW).and_then(|there| if there { self.backends.remove(NEW) } else { Ok(()) })
        {
            tracing::warn!("{NEW} was not removed: {e}");
        }
    }
}

/// Whether a file of `len` bytes can be more than half free at all, when at least `needed` are in use: pages are never
/// quite full.
fn may_be_half_free(len: u64, least: u64, needed: u64) -> bool {
    len >= least && needed < len / 2
}

fn is_half_free(len: u64, used: u64) -> bool {
    used < len / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_file_that_is_half_free_is_written_anew() {
        assert!(may_be_half_free(LEAST, LEAST, LEAST / 2 - 1));
        assert!(!may_be_half_free(LEAST - 1, LEAST, 0));
        assert!(!may_be_half_free(LEAST, LEAST, LEAST / 2));
        assert!(is_half_free(100, 49) && !is_half_free(100, 50));
    }
}
