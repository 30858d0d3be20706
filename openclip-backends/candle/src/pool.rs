//! Pools of threads, one for each number of threads that is asked for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

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
