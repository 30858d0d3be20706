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
/// threads busy anyway, and would wait for each other's end.
pub fn awake<R>(work: impl FnOnce() -> R) -> R {
    if AWAKE.swap(true, Ordering::Acquire) {
        return work();
    }
    let _asleep = OnDrop(|| AWAKE.store(false, Ordering::Release));
    let done = AtomicBool::new(false);
    let main = rayon::current_thread_index();
    rayon::in_place_scope(|scope| {
        let _done = OnDrop(|| done.store(true, Ordering::Release));
        scope.spawn_broadcast(|_, context| {
            while Some(context.index()) != main && !done.load(Ordering::Acquire) {
                if rayon::yield_now() != Some(Yield::Executed) {
                    thread::yield_now();
                }
            }
        });
        work()
    })
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
    use super::*;

    #[test]
    fn a_pool_is_shared_while_it_is_in_use() {
        let first = of(3).unwrap();
        assert!(Arc::ptr_eq(&first, &of(3).unwrap()));
        assert!(!Arc::ptr_eq(&first, &of(2).unwrap()));
        assert_eq!(first.install(rayon::current_num_threads), 3);
    }
}
