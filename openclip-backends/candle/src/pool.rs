//! Pools of threads, one for each number of threads that is asked for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder, Yield};

static POOLS: Mutex<Option<HashMap<usize, Weak<ThreadPool>>>> = Mutex::new(None);

/// The pool of `threads` threads, which lives as long as someone has it.
///
/// # Errors
/// When the threads can't be started.
pub fn of(threads: usize) -> Result<Arc<ThreadPool>, ThreadPoolBuildError> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let pools = pools.get_or_insert_default();
    if let Some(pool) = pools.get(&threads).and_then(Weak::upgrade) {
        return Ok(pool);
    }
    let name = |index| format!("openclip-{index}");
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build()?);
    pools.insert(threads, Arc::downgrade(&pool));
    Ok(pool)
}

/// Whether the threads of some pool are being kept awake.
static AWAKE: AtomicBool = AtomicBool::new(false);

/// Runs `work`, on a thread of a pool, while the pool's other threads stay awake: between two layers they are idle for a
/// few microseconds, and to wake one up takes longer than that. One piece of work at a time has that; several keep all
/// threads busy anyway.
pub fn awake<R>(work: impl FnOnce() -> R) -> R {
    if AWAKE.swap(true, Ordering::Acquire) {
        return work();
    }
    let done = Arc::new(AtomicBool::new(false));
    let _asleep = OnDrop(|| {
        done.store(true, Ordering::Release);
        AWAKE.store(false, Ordering::Release);
    });
    let main = rayon::current_thread_index();
    let over = Arc::clone(&done);
    // Nobody waits for these: a thread that is busy with something else comes when all is over.
    rayon::spawn_broadcast(move |context| {
        while Some(context.index()) != main && !over.load(Ordering::Acquire) {
            if rayon::yield_now() != Some(Yield::Executed) {
                thread::yield_now();
            }
        }
    });
    work()
}

/// Does something when it goes out of scope, after a panic, too.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn a_pool_is_shared_while_it_is_in_use() {
        let first = of(3).unwrap();
        assert!(Arc::ptr_eq(&first, &of(3).unwrap()));
        assert!(!Arc::ptr_eq(&first, &of(2).unwrap()));
        assert_eq!(first.install(rayon::current_num_threads), 3);
    }

    #[test]
    fn work_is_done_while_threads_are_kept_awake_and_after_a_panic() {
        let pool = of(3).unwrap();
        let sum = || pool.install(|| awake(|| (0..1000_u64).into_par_iter().sum::<u64>()));
        thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..50).map(|_| sum()).sum::<u64>())).collect();
            all.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), 50 * 499_500));
        });
        let panics = || pool.install(|| awake(|| panic!("on purpose")));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(sum(), 499_500);
    }
}
