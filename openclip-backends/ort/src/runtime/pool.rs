//! Sessions for callers on many threads: a session runs one call at a time, so there are as many as calls at once, up to
//! the number of cores.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use openclip_core::Result;
use ort::session::Session;

use super::session::SessionMaker;

/// Sessions of one model.
pub struct SessionPool {
    maker: SessionMaker,
    limit: usize,
    sessions: Mutex<Sessions>,
    returned: Condvar,
}

struct Sessions {
    idle: Vec<Session>,
    /// Idle, lent, and about to be made.
    count: usize,
}

impl SessionPool {
    /// A pool that begins with one session; others are made when calls come at once.
    pub fn new(maker: SessionMaker) -> Result<Self> {
        let sessions = Sessions { idle: vec![maker.make()?], count: 1 };
        let limit = maker.useful_sessions();
        Ok(Self { maker, limit, sessions: Mutex::new(sessions), returned: Condvar::new() })
    }

    /// Runs `call` on a session that nobody else uses meanwhile.
    pub fn run<T>(&self, call: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let (place, mut session) = self.take()?;
        let result = call(&mut session);
        place.give_back(session);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<(Place<'_>, Session)> {
        let mut sessions = self.lock();
        loop {
            if let Some(session) = sessions.idle.pop() {
                return Ok((Place { pool: self }, session));
            }
            if sessions.count < self.limit {
                sessions.count += 1;
                drop(sessions);
                let place = Place { pool: self };
                return Ok((place, self.maker.make()?));
            }
            sessions = self.returned.wait(sessions).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A session's place in the pool. It becomes free when the session couldn't be made or its caller panicked.
struct Place<'a> {
    pool: &'a SessionPool,
}

impl Place<'_> {
    fn give_back(self, session: Session) {
        self.pool.lock().idle.push(session);
        self.pool.returned.notify_one();
        mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.lock().count -= 1;
        self.pool.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::mpsc,
        time::Duration,
    };

    use openclip_core::{Backend, Dim, Precision, Symbol, backend::Activation};

    use super::*;
    use crate::{OnnxRecorder, onnx::ElementType, runtime::OrtOptions};

    /// A pool of at most `limit` sessions of a small model.
    fn pool(limit: usize) -> SessionPool {
        let recorder = OnnxRecorder::new(Precision::F32).unwrap();
        let dims = vec![Dim::symbol(Symbol::BATCH), Dim::Fixed(3)];
        let x = recorder.input("x", ElementType::Float, dims);
        let y = recorder.activate(&x, Activation::Relu).unwrap();
        let model = recorder.finish("test", "y", &y, &[]);
        // One thread a call, which mustn't mean one call at a time.
        let options = OrtOptions { threads: Some(1), ..OrtOptions::default() };
        let maker = SessionMaker::recorded(&model, &options).unwrap();
        SessionPool { limit, ..SessionPool::new(maker).unwrap() }
    }

    /// Sessions in all, and those that nobody uses.
    fn counts(pool: &SessionPool) -> (usize, usize) {
        let sessions = pool.lock();
        (sessions.count, sessions.idle.len())
    }

    #[test]
    fn calls_run_at_once() {
        let pool = pool(2);
        let ((first, told_first), (second, told_second)) = (mpsc::channel(), mpsc::channel());
        // Each call waits until the other one is running, too.
        let meet = |tell: mpsc::Sender<()>, told: mpsc::Receiver<()>| {
            pool.run(|_| {
                tell.send(()).unwrap();
                Ok(told.recv_timeout(Duration::from_secs(60)).is_ok())
            })
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| meet(first, told_second));
            assert!(meet(second, told_first).unwrap());
            assert!(other.join().unwrap().unwrap());
        });
        assert_eq!(counts(&pool), (2, 2));
    }

    #[test]
    fn a_call_that_panics_leaves_its_place_to_others() {
        let pool = pool(1);
        let panicked =
            catch_unwind(AssertUnwindSafe(|| pool.run(|_| -> Result<()> { panic!("on purpose") })));
        assert!(panicked.is_err());
        assert_eq!(counts(&pool), (0, 0));
        assert_eq!(pool.run(|session| Ok(session.inputs().len())).unwrap(), 1);
        assert_eq!(counts(&pool), (1, 1));
    }
}
