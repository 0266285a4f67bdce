//! What runs beside the API: the controllers and the scheduler, as clients of it.

pub mod controllers;
pub mod leader;
pub mod scheduler;

use std::sync::Arc;

use copepod_model::Status;
use copepod_state::{Change, Interest, Tables};
use futures_util::stream::{self, SelectAll, Stream, StreamExt as _};

use crate::store::Store;

type Changes = SelectAll<std::pin::Pin<Box<dyn Stream<Item = Result<Arc<Change>, Status>> + Send>>>;

/// A snapshot, and the changes of some resources since. An error says that a watch fell out of the window: whoever reads must start
/// over from a snapshot.
fn changes<'a>(store: &Store, resources: impl Iterator<Item = &'a str>) -> Result<(Arc<Tables>, Changes), Status> {
    let view = store.snapshot();
    let from = view.revision();
    let mut all = SelectAll::new();
    for resource in resources {
        let watcher = store.watch(Interest::all(resource), from).map_err(|_| behind())?;
        let one = stream::unfold(Some(watcher), |watcher| async move {
            let mut watcher = watcher?;
            Some(match watcher.next().await {
                Ok(changes) => (changes.into_iter().map(Ok).collect::<Vec<_>>(), Some(watcher)),
                Err(_) => (vec![Err(behind())], None),
            })
        });
        all.push(one.flat_map(stream::iter).boxed() as _);
    }
    Ok((view, all))
}

fn behind() -> Status {
    Status::expired("a watch of the control plane fell out of the window")
}
