//! Samples that are read from files on a thread of their own, some ahead of whoever takes them.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use openclip_core::panics::caught;

use super::{Sample, Samples};
use crate::error::{Error, Result};

/// Samples that are read ahead.
const AHEAD: usize = 64;

/// The samples that `read` sends of each file, in order, until one fails or nobody listens. A reader that panics fails, too: its
/// samples must not end as if there were no more.
pub(super) fn read_ahead(
    files: Vec<PathBuf>,
    read: impl Fn(&Path, &SyncSender<Result<Sample>>) -> Result<()> + Send + 'static,
) -> Samples {
    let (sender, receiver) = sync_channel(AHEAD);
    thread::spawn(move || {
        for file in files {
            if let Err(error) = guarded(&file, || read(&file, &sender)) {
                // Nobody may be left to hear it.
                let _ = sender.send(Err(error));
                return;
            }
        }
    });
    Box::new(receiver.into_iter())
}

/// What `read` gives of `file`; an error where it panics, as readers of other crates do on some damaged files. It must keep
/// nothing that outlives the panic.
pub(super) fn guarded<T>(file: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    caught(read).unwrap_or_else(|| Err(Error::dataset(file, "its reader failed: the file is damaged")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Target;

    #[test]
    fn a_reader_that_panics_ends_in_an_error() {
        let files = vec![PathBuf::from("whole.bin"), PathBuf::from("damaged.bin")];
        let mut samples = read_ahead(files, |file, sender| {
            assert_eq!(file, Path::new("whole.bin"), "damaged");
            let sample = Sample { name: "0".to_owned(), images: Vec::new(), target: Target::Class(0) };
            sender.send(Ok(sample)).unwrap();
            Ok(())
        });
        assert!(samples.next().unwrap().is_ok());
        let error = samples.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("damaged.bin"), "{error}");
        assert!(samples.next().is_none());
    }
}
