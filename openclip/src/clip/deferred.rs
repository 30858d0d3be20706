//! Values that are made when they are first needed.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, ThreadId},
};

use crate::Result;

/// A value that is made once, when it is first asked for, by whichever thread asks first.
pub(super) struct Deferred<T> {
    value: OnceLock<T>,
    /// Gone once the value is there, with everything that it holds on to.
    make: Mutex<Option<Make<T>>>,
    /// Held by the thread that makes the value.
    turn: Mutex<()>,
    /// That thread.
    maker: Mutex<Option<ThreadId>>,
}

type Make<T> = Arc<dyn Fn() -> Result<T> + Send + Sync>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Deferred<T> {
    /// A value that `make` makes.
    pub(super) fn new(make: impl Fn() -> Result<T> + Send + Sync + 'static) -> Self {
        Self {
            value: OnceLock::new(),
            make: Mutex::new(Some(Arc::new(make))),
            turn: Mutex::default(),
            maker: Mutex::default(),
        }
    }

    /// A value that is there.
    pub(super) fn ready(value: T) -> Self {
        Self { value: value.into(), make: Mutex::default(), turn: Mutex::default(), maker: Mutex::default() }
    }

    /// The value, which is made if it isn't there. After a failure the next call tries again.
    pub(super) fn get(&self) -> Result<&T> {
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let here = Some(thread::current().id());
        // A thread of a pool that waits for the others' share of the making takes up other work meanwhile. Where that asks
        // for the value too, it can't wait for itself: it makes one of its own.
        if *lock(&self.maker) == here {
            return self.made();
        }
        let _turn = lock(&self.turn);
        *lock(&self.maker) = here;
        let value = self.made();
        *lock(&self.maker) = None;
        value
    }

    /// The value, which is made now unless somebody has made it meanwhile.
    fn made(&self) -> Result<&T> {
        let make = lock(&self.make).clone();
        if let (Some(make), None) = (make, self.value.get()) {
            let value = make()?;
            // The first one counts.
            self.value.get_or_init(|| value);
            *lock(&self.make) = None;
        }
        match self.value.get() {
            Some(value) => Ok(value),
            None => unreachable!("there is a value or something that makes it"),
        }
    }

    /// Whether the value is there.
    #[cfg(test)]
    pub(super) fn is_ready(&self) -> bool {
        self.value.get().is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    use super::*;
    use crate::Error;

    #[test]
    fn a_value_is_made_once_and_what_makes_it_is_let_go() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let value = Deferred::new(move || Ok(counted.fetch_add(1, Ordering::Relaxed)));
        assert!(!value.is_ready());
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| *value.get().unwrap())).collect();
            assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 0));
        });
        assert_eq!((calls.load(Ordering::Relaxed), Arc::strong_count(&calls)), (1, 1));
        assert_eq!(*Deferred::ready(5).get().unwrap(), 5);
    }

    #[test]
    fn whoever_makes_it_may_ask_for_it() {
        let calls = AtomicUsize::new(0);
        let this: Arc<OnceLock<Deferred<usize>>> = Arc::default();
        let same = Arc::clone(&this);
        let make = move || {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            if call == 0 {
                same.get().map(|value| value.get().map(|value| assert_eq!(*value, 1))).transpose()?;
            }
            Ok(call)
        };
        assert_eq!(*this.get_or_init(|| Deferred::new(make)).get().unwrap(), 1);
    }

    #[test]
    fn after_a_failure_it_is_tried_again() {
        let calls = AtomicUsize::new(0);
        let value = Deferred::new(move || match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Error::NoLabels),
            call => Ok(call),
        });
        assert!(matches!(value.get(), Err(Error::NoLabels)));
        assert_eq!(*value.get().unwrap(), 1);
    }
}
