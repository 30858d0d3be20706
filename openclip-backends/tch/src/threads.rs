//! The number of threads that libtorch computes with.

use std::{
    cell::Cell,
    sync::atomic::{AtomicI32, Ordering},
};

/// What the process was told; 0 leaves libtorch its own choice, one thread per core.
static WANTED: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// What this thread's OpenMP and MKL were told.
    static APPLIED: Cell<i32> = const { Cell::new(0) };
}

/// Sets the number of threads that one operation is spread over, at least one.
///
/// This holds for the whole process, for every [`TchBackend`](crate::TchBackend) and any other user of libtorch in it.
/// Each thread that calls a backend has helpers of its own, so that `callers * threads` is what the machine gets to run.
pub fn set_threads(threads: usize) {
    WANTED.store(i32::try_from(threads.max(1)).unwrap_or(i32::MAX), Ordering::Relaxed);
    apply();
}

/// Brings the calling thread up to date: libtorch keeps the number per thread, and hands it on to new ones only when
/// their first operation happens to be one of its own, not one of MKL's.
pub fn apply() {
    let wanted = WANTED.load(Ordering::Relaxed);
    if APPLIED.replace(wanted) != wanted {
        tch::set_num_threads(wanted);
    }
}
