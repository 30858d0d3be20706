//! Samples that are read from files on a thread of their own, some ahead of whoever takes them.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use super::{Sample, Samples};
use crate::error::Result;

/// Samples that are read ahead.
const AHEAD: usize = 64;

/// The samples that `read` sends of each file, in order, until one fails or nobody listens.
pub(super) fn read_ahead(
    files: Vec<PathBuf>,
    read: impl Fn(&Path, &SyncSender<Result<Sample>>) -> Result<()> + Send + 'static,
) -> Samples {
    let (sender, receiver) = sync_channel(AHEAD);
    thread::spawn(move || {
        for file in files {
            if let Err(error) = read(&file, &sender) {
                // Nobody may be left to hear it.
                let _ = sender.send(Err(error));
                return;
            }
        }
    });
    Box::new(receiver.into_iter())
}
